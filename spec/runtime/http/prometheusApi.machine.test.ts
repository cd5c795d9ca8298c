/** Prometheus' HTTP API as Grafana meets it: its JSON, its errors, its two ways to ask. */
import { request } from "node:http";
import { Effect } from "effect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { plain, type MetricsQueryShape } from "../../../runtime/promql/MetricsQuery.ts";
import { QueryError } from "../../../runtime/promql/QueryError.ts";
import { until } from "../ingest/agent.ts";
import { makeWorld, startServer, type ServerUnderTest, type World } from "./page.ts";

const asked: unknown[] = [];
let interrupted = 0;
const labels = new Map([
  ["__name__", "up"],
  ["job", 'a"\\\n'],
  ["__proto__", "x"],
]);

const metrics: MetricsQueryShape = {
  instant: (query, atMs) => {
    asked.push(["instant", query, atMs]);
    if (query === "bad") return Effect.fail(new QueryError({ kind: "bad_data", reason: "parse error" }));
    if (query === "large") return Effect.fail(new QueryError({ kind: "execution", reason: "a bound" }));
    if (query === "down") return Effect.fail(new QueryError({ kind: "unavailable", reason: "the store is down" }));
    if (query === "broken") return Effect.die(new Error("broken"));
    if (query === "never") return Effect.never.pipe(Effect.onInterrupt(() => Effect.sync(() => void interrupted++)));
    if (query === "1") return Effect.succeed(plain({ type: "scalar", atMs, value: 1 }));
    if (query === "text") return Effect.succeed(plain({ type: "string", atMs, text: 'a"b' }));
    if (query === "matrix") {
      const [times, values] = [new Float64Array([1_000, 2_500]), new Float64Array([1, 2])];
      return Effect.succeed(plain({ type: "matrix", series: [{ labels, times, values }] }));
    }
    const values = [1.5, Number.NaN, Infinity, -Infinity, 1e21, 1e-7, -0];
    return Effect.succeed(plain({ type: "vector", atMs, samples: values.map((value) => ({ labels, value })) }));
  },
  range: (query, startMs, endMs, stepMs) => {
    asked.push(["range", query, startMs, endMs, stepMs]);
    const count = query === "many" ? 10_001 : 2;
    const times = Float64Array.from({ length: count }, (_, i) => startMs + i * stepMs);
    return Effect.succeed(plain([{ labels, times, values: times.map((time) => time / 2) }]));
  },
  series: (one) => Effect.sync(() => (asked.push(["series", one]), plain([labels]))),
  labels: (one) => Effect.sync(() => (asked.push(["labels", one]), plain(["__name__", "job"]))),
  labelValues: (name, one) => Effect.sync(() => (asked.push([name, one]), plain(["a", 'b"']))),
  metadata: (metric) =>
    Effect.succeed({
      value: ["a", "b"].map((help) => ({ metric: metric ?? "up", type: "unknown", help, unit: "" })),
      warnings: ["a part is missing"],
      infos: ["b"],
    }),
  elsewhere: () => null,
};

let under: ServerUnderTest;
beforeAll(async () => {
  const world: World = makeWorld();
  world.metrics = metrics;
  under = await startServer(world);
});
afterAll(() => under.close());

interface Answer {
  readonly status: number;
  readonly json: unknown;
}
const ask = async (path: string, init: RequestInit = {}): Promise<Answer> => {
  const answer = await fetch(`${under.server.url}/api/v1/${path}`, init);
  expect(answer.headers.get("content-type")).toBe("application/json");
  return { status: answer.status, json: await answer.json() };
};
const form = (fields: Record<string, string>): RequestInit => ({ method: "POST", body: new URLSearchParams(fields) });
const metric = Object.fromEntries([...labels].sort(([a], [b]) => (a < b ? -1 : 1)));

describe("the Prometheus API", () => {
  it("answers an instant query with values as texts", async () => {
    const { status, json } = await ask("query?query=up&time=12.5");
    expect(status).toBe(200);
    const texts = ["1.5", "NaN", "+Inf", "-Inf", "1e+21", "1e-07", "-0"];
    expect(JSON.stringify(json)).toBe(
      JSON.stringify({
        status: "success",
        data: {
          resultType: "vector",
          result: texts.map((text) => ({ metric: JSON.parse(JSON.stringify(metric)) as object, value: [12.5, text] })),
        },
      }),
    );
    expect(asked.at(-1)).toEqual(["instant", "up", 12_500]);
  });

  it("answers scalars, texts and samples", async () => {
    expect((await ask("query?query=1&time=1")).json).toEqual({
      status: "success",
      data: { resultType: "scalar", result: [1, "1"] },
    });
    expect((await ask("query?query=text&time=1")).json).toMatchObject({
      data: { resultType: "string", result: [1, 'a"b'] },
    });
    expect((await ask("query?query=matrix")).json).toMatchObject({
      data: {
        resultType: "matrix",
        result: [
          {
            values: [
              [1, "1"],
              [2.5, "2"],
            ],
          },
        ],
      },
    });
  });

  it("answers a range query asked by GET and by form alike", async () => {
    const fields = { query: "up", start: "1000", end: "2000.5", step: "30" };
    const byGet = await ask(`query_range?${new URLSearchParams(fields).toString()}`);
    expect(byGet.json).toMatchObject({
      status: "success",
      data: {
        resultType: "matrix",
        result: [
          {
            values: [
              [1000, "500000"],
              [1030, "515000"],
            ],
          },
        ],
      },
    });
    expect(await ask("query_range", form(fields))).toEqual(byGet);
    expect(asked.at(-1)).toEqual(["range", "up", 1_000_000, 2_000_500, 30_000]);
    const dates = { query: "up", start: "2026-01-01T00:00:00Z", end: "2026-01-01T01:00:00+01:00", step: "1h30m" };
    await ask("query_range", form(dates));
    expect(asked.at(-1)).toEqual(["range", "up", 1_767_225_600_000, 1_767_225_600_000, 5_400_000]);
  });

  it("writes a long answer whole", async () => {
    const { json } = await ask("query_range?query=many&start=0&end=10000&step=1");
    const { data } = json as { data: { result: { values: [number, string][] }[] } };
    expect(data.result[0]?.values).toHaveLength(10_001);
    expect(data.result[0]?.values.at(-1)).toEqual([10_000, "5000000"]);
  });

  it("lists series, labels, their values and metadata", async () => {
    expect((await ask("series?match[]=up&match[]=x&start=1&end=2&limit=5")).json).toEqual({
      status: "success",
      data: [JSON.parse(JSON.stringify(metric))],
    });
    expect(asked.at(-1)).toEqual(["series", { selectors: ["up", "x"], startMs: 1_000, endMs: 2_000, limit: 5 }]);
    expect((await ask("labels", form({ "match[]": "up" }))).json).toMatchObject({ data: ["__name__", "job"] });
    expect((await ask("label/job/values")).json).toMatchObject({ data: ["a", 'b"'] });
    expect((await ask("label/a%2Fb/values")).status).toBe(200);
    expect(asked.at(-1)).toMatchObject(["a/b", { selectors: [] }]);
    expect((await ask("metadata")).json).toEqual({
      status: "success",
      data: { up: ["a", "b"].map((help) => ({ type: "unknown", help, unit: "" })) },
      warnings: ["a part is missing"],
      infos: ["b"],
    });
    expect((await ask("metadata?metric=x")).json).toMatchObject({ data: { x: [{}, {}] } });
  });

  it("says what is wrong in Prometheus' form", async () => {
    const wrong: readonly (readonly [path: string, status: number, errorType: string, error: string | RegExp])[] = [
      ["query?query=bad", 400, "bad_data", "parse error"],
      ["query?query=large", 422, "execution", "a bound"],
      ["query?query=down", 503, "unavailable", "the store is down"],
      ["query?query=never&timeout=50ms", 503, "timeout", /0\.05 s/],
      ["query", 400, "bad_data", /"query"/],
      ["query?query=up&time=yesterday", 400, "bad_data", /"time"/],
      ["query_range?query=up&start=1&end=2", 400, "bad_data", /"step"/],
      ["query_range?query=up&start=1&end=2&step=0", 400, "bad_data", /"step"/],
      ["query_range?query=up&start=x&end=2&step=1", 400, "bad_data", /"start"/],
      ["series?match[]=up&limit=x", 400, "bad_data", /"limit"/],
      ["labels?start=2&end=1", 400, "bad_data", /before/],
      ["nothing", 404, "not_found", /nothing/],
      ["label/%/values", 404, "not_found", /label/],
      ["label//values", 404, "not_found", /label/],
    ];
    for (const [path, status, errorType, error] of wrong)
      expect([path, await ask(path)]).toEqual([
        path,
        { status, json: { status: "error", errorType, error: expect.stringMatching(error) as string } },
      ]);
    expect((await ask("metadata", { method: "POST" })).status).toBe(405);
    expect((await ask("query", form({ query: "x".repeat(1_100_000) }))).status).toBe(400);
    expect((await fetch(`${under.server.url}/api/v1/query?query=broken`)).status).toBe(500);
  });

  it("ends a query whose reader has gone", async () => {
    const [before, already] = [interrupted, asked.length];
    const sent = request(`${under.server.url}/api/v1/query?query=never`);
    sent.on("error", () => undefined);
    sent.end();
    await until("the question", () => asked.length > already);
    sent.destroy();
    await until("its end", () => interrupted > before);
  });

  it("keeps strange hosts and other pages out", async () => {
    const { port } = under.server;
    const status = (headers: Record<string, string>, method = "GET"): Promise<number> =>
      new Promise((resolve, reject) => {
        const sent = request({ port, path: "/api/v1/query?query=up", headers, method }, (answer) => {
          answer.resume();
          resolve(answer.statusCode ?? 0);
        });
        sent.on("error", reject);
        sent.end();
      });
    expect(await status({ host: "evil.example" })).toBe(421);
    expect(await status({ host: `127.0.0.1:${port}`, origin: "http://evil.example" }, "POST")).toBe(403);
  });
});
