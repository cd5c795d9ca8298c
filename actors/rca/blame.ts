/**
 * The walk: how much of what the target suffers is whose doing. Pure; the coordinator gathers the reports.
 *
 * Mass 1 starts at the service that breached. At each service its callees take over the share of its change that their
 * change explains (effect size per request), the rest stays with it. "A callee that explains half explains it all";
 * what a service shows by itself (killed, down, throttled) sets a floor to what stays. Mass is summed per service and
 * level. Method and its ablations: explaining-away, effect sizes, counts instead of percentages.
 */
import type { Hop } from "../../schemas/incident.ts";
import type { ServiceId } from "../../schemas/service.ts";
import type { AnomalyReport, EdgeChange } from "../service/anomaly.ts";

/** Deviations below this are noise. */
export const SIGNIFICANT = 4;
const MAX_LEVELS = 12;
const MIN_MASS = 1e-3;
/** A change of latency below this explains nothing, ms. */
const MIN_LATENCY_MS = 5;
const TIMEOUT_LIKE_MS = 1_000;

export interface Explained {
  readonly callee: ServiceId;
  readonly share: number;
  readonly hop: Hop;
}

export interface Blamed {
  readonly service: ServiceId;
  /** mass that stayed */
  readonly blame: number;
  /** mass that arrived */
  readonly reached: number;
  readonly path: readonly Hop[];
  readonly explained: readonly Explained[];
}

const clamp = (value: number, low: number, high: number): number => Math.min(high, Math.max(low, value));

export const isErroneous = (report: AnomalyReport): boolean =>
  report.inbound.zErrors > SIGNIFICANT && report.inbound.dErrors > 0;
export const isSlow = (report: AnomalyReport): boolean =>
  report.inbound.zLatency > SIGNIFICANT && report.inbound.dLatencyMs > MIN_LATENCY_MS;

export const isDown = (report: AnomalyReport): boolean =>
  report.instances.known > 0 ? report.instances.up === 0 : refused(report) > 0.5;

/** Share of what its clients tried that never got a connection. */
export const refused = (report: AnomalyReport): number => {
  let failed = 0;
  let tried = 0;
  for (const edge of report.inboundClient) {
    failed += edge.failedConnects;
    tried += edge.failedConnects + edge.rps;
  }
  return tried === 0 ? 0 : failed / tried;
};

const resource = (z: number): number => Math.min(0.8, 0.12 * Math.log(1 + Math.max(0, z - SIGNIFICANT)));

/** What speaks against the service itself, whoever it calls: 0 to 1. */
export const ownEvidence = (report: AnomalyReport): number => {
  if (isDown(report) || report.oomKills > 0) return 0.95;
  let evidence = 0;
  if (report.throttled.value > 0.1) evidence = Math.max(evidence, resource(report.throttled.z));
  if (report.memoryRatio.value > 0.9) evidence = Math.max(evidence, resource(report.memoryRatio.z));
  if (report.cpuLimit > 0 && report.cpuCores.value / report.cpuLimit > 0.9)
    evidence = Math.max(evidence, resource(report.cpuCores.z));
  if (report.exits >= 2) evidence = Math.max(evidence, 0.6);
  return evidence;
};

/** The callee's own view of the same requests, if it is observed. */
const serverView = (caller: ServiceId, callee: AnomalyReport | undefined): EdgeChange | undefined =>
  callee?.inboundServer.find((edge) => edge.peer === caller && edge.rps + edge.rpsNormal + edge.pending > 0);

/** Requests held at any moment as milliseconds per request of the caller. */
const perRequest = (caller: AnomalyReport, flight: number): number =>
  (flight * 1000) / Math.max(caller.inbound.rps, caller.inbound.rpsNormal, 0.1);

/** Connections of which nearly all wait for more than a second: whoever needs one more waits for the callee too. */
const saturated = (edge: EdgeChange): boolean =>
  edge.oldestMs > TIMEOUT_LIKE_MS && edge.active > 0 && edge.pending >= 0.8 * edge.active;

/** How many more of the caller's requests are held by the callee at any moment than normally. */
const held = (caller: AnomalyReport, edge: EdgeChange, callee: AnomalyReport | undefined): number => {
  const more = edge.inFlight - edge.inFlightNormal;
  const server = serverView(caller.service, callee);
  // A caller that is starved itself reads its answers late: then only what the callee saw counts. Otherwise the gap is the
  // callee's queue (requests that it has not read yet) or the network between them.
  return server !== undefined && ownEvidence(caller) > 0.1
    ? Math.min(more, Math.max(0, server.inFlight - server.inFlightNormal))
    : more;
};

/** Failures that the callee caused, per second: failed replies, refused connects, and calls that no longer come about. */
const addedErrors = (caller: AnomalyReport, edge: EdgeChange, callee: AnomalyReport | undefined): number => {
  const unreachable = edge.failedConnects > 0 || (callee !== undefined && isDown(callee));
  const traffic = caller.inbound.rpsNormal > 0 ? Math.min(1, caller.inbound.rps / caller.inbound.rpsNormal) : 1;
  const lost = unreachable ? Math.max(0, edge.rpsNormal * traffic - edge.rps - edge.failedConnects) : 0;
  return Math.max(0, edge.dErrors) + lost;
};

export const explain = (caller: AnomalyReport, reports: ReadonlyMap<ServiceId, AnomalyReport>): Explained[] => {
  const slow = isSlow(caller);
  const erroneous = isErroneous(caller);
  const weightL = slow ? Math.log(1 + caller.inbound.zLatency) : 0;
  const weightE = erroneous ? Math.log(1 + caller.inbound.zErrors) : 0;
  return caller.outbound.flatMap((edge) => {
    const callee = reports.get(edge.peer);
    const waiting = held(caller, edge, callee);
    const suffered = caller.inbound.inFlight - caller.inbound.inFlightNormal;
    const failures = addedErrors(caller, edge, callee);
    const edgeSlow = edge.zLatency > SIGNIFICANT && edge.dLatencyMs > MIN_LATENCY_MS && waiting > 0;
    const edgeFails =
      failures > 0 &&
      (edge.zErrors > SIGNIFICANT || edge.failedConnects > 0 || (callee !== undefined && isDown(callee)));
    if (!edgeSlow && !edgeFails) return [];
    const part = suffered > 0 ? waiting / suffered : 1;
    const shareL = slow && edgeSlow ? (saturated(edge) ? Math.max(1, part) : part) : 0;
    // A slow callee makes its caller fail by time-outs: the other kind counts half, and only a wait that long.
    const timeouts = edgeSlow && (edge.oldestMs > TIMEOUT_LIKE_MS || edge.dLatencyMs > TIMEOUT_LIKE_MS) ? 0.5 : 0;
    const shareE = erroneous ? Math.max(edgeFails ? clamp(failures / caller.inbound.dErrors, 0, 1.5) : 0, timeouts) : 0;
    const failing = edgeFails && slow ? 0.5 : 0;
    const weight = weightL + weightE;
    const share =
      weight > 0
        ? (weightL * Math.max(clamp(shareL, 0, 1.5), failing) + weightE * shareE) / weight
        : // The caller's own figures did not move: what the callee adds against what a caller's noise is.
          Math.max(edgeSlow ? waiting / (Math.abs(suffered) + waiting) : 0, edgeFails ? 0.5 : 0);
    const measure = shareE >= shareL && edgeFails ? "errors" : "latency";
    const hop: Hop = {
      from: caller.service,
      to: edge.peer,
      measure,
      callerChange: measure === "errors" ? caller.inbound.dErrors : perRequest(caller, suffered),
      calleeChange: measure === "errors" ? failures : perRequest(caller, waiting),
      share: clamp(share, 0, 1),
      requests: edge.rps,
      failedConnects: edge.failedConnects,
    };
    return share > 0.01 ? [{ callee: edge.peer, share, hop }] : [];
  });
};

/** Blame of every service that mass reached, best first. */
export const walk = (target: ServiceId, reports: ReadonlyMap<ServiceId, AnomalyReport>): Blamed[] => {
  const blame = new Map<ServiceId, number>();
  const reached = new Map<ServiceId, number>();
  const best = new Map<ServiceId, { readonly mass: number; readonly hop: Hop }>();
  const explained = new Map<ServiceId, Explained[]>();
  let level = new Map<ServiceId, number>([[target, 1]]);
  for (let depth = 0; depth < MAX_LEVELS && level.size > 0; depth++) {
    const next = new Map<ServiceId, number>();
    for (const [service, mass] of level) {
      reached.set(service, (reached.get(service) ?? 0) + mass);
      const report = reports.get(service);
      const callees = report === undefined ? [] : explain(report, reports);
      explained.set(service, callees);
      const sum = callees.reduce((n, callee) => n + callee.share, 0);
      const floor = report === undefined ? 0 : ownEvidence(report);
      const self = depth === MAX_LEVELS - 1 ? 1 : Math.max(1 - Math.min(1, 2 * sum), floor);
      blame.set(service, (blame.get(service) ?? 0) + mass * self);
      for (const { callee, share, hop } of callees) {
        const part = mass * (1 - self) * (share / sum);
        if (part < MIN_MASS) continue;
        next.set(callee, (next.get(callee) ?? 0) + part);
        if (callee !== target && (best.get(callee)?.mass ?? 0) < part) best.set(callee, { mass: part, hop });
      }
    }
    level = next;
  }
  const pathTo = (service: ServiceId): Hop[] => {
    const path: Hop[] = [];
    const seen = new Set<ServiceId>();
    for (let at = service; at !== target && !seen.has(at); ) {
      seen.add(at);
      const step = best.get(at);
      if (step === undefined) break;
      path.unshift(step.hop);
      at = step.hop.from;
    }
    return path;
  };
  return [...blame]
    .map(([service, value]) => ({
      service,
      blame: value,
      reached: reached.get(service) ?? 0,
      path: pathTo(service),
      explained: explained.get(service) ?? [],
    }))
    .sort((a, b) => b.blame - a.blame);
};
