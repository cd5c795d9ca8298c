/**
 * One agent's store batch, and its rows in ClickHouse's RowBinary, cut by day (the store's partitions, the smallest unit
 * that an insert writes whole). Pure. Rows outside the retention or with a broken time are left out and counted, since
 * the store would drop them at once, or refuse the insert of everybody for one agent's wrong clock.
 */
import { createHash } from "node:crypto";
import type { Fingerprint } from "./fingerprint.ts";

export interface Series {
  readonly fingerprint: Fingerprint;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** the fingerprint as text, where whoever made the series keeps it at hand */
  readonly key?: string;
  /** who is told of its samples when they come in, beside the store */
  readonly watcher?: string;
}

/** Series by place, without an object for each of them where there may be a million. */
export interface SeriesSet {
  readonly size: number;
  /** halves of the fingerprint; 0 beyond the size */
  readonly low: (place: number) => number;
  readonly high: (place: number) => number;
  /** undefined beyond the size; an object of its own each time where `lasting` */
  readonly at: (place: number) => Series | undefined;
  /** many batches come with this same set: what is made of its series may be kept with it */
  readonly lasting: boolean;
}

/** Series that somebody else keeps. */
export const seriesList = (all: readonly Series[]): SeriesSet => ({
  size: all.length,
  low: (place) => all[place]?.fingerprint.low ?? 0,
  high: (place) => all[place]?.fingerprint.high ?? 0,
  at: (place) => all[place],
  lasting: false,
});

/** (agent, epoch, sequence) is the batch's id: the same id always carries the same rows. */
export interface StoreBatch {
  readonly agent: string;
  readonly epoch: number;
  readonly sequence: number;
  /** differs for every connection of the agent; after a new one, batches may be re-sends. Null: the source is one call */
  readonly connection: number | null;
  readonly series: SeriesSet;
  /** per sample: place in `series` */
  readonly index: Uint32Array;
  /** per sample: ms since the epoch, server time */
  readonly times: Float64Array;
  readonly values: Float64Array;
}

export const SAMPLE_COLUMNS = ["fp", "ts", "value", "source", "sequence"] as const;
export const ROW_BYTES = 36;
/** All columns are whole 32-bit words, little-endian as the machines that the server runs on. */
const ROW_WORDS = ROW_BYTES / 4;
const DAY_MS = 86_400_000;
const WORD = 2 ** 32;

export interface EncodedBatch {
  readonly source: bigint;
  readonly sequence: number;
  readonly series: SeriesSet;
  readonly index: Uint32Array;
  /** rows by day number since 1970 */
  readonly days: ReadonlyMap<number, Buffer>;
  readonly rows: number;
  readonly fromMs: number;
  readonly toMs: number;
  /** rows left out: outside the retention, or without a valid time or series */
  readonly refused: number;
}

/** Hash of one life of an agent, as stored with each row. */
export const sourceOf = (agent: string, epoch: number): bigint =>
  createHash("sha256").update(`${agent}\u0000${epoch}`).digest().readBigUInt64LE(0);

export const batchKey = (source: bigint, sequence: number): string => `${source}:${sequence}`;

export const encodeBatch = (batch: StoreBatch, source: bigint, fromMs: number, toMs: number): EncodedBatch => {
  const { index, times, values, series } = batch;
  const counts = new Map<number, number>();
  let rows = 0;
  for (let i = 0; i < times.length; i++) {
    const time = times[i] ?? Number.NaN;
    if (!(time >= fromMs && time <= toMs) || (index[i] ?? WORD) >= series.size) continue;
    const day = Math.floor(time / DAY_MS);
    counts.set(day, (counts.get(day) ?? 0) + 1);
    rows++;
  }
  const days = new Map<number, { readonly words: Uint32Array; at: number }>();
  for (const [day, count] of counts) days.set(day, { words: new Uint32Array(count * ROW_WORDS), at: 0 });
  // the bits of a special NaN (a stale marker) would not survive being read as a number
  const bits = new Uint32Array(values.buffer, values.byteOffset, 2 * values.length);
  const sourceLow = Number(source & 0xffffffffn);
  const sourceHigh = Number(source >> 32n);
  let first = Number.POSITIVE_INFINITY;
  let last = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < times.length; i++) {
    const exact = times[i] ?? Number.NaN;
    const place = index[i] ?? WORD;
    if (place >= series.size || !(exact >= fromMs && exact <= toMs)) continue;
    const time = Math.floor(exact);
    const part = days.get(Math.floor(time / DAY_MS));
    if (part === undefined) continue;
    const { words, at } = part;
    words[at] = series.low(place);
    words[at + 1] = series.high(place);
    words[at + 2] = time % WORD;
    words[at + 3] = Math.floor(time / WORD);
    words[at + 4] = bits[2 * i] ?? 0;
    words[at + 5] = bits[2 * i + 1] ?? 0;
    words[at + 6] = sourceLow;
    words[at + 7] = sourceHigh;
    words[at + 8] = batch.sequence;
    part.at = at + ROW_WORDS;
    if (time < first) first = time;
    if (time > last) last = time;
  }
  return {
    source,
    sequence: batch.sequence,
    series,
    // a copy where it lies in the frame that brought it, which is as large as all the rest
    index: index.byteLength < index.buffer.byteLength ? index.slice() : index,
    days: new Map([...days].map(([day, { words }]) => [day, Buffer.from(words.buffer)])),
    rows,
    fromMs: rows === 0 ? 0 : first,
    toMs: rows === 0 ? 0 : last,
    refused: times.length - rows,
  };
};

/** Token of an insert that holds exactly these batches, in whatever order they arrived. */
export const groupToken = (batches: readonly { readonly source: bigint; readonly sequence: number }[]): string => {
  const ids = batches.map(({ source, sequence }) => batchKey(source, sequence)).sort();
  return createHash("sha256").update(ids.join(",")).digest("hex");
};
