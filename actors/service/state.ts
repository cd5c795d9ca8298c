/** What a service actor owns. Changed only by its `step`; derived parts are lost on a restart, see each class. */
import { partitionOf } from "../../runtime/cluster/places.ts";
import type { ServiceId } from "../../schemas/service.ts";
import { PROTOCOLS } from "../../schemas/wire/observe.ts";
import type { DnsWindow } from "./DnsWindow.ts";
import type { DiskSpace } from "./DiskSpace.ts";
import type { IoWindow } from "./IoWindow.ts";
import { Ledger, type LedgerMinute } from "./ledger.ts";
import { LiveRing } from "./LiveRing.ts";
import type { InstanceWindow, ServiceArgument, ServiceEvent, Side } from "./messages.ts";
import { Marks } from "./marks.ts";
import { Minutes } from "./minutes.ts";
import { PerAgent } from "./PerAgent.ts";
import { quiet, type Cusum } from "./sequential.ts";
import { Series, type MinuteFigures } from "./Series.ts";
import { TrafficWindow } from "./TrafficWindow.ts";
import { NO_TROUBLES, type Troubles } from "./troubles.ts";
import { Views } from "./views.ts";
import type { Waits } from "./waits.ts";

export const EVENTS_KEPT = 64;
/** An edge without traffic or connections for this long leaves the map. */
export const EDGE_EXPIRES_MS = 10 * 60_000;
export const INSTANCE_EXPIRES_MS = 10 * 60_000;

export interface EdgeState {
  readonly key: string;
  readonly side: Side;
  readonly peer: ServiceId | null;
  /** a bit for each, by wire number */
  protocols: number;
  readonly series: Series;
  readonly traffic: TrafficWindow;
  readonly firstSeen: number;
  lastSeen: number;
  active: number;
  readonly activeByAgent: PerAgent<number>;
  connects: number;
  failedConnects: number;
  /** per second and by kind, see troubles.ts */
  troubles: Troubles;
  retransmits: number;
  bytesOut: number;
  bytesIn: number;
  rttMs: number | null;
  /** rates of the last window that had any, and its seconds */
  rateAt: number;
  rateSpan: number;
  /** requests that wait too long now, over all agents */
  stuck: number;
  /** by agent; only where any wait, or windows may come late */
  readonly waits: PerAgent<Waits>;
}

export interface InstanceState {
  readonly agent: string;
  last: InstanceWindow;
  up: boolean;
  seenAt: number;
  cpuCores: number;
  throttledRatio: number;
  restarts: number;
  oomKills: number;
  /** seconds of its last window */
  span: number;
  /** what of its memory is in the service's sum */
  countedMemory: number;
}

/** Brings the service's sum up to date with one instance, or with one that is about to go. */
export const countMemory = (state: ServiceState, instance: InstanceState, gone = false): void => {
  const memory = instance.up && !gone ? instance.last.memory : 0;
  state.memoryBytes += memory - instance.countedMemory;
  instance.countedMemory = memory;
};

export type Phase = "ok" | "suspicion" | "incident" | "recovering";

export interface Sli {
  readonly test: Cusum;
  readonly recovery: number;
  /** usual share of bad requests; kept from minutes that ended at least two minutes ago */
  readonly usualBad: number;
  readonly usualTotal: number;
}

/** Minutes of an earlier life, by edge, until the edge is seen again. */
export interface Past {
  /** second after the last of these minutes */
  readonly seenTo: number;
  readonly series: Map<string, readonly MinuteFigures[]>;
}

export interface ServiceState {
  readonly id: ServiceId;
  readonly argument: ServiceArgument;
  readonly since: number;
  readonly marks: Marks;
  readonly edges: Map<string, EdgeState>;
  /** the same, without a key to be made for each window */
  readonly edgesByPeer: Readonly<Record<Side, Map<ServiceId | null, EdgeState>>>;
  readonly instances: Map<string, InstanceState>;
  /** the same, without a key to be made for each window */
  readonly instancesByAgent: Map<string, Map<string, InstanceState>>;
  /** requests that wait too long now, over all edges to it */
  stuck: number;
  /** it has been called by another: see hasSlo */
  isCalled: boolean;
  readonly events: ServiceEvent[];
  readonly series: Series;
  readonly traffic: TrafficWindow;
  readonly live: LiveRing;
  /** the newest second that had requests, whose percentiles are not in `live` yet */
  percentilesDue: { readonly second: number; readonly span: number } | null;
  /** of the instances that are up */
  memoryBytes: number;
  readonly ledger: Ledger;
  availability: Sli;
  latency: Sli;
  phase: Phase;
  phaseSince: number;
  onset: number;
  suspectText: string;
  /** of the incident that it told */
  severity: "warning" | "critical";
  /** opened by a burn rule: it ends when the objective is met, whatever is usual */
  byBurn: boolean;
  sinceOnset: { total: number; bad: number };
  lastRequestAt: number;
  lastBadAt: number;
  readonly views: Views;
  duplicates: number;
  /** windows so old that they changed the ledger here, and no row in the store */
  tooOld: number;
  readonly minutes: Minutes;
  /** something that a snapshot would have to say */
  changed: boolean;
  /** second of the minute in which its snapshots are written, so that not all are written at once */
  readonly slot: number;
  /** the minute, counted from that second, of its last snapshot */
  keptTurn: number;
  /** what is usual came with a snapshot */
  learnt: boolean;
  /** it had an SLO by a snapshot: its edges are not known again yet */
  hadSlo: boolean;
  /** the last minutes that the store has, until nothing of them can come again */
  inStore: readonly LedgerMinute[];
  /** numbers of minutes that wait until they are old enough to be "usual" */
  settling: number[];
  /** null: it has looked up nothing */
  dns: DnsWindow | null;
  /** null: it has used no disk that is timed */
  io: IoWindow | null;
  /** null: it writes to no disk that is known */
  space: DiskSpace | null;
  readonly checks: Map<string, { since: number }>;
  /** seconds of the longest windows that come now (scrapes), 1 for those of our agents */
  span: number;
  /** when the last of these came, and the second that it ended with */
  spanAt: number;
  spanTo: number;
  pointAt: number;
  /** number of the last minute that was written for baselines; 0 before the first */
  edgeMinute: number;
  /** null: there is none, or nothing of it is waited for any more */
  past: Past | null;
}

export const newSli = (now: number): Sli => ({ test: quiet(now), recovery: 0, usualBad: 0, usualTotal: 0 });

export const newState = (argument: ServiceArgument, now: number): ServiceState => ({
  id: argument.id,
  argument,
  since: now,
  marks: new Marks(),
  edges: new Map(),
  edgesByPeer: { outbound: new Map(), "inbound-client": new Map(), "inbound-server": new Map() },
  instances: new Map(),
  instancesByAgent: new Map(),
  stuck: 0,
  isCalled: false,
  events: [],
  series: new Series(),
  traffic: new TrafficWindow(),
  live: new LiveRing(),
  percentilesDue: null,
  memoryBytes: 0,
  ledger: new Ledger(),
  availability: newSli(now),
  latency: newSli(now),
  phase: "ok",
  phaseSince: now,
  onset: 0,
  suspectText: "",
  severity: "critical",
  byBurn: false,
  sinceOnset: { total: 0, bad: 0 },
  lastRequestAt: 0,
  lastBadAt: 0,
  views: new Views(),
  duplicates: 0,
  tooOld: 0,
  minutes: new Minutes(),
  changed: false,
  slot: Number(partitionOf(argument.id, 60)),
  keptTurn: 0,
  learnt: false,
  hadSlo: false,
  inStore: [],
  settling: [],
  dns: null,
  io: null,
  space: null,
  checks: new Map(),
  span: 1,
  spanAt: 0,
  spanTo: 0,
  pointAt: Math.floor(now / 10_000),
  edgeMinute: 0,
  past: null,
});

export const edgeKey = (side: Side, peer: ServiceId | null): string => `${side}:${peer ?? "?"}`;

/** The service's edge on that side to or from that peer; made when it is new. */
export const edgeOf = (state: ServiceState, side: Side, peer: ServiceId | null, now: number): EdgeState => {
  const known = state.edgesByPeer[side].get(peer);
  if (known !== undefined) return known;
  const edge = newEdge(side, peer, now);
  state.edgesByPeer[side].set(peer, edge);
  state.edges.set(edge.key, edge);
  return edge;
};

export const dropEdge = (state: ServiceState, edge: EdgeState): void => {
  countStuck(state, edge, -edge.stuck);
  state.edgesByPeer[edge.side].delete(edge.peer);
  state.edges.delete(edge.key);
  state.isCalled = false;
  for (const other of state.edges.values()) if (callsIt(state, other)) state.isCalled = true;
};

export const countStuck = (state: ServiceState, edge: EdgeState, change: number): void => {
  edge.stuck += change;
  if (edge.side !== "outbound") state.stuck += change;
};

const TCP = 0;

/** Protocols by wire number. */
export const protocolsOf = ({ protocols }: EdgeState): readonly number[] =>
  PROTOCOLS.flatMap((_, number) => ((protocols >> number) & 1 ? [number] : []));

const callsIt = ({ id }: ServiceState, { side, peer, protocols }: EdgeState): boolean =>
  side !== "outbound" && peer !== id && (protocols & ~(1 << TCP)) !== 0;

export const noteProtocol = (state: ServiceState, edge: EdgeState, protocol: number): void => {
  if ((edge.protocols >> protocol) & 1) return;
  edge.protocols |= 1 << protocol;
  state.isCalled ||= callsIt(state, edge);
};

/** An instance by the agent that tells of it, and its name there. */
export const instanceOf = (state: ServiceState, agent: string, instance: string): InstanceState | undefined =>
  state.instancesByAgent.get(agent)?.get(instance);

export const addInstance = (state: ServiceState, instance: InstanceState): void => {
  const { agent, last } = instance;
  state.instances.set(`${agent}\n${last.instance}`, instance);
  let own = state.instancesByAgent.get(agent);
  if (own === undefined) state.instancesByAgent.set(agent, (own = new Map()));
  own.set(last.instance, instance);
};

export const dropInstance = (state: ServiceState, instance: InstanceState): void => {
  const { agent, last } = instance;
  countMemory(state, instance, true);
  state.instances.delete(`${agent}\n${last.instance}`);
  const own = state.instancesByAgent.get(agent);
  own?.delete(last.instance);
  if (own?.size === 0) state.instancesByAgent.delete(agent);
};

const newEdge = (side: Side, peer: ServiceId | null, now: number): EdgeState => ({
  key: edgeKey(side, peer),
  side,
  peer,
  protocols: 0,
  series: new Series(),
  traffic: new TrafficWindow(),
  firstSeen: now,
  lastSeen: now,
  active: 0,
  activeByAgent: new PerAgent(),
  connects: 0,
  failedConnects: 0,
  troubles: NO_TROUBLES,
  retransmits: 0,
  bytesOut: 0,
  bytesIn: 0,
  rttMs: null,
  rateAt: 0,
  rateSpan: 1,
  stuck: 0,
  waits: new PerAgent(),
});

/** Who calls this service: real callers, neither itself nor unknown. */
export const callersOf = (state: ServiceState): ServiceId[] => {
  const out = new Set<ServiceId>();
  for (const edge of state.edges.values())
    if (edge.side !== "outbound" && edge.peer !== null && edge.peer !== state.id) out.add(edge.peer);
  return [...out];
};

/** An SLO needs requests from somebody else; what lies outside our sight has none by default. */
export const hasSlo = ({ argument, hadSlo, isCalled }: ServiceState): boolean =>
  argument.kind !== "External" && (hadSlo || isCalled);

/** A longer span ends when three windows of it have not come. */
export const noteSpan = (state: ServiceState, span: number, second: number, now: number): void => {
  if (span < state.span && now - state.spanAt <= 3_000 * state.span) return;
  state.span = span;
  state.spanAt = now;
  state.spanTo = Math.max(state.spanTo, second);
};

/** The newest second that windows have told of: what scrapes have yet to say must not be taken for nothing. */
export const toldTo = ({ series, span, spanTo }: ServiceState): number =>
  span > 1 ? Math.min(series.latest, Math.max(spanTo, series.latest - 2 * span)) : series.latest;

/** How long a rate holds beyond its window: until the next one must have come. */
export const isFresh = (at: number, span: number, now: number, ms: number): boolean =>
  now - at <= ms + (span > 1 ? span * 1_000 : 0);

const WANTED_WITHIN_SECONDS = 60;

/** Whether somebody tried to reach it in the last minute. */
export const isWanted = (state: ServiceState, now: number): boolean => {
  const second = Math.floor(now / 1000);
  for (const edge of state.edges.values()) {
    if (edge.side === "outbound" || edge.peer === state.id) continue;
    for (const field of ["count", "failedConnects", "opens", "pending"] as const)
      if (edge.series.total(field, second - WANTED_WITHIN_SECONDS, second) > 0) return true;
  }
  return false;
};

/** Commands come and go; a program is a service once it has lived a while or has traffic. */
const SETTLED_AFTER_MS = 10_000;

export const isShown = (state: ServiceState, now: number): boolean => {
  if (state.argument.kind === "External") return state.edges.size > 0;
  if (state.argument.kind !== "Process") return true;
  for (const instance of state.instances.values())
    if (instance.up && now - instance.last.startedAt > SETTLED_AFTER_MS) return true;
  return state.edges.size > 0 && (instancesUp(state) > 0 || isWanted(state, now));
};

/** What runs or watches the machine answers bulk work: it gets a longer threshold than what users call. */
export const AUXILIARY_LATENCY_MS = 5_000;
const AUXILIARY: readonly string[] = ["monitoring", "control-plane"];
export const latencyThreshold = ({ argument }: ServiceState): number =>
  AUXILIARY.includes(argument.category)
    ? Math.max(argument.slo.latencyThresholdMs, AUXILIARY_LATENCY_MS)
    : argument.slo.latencyThresholdMs;

export const instancesUp = (state: ServiceState): number => {
  let up = 0;
  for (const instance of state.instances.values()) if (instance.up) up++;
  return up;
};
