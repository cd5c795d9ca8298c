/**
 * The store's tables and materialized views as data; schemas/ddl.ts makes statements of them. One place says columns,
 * order, retention and the engine; the migration at start creates what is missing and adds columns and indexes, so a
 * change here must be additive. Times in rows are milliseconds since the epoch; the writer turns them into what the
 * column wants.
 */
export interface ColumnDefinition {
  readonly name: string;
  readonly type: string;
  readonly codec?: string;
}

/** What lets a query skip granules that the order does not exclude. */
export interface IndexDefinition {
  readonly name: string;
  readonly expression: string;
  readonly type: string;
  readonly granularity: number;
}

export interface TableDefinition {
  readonly name: string;
  readonly columns: readonly ColumnDefinition[];
  readonly indexes?: readonly IndexDefinition[];
  readonly engine: string;
  readonly orderBy: string;
  /** column that is cut into days and from which the retention counts; null keeps one partition */
  readonly day: string | null;
  /** expression from which the retention counts */
  readonly ttlFrom: string;
  readonly ttlDays: number;
  /**
   * On a cluster: expression over a row by which its shard is chosen. The rows of one batch have one shard, so that an
   * insert is there whole or not at all; rows that replace each other have one too. Null: filled by a view, on the shard
   * of the rows that it sees.
   */
  readonly shardBy: string | null;
}

/** A materialized view: each insert into `from` adds these rows to `to`. A changed view takes a new name. */
export interface ViewDefinition {
  readonly name: string;
  readonly from: TableName;
  readonly to: TableName;
  /** column of `to` and the expression over `from` that fills it */
  readonly select: Readonly<Record<string, string>>;
  readonly where?: string;
  readonly groupBy: string;
}

const text = (name: string): ColumnDefinition => ({ name, type: "LowCardinality(String)" });
const instant = (name: string): ColumnDefinition => ({
  name,
  type: "DateTime64(3, 'UTC')",
  codec: "DoubleDelta, ZSTD(1)",
});
const json = (name: string): ColumnDefinition => ({ name, type: "String", codec: "ZSTD(3)" });
const long = (name: string): ColumnDefinition => ({ name, type: "String", codec: "ZSTD(1)" });
const nanos = (name: string): ColumnDefinition => ({
  name,
  type: "DateTime64(9, 'UTC')",
  codec: "Delta(8), ZSTD(1)",
});
/** Ids are random bytes: raw they take half of their hex form, and nothing makes them smaller. */
const id = (name: string, bytes: 8 | 16): ColumnDefinition => ({
  name,
  type: `FixedString(${bytes})`,
  codec: "ZSTD(1)",
});
const pairs = (name: string): ColumnDefinition => ({
  name,
  type: "Map(LowCardinality(String), String)",
  codec: "ZSTD(1)",
});
const minute: ColumnDefinition = { name: "minute", type: "DateTime('UTC')", codec: "DoubleDelta, ZSTD(1)" };
const count = (name: string): ColumnDefinition => ({ name, type: "UInt64", codec: "T64, ZSTD(1)" });
const SPAN_KIND =
  "Enum8('unspecified' = 0, 'internal' = 1, 'server' = 2, 'client' = 3, 'producer' = 4, 'consumer' = 5)";
/** The request that brought the row, so that the store can be asked whether it has it. Nearly constant within a run. */
const batch: ColumnDefinition = { name: "batch", type: "UInt64", codec: "ZSTD(1)" };
const batchIndex: IndexDefinition = {
  name: "by_batch",
  expression: "batch",
  type: "bloom_filter(0.001)",
  granularity: 1,
};
const traceIndex: IndexDefinition = {
  name: "by_trace",
  expression: "trace_id",
  type: "bloom_filter(0.01)",
  granularity: 1,
};
/** Where the row came from: lifted out of the resource's attributes, of which the others are in `resource`. */
const origin: readonly ColumnDefinition[] = [
  text("service"),
  text("namespace"),
  text("pod"),
  text("host"),
  pairs("resource"),
  text("scope"),
];

/** Figures of an edge's minute, in this order wherever they stand in a list; times in ms. */
export const EDGE_FIGURES = [
  "count",
  "failed",
  "failed_connects",
  "opens",
  "retransmits",
  "sum_ms",
  "pending",
  "pending_sum",
  "oldest_ms",
  "slow",
  "cpu_ms",
  "throttled_ms",
  "memory_ratio",
  "io_wait_ms",
] as const;

export const TABLES = {
  series: {
    name: "series",
    columns: [
      { name: "fp", type: "UInt64" },
      text("name"),
      {
        name: "labels",
        type: "SimpleAggregateFunction(any, Map(String, String))",
        codec: "ZSTD(1)",
      },
      { name: "first_seen", type: "SimpleAggregateFunction(min, DateTime('UTC'))" },
      { name: "last_seen", type: "SimpleAggregateFunction(max, DateTime('UTC'))" },
    ],
    engine: "AggregatingMergeTree",
    orderBy: "(name, fp)",
    day: null,
    ttlFrom: "last_seen",
    ttlDays: 8,
    shardBy: "fp",
  },
  samples: {
    name: "samples",
    columns: [
      { name: "fp", type: "UInt64", codec: "ZSTD(1)" },
      instant("ts"),
      { name: "value", type: "Float64", codec: "Gorilla, ZSTD(1)" },
      // the batch that brought the row: hash of agent and epoch, and its sequence. Nearly constant within a series.
      { name: "source", type: "UInt64", codec: "ZSTD(1)" },
      { name: "sequence", type: "UInt32", codec: "Delta(4), ZSTD(1)" },
    ],
    engine: "MergeTree",
    orderBy: "(fp, ts)",
    day: "ts",
    ttlFrom: "toDateTime(ts)",
    ttlDays: 7,
    shardBy: "cityHash64(source, sequence)",
  },
  // Highest sequence that may have been inserted for a source, written ahead in strides: a batch above it cannot be a
  // re-send, so only what is below needs a look into the samples.
  sources: {
    name: "sources",
    columns: [
      { name: "source", type: "UInt64" },
      { name: "reserved", type: "UInt32" },
      { name: "at", type: "DateTime('UTC')" },
    ],
    engine: "ReplacingMergeTree(reserved)",
    orderBy: "source",
    day: null,
    ttlFrom: "at",
    ttlDays: 90,
    shardBy: "source",
  },
  // Calls of remote_write and OTLP that may have been stored, by the hash of their bytes, written before their samples: a
  // call that is not here cannot be a re-send.
  calls: {
    name: "calls",
    columns: [
      { name: "source", type: "UInt64" },
      { name: "at", type: "DateTime('UTC')" },
    ],
    engine: "ReplacingMergeTree",
    orderBy: "source",
    day: "at",
    ttlFrom: "at",
    ttlDays: 2,
    shardBy: "source",
  },
  incidents: {
    name: "incidents",
    columns: [
      { name: "id", type: "String" },
      { name: "version", type: "UInt64" },
      text("cluster"),
      text("service"),
      text("status"),
      text("severity"),
      // never changes in the life of an incident, so all its versions share a partition
      instant("suspected"),
      { name: "opened", type: "Nullable(DateTime64(3, 'UTC'))" },
      { name: "resolved", type: "Nullable(DateTime64(3, 'UTC'))" },
      json("json"),
    ],
    engine: "ReplacingMergeTree(version)",
    orderBy: "id",
    day: "suspected",
    ttlFrom: "toDateTime(suspected)",
    ttlDays: 90,
    shardBy: "cityHash64(id)",
  },
  events: {
    name: "events",
    columns: [
      instant("ts"),
      text("service"),
      text("kind"),
      { name: "text", type: "String", codec: "ZSTD(1)" },
      json("json"),
    ],
    engine: "MergeTree",
    orderBy: "(service, ts)",
    day: "ts",
    ttlFrom: "toDateTime(ts)",
    ttlDays: 90,
    shardBy: "cityHash64(service)",
  },
  sli_minutes: {
    name: "sli_minutes",
    columns: [
      text("service"),
      { name: "minute", type: "DateTime('UTC')", codec: "DoubleDelta, ZSTD(1)" },
      { name: "total", type: "UInt64", codec: "T64, ZSTD(1)" },
      { name: "bad", type: "UInt64", codec: "T64, ZSTD(1)" },
      { name: "slow", type: "UInt64", codec: "T64, ZSTD(1)" },
      { name: "buckets", type: "Array(UInt8)", codec: "ZSTD(1)" },
      { name: "counts", type: "Array(UInt32)", codec: "ZSTD(1)" },
      { name: "version", type: "UInt64", codec: "ZSTD(1)" },
    ],
    engine: "ReplacingMergeTree(version)",
    orderBy: "(service, minute)",
    day: "minute",
    ttlFrom: "minute",
    ttlDays: 35,
    shardBy: "cityHash64(service)",
  },
  // What baselines are rebuilt from: figures of a service itself and of its edges, as each end saw them. The counts add
  // up over a minute, `pending`, `oldest_ms` and `memory_ratio` are its highest; a minute without any has no row.
  edge_minutes: {
    name: "edge_minutes",
    columns: [
      text("service"),
      // "own": the service as a whole
      text("side"),
      // empty: own, or the other end could not be told
      text("peer"),
      minute,
      ...EDGE_FIGURES.map((name) => ({ name, type: "Float32", codec: "ZSTD(1)" })),
      // seconds of the minute that were seen: a row of less knowledge replaces none of more
      { name: "version", type: "UInt8", codec: "ZSTD(1)" },
    ],
    engine: "ReplacingMergeTree(version)",
    orderBy: "(service, side, peer, minute)",
    day: "minute",
    ttlFrom: "minute",
    ttlDays: 35,
    shardBy: "cityHash64(service)",
  },
  sli_points: {
    name: "sli_points",
    columns: [
      text("service"),
      { name: "ts", type: "DateTime('UTC')", codec: "DoubleDelta, ZSTD(1)" },
      { name: "requests", type: "Float64", codec: "Gorilla, ZSTD(1)" },
      { name: "errors", type: "Float64", codec: "Gorilla, ZSTD(1)" },
      { name: "p50", type: "Nullable(Float32)", codec: "ZSTD(1)" },
      { name: "p95", type: "Nullable(Float32)", codec: "ZSTD(1)" },
      { name: "p99", type: "Nullable(Float32)", codec: "ZSTD(1)" },
      { name: "cpu", type: "Nullable(Float32)", codec: "ZSTD(1)" },
      { name: "memory", type: "Nullable(Float64)", codec: "ZSTD(1)" },
    ],
    engine: "ReplacingMergeTree",
    orderBy: "(service, ts)",
    day: "ts",
    ttlFrom: "ts",
    ttlDays: 7,
    shardBy: "cityHash64(service)",
  },
  map_edges: {
    name: "map_edges",
    columns: [
      text("source"),
      text("target"),
      // never changes in the life of a call, so all its versions share a partition
      instant("first"),
      instant("last"),
      { name: "version", type: "UInt64", codec: "ZSTD(1)" },
    ],
    engine: "ReplacingMergeTree(version)",
    orderBy: "(source, target, first)",
    day: "first",
    ttlFrom: "toDateTime(last)",
    ttlDays: 35,
    shardBy: "cityHash64(source, target)",
  },
  // runtime/otlp writes the rows of logs and spans in the order of their columns
  logs: {
    name: "logs",
    columns: [
      nanos("ts"),
      // as OpenTelemetry numbers it: 1 to 4 trace, debug from 5, info 9, warning 13, error 17, fatal 21; 0 unknown
      { name: "severity", type: "UInt8", codec: "ZSTD(1)" },
      id("trace_id", 16),
      id("span_id", 8),
      batch,
      ...origin,
      text("severity_text"),
      text("event"),
      long("body"),
      // hash of what is the same in all lines of one template (runtime/otlp/pattern.ts); 0: no words
      { name: "pattern", type: "UInt64", codec: "ZSTD(1)" },
      pairs("attributes"),
    ],
    indexes: [
      traceIndex,
      batchIndex,
      // of the text in small letters, since that is how it is searched
      { name: "by_small_word", expression: "lower(body)", type: "tokenbf_v1(32768, 3, 0)", granularity: 1 },
      { name: "by_pattern", expression: "pattern", type: "bloom_filter(0.01)", granularity: 1 },
    ],
    engine: "MergeTree",
    orderBy: "(service, severity, ts)",
    day: "ts",
    ttlFrom: "toDateTime(ts)",
    ttlDays: 7,
    shardBy: "batch",
  },
  // Lines by template and minute, so that patterns are counted without reading the lines.
  log_patterns: {
    name: "log_patterns",
    columns: [
      text("service"),
      { name: "severity", type: "UInt8", codec: "ZSTD(1)" },
      { name: "pattern", type: "UInt64", codec: "ZSTD(1)" },
      minute,
      { name: "lines", type: "SimpleAggregateFunction(sum, UInt64)", codec: "T64, ZSTD(1)" },
      { name: "first", type: "SimpleAggregateFunction(min, DateTime64(3, 'UTC'))", codec: "ZSTD(1)" },
      { name: "last", type: "SimpleAggregateFunction(max, DateTime64(3, 'UTC'))", codec: "ZSTD(1)" },
      // one of the lines, cut
      { name: "sample", type: "SimpleAggregateFunction(any, String)", codec: "ZSTD(1)" },
    ],
    engine: "AggregatingMergeTree",
    orderBy: "(service, severity, pattern, minute)",
    day: "minute",
    ttlFrom: "minute",
    ttlDays: 7,
    shardBy: null,
  },
  spans: {
    name: "spans",
    columns: [
      nanos("ts"),
      // nanoseconds
      { name: "duration", type: "UInt64", codec: "T64, ZSTD(1)" },
      id("trace_id", 16),
      id("span_id", 8),
      id("parent_id", 8),
      { name: "kind", type: SPAN_KIND, codec: "ZSTD(1)" },
      { name: "status", type: "Enum8('unset' = 0, 'ok' = 1, 'error' = 2)", codec: "ZSTD(1)" },
      batch,
      ...origin,
      text("name"),
      long("status_message"),
      long("trace_state"),
      pairs("attributes"),
      // whom a client or producer called, as its attributes name it; empty when they do not
      text("peer"),
      { name: "event_ts", type: "Array(DateTime64(9, 'UTC'))", codec: "ZSTD(1)" },
      { name: "event_name", type: "Array(LowCardinality(String))", codec: "ZSTD(1)" },
      { name: "event_attributes", type: "Array(Map(LowCardinality(String), String))", codec: "ZSTD(1)" },
      { name: "link_trace_id", type: "Array(FixedString(16))", codec: "ZSTD(1)" },
      { name: "link_span_id", type: "Array(FixedString(8))", codec: "ZSTD(1)" },
      { name: "link_attributes", type: "Array(Map(LowCardinality(String), String))", codec: "ZSTD(1)" },
    ],
    indexes: [traceIndex, batchIndex],
    engine: "MergeTree",
    orderBy: "(service, name, ts)",
    day: "ts",
    ttlFrom: "toDateTime(ts)",
    ttlDays: 7,
    shardBy: "batch",
  },
  // Stacks once for each service and hash (runtime/profiles/Stacks.ts), a frame as "function<tab>file:line". Written again
  // once a day while samples name them, so that they outlive these: their retention is two days longer.
  profile_stacks: {
    name: "profile_stacks",
    columns: [
      text("service"),
      { name: "hash", type: "UInt64", codec: "ZSTD(1)" },
      // root first
      { name: "stack", type: "Array(LowCardinality(String))", codec: "ZSTD(1)" },
      { name: "last_seen", type: "DateTime('UTC')", codec: "DoubleDelta, ZSTD(1)" },
    ],
    engine: "ReplacingMergeTree(last_seen)",
    orderBy: "(service, hash)",
    day: null,
    ttlFrom: "last_seen",
    ttlDays: 9,
    shardBy: "cityHash64(service, hash)",
  },
  // runtime/profiles writes its rows in the order of their columns. Within a profile by stack, so that what follows looks alike.
  profile_samples: {
    name: "profile_samples",
    columns: [
      // when the profile began
      nanos("ts"),
      // nanoseconds that it lasted; 0: it is of one moment
      { name: "duration", type: "UInt64", codec: "T64, ZSTD(1)" },
      batch,
      { name: "stack", type: "UInt64", codec: "ZSTD(1)" },
      // in the unit that the type ends with
      { name: "value", type: "Int64", codec: "T64, ZSTD(1)" },
      text("service"),
      // as "cpu:nanoseconds" or, with its source, "go:heap_inuse_space:bytes"
      text("type"),
      text("namespace"),
      text("pod"),
      text("host"),
      pairs("resource"),
      // labels that the profiled program gave to this stack's samples
      pairs("attributes"),
    ],
    indexes: [batchIndex],
    engine: "MergeTree",
    orderBy: "(service, type, ts, stack)",
    day: "ts",
    ttlFrom: "toDateTime(ts)",
    ttlDays: 7,
    shardBy: "batch",
  },
  // Which types a service has, and when each was last seen.
  profile_types: {
    name: "profile_types",
    columns: [
      text("service"),
      text("type"),
      { name: "last_seen", type: "SimpleAggregateFunction(max, DateTime('UTC'))" },
    ],
    engine: "AggregatingMergeTree",
    orderBy: "(service, type)",
    day: null,
    ttlFrom: "last_seen",
    ttlDays: 7,
    shardBy: null,
  },
  // From when to when a trace's spans last, so that a trace is read within these bounds. One row per trace and day.
  trace_index: {
    name: "trace_index",
    columns: [
      id("trace_id", 16),
      { name: "day", type: "Date" },
      { name: "start", type: "SimpleAggregateFunction(min, DateTime64(9, 'UTC'))", codec: "ZSTD(1)" },
      { name: "end", type: "SimpleAggregateFunction(max, DateTime64(9, 'UTC'))", codec: "ZSTD(1)" },
      { name: "spans", type: "SimpleAggregateFunction(sum, UInt64)", codec: "T64, ZSTD(1)" },
    ],
    engine: "AggregatingMergeTree",
    orderBy: "trace_id",
    day: "day",
    ttlFrom: "day",
    ttlDays: 7,
    shardBy: null,
  },
  // Calls as their clients saw them, one row per minute and bucket of the duration (schemas/wire/histogram.ts).
  span_edges: {
    name: "span_edges",
    columns: [
      text("service"),
      text("peer"),
      { name: "kind", type: SPAN_KIND },
      minute,
      { name: "bucket", type: "UInt8", codec: "ZSTD(1)" },
      count("total"),
      count("failed"),
    ],
    engine: "SummingMergeTree((total, failed))",
    orderBy: "(service, peer, kind, minute, bucket)",
    day: "minute",
    ttlFrom: "minute",
    ttlDays: 35,
    shardBy: null,
  },
  span_latency: {
    name: "span_latency",
    columns: [
      text("service"),
      text("name"),
      { name: "kind", type: SPAN_KIND },
      minute,
      { name: "bucket", type: "UInt8", codec: "ZSTD(1)" },
      count("total"),
      count("failed"),
    ],
    engine: "SummingMergeTree((total, failed))",
    orderBy: "(service, name, kind, minute, bucket)",
    day: "minute",
    ttlFrom: "minute",
    ttlDays: 35,
    shardBy: null,
  },
  // Events of Kubernetes, which a stock coroot-cluster-agent sends as log records of the service KubernetesEvents.
  k8s_events: {
    name: "k8s_events",
    columns: [
      nanos("ts"),
      // of the object that it is about
      text("namespace"),
      text("kind"),
      long("name"),
      text("reason"),
      // Normal or Warning
      text("type"),
      // how often it came in one call
      count("count"),
      long("message"),
    ],
    engine: "MergeTree",
    orderBy: "(namespace, kind, name, ts)",
    day: "ts",
    ttlFrom: "toDateTime(ts)",
    ttlDays: 90,
    shardBy: null,
  },
} as const satisfies Record<string, TableDefinition>;

export type TableName = keyof typeof TABLES;

const BUCKET = "toUInt8(if(duration > 1000, least(107, floor(log2(duration / 1000) * 4)), 0))";

/** Created after the tables, in this order. */
export const VIEWS: readonly ViewDefinition[] = [
  {
    name: "logs_to_patterns",
    from: "logs",
    to: "log_patterns",
    select: {
      service: "service",
      severity: "severity",
      pattern: "pattern",
      minute: "toStartOfMinute(ts)",
      lines: "count()",
      first: "toDateTime64(min(ts), 3, 'UTC')",
      last: "toDateTime64(max(ts), 3, 'UTC')",
      sample: "substringUTF8(any(body), 1, 500)",
    },
    groupBy: "service, severity, pattern, minute",
  },
  {
    name: "spans_to_trace_index",
    from: "spans",
    to: "trace_index",
    select: {
      trace_id: "trace_id",
      day: "toDate(ts)",
      start: "min(ts)",
      end: "max(addNanoseconds(ts, duration))",
      spans: "count()",
    },
    groupBy: "trace_id, day",
  },
  {
    name: "spans_to_edges",
    from: "spans",
    to: "span_edges",
    select: {
      service: "service",
      peer: "peer",
      kind: "kind",
      minute: "toStartOfMinute(ts)",
      bucket: BUCKET,
      total: "count()",
      failed: "countIf(status = 'error')",
    },
    where: "peer != ''",
    groupBy: "service, peer, kind, minute, bucket",
  },
  {
    name: "spans_to_latency",
    from: "spans",
    to: "span_latency",
    select: {
      service: "service",
      name: "name",
      kind: "kind",
      minute: "toStartOfMinute(ts)",
      bucket: BUCKET,
      total: "count()",
      failed: "countIf(status = 'error')",
    },
    groupBy: "service, name, kind, minute, bucket",
  },
  {
    name: "logs_to_k8s_events",
    from: "logs",
    to: "k8s_events",
    select: {
      ts: "ts",
      namespace: "attributes['object.namespace']",
      kind: "attributes['object.kind']",
      name: "attributes['object.name']",
      reason: "attributes['event.reason']",
      type: "severity_text",
      count: "count()",
      message: "body",
    },
    where: "service = 'KubernetesEvents'",
    groupBy: "ts, namespace, kind, name, reason, type, message",
  },
  {
    name: "profiles_to_types",
    from: "profile_samples",
    to: "profile_types",
    select: { service: "service", type: "type", last_seen: "max(toDateTime(ts))" },
    groupBy: "service, type",
  },
];

/** Tables of what others send: never lost once acknowledged. */
export type TelemetryTable = "logs" | "spans" | "profile_samples";
/** Tables whose rows the server makes itself; they may be lost under pressure, with a count. */
export type DerivedTable = "incidents" | "events" | "sli_minutes" | "edge_minutes" | "sli_points" | "map_edges";

export interface IncidentRow {
  readonly id: string;
  readonly version: number;
  readonly cluster: string;
  readonly service: string;
  readonly status: string;
  readonly severity: string;
  readonly suspected: number;
  readonly opened: number | null;
  readonly resolved: number | null;
  readonly json: string;
}

export interface EventRow {
  readonly ts: number;
  readonly service: string;
  readonly kind: string;
  readonly text: string;
  readonly json: string;
}

/** One minute of a service. Written again with a higher version when late data corrects it. */
export interface SliMinuteRow {
  readonly service: string;
  readonly minute: number;
  readonly total: number;
  readonly bad: number;
  readonly slow: number;
  /** sparse histogram: bucket numbers and their counts, equally long */
  readonly buckets: readonly number[];
  readonly counts: readonly number[];
  readonly version: number;
}

/** One minute of a service itself (side "own") or of one of its edges. */
export type EdgeMinuteRow = Readonly<Record<(typeof EDGE_FIGURES)[number], number>> & {
  readonly service: string;
  readonly side: string;
  readonly peer: string;
  readonly minute: number;
  readonly version: number;
};

/** Ten seconds of a service for charts: counts of the span, latencies in ms, cores, bytes. */
export interface SliPointRow {
  readonly service: string;
  readonly ts: number;
  readonly requests: number;
  readonly errors: number;
  readonly p50: number | null;
  readonly p95: number | null;
  readonly p99: number | null;
  readonly cpu: number | null;
  readonly memory: number | null;
}

/** A call from its first evidence to its last. Written again, with the last as version, while it goes on. */
export interface MapEdgeRow {
  readonly source: string;
  readonly target: string;
  readonly first: number;
  readonly last: number;
  readonly version: number;
}

export interface DerivedRow {
  readonly map_edges: MapEdgeRow;
  readonly incidents: IncidentRow;
  readonly events: EventRow;
  readonly sli_minutes: SliMinuteRow;
  readonly edge_minutes: EdgeMinuteRow;
  readonly sli_points: SliPointRow;
}

/** By how much stacks outlive the samples that name them: they are written again once a day, and clocks differ. */
export const STACKS_LONGER_DAYS = 2;

/** Days that a table's rows are kept, where they differ from the table's own. */
export type Retention = { readonly [T in TableName]?: number };

export const retentionDays = (table: TableName, retention: Retention = {}): number =>
  retention[table] ?? TABLES[table].ttlDays;
