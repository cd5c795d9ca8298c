/**
 * What the kernel asks of the world around it. Each part may be missing: then every path is here, snapshots live in
 * memory, durable messages are ordinary ones and nothing is recorded. Implementations must not block and never throw.
 */
import type { Effect } from "effect";
import type { ActorPath, Message } from "./Behavior.ts";

/** Work outside actors: what `perform` runs. Its failure reaches the actor as a Reply that is not ok. */
export type Port = (request: unknown, from: ActorPath) => Effect.Effect<unknown, unknown>;

/** A message on its way to an actor that is not here. */
export interface Parcel {
  readonly to: ActorPath;
  readonly message: Message;
  readonly from: ActorPath | null;
  readonly trace: number;
  /** set when an answer is awaited: `answer` of the kernel takes it under this number */
  readonly ask: number;
  readonly timeoutMs: number;
}

export interface Router {
  /** whether actors of that path live in this process */
  readonly isHere: (path: ActorPath) => boolean;
  /** false: it was shed, which the router counts */
  readonly forward: (parcel: Parcel) => boolean;
  readonly spawn: (path: ActorPath, kind: string, argument: unknown, parent: ActorPath | null) => void;
  readonly stop: (path: ActorPath) => void;
}

/** Keeps owned state and durable messages. */
export interface Keeper {
  /** an actor with owned state is there from now on, with a snapshot or without */
  readonly spawned: (path: ActorPath, kind: string, argument: unknown, parent: ActorPath | null) => void;
  /**
   * `kept` is called once the snapshot is written under a confirmed claim; never when another owner took over. Null: nobody
   * waits for it
   */
  readonly snapshot: (path: ActorPath, version: number, value: unknown, kept: (() => void) | null) => void;
  readonly stopped: (path: ActorPath) => void;
  readonly send: (key: string, parcel: Parcel) => void;
}

/** How a durable message ended: it had its effect, it killed the actor, or it must be handed over again. */
export type Settled = "done" | "poison" | "again";

/** Takes what an actor handles, so that it can be replayed. */
export interface Tape {
  readonly restarted: (at: number, snapshot: unknown) => void;
  /** after the step; `failed` when it threw. `look` makes what the console would show of the state. */
  readonly handled: (at: number, message: Message, failed: boolean, look: () => unknown) => void;
  readonly stopped: () => void;
}

export interface Recorder {
  /** null: this actor is not recorded */
  readonly started: (path: ActorPath, kind: string, argument: unknown, at: number, snapshot: unknown) => Tape | null;
}

export interface Outside {
  /** name of this process, for the console */
  readonly node: string;
  readonly router: Router;
  readonly keeper: Keeper;
  readonly recorder: Recorder;
}
