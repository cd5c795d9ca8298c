/**
 * Requests of one edge that have waited longer than they may: each counts as slow once, when it is first seen to, and not
 * again when it ends. How many are new follows from the window before, of the same agent; where windows come late, after
 * newer ones, the first of the newer ones is counted anew against what really came before it. Owned by an edge's state;
 * empty for an edge on which nothing waits.
 */

/** Windows without one missing, as far as is known; what lies before may still come. */
interface Run {
  readonly first: number;
  readonly at: number;
  readonly slow: number;
  readonly stuck: number;
  /** what the first one was counted against */
  from: number;
  last: number;
  /** how many wait at the end of the last one */
  now: number;
}

/** As it stands in a snapshot: first, at, slow, stuck, from, last, now. */
export type SavedRun = readonly [number, number, number, number, number, number, number];

/** Adds to the figures of the window, and to earlier ones that must be counted anew. */
export type Count = (at: number, total: number, slow: number) => void;

/** Requests that ended slow, and `stuck` that still wait, after `before` did in the window before. */
const counted = (at: number, before: number, slow: number, stuck: number, sign: 1 | -1, count: Count): void => {
  const begun = Math.max(0, stuck - before);
  const ended = Math.max(0, before - stuck);
  count(at, sign * begun, sign * (Math.max(0, slow - ended) + begun));
};

export class Waits {
  readonly #runs: Run[];
  /** the next newer window begins a run of its own: windows before it may come later */
  #broken = true;

  constructor(saved: readonly SavedRun[] = [[-1, 0, 0, 0, 0, -1, 0]]) {
    this.#runs = saved.map(([first, at, slow, stuck, from, last, now]) => ({
      first,
      at,
      slow,
      stuck,
      from,
      last,
      now,
    }));
  }

  /** How many wait, as the newest window has it. */
  get now(): number {
    return this.#runs[this.#runs.length - 1]?.now ?? 0;
  }

  take(window: number, at: number, slow: number, stuck: number, count: Count): void {
    let i = this.#runs.length - 1;
    while (i > 0 && window < (this.#runs[i]?.first ?? 0)) i--;
    const run = this.#runs[i];
    if (run === undefined || window <= run.last) return counted(at, run?.now ?? 0, slow, stuck, 1, count);
    const before = run.now;
    counted(at, before, slow, stuck, 1, count);
    const next = this.#runs[i + 1];
    if (next === undefined && this.#broken) {
      this.#broken = false;
      this.#runs.push({ first: window, at, slow, stuck, from: before, last: window, now: stuck });
      return;
    }
    run.last = window;
    run.now = stuck;
    if (next === undefined) return;
    counted(next.at, next.from, next.slow, next.stuck, -1, count);
    next.from = stuck;
    counted(next.at, next.from, next.slow, next.stuck, 1, count);
  }

  /** No window before the newest will come any more. */
  close(): void {
    this.#runs.splice(0, this.#runs.length - 1);
    this.#broken = false;
  }

  saved(): SavedRun[] {
    return this.#runs.map(({ first, at, slow, stuck, from, last, now }) => [first, at, slow, stuck, from, last, now]);
  }
}
