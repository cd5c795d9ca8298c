/** OpenTelemetry's own SDK and exporter as a sender, by protobuf with and without gzip; JSON by hand; refusals in OTLP's form. */
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { AggregationTemporality, MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { Effect } from "effect";
import { afterAll, beforeAll, expect, it } from "vitest";
import { metricsDoor } from "../../../../runtime/remote-write/door.ts";
import { makeSamplesIntake } from "../../../../runtime/remote-write/Intake.ts";
import { Store } from "../../../../runtime/store/Store.ts";
import { Writer } from "../../../../runtime/store/Writer.ts";
import { describeWith, itWith } from "../../../capabilities.ts";
import { DOOR_KEY, serveDoors, type DoorsUnderTest } from "../../doors/client.ts";
import { freshFolder, makeStore, removeFolder, whenUp, type TestStore } from "../../store/harness.ts";
import { decodeResponse, decodeStatus, encodeMetrics } from "./proto.ts";

type Compression = NonNullable<NonNullable<ConstructorParameters<typeof OTLPMetricExporter>[0]>["compression"]>;
const JSON_TYPE = { "content-type": "application/json" };
const PROTOBUF = { "content-type": "application/x-protobuf" };

describeWith(["chdb"], "OpenTelemetry's metrics into the embedded store", () => {
  const data = freshFolder();
  let runtime: TestStore;
  let doors: DoorsUnderTest;
  beforeAll(async () => {
    runtime = makeStore(data);
    await runtime.runPromise(whenUp);
    doors = await serveDoors([metricsDoor(makeSamplesIntake(await runtime.runPromise(Writer)))]);
  });
  afterAll(async () => {
    await doors.close();
    await runtime.dispose();
    removeFolder(data);
  });

  const stored = (job: string): Promise<Record<string, number>> =>
    runtime
      .runPromise(
        Effect.flatMap(Store, ({ query }) =>
          query<{ series: string; value: number }>(
            `SELECT concat(one.1, arrayStringConcat(arrayMap(k -> concat(' ', k, '=', one.2[k]),
             arraySort(arrayFilter(k -> k NOT IN ('job', 'otel_scope_name'), mapKeys(one.2)))))) AS series, sum(value) AS value
           FROM coroot.samples INNER JOIN (SELECT fp, any((s.name, s.labels)) AS one FROM coroot.series AS s GROUP BY fp) AS s
           USING fp WHERE one.2['job'] = {job:String} GROUP BY series`,
            { job },
          ),
        ),
      )
      .then((rows) => Object.fromEntries(rows.map(({ series, value }) => [series, value])));

  itWith(["chdb"], "come from the SDK, each value once", async () => {
    for (const compression of ["none", "gzip"] as Compression[]) {
      const job = `sdk-${compression}`;
      const exporter = new OTLPMetricExporter({
        url: `${doors.url}/v1/metrics`,
        headers: { "x-api-key": DOOR_KEY },
        compression,
      });
      const provider = new MeterProvider({
        resource: resourceFromAttributes({ "service.name": job, "service.instance.id": "i", "host.name": "n1" }),
        readers: [new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 600_000 })],
      });
      const meter = provider.getMeter("spec");
      meter.createCounter("http.requests", { unit: "{request}" }).add(5, { "http.method": "GET" });
      meter.createUpDownCounter("queue").add(-2);
      const histogram = meter.createHistogram("latency", { unit: "s", advice: { explicitBucketBoundaries: [0.1, 1] } });
      for (const value of [0.05, 0.5, 0.5, 2]) histogram.record(value);
      meter.createObservableGauge("load", { unit: "1" }).addCallback((result) => result.observe(0.25));
      await provider.forceFlush();
      const found = await stored(job);
      expect(found).toEqual({
        "http_requests_total http_method=GET instance=i": 5,
        "queue instance=i": -2,
        "latency_seconds_bucket instance=i le=0.1": 1,
        "latency_seconds_bucket instance=i le=1": 3,
        "latency_seconds_bucket instance=i le=+Inf": 4,
        "latency_seconds_sum instance=i": 3.05,
        "latency_seconds_count instance=i": 4,
        "load_ratio instance=i": 0.25,
        "target_info host_name=n1 instance=i": 1,
      });
      await provider.shutdown();
    }
  });

  itWith(["chdb"], "are rejected in part when the SDK sends differences", async () => {
    const exporter = new OTLPMetricExporter({
      url: `${doors.url}/v1/metrics`,
      headers: { authorization: `Bearer ${DOOR_KEY}` },
      temporalityPreference: AggregationTemporality.DELTA,
    });
    const provider = new MeterProvider({
      resource: resourceFromAttributes({ "service.name": "delta" }),
      readers: [new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 600_000 })],
    });
    provider.getMeter("spec").createCounter("a").add(5);
    provider.getMeter("spec").createGauge("b").record(7);
    await provider.forceFlush();
    expect(await stored("delta")).toEqual({ b: 7 });
    await provider.shutdown();
  });

  const request = (value: string, temporality = 2) => ({
    resourceMetrics: [
      {
        resource: { attributes: [{ key: "service.name", value: { stringValue: "by-hand" } }] },
        scopeMetrics: [
          {
            metrics: [
              { name: "g", gauge: { dataPoints: [{ timeUnixNano: `${Date.now()}000000`, asInt: value }] } },
              {
                name: "c",
                sum: {
                  aggregationTemporality: temporality,
                  dataPoints: [{ timeUnixNano: `${Date.now()}000000`, asInt: value }],
                },
              },
            ],
          },
        ],
      },
    ],
  });

  itWith(["chdb"], "come as JSON, and again, and are there once", async () => {
    const body = JSON.stringify(request("11", 1));
    const message = `{"partialSuccess":{"rejectedDataPoints":"1","errorMessage":"1 with delta temporality`;
    for (const reply of [
      await doors.post("/v1/metrics", body, JSON_TYPE),
      await doors.post("/v1/metrics", body, JSON_TYPE),
    ])
      expect([reply.status, reply.headers["content-type"], reply.text.startsWith(message)]).toEqual([
        200,
        "application/json",
        true,
      ]);
    const whole = await doors.post("/v1/metrics", encodeMetrics(request("31")), PROTOBUF);
    expect([whole.status, whole.headers["content-type"], whole.body.length]).toEqual([
      200,
      "application/x-protobuf",
      0,
    ]);
    const part = await doors.post("/v1/metrics", encodeMetrics(request("500", 0)), PROTOBUF);
    expect(decodeResponse(part.body)).toEqual({
      partialSuccess: { rejectedDataPoints: 1, errorMessage: "1 with no temporality" },
    });
    expect(await stored("by-hand")).toEqual({ g: 542, c: 31 });
  });

  it("are refused in OTLP's form", async () => {
    const cut = await doors.post("/v1/metrics", encodeMetrics(request("1")).subarray(0, 40), PROTOBUF);
    expect([cut.status, decodeStatus(cut.body)]).toEqual([
      400,
      { code: 3, message: "the body is not what it should be: a length that goes beyond the end at byte 1" },
    ]);
    const nonsense = await doors.post("/v1/metrics", "{", JSON_TYPE);
    expect([nonsense.status, nonsense.text]).toEqual([
      400,
      '{"code":3,"message":"the body is not what it should be: it is no JSON"}',
    ]);
    const large = await doors.post("/v1/metrics", " ".repeat(5 * 1024 * 1024), JSON_TYPE);
    expect([large.status, large.text.startsWith('{"code":3,"message":"the body is larger than')]).toEqual([413, true]);
    const stranger = await doors.post("/v1/metrics", "{}", { ...JSON_TYPE, "x-api-key": "wrong" });
    expect([stranger.status, (JSON.parse(stranger.text) as { code: number }).code]).toEqual([401, 16]);
  });
});

it("a sender is told to come again while the store is behind, in its protocol's form", async () => {
  const behind = { ready: false, samples: () => Effect.void };
  const doors = await serveDoors([metricsDoor(makeSamplesIntake(behind))]);
  const json = await doors.post("/v1/metrics", "{}", JSON_TYPE);
  expect([json.status, json.headers["retry-after"], json.text]).toEqual([
    503,
    "5",
    '{"code":14,"message":"the store is behind"}',
  ]);
  const written = await doors.post("/v1/metrics", Buffer.of(0), { ...PROTOBUF, "content-encoding": "snappy" });
  expect([written.status, written.headers["retry-after"], written.text]).toEqual([503, "5", "the store is behind\n"]);
  await doors.close();
});
