/**
 * The measurement of search.ts in a process of its own: `searchWork.ts ROWS` makes so many log lines and spans of one day
 * inside the engine, asks for them, and writes one line of JSON. A figure is the CPU time of the store child with all its
 * threads over one question, the best of several; nothing else runs in it meanwhile.
 */
import { Effect, Layer, ManagedRuntime } from "effect";
import { ClickHouseLogLevel, createClient } from "@clickhouse/client";
import { localTable } from "../../../../schemas/ddl.ts";
import * as Store from "../../../../runtime/store/Store.ts";
import * as StoreProcess from "../../../../runtime/store/StoreProcess.ts";
import * as Logs from "../../../../runtime/telemetry/Logs.ts";
import * as Traces from "../../../../runtime/telemetry/Traces.ts";
import {
  COMMAND,
  freshFolder,
  processState,
  removeFolder,
  stateWhere,
  whenUp,
} from "../../../runtime/store/harness.ts";
import { logFilter, spanFilter, textOf } from "../../../runtime/telemetry/harness.ts";
import { cpuMs } from "../../path/launch.ts";

const DAY_MS = 86_400_000;
const CHUNK = 250_000;
const TRIES = 4;
/** Questions of one try: the clock of CPU time ticks every 10 ms. */
const QUESTIONS = 10;

/** 20 services, 10 templates; one line in 20,000 has a rare word. Hashes of the row's number stand for chance. */
const LOGS = `INSERT INTO coroot.logs (ts, severity, trace_id, span_id, batch, service, namespace, pod, host, resource, body,
    pattern, attributes)
  WITH sipHash64(number) AS h, sipHash64(number, 1) AS g, h % 10 AS template
  SELECT fromUnixTimestamp64Nano(toInt64({start:Int64} + number * {step:Int64} + h % 1000000), 'UTC'),
    [9, 9, 9, 9, 9, 9, 5, 5, 13, 17][h % 10 + 1], unhex(hex(sipHash128(number))), unhex(hex(g)), intDiv(number, 1000),
    concat('shop-service-', toString(g % 20)), 'shop', concat('shop-service-', toString(g % 20), '-7c9d8f6b5-x', toString(h % 3)),
    concat('node-', toString(h % 5)),
    map('service.version', '1.14.2', 'telemetry.sdk.language', 'nodejs', 'deployment.environment', 'production'),
    concat(['order placed by user', 'GET /api/items served to', 'cache miss for the page', 'connection to postgres lost, attempt',
      'payment accepted by the provider, amount', 'session opened for', 'queue length is', 'retry of the job', 'lease renewed until',
      'timeout while waiting for the answer of'][template + 1], ' ', toString(h % 100000), ' in ', toString(g % 900), ' ms',
      if(h % 20000 = 7, ' zebra', '')),
    1000 + template, map('logger', ['http', 'orders', 'db'][g % 3 + 1], 'thread.id', toString(h % 16))
  FROM numbers({from:UInt64}, {rows:UInt64})`;

/** Traces of eight spans from 20 services, a third of which call another. */
const SPANS = `INSERT INTO coroot.spans (ts, duration, trace_id, span_id, parent_id, kind, status, batch, service, namespace, pod, host,
    resource, name, attributes, peer)
  WITH sipHash64(number) AS h, sipHash64(number, 1) AS g
  SELECT fromUnixTimestamp64Nano(toInt64({start:Int64} + number * {step:Int64}), 'UTC'), toUInt64(300000 - log((g % 100000 + 1) / 100001) * 20000000),
    unhex(hex(sipHash128(intDiv(number, 8)))), unhex(hex(h)), if(number % 8 = 0, unhex('0000000000000000'), unhex(hex(sipHash64(number - 1)))),
    toInt8(1 + h % 3), if(h % 50 = 0, 2, 0), intDiv(number, 1000), concat('shop-service-', toString(g % 20)), 'shop',
    concat('shop-service-', toString(g % 20), '-7c9d8f6b5-x', toString(h % 3)), concat('node-', toString(h % 5)),
    map('service.version', '1.14.2', 'telemetry.sdk.language', 'nodejs', 'deployment.environment', 'production'),
    ['GET /api/cart', 'GET /api/cart/{id}', 'POST /api/items', 'GET /api/items/{id}', 'POST /api/checkout', 'GET /healthz'][h % 6 + 1],
    map('http.request.method', 'GET', 'http.route', '/api/items/{id}', 'http.response.status_code', if(h % 50 = 0, '500', '200'),
      'server.port', '8080', 'thread.id', toString(h % 16)),
    if(h % 3 = 2, concat('shop-service-', toString(h % 10)), '')
  FROM numbers({from:UInt64}, {rows:UInt64})`;

const measure = async (rows: number): Promise<Record<string, number>> => {
  const data = freshFolder();
  const store = Store.layer({ database: "coroot" }).pipe(
    Layer.provideMerge(StoreProcess.layer({ command: [...COMMAND], data })),
  );
  const runtime = ManagedRuntime.make(Layer.mergeAll(Logs.layer, Traces.layer).pipe(Layer.provideMerge(store)));
  try {
    await runtime.runPromise(whenUp);
    const { endpoint } = await runtime.runPromise(stateWhere((state) => state.endpoint !== null));
    const { pid } = await runtime.runPromise(processState);
    if (endpoint === null || pid === null) throw new Error("the store has no process");
    const client = createClient({ ...endpoint, request_timeout: 600_000, log: { level: ClickHouseLogLevel.OFF } });
    const startMs = Math.floor(Date.now() / DAY_MS) * DAY_MS - DAY_MS;
    const step = Math.floor((DAY_MS * 1e6) / rows);
    const before = cpuMs(pid);
    for (const query of [LOGS, SPANS])
      for (let from = 0; from < rows; from += CHUNK)
        await client.command({
          query,
          query_params: { start: `${startMs}000000`, step, from, rows: Math.min(CHUNK, rows - from) },
        });
    // as a day's parts are after a while
    for (const table of ["logs", "spans", "trace_index", "span_edges", "log_patterns"])
      await client.command({ query: `OPTIMIZE TABLE coroot.${localTable({ database: "coroot" }, table)} FINAL` });
    const made = (cpuMs(pid) - before) / 1000;
    const [traced] = await client
      .query({
        query: "SELECT lower(hex(trace_id)) AS id FROM coroot.spans LIMIT 1 OFFSET 12345",
        format: "JSONEachRow",
      })
      .then((result) => result.json<{ id: string }>());
    await client.close();

    const logs = await runtime.runPromise(Logs.Logs);
    const traces = await runtime.runPromise(Traces.Traces);
    const best = async <A>(
      name: string,
      question: Effect.Effect<A, Error>,
      right: (answer: A) => boolean,
    ): Promise<number> => {
      let least = Number.POSITIVE_INFINITY;
      for (let i = 0; i < TRIES; i++) {
        const from = cpuMs(pid);
        for (let n = 0; n < QUESTIONS; n++) {
          const answer = await runtime.runPromise(question);
          if (!right(answer)) throw new Error(`${name} has a wrong answer: ${JSON.stringify(answer).slice(0, 200)}`);
        }
        least = Math.min(least, (cpuMs(pid) - from) / QUESTIONS);
      }
      return least;
    };
    const day = { fromMs: startMs, toMs: startMs + DAY_MS };
    const hour = { fromMs: startMs + 12 * 3_600_000, toMs: startMs + 13 * 3_600_000 };
    const service = { services: ["shop-service-3"] };
    const found = ({ rows: lines }: { readonly rows: readonly unknown[] }): boolean => lines.length > 0;
    return {
      rows,
      made,
      trace: await best("trace", traces.trace(traced?.id ?? ""), (trace) => trace?.spans.length === 8),
      edges: await best("edges", traces.edges(hour, []), (edges) => edges.length === 200),
      common: await best(
        "common",
        logs.search(logFilter({ ...day, ...service, text: textOf("timeout") }), 100, null),
        found,
      ),
      rare: await best("rare", logs.search(logFilter({ ...day, ...service, text: textOf("zebra") }), 100, null), found),
      text: await best(
        "text",
        logs.search(logFilter({ ...day, ...service, text: textOf('"of 9999 in"') }), 100, null),
        () => true,
      ),
      hourOfAll: await best("hour", logs.search(logFilter({ ...hour, severity: 17 }), 100, null), found),
      histogram: await best("histogram", logs.histogram(logFilter({ ...day, ...service }), 60), () => true),
      patterns: await best(
        "patterns",
        logs.patterns(logFilter({ ...day, severity: 13 }), 24, 50),
        ({ found: n }) => n === 2,
      ),
      facets: await best("facets", logs.facets(logFilter({ ...hour })), ({ total }) => total > 0),
      slowest: await best("slowest", traces.list(spanFilter({ ...day, ...service }), "slowest", 100, null), found),
      newest: await best(
        "newest",
        traces.list(spanFilter({ ...day, ...service, leastMs: 100 }), "newest", 100, null),
        found,
      ),
      heatMap: await best("heat map", traces.heatMap(spanFilter({ ...day }), 60), ({ at }) => at.length > 0),
      heatRaw: await best(
        "heat map of failed",
        traces.heatMap(spanFilter({ ...hour, status: "error" }), 60),
        ({ at }) => at.length > 0,
      ),
      errors: await best(
        "errors",
        traces.errors(spanFilter({ ...day, ...service }), 50),
        ({ causes }) => causes.length > 0,
      ),
      compare: await best(
        "compare",
        traces.compare(spanFilter({ ...hour }), { fromMs: null, toMs: null, leastMs: 60, mostMs: null, status: null }),
        ({ selected }) => selected > 0,
      ),
    };
  } finally {
    await runtime.dispose();
    removeFolder(data);
  }
};

process.stdout.write(`${JSON.stringify(await measure(Number(process.argv[2])))}\n`);
process.exit(0);
