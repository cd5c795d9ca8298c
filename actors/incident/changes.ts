/** What the desk does whenever a case changes: notes, versions for page and store, runs of the coordinator, first alerts. */
import { send, sendDurably, type ActorEffect, type Message } from "../../runtime/actor/Behavior.ts";
import type { Incident, Silence, TimelineEntry } from "../../schemas/incident.ts";
import type { ServiceId } from "../../schemas/service.ts";
import { rows } from "../rows.ts";
import { rcaPath, type Investigate } from "../rca/RcaCoordinator.ts";
import { alert, sending, silenceOf } from "./alerts.ts";
import { headlineOf, viewOf, type Case } from "./case.ts";
import type { DeskState } from "./desk.ts";

const TIMELINE_KEPT = 100;
export const WAIT_FOR_CAUSE_MS = 3_000;

export interface AlertDue extends Message {
  readonly type: "alert-due";
  readonly incident: string;
}
export interface InvestigateAgain extends Message {
  readonly type: "investigate-again";
  readonly incident: string;
}
/** The run of an open incident is asked for durably: a coordinator elsewhere takes it up when this one dies. */
export const investigate = (state: DeskState, found: Case | undefined): ActorEffect[] => {
  if (found === undefined) return [];
  const { id, service, onsetAt, status } = found.incident;
  const about = { type: "investigate", target: service, members: [...found.members.keys()], onset: onsetAt } as const;
  if (status !== "open") {
    const message: Investigate = { ...about, durable: null };
    return [send(rcaPath(id), message)];
  }
  found.runs++;
  state.dirty = true;
  const durable = `${id}:run:${found.runs}`;
  const message: Investigate = { ...about, durable };
  state.after.push(sendDurably(rcaPath(id), message, durable));
  return [];
};

export const alertOpened = (state: DeskState, found: Case | undefined, now: number): ActorEffect[] => {
  if (found === undefined || found.alerted || found.incident.severity !== "critical") return [];
  const { id } = found.incident;
  const silence = silenceOf(state, found, now);
  if (silence !== null) {
    if (found.incident.silencedUntil === silence.until) return [];
    found.incident.silencedUntil = silence.until;
    note(found, now, "event", null, `silenced by ${silence.by}: ${silence.reason}`);
    return changed(state, found);
  }
  found.alerted = true;
  alert(state, found, "incident.opened", `${id}:opened`, now);
  return [{ kind: "cancel", key: `alert:${id}` }];
};

export const note = (
  found: Case,
  at: number,
  kind: TimelineEntry["kind"],
  service: ServiceId | null,
  text: string,
): void => {
  if (found.incident.timeline.length >= TIMELINE_KEPT) return;
  found.incident.timeline = [...found.incident.timeline, { at, kind, service, text }].sort((a, b) => a.at - b.at);
};

/** After every change: the new version to the page and to the store; `kept`: and to the snapshot. */
export const changed = (state: DeskState, found: Case, kept = true): ActorEffect[] => {
  if (kept) state.dirty = true;
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

export const publish = (incident: Incident): ActorEffect => ({
  kind: "publish",
  board: "incidents",
  key: incident.id,
  value: incident,
});

/** Board "silences". */
export const publishSilence = (id: string, silence: Silence | null): ActorEffect => ({
  kind: "publish",
  board: "silences",
  key: id,
  value: silence,
});
/** Where the desk before this one stopped: its alerts may not have left, its services may have forgotten. */
export const goOn = (state: DeskState, now: number): ActorEffect[] => {
  const effects: ActorEffect[] = [...state.outbox].map(([key, outgoing]) => sending(key, outgoing));
  for (const silence of state.silences.values()) effects.push(publishSilence(silence.id, silence));
  for (const incident of state.closed.values()) effects.push(publish(incident));
  for (const found of state.cases.values()) {
    const { id, status } = found.incident;
    effects.push(publish(viewOf(found)), {
      kind: "spawn",
      path: rcaPath(id),
      behavior: "rca",
      argument: { incident: id },
    });
    if (status === "open") {
      for (const [member, { state: was }] of found.members)
        if (was !== "cleared") state.resuming.set(member, { incident: id, since: now });
      const due: AlertDue = { type: "alert-due", incident: id };
      if (!found.alerted)
        effects.push({ kind: "schedule", key: `alert:${id}`, afterMs: WAIT_FOR_CAUSE_MS, message: due });
    }
    effects.push(...investigate(state, found));
  }
  return effects;
};
