/**
 * Replays a recording through its behaviour, with nothing around it: the same messages at the same times give the same
 * states and effects, which the digests in the recording prove. Pure.
 */
import type { AnyBehavior } from "../Cell.ts";
import type { ActorEffect } from "../Behavior.ts";
import { digestOf, type Entry, type Header } from "./format.ts";

export interface Replayed {
  readonly messages: number;
  readonly restarts: number;
  readonly digests: number;
  /** number of the first message after which the state differs from the recorded one, from 1; null: none does */
  readonly differsAt: number | null;
  /** what the console would show at the end */
  readonly state: unknown;
  /** why the recording ends; null: it breaks off */
  readonly end: string | null;
}

export interface ReplayOptions {
  /** server time, ms: nothing later is replayed */
  readonly until?: number;
  /** hears what each message led to */
  readonly onStep?: (at: number, type: string, effects: readonly ActorEffect[], failed: boolean) => void;
}

export const replay = (
  behavior: AnyBehavior,
  { header, entries }: { readonly header: Header; readonly entries: readonly Entry[] },
  { until = Number.POSITIVE_INFINITY, onStep }: ReplayOptions = {},
): Replayed => {
  let [state] = behavior.initial(header.path, header.argument, header.at, header.snapshot);
  let messages = 0;
  let restarts = 0;
  let digests = 0;
  let differsAt: number | null = null;
  let end: string | null = null;
  for (const entry of entries) {
    if (entry[0] === "m") {
      const [, at, message, failed] = entry;
      if (at > until) break;
      messages++;
      try {
        const [next, effects] = behavior.step(state, message, at);
        state = next;
        onStep?.(at, message.type, effects, false);
        if (failed) differsAt ??= messages;
      } catch (error) {
        onStep?.(at, message.type, [], true);
        // The recorded one fell as well; its restart follows.
        if (!failed) throw error;
      }
    } else if (entry[0] === "restart") {
      restarts++;
      [state] = behavior.initial(header.path, header.argument, entry[1], entry[2]);
    } else if (entry[0] === "digest") {
      digests++;
      if (digestOf(behavior.inspect(state)) !== entry[1]) differsAt ??= messages;
    } else end = entry[1];
  }
  return { messages, restarts, digests, differsAt, state: behavior.inspect(state), end };
};
