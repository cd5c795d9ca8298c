/**
 * The store's tables as data, and their DDL. One place says columns, order, retention and the engine; the migration at
 * start creates what is missing and adds columns, so a change here must be additive. Times in rows are milliseconds
 * since the epoch; the writer turns them into what the column wants. Every table is fsynced on insert (what is
 * acknowledged survives power loss) and recognises repeated insert tokens.
 */
export interface ColumnDefinition {
  readonly name: string;
  readonly type: string;
  readonly codec?: string;
}

export interface TableDefinition {
  readonly name: string;
  readonly columns: readonly ColumnDefinition[];
  readonly engine: string;
  readonly orderBy: string;
  /** column that is cut into days and from which the retention counts; null keeps one partition */
  readonly day: string | null;
  /** expression from which the retention counts */
  readonly ttlFrom: string;
  readonly ttlDays: number;
}

const text = (name: string): ColumnDefinition => ({ name, type: "LowCardinality(String)" });
const instant = (name: string): ColumnDefinition => ({
  name,
  type: "DateTime64(3, 'UTC')",
  codec: "DoubleDelta, ZSTD(1)",
});
const json = (name: string): ColumnDefinition => ({ name, type: "String", codec: "ZSTD(3)" });

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
  },
} as const satisfies Record<string, TableDefinition>;

export type TableName = keyof typeof TABLES;
/** Tables whose rows the server makes itself; they may be lost under pressure, with a count. */
export type DerivedTable = "incidents" | "events" | "sli_minutes" | "sli_points" | "map_edges";

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
  readonly sli_points: SliPointRow;
}

/** Days that a table's rows are kept, where they differ from the table's own. */
export type Retention = { readonly [T in TableName]?: number };

export const retentionDays = (table: TableName, retention: Retention = {}): number =>
  retention[table] ?? TABLES[table].ttlDays;

/** Inserts whose token is remembered. One insert per table and second: more than two hours of retries. */
export const DEDUPLICATION_WINDOW = 10_000;

const columnSql = (column: ColumnDefinition): string =>
  `\`${column.name}\` ${column.type}${column.codec === undefined ? "" : ` CODEC(${column.codec})`}`;

const ttlSql = (table: TableDefinition, days: number): string => `${table.ttlFrom} + INTERVAL ${days} DAY`;

export const createDatabaseSql = (database: string): string => `CREATE DATABASE IF NOT EXISTS \`${database}\``;

export const createTableSql = (database: string, name: TableName, retention: Retention = {}): string => {
  const table: TableDefinition = TABLES[name];
  return [
    `CREATE TABLE IF NOT EXISTS \`${database}\`.\`${table.name}\``,
    `(${table.columns.map(columnSql).join(", ")})`,
    `ENGINE = ${table.engine}`,
    ...(table.day === null ? [] : [`PARTITION BY toYYYYMMDD(${table.day})`]),
    `ORDER BY ${table.orderBy}`,
    `TTL ${ttlSql(table, retentionDays(name, retention))}`,
    `SETTINGS non_replicated_deduplication_window = ${DEDUPLICATION_WINDOW}, ttl_only_drop_parts = ${table.day === null ? 0 : 1},`,
    "fsync_after_insert = 1, fsync_part_directory = 1",
  ].join("\n");
};

export const addColumnSql = (database: string, name: TableName, column: ColumnDefinition): string =>
  `ALTER TABLE \`${database}\`.\`${name}\` ADD COLUMN IF NOT EXISTS ${columnSql(column)}`;

export const modifyTtlSql = (database: string, name: TableName, retention: Retention = {}): string =>
  `ALTER TABLE \`${database}\`.\`${name}\` MODIFY TTL ${ttlSql(TABLES[name], retentionDays(name, retention))}`;

/** `ttlDays` as the store prints it in the table's definition; null when it has none. */
export const ttlDaysOf = (createQuery: string): number | null => {
  const days = /\bTTL\b[^\n]*?toIntervalDay\((\d+)\)/.exec(createQuery)?.[1];
  return days === undefined ? null : Number(days);
};
