/**
 * A Prometheus histogram of durations in our layout (schemas/wire/histogram.ts). Owned by one kind of requests of an edge.
 * The counts stay exact; where in a bucket of the sender a request lay is not known:
 *
 * - A bucket (lo, hi] goes to those of ours above the one that holds `lo`, up to the one that holds `hi`. So a threshold
 *   which is one of Prometheus' default bounds (0.1, 0.25, 0.5, 1 s, …) counts exactly, whatever lies beside it.
 * - Over these it is dealt in turn, and goes on where the last scrape left off: evenly by the logarithm, and in the long
 *   run without favour to any.
 * - The first bucket, which reaches down to 0, lies where the sum of all durations says that its mean is; likewise the last
 *   one, which has no end.
 */
import { bucketOf, HISTOGRAM_BUCKETS } from "../../schemas/wire/histogram.ts";

interface Bound {
  /** ms; Infinity for the last */
  readonly le: number;
  /** requests up to it since the last scrape */
  cumulative: number;
  /** whose turn it is */
  turn: number;
}

/** As many as Prometheus' own defaults, several times over. */
const MAX_BOUNDS = 64;

export class Durations {
  readonly #bounds: Bound[] = [];
  sumMs = 0;

  /** Adds to one bucket; `le` is the label, in seconds. False: it is none, or one too many. */
  add(le: number, n: number): boolean {
    if (!(le > 0)) return false;
    const bound = this.#bounds.find((one) => one.le === le * 1_000);
    if (bound !== undefined) {
      bound.cumulative += n;
      return true;
    }
    if (this.#bounds.length >= MAX_BOUNDS) return false;
    this.#bounds.push({ le: le * 1_000, cumulative: n, turn: 0 });
    this.#bounds.sort((x, y) => x.le - y.le);
    return true;
  }

  /** Hands out what was added since the last time: calls `put` with buckets of ours and their counts. */
  take(put: (bucket: number, count: number) => void): void {
    const bounds = this.#bounds;
    const all = bounds.at(-1)?.cumulative ?? 0;
    const counts: number[] = [];
    let below = 0;
    // A bound that was left out, or came with another scrape, must not make others negative.
    for (const { cumulative, le } of bounds) {
      const upTo = le === Infinity ? all : Math.min(all, Math.max(below, cumulative));
      counts.push(upTo - below);
      below = upTo;
    }
    if (all > 0) this.#deal(counts, put);
    for (const bound of bounds) bound.cumulative = 0;
    this.sumMs = 0;
  }

  #deal(counts: readonly number[], put: (bucket: number, count: number) => void): void {
    const bounds = this.#bounds;
    let known = 0;
    counts.forEach((n, i) => {
      const { le = 0 } = bounds[i] ?? {};
      if (i > 0 && le !== Infinity) known += n * Math.sqrt((bounds[i - 1]?.le ?? le) * le);
    });
    const first = bounds[0];
    const ending = bounds.at(-1)?.le === Infinity ? (counts.at(-1) ?? 0) : 0;
    counts.forEach((n, i) => {
      const bound = bounds[i];
      if (n <= 0 || bound === undefined || first === undefined) return;
      const lo = bounds[i - 1]?.le ?? 0;
      if (bound.le === Infinity) {
        const others = i === 0 ? 0 : known + ((counts[0] ?? 0) * first.le) / 2;
        const mean = Math.max(lo, (this.sumMs - others) / n);
        return put(i === 0 ? bucketOf(mean) : Math.max(above(lo), bucketOf(mean)), n);
      }
      if (i === 0) {
        const told = ending === 0 && this.sumMs > 0 ? (this.sumMs - known) / n : bound.le / 2;
        return put(bucketOf(Math.min(bound.le, Math.max(bound.le / 50, told))), n);
      }
      const from = Math.min(above(lo), bucketOf(bound.le));
      const width = Math.max(1, bucketOf(bound.le) - from + 1);
      const each = Math.floor(n / width);
      const more = n % width;
      for (let k = 0; k < width; k++) {
        const extra = (k - bound.turn + width) % width < more ? 1 : 0;
        if (each + extra > 0) put(Math.min(HISTOGRAM_BUCKETS - 1, from + k), each + extra);
      }
      bound.turn = (bound.turn + more) % width;
    });
  }
}

const above = (ms: number): number => Math.min(HISTOGRAM_BUCKETS - 1, bucketOf(ms) + 1);
