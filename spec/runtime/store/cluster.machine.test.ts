/**
 * The tables on a cluster. The engine of the distribution has no Keeper, so what needs one is only parsed (`Replicated…`,
 * `ON CLUSTER`); distributed tables, their inserts and queries run for real, on a cluster of one shard.
 */
import { writeFileSync } from "node:fs";
import { createServer, request as httpRequest, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { Effect, Layer, ManagedRuntime, Stream } from "effect";
import { afterAll, beforeAll, expect } from "vitest";
import { openEngine, type Engine } from "../../../runtime/store/front/Engine.ts";
import { openFront, type Front } from "../../../runtime/store/front/Front.ts";
import * as Intake from "../../../runtime/otlp/Intake.ts";
import * as History from "../../../runtime/store/History.ts";
import * as MetricsQuery from "../../../runtime/promql/MetricsQuery.ts";
import { parseCursor } from "../../../runtime/telemetry/ask.ts";
import * as Logs from "../../../runtime/telemetry/Logs.ts";
import * as Traces from "../../../runtime/telemetry/Traces.ts";
import * as Store from "../../../runtime/store/Store.ts";
import * as StoreProcess from "../../../runtime/store/StoreProcess.ts";
import * as Writer from "../../../runtime/store/Writer.ts";
import {
  addColumnSql,
  addIndexSql,
  createDatabaseSql,
  createTableSql,
  createViewSql,
  dropDaySql,
  indexesOf,
  modifyTtlSql,
  type Place,
} from "../../../schemas/ddl.ts";
import { TABLES, VIEWS, type TableName } from "../../../schemas/tables.ts";
import { describeWith, itWith } from "../../capabilities.ts";
import { freshFolder, makeBatch, removeFolder, until } from "./harness.ts";
import { logFilter, sendLines, spanFilter, textOf } from "../telemetry/harness.ts";

const CLUSTER = "main-1";
const KEY = "key";
const DAY_MS = 86_400_000;

const names = Object.keys(TABLES) as TableName[];
const statements = (place: Place): readonly string[] => [
  createDatabaseSql(place),
  ...names.flatMap((name) => [
    ...createTableSql(place, name, { [name]: 3 }),
    ...addColumnSql(place, name, TABLES[name].columns[0]),
    ...indexesOf(name).map((index) => addIndexSql(place, name, index)),
    modifyTtlSql(place, name),
    dropDaySql(place, name, "20261127"),
  ]),
  ...VIEWS.map((view) => createViewSql(place, view)),
];

/** Hands everything on to the front, and takes out of statements what wants a Keeper. Its statements come to `seen`. */
const withoutKeeper = async (to: number, seen: string[]): Promise<Server> => {
  const server = createServer((incoming, outgoing) => {
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("end", () => {
      let body = Buffer.concat(chunks);
      const text = body.length < 65_536 ? body.toString("latin1") : "";
      if (text.includes(" ON CLUSTER ")) {
        seen.push(text);
        body = Buffer.from(
          text
            .replace(/ ON CLUSTER `[^`]+`/, "")
            .replace(/Replicated(\w+)\('[^']*', '[^']*'(?:, )?/, "$1(")
            .replace(
              /replicated_deduplication_window = (\d+), replicated\w+ = \d+/,
              "non_replicated_deduplication_window = $1",
            ),
          "latin1",
        );
      }
      const { "content-length": _, "transfer-encoding": __, ...headers } = incoming.headers;
      const onward = httpRequest(
        {
          port: to,
          host: "127.0.0.1",
          path: incoming.url,
          method: incoming.method,
          headers: { ...headers, "content-length": String(body.length) },
        },
        (answer) => {
          outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
          answer.pipe(outgoing);
        },
      );
      onward.on("error", () => outgoing.destroy());
      onward.end(body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
};

describeWith(["chdb"], "the tables on a cluster", () => {
  let folder: string;
  let engine: Engine;
  let front: Front;
  let proxy: Server;
  const seen: string[] = [];

  const connect = (place: Place) => {
    const { port } = proxy.address() as AddressInfo;
    const external = { url: `http://127.0.0.1:${port}`, username: "default", password: KEY };
    const child = StoreProcess.layer({ command: ["none"], data: folder, external });
    const store = Store.layer(place).pipe(Layer.provideMerge(child));
    return ManagedRuntime.make(
      Layer.mergeAll(Intake.layer(), History.layer, MetricsQuery.layer, Logs.layer, Traces.layer).pipe(
        Layer.provideMerge(Writer.layer({})),
        Layer.provideMerge(store),
      ),
    );
  };
  let runtime: ReturnType<typeof connect>;

  beforeAll(async () => {
    folder = freshFolder();
    // the port is that of the engine itself, so that it takes the shard for its own and connects to nobody
    const shard = "<shard><replica><host>127.0.0.1</host><port>9000</port></replica></shard>";
    writeFileSync(
      join(folder, "engine.xml"),
      `<clickhouse><tcp_port>9000</tcp_port><remote_servers><${CLUSTER}>${shard}</${CLUSTER}></remote_servers></clickhouse>`,
    );
    engine = await openEngine({
      data: folder,
      readers: 2,
      settings: { "config-file": join(folder, "engine.xml"), max_server_memory_usage: 768 * 1024 * 1024 },
      waiting: 64,
    });
    const MIB = 1024 * 1024;
    front = await openFront(engine, {
      key: KEY,
      port: 0,
      bodyBytes: 16 * MIB,
      totalBodyBytes: 64 * MIB,
      resultBytes: 16 * MIB,
      queryMemoryBytes: 400 * MIB,
      querySeconds: 30,
    });
    proxy = await withoutKeeper(front.port, seen);
    runtime = connect({ database: "coroot", cluster: CLUSTER });
    await runtime.runPromise(Effect.flatMap(Store.Store, ({ whenUp }) => whenUp).pipe(Effect.timeout("30 seconds")));
  });
  afterAll(async () => {
    await runtime.dispose();
    proxy.close();
    await front.close();
    await engine.close();
    removeFolder(folder);
  });

  itWith(["chdb"], "are statements that the engine's parser takes, in both forms", async () => {
    const parse = (statement: string) =>
      runtime.runPromise(Effect.flatMap(Store.Store, ({ syntaxTree }) => Effect.either(syntaxTree(statement))));
    for (const place of [{ database: "coroot" }, { database: "coroot", cluster: CLUSTER }])
      for (const statement of statements(place))
        expect(await parse(statement), statement).toMatchObject({ _tag: "Right" });
    const [create = ""] = createTableSql({ database: "coroot", cluster: CLUSTER }, "spans");
    expect(await parse(create.replace("ENGINE =", "ENGINE = ("))).toMatchObject({
      _tag: "Left",
      left: { code: 62 },
    });
  });

  itWith(
    ["chdb"],
    "are replicated on each node, views between what a node holds, and distributed under their names",
    () => {
      for (const name of names) {
        const [local = "", whole = ""] = createTableSql({ database: "coroot", cluster: CLUSTER }, name);
        expect(seen).toContain(local);
        expect(local).toContain(`ON CLUSTER \`${CLUSTER}\``);
        expect(local).toMatch(
          /ENGINE = Replicated\w*MergeTree\('\/clickhouse\/tables\/\{shard\}\/\{database\}\/\{table\}', '\{replica\}'/,
        );
        expect(whole).toContain(`Distributed(\`${CLUSTER}\`, \`coroot\`, \`${name}_local\``);
      }
      expect(createTableSql({ database: "coroot", cluster: CLUSTER }, "series")[0]).toContain(
        "ReplicatedAggregatingMergeTree(",
      );
      expect(createTableSql({ database: "coroot", cluster: CLUSTER }, "span_edges")[0]).toContain(
        "'{replica}', (total, failed))",
      );
    },
  );

  itWith(["chdb"], "take batches once, and give back samples, minutes and the days that they hold", async () => {
    const start = Date.now() - 60_000;
    const answer = await runtime.runPromise(
      Effect.gen(function* () {
        const writer = yield* Writer.Writer;
        const store = yield* Store.Store;
        const batch = makeBatch("a", 1, 100, start);
        yield* writer.samples(batch);
        yield* writer.samples({ ...batch, connection: 2 });
        yield* writer.rows("sli_minutes", [
          {
            service: "s",
            minute: Math.floor((start - 2 * DAY_MS) / 60_000) * 60_000,
            total: 5,
            bad: 1,
            slow: 0,
            buckets: [],
            counts: [],
            version: 1,
          },
        ]);
        const history = yield* History.History;
        const minutes = yield* until(history.sliMinutes(["s"], start - 7 * DAY_MS), (found) => found.size > 0);
        const metrics = yield* MetricsQuery.MetricsQuery;
        const rows = yield* store.query<{ whole: number; local: number }>(
          "SELECT (SELECT count() FROM coroot.samples) AS whole, (SELECT count() FROM coroot.samples_local) AS local",
        );
        return {
          rows,
          total: minutes.get("s")?.total,
          instant: yield* metrics.instant("count(cpu_seconds)", Date.now()),
          days: yield* store.daysBefore(["sli_minutes", "samples"], "99991231"),
          used: yield* store.diskUsed,
        };
      }),
    );
    expect(answer.rows).toEqual([{ whole: 100, local: 100 }]);
    expect(answer.total).toEqual([5]);
    expect(answer.instant.value).toMatchObject({ type: "vector", samples: [{ value: 4 }] });
    expect(answer.days.map(({ table }) => table)).toEqual(["sli_minutes", "samples"]);
    expect(answer.used).toBeGreaterThan(0);
    const [oldest] = answer.days;
    if (oldest === undefined) throw new Error("no day");
    await runtime.runPromise(Effect.flatMap(Store.Store, ({ dropDay }) => dropDay(oldest)));
    expect(seen.at(-1)).toBe(dropDaySql({ database: "coroot", cluster: CLUSTER }, oldest.table, oldest.day));
  });

  itWith(["chdb"], "fill their rollups beside the rows, on the rows' own shard", async () => {
    const at = Date.now() - 5_000;
    const span = {
      traceId: "0af7651916cd43dd8448eb211c80319c",
      spanId: "b7ad6b7169203331",
      name: "GET /",
      kind: 3,
      startTimeUnixNano: `${at}000000`,
      endTimeUnixNano: `${at + 20}000000`,
      attributes: [{ key: "server.address", value: { stringValue: "db" } }],
    };
    const body = Buffer.from(JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] }));
    const rows = await runtime.runPromise(
      Effect.gen(function* () {
        const { take } = yield* Intake.Intake;
        yield* take("traces", body, "json");
        yield* take("traces", body, "json");
        const { query } = yield* Store.Store;
        return yield* query(
          `SELECT (SELECT count() FROM coroot.spans) AS spans, (SELECT sum(total) FROM coroot.span_edges) AS calls,
             (SELECT sum(total) FROM coroot.span_edges_local) AS local, (SELECT sum(spans) FROM coroot.trace_index) AS traced`,
        );
      }),
    );
    expect(rows).toEqual([{ spans: 1, calls: 1, local: 1, traced: 1 }]);
  });

  itWith(["chdb"], "answer the questions about lines and spans", async () => {
    const at = Date.now() - 5_000;
    await runtime.runPromise(
      sendLines([1, 2, 3].map((i) => ({ service: "web", at: at + i, severity: 17, body: `order ${i} lost` }))),
    );
    const answer = await runtime.runPromise(
      Effect.gen(function* () {
        const logs = yield* Logs.Logs;
        const traces = yield* Traces.Traces;
        const lines = logFilter({ text: textOf("lost"), attributes: [{ key: "a", value: "1", not: true }] });
        const first = yield* logs.search(lines, 2, null);
        const none = { fromMs: null, toMs: null, mostMs: null, status: null };
        return {
          first: first.rows.map(({ body }) => body),
          second: (yield* logs.search(lines, 2, parseCursor(first.next ?? ""))).rows.map(({ body }) => body),
          patterns: (yield* logs.patterns(logFilter({ fromMs: at - 3_600_000, toMs: at + 3_600_000 }), 10, 10)).total,
          facets: (yield* logs.facets(lines)).total,
          spans: (yield* traces.list(spanFilter(), "slowest", 5, null)).rows.length,
          trace: (yield* traces.trace("0af7651916cd43dd8448eb211c80319c"))?.spans.length,
          compared: (yield* traces.compare(spanFilter(), { ...none, leastMs: 1 })).selected,
          edges: (yield* traces.edges({ fromMs: at - 60_000, toMs: at + 60_000 }, [])).length,
        };
      }),
    );
    expect(answer).toEqual({
      first: ["order 3 lost", "order 2 lost"],
      second: ["order 1 lost"],
      patterns: 3,
      facets: 3,
      spans: 1,
      trace: 1,
      compared: 1,
      edges: 1,
    });
  });

  itWith(["chdb"], "are not taken for those of a single server, nor these for a cluster's", async () => {
    const single = connect({ database: "coroot" });
    const message = (state: StoreProcess.StoreState) => state.message.includes("expected");
    const why = await single.runPromise(
      Effect.flatMap(Store.Store, ({ state }) => state.changes.pipe(Stream.filter(message), Stream.runHead)).pipe(
        Effect.flatten,
        Effect.timeout("30 seconds"),
      ),
    );
    expect(why.message).toContain("is of a cluster: expected clickhouse.cluster with its name");
    await single.dispose();
  });
});
