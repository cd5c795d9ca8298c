/**
 * The incident desk: the one place where incidents are opened, merged and closed. Service actors report what they
 * decide about themselves; the desk knows who calls whom, so a fault that shows in five services is one incident, named
 * after the one nearest to the users. It has the cause sought and the sinks told.
 *
 * There is one in a deployment. What it must not forget is in its snapshot (desk.ts), and alerts leave only after that is
 * written, so that a desk elsewhere goes on where this one died; services repeat what they report, so it also learns
 * what the snapshot lacks. The first alert waits at most three seconds for the cause; later findings go out as updates.
 * Symptoms that join an open incident send nothing. The store has every version of every incident, for history.
 */
import {
  send,
  type ActorEffect,
  type Behavior,
  type Message,
  type Reply,
  type Tick,
} from "../../runtime/actor/Behavior.ts";
import type { Acknowledgement, AlertPayload, Incident, Silence } from "../../schemas/incident.ts";
import { parseServiceId, serviceName, type ServiceId } from "../../schemas/service.ts";
import { rcaPath, type Explanation } from "../rca/RcaCoordinator.ts";
import { servicePath, type DeskReport, type Resume } from "../service/messages.ts";
import { TOPOLOGY, type CallsTold, type CallsWanted, type GraphEdge } from "../topology/messages.ts";
import { alert, silenceOf } from "./alerts.ts";
import { clearerThan, newCase, viewOf, type Case, type Member } from "./case.ts";
import {
  DESK_VERSION,
  incidentId,
  newDesk,
  restoreDesk,
  snapshotOf,
  type DeskArgument,
  type DeskState,
  type Snapshot,
} from "./desk.ts";
import {
  alertOpened,
  changed,
  goOn,
  investigate,
  note,
  publish,
  publishSilence,
  WAIT_FOR_CAUSE_MS,
  type AlertDue,
  type InvestigateAgain,
} from "./changes.ts";

export type { DeskArgument } from "./desk.ts";

const INVESTIGATE_AGAIN_MS = [4_000, 10_000, 20_000] as const;
const KEPT_CLOSED = 200;
/** How bad it is changes all the time: that alone is kept once a minute. */
const KEEP_FIGURES_MS = 60_000;
/** A service in trouble says so every five seconds; a suspicion that nobody repeats is over. */
const SUSPICION_LIVES_MS = 60_000;
/** A member that has not answered for this long is gone, and keeps no incident open. */
const GONE_AFTER_MS = 10 * 60_000;

/** Open and recent incidents from the store, once it is up. */
export interface Recovered extends Message {
  readonly type: "recovered";
  readonly incidents: readonly Incident[];
}
/** From a sink: this delivery arrived. */
export interface Delivered extends Message {
  readonly type: "delivered";
  readonly incident: string;
  readonly sink: string;
  readonly event: AlertPayload["event"];
  readonly durable: string;
  /** false: the receiver does not want it, or it could not be reached for a day */
  readonly taken: boolean;
}
/** Asked; answered with null, or with what is wrong. */
export interface Acknowledge extends Message {
  readonly type: "acknowledge";
  readonly incident: string;
  /** null takes an acknowledgement back */
  readonly by: Acknowledgement | null;
}
export interface AddSilence extends Message {
  readonly type: "silence";
  readonly silence: Silence;
}
export interface RemoveSilence extends Message {
  readonly type: "unsilence";
  readonly id: string;
}
export type DeskMessage =
  | DeskReport
  | GraphEdge
  | CallsTold
  | Acknowledge
  | AddSilence
  | RemoveSilence
  | Explanation
  | AlertDue
  | InvestigateAgain
  | Delivered
  | Recovered
  | Tick
  | Reply;

export const incidentDesk: Behavior<DeskState, DeskMessage, DeskArgument> = {
  kind: "incident-desk",
  mailbox: 10_000,
  messages: {
    suspect: "refuse",
    confirm: "refuse",
    recovering: "refuse",
    cleared: "refuse",
    impact: "refuse",
    noticed: "refuse",
    started: "refuse",
    graph: "refuse",
    calls: "refuse",
    acknowledge: "refuse",
    silence: "refuse",
    unsilence: "refuse",
    explained: "refuse",
    "alert-due": "refuse",
    "investigate-again": "refuse",
    delivered: "refuse",
    recovered: "refuse",
    tick: "refuse",
    reply: "refuse",
  },
  ticks: true,
  turn: "first",
  initial: (_path, argument, now, snapshot) => {
    const wanted: CallsWanted = { type: "calls-wanted" };
    const ask = send(TOPOLOGY, wanted);
    if (snapshot === undefined) return [newDesk(argument, now, true), [ask]];
    const state = restoreDesk(argument, snapshot as Snapshot, now);
    return [state, [ask, ...goOn(state, now)]];
  },
  step: (state, message, now) => {
    const effects = handle(state, message, now);
    if (!state.dirty) return [state, effects];
    state.dirty = false;
    state.keptAt = now;
    return [state, [...effects, { kind: "snapshot", value: snapshotOf(state), afterwards: state.after.splice(0) }]];
  },
  owned: {
    version: DESK_VERSION,
    migrate: (version) => {
      throw new Error(`the incident desk's snapshot is of version ${version}, expected ${DESK_VERSION}`);
    },
  },
  inspect: (state) => ({
    cases: [...state.cases.values()].map((c) => ({ ...viewOf(c), members: Object.fromEntries(c.members) })),
    closed: state.closed.size,
    resuming: Object.fromEntries(state.resuming),
    outbox: [...state.outbox.keys()],
    silences: [...state.silences.values()],
    graph: state.graph.size,
    sinks: state.argument.sinks,
  }),
};

const handle = (state: DeskState, message: DeskMessage, now: number): ActorEffect[] => {
  switch (message.type) {
    case "graph":
      if (message.gone === true) state.graph.remove(message.from, message.to);
      else state.graph.add(message.from, message.to);
      return [];
    case "calls":
      for (const [from, to] of message.calls) state.graph.add(from, to);
      return [];
    case "started": {
      const found = caseOf(state, message.service);
      const member = found?.members.get(message.service);
      if (found?.incident.status === "open" && member !== undefined && member.state !== "cleared")
        state.resuming.set(message.service, { incident: found.incident.id, since: now });
      return [];
    }
    case "suspect":
      return suspected(state, message.service, message.onset, message.text, now);
    case "confirm":
      return confirmed(state, message, now);
    case "recovering":
    case "cleared":
    case "impact":
    case "noticed":
      return noted(state, message, now);
    case "recovered":
      return recover(state, message.incidents, now);
    case "explained":
      return explained(state, message, now);
    case "alert-due":
      return alertOpened(state, state.cases.get(message.incident), now);
    case "investigate-again":
      return investigate(state, state.cases.get(message.incident));
    case "delivered":
      return delivered(state, message, now);
    case "acknowledge":
      return acknowledge(state, message, now);
    case "silence":
      state.silences.set(message.silence.id, message.silence);
      state.dirty = true;
      return [publishSilence(message.silence.id, message.silence), { kind: "reply", value: null }];
    case "unsilence": {
      const known = state.silences.delete(message.id);
      state.dirty = known;
      const value = known ? null : `there is no silence ${message.id}`;
      return [publishSilence(message.id, null), { kind: "reply", value }];
    }
    case "reply":
      if (message.result.ok) state.resuming.delete(message.tag as ServiceId);
      return [];
    case "tick":
      return [...resumeWaiting(state, now), ...look(state, now)];
  }
};

const delivered = (state: DeskState, message: Delivered, now: number): ActorEffect[] => {
  if (!state.outbox.delete(message.durable)) return [];
  state.dirty = true;
  const found = state.cases.get(message.incident);
  if (found === undefined) return [];
  const how = message.taken ? "delivered to" : "not taken by";
  note(found, now, "alert", null, `${message.event} ${how} ${message.sink}`);
  return changed(state, found);
};

const acknowledge = (state: DeskState, { incident: id, by }: Acknowledge, now: number): ActorEffect[] => {
  const found = state.cases.get(id);
  if (found === undefined) return [{ kind: "reply", value: `there is no open incident ${id}` }];
  found.incident.acknowledged = by;
  const text =
    by === null ? "not acknowledged any more" : `acknowledged by ${by.by}${by.note === "" ? "" : `: ${by.note}`}`;
  note(found, now, "event", null, text);
  return [...changed(state, found), { kind: "reply", value: null }];
};

/** Once a second: silences that ended, and suspicions that nobody repeats. */
const look = (state: DeskState, now: number): ActorEffect[] => {
  const effects: ActorEffect[] = [];
  for (const [id, { until }] of state.silences) {
    if (until > now) continue;
    state.silences.delete(id);
    state.dirty = true;
    effects.push(publishSilence(id, null));
  }
  for (const found of state.cases.values()) {
    const { incident } = found;
    if (incident.status === "suspicion" && now - found.heardAt > SUSPICION_LIVES_MS)
      effects.push(...close(state, found, "nobody suspects it any more", now));
    else if (incident.silencedUntil !== null && silenceOf(state, found, now) === null) {
      incident.silencedUntil = null;
      effects.push(...changed(state, found), ...alertOpened(state, found, now));
    }
  }
  return effects;
};

/** From the store: what a deployment that kept incidents only there had open; and the closed ones, for the page. */
const recover = (state: DeskState, incidents: readonly Incident[], now: number): ActorEffect[] => {
  const effects: ActorEffect[] = [];
  for (const incident of incidents) {
    if (state.cases.has(incident.id) || state.closed.has(incident.id)) continue;
    if (incident.status === "resolved" || incident.status === "blip") {
      state.closed.set(incident.id, incident);
      effects.push(publish(incident));
      continue;
    }
    if (!state.fresh) continue;
    const found = newCase(incident.id, incident.service, incident.onsetAt, incident.suspectedAt);
    found.incident = { ...incident, acknowledged: incident.acknowledged ?? null, silencedUntil: null };
    found.alerted = incident.timeline.some((entry) => entry.kind === "alert");
    for (const member of incident.members)
      found.members.set(member, {
        state: "confirmed",
        onset: incident.onsetAt,
        text: "open before the restart",
        impact: member === incident.service ? incident.impact : 0,
      });
    state.cases.set(incident.id, found);
    note(found, now, "event", null, "the server was restarted; the incident goes on");
    effects.push({ kind: "spawn", path: rcaPath(incident.id), behavior: "rca", argument: { incident: incident.id } });
    if (incident.status === "suspicion") {
      effects.push(...close(state, found, "the server was restarted before the hold time was over", now));
      continue;
    }
    for (const member of incident.members) state.resuming.set(member, { incident: incident.id, since: now });
    effects.push(...alertOpened(state, found, now), ...changed(state, found));
  }
  return effects;
};

const resumeWaiting = (state: DeskState, now: number): ActorEffect[] =>
  [...state.resuming].flatMap(([service, { incident, since }]) => {
    if (now - since > GONE_AFTER_MS) {
      state.resuming.delete(service);
      const text = "not seen any more";
      return state.cases.has(incident) ? noted(state, { type: "cleared", service, text }, now) : [];
    }
    const message: Resume = { type: "resume", incident };
    return [{ kind: "ask", to: servicePath(service), message, tag: service, timeoutMs: 900 } as const];
  });

const caseOf = (state: DeskState, service: ServiceId): Case | undefined => {
  for (const found of state.cases.values()) if (found.members.has(service)) return found;
  return undefined;
};

const suspected = (state: DeskState, service: ServiceId, onset: number, text: string, now: number): ActorEffect[] => {
  const member: Member = { state: "suspect", onset, text, impact: 0 };
  const own = caseOf(state, service);
  if (own !== undefined) {
    own.heardAt = now;
    const was = own.members.get(service)?.state;
    if (was === "suspect" || was === "confirmed") return [];
    own.members.set(service, member);
    return [...changed(state, own), ...investigate(state, own)];
  }
  const related = [...state.cases.values()].filter((c) => state.graph.related(service, [...c.members.keys()]));
  const [first, ...others] = related;
  if (first === undefined) return open(state, service, member, now);
  first.members.set(service, member);
  note(first, now, "joined", service, `${serviceName(service)}: ${text}`);
  const effects = others.flatMap((other) => merge(state, first, other, now));
  settle(state, first);
  return [...effects, ...changed(state, first), ...investigate(state, first)];
};

const open = (state: DeskState, service: ServiceId, member: Member, now: number): ActorEffect[] => {
  const id = incidentId(state, service, member.onset);
  const found = newCase(id, service, member.onset, now);
  found.incident.cluster = parseServiceId(service)?.cluster ?? "default";
  found.members.set(service, member);
  state.cases.set(id, found);
  note(found, member.onset, "onset", service, `first bad requests of ${serviceName(service)}`);
  note(found, now, "suspicion", service, `${serviceName(service)}: ${member.text}`);
  settle(state, found);
  return [
    { kind: "spawn", path: rcaPath(id), behavior: "rca", argument: { incident: id } },
    ...changed(state, found),
    ...investigate(state, found),
  ];
};

/** The younger case dissolves into the older one; an open one never dissolves into a suspicion. */
const merge = (state: DeskState, into: Case, from: Case, now: number): ActorEffect[] => {
  const [kept, gone] = from.incident.status === "open" && into.incident.status !== "open" ? [from, into] : [into, from];
  for (const [service, member] of gone.members) kept.members.set(service, member);
  note(kept, now, "joined", null, `joined by ${gone.incident.id}`);
  return kept === into ? close(state, gone, `part of ${kept.incident.id}`, now) : [];
};

/** Which member names the incident: the one that most others are called through, so the nearest to the users. */
const settle = (state: DeskState, found: Case): void => {
  const members = [...found.members.keys()];
  const reach = (service: ServiceId): number =>
    members.filter((other) => other !== service && state.graph.reaches(service, other)).length;
  const best = members
    .map((service) => ({ service, reach: reach(service), onset: found.members.get(service)?.onset ?? 0 }))
    .sort((a, b) => b.reach - a.reach || a.onset - b.onset)[0];
  if (best === undefined) return;
  found.incident.service = best.service;
  found.incident.onsetAt = Math.min(...[...found.members.values()].map((member) => member.onset));
};

const confirmed = (
  state: DeskState,
  { service, onset, severity, text }: Extract<DeskReport, { type: "confirm" }>,
  now: number,
): ActorEffect[] => {
  const known = caseOf(state, service);
  // A desk that took over may hear of it for the first time.
  const before = known === undefined ? suspected(state, service, onset, text, now) : [];
  const found = known ?? caseOf(state, service);
  if (found === undefined) return before;
  found.heardAt = now;
  const member = found.members.get(service);
  if (member?.state === "confirmed" && found.incident.status === "open") return before;
  found.members.set(service, { state: "confirmed", onset, text, impact: member?.impact ?? 0 });
  if (severity === "critical") found.incident.severity = "critical";
  if (found.incident.status === "open") return [...before, ...changed(state, found)];
  found.incident.status = "open";
  found.incident.openedAt = now;
  settle(state, found);
  note(found, now, "opened", service, `${serviceName(service)}: ${text}`);
  const due: AlertDue = { type: "alert-due", incident: found.incident.id };
  return [
    ...before,
    { kind: "schedule", key: `alert:${found.incident.id}`, afterMs: WAIT_FOR_CAUSE_MS, message: due },
    ...INVESTIGATE_AGAIN_MS.map((afterMs): ActorEffect => {
      const again: InvestigateAgain = { type: "investigate-again", incident: found.incident.id };
      return { kind: "schedule", key: `again:${afterMs}:${found.incident.id}`, afterMs, message: again };
    }),
    ...changed(state, found),
    ...investigate(state, found),
  ];
};

const noted = (
  state: DeskState,
  message: Extract<DeskReport, { type: "recovering" | "cleared" | "impact" | "noticed" }>,
  now: number,
): ActorEffect[] => {
  const found = caseOf(state, message.service);
  if (found === undefined && message.type === "recovering" && message.onset !== undefined) {
    // Only an incident recovers: a desk that died while its claim was in doubt may have forgotten all of it.
    const { service, onset, text } = message;
    const opened = confirmed(state, { type: "confirm", service, onset, severity: "warning", text }, now);
    return [...opened, ...noted(state, message, now)];
  }
  if (found === undefined) return [];
  const member = found.members.get(message.service);
  if (member === undefined) return [];
  const name = serviceName(message.service);
  switch (message.type) {
    case "impact":
      found.members.set(message.service, { ...member, impact: message.ratio });
      found.heardAt = now;
      if (message.service === found.incident.service) found.incident.impact = message.ratio;
      return changed(state, found, now - state.keptAt > KEEP_FIGURES_MS);
    case "noticed":
      note(found, message.at, "event", message.service, message.text);
      return [...changed(state, found), ...investigate(state, found)];
    case "recovering": {
      if (member.state === "recovering") return [];
      // Only an incident recovers: a desk that died while its claim was in doubt may have been told so and not kept it.
      const { onset, text } = member;
      const missed: DeskReport = { type: "confirm", service: message.service, onset, severity: "warning", text };
      const opened = found.incident.status === "open" ? [] : confirmed(state, missed, now);
      found.members.set(message.service, { ...member, state: "recovering" });
      note(found, now, "recovering", message.service, `${name}: ${message.text}`);
      return [...opened, ...changed(state, found)];
    }
    case "cleared": {
      found.members.set(message.service, { ...member, state: "cleared" });
      if ([...found.members.values()].some((other) => other.state !== "cleared")) return changed(state, found);
      return close(state, found, `${name}: ${message.text}`, now);
    }
  }
};

const close = (state: DeskState, found: Case, text: string, now: number): ActorEffect[] => {
  const wasOpen = found.incident.status === "open";
  found.incident.status = wasOpen ? "resolved" : "blip";
  found.incident.resolvedAt = now;
  note(found, now, "resolved", null, text);
  const effects = changed(state, found);
  const { id } = found.incident;
  const incident = viewOf(found);
  state.cases.delete(id);
  state.closed.set(id, incident);
  const keys = ["alert", ...INVESTIGATE_AGAIN_MS.map((ms) => `again:${ms}`)].map((key) => `${key}:${id}`);
  for (const key of keys) effects.push({ kind: "cancel", key });
  for (const [service, { incident: resuming }] of state.resuming) if (resuming === id) state.resuming.delete(service);
  if (state.closed.size > KEPT_CLOSED) {
    const [oldest] = state.closed.keys();
    if (oldest !== undefined) {
      state.closed.delete(oldest);
      effects.push({ kind: "publish", board: "incidents", key: oldest, value: null });
    }
  }
  if (wasOpen && !found.alerted) effects.push(...alertOpened(state, found, now));
  if (wasOpen) alert(state, found, "incident.resolved", `${id}:resolved`, now);
  return [...effects, { kind: "stop", path: rcaPath(id) }];
};

const explained = (state: DeskState, { incident: id, rca }: Explanation, now: number): ActorEffect[] => {
  const found = state.cases.get(id);
  if (found === undefined) return [];
  // While it recovers the evidence fades: what was found at its height stays.
  const fading = [...found.members.values()].every(
    (member) => member.state !== "suspect" && member.state !== "confirmed",
  );
  if (fading && found.incident.rca !== null) return [];
  const before = found.incident.rca?.causes[0];
  if (!clearerThan(rca, found.incident.rca, now)) return [];
  found.incident.rca = rca;
  const cause = rca.causes[0];
  const other = cause !== undefined && (before?.service !== cause.service || before.kind !== cause.kind);
  if (other) note(found, now, "cause", cause.service, cause.headline);
  const effects = changed(state, found);
  if (found.incident.status !== "open") return effects;
  if (!found.alerted) return cause === undefined ? effects : [...effects, ...alertOpened(state, found, now)];
  if (!other) return effects;
  found.updates++;
  alert(state, found, "incident.updated", `${id}:cause:${found.updates}`, now);
  return effects;
};
