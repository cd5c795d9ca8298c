/**
 * Traffic of the last five to ten seconds in two halves that take turns: rates and percentiles for the page and the
 * inspections. Owned by an edge or a service; 1 KB each.
 *
 * A window of more than a second (a scrape of 15 s) is held: its requests are spread evenly over as many seconds from its
 * end on, so that the rate is right at any moment until the next one comes, and lags by one window. Halves are then as
 * long as the window, so that percentiles do not end before the next one either.
 */
import { HISTOGRAM_BUCKETS, quantileMs } from "../../schemas/wire/histogram.ts";
import type { Traffic } from "../../schemas/wire/page.ts";
import type { RequestWindow } from "./messages.ts";

const HALF_SECONDS = 5;
/** The longest window that is held, in seconds; a longer one is held as if it had ended so long ago. */
const HELD_SECONDS = 64;
/** A rate is the mean over so many seconds. */
const MEAN_SECONDS = 10;
const GAUGES_FRESH_S = 2;
/** Used by one reading at a time. */
const both = new Uint32Array(HISTOGRAM_BUCKETS);

interface Half {
  start: number;
  requests: number;
  bad: number;
  /** requests whose status could not be read */
  unknown: number;
  /** where its buckets begin */
  readonly at: number;
}

/** Requests a second, by second; `at` says which second a slot is of. */
interface Held {
  readonly at: Float64Array;
  readonly requests: Float64Array;
  readonly bad: Float64Array;
}

const half = (at: number): Half => ({ start: 0, requests: 0, bad: 0, unknown: 0, at });

export class TrafficWindow {
  #current = half(0);
  #previous = half(HISTOGRAM_BUCKETS);
  /** of both halves; made with the first request */
  #histograms: Uint32Array | null = null;
  #pending = 0;
  #oldestMs = 0;
  #gaugesAt = 0;
  #halfSeconds = HALF_SECONDS;
  #heldTo = 0;
  #held: Held | null = null;

  /** `seconds`: how long the window was that ended with `second`. */
  add(second: number, requests: RequestWindow, seconds = 1): void {
    const total = requests.ok + requests.rejected + requests.failed + requests.unanswered + requests.unknown;
    const bad = requests.failed + requests.unanswered;
    this.#count(second, total, bad, seconds);
    const current = this.#current;
    current.unknown += requests.unknown / Math.max(1, seconds);
    const { histogram } = requests;
    if (histogram.length === 0) return;
    const into = (this.#histograms ??= new Uint32Array(2 * HISTOGRAM_BUCKETS));
    for (let i = 0; i + 1 < histogram.length; i += 2) {
      const place = current.at + (histogram[i] ?? 0);
      into[place] = (into[place] ?? 0) + (histogram[i + 1] ?? 0);
    }
  }

  /** Failed connects are requests that never got through. */
  addFailedConnects(second: number, n: number, seconds = 1): void {
    this.#count(second, n, n, seconds);
  }

  /** Gauges of one second add up over edges; a new second starts over. */
  gauges(second: number, pending: number, oldestMs: number): void {
    if (second !== this.#gaugesAt) {
      this.#gaugesAt = second;
      this.#pending = 0;
      this.#oldestMs = 0;
    }
    this.#pending += pending;
    this.#oldestMs = Math.max(this.#oldestMs, oldestMs);
  }

  /** Requests that waited in that second, as far as its gauges have come. */
  pending(second: number): number {
    return second - this.#gaugesAt <= GAUGES_FRESH_S ? this.#pending : 0;
  }

  traffic(second: number): Traffic {
    this.#turn(second);
    const seconds = Math.max(1, second - (this.#previous.start || this.#current.start) + 1);
    const held = this.#heldAt(second);
    const requests = (this.#current.requests + this.#previous.requests) / seconds + held.requests;
    const bad = (this.#current.bad + this.#previous.bad) / seconds + held.bad;
    const unknown = Math.min(requests, (this.#current.unknown + this.#previous.unknown) / seconds);
    const histogram = both;
    for (let i = 0; i < HISTOGRAM_BUCKETS; i++)
      histogram[i] = (this.#histograms?.[i] ?? 0) + (this.#histograms?.[HISTOGRAM_BUCKETS + i] ?? 0);
    const fresh = second - this.#gaugesAt <= GAUGES_FRESH_S;
    return {
      requestsPerSecond: requests,
      errorRatio: requests === unknown ? 0 : bad / (requests - unknown),
      unknownRatio: requests === 0 ? 0 : unknown / requests,
      p50Ms: quantileMs(histogram, 0.5),
      p95Ms: quantileMs(histogram, 0.95),
      p99Ms: quantileMs(histogram, 0.99),
      pending: this.pending(second),
      oldestPendingMs: fresh ? this.#oldestMs : 0,
    };
  }

  #count(second: number, total: number, bad: number, seconds: number): void {
    if (seconds > this.#halfSeconds) this.#halfSeconds = Math.min(HELD_SECONDS, seconds);
    this.#turn(second);
    if (seconds <= 1) {
      this.#current.requests += total;
      this.#current.bad += bad;
      return;
    }
    this.#held ??= {
      at: new Float64Array(HELD_SECONDS),
      requests: new Float64Array(HELD_SECONDS),
      bad: new Float64Array(HELD_SECONDS),
    };
    const { at, requests, bad: bads } = this.#held;
    const span = Math.min(HELD_SECONDS, Math.round(seconds));
    this.#heldTo = Math.max(this.#heldTo, second + span - 1);
    for (let s = second; s < second + span; s++) {
      const slot = s % HELD_SECONDS;
      const known = at[slot] === s;
      at[slot] = s;
      requests[slot] = (known ? (requests[slot] ?? 0) : 0) + total / seconds;
      bads[slot] = (known ? (bads[slot] ?? 0) : 0) + bad / seconds;
    }
  }

  /** Requests a second of the windows that are held, as the mean over the last seconds that one of them covers. */
  #heldAt(second: number): { readonly requests: number; readonly bad: number } {
    let covered = 0;
    let requests = 0;
    let bad = 0;
    if (this.#held === null || second >= this.#heldTo + MEAN_SECONDS) return NOTHING_HELD;
    for (let s = second - MEAN_SECONDS + 1; s <= second; s++) {
      const slot = s % HELD_SECONDS;
      if (this.#held.at[slot] !== s) continue;
      covered++;
      requests += this.#held.requests[slot] ?? 0;
      bad += this.#held.bad[slot] ?? 0;
    }
    return covered === 0 ? NOTHING_HELD : { requests: requests / covered, bad: bad / covered };
  }

  #turn(second: number): void {
    if (this.#halfSeconds > HALF_SECONDS && second > this.#heldTo + this.#halfSeconds) {
      this.#halfSeconds = HALF_SECONDS;
      this.#held = null;
    }
    const length = this.#halfSeconds;
    const start = second - (second % length);
    if (start <= this.#current.start) return;
    const recycled = this.#previous;
    const adjacent = start - this.#current.start <= length;
    this.#previous = adjacent ? this.#current : this.#reset(this.#current, start - length);
    this.#current = this.#reset(recycled, start);
  }

  #reset(h: Half, start: number): Half {
    h.start = start;
    h.requests = 0;
    h.bad = 0;
    h.unknown = 0;
    this.#histograms?.fill(0, h.at, h.at + HISTOGRAM_BUCKETS);
    return h;
  }
}

const NOTHING_HELD = { requests: 0, bad: 0 };

export const noTraffic: Traffic = {
  requestsPerSecond: 0,
  errorRatio: 0,
  unknownRatio: 0,
  p50Ms: null,
  p95Ms: null,
  p99Ms: null,
  pending: 0,
  oldestPendingMs: 0,
};
