/**
 * What leaves the desk: alerts under the key of their transition, kept in the outbox until a sink has delivered them, and
 * what keeps them back: an acknowledgement (updates only) or a silence.
 */
import { sendDurably, type ActorEffect } from "../../runtime/actor/Behavior.ts";
import type { AlertPayload, Silence } from "../../schemas/incident.ts";
import { durableKey, type Deliver } from "../alert-sink/messages.ts";
import { viewOf, type Case } from "./case.ts";
import type { DeskState, Outgoing } from "./desk.ts";

/** Alerts that no sink takes: the oldest give way, since the newest tell what is the case. */
const MOST_OUTGOING = 1_000;

export const sending = (key: string, { sink, payload }: Outgoing): ActorEffect => {
  const deliver: Deliver = { type: "deliver", payload, durable: key };
  return sendDurably(sink, deliver, key);
};

/** Records the transition; it leaves with the snapshot that says so. */
export const alert = (state: DeskState, found: Case, event: AlertPayload["event"], key: string, now: number): void => {
  if (!found.alerted) return;
  if (event === "incident.updated" && found.incident.acknowledged !== null) return;
  const incident = viewOf(found);
  found.transitions++;
  const url = `${state.argument.url}/incident/${incident.id}`;
  const payload: AlertPayload = { key, sequence: found.transitions, event, at: now, url, incident };
  for (const sink of state.argument.sinks) {
    const outgoing = { sink, payload };
    const durable = durableKey(key, sink);
    state.outbox.set(durable, outgoing);
    state.after.push(sending(durable, outgoing));
  }
  while (state.outbox.size > MOST_OUTGOING) {
    const [oldest] = state.outbox.keys();
    if (oldest !== undefined) state.outbox.delete(oldest);
  }
  state.dirty = true;
};

const matches = (pattern: string, text: string): boolean => {
  const parts = pattern.split("*").map((part) => part.replaceAll(/[.+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`).test(text);
};

/** The silence that reaches furthest of those that cover the incident now. */
export const silenceOf = (state: DeskState, { incident }: Case, now: number): Silence | null => {
  let found: Silence | null = null;
  for (const silence of state.silences.values()) {
    if (silence.until <= now || (found !== null && found.until >= silence.until)) continue;
    if (silence.match === incident.id || matches(silence.match, incident.service)) found = silence;
  }
  return found;
};
