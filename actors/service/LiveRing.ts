/** The last quarter of an hour by second, for the charts of the page. Owned by a service actor; allocated on first data. */
import type { LiveWindows } from "../../schemas/wire/page.ts";

const SECONDS = 900;
const COLUMNS = [
  "requests",
  "errors",
  "p50Ms",
  "p95Ms",
  "p99Ms",
  "cpuCores",
  "throttledRatio",
  "memoryBytes",
  "pending",
] as const;
export type LiveColumn = (typeof COLUMNS)[number];
const WIDTH = COLUMNS.length;
const INDEX = Object.fromEntries(COLUMNS.map((column, i) => [column, i])) as Readonly<Record<LiveColumn, number>>;
const PERCENTILES: ReadonlySet<string> = new Set(["p50Ms", "p95Ms", "p99Ms"]);

const placeOf = (second: number, column: number): number => (second % SECONDS) * WIDTH + column;

export class LiveRing {
  /** by second, then column */
  #data: Float32Array | null = null;
  #latest = 0;
  #first = 0;

  /** Enters a second; levels (CPU, memory) go on as they were until they are reported again. */
  advance(second: number): void {
    if (second <= this.#latest) return;
    if (this.#latest === 0) {
      this.#first = second;
      this.#latest = second - 1;
    }
    const data = this.#data;
    if (data !== null)
      for (let s = Math.max(this.#latest + 1, second - SECONDS + 1); s <= second; s++) {
        data.fill(0, placeOf(s, 0), placeOf(s, WIDTH));
        if (s > this.#first) data[placeOf(s, INDEX.memoryBytes)] = data[placeOf(s - 1, INDEX.memoryBytes)] ?? 0;
      }
    this.#latest = second;
  }

  add(second: number, column: LiveColumn, value: number): void {
    if (value === 0 || !this.#holds(second)) return;
    const data = (this.#data ??= new Float32Array(SECONDS * WIDTH));
    const place = placeOf(second, INDEX[column]);
    data[place] = (data[place] ?? 0) + value;
  }

  /** As `add`, for a rate that held for so many seconds up to `second`. */
  addOver(second: number, seconds: number, column: LiveColumn, value: number): void {
    for (let s = second - Math.max(1, Math.round(seconds)) + 1; s <= second; s++) this.add(s, column, value);
  }

  /** As `set`, for a level that held for so many seconds up to `second`. */
  setOver(second: number, seconds: number, column: LiveColumn, value: number): void {
    for (let s = second - Math.max(1, Math.round(seconds)) + 1; s <= second; s++) this.set(s, column, value);
  }

  set(second: number, column: LiveColumn, value: number): void {
    if ((value === 0 && this.#data === null) || !this.#holds(second)) return;
    const data = (this.#data ??= new Float32Array(SECONDS * WIDTH));
    data[placeOf(second, INDEX[column])] = value;
  }

  get latest(): number {
    return this.#latest;
  }

  /** Seconds from..to (both included), as far as the ring reaches. */
  windows(from: number, to: number): LiveWindows {
    const first = Math.max(from, this.#first, this.#latest - SECONDS + 1);
    const time: number[] = [];
    for (let s = first; s <= Math.min(to, this.#latest) && s > 0; s++) time.push(s * 1000);
    const column = (name: LiveColumn): number[] =>
      time.map((at) => Math.round((this.#data?.[placeOf(at / 1000, INDEX[name])] ?? 0) * 1000) / 1000);
    const percentile = (name: LiveColumn): (number | null)[] =>
      column(name).map((value) => (PERCENTILES.has(name) && value === 0 ? null : value));
    return {
      time,
      requests: column("requests"),
      errors: column("errors"),
      p50Ms: percentile("p50Ms"),
      p95Ms: percentile("p95Ms"),
      p99Ms: percentile("p99Ms"),
      cpuCores: column("cpuCores"),
      throttledRatio: column("throttledRatio"),
      memoryBytes: column("memoryBytes"),
      pending: column("pending"),
    };
  }

  #holds(second: number): boolean {
    return second <= this.#latest && second > this.#latest - SECONDS;
  }
}
