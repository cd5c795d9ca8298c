/**
 * Delivers alerts to one webhook: in order, one at a time, again with back-off (1 s to 5 min) until it
 * answers 2xx, for at most a day. A 4xx other than 408 and 429 is final: the receiver does not want it. Every delivery
 * carries the transition's key, so that a receiver can de-duplicate.
 *
 * One actor per configured webhook. It says `done` to a transition only when it is through with it, so whoever hands it
 * over does so again after a crash or a move: at least once on the wire, with equal keys.
 */
import { send, type ActorEffect, type Behavior, type Message, type Reply } from "../../runtime/actor/Behavior.ts";
import type { AlertPayload } from "../../schemas/incident.ts";
import type { Delivered } from "../incident/IncidentDesk.ts";
import { INCIDENT_DESK } from "../service/messages.ts";
import type { Deliver } from "./messages.ts";

const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 5 * 60_000;
const GIVE_UP_AFTER_MS = 24 * 3600 * 1000;
const MOST_WAITING = 1_000;
const KEYS_REMEMBERED = 5_000;

export interface WebhookArgument {
  readonly name: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Request and answer of the port "http-post". */
export interface HttpPost {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}
export interface HttpAnswer {
  readonly status: number;
}

interface Retry extends Message {
  readonly type: "retry";
}
export type SinkMessage = Deliver | Retry | Reply;

interface Waiting {
  readonly payload: AlertPayload;
  readonly durable: string;
  readonly since: number;
}

interface SinkState {
  readonly argument: WebhookArgument;
  readonly queue: Waiting[];
  /** keys that wait, and keys that it is through with */
  readonly delivering: Set<string>;
  readonly seen: Set<string>;
  sending: boolean;
  attempts: number;
  delivered: number;
  refused: number;
  dropped: number;
  lastError: string | null;
}

export const webhookSink: Behavior<SinkState, SinkMessage, WebhookArgument> = {
  kind: "alert-sink",
  mailbox: 1_000,
  messages: {
    deliver: "refuse",
    retry: "refuse",
    reply: "refuse",
  },
  ticks: false,
  initial: (_path, argument) => [
    {
      argument,
      queue: [],
      delivering: new Set(),
      seen: new Set(),
      sending: false,
      attempts: 0,
      delivered: 0,
      refused: 0,
      dropped: 0,
      lastError: null,
    },
    [],
  ],
  step: (state, message, now) => {
    switch (message.type) {
      case "deliver":
        return [state, deliver(state, message, now)];
      case "retry":
        return [state, post(state)];
      case "reply":
        return [state, answered(state, message, now)];
    }
  },
  inspect: (state) => ({
    ...state.argument,
    waiting: state.queue.map(({ payload, since }) => ({ key: payload.key, since })),
    attempts: state.attempts,
    delivered: state.delivered,
    refused: state.refused,
    dropped: state.dropped,
    lastError: state.lastError,
  }),
};

const deliver = (state: SinkState, { payload, durable }: Deliver, now: number): ActorEffect[] => {
  if (state.delivering.has(durable)) return [];
  if (state.seen.has(durable)) return [{ kind: "done", key: durable }];
  const effects: ActorEffect[] = [];
  if (state.queue.length >= MOST_WAITING) {
    const [oldest] = state.queue.splice(state.sending ? 1 : 0, 1);
    state.dropped++;
    if (oldest !== undefined) effects.push(...through(state, oldest, false));
  }
  state.delivering.add(durable);
  // An incident's transitions stay in order, in whatever order they are handed over again.
  const later = state.queue.findIndex(
    (other, i) =>
      (i > 0 || !state.sending) &&
      other.payload.incident.id === payload.incident.id &&
      other.payload.sequence > payload.sequence,
  );
  state.queue.splice(later < 0 ? state.queue.length : later, 0, { payload, durable, since: now });
  return [...effects, ...post(state)];
};

/** Nothing more is done about it. */
const through = (state: SinkState, { payload, durable }: Waiting, taken: boolean): ActorEffect[] => {
  state.delivering.delete(durable);
  state.seen.add(durable);
  if (state.seen.size > KEYS_REMEMBERED) {
    const [oldest] = state.seen;
    if (oldest !== undefined) state.seen.delete(oldest);
  }
  const { id } = payload.incident;
  const { name } = state.argument;
  const told: Delivered = { type: "delivered", incident: id, sink: name, event: payload.event, durable, taken };
  return [{ kind: "done", key: durable }, send(INCIDENT_DESK, told)];
};

const finished = (state: SinkState, first: Waiting, taken: boolean): ActorEffect[] => {
  state.queue.shift();
  state.attempts = 0;
  return [...through(state, first, taken), ...post(state)];
};

const post = (state: SinkState): ActorEffect[] => {
  const first = state.queue[0];
  if (first === undefined || state.sending) return [];
  state.sending = true;
  const { url, headers } = state.argument;
  const request: HttpPost = {
    url,
    headers: { ...headers, "content-type": "application/json", "idempotency-key": first.payload.key },
    body: JSON.stringify(first.payload),
  };
  return [{ kind: "perform", port: "http-post", request, tag: first.payload.key }];
};

const isFinal = (status: number): boolean => status >= 400 && status < 500 && status !== 408 && status !== 429;

const answered = (state: SinkState, { tag, result }: Reply, now: number): ActorEffect[] => {
  const first = state.queue[0];
  if (first === undefined || first.payload.key !== tag) return [];
  state.sending = false;
  const status = result.ok ? (result.value as HttpAnswer).status : 0;
  if (status >= 200 && status < 300) {
    state.delivered++;
    state.lastError = null;
    return finished(state, first, true);
  }
  state.lastError = result.ok ? `HTTP ${status}` : result.error;
  if (isFinal(status) || now - first.since > GIVE_UP_AFTER_MS) {
    state.refused++;
    return finished(state, first, false);
  }
  state.attempts++;
  const afterMs = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** (state.attempts - 1));
  const retry: Retry = { type: "retry" };
  return [{ kind: "schedule", key: "retry", afterMs, message: retry }];
};
