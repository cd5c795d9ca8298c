/**
 * Traffic of the last five to ten seconds in two halves that take turns: rates and percentiles for the page and the
 * inspections. Owned by an edge or a service; 1 KB each.
 */
import { HISTOGRAM_BUCKETS, quantileMs } from "../../schemas/wire/histogram.ts";
import type { Traffic } from "../../schemas/wire/page.ts";
import type { RequestWindow } from "./messages.ts";

const HALF_SECONDS = 5;
/** Used by one reading at a time. */
const both = new Uint32Array(HISTOGRAM_BUCKETS);

interface Half {
  start: number;
  requests: number;
  bad: number;
  readonly histogram: Uint32Array;
}

const half = (): Half => ({ start: 0, requests: 0, bad: 0, histogram: new Uint32Array(HISTOGRAM_BUCKETS) });

export class TrafficWindow {
  #current = half();
  #previous = half();
  #pending = 0;
  #oldestMs = 0;
  #gaugesAt = 0;

  add(second: number, requests: RequestWindow): void {
    this.#turn(second);
    const current = this.#current;
    current.requests += requests.ok + requests.rejected + requests.failed + requests.unanswered;
    current.bad += requests.failed + requests.unanswered;
    const { histogram } = requests;
    for (let i = 0; i + 1 < histogram.length; i += 2) {
      const bucket = histogram[i] ?? 0;
      current.histogram[bucket] = (current.histogram[bucket] ?? 0) + (histogram[i + 1] ?? 0);
    }
  }

  /** Failed connects are requests that never got through. */
  addFailedConnects(second: number, n: number): void {
    this.#turn(second);
    this.#current.requests += n;
    this.#current.bad += n;
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

  traffic(second: number): Traffic {
    this.#turn(second);
    const seconds = Math.max(1, second - (this.#previous.start || this.#current.start) + 1);
    const requests = this.#current.requests + this.#previous.requests;
    const bad = this.#current.bad + this.#previous.bad;
    const histogram = both;
    for (let i = 0; i < HISTOGRAM_BUCKETS; i++)
      histogram[i] = (this.#current.histogram[i] ?? 0) + (this.#previous.histogram[i] ?? 0);
    const fresh = second - this.#gaugesAt <= 2;
    return {
      requestsPerSecond: requests / seconds,
      errorRatio: requests === 0 ? 0 : bad / requests,
      p50Ms: quantileMs(histogram, 0.5),
      p95Ms: quantileMs(histogram, 0.95),
      p99Ms: quantileMs(histogram, 0.99),
      pending: fresh ? this.#pending : 0,
      oldestPendingMs: fresh ? this.#oldestMs : 0,
    };
  }

  #turn(second: number): void {
    const start = second - (second % HALF_SECONDS);
    if (start <= this.#current.start) return;
    const recycled = this.#previous;
    const adjacent = start - this.#current.start === HALF_SECONDS;
    this.#previous = adjacent ? this.#current : reset(this.#current, start - HALF_SECONDS);
    this.#current = reset(recycled, start);
  }
}

const reset = (h: Half, start: number): Half => {
  h.start = start;
  h.requests = 0;
  h.bad = 0;
  h.histogram.fill(0);
  return h;
};

export const noTraffic: Traffic = {
  requestsPerSecond: 0,
  errorRatio: 0,
  p50Ms: null,
  p95Ms: null,
  p99Ms: null,
  pending: 0,
  oldestPendingMs: 0,
};
