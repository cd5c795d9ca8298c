/**
 * What a service asked name servers for: requests of the last minute in slots of five seconds, and names that do not
 * exist, of the last ten minutes. Made with the first look-up, so that services without any pay nothing. Derived state.
 */
import { HISTOGRAM_BUCKETS, quantileMs } from "../../schemas/wire/histogram.ts";
import type { AbsentName, RequestWindow } from "./messages.ts";

const SLOT_SECONDS = 5;
const SLOTS = 12;
const ABSENT_MS = 600_000;
const MOST_ABSENT = 100;
/** Used by one reading at a time. */
const sum = new Uint32Array(HISTOGRAM_BUCKETS);

interface Slot {
  start: number;
  requests: number;
  failed: number;
  unanswered: number;
  readonly histogram: Uint32Array;
}

export interface Absent {
  readonly name: string;
  readonly type: string;
  /** it did exist: the service got an answer for it before */
  known: boolean;
  count: number;
  at: number;
}

export class DnsWindow {
  readonly absent = new Map<string, Absent>();
  readonly #slots: readonly Slot[] = Array.from({ length: SLOTS }, () => ({
    start: 0,
    requests: 0,
    failed: 0,
    unanswered: 0,
    histogram: new Uint32Array(HISTOGRAM_BUCKETS),
  }));

  add(second: number, { ok, rejected, failed, unanswered, histogram }: RequestWindow): void {
    const start = second - (second % SLOT_SECONDS);
    const slot = this.#slots[(start / SLOT_SECONDS) % SLOTS];
    if (slot === undefined || start < slot.start) return;
    if (start > slot.start) {
      slot.start = start;
      slot.requests = slot.failed = slot.unanswered = 0;
      slot.histogram.fill(0);
    }
    slot.requests += ok + rejected + failed + unanswered;
    slot.failed += failed;
    slot.unanswered += unanswered;
    for (let i = 0; i + 1 < histogram.length; i += 2) {
      const bucket = histogram[i] ?? 0;
      slot.histogram[bucket] = (slot.histogram[bucket] ?? 0) + (histogram[i + 1] ?? 0);
    }
  }

  addAbsent({ name, type, count, known }: AbsentName, at: number): void {
    const key = `${name} ${type}`;
    const before = this.absent.get(key);
    if (before !== undefined && at - before.at <= ABSENT_MS) {
      before.count += count;
      before.known ||= known;
      before.at = Math.max(at, before.at);
      return;
    }
    this.absent.delete(key);
    this.absent.set(key, { name, type, count, known, at });
    const [oldest] = this.absent.keys();
    if (this.absent.size > MOST_ABSENT && oldest !== undefined) this.absent.delete(oldest);
  }

  /** Of the minute that ends with `second`. */
  total(of: "requests" | "failed" | "unanswered", second: number): number {
    let n = 0;
    for (const slot of this.#slots) if (isIn(slot, second)) n += slot[of];
    return n;
  }

  p95Ms(second: number): number | null {
    sum.fill(0);
    for (const slot of this.#slots)
      if (isIn(slot, second))
        for (let i = 0; i < HISTOGRAM_BUCKETS; i++) sum[i] = (sum[i] ?? 0) + (slot.histogram[i] ?? 0);
    return quantileMs(sum, 0.95);
  }

  /** How often names did not exist in the last ten minutes that had existed before. */
  vanished(now: number): number {
    let n = 0;
    for (const { known, count, at } of this.absent.values()) if (known && now - at <= ABSENT_MS) n += count;
    return n;
  }

  /** Names that did not exist in the last ten minutes, most often first. */
  absentSince(now: number): readonly Absent[] {
    return [...this.absent.values()].filter(({ at }) => now - at <= ABSENT_MS).toSorted((a, b) => b.count - a.count);
  }
}

const isIn = (slot: Slot, second: number): boolean =>
  slot.start <= second && slot.start > second - SLOTS * SLOT_SECONDS;
