/**
 * Questions about metrics, whoever keeps them: PromQL now or over time, and what series there are. Owned by the server's
 * layers; holds nothing between two questions. Fails with QueryError, also when a bound is crossed or the time is over;
 * whoever interrupts a question ends its work in the store.
 */
import { Context, Effect, Layer } from "effect";
import { Store } from "../store/Store.ts";
import { METRIC_NAME } from "./ast.ts";
import { evaluateQuery, evaluateSamples } from "./evaluate.ts";
import { changed, gridOf, pointsOf, timesOf, type Grid, type RawSeries } from "./grid.ts";
import { labelsKey, NO_LABELS, type Labels } from "./labels.ts";
import { parse, parseSelector } from "./parse.ts";
import { LIMITS, overLimit, QueryError } from "./QueryError.ts";
import { labelNamesSql, labelValuesSql, seriesSql, type Statement } from "./select.ts";
import { fromStore, labelsFrom, makeStoreSource } from "./StoreSource.ts";
import { worked } from "./work.ts";

export type SeriesValues = RawSeries;

export type InstantAnswer =
  | { readonly type: "scalar"; readonly atMs: number; readonly value: number }
  | { readonly type: "string"; readonly atMs: number; readonly text: string }
  | {
      readonly type: "vector";
      readonly atMs: number;
      readonly samples: readonly { readonly labels: Labels; readonly value: number }[];
    }
  | { readonly type: "matrix"; readonly series: readonly SeriesValues[] };

/** Times in ms. Selectors as in `match[]`: series that any of them finds; none: all. */
export interface ListRequest {
  readonly selectors: readonly string[];
  readonly startMs: number;
  readonly endMs: number;
  readonly limit?: number;
}

export interface Metadata {
  readonly metric: string;
  readonly type: string;
  readonly help: string;
  readonly unit: string;
}

/** What was found, and what a person should know of it. */
export interface Found<A> {
  readonly value: A;
  /** the answer may not be what was meant: a part is missing, a function was given what it is not for */
  readonly warnings: readonly string[];
  readonly infos: readonly string[];
}

/** Found, and nothing to say besides. */
export const plain = <A>(value: A): Found<A> => ({ value, warnings: [], infos: [] });

export type Answering<A> = Effect.Effect<Found<A>, QueryError>;

export interface ElsewhereState {
  readonly status: "starting" | "up" | "down";
  /** for a person: which store it is, and why it cannot be asked */
  readonly message: string;
}

export interface MetricsQueryShape {
  readonly instant: (query: string, atMs: number) => Answering<InstantAnswer>;
  /** Series in the order of their labels; from elsewhere in the order of the answer. */
  readonly range: (query: string, startMs: number, endMs: number, stepMs: number) => Answering<readonly SeriesValues[]>;
  readonly series: (request: ListRequest) => Answering<readonly Labels[]>;
  readonly labels: (request: ListRequest) => Answering<readonly string[]>;
  readonly labelValues: (label: string, request: ListRequest) => Answering<readonly string[]>;
  /** `metric` null: all; `limit` 0: as many as there may be. */
  readonly metadata: (metric: string | null, limit: number) => Answering<readonly Metadata[]>;
  /** The metrics store elsewhere as it was seen last; null: the own store is asked, whose state says the same. */
  readonly elsewhere: () => ElsewhereState | null;
}

export class MetricsQuery extends Context.Tag("runtime/promql/MetricsQuery")<MetricsQuery, MetricsQueryShape>() {}

const bad = (reason: string): QueryError => new QueryError({ kind: "bad_data", reason });

const parsed = <A>(read: () => A): Effect.Effect<A, QueryError> =>
  Effect.try({
    try: read,
    catch: (error) => (error instanceof QueryError ? error : bad(`parse error: ${String(error)}`)),
  });

export const inTime = Effect.timeoutFail({
  duration: `${LIMITS.seconds} seconds`,
  onTimeout: () => overLimit("seconds"),
});

/** As the store's times can be: years 1970 to 2105. */
const EARLIEST_MS = 0;
const LATEST_MS = 4_294_967_295_000;
export const checkTimes = (...times: readonly number[]): Effect.Effect<void, QueryError> =>
  times.every((time) => time >= EARLIEST_MS && time <= LATEST_MS)
    ? Effect.void
    : Effect.fail(bad("a time is outside the years 1970 to 2105"));

/** What a range query may ask for, wherever it is answered. */
export const checkedGrid = (startMs: number, endMs: number, stepMs: number): Effect.Effect<Grid, QueryError> =>
  Effect.gen(function* () {
    yield* checkTimes(startMs, endMs);
    if (!(stepMs >= 1)) return yield* bad("the step must be at least a millisecond");
    if (endMs < startMs) return yield* bad("the end must not be before the start");
    const grid = gridOf(startMs, endMs, stepMs);
    return grid.points > LIMITS.points ? yield* overLimit("points", grid.points) : grid;
  });

const selectorsOf = (request: ListRequest) =>
  parsed(() => request.selectors.map((selector) => parseSelector(selector)));

export const make = Effect.gen(function* () {
  const store = yield* Store;
  const source = makeStoreSource(store);
  const turns = yield* Effect.makeSemaphore(LIMITS.queries);
  /** Waiting for a turn counts. */
  const bounded = <A>(question: Effect.Effect<A, QueryError>): Answering<A> =>
    inTime(turns.withPermits(1)(question)).pipe(Effect.map(plain));

  /** At most `asked` rows; where nobody asked for less, more than there may be are refused rather than left out. */
  const list = <Row>(statement: Statement, asked: number | undefined): Effect.Effect<readonly Row[], QueryError> => {
    const limit = asked === undefined || asked <= 0 ? LIMITS.series + 1 : Math.min(asked, LIMITS.series);
    return store
      .query<Row>(
        statement.sql,
        { ...statement.params, limit },
        { rows: limit, seconds: LIMITS.seconds, settings: { max_rows_to_read: LIMITS.rows } },
      )
      .pipe(
        Effect.mapError(fromStore),
        Effect.filterOrFail(
          (rows) => rows.length <= LIMITS.series,
          () => overLimit("series"),
        ),
      );
  };

  const instant: MetricsQueryShape["instant"] = (query, atMs) =>
    Effect.gen(function* () {
      yield* checkTimes(atMs);
      const expr = yield* parsed(() => parse(query));
      if (expr.kind === "range" || expr.kind === "subquery") {
        const series = yield* evaluateSamples(expr, atMs, source);
        return { type: "matrix", series } as const;
      }
      const value = yield* evaluateQuery(expr, { startMs: atMs, stepMs: 1, points: 1 }, atMs, source);
      if (value.kind === "scalar") return { type: "scalar", atMs, value: value.values[0] ?? Number.NaN } as const;
      if (value.kind === "string") return { type: "string", atMs, text: value.text } as const;
      const samples = value.series.map(({ labels, values }) => ({ labels, value: values[0] ?? Number.NaN }));
      return { type: "vector", atMs, samples } as const;
    }).pipe(bounded);

  const range: MetricsQueryShape["range"] = (query, startMs, endMs, stepMs) =>
    Effect.gen(function* () {
      const grid = yield* checkedGrid(startMs, endMs, stepMs);
      const expr = yield* parsed(() => parse(query));
      if (expr.kind === "range" || expr.kind === "subquery" || expr.kind === "text")
        return yield* bad("a range query needs a scalar or an instant vector");
      const value = yield* evaluateQuery(expr, grid, endMs, source);
      const times = timesOf(grid);
      if (value.kind === "string") return [];
      if (value.kind === "scalar") return [{ labels: NO_LABELS, times, values: value.values }];
      const keyed = value.series.map((one) => ({ one, key: labelsKey(one.labels) }));
      keyed.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
      const sorted = keyed.map(({ one }) => one);
      return yield* worked(() => changed(sorted, (one) => pointsOf(one, times)));
    }).pipe(bounded);

  const series: MetricsQueryShape["series"] = (request) =>
    Effect.gen(function* () {
      const selectors = yield* selectorsOf(request);
      if (selectors.length === 0) return yield* bad("no match[] parameter provided");
      const rows = yield* list<Parameters<typeof labelsFrom>[0]>(
        seriesSql(store.database, selectors, request.startMs),
        request.limit,
      );
      return rows.map(labelsFrom);
    }).pipe(bounded);

  const labels: MetricsQueryShape["labels"] = (request) =>
    Effect.gen(function* () {
      const selectors = yield* selectorsOf(request);
      const rows = yield* list<{ value: string }>(
        labelNamesSql(store.database, selectors, request.startMs),
        request.limit,
      );
      return rows.map(({ value }) => value);
    }).pipe(bounded);

  const labelValues: MetricsQueryShape["labelValues"] = (label, request) =>
    Effect.gen(function* () {
      const selectors = yield* selectorsOf(request);
      const statement = labelValuesSql(store.database, label, selectors, request.startMs);
      const rows = yield* list<{ value: string }>(statement, request.limit);
      return rows.map(({ value }) => value);
    }).pipe(bounded);

  /** What kind a metric is, and its help, are not kept. */
  const metadata: MetricsQueryShape["metadata"] = (metric, limit) =>
    Effect.gen(function* () {
      const selectors = metric === null ? [] : [[{ name: METRIC_NAME, operator: "=" as const, value: metric }]];
      const rows = yield* list<{ value: string }>(labelValuesSql(store.database, METRIC_NAME, selectors, 0), limit);
      return rows.map(({ value }) => ({ metric: value, type: "unknown", help: "", unit: "" }));
    }).pipe(bounded);

  return MetricsQuery.of({ instant, range, series, labels, labelValues, metadata, elsewhere: () => null });
});

export const layer: Layer.Layer<MetricsQuery, never, Store> = Layer.effect(MetricsQuery, make);
