/**
 * What an actor is to its author: a pure function from state and message to state and effects.
 *
 * Effects are data that the kernel interprets, so a behaviour is tested without Effect, replayed from a recorded mailbox
 * and moved between machines. The state handed to `step` is owned by it: it may be changed in place, and the kernel never
 * looks at it again. When `step` throws, that state is gone and the actor goes on from its last snapshot.
 */
export interface Message {
  readonly type: string;
}

/** `/`-separated, e.g. `service/default/web-1/SystemdUnit/catalog`. */
export type ActorPath = string;

/** Answer to an `ask` or a `perform`, delivered as a message of type "reply". */
export interface Reply extends Message {
  readonly type: "reply";
  readonly tag: string;
  readonly from: ActorPath;
  readonly result: { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly error: string };
}

/** Told once a second by the metronome to actors whose behaviour asks for it. A tick still queued swallows the next. */
export interface Tick extends Message {
  readonly type: "tick";
}

/** Told to the nearest ancestor that knows this message when an actor has exhausted restarts and quarantines. */
export interface ChildFailed extends Message {
  readonly type: "child-failed";
  readonly child: ActorPath;
  readonly error: string;
}

/** Told to the sender, if it knows this message, when nobody had the path that it sent something to. */
export interface Undelivered extends Message {
  readonly type: "undelivered";
  readonly to: ActorPath;
}

export type ActorEffect =
  /**
   * with `durable`: kept until the receiver says `done` to that key, across crashes and moves, and handed over once per
   * key unless the receiver fell before it said so
   */
  | { readonly kind: "send"; readonly to: ActorPath; readonly message: Message; readonly durable?: string }
  /** the durable message with this key has had its effect: it is never handed over again */
  | { readonly kind: "done"; readonly key: string }
  /** the answer arrives as a Reply with this tag; no answer in time is a Reply that is not ok */
  | {
      readonly kind: "ask";
      readonly to: ActorPath;
      readonly message: Message;
      readonly tag: string;
      readonly timeoutMs: number;
    }
  /** answers the ask that is being handled; ignored (and counted) when nobody asked */
  | { readonly kind: "reply"; readonly value: unknown }
  /** work outside the actor, done by the port of that name; the result arrives as a Reply with this tag (null: none) */
  | { readonly kind: "perform"; readonly port: string; readonly request: unknown; readonly tag: string | null }
  /** state for readers in this process (the page), by topic key; null removes it. Nobody waits for it. */
  | { readonly kind: "publish"; readonly board: string; readonly key: string; readonly value: unknown }
  /** a message to itself later; the same key replaces the earlier one */
  | { readonly kind: "schedule"; readonly key: string; readonly afterMs: number; readonly message: Message }
  | { readonly kind: "cancel"; readonly key: string }
  | { readonly kind: "spawn"; readonly path: ActorPath; readonly behavior: string; readonly argument: unknown }
  | { readonly kind: "stop"; readonly path: ActorPath }
  /**
   * remembers what a restart goes on from; must be a value of its own, not the living state. `afterwards` is carried out once
   * the snapshot is as safe as it gets: written under a confirmed claim for behaviours with `owned` state, else at once.
   */
  | { readonly kind: "snapshot"; readonly value: unknown; readonly afterwards?: readonly ActorEffect[] };

/** What happens to a message that finds the mailbox full; counted in any case. */
export type Overflow<M> =
  | "refuse"
  /** the oldest waiting message of the same type gives way */
  | "drop-oldest"
  /** the incoming message folded into the newest waiting one of the same type, or null to refuse it */
  | { readonly merge: (waiting: M, incoming: M) => M | null };

/** State that outlives the process: its snapshots are written to the state database. */
export interface Owned {
  readonly version: number;
  /** a snapshot of an earlier version as one of this version; throws when that version is unknown */
  readonly migrate: (version: number, value: unknown) => unknown;
}

export interface Behavior<S, M extends Message, A = unknown> {
  readonly kind: string;
  /** most messages that may wait */
  readonly mailbox: number;
  /** every type of message that it knows, and what happens to one that finds the mailbox full; others are refused */
  readonly messages: { readonly [T in M["type"]]: Overflow<Extract<M, { readonly type: T }>> };
  readonly ticks: boolean;
  /**
   * `first`: there is one, and many wait for it: it runs before the others, and longer at a time. `last`: each of its
   * messages makes many for others: it runs while few of these wait, so that they are not old when their turn comes
   */
  readonly turn?: "first" | "last";
  /** messages that it has taken and keeps for later: they count as waiting */
  readonly keeps?: (state: S) => number;
  /** state of a new actor, or of one restarted: then `snapshot` is the last value that it gave out */
  readonly initial: (
    path: ActorPath,
    argument: A,
    now: number,
    snapshot: unknown,
  ) => readonly [S, readonly ActorEffect[]];
  readonly step: (state: S, message: M, now: number) => readonly [S, readonly ActorEffect[]];
  readonly owned?: Owned;
  /** what readers of a board see of it, made when they look; null: nothing */
  readonly shows?: Readonly<Record<string, (state: S, now: number) => unknown>>;
  /** what the console shows; plain JSON */
  readonly inspect: (state: S) => unknown;
}

export const send = (to: ActorPath, message: Message): ActorEffect => ({ kind: "send", to, message });

export const sendDurably = (to: ActorPath, message: Message, key: string): ActorEffect => ({
  kind: "send",
  to,
  message,
  durable: key,
});
