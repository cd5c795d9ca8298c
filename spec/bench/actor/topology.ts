/**
 * actor.topology: the topology actor under 1,000 lease changes a second, with 10,000 services at 50,000 addresses and
 * their edges there already. Its step alone is measured, in CPU time; what it publishes is counted.
 */
import { noGrouping } from "../../../actors/topology/grouping.ts";
import type { KnownListen, Learn, OpenEdge } from "../../../actors/topology/messages.ts";
import { topologyActor } from "../../../actors/topology/TopologyActor.ts";
import { serviceId } from "../../../schemas/service.ts";
import { ROLE } from "../../../schemas/wire/observe.ts";
import type { Figure, Measured } from "../figure.ts";

const AGENTS = 500;
const SERVICES = 10_000;
const ADDRESSES = 50_000;
const CHANGES_PER_SECOND = 1_000;
const EDGES_PER_AGENT = 100;
const SECONDS = 20;

const addressOf = (i: number): string => `10.${Math.floor(i / 65_536)}.${Math.floor(i / 256) % 256}.${i % 256}`;
const serviceOf = (i: number) => serviceId("default", "bench", "Deployment", `svc-${i % SERVICES}`);
const slo = { availabilityObjective: 0.99, latencyObjective: 0.99, latencyThresholdMs: 500, holdMs: 15_000 };

const measure = (): Measured => {
  let now = 1_700_000_000_000;
  let window = 0;
  let [state] = topologyActor.initial("topology", { slo, grouping: noGrouping }, now, undefined);
  let published = 0;
  let most = 0;
  const step = (message: Parameters<typeof topologyActor.step>[1]): void => {
    const [next, effects] = topologyActor.step(state, message, now);
    state = next;
    let some = 0;
    for (const effect of effects) if (effect.kind === "publish") some++;
    published += some;
    most = Math.max(most, some);
  };
  const perAgent = ADDRESSES / AGENTS;
  const held = Array.from({ length: AGENTS }, (_, agent) =>
    Array.from({ length: perAgent }, (_unused, i): KnownListen => {
      const n = agent * perAgent + i;
      return { service: serviceOf(n), address: addressOf(n), port: 80, netns: 1 };
    }),
  );
  const learn = (agent: number, what: Partial<Learn>): void =>
    step({
      type: "learn",
      agent: `agent-${agent}`,
      node: `node-${agent}`,
      cluster: "default",
      epoch: 1,
      window: ++window,
      at: now,
      instances: [],
      listens: null,
      edges: [],
      ends: [],
      active: [],
      gone: [],
      names: [],
      nat: [],
      vips: [],
      ...what,
    });
  for (let agent = 0; agent < AGENTS; agent++) {
    const edges = Array.from({ length: EDGES_PER_AGENT }, (_, i): OpenEdge => {
      const n = (agent * 7_919 + i * 104_729) % ADDRESSES;
      const own = serviceOf(agent * perAgent + i);
      return { id: i + 1, service: own, role: ROLE.client, peer: addressOf(n), port: 80, local: "", netns: 1 };
    });
    learn(agent, { listens: held[agent] ?? [], edges });
  }
  const calls = published;
  published = 0;
  most = 0;
  const began = process.cpuUsage();
  const began_ms = performance.now();
  let changes = 0;
  for (let second = 0; second < SECONDS; second++) {
    now += 1_000;
    // Ten addresses of each of a hundred agents go to another service: pods that come and go.
    for (let i = 0; i < CHANGES_PER_SECOND / 10; i++) {
      const agent = (second * 100 + i) % AGENTS;
      const listens = held[agent] ?? [];
      for (let k = 0; k < 10; k++) {
        const at = (second * 10 + k) % listens.length;
        const before = listens[at];
        if (before === undefined) continue;
        listens[at] = { ...before, service: serviceOf(agent * 31 + second * 17 + k) };
        changes++;
      }
      learn(agent, { listens: [...listens], active: [1, 2, 3, 4, 5] });
    }
    step({ type: "tick" });
  }
  const { user, system } = process.cpuUsage(began);
  const cores = (user + system) / 1e6 / SECONDS;
  return {
    value: cores,
    detail: `${changes} lease changes in ${SECONDS} virtual seconds (${((performance.now() - began_ms) / 1000).toFixed(1)} s here), ${calls} calls; ${published} entries of the copies changed, at most ${most} at once`,
  };
};

export const figures: readonly Figure[] = [
  {
    id: "actor.topology",
    figure: "topology: 10,000 services, 50,000 addresses, 1,000 lease changes/s",
    unit: "cores",
    bar: "≤ 0.2, deltas only",
    holds: (value) => value <= 0.2,
    measure: () => Promise.resolve(measure()),
  },
];
