/**
 * Takes one window of one agent into a service's state: instances, edges, the service's own indicator (SLI), ledger
 * and the sequential tests. Called by `step` only.
 *
 * The indicator is the server's own view of its requests; what only clients saw is added (failed connects always, their
 * requests when the server has not been seen for five seconds), else a dead service would look idle.
 */
import { countSlower, HISTOGRAM_BUCKETS } from "../../schemas/wire/histogram.ts";
import type { EdgeWindow, InstanceWindow, Observe, RequestWindow } from "./messages.ts";
import { observe as observeTest, observeRecovery, rates } from "./sequential.ts";
import {
  EVENTS_KEPT,
  hasSlo,
  latencyThreshold,
  newEdge,
  type EdgeState,
  type ServiceState,
  type Sli,
} from "./state.ts";

const SERVER_VIEW_FRESH_MS = 5_000;

/** Windows older than this come from an agent's memory or spool: they correct the ledger and never open an incident. */
const LATE_MS = 10_000;

export const takeWindow = (state: ServiceState, message: Observe, now: number): void => {
  const late = message.at < now - LATE_MS;
  const at = Math.min(now + 1_000, message.at);
  const second = Math.floor(at / 1000);
  const sli: Indicator = { total: 0, bad: 0, slow: 0, histogram: indicatorBuffer.fill(0) };
  const serverSeen = message.edges.some(
    (edge) => edge.side === "inbound-server" && (edge.protocols.length > 0 || edge.pending > 0),
  );
  if (serverSeen) state.serverViewAt = Math.max(state.serverViewAt, at);
  const useClients = at - state.serverViewAt > SERVER_VIEW_FRESH_MS;
  state.changed = true;
  if (late) {
    for (const window of message.edges) countEdge(state, edgeFor(state, window, now), window, useClients, sli);
    return enter(state, at, now, sli);
  }
  state.series.advance(second);
  state.live.advance(second);
  for (const instance of message.instances) takeInstance(state, message, instance, second, now);
  for (const event of message.events) {
    state.events.push(event);
    if (state.events.length > EVENTS_KEPT) state.events.shift();
    const instance = state.instances.get(`${message.agent}\n${event.instance}`);
    if (instance !== undefined)
      instance.up = event.kind === "start" ? true : event.kind === "oom" ? instance.up : false;
  }
  for (const window of message.edges) takeEdge(state, message, window, second, now, useClients, sli);
  judge(state, message, sli, second, at, now);
};

/** One window is counted at a time, and nothing keeps it. */
const indicatorBuffer = new Uint32Array(HISTOGRAM_BUCKETS);

interface Indicator {
  total: number;
  bad: number;
  slow: number;
  readonly histogram: Uint32Array;
}

const takeInstance = (
  state: ServiceState,
  message: Observe,
  window: InstanceWindow,
  second: number,
  now: number,
): void => {
  const key = `${message.agent}\n${window.instance}`;
  const seconds = Math.max(0.001, message.seconds);
  const known = state.instances.get(key);
  const cpuCores = window.cpuMs / 1000 / seconds;
  const throttledRatio = Math.min(1, window.throttledMs / 1000 / seconds);
  if (known === undefined)
    state.instances.set(key, {
      agent: message.agent,
      last: window,
      up: window.processes > 0,
      seenAt: now,
      cpuCores,
      throttledRatio,
      restarts: window.restarts,
      oomKills: window.oomKills,
    });
  else {
    known.last = window;
    known.up = window.processes > 0;
    known.seenAt = now;
    known.cpuCores = cpuCores;
    known.throttledRatio = throttledRatio;
    known.restarts += window.restarts;
    known.oomKills += window.oomKills;
  }
  state.series.add(second, "cpuMs", window.cpuMs);
  state.series.add(second, "throttledMs", window.throttledMs);
  state.series.add(second, "ioWaitMs", window.ioWaitMs);
  if (window.memoryLimit > 0) state.series.add(second, "memoryRatio", window.memory / window.memoryLimit);
  state.live.add(second, "cpuCores", cpuCores);
  state.live.add(second, "throttledRatio", throttledRatio);
  let memory = 0;
  for (const instance of state.instances.values()) if (instance.up) memory += instance.last.memory;
  state.live.set(second, "memoryBytes", memory);
};

const edgeFor = (state: ServiceState, window: EdgeWindow, now: number): EdgeState => {
  const key = `${window.side}:${window.peer ?? "?"}`;
  let edge = state.edges.get(key);
  if (edge === undefined) {
    edge = newEdge(key, window.side, window.peer, now);
    edge.stuck = state.stuckThen.get(key) ?? 0;
    state.edges.set(key, edge);
  }
  return edge;
};

const takeEdge = (
  state: ServiceState,
  message: Observe,
  window: EdgeWindow,
  second: number,
  now: number,
  useClients: boolean,
  sli: Indicator,
): void => {
  const edge = edgeFor(state, window, now);
  const { series } = edge;
  series.advance(second);
  let requests = 0;
  let bad = 0;
  for (const { ok, rejected, failed, unanswered } of window.protocols) {
    requests += ok + rejected + failed + unanswered;
    bad += failed + unanswered;
  }
  if (requests + window.opens + window.failedConnects + window.bytesIn + window.bytesOut + window.active > 0)
    edge.lastSeen = now;
  const activeBefore = edge.activeByAgent.get(message.agent) ?? 0;
  if (activeBefore !== window.active) {
    edge.activeByAgent.set(message.agent, window.active);
    edge.active += window.active - activeBefore;
  }
  const seconds = Math.max(0.001, message.seconds);
  edge.connects = window.opens / seconds;
  edge.failedConnects = window.failedConnects / seconds;
  edge.retransmits = window.retransmits / seconds;
  edge.bytesOut = window.bytesOut / seconds;
  edge.bytesIn = window.bytesIn / seconds;
  edge.rateAt = now;
  if (window.rttCount > 0) edge.rttMs = window.rttUs / window.rttCount / 1000;
  series.add(second, "count", requests);
  series.add(second, "failed", bad);
  series.add(second, "failedConnects", window.failedConnects);
  series.add(second, "opens", window.opens);
  series.add(second, "retransmits", window.retransmits);
  series.add(second, "pending", window.pending);
  series.add(second, "pendingSum", window.pending);
  series.add(second, "oldestMs", window.oldestMs);
  for (const protocol of window.protocols) {
    edge.traffic.add(second, protocol);
    series.add(second, "sumMs", protocol.sumUs / 1000);
  }
  if (window.failedConnects > 0) edge.traffic.addFailedConnects(second, window.failedConnects);
  edge.traffic.gauges(second, window.pending, window.oldestMs);
  if (countEdge(state, edge, window, useClients, sli)) showRequests(state, window, second);
  if (failedFor(state, window) > 0) state.traffic.addFailedConnects(second, window.failedConnects);
};

/** Connects of clients that failed count always: who cannot be reached sees none of them. */
const failedFor = (state: ServiceState, window: EdgeWindow): number =>
  window.side === "inbound-client" && window.peer !== state.id ? window.failedConnects : 0;

/** What the edge adds to the service's own indicator; false when its requests are not part of it. */
const countEdge = (
  state: ServiceState,
  edge: EdgeState,
  window: EdgeWindow,
  useClients: boolean,
  sli: Indicator,
): boolean => {
  for (const { protocol } of window.protocols) edge.protocols.add(protocol);
  const failed = failedFor(state, window);
  sli.total += failed;
  sli.bad += failed;
  const inView = window.side === "inbound-server" || (window.side === "inbound-client" && useClients);
  if (!inView || window.peer === state.id) {
    edge.stuck = 0;
    return false;
  }
  const threshold = latencyThreshold(state);
  let slow = 0;
  for (const protocol of window.protocols) {
    if (protocol.protocol === 0) continue;
    sli.total += protocol.ok + protocol.rejected + protocol.failed + protocol.unanswered;
    sli.bad += protocol.failed + protocol.unanswered;
    for (let i = 0; i + 1 < protocol.histogram.length; i += 2) {
      const bucket = protocol.histogram[i] ?? 0;
      sli.histogram[bucket] = (sli.histogram[bucket] ?? 0) + (protocol.histogram[i + 1] ?? 0);
    }
    slow += countSlower(dense(protocol), threshold);
  }
  // Requests that have waited too long already are slow, whatever they end as; each counts once. How many of the pending
  // ones are that old is estimated from the oldest, as if they had arrived evenly.
  const stuck =
    window.oldestMs > threshold ? Math.max(1, Math.round(window.pending * (1 - threshold / window.oldestMs))) : 0;
  const finished = Math.max(0, edge.stuck - stuck);
  sli.slow += Math.max(0, slow - finished) + Math.max(0, stuck - edge.stuck);
  sli.total += Math.max(0, stuck - edge.stuck);
  edge.stuck = stuck;
  return true;
};

const showRequests = (state: ServiceState, window: EdgeWindow, second: number): void => {
  for (const protocol of window.protocols) {
    if (protocol.protocol === 0) continue;
    state.traffic.add(second, protocol);
    state.series.add(second, "sumMs", protocol.sumUs / 1000);
  }
  state.traffic.gauges(second, window.pending, window.oldestMs);
  state.series.add(second, "pending", window.pending);
  state.series.add(second, "pendingSum", window.pending);
  state.series.add(second, "oldestMs", window.oldestMs);
};

const denseBuffer = new Uint32Array(HISTOGRAM_BUCKETS);
const dense = (protocol: RequestWindow): Uint32Array => {
  denseBuffer.fill(0);
  for (let i = 0; i + 1 < protocol.histogram.length; i += 2)
    denseBuffer[protocol.histogram[i] ?? 0] =
      (denseBuffer[protocol.histogram[i] ?? 0] ?? 0) + (protocol.histogram[i + 1] ?? 0);
  return denseBuffer;
};

/** Into the ledger, and the minute that it belongs to. */
const enter = (state: ServiceState, at: number, now: number, sli: Indicator): void => {
  if (!hasSlo(state)) return;
  state.ledger.add(at, sli.total, sli.bad, sli.slow);
  state.minutes.add(at, now, sli);
};

const judge = (
  state: ServiceState,
  message: Observe,
  sli: Indicator,
  second: number,
  at: number,
  now: number,
): void => {
  const traffic = state.traffic.traffic(second);
  state.live.add(second, "requests", sli.total / Math.max(1, message.seconds));
  state.live.add(second, "errors", sli.bad / Math.max(1, message.seconds));
  if (sli.total > 0) {
    state.live.set(second, "p50Ms", traffic.p50Ms ?? 0);
    state.live.set(second, "p95Ms", traffic.p95Ms ?? 0);
    state.live.set(second, "p99Ms", traffic.p99Ms ?? 0);
  }
  state.live.set(second, "pending", traffic.pending);
  state.series.add(second, "count", sli.total);
  state.series.add(second, "failed", sli.bad);
  state.series.add(second, "slow", sli.slow);
  if (sli.total > 0) state.lastRequestAt = now;
  if (sli.bad + sli.slow > 0) state.lastBadAt = now;
  enter(state, at, now, sli);
  if (!hasSlo(state)) return;
  if (state.phase !== "ok") {
    state.sinceOnset.total += sli.total;
    state.sinceOnset.bad += Math.min(sli.total, sli.bad + sli.slow);
  }
  const start = at - message.seconds * 1000;
  const { slo } = state.argument;
  let stuck = false;
  for (const edge of state.edges.values()) stuck ||= edge.side !== "outbound" && edge.stuck > 0;
  const { byBurn } = state;
  state.availability = advance(state.availability, slo.availabilityObjective, sli.total, sli.bad, start, false, byBurn);
  state.latency = advance(state.latency, slo.latencyObjective, sli.total, sli.slow, start, stuck, byBurn);
};

const advance = (
  sli: Sli,
  objective: number,
  total: number,
  bad: number,
  start: number,
  stuck: boolean,
  byBurn: boolean,
): Sli => {
  const usual = rates(objective, sli.usualTotal >= 200 ? sli.usualBad / sli.usualTotal : 0);
  return {
    ...sli,
    test: observeTest(sli.test, usual, total, bad, start),
    recovery: stuck ? 0 : observeRecovery(sli.recovery, byBurn ? rates(objective, 0) : usual, total, bad),
  };
};
