/** Metrics over gRPC: the same samples as by HTTP, partial success, a store that is behind. The store is a stand-in. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { Effect, Layer, ManagedRuntime } from "effect";
import { afterAll, beforeAll, expect, it } from "vitest";
import { GrpcServer, layer as grpcLayer } from "../../../../runtime/otlp/GrpcServer.ts";
import { layer as intakeLayer } from "../../../../runtime/otlp/Intake.ts";
import { layer as metricsIntakeLayer, MetricsIntake } from "../../../../runtime/remote-write/MetricsIntake.ts";
import type { StoreBatch } from "../../../../runtime/store/batch.ts";
import { Writer } from "../../../../runtime/store/Writer.ts";
import { decodeResponse, encodeMetrics } from "./proto.ts";

const folder = mkdtempSync(join(tmpdir(), "coroot-grpc-"));
const KEY = "the-key-of-this-deployment";
const same = (bytes: Buffer): Buffer => bytes;
const batches: StoreBatch[] = [];
let ready = true;

const writer = Layer.succeed(
  Writer,
  Writer.of({
    telemetry: () => Effect.void,
    samples: (batch) => Effect.sync(() => void batches.push(batch)),
    rows: () => Effect.void,
    stats: Effect.die("not asked for"),
    get ready() {
      return ready;
    },
  }),
);
const server = Layer.unwrapEffect(
  Effect.map(MetricsIntake, ({ takeOtlp }) => grpcLayer({ host: "127.0.0.1", port: 0, key: KEY, metrics: takeOtlp })),
);
const runtime = ManagedRuntime.make(
  server.pipe(Layer.provide(intakeLayer()), Layer.provide(metricsIntakeLayer()), Layer.provide(writer)),
);
let client: grpc.Client;

beforeAll(async () => {
  const port = await runtime.runPromise(Effect.flatMap(GrpcServer, (one) => one.port));
  client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
});
afterAll(async () => {
  client.close();
  await runtime.dispose();
  rmSync(folder, { recursive: true });
});

const send = (body: Buffer): Promise<{ readonly code: number; readonly details: string; readonly body: Buffer }> => {
  const metadata = new grpc.Metadata();
  metadata.set("x-api-key", KEY);
  const path = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
  return new Promise((resolve) => {
    client.makeUnaryRequest(path, same, same, body, metadata, (error, answer) =>
      resolve({ code: error?.code ?? 0, details: error?.details ?? "", body: answer ?? Buffer.alloc(0) }),
    );
  });
};

const timeUnixNano = `${Date.now()}000000`;
const request = encodeMetrics({
  resourceMetrics: [
    {
      resource: { attributes: [{ key: "service.name", value: { stringValue: "cart" } }] },
      scopeMetrics: [
        {
          metrics: [
            { name: "queue.length", gauge: { dataPoints: [{ timeUnixNano, asInt: "3" }] } },
            { name: "c", sum: { aggregationTemporality: 1, dataPoints: [{ timeUnixNano, asInt: "3" }] } },
          ],
        },
      ],
    },
  ],
});

it("metrics come in, and what cannot be taken is told", async () => {
  const { code, body } = await send(request);
  expect(code).toBe(grpc.status.OK);
  const message = expect.stringContaining("1 with delta temporality") as string;
  expect(decodeResponse(body)).toEqual({ partialSuccess: { rejectedDataPoints: 1, errorMessage: message } });
  expect(batches.map(({ series, values }) => [series.at(0)?.name, { ...series.at(0)?.labels }, [...values]])).toEqual([
    ["queue_length", { job: "cart" }, [3]],
  ]);
});

it("a request that cannot be read is refused, and a store that is behind is told", async () => {
  expect(await send(request.subarray(0, 20))).toMatchObject({
    code: grpc.status.INVALID_ARGUMENT,
    details: "a length that goes beyond the end at byte 1",
  });
  ready = false;
  expect(await send(request)).toMatchObject({
    code: grpc.status.RESOURCE_EXHAUSTED,
    details: "the store is behind",
  });
});
