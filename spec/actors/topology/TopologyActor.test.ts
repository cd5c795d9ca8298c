import { describe, expect, it } from "vitest";
import type {
  ConnectionEnd,
  KnownListen,
  Learn,
  OpenEdge,
  Resolved,
  TopologyMessage,
} from "../../../actors/topology/messages.ts";
import { grouped, noGrouping } from "../../../actors/topology/grouping.ts";
import { topologyActor } from "../../../actors/topology/TopologyActor.ts";
import type { ActorEffect } from "../../../runtime/actor/Behavior.ts";
import { serviceId, type ServiceId } from "../../../schemas/service.ts";
import { ROLE } from "../../../schemas/wire/observe.ts";

const id = (name: string): ServiceId => serviceId("default", "n", "SystemdUnit", name);
const slo = { availabilityObjective: 0.99, latencyObjective: 0.99, latencyThresholdMs: 500, holdMs: 15_000 };

const topology = () => {
  let [state] = topologyActor.initial("topology", { slo, grouping: noGrouping }, 0, undefined);
  const known = new Map<number, ServiceId | null>();
  const step = (message: TopologyMessage, now: number): readonly ActorEffect[] => {
    const [next, effects] = topologyActor.step(state, message, now);
    state = next;
    for (const effect of effects)
      if (effect.kind === "send" && effect.message.type === "resolved")
        for (const { id: edge, peer } of (effect.message as Resolved).edges) known.set(edge, peer);
    return effects;
  };
  const learn = (what: Partial<Learn>, now = 0): readonly ActorEffect[] =>
    step(
      {
        type: "learn",
        agent: "a",
        node: "n",
        cluster: "default",
        epoch: 1,
        window: now,
        at: now,
        active: [],
        gone: [],
        names: [],
        nat: [],
        vips: [],
        instances: [],
        listens: null,
        edges: [],
        ends: [],
        ...what,
      },
      now,
    );
  const tick = (now: number): readonly ActorEffect[] => step({ type: "tick" }, now);
  const edges = (): unknown => {
    const seen = topologyActor.inspect?.(state) as { agents: Readonly<Record<string, number>> } | undefined;
    return seen?.agents;
  };
  return { learn, tick, peer: (edge: number) => known.get(edge), edges };
};

const listen = (name: string, address: string, port: number, netns = 1): KnownListen => ({
  service: id(name),
  address,
  port,
  netns,
});
const client = (edge: number, name: string, peer: string, port: number, netns = 1): OpenEdge => ({
  id: edge,
  service: id(name),
  role: ROLE.client,
  peer,
  port,
  local: "",
  netns,
});
const server = (edge: number, name: string, peer: string, port: number, netns = 1): OpenEdge => ({
  id: edge,
  service: id(name),
  role: ROLE.server,
  peer,
  port,
  local: "",
  netns,
});
const end = (edge: number, address: string, port: number): ConnectionEnd => ({ edge, address, port });

describe("who an address is", () => {
  it("is whoever listens there", () => {
    const { learn, peer } = topology();
    learn({ listens: [listen("db", "10.0.0.2", 5432)] });
    learn({ edges: [client(1, "web", "10.0.0.2", 5432)] });
    expect(peer(1)).toBe(id("db"));
  });

  it("is found later, when the listener becomes known after the edge", () => {
    const { learn, peer } = topology();
    learn({ edges: [client(1, "web", "10.0.0.2", 5432)] });
    expect(peer(1)).toBeNull();
    learn({ listens: [listen("db", "10.0.0.2", 5432)] });
    expect(peer(1)).toBe(id("db"));
  });

  it("is outside when nobody turns out to be there for ten seconds", () => {
    const { learn, tick, peer } = topology();
    learn({ edges: [client(1, "web", "203.0.113.7", 443)] });
    tick(9_000);
    expect(peer(1)).toBeNull();
    tick(10_000);
    expect(peer(1)).toBe("default/external/External/203.0.113.7:443");
  });

  it("keeps loopback apart by network namespace", () => {
    const { learn, peer } = topology();
    learn({ listens: [listen("a", "127.0.0.1", 80, 1), listen("b", "127.0.0.1", 80, 2)] });
    learn({ edges: [client(1, "x", "127.0.0.1", 80, 1), client(2, "y", "127.0.0.1", 80, 2)] });
    expect([peer(1), peer(2)]).toEqual([id("a"), id("b")]);
  });

  it("stays a dead service's for its callers, and passes to who takes the address over", () => {
    const { learn, peer } = topology();
    learn({ listens: [listen("db", "10.0.0.2", 5432)] });
    learn({ listens: [] }, 1_000);
    learn({ edges: [client(1, "web", "10.0.0.2", 5432)] }, 2_000);
    expect(peer(1)).toBe(id("db"));
    learn({ listens: [listen("other", "10.0.0.2", 5432)] }, 3_000);
    expect(peer(1)).toBe(id("other"));
  });

  it("is seen through a virtual address when both ends report the same connection", () => {
    const { learn, peer } = topology();
    learn({ listens: [listen("db", "10.0.0.2", 5432)] });
    learn({
      edges: [client(1, "web", "10.96.0.1", 5432), server(2, "db", "10.0.0.9", 5432)],
      ends: [end(1, "10.0.0.9", 40_001), end(2, "10.0.0.9", 40_001)],
    });
    expect(peer(1)).toBe(id("db"));
    expect(peer(2)).toBe(id("web"));
  });

  it("does not guess a caller among several at one address", () => {
    const { learn, peer } = topology();
    learn({ listens: [listen("a", "10.0.0.1", 1), listen("b", "10.0.0.1", 2)] });
    learn({ edges: [server(1, "db", "10.0.0.1", 5432)] });
    expect(peer(1)).toBeNull();
  });

  it("spawns each service once and tells the desk each call once", () => {
    const { learn } = topology();
    const instances = [{ instance: 1, service: id("web"), kind: "SystemdUnit", serviceType: "" }] as const;
    const first = learn({
      instances,
      listens: [listen("db", "10.0.0.2", 1)],
      edges: [client(1, "web", "10.0.0.2", 1)],
    });
    const again = learn({ instances, edges: [client(2, "web", "10.0.0.2", 1)] });
    const of = (effects: readonly ActorEffect[], type: string) =>
      effects.filter((effect) => effect.kind === type || (effect.kind === "send" && effect.message.type === type))
        .length;
    expect([of(first, "spawn"), of(first, "graph")]).toEqual([1, 1]);
    expect([of(again, "spawn"), of(again, "graph")]).toEqual([0, 0]);
  });
});

describe("when addresses change hands", () => {
  it("draws no edge to who took over the address of a dead service", () => {
    const { learn, peer } = topology();
    learn({ listens: [listen("a", "10.0.0.5", 80)], at: 1_000, window: 1 });
    learn({ edges: [client(1, "web", "10.0.0.5", 80)], at: 2_000, window: 2 });
    learn({ listens: [listen("b", "10.0.0.5", 80)], at: 60_000, window: 60 }, 60_000);
    expect(peer(1)).toBe(id("a"));
    // Used again, it is the new one's.
    learn({ active: [1], at: 70_000, window: 70 }, 70_000);
    expect(peer(1)).toBe(id("b"));
  });

  it("follows where packets went, and sees services behind a virtual address", () => {
    const { learn, peer } = topology();
    learn({ listens: [listen("db", "10.0.0.2", 5432), listen("api", "10.0.0.3", 80), listen("api", "10.0.0.4", 80)] });
    learn({
      edges: [
        client(1, "web", "10.96.0.1", 5432),
        client(2, "web", "10.96.0.2", 80),
        client(3, "web", "10.96.0.3", 80),
      ],
      nat: [{ address: "10.96.0.1", port: 5432, actualAddress: "10.0.0.2", actualPort: 5432 }],
      vips: [
        {
          address: "10.96.0.2",
          port: 80,
          name: "api",
          backends: [
            { address: "10.0.0.3", port: 80 },
            { address: "10.0.0.4", port: 80 },
          ],
        },
        {
          address: "10.96.0.3",
          port: 80,
          name: "mixed",
          backends: [
            { address: "10.0.0.3", port: 80 },
            { address: "10.0.0.2", port: 5432 },
          ],
        },
      ],
    });
    expect([peer(1), peer(2)]).toEqual([id("db"), id("api")]);
    expect(peer(3)).toBe("default/external/External/mixed");
  });

  it("names what is outside by what was asked for: one name over many addresses, one address with many names", () => {
    const { learn, tick, peer } = topology();
    learn({
      names: [
        { address: "203.0.113.1", name: "api.example.org" },
        { address: "203.0.113.2", name: "api.example.org" },
      ],
      edges: [
        client(1, "web", "203.0.113.1", 443),
        client(2, "web", "203.0.113.2", 443),
        { ...client(3, "web", "203.0.113.9", 443), host: "a.example.org" },
        { ...client(4, "web", "203.0.113.9", 443), host: "b.example.org" },
      ],
    });
    tick(10_000);
    const outside = (name: string): string => `default/external/External/${name}:443`;
    expect([1, 2, 3, 4].map(peer)).toEqual(
      ["api.example.org", "api.example.org", "a.example.org", "b.example.org"].map(outside),
    );
  });

  it("forgets a call that nothing speaks for any more, and says so", () => {
    const { learn, tick } = topology();
    learn({ listens: [listen("db", "10.0.0.2", 1)], edges: [client(1, "web", "10.0.0.2", 1)] });
    expect(tick(9 * 60_000)).toEqual([]);
    const gone = tick(10 * 60_000 + 1_000);
    expect(gone).toContainEqual(
      expect.objectContaining({ kind: "send", message: { type: "graph", from: id("web"), to: id("db"), gone: true } }),
    );
    expect(gone).toContainEqual({ kind: "publish", board: "topology", key: `${id("web")}>${id("db")}`, value: null });
  });

  it("keeps no edge that its agent has forgotten", () => {
    const { learn, peer, edges } = topology();
    learn({ edges: [client(1, "web", "10.0.0.2", 1), client(2, "web", "10.0.0.2", 2)] });
    learn({ gone: [1, 3] });
    expect(edges()).toEqual({ a: 1 });
    learn({ listens: [listen("db", "10.0.0.2", 1), listen("db", "10.0.0.2", 2)] }, 1_000);
    expect([peer(1), peer(2)]).toEqual([null, id("db")]);
  });

  it("asks its agents for everything after a move", () => {
    const [, effects] = topologyActor.initial("topology", { slo, grouping: noGrouping }, 0, ["a", "b"]);
    expect(effects.map((effect) => effect.kind === "send" && effect.to)).toEqual(["agent/a", "agent/b"]);
  });
});

describe("custom services and categories", () => {
  it("make one service of several, on any node, and tell what watches from what is used", () => {
    const groups = grouped({
      custom: [{ name: "web", match: ["default/*/SystemdUnit/web-*"] }],
      categories: { batch: ["*/*/*/nightly-*"] },
    });
    const unit = (node: string, name: string): ServiceId => serviceId("default", node, "SystemdUnit", name);
    for (const [node, name] of [
      ["n1", "web-1"],
      ["n2", "web-2"],
    ] as const)
      expect(groups.of(unit(node, name), "SystemdUnit")).toEqual({
        service: "default/custom/Custom/web",
        kind: "Custom",
      });
    expect(groups.of(unit("n1", "db"), "SystemdUnit").service).toBe(unit("n1", "db"));
    expect([unit("n", "nightly-report"), unit("n", "prometheus"), unit("n", "shop")].map(groups.category)).toEqual([
      "batch",
      "monitoring",
      "application",
    ]);
  });
});
