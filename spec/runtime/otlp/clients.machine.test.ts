/** OpenTelemetry's own exporters as clients, over gRPC, HTTP protobuf and HTTP JSON: what they sent is in the store once. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { gunzipSync } from "node:zlib";
import { Metadata } from "@grpc/grpc-js";
import { SpanKind, SpanStatusCode, TraceFlags } from "@opentelemetry/api";
import { OTLPLogExporter as GrpcLogs } from "@opentelemetry/exporter-logs-otlp-grpc";
import { OTLPLogExporter as JsonLogs } from "@opentelemetry/exporter-logs-otlp-http";
import { OTLPLogExporter as ProtoLogs } from "@opentelemetry/exporter-logs-otlp-proto";
import { OTLPTraceExporter as GrpcTraces } from "@opentelemetry/exporter-trace-otlp-grpc";
import { OTLPTraceExporter as JsonTraces } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as ProtoTraces } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchLogRecordProcessor, LoggerProvider, type LogRecordExporter } from "@opentelemetry/sdk-logs";
import { BasicTracerProvider, BatchSpanProcessor, type SpanExporter } from "@opentelemetry/sdk-trace-base";
import { Effect, Layer, ManagedRuntime } from "effect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { describeWith } from "../../capabilities.ts";
import { otlpDoors } from "../../../runtime/otlp/doors.ts";
import { GrpcServer, layer as grpcLayer } from "../../../runtime/otlp/GrpcServer.ts";
import { Intake, layer as intakeLayer } from "../../../runtime/otlp/Intake.ts";
import * as Store from "../../../runtime/store/Store.ts";
import * as StoreProcess from "../../../runtime/store/StoreProcess.ts";
import * as Writer from "../../../runtime/store/Writer.ts";
import { COMMAND, freshFolder, removeFolder, whenUp } from "../store/harness.ts";

const KEY = "the-key-of-this-deployment";

const makeRuntime = (data: string) => {
  const store = Store.layer({ database: "coroot" }).pipe(
    Layer.provideMerge(StoreProcess.layer({ command: [...COMMAND], data })),
  );
  return ManagedRuntime.make(
    grpcLayer({ host: "127.0.0.1", port: 0, key: KEY }).pipe(
      Layer.provideMerge(intakeLayer()),
      Layer.provideMerge(Writer.layer()),
      Layer.provideMerge(store),
    ),
  );
};

const SPANS = 300;
const LOGS = 200;

const sendTraces = async (exporter: SpanExporter, service: string): Promise<void> => {
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ "service.name": service, "k8s.pod.name": `${service}-0`, zone: "eu-1" }),
    spanProcessors: [new BatchSpanProcessor(exporter, { maxExportBatchSize: 100 })],
  });
  const tracer = provider.getTracer("shop", "1.0");
  for (let i = 0; i < SPANS; i++) {
    const span = tracer.startSpan(`GET /item ✓`, { kind: i % 2 === 0 ? SpanKind.SERVER : SpanKind.CLIENT });
    span.setAttribute("number", i).setAttribute("ratio", 0.5).setAttribute("server.address", "stock");
    if (i % 10 === 0) span.addEvent("retry", { attempt: 1 }).setStatus({ code: SpanStatusCode.ERROR, message: "gone" });
    span.end();
  }
  await provider.forceFlush();
  await provider.shutdown();
};

const sendLogs = async (exporter: LogRecordExporter, service: string): Promise<void> => {
  const provider = new LoggerProvider({
    resource: resourceFromAttributes({ "service.name": service }),
    processors: [new BatchLogRecordProcessor({ exporter, maxExportBatchSize: 100 })],
  });
  const logger = provider.getLogger("shop");
  for (let i = 0; i < LOGS; i++)
    logger.emit({ severityNumber: 9, severityText: "INFO", body: `line ${i}`, attributes: { i, list: [1, "two"] } });
  await provider.forceFlush();
  await provider.shutdown();
};

describeWith(["chdb"], "OpenTelemetry's exporters", () => {
  const data = freshFolder();
  const runtime = makeRuntime(data);
  let http: Server;
  let base = "";
  let grpcUrl = "";

  beforeAll(async () => {
    await runtime.runPromise(whenUp);
    const doors = otlpDoors(await runtime.runPromise(Intake));
    grpcUrl = `http://127.0.0.1:${await runtime.runPromise(Effect.flatMap(GrpcServer, ({ port }) => port))}`;
    http = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const door = doors.find(({ path }) => path === request.url);
        const sent = Buffer.concat(chunks);
        const body = request.headers["content-encoding"] === "gzip" ? gunzipSync(sent) : sent;
        const contentType = (request.headers["content-type"] ?? "").split(";")[0] ?? "";
        if (door === undefined) return response.writeHead(404).end();
        const call = { query: new URLSearchParams(), headers: request.headers, contentType, body };
        runtime
          .runPromise(
            Effect.catchAll(door.handle(call), (refusal) =>
              Effect.succeed(door.refused?.(refusal, contentType) ?? { status: 500 }),
            ),
          )
          .then(
            (answer) =>
              response
                .writeHead(answer.status, { "content-type": answer.contentType ?? "text/plain", ...answer.headers })
                .end(answer.body),
            (error: unknown) => response.destroy(error as Error),
          );
      });
    });
    await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
    base = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
  });
  afterAll(async () => {
    http.close();
    http.closeAllConnections();
    await runtime.dispose();
    removeFolder(data);
  });

  const metadata = (): Metadata => {
    const all = new Metadata();
    all.set("x-api-key", KEY);
    return all;
  };
  const query = <T>(sql: string) => runtime.runPromise(Effect.flatMap(Store.Store, (store) => store.query<T>(sql)));

  const traceExporters: readonly (readonly [string, () => SpanExporter])[] = [
    ["grpc", () => new GrpcTraces({ url: grpcUrl, metadata: metadata() })],
    ["protobuf", () => new ProtoTraces({ url: `${base}/v1/traces`, compression: "gzip" as never })],
    ["json", () => new JsonTraces({ url: `${base}/v1/traces` })],
  ];
  it.each(traceExporters)("bring their spans by %s, each once", async (name, exporter) => {
    await sendTraces(exporter(), `spans-${name}`);
    const [row] = await query(
      `SELECT count() AS n, uniqExact(span_id) AS ids, uniqExact(attributes['number']) AS numbers, countIf(kind = 'client' AND peer = 'stock') AS calls,
         countIf(status = 'error' AND status_message = 'gone' AND event_name = ['retry'] AND event_attributes[1]['attempt'] = '1') AS failed,
         any(name) AS name, any(pod) AS pod, any(resource['zone']) AS zone, any(attributes['ratio']) AS ratio, any(scope) AS scope
       FROM coroot.spans WHERE service = 'spans-${name}'`,
    );
    expect(row).toEqual({
      n: SPANS,
      ids: SPANS,
      numbers: SPANS,
      calls: SPANS / 2,
      failed: SPANS / 10,
      name: "GET /item ✓",
      pod: `spans-${name}-0`,
      zone: "eu-1",
      ratio: "0.5",
      scope: "shop",
    });
    const [rolled] = await query(
      `SELECT (SELECT sum(total) FROM coroot.span_edges WHERE service = 'spans-${name}' AND peer = 'stock') AS calls,
         (SELECT sum(failed) FROM coroot.span_latency WHERE service = 'spans-${name}') AS failed`,
    );
    expect(rolled).toEqual({ calls: SPANS / 2, failed: SPANS / 10 });
  });

  const logExporters: readonly (readonly [string, () => LogRecordExporter])[] = [
    ["grpc", () => new GrpcLogs({ url: grpcUrl, metadata: metadata() })],
    ["protobuf", () => new ProtoLogs({ url: `${base}/v1/logs` })],
    ["json", () => new JsonLogs({ url: `${base}/v1/logs` })],
  ];
  it.each(logExporters)("bring their logs by %s, each once", async (name, exporter) => {
    await sendLogs(exporter(), `logs-${name}`);
    const [row] = await query(
      `SELECT count() AS n, uniqExact(body) AS bodies, any(severity) AS severity, any(severity_text) AS text, any(attributes['list']) AS list
       FROM coroot.logs WHERE service = 'logs-${name}'`,
    );
    expect(row).toEqual({ n: LOGS, bodies: LOGS, severity: 9, text: "INFO", list: '[1,"two"]' });
  });

  describe("over gRPC", () => {
    it("are refused without the key", async () => {
      const failures: string[] = [];
      const exporter = new GrpcTraces({ url: grpcUrl });
      const provider = new BasicTracerProvider({ spanProcessors: [] });
      const span = provider.getTracer("x").startSpan("one");
      span.end();
      expect(span.spanContext().traceFlags).toBe(TraceFlags.SAMPLED);
      await new Promise<void>((resolve) =>
        exporter.export([span as never], ({ error }) => {
          failures.push(error?.message ?? "none");
          resolve();
        }),
      );
      await exporter.shutdown();
      expect(failures).toEqual([expect.stringContaining("the key is missing or wrong")]);
    });
  });
});
