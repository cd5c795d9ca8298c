/** What the page sees of a service. Pure reads of the state; see schemas/wire/page.ts for the entries. */
import type { Inspection } from "../../schemas/incident.ts";
import { serviceName, type HealthStatus } from "../../schemas/service.ts";
import { formatMs, formatPercent } from "../../schemas/units.ts";
import { PROTOCOLS, TROUBLE } from "../../schemas/wire/observe.ts";
import type { EdgeView, InstanceView, MapEdge, ServiceCard, SloView, Traffic } from "../../schemas/wire/page.ts";
import { burnRates, describePhase } from "./phases.ts";
import {
  hasSlo,
  instancesUp,
  isFresh,
  latencyThreshold,
  protocolsOf,
  type EdgeState,
  type ServiceState,
} from "./state.ts";
import { whyFailed } from "./troubles.ts";

const RATE_FRESH_MS = 3_000;
const MONTH_MS = 30 * 24 * 3600 * 1000;
const ORDER: readonly HealthStatus[] = ["unknown", "ok", "info", "warning", "critical"];

export const worst = (a: HealthStatus, b: HealthStatus): HealthStatus => (ORDER.indexOf(a) >= ORDER.indexOf(b) ? a : b);

const secondOf = (now: number): number => Math.floor(now / 1000) - 1;

const protocolNames = (edges: readonly EdgeState[]): string[] => {
  const known = new Set(edges.flatMap(protocolsOf));
  const names = [...known].filter((p) => p !== 0).map((p) => PROTOCOLS[p] ?? `protocol ${p}`);
  return names.length > 0 ? names.sort() : ["tcp"];
};

export const card = (state: ServiceState, inspections: readonly Inspection[], now: number): ServiceCard => {
  const { kind, serviceType } = state.argument;
  const [, namespace = ""] = state.id.split("/");
  const concerned = inspections.filter((i) => i.status === "warning" || i.status === "critical");
  const phase = describePhase(state);
  let status: HealthStatus = inspections.every((i) => i.status === "unknown") ? "unknown" : "ok";
  for (const inspection of concerned) status = worst(status, inspection.status === "critical" ? "critical" : "warning");
  if (phase === "incident") status = "critical";
  else if (phase === "suspicion" || phase === "recovering") status = worst(status, "warning");
  else if (status === "unknown" && (state.instances.size > 0 || kind === "External")) status = "ok";
  const up = [...state.instances.values()].filter((instance) => instance.up);
  return {
    id: state.id,
    name: serviceName(state.id),
    kind,
    namespace,
    type: serviceType,
    category: state.argument.category,
    status,
    reason: phase === "ok" || phase === "none" ? (concerned[0]?.message ?? "") : state.suspectText,
    inbound: state.traffic.traffic(secondOf(now)),
    instances: instancesUp(state),
    cpuCores: up.length === 0 ? null : up.reduce((n, instance) => n + instance.cpuCores, 0),
    memoryBytes: up.length === 0 ? null : up.reduce((n, instance) => n + instance.last.memory, 0),
    hasSlo: hasSlo(state),
    lastSeen: Math.max(state.since, ...[...state.instances.values()].map((i) => i.seenAt)),
    incident: null,
  };
};

const fresh = (edge: EdgeState, now: number, value: number): number =>
  isFresh(edge.rateAt, edge.rateSpan, now, RATE_FRESH_MS) ? value : 0;

const edgeStatus = (failedConnects: number, traffic: Traffic | null): HealthStatus => {
  if (failedConnects > 0) return "critical";
  if (traffic === null || traffic.requestsPerSecond === 0)
    return traffic !== null && traffic.oldestPendingMs > 5_000 ? "warning" : "ok";
  if (traffic.errorRatio > 0.05) return "critical";
  return traffic.errorRatio > 0.01 || traffic.oldestPendingMs > 5_000 ? "warning" : "ok";
};

export const mapEdges = (state: ServiceState, now: number): MapEdge[] =>
  [...state.edges.values()].flatMap((edge) => {
    if (edge.side !== "outbound" || edge.peer === null || edge.peer === state.id) return [];
    const traffic = edge.traffic.traffic(secondOf(now));
    const failedConnects = fresh(edge, now, edge.failedConnects);
    return [
      {
        from: state.id,
        to: edge.peer,
        protocols: protocolNames([edge]),
        traffic,
        failedConnectsPerSecond: failedConnects,
        failedConnectsReason: failedConnects > 0 ? whyFailed(edge.troubles, failedConnects) : "",
        bytesPerSecond: fresh(edge, now, edge.bytesIn + edge.bytesOut),
        status: edgeStatus(failedConnects, traffic),
      },
    ];
  });

const edgeView = (client: EdgeState | undefined, server: EdgeState | undefined, now: number): EdgeView | null => {
  const main = client ?? server;
  if (main === undefined || main.peer === null) return null;
  const traffic = (edge: EdgeState | undefined): Traffic | null =>
    edge === undefined ? null : edge.traffic.traffic(secondOf(now));
  const rate = (value: (edge: EdgeState) => number): number => fresh(main, now, value(main));
  const failedConnectsPerSecond = rate((edge) => edge.failedConnects);
  return {
    peer: main.peer,
    peerName: serviceName(main.peer),
    protocols: protocolNames([client, server].filter((edge) => edge !== undefined)),
    client: traffic(client),
    server: traffic(server),
    connectsPerSecond: rate((edge) => edge.connects),
    failedConnectsPerSecond,
    failedConnectsReason: failedConnectsPerSecond > 0 ? whyFailed(main.troubles, failedConnectsPerSecond) : "",
    brokenConnectionsPerSecond: rate(
      ({ troubles }) => (troubles[TROUBLE.resetByPeer] ?? 0) + (troubles[TROUBLE.lost] ?? 0),
    ),
    activeConnections: main.active,
    retransmitsPerSecond: rate((edge) => edge.retransmits),
    rttMs: main.rttMs,
    bytesOutPerSecond: rate((edge) => edge.bytesOut),
    bytesInPerSecond: rate((edge) => edge.bytesIn),
    status: edgeStatus(failedConnectsPerSecond, traffic(main)),
    lastSeen: main.lastSeen,
  };
};

export const slo = (state: ServiceState, now: number): SloView => {
  const { slo: objectives } = state.argument;
  const month = state.ledger.spent(now, MONTH_MS);
  const budget = (1 - objectives.availabilityObjective) * month.total;
  return {
    availabilityObjective: objectives.availabilityObjective,
    latencyObjective: objectives.latencyObjective,
    latencyThresholdMs: latencyThreshold(state),
    budgetLeft: budget === 0 ? null : 1 - month.bad / budget,
    good: month.total - month.bad,
    bad: month.bad,
    burn: burnRates(state, now).map(({ objective, long, short, threshold, longBurn, shortBurn, severity, firing }) => ({
      objective,
      long,
      short,
      threshold,
      longBurn,
      shortBurn,
      severity,
      firing,
    })),
    state: describePhase(state),
    since: state.phase === "ok" ? null : state.phase === "suspicion" ? state.onset : state.phaseSince,
  };
};

const instanceView = (key: string, state: ServiceState): InstanceView | null => {
  const instance = state.instances.get(key);
  if (instance === undefined) return null;
  return {
    instance: instance.last.instance,
    node: instance.last.node,
    up: instance.up,
    startedAt: instance.last.startedAt,
    processes: instance.up ? instance.last.processes : 0,
    cpuCores: instance.up ? instance.cpuCores : 0,
    cpuLimit: instance.last.cpuLimit,
    throttledRatio: instance.up ? instance.throttledRatio : 0,
    memoryBytes: instance.up ? instance.last.memory : 0,
    memoryLimit: instance.last.memoryLimit,
    restarts: instance.restarts,
    oomKills: instance.oomKills,
  };
};

/** Entries of topic `service:<id>`. */
export const page = (state: ServiceState, inspections: readonly Inspection[], now: number): Record<string, unknown> => {
  // Whole minutes are sent once; each second only the running minute is sent again.
  const minute = state.live.latest - (state.live.latest % 60);
  const entries: Record<string, unknown> = {
    card: card(state, inspections, now),
    slo: slo(state, now),
    "live:past": state.live.windows(0, minute - 1),
    live: state.live.windows(minute, state.live.latest),
  };
  for (const inspection of inspections) entries[`inspection:${inspection.id}`] = inspection;
  for (const key of state.instances.keys()) entries[`instance:${key.replace("\n", "/")}`] = instanceView(key, state);
  for (const edge of state.edges.values()) {
    const peer = edge.peer;
    if (peer === null || peer === state.id) continue;
    if (edge.side === "outbound") entries[`outbound:${peer}`] = edgeView(edge, undefined, now);
    else
      entries[`inbound:${peer}`] = edgeView(
        state.edges.get(`inbound-client:${peer}`),
        state.edges.get(`inbound-server:${peer}`),
        now,
      );
  }
  return entries;
};

/** The state for the console: sizes and decisions, not the windows themselves. */
export const consoleView = (state: ServiceState): unknown => ({
  id: state.id,
  argument: state.argument,
  phase: state.phase,
  phaseSince: state.phaseSince,
  onset: state.onset,
  tests: {
    availability: { ...state.availability },
    latency: { ...state.latency },
  },
  highWaterMarks: state.marks.view(),
  duplicates: state.duplicates,
  tooOld: state.tooOld,
  instances: Object.fromEntries(
    [...state.instances].map(([key, i]) => [key.replace("\n", "/"), { up: i.up, ...i.last }]),
  ),
  edges: Object.fromEntries(
    [...state.edges].map(([key, edge]) => [
      key,
      { protocols: protocolNames([edge]), active: edge.active, stuck: edge.stuck, lastSeen: edge.lastSeen },
    ]),
  ),
  events: state.events,
  minutes: state.minutes.view(),
  summary: `${formatPercent(state.traffic.traffic(state.series.latest).errorRatio)} errors, p95 ${formatMs(
    state.traffic.traffic(state.series.latest).p95Ms,
  )}`,
});
