/**
 * What the store already has of a set of batches: the question that makes a re-send or a failed insert harmless. Owned by
 * the lanes that acknowledge. The samples lane asks what may have been inserted (cheap: sources and calls are
 * noted ahead), and then which (batch, day) pairs are there (a look into the samples, bounded by their time range; parts
 * outside of it are not read).
 */
import { Effect } from "effect";
import { batchKey, type EncodedBatch } from "./batch.ts";
import type { StoreError, StoreShape } from "./Store.ts";

/** Rows of one batch and day: an insert writes them whole or not at all. */
export interface DayPart {
  readonly key: string;
  readonly rows: Buffer;
}

/** Inserts those parts that the store lacks; gives them. */
export const insertMissing = (
  parts: readonly DayPart[],
  present: Effect.Effect<ReadonlySet<string>, StoreError>,
  insert: (missing: readonly DayPart[]) => Effect.Effect<void, StoreError>,
): Effect.Effect<readonly DayPart[], StoreError> =>
  Effect.gen(function* () {
    const there = yield* present;
    const missing = parts.filter(({ key }) => !there.has(key));
    if (missing.length > 0) yield* insert(missing);
    return missing;
  });

export const dayKey = (source: bigint, sequence: number, day: number): string => `${batchKey(source, sequence)}:${day}`;

/** Highest sequence reserved by source; a source that is not in the answer was never inserted. */
export const reservedSequences = (
  store: StoreShape,
  sources: readonly bigint[],
): Effect.Effect<ReadonlyMap<bigint, number>, StoreError> =>
  store
    .query<{ id: string; highest: number }>(
      `SELECT toString(source) AS id, max(reserved) AS highest FROM ${store.database}.sources
       WHERE source IN ({sources:Array(UInt64)}) GROUP BY source`,
      { sources },
    )
    .pipe(Effect.map((rows) => new Map(rows.map((row) => [BigInt(row.id), row.highest]))));

/** Which of these calls may have been stored. */
export const knownCalls = (
  store: StoreShape,
  calls: readonly bigint[],
): Effect.Effect<ReadonlySet<bigint>, StoreError> =>
  store
    .query<{
      id: string;
    }>(`SELECT DISTINCT toString(source) AS id FROM ${store.database}.calls WHERE source IN ({calls:Array(UInt64)})`, {
      calls,
    })
    .pipe(Effect.map((rows) => new Set(rows.map(({ id }) => BigInt(id)))));

/** Which of the batches' days are in the store. */
export const presentDays = (
  store: StoreShape,
  batches: readonly EncodedBatch[],
): Effect.Effect<ReadonlySet<string>, StoreError> => {
  const filled = batches.filter(({ rows }) => rows > 0);
  if (filled.length === 0) return Effect.succeed(new Set<string>());
  const from = filled.reduce((least, { fromMs }) => Math.min(least, fromMs), Number.POSITIVE_INFINITY);
  const to = filled.reduce((most, { toMs }) => Math.max(most, toMs), 0);
  return store
    .query<{ id: string; sequence: number; day: number }>(
      `SELECT DISTINCT toString(source) AS id, sequence, toUInt32(toDate(ts)) AS day FROM ${store.database}.samples
       WHERE ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND ts <= fromUnixTimestamp64Milli({to:Int64}, 'UTC')
         AND (source, sequence) IN (
           SELECT pair.1, pair.2 FROM (SELECT arrayJoin(arrayZip({sources:Array(UInt64)}, {sequences:Array(UInt32)})) AS pair))`,
      { from, to, sources: filled.map(({ source }) => source), sequences: filled.map(({ sequence }) => sequence) },
      { seconds: 60, rows: 1_000_000 },
    )
    .pipe(Effect.map((rows) => new Set(rows.map((row) => dayKey(BigInt(row.id), row.sequence, row.day)))));
};
