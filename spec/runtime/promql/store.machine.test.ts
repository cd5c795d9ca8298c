/** Metrics read from the real store: hostile texts, stale markers, bounds, a query that is given up, a store that is away. */
import { Effect } from "effect";
import { afterAll, beforeAll, expect } from "vitest";
import { describeWith, itWith } from "../../capabilities.ts";
import { seriesList } from "../../../runtime/store/batch.ts";
import { fingerprint } from "../../../runtime/store/fingerprint.ts";
import { Store } from "../../../runtime/store/Store.ts";
import { StoreProcess } from "../../../runtime/store/StoreProcess.ts";
import { Writer } from "../../../runtime/store/Writer.ts";
import * as MetricsQuery from "../../../runtime/promql/MetricsQuery.ts";
import { LIMITS, QueryError } from "../../../runtime/promql/QueryError.ts";
import { TABLES } from "../../../schemas/tables.ts";
import { labelsText } from "../../../runtime/promql/labels.ts";
import { MemorySource } from "./MemorySource.ts";
import { freshFolder, makeStore, removeFolder, until, whenUp, type TestStore } from "../store/harness.ts";

const HOSTILE = [
  "' OR '1'='1",
  "'; DROP TABLE coroot.samples; --",
  "\\",
  "\\' OR 1=1 --",
  "{m0v:String}",
  "a\u0000b",
  "%",
  "a\tb\nc",
  "`x`",
  "küche",
];
const end = Math.floor(Date.now() / 60_000) * 60_000;
const quoted = (text: string): string =>
  JSON.stringify(text).replaceAll(/\\u(....)/g, (_, code: string) => `\\u${code}`);

describeWith(["chdb"], "metrics in the store", () => {
  const data = freshFolder();
  let runtime: TestStore;
  let metrics: MetricsQuery.MetricsQueryShape;
  let sequence = 0;

  const write = (
    name: string,
    all: readonly { readonly labels: Readonly<Record<string, string>>; readonly points: readonly [number, number][] }[],
  ) => {
    const series = all.map(({ labels }) => ({ name, labels, fingerprint: fingerprint(name, labels) }));
    const rows = all.flatMap(({ points }, i) => points.map(([at, value]) => [i, at, value] as const));
    return Effect.flatMap(Writer, (writer) =>
      writer.samples({
        agent: "spec",
        epoch: 1,
        sequence: sequence++,
        connection: 1,
        series: seriesList(series),
        index: Uint32Array.from(rows, ([i]) => i),
        times: Float64Array.from(rows, ([, at]) => at),
        values: Float64Array.from(rows, ([, , value]) => value),
      }),
    );
  };
  const failure = async <A>(question: Effect.Effect<A, QueryError>): Promise<string> => {
    const { kind, reason } = await runtime.runPromise(Effect.flip(question));
    return `${kind}: ${reason}`;
  };
  const found = async (query: string): Promise<readonly (readonly [string, number])[]> => {
    const { value: answer } = await runtime.runPromise(metrics.instant(query, end));
    if (answer.type !== "vector") throw new Error("no vector");
    return answer.samples.map(({ labels, value }) => [labels.get("text") ?? "", value]);
  };

  beforeAll(async () => {
    runtime = makeStore(data);
    await runtime.runPromise(
      Effect.gen(function* () {
        yield* whenUp;
        yield* write(
          "texts",
          HOSTILE.map((text, i) => ({ labels: { text, [`odd ${i} '\\`]: text }, points: [[end - 1_000, i]] })),
        );
        yield* write("proto", [
          { labels: JSON.parse('{"__proto__":"x","text":"y"}') as Record<string, string>, points: [[end - 1, 1]] },
        ]);
      }),
    );
    metrics = await runtime.runPromise(MetricsQuery.make);
  });
  afterAll(async () => {
    await runtime.dispose();
    removeFolder(data);
  });

  itWith(["chdb"], "are found by hostile texts, as texts", async () => {
    for (const [i, text] of HOSTILE.entries()) {
      expect(await found(`texts{text=${quoted(text)}}`)).toEqual([[text, i]]);
      expect(await found(`texts{${quoted(`odd ${i} '\\`)}=${quoted(text)}}`)).toEqual([[text, i]]);
      expect(await found(`{${quoted(text)}}`)).toEqual([]);
      expect(
        await found(
          `label_replace(texts{text=${quoted(text)}}, "text", ${quoted(text.replaceAll("$", ""))}, "text", "(?s).*")`,
        ),
      ).toHaveLength(1);
      const values = await runtime.runPromise(
        metrics.labelValues(`odd ${i} '\\`, { selectors: [`{text=${quoted(text)}}`], startMs: 0, endMs: end }),
      );
      expect(values).toEqual(MetricsQuery.plain([text]));
      expect(await runtime.runPromise(metrics.metadata(text, 10))).toEqual(MetricsQuery.plain([]));
    }
    expect(await found('texts{text!~".*[^a-z].*"}')).toEqual([]);
    const tables = await runtime.runPromise(
      Effect.flatMap(Store, ({ query }) =>
        query<{ name: string }>(
          "SELECT name FROM system.tables WHERE database = 'coroot' AND engine != 'MaterializedView' ORDER BY name",
        ),
      ),
    );
    expect(tables.map(({ name }) => name)).toEqual(Object.keys(TABLES).sort());
  });

  itWith(["chdb"], "keep a label whatever it is called", async () => {
    const { value: answer } = await runtime.runPromise(
      metrics.series({ selectors: ["proto"], startMs: 0, endMs: end }),
    );
    expect(answer.map((labels) => [...labels].sort())).toEqual([
      [
        ["__name__", "proto"],
        ["__proto__", "x"],
        ["text", "y"],
      ],
    ]);
  });

  itWith(["chdb"], "have windows that are open to the left, also where the engine computes them", async () => {
    // every sample lies on an edge of windows, where Debian's Prometheus (2.42) cannot be the oracle
    const start = end - 3_600_000;
    const values = [0, 10, 20, 30, 5, 15, 25, 25, 25, 40, 2, 8];
    const points = values.map((value, i): [number, number] => [start + i * 10_000, value]);
    await runtime.runPromise(write("edge_total", [{ labels: { a: "b" }, points }]));
    const memory = new MemorySource().add(
      "edge_total",
      { a: "b" },
      Object.fromEntries(points.map(([at, value]) => [at / 1000, value])),
    );
    const functions = ["rate", "increase", "delta", "irate", "idelta", "changes", "resets", "last_over_time", "deriv"];
    const queries = [
      ...["10s", "20s", "25s", "1m"].flatMap((range) => functions.map((name) => `${name}(edge_total[${range}])`)),
      "predict_linear(edge_total[30s], 20)",
      "count_over_time(edge_total[30s])",
      "edge_total",
      "edge_total offset 10s",
      "timestamp(edge_total)",
    ];
    for (const query of queries) {
      const { value: found } = await runtime.runPromise(metrics.range(query, start - 10_000, start + 420_000, 10_000));
      const times = Array.from({ length: 44 }, (_, i) => start - 10_000 + i * 10_000);
      const ours = Object.fromEntries(
        found.map((one) => [
          labelsText(one.labels),
          times.map((at) => (one.times.includes(at) ? (one.values[one.times.indexOf(at)] ?? null) : null)),
        ]),
      );
      const wanted = await memory.range(query, start / 1000 - 10, start / 1000 + 420, 10);
      const near = (value: number | null): unknown => (value === null ? null : expect.closeTo(value, 9));
      expect([query, ours]).toEqual([
        query,
        Object.fromEntries(Object.entries(wanted).map(([labels, all]) => [labels, all.map(near)])),
      ]);
    }
  });

  itWith(["chdb"], "say which pattern cannot be read, and which time there is not", async () => {
    expect(await failure(metrics.instant('texts{text=~"("}', end))).toMatch(/^bad_data: a pattern cannot be read/);
    expect(await failure(metrics.instant('label_replace(texts, "a", "b", "text", "[")', end))).toMatch(
      /^bad_data: a pattern/,
    );
    expect(await failure(metrics.instant("up", -1))).toMatch(/^bad_data: a time is outside/);
    expect(await failure(metrics.instant("up", Number.NaN))).toMatch(/^bad_data: a time is outside/);
    expect(await failure(metrics.range("up", 2_000, 1_000, 10))).toMatch(/^bad_data: the end/);
    expect(await failure(metrics.range("up[5m]", 1_000, 2_000, 10))).toMatch(/^bad_data: a range query needs/);
    expect(await failure(metrics.range("up", 0, 11_000_000, 1_000))).toBe(
      "bad_data: the limit of 11000 points per series is exceeded (11001)",
    );
    expect(await failure(metrics.series({ selectors: [], startMs: 0, endMs: end }))).toMatch(/no match/);
  });

  itWith(["chdb"], "are bounded in series, and the store goes on", async () => {
    const many = Array.from({ length: LIMITS.series + 1 }, (_, i) => ({
      labels: { i: String(i) },
      points: [[end - 1_000, i] as [number, number]],
    }));
    await runtime.runPromise(write("many", many));
    expect(await failure(metrics.instant("many", end))).toBe(
      "execution: the limit of 20000 series of a selector is exceeded",
    );
    expect(await failure(metrics.instant("sum(rate(many[5m]))", end))).toMatch(/20000 series/);
    const all = { selectors: ["many"], startMs: 0, endMs: end };
    expect(await failure(metrics.series(all))).toMatch(/20000 series/);
    expect(await failure(metrics.labelValues("i", all))).toMatch(/20000 series/);
    expect(await runtime.runPromise(metrics.labelValues("i", { ...all, limit: 3 }))).toEqual(
      MetricsQuery.plain(["0", "1", "10"]),
    );
    expect(await found('count(many{i=~"1.*"})')).toEqual([["", 11_111]]);
  });

  itWith(["chdb"], "are let go of when nobody waits for them any more", async () => {
    const points = Array.from({ length: 300_000 }, (_, i) => [end - 400_000 + i, i % 97] as [number, number]);
    await runtime.runPromise(write("long", [{ labels: {}, points }]));
    const slow = metrics.range("sum(stddev_over_time(long[10m]))", end - 300_000, end, 1_000);
    const began = performance.now();
    await runtime.runPromise(slow.pipe(Effect.timeout("100 millis"), Effect.ignore));
    expect(performance.now() - began).toBeLessThan(2_000);
    const running = Effect.flatMap(Store, ({ query }) =>
      query<{ n: number }>(
        "SELECT count() AS n FROM system.processes WHERE query LIKE '%arraySort(point%' AND query NOT LIKE '%system.processes%'",
      ),
    );
    await runtime.runPromise(until(running, ([row]) => row?.n === 0));
    expect(await failure(metrics.range("quantile_over_time(0.5, long[10m])", end - 300_000, end, 1_000))).toMatch(
      /^execution: the limit of 100000000 samples in all windows/,
    );
  });

  itWith(["chdb"], "are unavailable while the store is away", async () => {
    const { state } = await runtime.runPromise(StoreProcess);
    const { pid } = await runtime.runPromise(state.get);
    expect(pid).not.toBeNull();
    process.kill(pid ?? 0, "SIGKILL");
    const gone = until(Effect.either(metrics.instant("texts", end)), (answer) => answer._tag === "Left");
    const answer = await runtime.runPromise(gone);
    expect(answer).toMatchObject({ left: { kind: "unavailable" } });
    await runtime.runPromise(until(Effect.either(metrics.instant("texts", end)), ({ _tag }) => _tag === "Right"));
  });
});
