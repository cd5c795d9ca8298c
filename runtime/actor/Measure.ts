/**
 * What the console shows of one actor beyond its counters: rates, waits, handle times, the last messages, the state's
 * size. Made by the kernel when somebody looks and thrown away a few seconds after, so nobody pays for it otherwise.
 */
import type { ActorMessageView } from "../../schemas/wire/page.ts";

const RECENT = 50;
const SAMPLES = 128;

/** Adds to a list that keeps the newest `most`. */
export const remember = <T>(list: T[], value: T, most: number): void => {
  list.push(value);
  if (list.length > most) list.shift();
};

const p95 = (samples: readonly number[]): number => {
  if (samples.length === 0) return 0;
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.95))] ?? 0;
};

export class Measure {
  readonly recent: ActorMessageView[] = [];
  inPerSecond = 0;
  outPerSecond = 0;
  stateBytes = 0;
  readonly #wait: number[] = [];
  readonly #handle: number[] = [];
  #at: number;
  #handledThen: number;
  #sentThen: number;

  constructor(at: number, handled: number, sent: number) {
    this.#at = at;
    this.#handledThen = handled;
    this.#sentThen = sent;
  }

  get waitP95Ms(): number {
    return p95(this.#wait);
  }
  get handleP95Ms(): number {
    return p95(this.#handle);
  }

  handled(message: ActorMessageView): void {
    remember(this.#wait, message.waitMs, SAMPLES);
    remember(this.#handle, message.handleMs, SAMPLES);
    remember(this.recent, message, RECENT);
  }

  /** Rates since the last look that was at least a second ago. */
  count(at: number, handled: number, sent: number): void {
    const seconds = (at - this.#at) / 1000;
    if (seconds < 1) return;
    this.inPerSecond = (handled - this.#handledThen) / seconds;
    this.outPerSecond = (sent - this.#sentThen) / seconds;
    this.#at = at;
    this.#handledThen = handled;
    this.#sentThen = sent;
  }

  /** As JSON, as the console shows it. */
  size(state: unknown): void {
    this.stateBytes = JSON.stringify(state)?.length ?? 0;
  }
}
