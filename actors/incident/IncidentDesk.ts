/**
 * The incident desk: the one place where incidents are opened, merged and closed. Service actors report what they
 * decide about themselves; the desk knows who calls whom, so a fault that shows in five services is one incident, named
 * after the one nearest to the users. It has the cause sought and the sinks told.
 *
 * Every transition is written to the store; open incidents are taken up again after a restart, and their services told
 * to go on watching. The first alert waits at most three seconds for the cause; later findings go out as updates.
 * Symptoms that join an open incident send nothing.
 */
import {
  send,
  type ActorEffect,
  type Behavior,
  type Message,
  type Reply,
  type Tick,
} from "../../runtime/actor/Behavior.ts";
import type { AlertPayload, Incident, TimelineEntry } from "../../schemas/incident.ts";
import { parseServiceId, serviceName, type ServiceId } from "../../schemas/service.ts";
import type { Deliver } from "../alert-sink/messages.ts";
import { rows } from "../rows.ts";
import { rcaPath, type Explanation, type Investigate } from "../rca/RcaCoordinator.ts";
import { servicePath, type DeskReport, type Resume } from "../service/messages.ts";
import type { GraphEdge } from "../topology/messages.ts";
import { clearerThan, headlineOf, newCase, viewOf, type Case, type Member } from "./case.ts";
import { CallGraph } from "./CallGraph.ts";

const WAIT_FOR_CAUSE_MS = 3_000;
const INVESTIGATE_AGAIN_MS = [4_000, 10_000, 20_000] as const;
const KEPT_CLOSED = 200;
const TIMELINE_KEPT = 100;

export interface DeskArgument {
  /** paths of the alert sinks */
  readonly sinks: readonly string[];
  /** where the page is, for links in alerts */
  readonly url: string;
}

interface AlertDue extends Message {
  readonly type: "alert-due";
  readonly incident: string;
}
interface InvestigateAgain extends Message {
  readonly type: "investigate-again";
  readonly incident: string;
}
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
}
export type DeskMessage =
  | DeskReport
  | GraphEdge
  | Explanation
  | AlertDue
  | InvestigateAgain
  | Delivered
  | Recovered
  | Tick
  | Reply;

interface DeskState {
  readonly argument: DeskArgument;
  readonly graph: CallGraph;
  readonly cases: Map<string, Case>;
  readonly closed: Map<string, Incident>;
  /** members of recovered incidents that have not answered yet */
  readonly resuming: Map<ServiceId, string>;
  opened: number;
}

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
    explained: "refuse",
    "alert-due": "refuse",
    "investigate-again": "refuse",
    delivered: "refuse",
    recovered: "refuse",
    tick: "refuse",
    reply: "refuse",
  },
  ticks: true,
  initial: (_path, argument, now, snapshot) => {
    const state: DeskState = {
      argument,
      graph: new CallGraph(),
      cases: new Map(),
      closed: new Map(),
      resuming: new Map(),
      opened: 0,
    };
    if (snapshot === undefined) return [state, []];
    const { calls, incidents } = snapshot as Snapshot;
    for (const [from, to] of calls) state.graph.add(from, to);
    return [state, recover(state, incidents, now)];
  },
  step: (state, message, now) => {
    const effects = handle(state, message, now);
    // Whatever changed a case is also what a restart of this actor must not forget.
    const changes = effects.some((effect) => effect.kind === "publish");
    return [state, changes ? [...effects, { kind: "snapshot", value: snapshotOf(state) }] : effects];
  },
  inspect: (state) => ({
    cases: [...state.cases.values()].map((c) => ({ ...viewOf(c), members: Object.fromEntries(c.members) })),
    closed: state.closed.size,
    resuming: Object.fromEntries(state.resuming),
    graph: state.graph.size,
    sinks: state.argument.sinks,
  }),
};

interface Snapshot {
  readonly calls: readonly (readonly [from: ServiceId, to: ServiceId])[];
  readonly incidents: readonly Incident[];
}

const snapshotOf = (state: DeskState): Snapshot => ({
  calls: state.graph.calls(),
  incidents: [...state.cases.values()].map(viewOf),
});

const handle = (state: DeskState, message: DeskMessage, now: number): ActorEffect[] => {
  switch (message.type) {
    case "graph":
      state.graph.add(message.from, message.to);
      return [];
    case "started": {
      const found = caseOf(state, message.service);
      const member = found?.members.get(message.service);
      if (found !== undefined && member !== undefined && member.state !== "cleared")
        state.resuming.set(message.service, found.incident.id);
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
      return investigate(state.cases.get(message.incident));
    case "delivered": {
      const found = state.cases.get(message.incident);
      if (found === undefined) return [];
      note(found, now, "alert", null, `${message.event} delivered to ${message.sink}`);
      return changed(found);
    }
    case "reply":
      if (message.result.ok) state.resuming.delete(message.tag as ServiceId);
      return [];
    case "tick":
      return resumeWaiting(state);
  }
};

const recover = (state: DeskState, incidents: readonly Incident[], now: number): ActorEffect[] => {
  const effects: ActorEffect[] = [];
  for (const incident of incidents) {
    if (state.cases.has(incident.id) || state.closed.has(incident.id)) continue;
    if (incident.status === "resolved" || incident.status === "blip") {
      state.closed.set(incident.id, incident);
      effects.push(publish(incident));
      continue;
    }
    const found = newCase(incident.id, incident.service, incident.onsetAt, incident.suspectedAt);
    found.incident = { ...incident };
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
    for (const member of incident.members) state.resuming.set(member, incident.id);
    // A transition whose delivery was not confirmed before the restart goes out again under the same key.
    effects.push(...alertOpened(state, found, now), ...changed(found));
  }
  return effects;
};

const resumeWaiting = (state: DeskState): ActorEffect[] =>
  [...state.resuming].map(([service, incident]) => {
    const message: Resume = { type: "resume", incident };
    return { kind: "ask", to: servicePath(service), message, tag: service, timeoutMs: 900 };
  });

const caseOf = (state: DeskState, service: ServiceId): Case | undefined => {
  for (const found of state.cases.values()) if (found.members.has(service)) return found;
  return undefined;
};

const suspected = (state: DeskState, service: ServiceId, onset: number, text: string, now: number): ActorEffect[] => {
  const member: Member = { state: "suspect", onset, text, impact: 0 };
  const own = caseOf(state, service);
  if (own !== undefined) {
    own.members.set(service, member);
    return [...changed(own), ...investigate(own)];
  }
  const related = [...state.cases.values()].filter((c) => state.graph.related(service, [...c.members.keys()]));
  const [first, ...others] = related;
  if (first === undefined) return open(state, service, member, now);
  first.members.set(service, member);
  note(first, now, "joined", service, `${serviceName(service)}: ${text}`);
  const effects = others.flatMap((other) => merge(state, first, other, now));
  settle(state, first);
  return [...effects, ...changed(first), ...investigate(first)];
};

const open = (state: DeskState, service: ServiceId, member: Member, now: number): ActorEffect[] => {
  state.opened++;
  const id = `${Math.floor(now / 1000).toString(36)}${state.opened.toString(36)}`;
  const found = newCase(id, service, member.onset, now);
  found.incident.cluster = parseServiceId(service)?.cluster ?? "default";
  found.members.set(service, member);
  state.cases.set(id, found);
  note(found, member.onset, "onset", service, `first bad requests of ${serviceName(service)}`);
  note(found, now, "suspicion", service, `${serviceName(service)}: ${member.text}`);
  settle(state, found);
  return [
    { kind: "spawn", path: rcaPath(id), behavior: "rca", argument: { incident: id } },
    ...changed(found),
    ...investigate(found),
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
  const found = caseOf(state, service);
  if (found === undefined) return [];
  found.members.set(service, { state: "confirmed", onset, text, impact: found.members.get(service)?.impact ?? 0 });
  if (severity === "critical") found.incident.severity = "critical";
  if (found.incident.status === "open") return changed(found);
  found.incident.status = "open";
  found.incident.openedAt = now;
  settle(state, found);
  note(found, now, "opened", service, `${serviceName(service)}: ${text}`);
  const due: AlertDue = { type: "alert-due", incident: found.incident.id };
  return [
    { kind: "schedule", key: `alert:${found.incident.id}`, afterMs: WAIT_FOR_CAUSE_MS, message: due },
    ...INVESTIGATE_AGAIN_MS.map((afterMs): ActorEffect => {
      const again: InvestigateAgain = { type: "investigate-again", incident: found.incident.id };
      return { kind: "schedule", key: `again:${afterMs}:${found.incident.id}`, afterMs, message: again };
    }),
    ...changed(found),
    ...investigate(found),
  ];
};

const noted = (
  state: DeskState,
  message: Extract<DeskReport, { type: "recovering" | "cleared" | "impact" | "noticed" }>,
  now: number,
): ActorEffect[] => {
  const found = caseOf(state, message.service);
  if (found === undefined) return [];
  const member = found.members.get(message.service);
  if (member === undefined) return [];
  const name = serviceName(message.service);
  switch (message.type) {
    case "impact":
      found.members.set(message.service, { ...member, impact: message.ratio });
      if (message.service === found.incident.service) found.incident.impact = message.ratio;
      return changed(found);
    case "noticed":
      note(found, message.at, "event", message.service, message.text);
      return [...changed(found), ...investigate(found)];
    case "recovering":
      found.members.set(message.service, { ...member, state: "recovering" });
      note(found, now, "recovering", message.service, `${name}: ${message.text}`);
      return changed(found);
    case "cleared": {
      found.members.set(message.service, { ...member, state: "cleared" });
      if ([...found.members.values()].some((other) => other.state !== "cleared")) return changed(found);
      return close(state, found, `${name}: ${message.text}`, now);
    }
  }
};

const close = (state: DeskState, found: Case, text: string, now: number): ActorEffect[] => {
  const wasOpen = found.incident.status === "open";
  found.incident.status = wasOpen ? "resolved" : "blip";
  found.incident.resolvedAt = now;
  note(found, now, "resolved", null, text);
  const effects = changed(found);
  const { id } = found.incident;
  const incident = viewOf(found);
  state.cases.delete(id);
  state.closed.set(id, incident);
  const keys = ["alert", ...INVESTIGATE_AGAIN_MS.map((ms) => `again:${ms}`)].map((key) => `${key}:${id}`);
  for (const key of keys) effects.push({ kind: "cancel", key });
  for (const [service, resuming] of state.resuming) if (resuming === id) state.resuming.delete(service);
  if (state.closed.size > KEPT_CLOSED) {
    const [oldest] = state.closed.keys();
    if (oldest !== undefined) {
      state.closed.delete(oldest);
      effects.push({ kind: "publish", board: "incidents", key: oldest, value: null });
    }
  }
  if (wasOpen && !found.alerted) effects.push(...alertOpened(state, found, now));
  if (wasOpen) effects.push(...alert(state, found, "incident.resolved", `${id}:resolved`, now));
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
  const effects = changed(found);
  if (found.incident.status !== "open") return effects;
  if (!found.alerted) return cause === undefined ? effects : [...effects, ...alertOpened(state, found, now)];
  if (!other) return effects;
  found.updates++;
  return [...effects, ...alert(state, found, "incident.updated", `${id}:cause:${found.updates}`, now)];
};

const investigate = (found: Case | undefined): ActorEffect[] => {
  if (found === undefined) return [];
  const { id, service, onsetAt } = found.incident;
  const message: Investigate = {
    type: "investigate",
    target: service,
    members: [...found.members.keys()],
    onset: onsetAt,
  };
  return [send(rcaPath(id), message)];
};

const alertOpened = (state: DeskState, found: Case | undefined, now: number): ActorEffect[] => {
  if (found === undefined || found.alerted || found.incident.severity !== "critical") return [];
  found.alerted = true;
  return [
    { kind: "cancel", key: `alert:${found.incident.id}` },
    ...alert(state, found, "incident.opened", `${found.incident.id}:opened`, now),
  ];
};

const alert = (
  state: DeskState,
  found: Case,
  event: AlertPayload["event"],
  key: string,
  now: number,
): ActorEffect[] => {
  if (!found.alerted) return [];
  const incident = viewOf(found);
  const payload: AlertPayload = { key, event, at: now, url: `${state.argument.url}/incident/${incident.id}`, incident };
  const deliver: Deliver = { type: "deliver", payload };
  return state.argument.sinks.map((sink) => send(sink, deliver));
};

const note = (found: Case, at: number, kind: TimelineEntry["kind"], service: ServiceId | null, text: string): void => {
  if (found.incident.timeline.length >= TIMELINE_KEPT) return;
  found.incident.timeline = [...found.incident.timeline, { at, kind, service, text }].sort((a, b) => a.at - b.at);
};

/** After every change: the new version to the page and to the store. */
const changed = (found: Case): ActorEffect[] => {
  found.incident.version++;
  found.incident.members = [...found.members.keys()];
  found.incident.headline = headlineOf(found);
  const incident = viewOf(found);
  return [
    publish(incident),
    rows("incidents", [
      {
        id: incident.id,
        version: incident.version,
        cluster: incident.cluster,
        service: incident.service,
        status: incident.status,
        severity: incident.severity,
        suspected: incident.suspectedAt,
        opened: incident.openedAt,
        resolved: incident.resolvedAt,
        json: JSON.stringify(incident),
      },
    ]),
  ];
};

const publish = (incident: Incident): ActorEffect => ({
  kind: "publish",
  board: "incidents",
  key: incident.id,
  value: incident,
});
