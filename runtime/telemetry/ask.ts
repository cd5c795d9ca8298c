/**
 * What questions about logs and traces have in common: how they fail, their bounds, filters by attributes, steps of time,
 * and places within a list. Every query is a text of constant parts, chosen by which filters are given; values go by
 * `{name:Type}` places. Holds nothing but the turns: a few questions run at once, others wait, the wait counts. Whoever
 * interrupts a question ends its query in the engine.
 */
import { Effect, Metric, Schema } from "effect";
import { MAX_STEPS } from "../../schemas/telemetry.ts";
import type { QueryBounds, QueryParams, StoreError, StoreShape } from "../store/Store.ts";

export class TelemetryError extends Schema.TaggedError<TelemetryError>()("TelemetryError", {
  /** bad: the question is wrong · limit: it asks for more than a question may · unavailable: no store */
  kind: Schema.Literal("bad", "limit", "unavailable"),
  reason: Schema.String,
}) {
  override get message(): string {
    return this.reason;
  }
}

export const bad = (reason: string): TelemetryError => new TelemetryError({ kind: "bad", reason });

const failedTotal = Metric.counter("coroot_telemetry_questions_failed_total", {
  description: "questions about logs and traces without an answer, by kind",
  incremental: true,
});

const SECONDS = 20;
const AT_ONCE = 4;
/** Of one answer in the engine's form, so that reading and writing it holds nobody up. */
export const ANSWER_BYTES = 3 * 1024 * 1024;
const RESULT_BYTES = 16 * 1024 * 1024;
/** The engine looks between two blocks whether it is to stop, and lines may be long. */
const BLOCK_ROWS = 8_192;

/** The engine's codes for bounds that were crossed: rows, time, speed, memory, bytes. */
const LIMITS = new Set([158, 159, 160, 241, 307, 396]);

const NARROW = "choose a shorter time or more filters";

const failure = ({ code, message, reason }: StoreError): TelemetryError => {
  if (code !== null && LIMITS.has(code))
    return new TelemetryError({
      kind: "limit",
      reason:
        code === 159
          ? `this takes more than ${SECONDS} seconds: ${NARROW}`
          : `this takes more memory or gives a larger answer than one question may: ${NARROW}`,
    });
  return new TelemetryError({ kind: "unavailable", reason: code === null ? reason : message });
};

export type Ask = <Row>(
  sql: string,
  params: QueryParams,
  bounds?: Pick<QueryBounds, "rows">,
) => Effect.Effect<readonly Row[], TelemetryError>;

export const makeAsk = (store: StoreShape): Effect.Effect<Ask> =>
  Effect.map(Effect.makeSemaphore(AT_ONCE), (turns) => {
    const ask: Ask = <Row>(sql: string, params: QueryParams, bounds: Pick<QueryBounds, "rows"> = {}) =>
      turns
        .withPermits(1)(
          store.query<Row>(sql, params, {
            rows: 20_000,
            ...bounds,
            bytes: RESULT_BYTES,
            seconds: SECONDS,
            settings: { max_block_size: BLOCK_ROWS },
          }),
        )
        .pipe(
          Effect.mapError(failure),
          Effect.timeoutFail({
            duration: `${SECONDS + 5} seconds`,
            onTimeout: () =>
              new TelemetryError({ kind: "limit", reason: `the store did not answer in time: ${NARROW}` }),
          }),
          Effect.tapError(({ kind }) => Metric.increment(Metric.tagged(failedTotal, "kind", kind))),
        );
    return ask;
  });

export interface TimeRange {
  readonly fromMs: number;
  /** exclusive */
  readonly toMs: number;
}

/** As the store's column is: Int64 nanoseconds. Text, since a number would lose some. */
export const nanosOf = (ms: number): string => String(BigInt(Math.floor(ms)) * 1_000_000n);

/** An attribute of the record or of its resource; an absent one is empty. */
export interface AttributeFilter {
  readonly key: string;
  readonly value: string;
  /** must differ */
  readonly not: boolean;
}

/** What an attribute `k` is, wherever it is kept. */
const VALUE = `multiIf(k = 'service.name', service, k = 'k8s.namespace.name', namespace, k = 'k8s.pod.name', pod,
  k = 'host.name', host, mapContains(attributes, k), attributes[k], resource[k])`;

export interface Condition {
  readonly given: boolean;
  /** constant */
  readonly sql: string;
  readonly params: QueryParams;
}

export const IN_TIME = `ts >= fromUnixTimestamp64Nano({from:Int64}, 'UTC') AND ts < fromUnixTimestamp64Nano({to:Int64}, 'UTC')`;

export const attributeConditions = (filters: readonly AttributeFilter[]): readonly Condition[] => {
  const some = filters.filter(({ not }) => !not);
  const none = filters.filter(({ not }) => not);
  const of = (list: readonly AttributeFilter[], names: readonly [string, string]) => ({
    [names[0]]: list.map(({ key }) => key),
    [names[1]]: list.map(({ value }) => value),
  });
  return [
    {
      given: some.length > 0,
      sql: `arrayAll((k, v) -> ${VALUE} = v, {attrKeys:Array(String)}, {attrValues:Array(String)})`,
      params: of(some, ["attrKeys", "attrValues"]),
    },
    {
      given: none.length > 0,
      sql: `arrayAll((k, v) -> ${VALUE} != v, {attrNotKeys:Array(String)}, {attrNotValues:Array(String)})`,
      params: of(none, ["attrNotKeys", "attrNotValues"]),
    },
  ];
};

export interface Where {
  readonly sql: string;
  readonly params: QueryParams;
}

export const whereOf = (conditions: readonly Condition[]): Where => {
  const given = conditions.filter((one) => one.given);
  return {
    sql: given.map(({ sql }) => `(${sql})`).join(" AND "),
    params: Object.fromEntries(given.flatMap(({ params }) => Object.entries(params))),
  };
};

export const timeCondition = ({ fromMs, toMs }: TimeRange): Condition => ({
  given: true,
  sql: IN_TIME,
  params: { from: nanosOf(fromMs), to: nanosOf(toMs) },
});

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const STEPS = [1, 2, 5, 10, 15, 30]
  .map((n) => n * SECOND)
  .concat([1, 2, 5, 10, 15, 30].map((n) => n * MINUTE))
  .concat([1, 2, 3, 6, 12, 24].map((n) => n * HOUR));

export const isMinutes = (stepMs: number): boolean => stepMs % MINUTE === 0;
export const wholeMinutes = ({ fromMs, toMs }: TimeRange): TimeRange => ({
  fromMs: Math.floor(fromMs / MINUTE) * MINUTE,
  toMs: Math.ceil(toMs / MINUTE) * MINUTE,
});

export interface Steps {
  readonly stepMs: number;
  /** where they begin; steps lie at multiples of their length, so the first may begin before the range */
  readonly times: readonly number[];
}

/** At most `most` steps over a range, of a length that people use. */
export const stepsOf = ({ fromMs, toMs }: TimeRange, most: number): Steps => {
  const wanted = Math.min(MAX_STEPS, Math.max(1, most));
  const fits = (step: number): boolean => Math.ceil(toMs / step) - Math.floor(fromMs / step) <= wanted;
  const days = 24 * HOUR;
  let stepMs = STEPS.find(fits);
  for (let n = 2; stepMs === undefined; n++) if (fits(n * days)) stepMs = n * days;
  const first = Math.floor(fromMs / stepMs);
  const count = Math.ceil(toMs / stepMs) - first;
  const length = stepMs;
  return { stepMs, times: Array.from({ length: count }, (_, i) => (first + i) * length) };
};

/**
 * Where a page ended: the last row's place in the order, its tie-breaker (a hash of the whole row), and how many rows that
 * are the same in both were given already. So a page begins behind the last one whatever arrived meanwhile.
 */
export interface Cursor {
  /** in decimal digits */
  readonly key: string;
  readonly tie: string;
  readonly same: number;
}

const CURSOR = /^(\d{1,19})-(\d{1,20})-(\d{1,6})$/;
const MOST_INT64 = 2n ** 63n;
const MOST_UINT64 = 2n ** 64n;

/** Null when it is none. */
export const parseCursor = (text: string): Cursor | null => {
  const [, key, tie, same] = CURSOR.exec(text) ?? [];
  if (key === undefined || tie === undefined || BigInt(key) >= MOST_INT64 || BigInt(tie) >= MOST_UINT64) return null;
  return { key: String(BigInt(key)), tie: String(BigInt(tie)), same: Number(same) };
};

interface Placed {
  readonly key: string;
  readonly tie: string;
  /** rows of the page before its size was bounded */
  readonly found: number;
}

/** The page's own rows, and where the next begins. `asked`: one more were looked for. */
export const pageOf = <Row extends Placed>(
  rows: readonly Row[],
  asked: number,
  before: Cursor | null,
): { readonly rows: readonly Row[]; readonly next: string | null } => {
  const given = rows.slice(0, asked);
  const last = given.at(-1);
  if (last === undefined || last.found <= given.length) return { rows: given, next: null };
  let same = given.filter(({ key, tie }) => key === last.key && tie === last.tie).length;
  if (before !== null && before.key === last.key && before.tie === last.tie) same += before.same;
  return { rows: given, next: `${last.key}-${last.tie}-${same}` };
};

/** 16 bytes of a trace id: 32 hex digits, or 16, as those of 64 bits are written. Null when it is none. */
export const traceIdOf = (text: string): string | null =>
  /^([0-9a-f]{16}|[0-9a-f]{32})$/i.test(text) && !/^0+$/.test(text) ? text.toLowerCase().padStart(32, "0") : null;
