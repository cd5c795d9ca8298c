/**
 * Whose view of a second counts: the server's own, or its clients' while the server has not been seen for five seconds.
 * Windows of several agents come in any order, and after a move minutes late: what clients added to a second is kept for
 * as long as the server's view of it may still come, and is then taken out again. So what a service counts depends on
 * which windows came, and not on when. Owned by one service actor, and part of its snapshot.
 */
/** A server that was seen serving counts as seen for so many seconds more. */
const FRESH_S = 5;
/** What is older is settled: agents send nothing so old again. */
const OPEN_S = 360;

export interface Sums {
  readonly total: number;
  readonly bad: number;
  readonly slow: number;
  readonly histogram: Uint32Array;
  /** buckets from..to (not included) are all that have anything */
  readonly from: number;
  readonly to: number;
}

/** What clients added to one second; the histogram is sparse: bucket, count, … */
export interface Used {
  readonly at: number;
  total: number;
  bad: number;
  slow: number;
  readonly histogram: number[];
}

interface Span {
  from: number;
  to: number;
}

export type SavedViews = readonly [
  spans: readonly (readonly [from: number, to: number])[],
  used: readonly (readonly [at: number, total: number, bad: number, slow: number, ...histogram: number[]])[],
];

const NOTHING: readonly Used[] = [];
const secondOf = (at: number): number => Math.floor(at / 1000);

const addTo = (sparse: number[], bucket: number, n: number): void => {
  for (let i = 0; i < sparse.length; i += 2)
    if (sparse[i] === bucket) {
      sparse[i + 1] = (sparse[i + 1] ?? 0) + n;
      return;
    }
  sparse.push(bucket, n);
};

export class Views {
  /** seconds in which the server counts as seen, oldest first, never touching each other */
  #seen: Span[] = [];
  readonly #used = new Map<number, Used>();

  isSeen(second: number): boolean {
    for (let i = this.#seen.length - 1; i >= 0; i--) {
      const span = this.#seen[i];
      if (span !== undefined && span.from <= second) return second <= span.to;
    }
    return false;
  }

  /**
   * The server was seen serving in a window of so many seconds that ended with that second; it counts as seen until the
   * next such window must have come. Gives what clients had added to seconds that are the server's now.
   */
  see(second: number, seconds = 1): readonly Used[] {
    const from = second - Math.ceil(seconds) + 1;
    const to = second + Math.ceil(seconds) - 1 + FRESH_S;
    const last = this.#seen[this.#seen.length - 1];
    if (last !== undefined && from >= last.from && from <= last.to + 1) {
      if (to <= last.to) return NOTHING;
      last.to = to;
    } else this.#insert(from, to);
    if (this.#used.size === 0) return NOTHING;
    const taken: Used[] = [];
    for (let s = from; s <= to; s++) {
      const used = this.#used.get(s);
      if (used === undefined) continue;
      taken.push(used);
      this.#used.delete(s);
    }
    return taken;
  }

  use(at: number, { total, bad, slow, histogram, from, to }: Sums): void {
    if (total + slow === 0) return;
    const second = secondOf(at);
    let used = this.#used.get(second);
    if (used === undefined) {
      used = { at, total: 0, bad: 0, slow: 0, histogram: [] };
      this.#used.set(second, used);
      if (this.#used.size > 2 * OPEN_S)
        for (const old of this.#used.keys()) if (old < second - OPEN_S) this.#used.delete(old);
    }
    used.total += total;
    used.bad += bad;
    used.slow += slow;
    for (let bucket = from; bucket < to; bucket++) {
      const n = histogram[bucket] ?? 0;
      if (n > 0) addTo(used.histogram, bucket, n);
    }
  }

  /** How many seconds of that span count as seen by the server; never falls. */
  seenWithin(from: number, to: number): number {
    let n = 0;
    for (const span of this.#seen) n += Math.max(0, Math.min(to, span.to) - Math.max(from, span.from) + 1);
    return n;
  }

  saved(now: number): SavedViews {
    const from = now / 1000 - OPEN_S;
    return [
      this.#seen.filter((span) => span.to >= from).map((span) => [Math.max(span.from, Math.floor(from)), span.to]),
      [...this.#used.values()]
        .filter(({ at }) => at >= from * 1000)
        .map(({ at, total, bad, slow, histogram }) => [at, total, bad, slow, ...histogram]),
    ];
  }

  restore([spans, used]: SavedViews): void {
    this.#seen = spans.map(([from, to]) => ({ from, to }));
    for (const [at, total, bad, slow, ...histogram] of used)
      this.#used.set(secondOf(at), { at, total, bad, slow, histogram });
  }

  #insert(from: number, to: number): void {
    const apart = this.#seen.filter((span) => span.to + 1 < from || span.from > to + 1);
    const merged = { from, to };
    for (const span of this.#seen) {
      if (apart.includes(span)) continue;
      merged.from = Math.min(merged.from, span.from);
      merged.to = Math.max(merged.to, span.to);
    }
    const newest = Math.max(to, this.#seen[this.#seen.length - 1]?.to ?? to);
    this.#seen = [...apart, merged].filter((span) => span.to >= newest - OPEN_S).sort((a, b) => a.from - b.from);
  }
}
