/**
 * Questions about spans: lists, one trace, a heat map, causes of errors, what sets some spans apart from the others, and
 * who calls whom. Owned by the server's layers, holds nothing between two questions; see ask.ts for bounds and failures.
 * A heat map by service, name and kind, and the calls, are read from what was counted at intake.
 */
import { Context, Effect, Layer } from "effect";
import {
  MAX_COMPARED,
  MAX_PAGE_ROWS,
  type AttributeComparison,
  type Endpoints,
  type Attributes,
  type ErrorCauses,
  type HeatMap,
  type Page,
  type SpanEdge,
  type SpanKind,
  type SpanRow,
  type SpanStatus,
  type StandOut,
  type Trace,
  type TraceSpan,
} from "../../schemas/telemetry.ts";
import { bucketMiddleMs } from "../../schemas/wire/histogram.ts";
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
  type AttributeFilter,
  type Condition,
  type Cursor,
  type TelemetryError,
  type TimeRange,
} from "./ask.ts";
import { selfTimes } from "./selfTime.ts";

export interface SpanFilter extends TimeRange {
  /** any of them; none: all */
  readonly services: readonly string[];
  readonly name: string | null;
  readonly kind: SpanKind | null;
  readonly status: SpanStatus | null;
  /** inclusive */
  readonly leastMs: number | null;
  /** exclusive */
  readonly mostMs: number | null;
  readonly attributes: readonly AttributeFilter[];
  /** only spans without a parent: one for each trace */
  readonly roots: boolean;
}

/** Which of the filtered spans are set against the others: all of what is given must hold. */
export interface Selection {
  readonly fromMs: number | null;
  readonly toMs: number | null;
  readonly leastMs: number | null;
  readonly mostMs: number | null;
  readonly status: SpanStatus | null;
}

export type SpanOrder = "newest" | "slowest";

export interface TracesShape {
  readonly list: (
    filter: SpanFilter,
    order: SpanOrder,
    limit: number,
    after: Cursor | null,
  ) => Effect.Effect<Page<SpanRow>, TelemetryError>;
  /** `traceId`: 32 hex digits. Null: there is no such trace. */
  readonly trace: (traceId: string) => Effect.Effect<Trace | null, TelemetryError>;
  readonly heatMap: (filter: SpanFilter, steps: number) => Effect.Effect<HeatMap, TelemetryError>;
  readonly errors: (filter: SpanFilter, limit: number) => Effect.Effect<ErrorCauses, TelemetryError>;
  readonly compare: (filter: SpanFilter, selection: Selection) => Effect.Effect<AttributeComparison, TelemetryError>;
  /** From the spans of node agents alone, by their weights. */
  readonly endpoints: (range: TimeRange, service: string, limit: number) => Effect.Effect<Endpoints, TelemetryError>;
  /** Most calls first. The range is taken in whole minutes. */
  readonly edges: (range: TimeRange, services: readonly string[]) => Effect.Effect<readonly SpanEdge[], TelemetryError>;
}

export class Traces extends Context.Tag("runtime/telemetry/Traces")<Traces, TracesShape>() {}

export const MAX_TRACE_SPANS = 5_000;
export const MAX_CAUSES = 100;
const MAX_EDGES = 10_000;
/** connections whose other end is read with a trace */
const MAX_JOINED = 50;
/** of spans that node agents made, see agent/node/spans */
const KERNEL_SCOPE = "coroot.ebpf";
const MAX_CELLS = 60_000;
const COMPARED_KEYS = 40;
const COMPARED_VALUES = 10;

const NO_PARENT = "unhex('0000000000000000')";
const nanoseconds = (ms: number): string => String(Math.round(ms * 1e6));

const durationConditions = (leastMs: number | null, mostMs: number | null): readonly Condition[] => [
  {
    given: leastMs !== null,
    sql: "duration >= {least:UInt64}",
    params: { least: nanoseconds(leastMs ?? 0) },
  },
  { given: mostMs !== null, sql: "duration < {most:UInt64}", params: { most: nanoseconds(mostMs ?? 0) } },
];

/** What both the spans and their counts know. */
const groupConditions = ({ services, name, kind }: SpanFilter): readonly Condition[] => [
  { given: services.length > 0, sql: "service IN {services:Array(String)}", params: { services } },
  { given: name !== null, sql: "name = {name:String}", params: { name } },
  { given: kind !== null, sql: "kind = {kind:String}", params: { kind } },
];

const conditions = (filter: SpanFilter): readonly Condition[] => [
  timeCondition(filter),
  ...groupConditions(filter),
  { given: filter.status !== null, sql: "status = {status:String}", params: { status: filter.status } },
  { given: filter.roots, sql: `parent_id = ${NO_PARENT}`, params: {} },
  ...durationConditions(filter.leastMs, filter.mostMs),
  ...attributeConditions(filter.attributes),
];

const isCounted = ({ status, leastMs, mostMs, attributes, roots }: SpanFilter): boolean =>
  status === null && leastMs === null && mostMs === null && attributes.length === 0 && !roots;

const minuteCondition = ({ fromMs, toMs }: TimeRange): Condition => ({
  given: true,
  sql: "minute >= toDateTime({fromS:UInt32}, 'UTC') AND minute < toDateTime({toS:UInt32}, 'UTC')",
  params: { fromS: fromMs / 1000, toS: toMs / 1000 },
});

/** As the views of schemas/tables.ts count. */
const BUCKET = "toUInt8(if(duration > 1000, least(107, floor(log2(duration / 1000) * 4)), 0))";

/** How a list is ordered: the key that a place in it has, and which spans lie behind a key. */
const ORDERS = {
  newest: {
    column: "ts",
    key: "toUnixTimestamp64Nano(ts)",
    place: "fromUnixTimestamp64Nano({key:Int64}, 'UTC')",
    none: "9223372036854775807",
  },
  slowest: { column: "duration", key: "duration", place: "{key:UInt64}", none: "9223372036854775807" },
} as const;

interface ListRow extends SpanRow {
  readonly key: string;
  readonly tie: string;
  readonly found: number;
}

const spanOf = (row: SpanRow): SpanRow => ({
  traceId: row.traceId,
  spanId: row.spanId,
  parentId: row.parentId,
  at: row.at,
  durationMs: row.durationMs,
  service: row.service,
  name: row.name,
  kind: row.kind,
  status: row.status,
  statusMessage: row.statusMessage,
});

/** Times in ns. */
interface TraceRow extends Omit<TraceSpan, "offsetMs" | "selfMs" | "events" | "links"> {
  readonly offset: number;
  readonly duration: number;
  readonly eventTimes: readonly number[];
  readonly eventNames: readonly string[];
  readonly eventAttributes: readonly Attributes[];
  readonly linkTraces: readonly string[];
  readonly linkSpans: readonly string[];
  readonly found: number;
}

const traceSpanOf = (row: TraceRow, selfNs: number): TraceSpan => ({
  ...spanOf(row),
  offsetMs: row.offset / 1e6,
  selfMs: selfNs / 1e6,
  namespace: row.namespace,
  pod: row.pod,
  host: row.host,
  scope: row.scope,
  peer: row.peer,
  attributes: row.attributes,
  resource: row.resource,
  events: row.eventNames.map((name, i) => ({
    at: row.eventTimes[i] ?? 0,
    name,
    attributes: row.eventAttributes[i] ?? {},
  })),
  links: row.linkSpans.map((spanId, i) => ({ traceId: row.linkTraces[i] ?? "", spanId })),
});

const selectionConditions = ({ fromMs, toMs, leastMs, mostMs, status }: Selection): readonly Condition[] => [
  {
    given: fromMs !== null,
    sql: "ts >= fromUnixTimestamp64Milli({selectedFrom:Int64}, 'UTC')",
    params: { selectedFrom: Math.floor(fromMs ?? 0) },
  },
  {
    given: toMs !== null,
    sql: "ts < fromUnixTimestamp64Milli({selectedTo:Int64}, 'UTC')",
    params: { selectedTo: Math.floor(toMs ?? 0) },
  },
  {
    given: leastMs !== null,
    sql: "duration >= {selectedLeast:UInt64}",
    params: { selectedLeast: nanoseconds(leastMs ?? 0) },
  },
  {
    given: mostMs !== null,
    sql: "duration < {selectedMost:UInt64}",
    params: { selectedMost: nanoseconds(mostMs ?? 0) },
  },
  { given: status !== null, sql: "status = {selectedStatus:String}", params: { selectedStatus: status } },
];

export const make = Effect.gen(function* () {
  const store = yield* Store;
  const ask = yield* makeAsk(store);
  const table = (name: string): string => `${store.database}.${name}`;
  const spans = table("spans");

  /** As in Logs.search: first how far the page reaches, then the spans within, whole and in their order. */
  const list: TracesShape["list"] = (filter, order, limit, after) => {
    const { column, key, place, none } = ORDERS[order];
    const { sql, params } = whereOf(conditions(filter));
    const most = Math.min(MAX_PAGE_ROWS, Math.max(1, limit));
    return ask<ListRow>(
      `WITH (SELECT min(${column}) FROM (
         SELECT ${column} FROM ${spans} WHERE ${sql} AND ${column} < ${place}
         ORDER BY ${column} DESC LIMIT {rows:UInt32})) AS last
       SELECT toString(${key}) AS key, toString(tied) AS tie, count() OVER () AS found,
         lower(hex(trace_id)) AS traceId, lower(hex(span_id)) AS spanId,
         if(parent_id = ${NO_PARENT}, '', lower(hex(parent_id))) AS parentId, intDiv(toUnixTimestamp64Nano(ts), 1000) / 1000 AS at,
         duration / 1e6 AS durationMs, service, name, kind, status, status_message AS statusMessage
       FROM (
         SELECT ts, duration, trace_id, span_id, parent_id, service, name, kind, status, status_message,
           cityHash64(ts, duration, trace_id, span_id, parent_id, service, name, kind, status, status_message, batch) AS tied
         FROM ${spans}
         WHERE ${sql} AND ${column} >= last AND (${column} < ${place} OR (${column} = ${place} AND tied <= {tie:UInt64}))
         ORDER BY ${column} DESC, tied DESC LIMIT {rows:UInt32} OFFSET {same:UInt32})
       ORDER BY ${column} DESC, tied DESC`,
      {
        ...params,
        key: after?.key ?? none,
        tie: after?.tie ?? "0",
        same: after?.same ?? 0,
        rows: most + 1,
      },
    ).pipe(
      Effect.map((rows) => {
        const page = pageOf(rows, most, after);
        return { rows: page.rows.map(spanOf), next: page.next };
      }),
    );
  };

  const spansOf = (traceId: string): Effect.Effect<readonly TraceRow[], TelemetryError> =>
    ask<TraceRow>(
      `WITH (SELECT if(count() = 0, (toDateTime64('1970-01-01 00:00:00', 9, 'UTC'), toDateTime64('2262-01-01 00:00:00', 9, 'UTC')),
           (min(start), max(end))) FROM ${table("trace_index")} WHERE trace_id = unhex({id:String})) AS bounds
       SELECT lower(hex(trace_id)) AS traceId, lower(hex(span_id)) AS spanId, if(parent_id = ${NO_PARENT}, '', lower(hex(parent_id))) AS parentId,
         intDiv(toUnixTimestamp64Nano(ts), 1000) / 1000 AS at, toUnixTimestamp64Nano(ts) - earliest AS offset, duration, duration / 1e6 AS durationMs, service, name, kind,
         status, status_message AS statusMessage, namespace, pod, host, scope, peer, attributes, resource,
         arrayMap(t -> intDiv(toUnixTimestamp64Nano(t), 1000) / 1000, event_ts) AS eventTimes, event_name AS eventNames,
         event_attributes AS eventAttributes, arrayMap(id -> lower(hex(id)), link_trace_id) AS linkTraces,
         arrayMap(id -> lower(hex(id)), link_span_id) AS linkSpans, found
       FROM (
         SELECT *, count() OVER () AS found, min(toUnixTimestamp64Nano(ts)) OVER () AS earliest,
           sum(size) OVER (ORDER BY ts, span_id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - size AS before
         FROM (
           SELECT *, byteSize(attributes, resource, event_attributes, event_name, link_attributes, status_message) + 300 AS size
           FROM ${spans}
           WHERE trace_id = unhex({id:String}) AND ts >= bounds.1 AND ts <= bounds.2
           ORDER BY ts, span_id LIMIT {rows:UInt32}))
       WHERE before < {bytes:UInt64}
       ORDER BY ts, span_id`,
      { id: traceId, rows: MAX_TRACE_SPANS + 1, bytes: ANSWER_BYTES },
    );

  /**
   * With what other agents told of the same requests: they knew no more than the connection, whose trace the client's span
   * links to.
   */
  const joined = (traceId: string): Effect.Effect<readonly TraceRow[], TelemetryError> =>
    Effect.gen(function* () {
      const read = new Set([traceId]);
      const rows = [...(yield* spansOf(traceId))];
      for (let at = 0; at < rows.length && read.size <= MAX_JOINED && rows.length < MAX_TRACE_SPANS; at++) {
        const row = rows[at];
        if (row?.scope !== KERNEL_SCOPE) continue;
        for (const other of row.linkTraces) {
          if (read.has(other) || read.size > MAX_JOINED) continue;
          read.add(other);
          rows.push(...(yield* spansOf(other)));
        }
      }
      if (read.size === 1) return rows;
      // offsets are from the earliest span of each trace
      const earliest = rows.reduce((least, { at }) => Math.min(least, at), Number.POSITIVE_INFINITY);
      return rows
        .map((row) => ({ ...row, traceId, offset: (row.at - earliest) * 1e6, found: rows.length }))
        .sort((a, b) => a.offset - b.offset);
    });

  const trace: TracesShape["trace"] = (traceId) =>
    joined(traceId).pipe(
      Effect.map((rows) => {
        const [first] = rows;
        if (first === undefined) return null;
        const given = rows.slice(0, MAX_TRACE_SPANS);
        const self = selfTimes(given);
        const end = given.reduce((most, { offset, duration }) => Math.max(most, offset + duration), 0);
        return {
          traceId,
          at: first.at,
          durationMs: end / 1e6,
          spans: given.map((row, i) => traceSpanOf(row, self[i] ?? 0)),
          truncated: first.found > given.length,
        };
      }),
    );

  const cells = (rows: string, params: QueryParams) =>
    ask<{ step: number; bucket: number; n: number; f: number }>(
      `SELECT step, bucket, sum(a) AS n, sum(b) AS f FROM (${rows}) GROUP BY step, bucket ORDER BY step, bucket`,
      params,
      { rows: MAX_CELLS },
    );

  const heatMap: TracesShape["heatMap"] = (filter, wanted) => {
    const { stepMs, times } = stepsOf(filter, wanted);
    const first = times[0] ?? 0;
    const steps = { step: stepMs, first: first / stepMs };
    // whole steps, so that the first and the last cell are no darker than the others
    const whole = { ...filter, fromMs: first, toMs: (times.at(-1) ?? 0) + stepMs };
    const counted = isMinutes(stepMs) && isCounted(filter);
    const where = whereOf(
      counted ? [minuteCondition(whole), ...groupConditions(filter)] : conditions({ ...filter, ...whole }),
    );
    const found = counted
      ? cells(
          `SELECT toInt64(intDiv(toUnixTimestamp(minute) * 1000, {step:Int64}) - {first:Int64}) AS step, bucket, total AS a,
             failed AS b
           FROM ${table("span_latency")} WHERE ${where.sql}`,
          { ...where.params, ...steps },
        )
      : cells(
          `SELECT toInt64(intDiv(toUnixTimestamp64Milli(ts), {step:Int64}) - {first:Int64}) AS step, ${BUCKET} AS bucket, 1 AS a,
             status = 'error' AS b
           FROM ${spans} WHERE ${where.sql}`,
          { ...where.params, ...steps },
        );
    return Effect.map(found, (rows) => ({
      stepMs,
      times,
      at: rows.map(({ step }) => times[step] ?? 0),
      bucket: rows.map(({ bucket }) => bucket),
      total: rows.map(({ n }) => n),
      failed: rows.map(({ f }) => f),
    }));
  };

  interface CauseRow {
    readonly service: string;
    readonly exception: string;
    readonly cause: string;
    readonly n: number;
    readonly all: number;
    readonly first: number;
    readonly last: number;
    readonly names: readonly string[];
    readonly traceIds: readonly string[];
  }

  const errors: TracesShape["errors"] = (filter, limit) => {
    const { sql, params } = whereOf(conditions({ ...filter, status: "error" }));
    return ask<CauseRow>(
      `SELECT service, exception, cause, count() AS n, sum(n) OVER () AS all, min(at) AS first, max(at) AS last,
         arraySort(groupUniqArray(5)(name)) AS names,
         arraySort(arrayMap(id -> lower(hex(id)), groupUniqArray(3)(trace_id))) AS traceIds
       FROM (
         SELECT service, name, trace_id, intDiv(toUnixTimestamp64Nano(ts), 1000) / 1000 AS at,
           indexOf(event_name, 'exception') AS place,
           if(place = 0, map(), event_attributes[place]) AS thrown,
           thrown['exception.type'] AS exception,
           if(status_message = '', thrown['exception.message'], status_message) AS said,
           multiIf(said != '', replaceRegexpAll(substringUTF8(said, 1, 300), '[0-9a-fA-F]{8,}(-[0-9a-fA-F]+)*|[0-9]+', '*'),
             attributes['http.response.status_code'] != '', concat('HTTP ', attributes['http.response.status_code']),
             attributes['http.status_code'] != '', concat('HTTP ', attributes['http.status_code']),
             attributes['rpc.grpc.status_code'] != '', concat('gRPC ', attributes['rpc.grpc.status_code']), '') AS cause
         FROM ${spans} WHERE ${sql})
       GROUP BY service, exception, cause ORDER BY n DESC, service, exception, cause LIMIT {limit:UInt32}`,
      { ...params, limit: Math.min(MAX_CAUSES, Math.max(1, limit)) },
    ).pipe(
      Effect.map((rows) => ({
        failed: rows[0]?.all ?? 0,
        causes: rows.map(({ cause, n, all, ...row }) => ({ ...row, message: cause, count: n, share: n / all })),
      })),
    );
  };

  interface ComparedRow {
    readonly key: string;
    readonly score: number;
    readonly top: readonly [value: string, selected: number, rest: number][];
    readonly chosen: number;
    readonly others: number;
  }

  /** Ids of spans are random, so those with the lowest are a fair sample, the same each time. */
  const compare: TracesShape["compare"] = (filter, selection) => {
    const where = whereOf(conditions(filter));
    const box = whereOf(selectionConditions(selection));
    // an empty pair with each span counts them
    const sample = (condition: string, flag: 0 | 1): string =>
      `SELECT ${flag} AS chosen, arrayConcat([('', '')], arrayFilter(pair -> pair.1 != '' AND pair.2 != '', arrayConcat(
           CAST(attributes, 'Array(Tuple(String, String))'), CAST(resource, 'Array(Tuple(String, String))'),
           [('service.name', toString(service)), ('k8s.namespace.name', toString(namespace)), ('k8s.pod.name', toString(pod)),
            ('host.name', toString(host)), ('span name', toString(name)), ('span kind', toString(kind)),
            ('span status', toString(status)), ('status message', status_message), ('peer', toString(peer))]))) AS pairs
         FROM ${spans} WHERE ${where.sql} AND ${condition} ORDER BY span_id LIMIT {sampled:UInt32}`;
    return ask<ComparedRow>(
      `SELECT key, max(abs(a - b)) AS score,
         arraySlice(arraySort(t -> (-abs(t.2 - t.3), t.1), groupArray((value, a, b))), 1, {values:UInt32}) AS top,
         any(chosenCount) AS chosen, any(otherCount) AS others
       FROM (
         SELECT key, value, chosenCount, otherCount, if(chosenCount = 0, 0, n / chosenCount) AS a,
           if(otherCount = 0, 0, m / otherCount) AS b
         FROM (
           SELECT key, value, n, m, max(if(key = '', n, 0)) OVER () AS chosenCount, max(if(key = '', m, 0)) OVER () AS otherCount
           FROM (
             SELECT pair.1 AS key, substringUTF8(pair.2, 1, 200) AS value, countIf(chosen = 1) AS n, countIf(chosen = 0) AS m
             FROM (SELECT chosen, arrayJoin(pairs) AS pair FROM (${sample(`(${box.sql})`, 1)} UNION ALL ${sample(`NOT (${box.sql})`, 0)}))
             GROUP BY key, value))
         WHERE key != '')
       GROUP BY key ORDER BY score DESC, key LIMIT {keys:UInt32}`,
      {
        ...where.params,
        ...box.params,
        sampled: MAX_COMPARED,
        values: COMPARED_VALUES,
        keys: COMPARED_KEYS,
      },
    ).pipe(
      Effect.map((rows) => ({
        selected: rows[0]?.chosen ?? 0,
        rest: rows[0]?.others ?? 0,
        attributes: rows.map(
          ({ key, score, top }): StandOut => ({
            key,
            difference: score,
            values: top.map(([value, selected, rest]) => ({ value, selected, rest })),
          }),
        ),
      })),
    );
  };

  interface EndpointRow {
    readonly endpoint: string;
    readonly kind: SpanKind;
    readonly system: string;
    readonly samples: number;
    readonly n: number;
    readonly n2: number;
    readonly f: number;
    readonly f2: number;
    readonly most: number;
    readonly q: readonly [number, number, number];
  }

  /**
   * Each request was sampled with the chance 1/weight, so a sum of weights estimates without bias, with the variance
   * of sum(w²) - sum(w). That of the share of failed ones is by the ratio's residuals.
   */
  const endpoints: TracesShape["endpoints"] = (range, service, limit) => {
    const { sql, params } = whereOf([
      timeCondition(range),
      { given: true, sql: "service = {service:String}", params: { service } },
      { given: true, sql: "scope = {scope:String}", params: { scope: KERNEL_SCOPE } },
    ]);
    const seconds = Math.max(1, (range.toMs - range.fromMs) / 1000);
    return ask<EndpointRow>(
      `SELECT endpoint, kind, any(system) AS system, count() AS samples, sum(w) AS n, greatest(sum(w * w) - n, 0) AS n2,
         sumIf(w, failed) AS f, sumIf(w * (w - 1), failed) AS f2, max(max(w)) OVER () AS most,
         arrayMap(x -> if(isNaN(x), 0, x / 1e6), quantilesExactWeighted(0.5, 0.95, 0.99)(duration, toUInt64(greatest(1, round(w))))) AS q
       FROM (
         SELECT attributes['coroot.endpoint'] AS endpoint, kind, status = 'error' AS failed, duration,
           toFloat64OrZero(attributes['coroot.weight']) AS w,
           multiIf(attributes['db.system.name'] != '', attributes['db.system.name'], attributes['messaging.system'] != '',
             attributes['messaging.system'], attributes['rpc.system'] != '', attributes['rpc.system'],
             attributes['network.protocol.name']) AS system
         FROM ${spans} WHERE ${sql})
       WHERE w > 0 AND endpoint != ''
       GROUP BY endpoint, kind ORDER BY n DESC, endpoint, kind LIMIT {limit:UInt32}`,
      { ...params, limit: Math.min(MAX_CAUSES, Math.max(1, limit)) },
    ).pipe(
      Effect.map((rows) => ({
        endpoints: rows.map(({ endpoint, kind, system, samples, n, n2, f, f2, q: [p50, p95, p99] }) => {
          const share = f / n;
          return {
            endpoint,
            kind,
            system,
            samples,
            perSecond: n / seconds,
            perSecondError: (1.96 * Math.sqrt(n2)) / seconds,
            failed: share,
            failedError: (1.96 * Math.sqrt((1 - share) ** 2 * f2 + share ** 2 * Math.max(0, n2 - f2))) / n,
            p50,
            p95,
            p99,
          };
        }),
        // none of n requests is sampled with the chance (1 - 1/w)^n, which is 5 % for n = 3 w
        unseenPerSecond: (3 * (rows[0]?.most ?? 0)) / seconds,
      })),
    );
  };

  const edges: TracesShape["edges"] = (range, services) => {
    const { sql, params } = whereOf([
      minuteCondition(wholeMinutes(range)),
      {
        given: services.length > 0,
        sql: "service IN {services:Array(String)} OR peer IN {services:Array(String)}",
        params: { services },
      },
    ]);
    return ask<{ service: string; peer: string; kind: SpanKind; n: number; f: number; q: [number, number, number] }>(
      `SELECT service, peer, kind, sum(total) AS n, sum(failed) AS f, quantilesExactWeighted(0.5, 0.95, 0.99)(bucket, total) AS q
       FROM ${table("span_edges")} WHERE ${sql}
       GROUP BY service, peer, kind ORDER BY n DESC, service, peer, kind LIMIT {limit:UInt32}`,
      { ...params, limit: MAX_EDGES },
    ).pipe(
      Effect.map((rows) =>
        rows.map(({ service, peer, kind, n, f, q: [p50, p95, p99] }) => ({
          service,
          peer,
          kind,
          total: n,
          failed: f,
          p50: bucketMiddleMs(p50),
          p95: bucketMiddleMs(p95),
          p99: bucketMiddleMs(p99),
        })),
      ),
    );
  };

  return Traces.of({ list, trace, heatMap, errors, compare, endpoints, edges });
});

export const layer: Layer.Layer<Traces, never, Store> = Layer.effect(Traces, make);
