/**
 * Delivers alerts to one webhook: in order, one at a time, again with back-off (1 s to 5 min) until it
 * answers 2xx, for at most a day. A 4xx other than 408 and 429 is final: the receiver does not want it. Every delivery
 * carries the transition's key, so that a receiver can de-duplicate.
 *
 * One actor per configured webhook. What waits is lost with the process; the desk sends what was never delivered again.
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

interface SinkState {
  readonly argument: WebhookArgument;
  readonly queue: { readonly payload: AlertPayload; readonly since: number }[];
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
      case "deliver": {
        if (state.seen.has(message.payload.key)) return [state, []];
        state.seen.add(message.payload.key);
        if (state.seen.size > KEYS_REMEMBERED) state.seen.delete([...state.seen][0] ?? "");
        if (state.queue.length >= MOST_WAITING) {
          state.queue.splice(state.sending ? 1 : 0, 1);
          state.dropped++;
        }
        state.queue.push({ payload: message.payload, since: now });
        return [state, post(state)];
      }
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
    state.queue.shift();
    state.attempts = 0;
    state.delivered++;
    state.lastError = null;
    const delivered: Delivered = {
      type: "delivered",
      incident: first.payload.incident.id,
      sink: state.argument.name,
      event: first.payload.event,
    };
    return [send(INCIDENT_DESK, delivered), ...post(state)];
  }
  state.lastError = result.ok ? `HTTP ${status}` : result.error;
  if (isFinal(status) || now - first.since > GIVE_UP_AFTER_MS) {
    state.queue.shift();
    state.attempts = 0;
    state.refused++;
    return post(state);
  }
  state.attempts++;
  const afterMs = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** (state.attempts - 1));
  const retry: Retry = { type: "retry" };
  return [{ kind: "schedule", key: "retry", afterMs, message: retry }];
};
