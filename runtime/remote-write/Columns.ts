/**
 * The samples of one call as columns, ready to be cut into the writer's batches. Owned by the call. Values are kept as
 * the words that came, since the bits of a stale marker do not survive arithmetic. Series that turn out wrong take their
 * samples back; what is left out is counted by its reason. Grows with what is read and never by a length that was claimed.
 */
import type { Series } from "../store/batch.ts";
import type { InvalidSeries } from "./SeriesCache.ts";

/** What a batch holds beside its name. */
export interface Chunk {
  readonly series: readonly Series[];
  readonly index: Uint32Array;
  readonly times: Float64Array;
  readonly values: Float64Array;
}

/** Samples that a watcher is told of: those of series `s` lie from `starts[s]` to before `starts[s + 1]`. */
export interface Watched {
  readonly series: readonly Series[];
  readonly starts: Uint32Array;
  readonly times: Float64Array;
  readonly values: Float64Array;
}

export interface TimeBounds {
  readonly fromMs: number;
  readonly toMs: number;
}

export type LeftOut = InvalidSeries | "times outside of what is kept" | "native histograms" | "exemplars";

/** More than one call may bring: its sender sends fewer at once. */
export class TooMany extends Error {}

const MAX_SERIES = 100_000;
/** Small enough that writing one as rows holds up nobody. */
export const CHUNK_ROWS = 20_000;
const FIRST_ROWS = 1_024;

export class Columns {
  rows = 0;
  readonly leftOut = new Map<LeftOut, number>();
  private readonly series: Series[] = [];
  private index = new Uint32Array(FIRST_ROWS);
  private times = new Float64Array(FIRST_ROWS);
  private words = new Uint32Array(2 * FIRST_ROWS);
  private mark = 0;
  /** of each series with a watcher: its place, its first row, the row after its last */
  private readonly watchedRows: number[] = [];
  private readonly fromMs: number;
  private readonly toMs: number;

  constructor({ fromMs, toMs }: TimeBounds) {
    this.fromMs = fromMs;
    this.toMs = toMs;
  }

  /** Whether a sample of this time is kept; false for what is no time. */
  takes(timeMs: number): boolean {
    return timeMs >= this.fromMs && timeMs <= this.toMs;
  }

  /** A sample of the series whose name is told by `close`. */
  add(timeMs: number, low: number, high: number): void {
    if (!this.takes(timeMs)) {
      this.skip("times outside of what is kept", 1);
      return;
    }
    if (this.rows === this.index.length) this.grow();
    const row = this.rows++;
    this.index[row] = this.series.length;
    this.times[row] = timeMs;
    this.words[2 * row] = low;
    this.words[2 * row + 1] = high;
  }

  /** A sample whose value is no special NaN. */
  addValue(timeMs: number, value: number): void {
    HALVES.setFloat64(0, value, true);
    this.add(timeMs, HALVES.getUint32(0, true), HALVES.getUint32(4, true));
  }

  /** Whose samples were added since the last call; when it is invalid they are taken back. */
  close(series: Series | InvalidSeries): void {
    if (typeof series === "string") {
      this.skip(series, Math.max(1, this.rows - this.mark));
      this.rows = this.mark;
    } else if (this.rows > this.mark) {
      if (this.series.length === MAX_SERIES) throw new TooMany(`more than ${MAX_SERIES} series in one call`);
      if (series.watcher !== undefined) this.watchedRows.push(this.series.length, this.mark, this.rows);
      this.series.push(series);
      this.mark = this.rows;
    }
  }

  skip(reason: LeftOut, count: number): void {
    if (count > 0) this.leftOut.set(reason, (this.leftOut.get(reason) ?? 0) + count);
  }

  chunks(): readonly Chunk[] {
    const chunks: Chunk[] = [];
    const values = new Float64Array(this.words.buffer);
    for (let from = 0; from < this.rows; from += CHUNK_ROWS) {
      const to = Math.min(this.rows, from + CHUNK_ROWS);
      const first = this.index[from] ?? 0;
      const series = this.series.slice(first, (this.index[to - 1] ?? 0) + 1);
      const index = first === 0 ? this.index.subarray(from, to) : this.index.slice(from, to).map((n) => n - first);
      chunks.push({ series, index, times: this.times.subarray(from, to), values: values.subarray(from, to) });
    }
    return chunks;
  }

  /** By watcher, in the order in which they came. Empty for most calls. */
  watched(): ReadonlyMap<string, Watched> {
    const rows = this.watchedRows;
    const parts = new Map<string, { readonly series: Series[]; readonly from: number[]; readonly to: number[] }>();
    for (let i = 0; i < rows.length; i += 3) {
      const series = this.series[rows[i] ?? 0];
      if (series?.watcher === undefined) continue;
      let part = parts.get(series.watcher);
      if (part === undefined) parts.set(series.watcher, (part = { series: [], from: [], to: [] }));
      part.series.push(series);
      part.from.push(rows[i + 1] ?? 0);
      part.to.push(rows[i + 2] ?? 0);
    }
    const all = new Float64Array(this.words.buffer);
    const out = new Map<string, Watched>();
    for (const [watcher, { series, from, to }] of parts) {
      const starts = new Uint32Array(series.length + 1);
      from.forEach((row, s) => (starts[s + 1] = (starts[s] ?? 0) + (to[s] ?? 0) - row));
      const count = starts[series.length] ?? 0;
      const [times, values] = [new Float64Array(count), new Float64Array(count)];
      from.forEach((row, s) => {
        times.set(this.times.subarray(row, to[s]), starts[s]);
        values.set(all.subarray(row, to[s]), starts[s]);
      });
      out.set(watcher, { series, starts, times, values });
    }
    return out;
  }

  private grow(): void {
    const rows = 2 * this.index.length;
    const index = new Uint32Array(rows);
    const times = new Float64Array(rows);
    const words = new Uint32Array(2 * rows);
    index.set(this.index);
    times.set(this.times);
    words.set(this.words);
    this.index = index;
    this.times = times;
    this.words = words;
  }
}

const HALVES = new DataView(new ArrayBuffer(8));
