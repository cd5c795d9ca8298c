/** The generated server's own inside: overview, agents and actors. */
import { inspectAgent } from "../../actors/agent-session/inspect.ts";
import type { ActorView, AgentEntry, AgentView, Overview } from "../../schemas/wire/page.ts";
import { chance } from "./shop-graph.ts";
import type { Shop } from "./shop.ts";

export const overviewOf = (shop: Shop, now: number): Overview => {
  const agents = agentsOf(shop, now);
  return {
    cluster: "demo",
    version: "0.1.0",
    startedAt: shop.startedAt,
    agents: {
      connected: Object.values(agents).filter((agent) => agent.state === "connected").length,
      known: Object.keys(agents).length,
    },
    services: shop.services.length + shop.late.length,
    openIncidents: shop.troubled ? 1 : 0,
    suspicions: shop.scenario === "large" ? 1 : 0,
    store: { state: "up", message: "", queuedRows: 1240, dropped: 0 },
    notices:
      shop.scenario === "blind" || shop.scenario === "large"
        ? ["TLS traffic is not read on node-3: uprobe budget exceeded"]
        : [],
  };
};

export const agentsOf = (shop: Shop, now: number): Readonly<Record<string, AgentEntry>> => {
  if (shop.scenario === "empty") return {};
  const count = shop.scenario === "large" ? 4 : 1;
  const features = [
    "tcp_connections",
    "http",
    "postgres",
    "redis",
    "pending_requests",
    "retransmits",
    "dns",
    "oom_kills",
    "cgroups",
    "processes",
  ];
  return Object.fromEntries(
    Array.from({ length: count }, (_, n) => {
      const id = `agent-${Math.floor(chance(`agent${n}`) * 0xffffffff)
        .toString(16)
        .slice(0, 8)}`;
      const blind = shop.scenario === "blind";
      const agent: AgentView = {
        id,
        node: `node-${n + 1}`,
        cluster: "demo",
        version: "0.1.0",
        kernel: "6.1.0-28-amd64",
        state: n === 3 ? "disconnected" : "connected",
        connectedAt: shop.startedAt,
        lastFrameAt: n === 3 ? now - 190_000 : now - 300,
        clockOffsetMs: (chance(`o${n}`) - 0.5) * 8,
        window: 5400 + Math.floor((now - shop.startedAt) / 1000),
        framesPerSecond: n === 3 ? 0 : 2.1,
        bytesPerSecond: n === 3 ? 0 : 18_400 + chance(`b${Math.floor(now / 1000)}`) * 2000,
        instances: 18,
        edges: 24,
        capabilities: [
          ...features.map((feature) =>
            blind && feature !== "processes" && feature !== "cgroups"
              ? ({
                  feature,
                  state: "off",
                  errno: 1,
                  reason: "loading BPF programs was refused: CAP_BPF is missing",
                } as const)
              : ({ feature, state: "on", errno: 0, reason: "" } as const),
          ),
          n === 2
            ? ({
                feature: "tls",
                state: "degraded",
                errno: 0,
                reason: "uprobe budget of 5 % exceeded: counted in duty cycles",
              } as const)
            : ({ feature: "tls", state: "off", errno: 2, reason: "no libssl found on this machine" } as const),
        ],
        losses: n === 1 ? { events_dropped: 1204, spool_rows: 0 } : { events_dropped: 0 },
        conflicts: 0,
        self: {
          cpuCores: 0.011,
          memoryBytes: 94e6,
          probeCpuCores: 0.003,
          probeMemoryBytes: 5.1e6,
          kernelBytes: 4.3e6,
          programsCores: 0.004,
          loopLateMs: 3,
          windowsWaiting: 0,
          ticksSkipped: 0,
          spoolBytes: 0,
          bytesPerSecond: 2.4e6,
          unknownBytesPerSecond: n === 1 ? 1.1e6 : 0,
          tlsBlindBytesPerSecond: n === 2 ? 0.3e6 : 0,
          "used.edges": n === 1 ? 0.97 : 0.04,
          "used.rows": 0.02,
          ...(n === 1 ? { "lost.events": 12 } : {}),
        },
      };
      return [id, { ...agent, inspections: inspectAgent(agent, now) }];
    }),
  );
};

export const actorsOf = (shop: Shop, second: number, now: number): Readonly<Record<string, ActorView>> => {
  const rows = new Map<string, ActorView>();
  const add = (
    path: string,
    kind: string,
    parent: string | null,
    busy: number,
    over: Partial<ActorView> = {},
  ): void => {
    const wave = 0.8 + 0.4 * chance(`${path}${second}`);
    rows.set(path, {
      path,
      kind,
      parent,
      node: "shop",
      state: busy > 0 ? "running" : "idle",
      startedAt: shop.startedAt,
      mailbox: Math.round(busy * 0.02 * wave),
      mailboxBound: 1024,
      mailboxWaitP95Ms: 0.4 * wave,
      handleP95Ms: 0.18 * wave,
      inPerSecond: busy * wave,
      outPerSecond: busy * 0.6 * wave,
      handled: Math.round((busy * (now - shop.startedAt)) / 1000),
      merged: 0,
      shed: 0,
      restarts: 0,
      stateBytes: Math.round(2000 + chance(path) * 30_000),
      lastError: null,
      deadLetters: 0,
      ...over,
    });
  };
  add("topology", "topology", null, 4);
  add("incident-desk", "incident-desk", null, shop.troubled ? 1 : 0);
  add("rca", "rca", null, shop.troubled ? 1 : 0);
  add("alert-sink/webhook", "alert-sink", null, 0, {
    restarts: 1,
    lastError: "connect ECONNREFUSED 127.0.0.1:9999",
    deadLetters: 1,
  });
  for (const agent of Object.values(agentsOf(shop, now))) add(`agent-session/${agent.node}`, "agent-session", null, 2);
  for (const [n, service] of shop.services.entries())
    add(
      `service/${service.id}`,
      "service",
      "topology",
      service.rate > 0 ? 3 + service.rate / 300 : 0,
      n === 6
        ? { state: "quarantined", restarts: 3, shed: 12, lastError: "RangeError: histogram has 109 counters" }
        : {},
    );
  return Object.fromEntries(rows);
};
