/**
 * One discovered service: its instances, edges, windows, SLO state and inspections.
 *
 * Spawned by the topology actor when the service is first seen; told windows by agent sessions, asked by the root-cause
 * coordinator and the page; tells the incident desk what it decides. A failure or a move loses derived state only: windows
 * fill again within minutes, ledger and baselines are read back from the store; what it must not lose is in snapshot.ts. It retires
 * when nobody has seen the service for long.
 */
import { send, type ActorEffect, type Behavior } from "../../runtime/actor/Behavior.ts";
import { sessionPath, type Threshold } from "../agent-session/messages.ts";
import { rows } from "../rows.ts";
import { TOPOLOGY, type Retired } from "../topology/messages.ts";
import { anomalyReport } from "./anomaly.ts";
import { BASELINES_PORT, edgeMinutes, recallOwn, takeBaselines } from "./baselines.ts";
import { inspect, watch } from "./inspections/inspect.ts";
import {
  INCIDENT_DESK,
  servicePath,
  together,
  type Noticed,
  type Observe,
  type ServiceArgument,
  type ServiceEvent,
  type ServiceMessage,
  type Started,
} from "./messages.ts";
import type { LedgerMinute } from "./ledger.ts";
import { MINUTE_MS } from "./minutes.ts";
import { settlePercentiles, takeWindow } from "./observe.ts";
import { decide, decideBurn, restate, resume } from "./phases.ts";
import {
  countStuck,
  dropEdge,
  dropInstance,
  EDGE_EXPIRES_MS,
  hasSlo,
  INSTANCE_EXPIRES_MS,
  isFresh,
  isShown,
  latencyThreshold,
  newState,
  type ServiceState,
} from "./state.ts";
import { restore, SNAPSHOT_VERSION, snapshotOf, type Snapshot } from "./snapshot.ts";
import { card, consoleView, mapEdges, page } from "./view.ts";

/** Units and containers come back after a night; programs that a person ran, and addresses outside, are soon forgotten. */
const RETIRE_AFTER_MS = { lasting: 24 * 3600 * 1000, passing: 15 * 60_000 } as const;
const IDLE_AFTER_MS = 3_000;
const SETTLING_MINUTES = 2;
const POINT_S = 10;
/** As far as a series by second reaches. */
const POINTS_BEHIND = 4;
const SCRAPE_DELAY_S = 3;
/** windows of an agent */
const THRESHOLD_EVERY = 10;
/** So often the desk is told again what it was told. */
const REPEAT_EVERY_S = 5;
const SNAPSHOT_EVERY_S = 60;
/** Minutes younger than this are counted from windows, which agents may send again; what the store has is looked at then. */
const SENT_AGAIN_MS = 5 * MINUTE_MS;
/** Usual shares halve in an hour. */
const DECAY_PER_MINUTE = 0.5 ** (1 / 60);

export const serviceActor: Behavior<ServiceState, ServiceMessage, ServiceArgument> = {
  kind: "service",
  // Three minutes of windows may come again at once, from several agents.
  mailbox: 1_024,
  messages: {
    observe: { merge: together },
    "agent-lost": "refuse",
    anomaly: "refuse",
    page: "refuse",
    resume: "refuse",
    tick: "refuse",
    reply: "refuse",
  },
  ticks: true,
  initial: (_path, argument, now, snapshot) => {
    const state = newState(argument, now);
    state.keptTurn = turnOf(state, now);
    if (snapshot !== undefined) restore(state, snapshot as Snapshot, now);
    const started: Started = { type: "started", service: argument.id };
    return argument.kind === "External"
      ? [state, []]
      : [
          state,
          [
            { kind: "perform", port: "ledger", request: argument.id, tag: "ledger" },
            { kind: "perform", port: BASELINES_PORT, request: argument.id, tag: BASELINES_PORT },
            send(INCIDENT_DESK, started),
          ],
        ];
  },
  step: (state, message, now) => {
    switch (message.type) {
      case "observe": {
        const effects = observed(state, message, now);
        for (const one of message.more ?? []) effects.push(...observed(state, one, now));
        return [state, effects];
      }
      case "tick":
        return [state, everySecond(state, now)];
      case "anomaly":
        return [state, [{ kind: "reply", value: anomalyReport(state, message.onset, now) }]];
      case "page":
        settlePercentiles(state);
        return [state, [{ kind: "reply", value: page(state, inspect(state, now), now) }]];
      case "agent-lost":
        agentLost(state, message.agent, now);
        return [state, []];
      case "resume":
        resume(state, now);
        return [state, [{ kind: "reply", value: true }]];
      case "reply":
        if (message.tag === "ledger" && message.result.ok) takeLedger(state, message.result.value, now);
        if (message.tag === BASELINES_PORT && message.result.ok) takeBaselines(state, message.result.value);
        return [state, []];
    }
  },
  owned: {
    version: SNAPSHOT_VERSION,
    migrate: (version) => {
      throw new Error(`a service's snapshot of version ${version}, expected ${SNAPSHOT_VERSION}`);
    },
  },
  shows: {
    services: (state, now) => (isShown(state, now) ? card(state, inspect(state, now), now) : null),
    edges: (state, now) => (isShown(state, now) ? mapEdges(state, now) : null),
  },
  inspect: consoleView,
};

const observed = (state: ServiceState, message: Observe, now: number): ActorEffect[] => {
  if (!state.marks.isNew(message.agent, message.epoch, message.window)) {
    state.duplicates++;
    return [];
  }
  takeWindow(state, message, now);
  const effects = deciding(state, now);
  // our agents make spans of slow requests; said again now and then, to whoever has the session by then
  if (message.span === undefined && message.window % THRESHOLD_EVERY === 0) effects.push(told(state, message.agent));
  for (const event of message.events) {
    const row = { ts: event.at, service: state.id, kind: event.kind, text: event.text, json: JSON.stringify(event) };
    effects.push(rows("events", [row]));
    if (event.kind !== "start" || state.phase !== "ok") effects.push(send(INCIDENT_DESK, noticed(state, event)));
  }
  return effects;
};

const told = (state: ServiceState, agent: string): ActorEffect => {
  const threshold: Threshold = { type: "threshold", service: state.id, slowMs: latencyThreshold(state) };
  return send(sessionPath(agent), threshold);
};

const retired = (state: ServiceState): Retired => ({ type: "retired", service: state.id });

const noticed = (state: ServiceState, event: ServiceEvent): Noticed => ({
  type: "noticed",
  service: state.id,
  at: event.at,
  text: event.text,
});

const everySecond = (state: ServiceState, now: number): ActorEffect[] => {
  const second = Math.floor(now / 1000) - 1;
  state.series.advance(second);
  recallOwn(state);
  state.live.advance(second);
  settlePercentiles(state);
  const effects = deciding(state, now);
  if (state.phase !== "ok" && second % REPEAT_EVERY_S === 0) effects.push(...restate(state, now));
  effects.push(...closeMinutes(state, now));
  effects.push(...edgeMinutes(state, now));
  if (state.changed && turnOf(state, now) > state.keptTurn) effects.push(keep(state, now));
  effects.push(...closePoint(state, now));
  if (state.inStore.length > 0) {
    for (const minute of state.inStore) if (minute.minuteMs <= now - SENT_AGAIN_MS) addMissing(state, minute);
    state.inStore = state.inStore.filter(({ minuteMs }) => minuteMs > now - SENT_AGAIN_MS);
  }
  expire(state, now);
  // Looked at each second, whoever looks: a condition must have lasted before it is told.
  watch(state, now);
  const lastSeen = Math.max(state.since, ...[...state.instances.values()].map((i) => i.seenAt), state.lastRequestAt);
  const passing = state.argument.kind === "Process" || state.argument.kind === "External";
  const retireAfter = passing ? RETIRE_AFTER_MS.passing : RETIRE_AFTER_MS.lasting;
  if (state.edges.size === 0 && state.instances.size === 0 && now - lastSeen > retireAfter)
    return [send(TOPOLOGY, retired(state)), { kind: "stop", path: servicePath(state.id) }];
  return effects;
};

/** A decision that an actor elsewhere must go on from is kept with it. */
const deciding = (state: ServiceState, now: number): ActorEffect[] => {
  const before = state.phase;
  const effects = decide(state, now);
  return state.phase === before ? effects : [...effects, keep(state, now)];
};

/** Each service has a second of its own in which the next minute of its snapshots begins. */
const turnOf = (state: ServiceState, now: number): number =>
  Math.floor((Math.floor(now / 1000) - state.slot) / SNAPSHOT_EVERY_S);

const keep = (state: ServiceState, now: number): ActorEffect => {
  state.changed = false;
  state.keptTurn = turnOf(state, now);
  return { kind: "snapshot", value: snapshotOf(state, now) };
};

const closeMinutes = (state: ServiceState, now: number): ActorEffect[] => {
  const due = state.minutes.due(state.id, now, state.views);
  const effects: ActorEffect[] = due.length > 0 ? [rows("sli_minutes", due)] : [];
  const ended = state.minutes.ended(now);
  if (ended.length === 0) return effects;
  if (state.phase === "ok") state.settling.push(...ended);
  while (state.settling.length > SETTLING_MINUTES) {
    // Read only now: windows that were late are in it.
    const settled = state.minutes.of(state.settling.shift() ?? 0);
    if (settled !== null) learnUsual(state, settled);
  }
  return [...effects, ...decideBurn(state, now)];
};

/** One each second at most. A point whose seconds scrapes have yet to tell of waits for them. */
const closePoint = (state: ServiceState, now: number): ActorEffect[] => {
  const late = state.span > 1 ? state.span + SCRAPE_DELAY_S : 0;
  const due = Math.floor((now / 1000 - late) / POINT_S);
  if (due <= state.pointAt) return [];
  state.pointAt = Math.max(state.pointAt + 1, due - POINTS_BEHIND);
  if (!hasSlo(state) && state.instances.size === 0) return [];
  const last = state.pointAt * POINT_S - 1;
  const totals = state.series.totals(last - POINT_S + 1, last);
  const traffic = state.traffic.traffic(Math.floor(now / 1000) - 1);
  const up = [...state.instances.values()].filter((instance) => instance.up);
  return [
    rows("sli_points", [
      {
        service: state.id,
        ts: (state.pointAt - 1) * POINT_S * 1000,
        requests: totals.count,
        errors: totals.failed,
        p50: traffic.p50Ms,
        p95: traffic.p95Ms,
        p99: traffic.p99Ms,
        cpu: up.length === 0 ? null : up.reduce((n, i) => n + i.cpuCores, 0),
        memory: up.length === 0 ? null : up.reduce((n, i) => n + i.last.memory, 0),
      },
    ]),
  ];
};

const expire = (state: ServiceState, now: number): void => {
  // By then every edge that it had has come again, or would have expired.
  if (now - state.since > EDGE_EXPIRES_MS) {
    state.hadSlo = false;
    state.past = null;
  }
  for (const edge of state.edges.values())
    if (now - edge.lastSeen > EDGE_EXPIRES_MS && edge.active === 0) dropEdge(state, edge);
  for (const instance of state.instances.values()) {
    // Only changes are sent: silence means that nothing was used.
    if (!isFresh(instance.seenAt, instance.span, now, IDLE_AFTER_MS)) {
      instance.cpuCores = 0;
      instance.throttledRatio = 0;
    }
    if (!instance.up && now - instance.seenAt > INSTANCE_EXPIRES_MS) dropInstance(state, instance);
  }
  state.space?.forget(now);
};

const agentLost = (state: ServiceState, agent: string, now: number): void => {
  state.space?.forget(now, agent);
  for (const instance of state.instances.values()) if (instance.agent === agent) dropInstance(state, instance);
  for (const edge of state.edges.values()) {
    edge.activeByAgent.delete(agent);
    edge.active = [...edge.activeByAgent].reduce((n, [, active]) => n + active, 0);
    countStuck(state, edge, -(edge.waits.get(agent)?.now ?? 0));
    edge.waits.delete(agent);
  }
};

const fold = (usual: number, value: number): number => usual * DECAY_PER_MINUTE + value;

const learnUsual = (state: ServiceState, { total, bad, slow }: Pick<LedgerMinute, "total" | "bad" | "slow">): void => {
  const { availability, latency } = state;
  const usualBad = fold(availability.usualBad, bad);
  const usualTotal = fold(availability.usualTotal, total);
  state.availability = { ...availability, usualBad, usualTotal };
  state.latency = {
    ...latency,
    usualBad: fold(latency.usualBad, slow),
    usualTotal: fold(latency.usualTotal, total),
  };
};

/** What the store has of this service. Its last minutes wait: until then agents may send their windows again. */
const takeLedger = (state: ServiceState, value: unknown, now: number): void => {
  if (!Array.isArray(value)) return;
  for (const minute of value as readonly LedgerMinute[]) {
    if (minute.minuteMs > now - SENT_AGAIN_MS) {
      state.inStore = [...state.inStore, minute];
      continue;
    }
    addMissing(state, minute);
    // A snapshot knows what is usual from its own minutes.
    if (!state.learnt) learnUsual(state, minute);
  }
};

/** What the store knows of a minute beyond what is counted here: its windows have come to an actor before this one only. */
const addMissing = (state: ServiceState, { minuteMs, total, bad, slow }: LedgerMinute): void => {
  const counted = state.ledger.minute(minuteMs);
  if (counted.total < total)
    state.ledger.add(minuteMs, total - counted.total, Math.max(0, bad - counted.bad), Math.max(0, slow - counted.slow));
};
