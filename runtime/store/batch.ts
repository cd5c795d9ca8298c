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
}

/** (agent, epoch, sequence) is the batch's id: the same id always carries the same rows. */
export interface StoreBatch {
  readonly agent: string;
  readonly epoch: number;
  readonly sequence: number;
  /** differs for every connection of the agent; after a new one, batches may be re-sends */
  readonly connection: number;
  readonly series: readonly Series[];
  /** per sample: place in `series` */
  readonly index: Uint32Array;
  /** per sample: ms since the epoch, server time */
  readonly times: Float64Array;
  readonly values: Float64Array;
}

export const SAMPLE_COLUMNS = ["fp", "ts", "value", "source", "sequence"] as const;
export const ROW_BYTES = 36;
const DAY_MS = 86_400_000;
const WORD = 2 ** 32;

export interface EncodedBatch {
  readonly source: bigint;
  readonly sequence: number;
  readonly series: readonly Series[];
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
    if (!(time >= fromMs && time <= toMs) || (index[i] ?? WORD) >= series.length) continue;
    const day = Math.floor(time / DAY_MS);
    counts.set(day, (counts.get(day) ?? 0) + 1);
    rows++;
  }
  const days = new Map<number, { readonly buffer: Buffer; at: number }>();
  for (const [day, count] of counts) days.set(day, { buffer: Buffer.allocUnsafe(count * ROW_BYTES), at: 0 });
  const sourceLow = Number(source & 0xffffffffn);
  const sourceHigh = Number(source >> 32n);
  let first = Number.POSITIVE_INFINITY;
  let last = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < times.length; i++) {
    const time = Math.floor(times[i] ?? Number.NaN);
    const exact = times[i] ?? Number.NaN;
    const one = series[index[i] ?? WORD];
    if (one === undefined || !(exact >= fromMs && exact <= toMs)) continue;
    const part = days.get(Math.floor(time / DAY_MS));
    if (part === undefined) continue;
    const { buffer, at } = part;
    buffer.writeUInt32LE(one.fingerprint.low, at);
    buffer.writeUInt32LE(one.fingerprint.high, at + 4);
    buffer.writeUInt32LE(time % WORD, at + 8);
    buffer.writeUInt32LE(Math.floor(time / WORD), at + 12);
    buffer.writeDoubleLE(values[i] ?? 0, at + 16);
    buffer.writeUInt32LE(sourceLow, at + 24);
    buffer.writeUInt32LE(sourceHigh, at + 28);
    buffer.writeUInt32LE(batch.sequence, at + 32);
    part.at = at + ROW_BYTES;
    if (time < first) first = time;
    if (time > last) last = time;
  }
  return {
    source,
    sequence: batch.sequence,
    series,
    days: new Map([...days].map(([day, part]) => [day, part.buffer])),
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
