/**
 * The minutes of judgement that may still change: sums by minute, written to the store once each is over and again when
 * late windows have changed it. Owned by one service actor, and part of its snapshot, so that a minute is whole also
 * when its actor moved in the middle of it and the agents sent their last windows again.
 */
import type { SliMinuteRow } from "../../schemas/tables.ts";
import type { ServiceId } from "../../schemas/service.ts";
import { HISTOGRAM_BUCKETS } from "../../schemas/wire/histogram.ts";

export const MINUTE_MS = 60_000;
/** A minute is written this long after its end, so that windows under way are in it. */
const LATE_MS = 5_000;
/** One that late windows change is written at most this often. */
const AGAIN_MS = 10_000;
/** Agents send again what is at most three minutes old; a minute is forgotten when nothing can change it any more. */
const OPEN_MINUTES = 5;

interface Minute {
  total: number;
  bad: number;
  slow: number;
  /** windows in it that counted something: the version of its row, since it only grows and is the same whoever counts, by whatever clock */
  windows: number;
  histogram: Uint32Array;
  writtenAt: number;
  dirty: boolean;
  settled: boolean;
}

export interface Sums {
  readonly total: number;
  readonly bad: number;
  readonly slow: number;
  readonly histogram: Uint32Array;
}

/** As it stands in a snapshot: minute, total, bad, slow, windows, then bucket, count, … */
export type SavedMinute = readonly number[];

export class Minutes {
  readonly #open = new Map<number, Minute>();

  /** False: too old to change anything. */
  add(atMs: number, now: number, { total, bad, slow, histogram }: Sums): boolean {
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
    if (total + slow > 0) minute.windows++;
    if (total > 0)
      for (let i = 0; i < HISTOGRAM_BUCKETS; i++)
        minute.histogram[i] = (minute.histogram[i] ?? 0) + (histogram[i] ?? 0);
    minute.dirty = true;
    return true;
  }

  /** Rows of the minutes that are over and have changed. Forgets what nothing can change any more. */
  due(service: ServiceId, now: number): SliMinuteRow[] {
    const rows: SliMinuteRow[] = [];
    for (const [number, minute] of this.#open) {
      const over = now - (number + 1) * MINUTE_MS;
      if (minute.dirty && over >= LATE_MS && now - minute.writtenAt >= AGAIN_MS) {
        minute.dirty = false;
        minute.writtenAt = now;
        if (minute.total > 0) rows.push(rowOf(service, number, minute));
      }
      if (!minute.dirty && over > OPEN_MINUTES * MINUTE_MS) this.#open.delete(number);
    }
    return rows;
  }

  /** Minutes that ended and were not asked for before: what is usual is learnt from them. */
  *ended(now: number): Iterable<{ readonly total: number; readonly bad: number; readonly slow: number }> {
    for (const [number, minute] of this.#open) {
      if (minute.settled || now - (number + 1) * MINUTE_MS < LATE_MS) continue;
      minute.settled = true;
      yield minute;
    }
  }

  /** Requests counted in that minute, 0 when it is not open. */
  totalOf(number: number): number {
    return this.#open.get(number)?.total ?? 0;
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
  restore(saved: readonly SavedMinute[]): void {
    for (const [number = 0, total = 0, bad = 0, slow = 0, windows = 0, ...flat] of saved) {
      const minute = { ...newMinute(), total, bad, slow, windows, dirty: true, settled: true };
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
  settled: false,
});

const rowOf = (service: ServiceId, number: number, { total, bad, slow, windows, histogram }: Minute): SliMinuteRow => {
  const buckets: number[] = [];
  const counts: number[] = [];
  histogram.forEach((n, bucket) => {
    if (n === 0) return;
    buckets.push(bucket);
    counts.push(n);
  });
  return { service, minute: number * MINUTE_MS, total, bad, slow, buckets, counts, version: windows };
};
