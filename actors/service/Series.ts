/**
 * Rolling windows of one edge or one service: the last minute by second and the last quarter of an hour by ten seconds,
 * in typed arrays. Owned by a service actor; derived state, lost with it and filled again within minutes.
 * Slots are addressed by time, so late windows land where they belong and gaps read as zeros.
 */
export const FINE_SLOTS = 64;
export const COARSE_SLOTS = 90;
export const COARSE_SECONDS = 10;

/** Columns of a slot. `pending` is the highest number of waiting requests, `pendingSum` adds one number per second. */
export const FIELDS = [
  "count",
  "failed",
  "failedConnects",
  "opens",
  "retransmits",
  "sumMs",
  "pending",
  "pendingSum",
  "oldestMs",
  "slow",
  "cpuMs",
  "throttledMs",
  "memoryRatio",
  "ioWaitMs",
] as const;
export type Field = (typeof FIELDS)[number];
const GAUGES: ReadonlySet<Field> = new Set<Field>(["pending", "oldestMs", "memoryRatio"]);
const WIDTH = FIELDS.length;
const INDEX = Object.fromEntries(FIELDS.map((field, i) => [field, i])) as Readonly<Record<Field, number>>;
const IS_GAUGE = FIELDS.map((field) => GAUGES.has(field));

/** Totals over a span; gauges are the highest value seen. */
export type Totals = Readonly<Record<Field, number>> & { readonly seconds: number };

const NONE = new Float32Array(0);

export class Series {
  // Made with the first figure: most edges of most services carry none.
  #fine = NONE;
  #coarse = NONE;
  #latest = 0;
  #first = 0;

  /** Second of the newest slot, 0 before the first. */
  get latest(): number {
    return this.#latest;
  }
  /** Second of the first slot ever written. */
  get first(): number {
    return this.#first;
  }

  /** Makes `second` current, clearing the slots that it enters. Without data a service still advances, by its tick. */
  advance(second: number): void {
    if (second <= this.#latest) return;
    if (this.#latest === 0) {
      this.#first = second;
      this.#latest = second - 1;
    }
    if (this.#fine === NONE) {
      this.#latest = second;
      return;
    }
    const fineFrom = Math.max(this.#latest + 1, second - FINE_SLOTS + 1);
    for (let s = fineFrom; s <= second; s++) {
      const at = (s % FINE_SLOTS) * WIDTH;
      this.#fine.fill(0, at, at + WIDTH);
    }
    const slot = Math.floor(second / COARSE_SECONDS);
    const coarseFrom = Math.max(Math.floor(this.#latest / COARSE_SECONDS) + 1, slot - COARSE_SLOTS + 1);
    for (let s = coarseFrom; s <= slot; s++) {
      const at = (s % COARSE_SLOTS) * WIDTH;
      this.#coarse.fill(0, at, at + WIDTH);
    }
    this.#latest = second;
  }

  /** Adds to a counter, or raises a gauge, at `second`. What is older than a minute is too late and left out. */
  add(second: number, field: Field, value: number): void {
    if (value === 0 || second <= this.#latest - FINE_SLOTS || second > this.#latest) return;
    if (this.#fine === NONE) {
      this.#fine = new Float32Array(FINE_SLOTS * WIDTH);
      this.#coarse = new Float32Array(COARSE_SLOTS * WIDTH);
    }
    const column = INDEX[field];
    const fine = (second % FINE_SLOTS) * WIDTH + column;
    const coarse = (Math.floor(second / COARSE_SECONDS) % COARSE_SLOTS) * WIDTH + column;
    if (IS_GAUGE[column]) {
      this.#fine[fine] = Math.max(this.#fine[fine] ?? 0, value);
      this.#coarse[coarse] = Math.max(this.#coarse[coarse] ?? 0, value);
    } else {
      this.#fine[fine] = (this.#fine[fine] ?? 0) + value;
      this.#coarse[coarse] = (this.#coarse[coarse] ?? 0) + value;
    }
  }

  fine(second: number, field: Field): number {
    if (second <= this.#latest - FINE_SLOTS || second > this.#latest) return 0;
    return this.#fine[(second % FINE_SLOTS) * WIDTH + INDEX[field]] ?? 0;
  }

  /** One figure over the seconds from..to (both included), as far as the last minute reaches. */
  total(field: Field, from: number, to: number): number {
    const column = INDEX[field];
    const gauge = IS_GAUGE[column] === true;
    const fine = this.#fine;
    const end = Math.min(to, this.#latest);
    let out = 0;
    if (fine === NONE) return out;
    for (let s = Math.max(from, this.#latest - FINE_SLOTS + 1, this.#first); s <= end; s++) {
      const value = fine[(s % FINE_SLOTS) * WIDTH + column] ?? 0;
      if (!gauge) out += value;
      else if (value > out) out = value;
    }
    return out;
  }

  /** Seconds of from..to that the last minute reaches. */
  span(from: number, to: number): number {
    return Math.max(0, Math.min(to, this.#latest) - Math.max(from, this.#latest - FINE_SLOTS + 1, this.#first) + 1);
  }

  /** All figures over the seconds from..to (both included), as far as the last minute reaches. */
  totals(from: number, to: number): Totals {
    const out = Object.fromEntries(FIELDS.map((field) => [field, this.total(field, from, to)])) as Record<
      Field,
      number
    >;
    return { ...out, seconds: this.span(from, to) };
  }

  /** Whole ten-second slots that ended before second `before`, oldest first: what a baseline is made of. */
  baseline(before: number, map: (slot: Readonly<Record<Field, number>>) => number | null): number[] {
    const last = Math.floor(before / COARSE_SECONDS) - 1;
    const oldest = Math.max(
      last - COARSE_SLOTS + 2,
      Math.floor(this.#latest / COARSE_SECONDS) - COARSE_SLOTS + 1,
      Math.ceil(this.#first / COARSE_SECONDS),
    );
    const out: number[] = [];
    for (let s = oldest; s <= last; s++) {
      const at = (s % COARSE_SLOTS) * WIDTH;
      const slot = Object.fromEntries(FIELDS.map((field, i) => [field, this.#coarse[at + i] ?? 0])) as Record<
        Field,
        number
      >;
      const value = map(slot);
      if (value !== null) out.push(value);
    }
    return out;
  }
}
