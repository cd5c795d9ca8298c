/** One actor as the kernel holds it: its behaviour, state, mailbox and counters. Owned and changed by the kernel alone. */
import type { ActorPath, Behavior, Message } from "./Behavior.ts";
import { Mailbox } from "./Mailbox.ts";
import type { Measure } from "./Measure.ts";
import type { Tape } from "./Outside.ts";
import { noFailures, type FailureHistory } from "./Supervision.ts";

// The registry holds behaviours of every type; messages reach a behaviour only through paths that its owner spawned.
export type AnyBehavior = Behavior<unknown, Message>;

export interface Cell {
  readonly path: ActorPath;
  readonly parent: ActorPath | null;
  readonly behavior: AnyBehavior;
  readonly argument: unknown;
  readonly mailbox: Mailbox;
  readonly startedAt: number;
  state: unknown;
  snapshot: unknown;
  /** it is on the run queue, or its fiber is at work */
  running: boolean;
  stopped: boolean;
  /** takes no new messages; stops when its mailbox is empty */
  stopping: boolean;
  paused: boolean;
  tickQueued: boolean;
  quarantinedUntil: number;
  history: FailureHistory;
  handled: number;
  sent: number;
  merged: number;
  shed: number;
  restarts: number;
  deadLetters: number;
  lastError: string | null;
  /** who waits until fewer messages wait for it */
  room: { readonly most: number; readonly resume: () => void }[];
  /** keys of its timers; made with the first one */
  timers: Set<string> | null;
  measure: Measure | null;
  tape: Tape | null;
}

const NOBODY: Cell["room"] = [];

export const newCell = (
  path: ActorPath,
  parent: ActorPath | null,
  behavior: AnyBehavior,
  argument: unknown,
  startedAt: number,
): Cell => ({
  path,
  parent,
  behavior,
  argument,
  mailbox: new Mailbox(behavior.mailbox),
  startedAt,
  state: undefined,
  snapshot: undefined,
  running: false,
  stopped: false,
  stopping: false,
  paused: false,
  tickQueued: false,
  quarantinedUntil: 0,
  history: noFailures,
  handled: 0,
  sent: 0,
  merged: 0,
  shed: 0,
  restarts: 0,
  deadLetters: 0,
  lastError: null,
  room: NOBODY,
  timers: null,
  measure: null,
  tape: null,
});
