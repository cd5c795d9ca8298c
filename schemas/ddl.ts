/**
 * DDL of the tables in schemas/tables.ts, in two forms. On one server a table is a MergeTree with the table's name. On a
 * cluster each node has `<name>_local`, Replicated, with the views between such tables, and `<name>` is Distributed over
 * them: so a query is the same text in both. Each statement runs on all nodes (`ON CLUSTER`) and can be repeated. What is
 * acknowledged is fsynced, and repeated insert tokens are recognised.
 */
import {
  retentionDays,
  TABLES,
  type ColumnDefinition,
  type IndexDefinition,
  type Retention,
  type TableDefinition,
  type TableName,
  type ViewDefinition,
} from "./tables.ts";

/** Where the tables are. */
export interface Place {
  readonly database: string;
  /** name of a ClickHouse cluster, as in its `remote_servers`; absent: one server */
  readonly cluster?: string | undefined;
}

/** Inserts whose token is remembered. One insert per table and second: more than two hours of retries. */
export const DEDUPLICATION_WINDOW = 10_000;
const DEDUPLICATION_SECONDS = 7 * 86_400;

/** Nodes register under these macros, which the configuration of each node defines. */
const REPLICA = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'";
const LOCAL = "_local";

const quoted = (name: string): string => `\`${name}\``;
const onCluster = ({ cluster }: Place): string => (cluster === undefined ? "" : ` ON CLUSTER ${quoted(cluster)}`);

/** Name of the table that holds the rows. */
export const localTable = ({ cluster }: Place, name: string): string =>
  cluster === undefined ? name : `${name}${LOCAL}`;
/** The table that a table with rows belongs to. */
export const tableOfLocal = ({ cluster }: Place, local: string): string =>
  cluster !== undefined && local.endsWith(LOCAL) ? local.slice(0, -LOCAL.length) : local;

const full = (place: Place, name: string): string => `${quoted(place.database)}.${quoted(name)}`;
const local = (place: Place, name: string): string => full(place, localTable(place, name));

const columnSql = (column: ColumnDefinition): string =>
  `${quoted(column.name)} ${column.type}${column.codec === undefined ? "" : ` CODEC(${column.codec})`}`;

const indexSql = ({ name, expression, type, granularity }: IndexDefinition): string =>
  `INDEX ${quoted(name)} ${expression} TYPE ${type} GRANULARITY ${granularity}`;

const ttlSql = (table: TableDefinition, days: number): string => `${table.ttlFrom} + INTERVAL ${days} DAY`;

/** SummingMergeTree((a, b)) as ReplicatedSummingMergeTree('path', 'replica', (a, b)). */
const engineSql = ({ engine }: TableDefinition, { cluster }: Place): string => {
  if (cluster === undefined) return engine;
  const [, name, args] = /^(\w+)(?:\((.*)\))?$/.exec(engine) ?? [];
  return `Replicated${name}(${REPLICA}${args === undefined ? "" : `, ${args}`})`;
};

const settingsSql = (table: TableDefinition, { cluster }: Place): string =>
  [
    ...(cluster === undefined
      ? [`non_replicated_deduplication_window = ${DEDUPLICATION_WINDOW}`]
      : [
          `replicated_deduplication_window = ${DEDUPLICATION_WINDOW}`,
          `replicated_deduplication_window_seconds = ${DEDUPLICATION_SECONDS}`,
        ]),
    `ttl_only_drop_parts = ${table.day === null ? 0 : 1}`,
    "fsync_after_insert = 1",
    "fsync_part_directory = 1",
  ].join(", ");

export const createDatabaseSql = (place: Place): string =>
  `CREATE DATABASE IF NOT EXISTS ${quoted(place.database)}${onCluster(place)}`;

/** One statement, on a cluster two. */
export const createTableSql = (place: Place, name: TableName, retention: Retention = {}): readonly string[] => {
  const table: TableDefinition = TABLES[name];
  const rows = [
    `CREATE TABLE IF NOT EXISTS ${local(place, name)}${onCluster(place)}`,
    `(${[...table.columns.map(columnSql), ...(table.indexes ?? []).map(indexSql)].join(", ")})`,
    `ENGINE = ${engineSql(table, place)}`,
    ...(table.day === null ? [] : [`PARTITION BY toYYYYMMDD(${table.day})`]),
    `ORDER BY ${table.orderBy}`,
    `TTL ${ttlSql(table, retentionDays(name, retention))}`,
    `SETTINGS ${settingsSql(table, place)}`,
  ].join("\n");
  if (place.cluster === undefined) return [rows];
  const shard = table.shardBy === null ? "" : `, ${table.shardBy}`;
  const parts = [quoted(place.cluster), quoted(place.database), quoted(localTable(place, name))].join(", ");
  const whole = [
    `CREATE TABLE IF NOT EXISTS ${full(place, name)}${onCluster(place)} AS ${local(place, name)}`,
    `ENGINE = Distributed(${parts}${shard})`,
  ].join("\n");
  return [rows, whole];
};

/** One statement, on a cluster two. */
export const addColumnSql = (place: Place, name: TableName, column: ColumnDefinition): readonly string[] =>
  [...new Set([local(place, name), full(place, name)])].map(
    (table) => `ALTER TABLE ${table}${onCluster(place)} ADD COLUMN IF NOT EXISTS ${columnSql(column)}`,
  );

export const indexesOf = (name: TableName): readonly IndexDefinition[] => {
  const table: TableDefinition = TABLES[name];
  return table.indexes ?? [];
};

/** For the parts that are written from now on. */
export const addIndexSql = (place: Place, name: TableName, index: IndexDefinition): string =>
  `ALTER TABLE ${local(place, name)}${onCluster(place)} ADD ${indexSql(index).replace(/^INDEX/, "INDEX IF NOT EXISTS")}`;

export const createViewSql = (place: Place, view: ViewDefinition): string =>
  [
    `CREATE MATERIALIZED VIEW IF NOT EXISTS ${full(place, view.name)}${onCluster(place)} TO ${local(place, view.to)} AS`,
    `SELECT ${Object.entries(view.select)
      .map(([column, expression]) => (column === expression ? column : `${expression} AS ${column}`))
      .join(", ")}`,
    `FROM ${local(place, view.from)}`,
    ...(view.where === undefined ? [] : [`WHERE ${view.where}`]),
    `GROUP BY ${view.groupBy}`,
  ].join("\n");

export const modifyTtlSql = (place: Place, name: TableName, retention: Retention = {}): string =>
  `ALTER TABLE ${local(place, name)}${onCluster(place)} MODIFY TTL ${ttlSql(TABLES[name], retentionDays(name, retention))}`;

/** `day` as yyyymmdd. */
export const dropDaySql = (place: Place, name: TableName, day: string): string =>
  `ALTER TABLE ${local(place, name)}${onCluster(place)} DROP PARTITION ID '${day}'`;

/** `ttlDays` as the store prints it in the table's definition; null when it has none. */
export const ttlDaysOf = (createQuery: string): number | null => {
  const days = /\bTTL\b[^\n]*?toIntervalDay\((\d+)\)/.exec(createQuery)?.[1];
  return days === undefined ? null : Number(days);
};
