/**
 * The store as the rest of the server sees it: bounded queries with bound parameters, inserts with a deduplication token,
 * and a state. Always the stock ClickHouse client; whether a child process or the user's ClickHouse answers is
 * StoreProcess's matter. Owned by the server's layers. Creates database, tables and views each time the store comes up,
 * and is "up" only after that. While it is down every call fails at once with a retryable StoreError. Closes its client
 * at stop.
 */
import { Readable } from "node:stream";
import {
  createClient,
  type ClickHouseClient,
  type ClickHouseSettings,
  ClickHouseError,
  ClickHouseLogLevel,
} from "@clickhouse/client";
import { Clock, Context, Effect, Layer, Schedule, Schema, Stream, SubscriptionRef } from "effect";
import {
  addColumnSql,
  addIndexSql,
  createDatabaseSql,
  createTableSql,
  createViewSql,
  dropDaySql,
  indexesOf,
  localTable,
  modifyTtlSql,
  tableOfLocal,
  ttlDaysOf,
  type Place,
} from "../../schemas/ddl.ts";
import {
  retentionDays,
  TABLES,
  VIEWS,
  type ColumnDefinition,
  type Retention,
  type TableName,
} from "../../schemas/tables.ts";
import { StoreProcess, type StoreEndpoint, type StoreState } from "./StoreProcess.ts";

export class StoreError extends Schema.TaggedError<StoreError>()("StoreError", {
  operation: Schema.String,
  /** ClickHouse's code; null when the store did not answer */
  code: Schema.NullOr(Schema.Number),
  reason: Schema.String,
}) {
  override get message(): string {
    return `${this.operation}: ${this.reason}${this.code === null ? "" : ` (code ${this.code})`}`;
  }
}

export interface QueryBounds {
  readonly rows?: number;
  readonly bytes?: number;
  readonly seconds?: number;
  /** settings of the engine that this query needs besides, by name */
  readonly settings?: Readonly<Record<string, string | number>>;
  /** 64-bit numbers come as text; else as JSON's numbers, exact to 2⁵³ */
  readonly exact?: boolean;
}

export type QueryParams = Readonly<Record<string, unknown>>;

/** Rows for an insert: JSON objects one per line, or ClickHouse's RowBinary. */
export interface InsertBody {
  readonly format: "JSONEachRow" | "RowBinary";
  /** whole, or in parts that follow each other */
  readonly bytes: Uint8Array | readonly Uint8Array[];
  readonly columns: readonly string[];
}

export interface StoreConfig extends Place {
  readonly retention?: Retention;
}

/** A day of a table, as yyyymmdd. */
export interface StoredDay {
  readonly table: TableName;
  readonly day: string;
}

export interface StoreShape {
  readonly database: string;
  /** `sql` is a constant text; values go by `{name:Type}` places only. */
  readonly query: <T>(sql: string, params?: QueryParams, bounds?: QueryBounds) => Effect.Effect<T[], StoreError>;
  /** The syntax tree of a SELECT, line by line, as the engine's parser sees it; nothing is run. */
  readonly syntaxTree: (select: string, params?: QueryParams) => Effect.Effect<readonly string[], StoreError>;
  /** Completes when the rows are on disk. The same token with the same rows inserts them once. */
  readonly insert: (table: TableName, body: InsertBody, token: string) => Effect.Effect<void, StoreError>;
  /** Share of the fullest local disk that is used, on a cluster of all its nodes' disks. */
  readonly diskUsed: Effect.Effect<number, StoreError>;
  /** Days before `today` (yyyymmdd) that these tables hold, oldest first. */
  readonly daysBefore: (tables: readonly TableName[], today: string) => Effect.Effect<readonly StoredDay[], StoreError>;
  /** Drops one day of a table that is cut into days. */
  readonly dropDay: (stored: StoredDay) => Effect.Effect<void, StoreError>;
  /** Creates and extends database and tables. Called by the layer whenever the store comes up. */
  readonly migrate: Effect.Effect<void, StoreError>;
  readonly state: SubscriptionRef.SubscriptionRef<StoreState>;
  /** Completes when the store is up. */
  readonly whenUp: Effect.Effect<void>;
}

export class Store extends Context.Tag("runtime/store/Store")<Store, StoreShape>() {}

export const DEFAULT_BOUNDS: Required<Omit<QueryBounds, "settings">> = {
  rows: 200_000,
  bytes: 64 * 1024 * 1024,
  seconds: 20,
  exact: false,
};
const REQUEST_TIMEOUT_MS = 90_000;

const toStoreError =
  (operation: string) =>
  (error: unknown): StoreError => {
    if (error instanceof ClickHouseError)
      return new StoreError({ operation, code: Number(error.code), reason: error.message });
    return new StoreError({ operation, code: null, reason: error instanceof Error ? error.message : String(error) });
  };

const open = (endpoint: StoreEndpoint, database?: string): ClickHouseClient =>
  createClient({
    ...endpoint,
    ...(database === undefined ? {} : { database }),
    application: "coroot",
    request_timeout: REQUEST_TIMEOUT_MS,
    max_open_connections: 16,
    use_multipart_params_auto: true,
    keep_alive: { enabled: true, idle_socket_ttl: 2_000 },
    // failures come back as errors and are told once, by whoever handles them
    log: { level: ClickHouseLogLevel.OFF },
  });

const drain = async (stream: Readable): Promise<void> => {
  for await (const chunk of stream) void chunk;
};

const FEEDS_VIEWS: ReadonlySet<TableName> = new Set(VIEWS.map(({ from }) => from));
/** A view whose target missed the insert that its source has gets it when the insert is repeated. ClickHouse 24.1. */
const VIEWS_TOO = { deduplicate_blocks_in_dependent_materialized_views: 1 } as const;

const tableNames = Object.keys(TABLES) as readonly TableName[];

/** Nodes that are down run a statement when they are back. The mode is newer than the client's list of them. */
const ON_CLUSTER = new Map<string, string | number>([
  ["distributed_ddl_task_timeout", 60],
  ["distributed_ddl_output_mode", "throw_only_active"],
]);
const onClusterSettings = (query: string): ClickHouseSettings =>
  query.includes(" ON CLUSTER ") ? Object.fromEntries(ON_CLUSTER) : {};
/** Rows are on disk of their shard when the insert is answered. */
const INTO_CLUSTER = { distributed_foreground_insert: 1 } as const;
/** A table in a subquery is the whole table, on whichever shard the query runs. */
const FROM_CLUSTER = { distributed_product_mode: "global" } as const;

const command = (client: ClickHouseClient, query: string) =>
  Effect.tryPromise({
    try: () => client.command({ query, clickhouse_settings: onClusterSettings(query) }),
    catch: toStoreError("migrate"),
  });

const commands = (client: ClickHouseClient, queries: readonly string[]) =>
  Effect.forEach(queries, (query) => command(client, query), { discard: true });

const existing = <T>(client: ClickHouseClient, query: string, { database }: StoreConfig) =>
  Effect.tryPromise({
    try: async () => {
      const result = await client.query({ query, format: "JSONEachRow", query_params: { database } });
      return await result.json<T>();
    },
    catch: toStoreError("migrate"),
  });

/** Tables of the other form would be taken for ours: a server would write to itself alone, or find no rows. */
const checkForm = (client: ClickHouseClient, config: StoreConfig) =>
  Effect.gen(function* () {
    const found = yield* existing<{ name: string; engine: string }>(
      client,
      "SELECT name, engine FROM system.tables WHERE database = {database:String}",
      config,
    );
    for (const { name, engine } of found) {
      if (!tableNames.some((known) => known === name)) continue;
      if ((engine === "Distributed") === (config.cluster !== undefined)) continue;
      return yield* new StoreError({
        operation: "migrate",
        code: null,
        reason:
          config.cluster === undefined
            ? `table ${config.database}.${name} is of a cluster: expected clickhouse.cluster with its name`
            : `table ${config.database}.${name} is of a single server: expected another clickhouse.database for cluster ${config.cluster}`,
      });
    }
  });

const addMissingColumns = (client: ClickHouseClient, config: StoreConfig) =>
  Effect.gen(function* () {
    const { database } = config;
    const found = yield* existing<{ table: string; name: string; type: string }>(
      client,
      "SELECT table, name, type FROM system.columns WHERE database = {database:String}",
      config,
    );
    const types = new Map(found.map((column) => [`${column.table}.${column.name}`, column.type]));
    for (const name of tableNames) {
      const columns: readonly ColumnDefinition[] = TABLES[name].columns;
      for (const column of columns) {
        const type = types.get(`${name}.${column.name}`);
        if (type === undefined) yield* commands(client, addColumnSql(config, name, column));
        else if (type !== column.type)
          return yield* new StoreError({
            operation: "migrate",
            code: null,
            reason: `column ${database}.${name}.${column.name} has type ${type}, expected ${column.type}`,
          });
      }
    }
  });

const addMissingIndexes = (client: ClickHouseClient, config: StoreConfig) =>
  Effect.gen(function* () {
    const found = yield* existing<{ table: string; name: string }>(
      client,
      "SELECT table, name FROM system.data_skipping_indices WHERE database = {database:String}",
      config,
    );
    const known = new Set(found.map(({ table, name }) => `${table}.${name}`));
    for (const table of tableNames)
      for (const index of indexesOf(table))
        if (!known.has(`${localTable(config, table)}.${index.name}`))
          yield* command(client, addIndexSql(config, table, index));
  });

const adjustRetention = (client: ClickHouseClient, config: StoreConfig) =>
  Effect.gen(function* () {
    const { retention } = config;
    const found = yield* existing<{ name: string; create_table_query: string }>(
      client,
      "SELECT name, create_table_query FROM system.tables WHERE database = {database:String}",
      config,
    );
    for (const { name, create_table_query } of found) {
      const table = tableNames.find((known) => localTable(config, known) === name);
      if (table === undefined || ttlDaysOf(create_table_query) === retentionDays(table, retention)) continue;
      yield* command(client, modifyTtlSql(config, table, retention));
    }
  });

const migration = (client: ClickHouseClient, config: StoreConfig) =>
  Effect.gen(function* () {
    yield* command(client, createDatabaseSql(config));
    yield* checkForm(client, config);
    for (const name of tableNames) yield* commands(client, createTableSql(config, name, config.retention));
    yield* addMissingColumns(client, config);
    yield* addMissingIndexes(client, config);
    // after the columns, which they name
    for (const view of VIEWS) yield* command(client, createViewSql(config, view));
    yield* adjustRetention(client, config);
  });

export const make = (config: StoreConfig) =>
  Effect.gen(function* () {
    const { state: processState } = yield* StoreProcess;
    const state = yield* SubscriptionRef.make<StoreState>({
      status: "starting",
      message: "the store is starting",
      since: yield* Clock.currentTimeMillis,
      restarts: 0,
    });
    let client: ClickHouseClient | null = null;

    const set = (change: Partial<StoreState>) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        SubscriptionRef.update(state, (old) => {
          const since = change.status !== undefined && change.status !== old.status ? now : old.since;
          return { ...old, ...change, since };
        }),
      );

    const withClient = <A>(
      operation: string,
      use: (opened: ClickHouseClient, signal: AbortSignal) => Promise<A>,
    ): Effect.Effect<A, StoreError> =>
      Effect.suspend(() => {
        const opened = client;
        if (opened !== null)
          return Effect.tryPromise({ try: (signal) => use(opened, signal), catch: toStoreError(operation) });
        return Effect.flatMap(SubscriptionRef.get(state), ({ status, message }) =>
          Effect.fail(
            new StoreError({ operation, code: null, reason: message === "" ? `the store is ${status}` : message }),
          ),
        );
      });

    const migrate = Effect.suspend(() =>
      client === null
        ? Effect.fail(new StoreError({ operation: "migrate", code: null, reason: "the store is not up" }))
        : migration(client, config),
    );

    const close = Effect.suspend(() => {
      const old = client;
      client = null;
      return old === null ? Effect.void : Effect.promise(() => old.close());
    });

    /** Follows the process: a new endpoint gets a new client, then the tables, then the state is up. */
    const onEndpoint = (endpoint: StoreEndpoint) =>
      Effect.gen(function* () {
        yield* close;
        client = open(endpoint);
        // The database of tables that a query names without one is there only after this.
        yield* migrate.pipe(
          Effect.tapError((error) => set({ status: "down", message: error.message })),
          Effect.retry(
            Schedule.exponential("500 millis").pipe(Schedule.union(Schedule.spaced("15 seconds")), Schedule.jittered),
          ),
        );
        yield* close;
        client = open(endpoint, config.database);
        yield* set({ status: "up", message: "" });
      });
    yield* processState.changes.pipe(
      Stream.tap(({ restarts }) => set({ restarts })),
      Stream.changesWith((a, b) => a.endpoint === b.endpoint && a.message === b.message && a.status === b.status),
      Stream.flatMap(
        ({ endpoint, status, message }) =>
          Stream.fromEffect(
            endpoint === null ? Effect.zipRight(close, set({ status, message })) : Effect.ignore(onEndpoint(endpoint)),
          ),
        { switch: true },
      ),
      Stream.runDrain,
      Effect.forkScoped,
    );
    yield* Effect.addFinalizer(() => close);

    const query = <T>(sql: string, params: QueryParams = {}, bounds: QueryBounds = {}) =>
      withClient("query", async (opened, signal) => {
        const bound = { ...DEFAULT_BOUNDS, ...bounds };
        const result = await opened.query({
          query: sql,
          format: "JSONEachRow",
          query_params: { ...params },
          abort_signal: signal,
          clickhouse_settings: {
            ...bounds.settings,
            ...(config.cluster === undefined ? {} : FROM_CLUSTER),
            readonly: "2",
            max_result_rows: String(bound.rows),
            max_result_bytes: String(bound.bytes),
            result_overflow_mode: "throw",
            max_execution_time: bound.seconds,
            output_format_json_quote_64bit_integers: bound.exact ? 1 : 0,
          },
        });
        return await result.json<T>();
      });

    // It takes no FORMAT, which would become part of the SELECT: so the lines come as the engine's plain text.
    const syntaxTree = (select: string, params: QueryParams = {}) =>
      withClient("explain", async (opened, signal) => {
        const result = await opened.exec({
          query: `EXPLAIN AST ${select}`,
          query_params: { ...params },
          abort_signal: signal,
          clickhouse_settings: { readonly: "2", max_execution_time: DEFAULT_BOUNDS.seconds },
        });
        const chunks: Buffer[] = [];
        for await (const chunk of result.stream) chunks.push(Buffer.from(chunk as Uint8Array));
        // The embedded engine puts each line in quotes, a server does not.
        const lines = Buffer.concat(chunks).toString("utf8").split("\n");
        return lines.map((line) => line.replace(/^"(.*)"$/, "$1"));
      });

    const insert = (table: TableName, body: InsertBody, token: string) =>
      withClient(`insert into ${table}`, async (opened, signal) => {
        const result = await opened.exec({
          query: `INSERT INTO \`${config.database}\`.\`${table}\` (${body.columns.join(", ")}) FORMAT ${body.format}`,
          values: Readable.from([body.bytes instanceof Uint8Array ? body.bytes : Buffer.concat(body.bytes)], {
            objectMode: false,
          }),
          abort_signal: signal,
          clickhouse_settings: {
            async_insert: 0,
            insert_deduplicate: 1,
            insert_deduplication_token: token,
            ...(FEEDS_VIEWS.has(table) ? VIEWS_TOO : {}),
            ...(config.cluster === undefined ? {} : INTO_CLUSTER),
            max_insert_threads: "1",
            input_format_skip_unknown_fields: 0,
            date_time_input_format: "best_effort",
            wait_end_of_query: 1,
          },
        });
        await drain(result.stream);
      });

    const { cluster } = config;
    const diskUsed = Effect.map(
      cluster === undefined
        ? query<{ used: number }>(
            "SELECT max(1 - free_space / total_space) AS used FROM system.disks WHERE type = 'Local' AND total_space > 0",
          )
        : query<{ used: number }>(
            `SELECT max(1 - free_space / total_space) AS used FROM clusterAllReplicas({cluster:String}, system.disks)
             WHERE type = 'Local' AND total_space > 0`,
            { cluster },
          ),
      ([disk]) => disk?.used ?? 0,
    );

    const daysBefore = (tables: readonly TableName[], today: string) =>
      Effect.map(
        cluster === undefined
          ? query<{ table: string; day: string }>(
              `SELECT DISTINCT table, partition_id AS day FROM system.parts
               WHERE active AND database = {database:String} AND table IN {tables:Array(String)}
                 AND match(partition_id, '^[0-9]{8}$') AND partition_id < {today:String}
               ORDER BY day, table`,
              { database: config.database, tables, today },
            )
          : query<{ table: string; day: string }>(
              `SELECT DISTINCT table, partition_id AS day FROM clusterAllReplicas({cluster:String}, system.parts)
               WHERE active AND database = {database:String} AND table IN {tables:Array(String)}
                 AND match(partition_id, '^[0-9]{8}$') AND partition_id < {today:String}
               ORDER BY day, table`,
              { cluster, database: config.database, tables: tables.map((name) => localTable(config, name)), today },
            ),
        (rows) =>
          rows.flatMap(({ table, day }) => {
            const name = tableNames.find((known) => known === tableOfLocal(config, table));
            return name === undefined ? [] : [{ table: name, day }];
          }),
      );

    const dropDay = ({ table, day }: StoredDay) =>
      withClient(`drop a day of ${table}`, async (opened, signal) => {
        if (!/^\d{8}$/.test(day)) throw new Error(`${day}: expected a day as yyyymmdd`);
        const query = dropDaySql(config, table, day);
        await opened.command({ query, abort_signal: signal, clickhouse_settings: onClusterSettings(query) });
      });

    const whenUp = state.changes.pipe(
      Stream.filter(({ status }) => status === "up"),
      Stream.runHead,
      Effect.asVoid,
    );

    return {
      database: config.database,
      query,
      syntaxTree,
      insert,
      diskUsed,
      daysBefore,
      dropDay,
      migrate,
      state,
      whenUp,
    } satisfies StoreShape;
  });

export const layer = (config: StoreConfig): Layer.Layer<Store, never, StoreProcess> =>
  Layer.scoped(Store, make(config));
