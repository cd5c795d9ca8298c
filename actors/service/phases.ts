/**
 * From figures to decisions: ok → suspicion → incident → recovering → ok, and what the incident desk is told on the way.
 *
 * Suspicion: a sequential test alarmed (sequential.ts), or a critical burn rule fires while requests are bad now.
 * Incident: the suspicion outlived the hold time, counted from the estimated onset; five seconds are enough with hard
 * evidence (an OOM kill, a crash loop, no instance left) beside failed requests.
 * The end: both tests say that the service is back, and it stayed so for a while; one good sample closes nothing.
 */
import type { ActorEffect } from "../../runtime/actor/Behavior.ts";
import { send } from "../../runtime/actor/Behavior.ts";
import { BURN_RULES, burn, type BurnRule } from "./ledger.ts";
import { INCIDENT_DESK, type DeskReport } from "./messages.ts";
import { ALARM, quiet, RECOVERED } from "./sequential.ts";
import { hasSlo, instancesUp, latencyThreshold, toldTo, type Phase, type ServiceState } from "./state.ts";

const HARD_EVIDENCE_HOLD_MS = 5_000;
const HARD_EVIDENCE_WITHIN_MS = 30_000;
const STILL_BAD_MS = 5_000;
export const RECOVERY_HOLD_MS = 20_000;
const NO_TRAFFIC_SUSPICION_MS = 60_000;
const NO_TRAFFIC_INCIDENT_MS = 5 * 60_000;

const tell = (report: DeskReport): ActorEffect => send(INCIDENT_DESK, report);

const enter = (state: ServiceState, phase: Phase, now: number): void => {
  state.phase = phase;
  state.phaseSince = now;
};

/** What speaks for a fault without counting requests, or null. */
export const hardEvidence = (state: ServiceState, now: number): string | null => {
  const since = now - HARD_EVIDENCE_WITHIN_MS;
  const recent = state.events.filter((event) => event.at >= since);
  if (recent.some((event) => event.kind === "oom")) return "killed for lack of memory";
  if (recent.filter((event) => event.kind === "exit").length >= 2 && recent.some((event) => event.kind === "start"))
    return "restarting again and again";
  if (state.instances.size > 0 && instancesUp(state) === 0) return "no instance is running";
  return null;
};

export interface BurnState extends BurnRule {
  readonly objective: "availability" | "latency";
  readonly longBurn: number | null;
  readonly shortBurn: number | null;
  readonly firing: boolean;
}

export const burnRates = (state: ServiceState, now: number): BurnState[] =>
  (["availability", "latency"] as const).flatMap((objective) =>
    BURN_RULES.map((rule) => {
      const target =
        objective === "availability" ? state.argument.slo.availabilityObjective : state.argument.slo.latencyObjective;
      const rate = (windowMs: number): number | null => {
        const spent = state.ledger.spent(now, windowMs);
        return burn(spent, objective === "availability" ? spent.bad : spent.slow, target);
      };
      const longBurn = rate(rule.longMs);
      const shortBurn = rate(rule.shortMs);
      const firing = longBurn !== null && shortBurn !== null && longBurn > rule.threshold && shortBurn > rule.threshold;
      return { ...rule, objective, longBurn, shortBurn, firing };
    }),
  );

const percent = (ratio: number): string => `${(ratio * 100).toFixed(ratio < 0.1 ? 1 : 0)} %`;

const symptom = (state: ServiceState): string => {
  const failing = state.availability.test.sum > ALARM;
  const slow = state.latency.test.sum > ALARM;
  const to = toldTo(state);
  const totals = state.series.totals(to - Math.max(10, state.span) + 1, to);
  const parts: string[] = [];
  if (failing || !slow)
    parts.push(`${percent(totals.count === 0 ? 0 : totals.failed / totals.count)} of requests fail`);
  if (slow) parts.push(`requests take longer than ${latencyThreshold(state)} ms`);
  return parts.join(", ");
};

/**
 * A scrape does not say when in its seconds it began: only from its end on is it known to last. So bad requests of one
 * scrape alone open nothing, and the next one decides.
 */
const vagueness = ({ span }: ServiceState): number => (span - 1) * 1_000;

/** Called after each window and each second. */
export const decide = (state: ServiceState, now: number): ActorEffect[] => {
  if (!hasSlo(state)) return [];
  const id = state.id;
  const alarmed = state.availability.test.sum > ALARM || state.latency.test.sum > ALARM;
  const back = state.availability.recovery >= RECOVERED && state.latency.recovery >= RECOVERED;
  const silentFor = now - state.lastRequestAt;
  switch (state.phase) {
    case "ok": {
      if (!alarmed) return [];
      const zeros = [state.availability.test, state.latency.test].filter((test) => test.sum > ALARM);
      state.onset = Math.min(...zeros.map((test) => test.zeroAt));
      state.suspectText = symptom(state);
      state.byBurn = false;
      const { total, bad } = sinceOnset(state);
      state.sinceOnset = { total, bad };
      state.availability = { ...state.availability, recovery: 0 };
      state.latency = { ...state.latency, recovery: 0 };
      enter(state, "suspicion", now);
      return [tell({ type: "suspect", service: id, onset: state.onset, text: state.suspectText })];
    }
    case "suspicion": {
      if (back) return clear(state, now, "back within its objective before the hold time was over");
      if (silentFor > NO_TRAFFIC_SUSPICION_MS) return clear(state, now, "no requests any more");
      const hard = hardEvidence(state, now);
      const hold =
        hard === null ? state.argument.slo.holdMs : Math.min(HARD_EVIDENCE_HOLD_MS, state.argument.slo.holdMs);
      if (now - state.onset < hold + vagueness(state) || now - state.lastBadAt > STILL_BAD_MS) return [];
      enter(state, "incident", now);
      state.suspectText = symptom(state);
      state.severity = "critical";
      const text = confirmText(state, now);
      return [tell({ type: "confirm", service: id, onset: state.onset, severity: "critical", text }), impact(state)];
    }
    case "incident":
      if (silentFor > NO_TRAFFIC_INCIDENT_MS) return clear(state, now, "no requests for five minutes");
      if (!back) return [];
      enter(state, "recovering", now);
      return [tell({ type: "recovering", service: id, onset: state.onset, text: RECOVERING })];
    case "recovering":
      if (!back && Math.min(state.availability.recovery, state.latency.recovery) < RECOVERED / 2) {
        enter(state, "incident", now);
        return [];
      }
      if (now - state.phaseSince < RECOVERY_HOLD_MS) return [];
      return clear(state, now, `within its objective for ${RECOVERY_HOLD_MS / 1000} s`);
  }
};

/** What the desk was told last, said again: a desk that took over may not know of it. */
export const restate = (state: ServiceState, now: number): ActorEffect[] => {
  const { id: service, onset, suspectText } = state;
  if (!hasSlo(state)) return [];
  switch (state.phase) {
    case "ok":
      return [];
    case "suspicion":
      return [tell({ type: "suspect", service, onset, text: suspectText })];
    case "incident":
      return [
        tell({ type: "confirm", service, onset, severity: state.severity, text: confirmText(state, now) }),
        impact(state),
      ];
    case "recovering":
      return [tell({ type: "recovering", service, onset, text: RECOVERING })];
  }
};

const RECOVERING = "requests are good again";

const confirmText = (state: ServiceState, now: number): string => {
  const hard = hardEvidence(state, now);
  return hard === null ? state.suspectText : `${state.suspectText}; ${hard}`;
};

/** Once a minute: a slow burn that the fast rule does not see. */
export const decideBurn = (state: ServiceState, now: number): ActorEffect[] => {
  if (!hasSlo(state) || state.phase !== "ok") return [];
  const { slo } = state.argument;
  const minute = state.ledger.spent(now, 60_000);
  for (const rate of burnRates(state, now)) {
    if (!rate.firing || minute.total === 0) continue;
    const allowed = 1 - (rate.objective === "availability" ? slo.availabilityObjective : slo.latencyObjective);
    const ratioNow = (rate.objective === "availability" ? minute.bad : minute.slow) / minute.total;
    if (ratioNow <= allowed) continue;
    state.onset = now - rate.shortMs;
    state.byBurn = true;
    state.severity = rate.severity;
    state.suspectText = `error budget burns ${rate.longBurn?.toFixed(1)} times too fast over ${rate.long} (${rate.objective})`;
    state.sinceOnset = { total: minute.total, bad: Math.min(minute.total, minute.bad + minute.slow) };
    state.availability = { ...state.availability, recovery: 0 };
    state.latency = { ...state.latency, recovery: 0 };
    enter(state, "incident", now);
    const { onset, suspectText: text, id: service } = state;
    return [
      tell({ type: "suspect", service, onset, text }),
      tell({ type: "confirm", service, onset, severity: rate.severity, text }),
    ];
  }
  return [];
};

export const impact = (state: ServiceState): ActorEffect =>
  tell({
    type: "impact",
    service: state.id,
    ratio: state.sinceOnset.total === 0 ? 0 : state.sinceOnset.bad / state.sinceOnset.total,
  });

export const resume = (state: ServiceState, now: number): void => {
  if (state.phase !== "ok") return;
  state.onset = now;
  state.suspectText = "open since before the server's restart";
  state.sinceOnset = { total: 0, bad: 0 };
  state.lastRequestAt = now;
  enter(state, "incident", now);
};

const clear = (state: ServiceState, now: number, text: string): ActorEffect[] => {
  const last = impact(state);
  enter(state, "ok", now);
  state.availability = { ...state.availability, test: quiet(now), recovery: 0 };
  state.latency = { ...state.latency, test: quiet(now), recovery: 0 };
  return [last, tell({ type: "cleared", service: state.id, text })];
};

const sinceOnset = (state: ServiceState): { total: number; bad: number } => {
  const totals = state.series.totals(Math.floor(state.onset / 1000), state.series.latest);
  return { total: totals.count, bad: Math.min(totals.count, totals.failed + totals.slow) };
};

export const describePhase = (state: ServiceState): "none" | "ok" | "suspicion" | "incident" | "recovering" =>
  hasSlo(state) ? state.phase : "none";
