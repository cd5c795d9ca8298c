/**
 * The minutes of judgement that may still change: sums by minute, written to the store once each is over and again when
 * late windows have changed it. Owned by one service actor, and part of its snapshot, so that a minute is whole also
 * when its actor moved in the middle of it and the agents sent their last windows again.
 */
import type { SliMinuteRow } from "../../schemas/tables.ts";
import type { ServiceId } from "../../schemas/service.ts";
import { HISTOGRAM_BUCKETS } from "../../schemas/wire/histogram.ts";
import type { Sums, Views } from "./views.ts";

export const MINUTE_MS = 60_000;
/** A minute is written this long after its end, so that windows under way are in it. */
const LATE_MS = 5_000;
/** One that late windows change is written at most this often. */
const AGAIN_MS = 10_000;
/** Agents send nothing that is older; a minute is forgotten when nothing can change it any more. */
const OPEN_MINUTES = 5;
/** More than the seconds of a minute. */
const SECONDS_ROOM = 64;

interface Minute {
  total: number;
  bad: number;
  slow: number;
  /** windows that are counted in it */
  windows: number;
  histogram: Uint32Array;
  writtenAt: number;
  dirty: boolean;
  /** the store has a row of it */
  rowed: boolean;
  settled: boolean;
}

/** As it stands in a snapshot: minute, total, bad, slow, windows, then bucket, count, … */
export type SavedMinute = readonly number[];

export class Minutes {
  readonly #open = new Map<number, Minute>();

  /** One window. False: too old to change anything. */
  add(atMs: number, now: number, { total, bad, slow, histogram, from, to }: Sums): boolean {
    const number = Math.floor(atMs / MINUTE_MS);
    if (number < Math.floor(now / MINUTE_MS) - OPEN_MINUTES) return false;
    let minute = this.#open.get(number);
    if (minute === undefined) {
      minute = newMinute();
      this.#open.set(number, minute);
    }
    minute.total += total;
    minute.bad += bad;
    minute.slow += slow;
    minute.windows++;
    if (total > 0)
      for (let i = from; i < to; i++) minute.histogram[i] = (minute.histogram[i] ?? 0) + (histogram[i] ?? 0);
    minute.dirty = true;
    return true;
  }

  /** Adds to an open minute what was counted too little, or takes out what was too much: `histogram` is taken out. */
  correct(atMs: number, total: number, bad: number, slow: number, histogram: readonly number[]): void {
    const minute = this.#open.get(Math.floor(atMs / MINUTE_MS));
    if (minute === undefined) return;
    minute.total += total;
    minute.bad += bad;
    minute.slow += slow;
    for (let i = 0; i + 1 < histogram.length; i += 2)
      minute.histogram[histogram[i] ?? 0] = (minute.histogram[histogram[i] ?? 0] ?? 0) - (histogram[i + 1] ?? 0);
    minute.dirty = true;
  }

  /**
   * Rows of the minutes that are over and have changed. Forgets what nothing can change any more. The version of a row is
   * the number of windows in it, then the number of its seconds that are judged by the server's own view: both only grow,
   * and are the same whoever counts, by whatever clock, so that no row of less knowledge replaces one of more.
   */
  due(service: ServiceId, now: number, views: Views): SliMinuteRow[] {
    const rows: SliMinuteRow[] = [];
    for (const [number, minute] of this.#open) {
      const over = now - (number + 1) * MINUTE_MS;
      if (minute.dirty && over >= LATE_MS && now - minute.writtenAt >= AGAIN_MS) {
        minute.dirty = false;
        minute.writtenAt = now;
        const seen = views.seenWithin(number * 60, number * 60 + 59);
        if (minute.rowed || minute.total > 0) rows.push(rowOf(service, number, minute, seen));
        minute.rowed ||= minute.total > 0;
      }
      if (!minute.dirty && over > OPEN_MINUTES * MINUTE_MS) this.#open.delete(number);
    }
    return rows;
  }

  /** Minutes that ended and were not asked for before: what is usual is learnt from them. */
  ended(now: number): readonly number[] {
    let ended: number[] = NONE;
    for (const [number, minute] of this.#open) {
      if (minute.settled || now - (number + 1) * MINUTE_MS < LATE_MS) continue;
      minute.settled = true;
      if (ended === NONE) ended = [];
      ended.push(number);
    }
    return ended;
  }

  /** What is counted in that minute, as long as it is open. */
  of(number: number): Omit<Sums, "histogram" | "from" | "to"> | null {
    return this.#open.get(number) ?? null;
  }

  saved(): SavedMinute[] {
    return [...this.#open].map(([number, { total, bad, slow, windows, histogram }]) => {
      const flat = [number, total, bad, slow, windows];
      histogram.forEach((n, bucket) => {
        if (n > 0) flat.push(bucket, n);
      });
      return flat;
    });
  }

  /** Takes what `saved` gave; all of it is written again, which changes nothing where it was written before. */
  restore(saved: readonly SavedMinute[], savedAt: number): void {
    for (const [number = 0, total = 0, bad = 0, slow = 0, windows = 0, ...flat] of saved) {
      const settled = savedAt - (number + 1) * MINUTE_MS >= LATE_MS;
      const minute = { ...newMinute(), total, bad, slow, windows, dirty: true, rowed: total > 0, settled };
      for (let i = 0; i + 1 < flat.length; i += 2) minute.histogram[flat[i] ?? 0] = flat[i + 1] ?? 0;
      this.#open.set(number, minute);
    }
  }

  view(): unknown {
    return Object.fromEntries(
      [...this.#open].map(([number, { total, bad, slow, windows, dirty }]) => [
        new Date(number * MINUTE_MS).toISOString(),
        { total, bad, slow, windows, dirty },
      ]),
    );
  }
}

const newMinute = (): Minute => ({
  total: 0,
  bad: 0,
  slow: 0,
  windows: 0,
  histogram: new Uint32Array(HISTOGRAM_BUCKETS),
  writtenAt: 0,
  dirty: false,
  rowed: false,
  settled: false,
});

const NONE: number[] = [];

const rowOf = (
  service: ServiceId,
  number: number,
  { total, bad, slow, windows, histogram }: Minute,
  seen: number,
): SliMinuteRow => {
  const buckets: number[] = [];
  const counts: number[] = [];
  histogram.forEach((n, bucket) => {
    if (n === 0) return;
    buckets.push(bucket);
    counts.push(n);
  });
  return {
    service,
    minute: number * MINUTE_MS,
    total,
    bad,
    slow,
    buckets,
    counts,
    version: windows * SECONDS_ROOM + seen,
  };
};
