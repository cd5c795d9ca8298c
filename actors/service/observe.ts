/**
 * Takes one window of one agent into a service's state: instances, edges, the service's own indicator (SLI), ledger
 * and the sequential tests. Called by `step` only.
 *
 * The indicator is the server's own view of its requests; what only clients saw is added (failed connects always, their
 * requests when the server has not been seen for five seconds), else a dead service would look idle. Minutes and ledger
 * take what each window holds whenever it comes, in the same way; tests and charts only what is new.
 */
import { recall } from "./baselines.ts";
import { countSlowerOf, HISTOGRAM_BUCKETS } from "../../schemas/wire/histogram.ts";
import { PROTOCOLS } from "../../schemas/wire/observe.ts";
import { DiskSpace } from "./DiskSpace.ts";
import { DnsWindow } from "./DnsWindow.ts";
import { IoWindow } from "./IoWindow.ts";
import type { EdgeWindow, InstanceWindow, Observe } from "./messages.ts";
import { observe as observeTest, observeRecovery, rates } from "./sequential.ts";
import {
  addInstance,
  countMemory,
  countStuck,
  edgeOf,
  EVENTS_KEPT,
  hasSlo,
  instanceOf,
  latencyThreshold,
  noteProtocol,
  noteSpan,
  type EdgeState,
  type InstanceState,
  type ServiceState,
  type Sli,
} from "./state.ts";
import { troublesOf } from "./troubles.ts";
import type { Sums } from "./views.ts";
import { Waits } from "./waits.ts";

const DNS = PROTOCOLS.indexOf("dns");

/** Windows older than this come from an agent's memory or spool: they correct the ledger and never open an incident. */
const LATE_MS = 10_000;

export const takeWindow = (state: ServiceState, message: Observe, now: number): void => {
  const counted = Math.floor(message.at / 1000);
  const serverSeen = message.edges.some(
    (edge) => edge.side === "inbound-server" && (edge.protocols.length > 0 || edge.pending > 0),
  );
  const span = message.span ?? 1;
  noteSpan(state, span, counted, now);
  if (serverSeen) takeBack(state, counted, span);
  const useClients = !state.views.isSeen(counted);
  const sli = cleared(ownIndicator);
  const clients = useClients ? cleared(clientsIndicator) : null;
  const taken: Taken = { message, sli, clients, mayComeLate: state.marks.mayComeLate(message.agent) };
  state.changed = true;
  if (message.at < now - LATE_MS) {
    for (const instance of message.instances) missedInstance(state, message, instance);
    for (const window of message.edges) {
      const edge = edgeOf(state, window.side, window.peer, now);
      if (edge.activeByAgent.get(message.agent) === undefined) countActive(edge, message.agent, window.active);
      countEdge(state, edge, window, taken);
    }
    return enter(state, taken, now);
  }
  const at = Math.min(now + 1_000, message.at);
  const second = Math.floor(at / 1000);
  state.series.advance(second);
  state.live.advance(second);
  for (const instance of message.instances) takeInstance(state, message, instance, second, now);
  for (const event of message.events) {
    state.events.push(event);
    if (state.events.length > EVENTS_KEPT) state.events.shift();
    const instance = instanceOf(state, message.agent, event.instance);
    if (instance === undefined) continue;
    if (event.kind !== "oom" && event.kind !== "overflow") instance.up = event.kind === "start";
    countMemory(state, instance);
  }
  for (const absent of message.absent ?? []) (state.dns ??= new DnsWindow()).addAbsent(absent, at);
  for (const mount of message.mounts ?? []) (state.space ??= new DiskSpace()).add(message.agent, mount, at);
  for (const window of message.edges) takeEdge(state, window, second, now, taken);
  judge(state, taken, second, at, now);
};

/** Percentiles of the newest second with requests: read from all its windows at once, not with each of them. */
export const settlePercentiles = (state: ServiceState): void => {
  const { percentilesDue: due, live } = state;
  if (due === null) return;
  state.percentilesDue = null;
  const { p50Ms, p95Ms, p99Ms } = state.traffic.traffic(due.second);
  live.setOver(due.second, due.span, "p50Ms", p50Ms ?? 0);
  live.setOver(due.second, due.span, "p95Ms", p95Ms ?? 0);
  live.setOver(due.second, due.span, "p99Ms", p99Ms ?? 0);
};

/** The server was seen in that second: what its clients had added to it and the next ones is counted no more. */
const takeBack = (state: ServiceState, second: number, span: number): void => {
  for (const { at, total, bad, slow, histogram } of state.views.see(second, span)) {
    state.minutes.correct(at, -total, -bad, -slow, histogram);
    state.ledger.correct(at, -total, -bad, -slow);
  }
};

const newIndicator = (): Indicator => ({
  total: 0,
  bad: 0,
  slow: 0,
  histogram: new Uint32Array(HISTOGRAM_BUCKETS),
  from: HISTOGRAM_BUCKETS,
  to: 0,
});
/** One window is counted at a time, and nothing keeps it. */
const ownIndicator = newIndicator();
const clientsIndicator = newIndicator();

const cleared = (indicator: Indicator): Indicator => {
  if (indicator.from < indicator.to) indicator.histogram.fill(0, indicator.from, indicator.to);
  indicator.total = indicator.bad = indicator.slow = indicator.to = 0;
  indicator.from = HISTOGRAM_BUCKETS;
  return indicator;
};

/** One window on its way into the figures. */
interface Taken {
  readonly message: Observe;
  readonly sli: Indicator;
  /** the part of it that only clients saw; null: their requests do not count */
  readonly clients: Indicator | null;
  readonly mayComeLate: boolean;
}

interface Indicator extends Sums {
  total: number;
  bad: number;
  slow: number;
  from: number;
  to: number;
}

const takeInstance = (
  state: ServiceState,
  message: Observe,
  window: InstanceWindow,
  second: number,
  now: number,
): void => {
  const seconds = Math.max(0.001, message.seconds);
  const span = message.span ?? 1;
  const cpuCores = window.cpuMs / 1000 / seconds;
  const throttledRatio = Math.min(1, window.throttledMs / 1000 / seconds);
  const instance = instanceOf(state, message.agent, window.instance) ?? newInstance(state, message, window);
  instance.last = window;
  instance.span = span;
  instance.up = window.processes > 0;
  instance.seenAt = now;
  instance.cpuCores = cpuCores;
  instance.throttledRatio = throttledRatio;
  instance.restarts += window.restarts;
  instance.oomKills += window.oomKills;
  countMemory(state, instance);
  state.series.addOver(second, span, "cpuMs", window.cpuMs);
  state.series.addOver(second, span, "throttledMs", window.throttledMs);
  state.series.addOver(second, span, "ioWaitMs", window.ioWaitMs);
  if ((window.ios ?? 0) + (window.syncs ?? 0) > 0) (state.io ??= new IoWindow()).add(second, window);
  if (window.memoryLimit > 0) state.series.addOver(second, span, "memoryRatio", window.memory / window.memoryLimit);
  state.live.addOver(second, span, "cpuCores", cpuCores);
  state.live.addOver(second, span, "throttledRatio", throttledRatio);
  state.live.setOver(second, span, "memoryBytes", state.memoryBytes);
};

const newInstance = (state: ServiceState, message: Observe, window: InstanceWindow): InstanceState => {
  const made: InstanceState = {
    agent: message.agent,
    last: window,
    up: false,
    seenAt: Number.NEGATIVE_INFINITY,
    cpuCores: 0,
    throttledRatio: 0,
    restarts: 0,
    oomKills: 0,
    span: message.span ?? 1,
    countedMemory: 0,
  };
  addInstance(state, made);
  return made;
};

/** Agents say of an instance what changed: a window that comes late may be the last one that tells of it. */
const missedInstance = (state: ServiceState, message: Observe, window: InstanceWindow): void => {
  const instance = instanceOf(state, message.agent, window.instance) ?? newInstance(state, message, window);
  instance.restarts += window.restarts;
  instance.oomKills += window.oomKills;
  if (message.at < instance.seenAt) return;
  instance.last = window;
  instance.up = window.processes > 0;
  instance.seenAt = message.at;
  countMemory(state, instance);
};

const countActive = (edge: EdgeState, agent: string, active: number): void => {
  const before = edge.activeByAgent.get(agent) ?? 0;
  if (before === active) return;
  edge.activeByAgent.set(agent, active);
  edge.active += active - before;
};

const takeEdge = (state: ServiceState, window: EdgeWindow, second: number, now: number, taken: Taken): void => {
  const { message } = taken;
  const span = message.span ?? 1;
  const edge = edgeOf(state, window.side, window.peer, now);
  const { series } = edge;
  series.advance(second);
  recall(state, edge);
  let requests = 0;
  let bad = 0;
  for (const { ok, rejected, failed, unanswered, unknown } of window.protocols) {
    requests += ok + rejected + failed + unanswered + unknown;
    bad += failed + unanswered;
  }
  if (requests + window.opens + window.failedConnects + window.bytesIn + window.bytesOut + window.active > 0)
    edge.lastSeen = now;
  countActive(edge, message.agent, window.active);
  const seconds = Math.max(0.001, message.seconds);
  edge.connects = window.opens / seconds;
  edge.failedConnects = window.failedConnects / seconds;
  edge.troubles = troublesOf(window, seconds);
  edge.retransmits = window.retransmits / seconds;
  edge.bytesOut = window.bytesOut / seconds;
  edge.bytesIn = window.bytesIn / seconds;
  edge.rateAt = now;
  edge.rateSpan = span;
  if (window.rttCount > 0) edge.rttMs = window.rttUs / window.rttCount / 1000;
  series.addOver(second, span, "count", requests);
  series.addOver(second, span, "failed", bad);
  series.addOver(second, span, "failedConnects", window.failedConnects);
  series.addOver(second, span, "opens", window.opens);
  series.addOver(second, span, "retransmits", window.retransmits);
  series.addOver(second, span, "pending", window.pending);
  series.addOver(second, span, "pendingSum", window.pending);
  series.addOver(second, span, "oldestMs", window.oldestMs);
  for (const protocol of window.protocols) {
    edge.traffic.add(second, protocol, span);
    if (protocol.protocol === DNS && window.side === "outbound") (state.dns ??= new DnsWindow()).add(second, protocol);
    series.addOver(second, span, "sumMs", protocol.sumUs / 1000);
  }
  if (window.failedConnects > 0) edge.traffic.addFailedConnects(second, window.failedConnects, span);
  edge.traffic.gauges(second, window.pending, window.oldestMs);
  if (countEdge(state, edge, window, taken)) showRequests(state, window, second, span);
  if (failedFor(state, window) > 0) state.traffic.addFailedConnects(second, window.failedConnects, span);
};

/** Connects of clients that failed count always: who cannot be reached sees none of them. */
const failedFor = (state: ServiceState, window: EdgeWindow): number =>
  window.side === "inbound-client" && window.peer !== state.id ? window.failedConnects : 0;

/** What the edge adds to the service's own indicator; false when its requests are not part of it. */
const countEdge = (state: ServiceState, edge: EdgeState, window: EdgeWindow, taken: Taken): boolean => {
  const { sli, clients } = taken;
  for (const { protocol } of window.protocols) noteProtocol(state, edge, protocol);
  const failed = failedFor(state, window);
  sli.total += failed;
  sli.bad += failed;
  const client = window.side === "inbound-client";
  if (!(window.side === "inbound-server" || (client && clients !== null)) || window.peer === state.id) {
    if (client) wait(state, edge, taken, 0, 0);
    return false;
  }
  const { total: totalBefore, bad: badBefore, slow: slowBefore } = sli;
  const threshold = latencyThreshold(state);
  let slow = 0;
  for (const protocol of window.protocols) {
    // a status that nobody could read is no evidence, neither good nor bad
    if (protocol.protocol === 0 || protocol.unknown > 0) continue;
    sli.total += protocol.ok + protocol.rejected + protocol.failed + protocol.unanswered;
    sli.bad += protocol.failed + protocol.unanswered;
    addSparse(sli, protocol.histogram);
    if (client && clients !== null) addSparse(clients, protocol.histogram);
    slow += countSlowerOf(protocol.histogram, threshold);
  }
  // Requests that have waited too long already are slow, whatever they end as; each counts once. How many of the pending
  // ones are that old is estimated from the oldest, as if they had arrived evenly.
  const stuck =
    window.oldestMs > threshold ? Math.max(1, Math.round(window.pending * (1 - threshold / window.oldestMs))) : 0;
  wait(state, edge, taken, slow, stuck);
  if (client && clients !== null) {
    clients.total += sli.total - totalBefore;
    clients.bad += sli.bad - badBefore;
    clients.slow += sli.slow - slowBefore;
  }
  return true;
};

const addSparse = (into: Indicator, sparse: readonly number[]): void => {
  const { histogram } = into;
  for (let i = 0; i + 1 < sparse.length; i += 2) {
    const bucket = sparse[i] ?? 0;
    histogram[bucket] = (histogram[bucket] ?? 0) + (sparse[i + 1] ?? 0);
    if (bucket < into.from) into.from = bucket;
    if (bucket >= into.to) into.to = bucket + 1;
  }
};

/** Counts the slow ones among those that ended, and those that are seen to wait too long for the first time. */
const wait = (state: ServiceState, edge: EdgeState, taken: Taken, slow: number, stuck: number): void => {
  const { message, sli, mayComeLate } = taken;
  const { agent, window, at: windowAt } = message;
  let waits = edge.waits.get(agent);
  if (waits === undefined) {
    if (stuck === 0 && !mayComeLate) {
      sli.slow += slow;
      return;
    }
    waits = new Waits();
    edge.waits.set(agent, waits);
  }
  const was = waits.now;
  if (!mayComeLate) waits.close();
  waits.take(window, windowAt, slow, stuck, (at, total, moreSlow) => {
    if (at === windowAt) {
      sli.total += total;
      sli.slow += moreSlow;
    } else if (hasSlo(state) && (total !== 0 || moreSlow !== 0)) {
      state.minutes.correct(at, total, 0, moreSlow, []);
      state.ledger.correct(at, total, 0, moreSlow);
    }
  });
  countStuck(state, edge, waits.now - was);
  if (!mayComeLate && waits.now === 0) edge.waits.delete(agent);
};

const showRequests = (state: ServiceState, window: EdgeWindow, second: number, span: number): void => {
  for (const protocol of window.protocols) {
    if (protocol.protocol === 0) continue;
    state.traffic.add(second, protocol, span);
    state.series.addOver(second, span, "sumMs", protocol.sumUs / 1000);
  }
  state.traffic.gauges(second, window.pending, window.oldestMs);
  state.series.addOver(second, span, "pending", window.pending);
  state.series.addOver(second, span, "pendingSum", window.pending);
  state.series.addOver(second, span, "oldestMs", window.oldestMs);
};

/** Into the ledger, and the minute that it belongs to. */
const NO_SUMS: Sums = newIndicator();

const enter = (state: ServiceState, { message, sli, clients }: Taken, now: number): void => {
  if (message.edges.every((edge) => edge.side === "outbound")) return;
  if (!hasSlo(state)) {
    // In the number of the minute's windows all the same: an actor that goes on may have its objective by then.
    state.minutes.add(message.at, now, NO_SUMS);
    return;
  }
  state.ledger.add(message.at, sli.total, sli.bad, sli.slow);
  if (!state.minutes.add(message.at, now, sli)) state.tooOld++;
  else if (clients !== null) state.views.use(message.at, clients);
};

const judge = (state: ServiceState, taken: Taken, second: number, at: number, now: number): void => {
  const { message, sli } = taken;
  const span = message.span ?? 1;
  state.live.addOver(second, span, "requests", sli.total / Math.max(1, message.seconds));
  state.live.addOver(second, span, "errors", sli.bad / Math.max(1, message.seconds));
  const due = state.percentilesDue;
  if (sli.total > 0 && (due === null || second >= due.second)) {
    if (due !== null && second > due.second) settlePercentiles(state);
    state.percentilesDue = { second, span: Math.max(span, due?.second === second ? due.span : 0) };
  }
  state.live.set(second, "pending", state.traffic.pending(second));
  state.series.addOver(second, span, "count", sli.total);
  state.series.addOver(second, span, "failed", sli.bad);
  state.series.addOver(second, span, "slow", sli.slow);
  if (sli.total > 0) state.lastRequestAt = now;
  if (sli.bad + sli.slow > 0) state.lastBadAt = now;
  enter(state, taken, now);
  if (!hasSlo(state)) return;
  if (state.phase !== "ok") {
    state.sinceOnset.total += sli.total;
    state.sinceOnset.bad += Math.min(sli.total, sli.bad + sli.slow);
  }
  const start = at - message.seconds * 1000;
  const { slo } = state.argument;
  const stuck = state.stuck > 0;
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
  if (total <= 0 && !(stuck && sli.recovery !== 0)) return sli;
  const usual = rates(objective, sli.usualTotal >= 200 ? sli.usualBad / sli.usualTotal : 0);
  return {
    ...sli,
    test: observeTest(sli.test, usual, total, bad, start),
    recovery: stuck ? 0 : observeRecovery(sli.recovery, byBurn ? rates(objective, 0) : usual, total, bad),
  };
};
