/**
 * Agents come, go, restart, and hand addresses on; their messages reach the topology in any order between agents, late
 * and twice. The map in the end is the one that the ordered delivery draws.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { noGrouping } from "../../../actors/topology/grouping.ts";
import type { Learn, Resolved } from "../../../actors/topology/messages.ts";
import { topologyActor } from "../../../actors/topology/TopologyActor.ts";
import { serviceId, type ServiceId } from "../../../schemas/service.ts";
import { ROLE } from "../../../schemas/wire/observe.ts";

const slo = { availabilityObjective: 0.99, latencyObjective: 0.99, latencyThresholdMs: 500, holdMs: 15_000 };
const id = (name: string): ServiceId => serviceId("default", "n", "Pod", name);
const ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"];

/** What happens on a node in one of its moments. */
interface Moment {
  /** services that listen, by address */
  readonly listens: readonly (readonly [address: number, service: number])[] | null;
  readonly calls: readonly number[];
  readonly restart: boolean;
}

const moment: fc.Arbitrary<Moment> = fc.record({
  listens: fc.option(
    fc.uniqueArray(fc.tuple(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 4 })), {
      selector: ([address]) => address,
      maxLength: 2,
    }),
    { nil: null },
  ),
  calls: fc.uniqueArray(fc.integer({ min: 0, max: 3 }), { maxLength: 2 }),
  restart: fc.boolean(),
});

/** The messages of one agent; moments of different agents lie between each other, 5 s apart. */
const messagesOf = (agent: number, moments: readonly Moment[]): Learn[] => {
  let epoch = 1;
  const edges = new Map<number, number>();
  return moments.map(({ listens, calls, restart }, i): Learn => {
    if (restart) {
      epoch++;
      edges.clear();
    }
    const made = calls.filter((address) => !edges.has(address));
    for (const address of made) edges.set(address, edges.size + 1 + epoch * 100);
    return {
      type: "learn",
      agent: `a${agent}`,
      node: `n${agent}`,
      cluster: "default",
      epoch,
      window: i,
      at: 100_000 + i * 10_000 + agent * 2_500,
      instances: [{ instance: 1, service: id(`client-${agent}`), kind: "Pod", serviceType: "" }],
      listens:
        listens?.map(([address, service]) => ({
          service: id(`svc-${agent}-${service}`),
          address: ADDRESSES[address] ?? "",
          port: 80,
          netns: 1,
        })) ?? null,
      edges: made.map((address) => ({
        id: edges.get(address) ?? 0,
        service: id(`client-${agent}`),
        role: ROLE.client,
        peer: ADDRESSES[address] ?? "",
        port: 80,
        local: "",
        netns: 1,
      })),
      ends: [],
      active: calls.map((address) => edges.get(address) ?? 0),
      gone: [],
      names: [],
      nat: [],
      vips: [],
    };
  });
};

const END = 600_000;

const mapOf = (messages: readonly Learn[]): unknown => {
  let [state] = topologyActor.initial("topology", { slo, grouping: noGrouping }, END, undefined);
  const peers = new Map<string, ServiceId | null>();
  const told = (effects: ReturnType<typeof topologyActor.step>[1]): void => {
    for (const effect of effects)
      if (effect.kind === "send" && effect.message.type === "resolved")
        for (const { id: edge, peer } of (effect.message as Resolved).edges) peers.set(`${effect.to} ${edge}`, peer);
  };
  for (const message of messages) {
    const [next, effects] = topologyActor.step(state, message, END);
    state = next;
    told(effects);
  }
  told(topologyActor.step(state, { type: "tick" }, END + 11_000)[1]);
  return Object.fromEntries([...peers].sort(([a], [b]) => (a < b ? -1 : 1)));
};

describe("the map", () => {
  it("is the same in whatever order, and however often, agents' messages come", () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(moment, { minLength: 1, maxLength: 6 }), { minLength: 2, maxLength: 3 }),
        fc.array(fc.nat({ max: 1_000 }), { minLength: 40, maxLength: 40 }),
        (agents, dice) => {
          const streams = agents.map((moments, agent) => messagesOf(agent, moments));
          const ordered = streams.flat().sort((a, b) => a.at - b.at);
          // Each agent's own messages stay in order; those of different agents mix, and some come twice.
          const mixed: Learn[] = [];
          const left = streams.map((stream) => [...stream]);
          for (let i = 0; left.some((stream) => stream.length > 0); i++) {
            const some = left.filter((stream) => stream.length > 0);
            const next = some[(dice[i % dice.length] ?? 0) % some.length]?.shift();
            if (next === undefined) continue;
            mixed.push(next);
            if ((dice[(i * 7) % dice.length] ?? 0) % 5 === 0) mixed.push(next);
          }
          expect(mapOf(mixed)).toEqual(mapOf(ordered));
        },
      ),
      { numRuns: 300, endOnFailure: true },
    );
  });
});
