/**
 * A service's own account of what changed: the compact answer to the root-cause coordinator. Baselines are whole
 * ten-second slots that ended a guard interval before the onset, so that the fault does not become its own normal.
 */
import type { ServiceId } from "../../schemas/service.ts";
import { PROTOCOLS } from "../../schemas/wire/observe.ts";
import { instancesUp, protocolsOf, type EdgeState, type ServiceState } from "./state.ts";
import type { Troubles } from "./troubles.ts";
import { binomialDeviation, deviation, normal, type Normal } from "./statistics.ts";
import type { Series, Totals } from "./Series.ts";
import type { ServiceEvent } from "./messages.ts";

const GUARD_MS = 10_000;
/** Below this mean the change of a latency is noise, ms. */
const LATENCY_FLOOR_MS = 0.5;

/** How one stream of requests changed. Rates per second; latencies are means in ms, pending ones counted by their age. */
export interface Change {
  readonly rps: number;
  readonly rpsNormal: number;
  readonly failed: number;
  readonly failedNormal: number;
  readonly failedConnects: number;
  readonly failedConnectsNormal: number;
  readonly meanMs: number | null;
  readonly meanNormalMs: number | null;
  readonly dLatencyMs: number;
  readonly zLatency: number;
  /** failed requests and failed connects per second more than normal */
  readonly dErrors: number;
  readonly zErrors: number;
  readonly pending: number;
  readonly oldestMs: number;
  readonly retransmits: number;
  /**
   * Requests under way on average (Little's law): the time they took, finished or still waiting, per second. Times add up
   * along a call, so what a callee holds of its caller's requests is a share of this.
   */
  readonly inFlight: number;
  readonly inFlightNormal: number;
  /** ten-second slots in the baseline */
  readonly samples: number;
}

export interface EdgeChange extends Change {
  readonly peer: ServiceId;
  /** open connections now */
  readonly active: number;
  readonly protocols: readonly string[];
  /** what goes wrong with its connections now; absent: nothing, or nobody tells */
  readonly troubles?: Troubles;
}

export interface Level {
  readonly value: number;
  readonly normal: number;
  readonly z: number;
}

export interface AnomalyReport {
  readonly service: ServiceId;
  readonly kind: string;
  readonly serviceType: string;
  readonly from: number;
  readonly to: number;
  readonly phase: ServiceState["phase"];
  readonly inbound: Change;
  /** what the service itself saw from each caller */
  readonly inboundServer: readonly EdgeChange[];
  /** what each caller saw */
  readonly inboundClient: readonly EdgeChange[];
  readonly outbound: readonly EdgeChange[];
  readonly instances: { readonly known: number; readonly up: number };
  readonly cpuCores: Level;
  readonly cpuLimit: number;
  readonly throttled: Level;
  readonly memoryRatio: Level;
  readonly ioWait: Level;
  readonly memoryLimit: number;
  readonly oomKills: number;
  readonly restarts: number;
  readonly exits: number;
  readonly events: readonly ServiceEvent[];
}

const meanOf = (count: number, sumMs: number, pending: number, oldestMs: number): number | null => {
  const waiting = oldestMs > 1000 ? pending : 0;
  return count + waiting > 0 ? (sumMs + (waiting * oldestMs) / 2) / (count + waiting) : null;
};

/** Long requests show while they wait, short ones when they are done; whichever says more. */
const inFlight = (sumMs: number, pendingSum: number, seconds: number): number =>
  Math.max(sumMs / 1000, pendingSum) / seconds;

export const changeOf = (series: Series, onset: number): Change => {
  const latest = series.latest;
  const before = (onset - GUARD_MS) / 1000;
  const now: Totals = series.totals(Math.floor(onset / 1000), latest);
  const seconds = Math.max(1, now.seconds);
  const base = (map: Parameters<Series["baseline"]>[1], floor: number): Normal =>
    normal(series.baseline(before, map), floor);
  const latency = base((slot) => meanOf(slot.count, slot.sumMs, slot.pending, slot.oldestMs), LATENCY_FLOOR_MS);
  const rate = base((slot) => slot.count / 10, 0.1);
  const failedRate = base((slot) => slot.failed / 10, 0.05);
  const connectRate = base((slot) => slot.failedConnects / 10, 0.05);
  const meanMs = meanOf(now.count, now.sumMs, now.pending, now.oldestMs);
  const known = latency.samples > 0;
  const dLatencyMs = meanMs === null || !known ? 0 : meanMs - latency.median;
  const bad = now.failed + now.failedConnects;
  const flight = base((slot) => inFlight(slot.sumMs, slot.pendingSum, 10), 0.01);
  const p0 = Math.min(0.5, rate.median > 0 ? (failedRate.median + connectRate.median) / rate.median : 0);
  return {
    rps: now.count / seconds,
    rpsNormal: rate.median,
    failed: now.failed / seconds,
    failedNormal: failedRate.median,
    failedConnects: now.failedConnects / seconds,
    failedConnectsNormal: connectRate.median,
    meanMs,
    meanNormalMs: known ? latency.median : null,
    dLatencyMs,
    zLatency: meanMs === null || !known ? 0 : deviation(meanMs, latency),
    dErrors: bad / seconds - failedRate.median - connectRate.median,
    zErrors: binomialDeviation(bad, Math.max(bad, now.count + now.failedConnects), p0),
    pending: now.pending,
    oldestMs: now.oldestMs,
    retransmits: now.retransmits / seconds,
    inFlight: inFlight(now.sumMs, now.pendingSum, seconds),
    inFlightNormal: flight.median,
    samples: rate.samples,
  };
};

const edgeChange = (edge: EdgeState, second: number, onset: number): EdgeChange | null => {
  if (edge.peer === null) return null;
  edge.series.advance(second);
  return {
    ...changeOf(edge.series, onset),
    peer: edge.peer,
    active: edge.active,
    protocols: protocolsOf(edge)
      .map((p) => PROTOCOLS[p] ?? "tcp")
      .filter((p) => p !== "tcp"),
    ...(edge.troubles.length === 0 ? {} : { troubles: edge.troubles }),
  };
};

export const anomalyReport = (state: ServiceState, onset: number, now: number): AnomalyReport => {
  const second = Math.floor(now / 1000) - 1;
  const edges = (side: EdgeState["side"]): EdgeChange[] =>
    [...state.edges.values()]
      .filter((edge) => edge.side === side && edge.peer !== state.id)
      .flatMap((edge) => edgeChange(edge, second, onset) ?? []);
  state.series.advance(second);
  const before = (onset - GUARD_MS) / 1000;
  const totals = state.series.totals(Math.floor(onset / 1000), state.series.latest);
  const seconds = Math.max(1, totals.seconds);
  const level = (value: number, map: Parameters<Series["baseline"]>[1], floor: number): Level => {
    const base = normal(state.series.baseline(before, map), floor);
    return { value, normal: base.median, z: base.samples === 0 ? 0 : deviation(value, base) };
  };
  const up = [...state.instances.values()].filter((instance) => instance.up);
  const events = state.events.filter((event) => event.at >= onset - GUARD_MS);
  return {
    service: state.id,
    kind: state.argument.kind,
    serviceType: state.argument.serviceType,
    from: onset,
    to: now,
    phase: state.phase,
    inbound: changeOf(state.series, onset),
    inboundServer: edges("inbound-server"),
    inboundClient: edges("inbound-client"),
    outbound: edges("outbound"),
    instances: { known: state.instances.size, up: instancesUp(state) },
    cpuCores: level(totals.cpuMs / 1000 / seconds, (slot) => slot.cpuMs / 10_000, 0.02),
    cpuLimit: up.reduce((n, instance) => n + instance.last.cpuLimit, 0),
    throttled: level(totals.throttledMs / 1000 / seconds, (slot) => slot.throttledMs / 10_000, 0.02),
    memoryRatio: level(totals.memoryRatio, (slot) => slot.memoryRatio, 0.02),
    ioWait: level(totals.ioWaitMs / 1000 / seconds, (slot) => slot.ioWaitMs / 10_000, 0.02),
    memoryLimit: up.reduce((n, instance) => n + instance.last.memoryLimit, 0),
    oomKills: events.filter((event) => event.kind === "oom").length,
    restarts: events.filter((event) => event.kind === "start").length,
    exits: events.filter((event) => event.kind === "exit").length,
    events,
  };
};
