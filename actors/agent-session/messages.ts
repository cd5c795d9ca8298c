/** What an agent session is told and asked, and what it asks of the agent link. */
import type { Message, Reply, Tick, Undelivered } from "../../runtime/actor/Behavior.ts";
import type { ServiceId } from "../../schemas/service.ts";
import type { DecodedObserve } from "../../schemas/wire/codec.ts";
import type { PolicyBody } from "../../schemas/wire/link.ts";
import type { Grouping } from "../topology/grouping.ts";
import type { Resolved } from "../topology/messages.ts";

const SESSIONS = "agent/";
export const sessionPath = (agent: string): string => `${SESSIONS}${agent}`;
export const agentOf = (session: string): string => session.slice(SESSIONS.length);

export interface SessionArgument {
  readonly agent: string;
  readonly grouping: Grouping;
}

/**
 * A connection was accepted: its dictionary starts anew. Answered with the last window that need not be sent again, or
 * null, in the same step: nothing can come between what the agent is told and what is expected of it.
 */
export interface Connected extends Message {
  readonly type: "connected";
  readonly epoch: number;
  readonly node: string;
  readonly cluster: string;
}
export interface Disconnected extends Message {
  readonly type: "disconnected";
}
/** One `observe` frame, checked; `at` is the server time that it counts for, the same whenever it is sent again. */
export interface Window extends Message {
  readonly type: "window";
  readonly at: number;
  readonly body: DecodedObserve;
}
/** Services moved to another replica: windows that were on their way are lost, and must be sent again. */
export interface Rewind extends Message {
  readonly type: "rewind";
}
export interface RewindNow extends Message {
  readonly type: "rewind-now";
}
/** The topology started anew: it is told everything again. */
export interface Relearn extends Message {
  readonly type: "relearn";
}
/** A service's actor says which of its requests are slow. */
export interface Threshold extends Message {
  readonly type: "threshold";
  readonly service: ServiceId;
  readonly slowMs: number;
}
export type SessionMessage =
  | Connected
  | Threshold
  | Disconnected
  | Window
  | Resolved
  | Rewind
  | RewindNow
  | Relearn
  | Undelivered
  | Reply
  | Tick;

/** Request of the port "agent-policy": tell the agent which requests are slow. */
export interface TellPolicy {
  readonly agent: string;
  readonly policy: PolicyBody;
}

/** Request of the port "agent-link": end the agent's connection, so that it comes again. */
export interface ComeAgain {
  readonly agent: string;
}
