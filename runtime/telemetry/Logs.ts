/**
 * Questions about log lines: search, facets, a histogram, patterns. Owned by the server's layers, holds nothing between
 * two questions; see ask.ts for bounds and failures. Patterns without other filters than service and severity are read
 * from what was counted at intake, all else from the lines.
 */
import { Context, Effect, Layer } from "effect";
import {
  MAX_PAGE_ROWS,
  SEVERITIES,
  type Counted,
  type LogFacets,
  type LogHistogram,
  type LogLine,
  type LogPatterns,
  type Page,
  type Severity,
} from "../../schemas/telemetry.ts";
import { Store, type QueryParams } from "../store/Store.ts";
import {
  ANSWER_BYTES,
  attributeConditions,
  isMinutes,
  makeAsk,
  pageOf,
  stepsOf,
  timeCondition,
  whereOf,
  wholeMinutes,
  nanosOf,
  type AttributeFilter,
  type Condition,
  type Cursor,
  type TelemetryError,
  type TimeRange,
  type Where,
} from "./ask.ts";
import type { TextQuery } from "./queryText.ts";

export interface LogFilter extends TimeRange {
  /** any of them; none: all */
  readonly services: readonly string[];
  /** the least, as OpenTelemetry numbers it; 0: all, also lines without one */
  readonly severity: number;
  readonly text: TextQuery;
  readonly attributes: readonly AttributeFilter[];
  /** 32 hex digits */
  readonly traceId: string | null;
  /** decimal digits */
  readonly pattern: string | null;
}

export interface LogsShape {
  /** Newest first. */
  readonly search: (
    filter: LogFilter,
    limit: number,
    after: Cursor | null,
  ) => Effect.Effect<Page<LogLine>, TelemetryError>;
  readonly facets: (filter: LogFilter) => Effect.Effect<LogFacets, TelemetryError>;
  readonly histogram: (filter: LogFilter, steps: number) => Effect.Effect<LogHistogram, TelemetryError>;
  readonly patterns: (filter: LogFilter, steps: number, limit: number) => Effect.Effect<LogPatterns, TelemetryError>;
}

export class Logs extends Context.Tag("runtime/telemetry/Logs")<Logs, LogsShape>() {}

const FACET_VALUES = 50;
const ATTRIBUTE_KEYS = 40;
const ATTRIBUTE_VALUES = 10;
const SAMPLED = 20_000;
export const MAX_PATTERNS = 500;

/** A class holds four numbers: OpenTelemetry's "short names". */
const CLASS = "intDiv(severity + 3, 4)";
const severityOf = (number: number): Severity => SEVERITIES[number] ?? "unknown";

/** Terms have numbered places, of which there are a bounded number. */
const terms = (list: readonly string[], name: string, sql: (place: string) => string): readonly Condition[] =>
  list.map((value, i) => ({
    given: true,
    sql: sql(`{${name}${i}:String}`),
    params: { [`${name}${i}`]: value },
  }));

const textConditions = ({ words, texts, notWords, notTexts }: TextQuery): readonly Condition[] => [
  ...terms(words, "word", (place) => `hasToken(lower(body), ${place})`),
  ...terms(texts, "text", (place) => `lower(body) LIKE ${place}`),
  ...terms(notWords, "notWord", (place) => `NOT hasToken(lower(body), ${place})`),
  ...terms(notTexts, "notText", (place) => `lower(body) NOT LIKE ${place}`),
];

/** What both the lines and their counts by pattern know. */
const groupConditions = ({ services, severity, pattern }: LogFilter): readonly Condition[] => [
  { given: services.length > 0, sql: "service IN {services:Array(String)}", params: { services } },
  { given: severity > 0, sql: "severity >= {severity:UInt8}", params: { severity } },
  { given: pattern !== null, sql: "pattern = {pattern:UInt64}", params: { pattern } },
];

const conditions = (filter: LogFilter): readonly Condition[] => [
  timeCondition(filter),
  ...groupConditions(filter),
  {
    given: filter.traceId !== null,
    sql: "trace_id = unhex({traceId:String})",
    params: { traceId: filter.traceId },
  },
  ...textConditions(filter.text),
  ...attributeConditions(filter.attributes),
];

/** The same questions of what was counted at intake; null when they need the lines. */
const countedWhere = (filter: LogFilter, { fromMs, toMs }: TimeRange): Where | null => {
  const { words, texts, notWords, notTexts } = filter.text;
  const needsLines = [words, texts, notWords, notTexts, filter.attributes].some((list) => list.length > 0);
  if (needsLines || filter.traceId !== null) return null;
  return whereOf([
    {
      given: true,
      sql: "minute >= toDateTime({fromS:UInt32}, 'UTC') AND minute < toDateTime({toS:UInt32}, 'UTC')",
      params: { fromS: fromMs / 1000, toS: toMs / 1000 },
    },
    ...groupConditions(filter),
  ]);
};

interface LineRow extends Omit<LogLine, "severity"> {
  readonly key: string;
  readonly tie: string;
  readonly found: number;
  readonly class: number;
}

const lineOf = (row: LineRow): LogLine => ({
  at: row.at,
  severity: severityOf(row.class),
  severityText: row.severityText,
  service: row.service,
  namespace: row.namespace,
  pod: row.pod,
  host: row.host,
  traceId: row.traceId,
  spanId: row.spanId,
  scope: row.scope,
  event: row.event,
  body: row.body,
  pattern: row.pattern,
  attributes: row.attributes,
  resource: row.resource,
});

export const make = Effect.gen(function* () {
  const store = yield* Store;
  const ask = yield* makeAsk(store);
  const lines = `${store.database}.logs`;
  const counted = `${store.database}.log_patterns`;

  /**
   * The inner query finds how far back the page may reach by times alone, so that only lines that are as new are read
   * whole and put in their order.
   */
  const search: LogsShape["search"] = (filter, limit, after) => {
    const { sql, params } = whereOf(conditions(filter));
    const most = Math.min(MAX_PAGE_ROWS, Math.max(1, limit));
    return ask<LineRow>(
      `WITH (SELECT min(ts) FROM (
         SELECT ts FROM ${lines} WHERE ${sql} AND ts < fromUnixTimestamp64Nano({key:Int64}, 'UTC')
         ORDER BY ts DESC LIMIT {rows:UInt32})) AS oldest
       SELECT toString(toUnixTimestamp64Nano(ts)) AS key, toString(tied) AS tie, found,
         intDiv(toUnixTimestamp64Nano(ts), 1000) / 1000 AS at, ${CLASS} AS class, severity_text AS severityText, service, namespace, pod,
         host, if(trace_id = unhex('00000000000000000000000000000000'), '', lower(hex(trace_id))) AS traceId,
         if(span_id = unhex('0000000000000000'), '', lower(hex(span_id))) AS spanId, scope, event, body,
         toString(pattern) AS pattern, attributes, resource
       FROM (
         SELECT *, count() OVER () AS found,
           sum(size) OVER (ORDER BY ts DESC, tied DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - size AS before
         FROM (
           SELECT ts, severity, severity_text, service, namespace, pod, host, trace_id, span_id, scope, event, body, pattern,
             attributes, resource,
             cityHash64(service, severity, severity_text, namespace, pod, host, trace_id, span_id, scope, event, body, batch,
               toString(attributes), toString(resource)) AS tied,
             byteSize(body, attributes, resource) + 300 AS size
           FROM ${lines}
           WHERE ${sql} AND ts >= oldest AND (ts < fromUnixTimestamp64Nano({key:Int64}, 'UTC')
             OR (ts = fromUnixTimestamp64Nano({key:Int64}, 'UTC') AND tied <= {tie:UInt64}))
           ORDER BY ts DESC, tied DESC LIMIT {rows:UInt32} OFFSET {same:UInt32}))
       WHERE before < {bytes:UInt64}
       ORDER BY ts DESC, tied DESC`,
      {
        ...params,
        key: after?.key ?? nanosOf(filter.toMs),
        tie: after?.tie ?? "0",
        same: after?.same ?? 0,
        rows: most + 1,
        bytes: ANSWER_BYTES,
      },
    ).pipe(
      Effect.map((rows) => {
        const page = pageOf(rows, most, after);
        return { rows: page.rows.map(lineOf), next: page.next };
      }),
    );
  };

  const facets: LogsShape["facets"] = (filter) =>
    Effect.gen(function* () {
      const { sql, params } = whereOf(conditions(filter));
      const groups = yield* ask<{ facet: number; value: string; n: number }>(
        `SELECT facet, value, n FROM (
           SELECT grouping(service, class, namespace, pod, host) AS facet,
             multiIf(facet = 15, service, facet = 23, toString(class), facet = 27, namespace, facet = 29, pod, host) AS value,
             count() AS n
           FROM (SELECT service, ${CLASS} AS class, namespace, pod, host FROM ${lines} WHERE ${sql})
           GROUP BY GROUPING SETS ((service), (class), (namespace), (pod), (host)))
         ORDER BY facet, n DESC, value LIMIT {values:UInt32} BY facet`,
        { ...params, values: FACET_VALUES },
      );
      const attributes = yield* ask<{ key: string; n: number; top: [string, number][]; sampled: number }>(
        `WITH sample AS (
           SELECT CAST(attributes, 'Array(Tuple(String, String))') AS own,
             CAST(resource, 'Array(Tuple(String, String))') AS theirs
           FROM ${lines} WHERE ${sql} LIMIT {sampled:UInt32})
         SELECT key, sum(c) AS n, arraySlice(arraySort(t -> (-t.2, t.1), groupArray((value, c))), 1, {values:UInt32}) AS top,
           (SELECT count() FROM sample) AS sampled
         FROM (
           SELECT pair.1 AS key, substringUTF8(pair.2, 1, 200) AS value, count() AS c
           FROM (SELECT arrayJoin(arrayConcat(own, theirs)) AS pair FROM sample)
           GROUP BY key, value)
         GROUP BY key ORDER BY n DESC, key LIMIT {keys:UInt32}`,
        { ...params, sampled: SAMPLED, values: ATTRIBUTE_VALUES, keys: ATTRIBUTE_KEYS },
      );
      // which columns a group is not made of, as bits from the first column to the last
      const facet = (number: number): readonly Counted[] =>
        groups.filter((group) => group.facet === number).map(({ value, n }) => ({ value, count: n }));
      const classes = facet(23);
      return {
        total: classes.reduce((sum, { count }) => sum + count, 0),
        services: facet(15),
        severities: classes.map(({ value, count }) => ({ value: severityOf(Number(value)), count })),
        namespaces: facet(27),
        pods: facet(29),
        hosts: facet(30),
        attributes: attributes.map(({ key, n, top }) => ({
          key,
          count: n,
          values: top.map(([value, count]) => ({ value, count })),
        })),
        sampled: attributes[0]?.sampled ?? 0,
      };
    });

  const histogram: LogsShape["histogram"] = (filter, wanted) => {
    const { sql, params } = whereOf(conditions(filter));
    const { stepMs, times } = stepsOf(filter, wanted);
    return ask<{ step: number; class: number; n: number }>(
      `SELECT toInt64(intDiv(toUnixTimestamp64Milli(ts), {step:Int64}) - {first:Int64}) AS step, ${CLASS} AS class, count() AS n
       FROM ${lines} WHERE ${sql} GROUP BY step, class`,
      { ...params, step: stepMs, first: (times[0] ?? 0) / stepMs },
    ).pipe(
      Effect.map((rows) => {
        const counts = Object.fromEntries(SEVERITIES.map((name) => [name, times.map(() => 0)])) as Record<
          Severity,
          number[]
        >;
        for (const { step, class: number, n } of rows) counts[severityOf(number)][step] = n;
        return { stepMs, times, counts };
      }),
    );
  };

  interface Group {
    readonly id: string;
    readonly n: number;
    readonly class: number;
    readonly services: string[];
    readonly first: number;
    readonly last: number;
    readonly sample: string;
    readonly trend: [number, number][];
    readonly found: number;
    readonly total: number;
  }

  /** `rows` gives service, severity, pattern, step, lines, first, last, sample. */
  const grouped = (rows: string, params: QueryParams) =>
    ask<Group>(
      `SELECT toString(pattern) AS id, sum(c) AS n, intDiv(max(s) + 3, 4) AS class,
         arraySlice(arraySort(arrayDistinct(arrayFlatten(groupArray(who)))), 1, 10) AS services,
         min(f) AS first, max(l) AS last, any(text) AS sample, groupArray((step, c)) AS trend, count() OVER () AS found,
         sum(n) OVER () AS total
       FROM (
         SELECT pattern, step, sum(n) AS c, max(severity) AS s, groupUniqArray(10)(service) AS who, min(first) AS f,
           max(last) AS l, any(sample) AS text
         FROM (${rows})
         GROUP BY pattern, step)
       GROUP BY pattern ORDER BY n DESC, pattern LIMIT {limit:UInt32}`,
      params,
    );

  const patterns: LogsShape["patterns"] = (filter, wanted, limit) => {
    const minutes = wholeMinutes(filter);
    const { stepMs, times } = stepsOf(filter, wanted);
    const known = isMinutes(stepMs) ? countedWhere(filter, minutes) : null;
    const lineWhere = whereOf(conditions(filter));
    const bounds = {
      step: stepMs,
      first: (times[0] ?? 0) / stepMs,
      limit: Math.min(MAX_PATTERNS, Math.max(1, limit)),
    };
    const rows =
      known === null
        ? grouped(
            `SELECT pattern, toInt64(intDiv(toUnixTimestamp64Milli(ts), {step:Int64}) - {first:Int64}) AS step, 1 AS n,
               severity, service, toUnixTimestamp64Milli(ts) AS first, first AS last, substringUTF8(body, 1, 500) AS sample
             FROM ${lines} WHERE ${lineWhere.sql}`,
            { ...lineWhere.params, ...bounds },
          )
        : grouped(
            `SELECT pattern, toInt64(intDiv(toUnixTimestamp(minute) * 1000, {step:Int64}) - {first:Int64}) AS step, lines AS n,
               severity, service, toUnixTimestamp64Milli(\`first\`) AS first, toUnixTimestamp64Milli(\`last\`) AS last, sample
             FROM ${counted} WHERE ${known.sql}`,
            { ...known.params, ...bounds },
          );
    const range = known === null ? filter : minutes;
    return Effect.map(rows, (groups) => ({
      from: range.fromMs,
      to: range.toMs,
      stepMs,
      times,
      total: groups[0]?.total ?? 0,
      found: groups[0]?.found ?? 0,
      patterns: groups.map(({ id, n, class: number, services, first, last, sample, trend: points }) => {
        const trend = times.map(() => 0);
        for (const [step, lines] of points) trend[step] = lines;
        return { pattern: id, count: n, severity: severityOf(number), services, first, last, sample, trend };
      }),
    }));
  };

  return Logs.of({ search, facets, histogram, patterns });
});

export const layer: Layer.Layer<Logs, never, Store> = Layer.effect(Logs, make);
