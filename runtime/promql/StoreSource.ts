/**
 * Samples of the own store for the evaluation: one bounded query per leaf. Owned by whoever has the Store, holds nothing.
 * A failing store, and a bound of the engine that is crossed, come as QueryError; an interruption ends the query in the
 * engine.
 */
import { Effect } from "effect";
import type { StoreError, StoreShape } from "../store/Store.ts";
import { METRIC_NAME } from "./ast.ts";
import type { GridSeries, RawSeries } from "./grid.ts";
import { labelsOf, type Labels } from "./labels.ts";
import { LIMITS, overLimit, QueryError } from "./QueryError.ts";
import {
  GROUPS_SQL,
  groupsPattern,
  instantSql,
  inTheStore,
  overSql,
  rawSql,
  STALE_HIGH,
  STALE_LOW,
  type Statement,
} from "./select.ts";
import { LOOK_BACK_MS, type Source } from "./Source.ts";
import { Pace, worked } from "./work.ts";

const MIB = 1024 * 1024;
const BOUNDS = {
  rows: LIMITS.series + 1,
  bytes: 64 * MIB,
  seconds: LIMITS.seconds,
  settings: { allow_experimental_time_series_aggregate_functions: 1, max_rows_to_read: LIMITS.rows },
};
/** Texts that a pattern is tried on in one query. */
const TEXTS = 5_000;

interface Described {
  readonly metric: string;
  readonly tags: Readonly<Record<string, string>>;
}

/** ClickHouse's codes that say something about the query rather than about the store. */
export const fromStore = (error: StoreError): QueryError => {
  switch (error.code) {
    case 158:
      return overLimit("rows");
    case 159:
      return overLimit("seconds");
    case 241:
    case 307:
    case 396:
      return overLimit("samples");
    case 427:
      return new QueryError({
        kind: "bad_data",
        reason: `a pattern cannot be read: ${/error: (.*?)\. Look at/.exec(error.reason)?.[1] ?? error.reason}`,
      });
    case null:
      return new QueryError({ kind: "unavailable", reason: error.reason });
    default:
      return new QueryError({ kind: "execution", reason: error.message });
  }
};

export const labelsFrom = ({ metric, tags }: Described): Labels =>
  labelsOf([...Object.entries(tags).filter(([name]) => name !== METRIC_NAME), [METRIC_NAME, metric]]);

const floats = (text: string): Float64Array => {
  const bytes = Buffer.from(text, "base64");
  const out = new Float64Array(bytes.length / 8);
  new Uint8Array(out.buffer).set(bytes);
  return out;
};

const gridSeries = (row: Described & { readonly bits: string }): GridSeries => {
  const values = floats(row.bits);
  // by its bits, since JavaScript need not keep one NaN apart from another
  const words = new Uint32Array(values.buffer);
  const present = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) {
    if (words[2 * i] === STALE_LOW && words[2 * i + 1] === STALE_HIGH) values[i] = 0;
    else present[i] = 1;
  }
  return { labels: labelsFrom(row), values, present };
};

/** Of several samples at one time the last one written counts. */
const rawSeries = (row: Described & { readonly times: string; readonly bits: string }): RawSeries => {
  const [times, values] = [floats(row.times), floats(row.bits)];
  let kept = 0;
  for (let i = 0; i < times.length; i++) {
    if (i + 1 < times.length && times[i] === times[i + 1]) continue;
    times[kept] = times[i] ?? 0;
    values[kept] = values[i] ?? 0;
    kept++;
  }
  return { labels: labelsFrom(row), times: times.subarray(0, kept), values: values.subarray(0, kept) };
};

/** Rows of base64 are decoded in pieces too. */
const decoded = <Row extends { readonly bits: string }, A>(
  found: readonly Row[],
  decode: (row: Row) => A,
): Effect.Effect<readonly A[], QueryError> =>
  worked(function* () {
    const pace = new Pace();
    const out: A[] = [];
    for (const row of found) {
      yield* pace.spend(row.bits.length / 8);
      out.push(decode(row));
    }
    return out;
  });

export const makeStoreSource = (store: StoreShape): Source => {
  const rows = <Row>({ sql, params }: Statement): Effect.Effect<readonly Row[], QueryError> =>
    store.query<Row>(sql, { ...params, limit: LIMITS.series + 1 }, BOUNDS).pipe(
      Effect.mapError(fromStore),
      Effect.filterOrFail(
        (found) => found.length <= LIMITS.series,
        () => overLimit("series"),
      ),
    );

  const groups: Source["groups"] = (pattern, texts) =>
    Effect.gen(function* () {
      const out: (readonly string[] | null)[] = [];
      for (let at = 0; at < Math.max(1, texts.length); at += TEXTS) {
        const [row] = yield* store
          .query<{
            groups: readonly (readonly string[])[];
          }>(
            GROUPS_SQL,
            { pattern: groupsPattern(pattern), texts: texts.slice(at, at + TEXTS) },
            { rows: 1, bytes: 100 * MIB, seconds: LIMITS.seconds },
          )
          .pipe(Effect.mapError(fromStore));
        for (const found of row?.groups ?? []) out.push(found.length === 0 ? null : found);
      }
      return out;
    });

  return {
    instant: (matchers, grid, what) =>
      rows<Described & { bits: string }>(instantSql(store.database, matchers, grid, LOOK_BACK_MS, what)).pipe(
        Effect.flatMap((found) => decoded(found, gridSeries)),
      ),
    over: (name, matchers, grid, rangeMs, param) =>
      inTheStore(name)
        ? rows<Described & { bits: string; odd: number }>(
            overSql(store.database, name, matchers, grid, rangeMs, param),
          ).pipe(
            // the engine carries infinities and NaN on into windows that they have left
            Effect.flatMap((found) =>
              found.some(({ odd }) => odd > 0) ? Effect.succeed(null) : decoded(found, gridSeries),
            ),
          )
        : Effect.succeed(null),
    raw: (matchers, afterMs, untilMs) =>
      rows<Described & { times: string; bits: string }>(rawSql(store.database, matchers, afterMs, untilMs)).pipe(
        Effect.flatMap((found) => decoded(found, rawSeries)),
      ),
    groups,
  };
};
