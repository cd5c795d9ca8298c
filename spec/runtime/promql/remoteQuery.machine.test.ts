/**
 * Metrics that are kept elsewhere: written through our door, read through our API. Debian's Prometheus and VictoriaMetrics
 * give there what they give themselves; one that misbehaves is told of in Prometheus' kinds.
 */
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { compressSync } from "snappy";
import { Effect, Exit, Fiber, Logger, Scope } from "effect";
import { afterEach, describe, expect, it } from "vitest";
import { answerPrometheus } from "../../../runtime/http/prometheusApi.ts";
import type { MetricsQueryShape } from "../../../runtime/promql/MetricsQuery.ts";
import { make } from "../../../runtime/promql/RemoteQuery.ts";
import { metricsDoor } from "../../../runtime/remote-write/door.ts";
import { makeSamplesIntake } from "../../../runtime/remote-write/Intake.ts";
import { makeRemoteLane } from "../../../runtime/store/RemoteLane.ts";
import { describeWith, itWith } from "../../capabilities.ts";
import { serveDoors } from "../doors/client.ts";
import { MetricsServer } from "../remote-write/MetricsServer.ts";
import { makeDataset } from "./dataset.ts";
import { encodeWrite } from "./remoteWrite.ts";

const closing: (() => Promise<unknown> | void)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

const listen = async (server: Server): Promise<string> => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
};

const scoped = async <A>(made: Effect.Effect<A, never, Scope.Scope>, logger = Logger.none): Promise<A> => {
  const scope = Effect.runSync(Scope.make());
  closing.push(() => Effect.runPromise(Scope.close(scope, Exit.void)));
  const quiet = Logger.replace(Logger.defaultLogger, logger);
  return Effect.runPromise(made.pipe(Scope.extend(scope), Effect.provide(quiet)));
};

/** Our API over that store; gives its address. */
const serve = async (metrics: MetricsQueryShape): Promise<string> =>
  `http://${await listen(
    createServer((request, response) => {
      const path = new URL(request.url ?? "/", "http://localhost").pathname;
      Effect.runFork(answerPrometheus(metrics, path, request, response));
    }),
  )}`;

interface Upstream {
  readonly url: string;
  readonly asked: { method: string; url: string; headers: IncomingHttpHeaders; body: string }[];
  answer: (response: ServerResponse, url: string) => void;
}

const upstream = async (answer: Upstream["answer"]): Promise<Upstream> => {
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (part) => (body += String(part)));
    request.on("end", () => {
      const { method = "", url = "", headers } = request;
      if (body !== "query=1") one.asked.push({ method, url, headers, body });
      one.answer(response, url);
    });
  });
  const one: Upstream = { url: await listen(server), asked: [], answer };
  return one;
};

const json =
  (status: number, value: unknown): Upstream["answer"] =>
  (response) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(value));
  };
const text =
  (status: number, body: string, headers: Record<string, string> = {}): Upstream["answer"] =>
  (response) => {
    response.writeHead(status, { "content-type": "text/plain", ...headers });
    response.end(body);
  };
const UP = json(200, { status: "success", data: { resultType: "vector", result: [] } });

const get = async (url: string): Promise<{ status: number; body: unknown }> => {
  const answer = await fetch(url);
  return { status: answer.status, body: await answer.json() };
};

describe("a metrics store elsewhere", () => {
  it("is asked in its own terms, below the path of its URL, with its headers", async () => {
    const store = await upstream(UP);
    const url = `http://ann:se%20cret@${store.url}/prometheus/?extra_label=a%3Db`;
    const own = await serve(await scoped(make({ url, headers: { "X-Scope-OrgID": "team" } })));
    await get(`${own}/api/v1/query?query=up%2B1&time=12.5`);
    await get(`${own}/api/v1/query_range?query=up&start=1&end=61.5&step=1m`);
    await get(`${own}/api/v1/series?match[]=a&match[]=b&start=5&end=7`);
    store.answer = json(200, { status: "success", data: [] });
    await get(`${own}/api/v1/label/a%2Fb/values?end=9&limit=3`);
    store.answer = json(200, { status: "success", data: {} });
    await get(`${own}/api/v1/metadata?metric=up`);
    const base = "/prometheus/api/v1";
    const more = "extra_label=a%3Db";
    expect(store.asked.map(({ method, url: path, body }) => [method, path, body])).toEqual([
      ["POST", `${base}/query?${more}`, "query=up%2B1&time=12.5&timeout=30s"],
      ["POST", `${base}/query_range?${more}`, "query=up&start=1&end=61.5&step=60&timeout=30s"],
      ["POST", `${base}/series?${more}`, "match%5B%5D=a&match%5B%5D=b&start=5&end=7"],
      ["GET", `${base}/label/a%2Fb/values?${more}&end=9&limit=3`, ""],
      ["GET", `${base}/metadata?${more}&metric=up`, ""],
    ]);
    expect(store.asked[0]?.headers).toMatchObject({
      "x-scope-orgid": "team",
      authorization: `Basic ${Buffer.from("ann:se cret").toString("base64")}`,
    });
  });

  it("hands on what it says: warnings, and errors in their kinds", async () => {
    const store = await upstream(UP);
    const own = await serve(
      await scoped(make({ url: `http://ann:secret@${store.url}`, headers: { "x-k": "secret" } })),
    );
    const metric = { __name__: "up", job: "a" };
    const data = {
      resultType: "vector",
      result: [
        { metric, value: [1.5, "1"] },
        { metric, histogram: [1.5, {}] },
      ],
    };
    store.answer = json(200, { status: "success", data, warnings: ["w"], infos: ["i"] });
    expect(await get(`${own}/api/v1/query?query=up&time=1.5`)).toEqual({
      status: 200,
      body: {
        status: "success",
        data: { resultType: "vector", result: [{ metric, value: [1.5, "1"] }] },
        warnings: ["w", "1 native histograms are left out of the answer"],
        infos: ["i"],
      },
    });
    const error = (errorType: string) => ({ status: "error", errorType, error: "why" });
    const evil = "http://elsewhere.example/?key=secret";
    for (const [answer, status, errorType, reason] of [
      [json(400, error("bad_data")), 400, "bad_data", /^why$/],
      [json(422, error("execution")), 422, "execution", /^why$/],
      [json(422, error("422")), 422, "execution", /^why$/],
      [json(503, error("timeout")), 503, "timeout", /^why$/],
      [json(503, error("canceled")), 503, "timeout", /^why$/],
      [json(500, error("internal")), 500, "internal", /^why$/],
      [json(429, error("too_many_requests")), 503, "unavailable", /: why$/],
      [json(200, error("bad_data")), 400, "bad_data", /^why$/],
      [text(503, "Service Unavailable\n"), 503, "unavailable", /: it answers 503: Service Unavailable$/],
      [text(401, "Unauthorized"), 503, "unavailable", /refuses this server's credentials \(401\)/],
      [text(404, "404 page not found"), 503, "unavailable", /has no Prometheus API there/],
      [text(302, "", { location: evil }), 503, "unavailable", /it answers 302, a redirect, and none is followed/],
      [text(502, "<html>Bad gateway</html>"), 503, "unavailable", /it answers 502$/],
      [text(200, "<html>Log in</html>"), 503, "unavailable", /none of Prometheus' API/],
      [json(200, { status: "success" }), 503, "unavailable", /it answers 200/],
    ] as const) {
      store.answer = answer;
      expect(await get(`${own}/api/v1/query?query=up`)).toEqual({
        status,
        body: { status: "error", errorType, error: expect.stringMatching(reason) as string },
      });
      expect(JSON.stringify(await get(`${own}/api/v1/labels`))).not.toContain("secret");
    }
  });

  it("is asked for no more than may be answered", async () => {
    const store = await upstream(UP);
    const own = await serve(await scoped(make({ url: `http://${store.url}`, headers: {} })));
    expect(await get(`${own}/api/v1/query_range?query=up&start=0&end=11000&step=1`)).toMatchObject({
      status: 400,
      body: { error: expect.stringContaining("11000 points per series") as string },
    });
    expect(store.asked).toEqual([]);
    let sent = 0;
    store.answer = (response) => {
      response.writeHead(200);
      const part = Buffer.alloc(1024 * 1024, 0x20);
      const more = (): void => {
        if (response.destroyed) return;
        sent++;
        response.write(part, more);
      };
      more();
    };
    expect(await get(`${own}/api/v1/query?query=up`)).toMatchObject({
      status: 422,
      body: { error: expect.stringContaining("bytes of an answer of the metrics store") as string },
    });
    expect(sent).toBeLessThan(64);
    const series = Array.from({ length: 20_001 }, (_, i) => ({ metric: { i: String(i) }, value: [1, "1"] }));
    store.answer = json(200, { status: "success", data: { resultType: "vector", result: series } });
    expect(await get(`${own}/api/v1/query?query=up`)).toMatchObject({ status: 422 });
    store.answer = json(200, { status: "success", data: ["a", "b", "c"] });
    expect(await get(`${own}/api/v1/labels?limit=2`)).toMatchObject({ body: { data: ["a", "b"] } });
  });

  it("is let go of when nobody waits any more", async () => {
    let ended = 0;
    const store = await upstream((response) => void response.on("close", () => ended++));
    const metrics = await scoped(make({ url: `http://${store.url}`, headers: {} }));
    const fiber = Effect.runFork(metrics.instant("up", 1));
    await expect.poll(() => store.asked.length).toBe(1);
    await Effect.runPromise(Fiber.interrupt(fiber));
    await expect.poll(() => ended).toBe(1);
    const own = await serve(metrics);
    expect(await get(`${own}/api/v1/query?query=up&timeout=100ms`)).toMatchObject({
      status: 503,
      body: { errorType: "timeout" },
    });
    await expect.poll(() => ended).toBe(2);
  });

  it("tells whether it is there, and why not, without its secrets", async () => {
    const told: string[] = [];
    const logger = Logger.make(({ message }) => void told.push(JSON.stringify(message)));
    const store = await upstream(text(503, "Service Unavailable"));
    const metrics = await scoped(make({ url: `http://ann:secret@${store.url}/p?key=secret`, headers: {} }), logger);
    await expect
      .poll(() => metrics.elsewhere())
      .toEqual({
        status: "down",
        message: `the metrics store at http://${store.url}/p: it answers 503: Service Unavailable`,
      });
    expect(told).toHaveLength(1);
    const away = await scoped(make({ url: "http://ann:secret@127.0.0.1:9", headers: {} }), logger);
    await expect.poll(() => away.elsewhere()?.status).toBe("down");
    expect(away.elsewhere()?.message).toMatch(
      /^the metrics store at http:\/\/127.0.0.1:9 does not answer: .*ECONNREFUSED/,
    );
    expect(told.join()).not.toContain("secret");
    store.answer = UP;
    await expect.poll(() => metrics.elsewhere()?.status, { timeout: 15_000 }).toBe("up");
  });
});

const MINUTES = 45;
/** Two servers of the same samples count the same, so what they refuse is part of it. */
const QUERIES = [
  "up",
  "odd_value",
  "rate(http_requests_total[5m])",
  "sum by (job) (rate(http_requests_total[5m]))",
  "histogram_quantile(0.9, sum by (le) (rate(request_duration_seconds_bucket[10m])))",
  "temperature_celsius > 20 or level",
  "-level / 0",
  "count(up)",
  "vector(0.1)",
  "time()",
  "nothing_at_all",
  "rate(up)",
  "up{",
  "sum(",
];

/** As text, whatever the order of members. */
const keyOf = (value: unknown): string =>
  JSON.stringify(value, (_, one: unknown) =>
    typeof one === "object" && one !== null && !Array.isArray(one)
      ? Object.fromEntries(Object.entries(one).sort())
      : one,
  );

/** Sorted where order means nothing. */
const sorted = (answer: { status: number; body: unknown }): unknown => {
  const { data } = answer.body as { data?: { result?: unknown } };
  const list = Array.isArray(data) ? data : data?.result;
  if (Array.isArray(list) && typeof list[0] === "object") list.sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  return answer;
};

/**
 * Only what the API's form has: VictoriaMetrics adds members of its own. It also writes out what Prometheus shortens, and
 * adds up in another order each time: so its values are alike to `digits`.
 */
const plainly = (
  { status, body }: { status: number; body: unknown },
  digits: number,
): { status: number; body: unknown } => {
  const { status: verdict, data, error } = body as Record<string, unknown>;
  const value = /(?<=\[[\d.]+,)"-?[\d.]+(?:e[+-]\d+)?"(?=\])/g;
  const alike = JSON.stringify(data ?? null).replace(value, (text) => Number(text.slice(1, -1)).toPrecision(digits));
  return { status, body: { verdict, data: JSON.parse(alike) as unknown, error: error ?? null } };
};

const bothWays = async (server: MetricsServer): Promise<{ own: string; endMs: number }> => {
  const lane = await scoped(makeRemoteLane({ url: `${server.url}/api/v1/write`, headers: {}, maxBytes: 2 ** 26 }));
  const doors = await serveDoors([metricsDoor(makeSamplesIntake({ samples: lane.write, ready: true }))]);
  closing.push(doors.close);
  const endMs = Math.floor(Date.now() / 60_000) * 60_000 - 120_000;
  const since = endMs - MINUTES * 60_000;
  const recent = makeDataset(endMs).series.map(({ labels, times, values }) => {
    const from = times.findIndex((time) => time >= since);
    const at = from < 0 ? times.length : from;
    return { labels, times: times.subarray(at), values: values.subarray(at) };
  });
  const reply = await doors.post("/v1/metrics", compressSync(encodeWrite(recent)), {
    "content-type": "application/x-protobuf",
    "content-encoding": "snappy",
    "x-prometheus-remote-write-version": "0.1.0",
  });
  expect(reply.status).toBe(204);
  expect(lane.stats()).toMatchObject({ refusedRows: 0 });
  const metrics = await scoped(make({ url: server.url, headers: {} }));
  const own = await serve(metrics);
  const count = `/api/v1/query?query=count(last_over_time({__name__!=""}[1h]))&time=${endMs / 1000}`;
  const all = recent.filter(({ times }) => times.length > 0).length;
  await expect
    .poll(async () => JSON.stringify((await get(own + count)).body), { timeout: 20_000, interval: 300 })
    .toContain(`"${all}"`);
  await expect.poll(() => metrics.elsewhere()?.status, { timeout: 15_000 }).toBe("up");
  return { own, endMs };
};

const same = async (server: MetricsServer, own: string, endMs: number, digits: number): Promise<void> => {
  const at = endMs / 1000 - 61.5;
  const times = `start=${at - 1_200}&end=${at}`;
  const asked = [
    ...QUERIES.flatMap((query) => [
      `query?time=${at}&query=${encodeURIComponent(query)}`,
      `query_range?${times}&step=37.5&query=${encodeURIComponent(query)}`,
    ]),
    `query?time=${at}&query=${encodeURIComponent("up{job='api'}[91s]")}`,
    `series?${times}&match[]=up&match[]=${encodeURIComponent("{job=~'a.*'}")}`,
    `labels?${times}`,
    `labels?${times}&match[]=level`,
    `label/job/values?${times}`,
    `label/__name__/values?${times}&match[]=${encodeURIComponent("{job=~'a.*'}")}`,
    "metadata",
  ];
  for (const one of asked) {
    const [ours, theirs] = [await get(`${own}/api/v1/${one}`), await get(`${server.url}/api/v1/${one}`)];
    expect([one, sorted(plainly(ours, digits))]).toEqual([one, sorted(plainly(theirs, digits))]);
  }
};

describeWith(["prometheus"], "Prometheus as the metrics store", () => {
  itWith(["prometheus"], "is read through our API as by itself, and away when it is away", async () => {
    const exporter = await listen(
      createServer((_, response) => response.end("# HELP jobs_total jobs\n# TYPE jobs_total counter\njobs_total 1\n")),
    );
    const config = `scrape_configs: [{ job_name: self, scrape_interval: 200ms, static_configs: [{ targets: ["${exporter}"] }] }]`;
    const server = await MetricsServer.prometheus(config);
    closing.push(() => server.stop());
    const { own, endMs } = await bothWays(server);
    await expect
      .poll(async () => JSON.stringify((await get(`${own}/api/v1/metadata`)).body), { timeout: 20_000 })
      .toContain("jobs_total");
    await same(server, own, endMs, 17);
    await server.stop();
    expect(await get(`${own}/api/v1/query?query=up`)).toMatchObject({
      status: 503,
      body: { errorType: "unavailable" },
    });
  });
});

describeWith(["victoria-metrics"], "VictoriaMetrics as the metrics store", () => {
  itWith(["victoria-metrics"], "is read through our API as by itself", async () => {
    const server = await MetricsServer.victoria();
    closing.push(() => server.stop());
    const { own, endMs } = await bothWays(server);
    await same(server, own, endMs, 12);
  });
});
