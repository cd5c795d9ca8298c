/** The gRPC server alone: keys, statuses, what a client is told when the store is behind, sizes. The store is a stand-in. */
import * as grpc from "@grpc/grpc-js";
import { Effect, Fiber, Layer, ManagedRuntime } from "effect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { GrpcServer, layer as grpcLayer } from "../../../runtime/otlp/GrpcServer.ts";
import { layer as intakeLayer } from "../../../runtime/otlp/Intake.ts";
import { LIMITS } from "../../../runtime/otlp/limits.ts";
import { TelemetryBehind } from "../../../runtime/store/TelemetryLane.ts";
import { Writer, type WriterShape } from "../../../runtime/store/Writer.ts";
import { encodeTraces, ExportResponse, RetryInfo, RpcStatus } from "./proto.ts";

const KEY = "the-key-of-this-deployment";
const same = (bytes: Buffer): Buffer => bytes;

const span = (more: object = {}) => ({
  traceId: Buffer.alloc(16, 1),
  spanId: Buffer.alloc(8, 2),
  startTimeUnixNano: String(BigInt(Date.now()) * 1_000_000n),
  ...more,
});
const requestOf = (...spans: object[]) => encodeTraces({ resourceSpans: [{ scopeSpans: [{ spans }] }] });

interface Answered {
  readonly code: number;
  readonly details: string;
  readonly body: Buffer;
  readonly retryS: number | null;
}

describe("the gRPC server", () => {
  let telemetry: WriterShape["telemetry"] = () => Effect.void;
  const writer = Layer.succeed(
    Writer,
    Writer.of({
      telemetry: (batch) => telemetry(batch),
      samples: () => Effect.void,
      rows: () => Effect.void,
      stats: Effect.die("not asked for"),
      ready: true,
    }),
  );
  const serverOn = (port: number) =>
    grpcLayer({ host: "127.0.0.1", port, key: KEY }).pipe(Layer.provide(intakeLayer()), Layer.provide(writer));
  const runtime = ManagedRuntime.make(serverOn(0));
  let client: grpc.Client;
  let port = 0;

  beforeAll(async () => {
    port = await runtime.runPromise(Effect.flatMap(GrpcServer, (server) => server.port));
    client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  });
  afterAll(async () => {
    client.close();
    await runtime.dispose();
  });

  const retryOf = (metadata: grpc.Metadata): number | null => {
    const [details] = metadata.get("grpc-status-details-bin");
    if (!Buffer.isBuffer(details)) return null;
    const status = RpcStatus.decode(details).toJSON() as { details: { typeUrl: string; value: string }[] };
    expect(status.details[0]?.typeUrl).toBe("type.googleapis.com/google.rpc.RetryInfo");
    const info = RetryInfo.decode(Buffer.from(status.details[0]?.value ?? "", "base64")).toJSON();
    return Number((info as { retryDelay: { seconds: string } }).retryDelay.seconds);
  };

  const send = (
    body: Buffer,
    headers: Readonly<Record<string, string>> = { "x-api-key": KEY },
    by = client,
  ): Promise<Answered> => {
    const metadata = new grpc.Metadata();
    for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
    return new Promise((resolve) => {
      by.makeUnaryRequest(
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        same,
        same,
        body,
        metadata,
        (error, answer) =>
          resolve({
            code: error?.code ?? 0,
            details: error?.details ?? "",
            body: answer ?? Buffer.alloc(0),
            retryS: error === null ? null : retryOf(error.metadata),
          }),
      );
    });
  };

  it("takes the key as x-api-key or bearer, and nothing without it", async () => {
    const good = requestOf(span());
    expect(await send(good)).toMatchObject({ code: 0 });
    expect(await send(good, { authorization: `Bearer ${KEY}` })).toMatchObject({ code: 0 });
    for (const headers of [{}, { "x-api-key": "wrong" }, { authorization: KEY }])
      expect(await send(good, headers)).toMatchObject({ code: grpc.status.UNAUTHENTICATED });
  });

  it("tells a partial success, and what is malformed", async () => {
    const { code, body } = await send(requestOf(span(), span({ spanId: Buffer.alloc(8) })));
    expect(code).toBe(0);
    expect(ExportResponse.decode(body).toJSON()).toEqual({
      partialSuccess: { rejected: "1", errorMessage: "1 rejected: 1 with no valid span id" },
    });
    expect(await send(Buffer.from([0x0a, 0x7f]))).toMatchObject({
      code: grpc.status.INVALID_ARGUMENT,
      details: "a length that goes beyond the end at byte 1",
      retryS: null,
    });
  });

  it("tells a client when to come again while the store is behind", async () => {
    telemetry = () => Effect.fail(new TelemetryBehind({ queuedBytes: 1 }));
    expect(await send(requestOf(span()))).toMatchObject({ code: grpc.status.RESOURCE_EXHAUSTED, retryS: 5 });
    telemetry = () => Effect.void;
  });

  it("answers a call that fails inside as such, and serves the next", async () => {
    telemetry = () => Effect.die("a fault of ours");
    expect(await send(requestOf(span()))).toMatchObject({ code: grpc.status.INTERNAL });
    telemetry = () => Effect.void;
    expect(await send(requestOf(span()))).toMatchObject({ code: 0 });
  });

  it("refuses a message above the limit", async () => {
    expect(await send(Buffer.alloc(LIMITS.requestBytes + 1))).toMatchObject({ code: grpc.status.RESOURCE_EXHAUSTED });
  });

  it("unpacks a compressed message up to the limit and no further", async () => {
    const packing = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), {
      "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip,
    });
    expect(await send(requestOf(span()), { "x-api-key": KEY }, packing)).toMatchObject({ code: 0 });
    const before = process.memoryUsage().rss;
    const bomb = Buffer.alloc(256 * 1024 * 1024);
    expect(await send(bomb, { "x-api-key": KEY }, packing)).toMatchObject({ code: grpc.status.RESOURCE_EXHAUSTED });
    expect(process.memoryUsage().rss - before).toBeLessThan(2 * bomb.length);
    packing.close();
  });

  it("lets go of the work of a client that went away", async () => {
    let interrupted = false;
    let begun: () => void = () => undefined;
    const started = new Promise<void>((resolve) => (begun = resolve));
    telemetry = () =>
      Effect.sync(begun).pipe(
        Effect.zipRight(Effect.never),
        Effect.onInterrupt(() => Effect.sync(() => (interrupted = true))),
      );
    const metadata = new grpc.Metadata();
    metadata.set("x-api-key", KEY);
    const path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    const call = client.makeUnaryRequest(path, same, same, requestOf(span()), metadata, () => undefined);
    await started;
    call.cancel();
    await expect.poll(() => interrupted).toBe(true);
    telemetry = () => Effect.void;
  });

  it("starts without its port when that is taken", async () => {
    const second = ManagedRuntime.make(serverOn(port));
    const waiting = await second.runPromise(
      Effect.gen(function* () {
        const { port: bound } = yield* GrpcServer;
        const fiber = yield* Effect.fork(bound);
        yield* Effect.sleep("200 millis");
        return yield* Fiber.poll(fiber);
      }),
    );
    expect(waiting._tag).toBe("None");
    await second.dispose();
  });
});
