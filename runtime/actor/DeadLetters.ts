/** The newest messages that nobody handled, and why. Bounded; all that ever came are counted. Owned by the kernel. */
import { Metric } from "effect";
import type { ActorPath } from "./Behavior.ts";
import type { Envelope } from "./Mailbox.ts";
import { remember } from "./Measure.ts";

const KEPT = 256;
const total = Metric.counter("actor_dead_letters_total", { incremental: true });

export interface DeadLetter {
  readonly at: number;
  readonly to: ActorPath;
  readonly from: ActorPath | null;
  readonly type: string;
  readonly reason: string;
}

export class DeadLetters {
  /** newest last */
  readonly letters: DeadLetter[] = [];

  add(at: number, to: ActorPath, { from, message }: Envelope, reason: string): void {
    total.unsafeUpdate(1, []);
    remember(this.letters, { at, to, from, type: message.type, reason }, KEPT);
  }
}
