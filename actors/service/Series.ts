/**
 * Rolling windows of one edge or one service: the last minute by second and the last quarter of an hour by ten seconds,
 * in typed arrays. Owned by a service actor; derived state: after a restart the quarter of an hour comes back from the
 * minutes in the store, the last minute fills again. Slots are addressed by time, so late windows land where they belong
 * and gaps read as zeros; what was not seen between an actor's life and the next one's is not part of a baseline.
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

/** One minute, in the order of FIELDS; `second` is its first. */
export interface MinuteFigures {
  readonly second: number;
  /** how many of its seconds were seen */
  readonly seen: number;
  readonly values: readonly number[];
}

const MINUTE_SECONDS = 60;
const MINUTE_SLOTS = MINUTE_SECONDS / COARSE_SECONDS;

/** Totals over a span; gauges are the highest value seen. */
export type Totals = Readonly<Record<Field, number>> & { readonly seconds: number };

const SLOTS = FINE_SLOTS + COARSE_SLOTS;

/** Which figures have a column, in the order of FIELDS: most edges have two or three of them. The same for all alike. */
interface Layout {
  readonly fields: number;
  readonly width: number;
  /** place in a slot by index of FIELDS, -1: none */
  readonly places: readonly number[];
}

const layouts = new Map<number, Layout>();
const layoutOf = (fields: number): Layout => {
  let layout = layouts.get(fields);
  if (layout === undefined) {
    let width = 0;
    const places = FIELDS.map((_, i) => ((fields >> i) & 1 ? width++ : -1));
    layout = { fields, width, places };
    layouts.set(fields, layout);
  }
  return layout;
};
const EMPTY = layoutOf(0);

const NONE = new Float32Array(0);

const fineSlot = (second: number): number => second % FINE_SLOTS;
const coarseSlot = (number: number): number => FINE_SLOTS + (number % COARSE_SLOTS);

export class Series {
  #layout = EMPTY;
  /** seconds, then slots of ten of them */
  #data = NONE;
  #latest = 0;
  #first = 0;
  // What an earlier life saw: from the first of its seconds up to the second before `pastTo`.
  #pastFrom = 0;
  #pastTo = 0;

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
    const { width } = this.#layout;
    if (width > 0) {
      const fineFrom = Math.max(this.#latest + 1, second - FINE_SLOTS + 1);
      for (let s = fineFrom; s <= second; s++) this.#clear(fineSlot(s));
      const slot = Math.floor(second / COARSE_SECONDS);
      const coarseFrom = Math.max(Math.floor(this.#latest / COARSE_SECONDS) + 1, slot - COARSE_SLOTS + 1);
      for (let s = coarseFrom; s <= slot; s++) this.#clear(coarseSlot(s));
    }
    this.#latest = second;
  }

  #clear(slot: number): void {
    const { width } = this.#layout;
    for (let at = slot * width, end = at + width; at < end; at++) this.#data[at] = 0;
  }

  /** Adds to a counter, or raises a gauge, at `second`. What is older than a minute is too late and left out. */
  add(second: number, field: Field, value: number): void {
    if (value === 0 || second <= this.#latest - FINE_SLOTS || second > this.#latest) return;
    const column = INDEX[field];
    const place = this.#place(column);
    const data = this.#data;
    const { width } = this.#layout;
    const fine = fineSlot(second) * width + place;
    const coarse = coarseSlot(Math.floor(second / COARSE_SECONDS)) * width + place;
    if (IS_GAUGE[column]) {
      data[fine] = Math.max(data[fine] ?? 0, value);
      data[coarse] = Math.max(data[coarse] ?? 0, value);
    } else {
      data[fine] = (data[fine] ?? 0) + value;
      data[coarse] = (data[coarse] ?? 0) + value;
    }
  }

  /**
   * As `add`, for a window of so many seconds that ended with `second`: a counter is spread evenly over those of them
   * that the series knows.
   */
  addOver(second: number, seconds: number, field: Field, value: number): void {
    if (seconds <= 1 || value === 0) return this.add(second, field, value);
    const from = Math.max(
      second - Math.round(seconds) + 1,
      Math.min(second, this.#first),
      this.#latest - FINE_SLOTS + 1,
    );
    const each = GAUGES.has(field) ? value : value / Math.max(1, second - from + 1);
    for (let s = from; s <= second; s++) this.add(s, field, each);
  }

  /** Place of a column, which is made with its first figure. */
  #place(column: number): number {
    const place = this.#layout.places[column] ?? -1;
    if (place >= 0) return place;
    const [from, to] = [this.#layout, layoutOf(this.#layout.fields | (1 << column))];
    const [before, after] = [this.#data, new Float32Array(SLOTS * to.width)];
    for (const [i, source] of from.places.entries()) {
      const target = to.places[i] ?? -1;
      if (source < 0) continue;
      for (let slot = 0; slot < SLOTS; slot++)
        after[slot * to.width + target] = before[slot * from.width + source] ?? 0;
    }
    this.#layout = to;
    this.#data = after;
    return to.places[column] ?? 0;
  }

  #at(slot: number, column: number): number {
    const { places, width } = this.#layout;
    const place = places[column] ?? -1;
    return place < 0 ? 0 : (this.#data[slot * width + place] ?? 0);
  }

  fine(second: number, field: Field): number {
    if (second <= this.#latest - FINE_SLOTS || second > this.#latest) return 0;
    return this.#at(fineSlot(second), INDEX[field]);
  }

  /** One figure over the seconds from..to (both included), as far as the last minute reaches. */
  total(field: Field, from: number, to: number): number {
    const column = INDEX[field];
    const gauge = IS_GAUGE[column] === true;
    const { places, width } = this.#layout;
    const place = places[column] ?? -1;
    const data = this.#data;
    const end = Math.min(to, this.#latest);
    let out = 0;
    if (place < 0) return out;
    for (let s = Math.max(from, this.#latest - FINE_SLOTS + 1, this.#first); s <= end; s++) {
      const value = data[fineSlot(s) * width + place] ?? 0;
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

  /** A minute that was seen at least in part and has a figure. */
  minute(second: number): MinuteFigures | null {
    const from = Math.max(second, this.#first);
    const to = Math.min(second + MINUTE_SECONDS - 1, this.#latest);
    const first = Math.floor(second / COARSE_SECONDS);
    if (this.#layout === EMPTY || to < from || first <= Math.floor(this.#latest / COARSE_SECONDS) - COARSE_SLOTS)
      return null;
    const values = FIELDS.map(() => 0);
    let some = false;
    for (let slot = first; slot < first + MINUTE_SLOTS && slot * COARSE_SECONDS <= this.#latest; slot++) {
      for (let i = 0; i < WIDTH; i++) {
        const value = this.#at(coarseSlot(slot), i);
        if (value === 0) continue;
        some = true;
        values[i] = IS_GAUGE[i] === true ? Math.max(values[i] ?? 0, value) : (values[i] ?? 0) + value;
      }
    }
    return some ? { second, seen: to - from + 1, values } : null;
  }

  /**
   * Minutes that an earlier life saw, up to the second before `seenTo`; those that are missing read as zeros. They count
   * for baselines as far as they lie before what this life has seen itself. Counters are spread evenly over a minute.
   */
  takeBefore(minutes: readonly MinuteFigures[], seenTo: number): void {
    if (this.#latest === 0) return;
    const oldest = Math.floor(this.#latest / COARSE_SECONDS) - COARSE_SLOTS + 1;
    for (const { second, values } of minutes)
      for (let i = 0; i < MINUTE_SLOTS; i++) {
        const slot = Math.floor(second / COARSE_SECONDS) + i;
        const start = slot * COARSE_SECONDS;
        if (slot < oldest || start + COARSE_SECONDS > this.#first) continue;
        for (let column = 0; column < WIDTH; column++) {
          const value = values[column] ?? 0;
          if (value === 0 && (this.#layout.places[column] ?? -1) < 0) continue;
          const place = this.#place(column);
          this.#data[coarseSlot(slot) * this.#layout.width + place] =
            IS_GAUGE[column] === true ? value : value / MINUTE_SLOTS;
        }
        if (this.#pastFrom === 0 || start < this.#pastFrom) this.#pastFrom = start;
        this.#pastTo = seenTo;
      }
  }

  /** Whole ten-second slots that ended before second `before`, oldest first: what a baseline is made of. */
  baseline(before: number, map: (slot: Readonly<Record<Field, number>>) => number | null): number[] {
    const last = Math.floor(before / COARSE_SECONDS) - 1;
    const oldest = Math.max(
      last - COARSE_SLOTS + 2,
      Math.floor(this.#latest / COARSE_SECONDS) - COARSE_SLOTS + 1,
      Math.ceil((this.#pastFrom === 0 ? this.#first : this.#pastFrom) / COARSE_SECONDS),
    );
    const out: number[] = [];
    for (let s = oldest; s <= last; s++) {
      if (this.#pastFrom !== 0 && (s + 1) * COARSE_SECONDS > this.#pastTo && s * COARSE_SECONDS < this.#first) continue;
      const slot = Object.fromEntries(FIELDS.map((field, i) => [field, this.#at(coarseSlot(s), i)])) as Record<
        Field,
        number
      >;
      const value = map(slot);
      if (value !== null) out.push(value);
    }
    return out;
  }
}
