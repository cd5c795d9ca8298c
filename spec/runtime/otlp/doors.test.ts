/** What senders are answered: success, partial success, refusals, in protobuf and JSON. The store is a stand-in. */
import { Effect, Layer, TestClock } from "effect";
import { describe, expect, it } from "@effect/vitest";
import type { Call, Door } from "../../../runtime/doors/Door.ts";
import { otlpDoors } from "../../../runtime/otlp/doors.ts";
import { make } from "../../../runtime/otlp/Intake.ts";
import { TelemetryBehind, TelemetryRefused, type TelemetryBatch } from "../../../runtime/store/TelemetryLane.ts";
import { Writer } from "../../../runtime/store/Writer.ts";
import { NOW_MS } from "./messages.ts";
import { encodeLogRequest, encodeTraces, ExportResponse, RpcStatus } from "./proto.ts";

type Write = (batch: TelemetryBatch) => Effect.Effect<void, TelemetryBehind | TelemetryRefused>;

const writerOf = (telemetry: Write) =>
  Layer.succeed(
    Writer,
    Writer.of({
      telemetry,
      samples: () => Effect.void,
      rows: () => Effect.void,
      stats: Effect.die("not asked for"),
      ready: true,
    }),
  );

const nanos = (ms: number): string => String(BigInt(ms) * 1_000_000n);
const span = { traceId: Buffer.alloc(16, 1), spanId: Buffer.alloc(8, 2), startTimeUnixNano: nanos(NOW_MS) };
const traces = (...spans: object[]) => encodeTraces({ resourceSpans: [{ scopeSpans: [{ spans }] }] });
const good = traces(span);
const bad = traces(span, { ...span, traceId: Buffer.alloc(3) });

const PROTOBUF = "application/x-protobuf";
const JSON_TYPE = "application/json";
const call = (body: Buffer, contentType = PROTOBUF): Call => ({
  query: new URLSearchParams(),
  headers: {},
  contentType,
  body,
});

const doorsOver = (write: Write) =>
  Effect.gen(function* () {
    yield* TestClock.setTime(NOW_MS);
    const doors = otlpDoors(yield* make());
    const [first, second] = doors;
    if (first === undefined || second === undefined) throw new Error("there are two doors");
    return { traces: first, logs: second };
  }).pipe(Effect.provide(writerOf(write)));

const refusedBy = (door: Door, body: Buffer, contentType = PROTOBUF) =>
  Effect.flip(door.handle(call(body, contentType))).pipe(
    Effect.map((refusal) => ({ refusal, answer: door.refused?.(refusal, contentType) })),
  );

const taken: Write = () => Effect.void;

describe("a request that is taken", () => {
  it.effect("is answered empty when all was kept, in the encoding it came in", () =>
    Effect.gen(function* () {
      const doors = yield* doorsOver(taken);
      const answer = yield* doors.traces.handle(call(good));
      expect(answer).toMatchObject({ status: 200, contentType: PROTOBUF });
      expect(answer.body).toHaveLength(0);
      const asJson = yield* doors.logs.handle(call(Buffer.from('{"resourceLogs":[]}'), JSON_TYPE));
      expect(asJson).toEqual({ status: 200, contentType: JSON_TYPE, body: "{}" });
      expect((yield* doors.traces.handle(call(Buffer.alloc(0)))).status).toBe(200);
    }),
  );

  it.effect("tells how many were rejected and why", () =>
    Effect.gen(function* () {
      const doors = yield* doorsOver(taken);
      const { body } = yield* doors.traces.handle(call(bad));
      const message = "1 rejected: 1 with no valid trace id";
      expect(ExportResponse.decode(body as Buffer).toJSON()).toEqual({
        partialSuccess: { rejected: "1", errorMessage: message },
      });
      const spans = [
        { traceId: "01".repeat(16), spanId: "02".repeat(8), startTimeUnixNano: nanos(NOW_MS) },
        { traceId: "", spanId: "02".repeat(8), startTimeUnixNano: nanos(NOW_MS) },
      ];
      const inJson = Buffer.from(JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans }] }] }));
      const asJson = yield* doors.traces.handle(call(inJson, JSON_TYPE));
      expect(asJson.body).toBe(JSON.stringify({ partialSuccess: { rejectedSpans: "1", errorMessage: message } }));
      const late = encodeLogRequest({
        resourceLogs: [{ scopeLogs: [{ logRecords: [{ timeUnixNano: nanos(NOW_MS + 7_200_000) }] }] }],
      });
      const logs = yield* doors.logs.handle(call(late));
      expect(ExportResponse.decode(logs.body as Buffer).toJSON()).toEqual({
        partialSuccess: { rejected: "1", errorMessage: "1 rejected: 1 with a time that is more than an hour ahead" },
      });
    }),
  );

  it.effect("names its batch by its bytes, but not when its records tell no time", () =>
    Effect.gen(function* () {
      const seen: bigint[] = [];
      const doors = yield* doorsOver(({ id }) => Effect.sync(() => void seen.push(id)));
      yield* doors.traces.handle(call(good));
      yield* doors.traces.handle(call(Buffer.from(good)));
      yield* doors.traces.handle(call(bad));
      expect(new Set(seen).size).toBe(2);
      seen.length = 0;
      const timeless = encodeLogRequest({ resourceLogs: [{ scopeLogs: [{ logRecords: [{ severityNumber: 9 }] }] }] });
      yield* doors.logs.handle(call(timeless));
      yield* doors.logs.handle(call(timeless));
      expect(new Set(seen).size).toBe(2);
    }),
  );
});

describe("a request that is not taken", () => {
  it.effect("is 400 when it cannot be read, with what and where, and nothing of it is written", () =>
    Effect.gen(function* () {
      let writes = 0;
      const doors = yield* doorsOver(() => Effect.sync(() => void writes++));
      const { refusal, answer } = yield* refusedBy(doors.traces, good.subarray(0, good.length - 3));
      expect(refusal).toMatchObject({ status: 400, message: "a length that goes beyond the end at byte 1" });
      expect(answer?.contentType).toBe(PROTOBUF);
      expect(RpcStatus.decode(answer?.body as Buffer).toJSON()).toEqual({ code: 3, message: refusal.message });
      const inJson = yield* refusedBy(doors.traces, Buffer.from("{"), JSON_TYPE);
      expect(inJson.answer).toMatchObject({ status: 400, contentType: JSON_TYPE });
      expect(JSON.parse(String(inJson.answer?.body))).toMatchObject({ code: 3 });
      expect(writes).toBe(0);
    }),
  );

  it.effect("is 429 with Retry-After when the store is behind", () =>
    Effect.gen(function* () {
      const doors = yield* doorsOver(() => Effect.fail(new TelemetryBehind({ queuedBytes: 7 })));
      const { refusal, answer } = yield* refusedBy(doors.traces, good);
      expect(refusal).toMatchObject({ status: 429, retryAfter: 5 });
      expect(answer).toMatchObject({ status: 429, headers: { "retry-after": "5" } });
    }),
  );

  it.effect("is 503 with Retry-After when the store does not take it in time", () =>
    Effect.gen(function* () {
      const doors = yield* doorsOver(() => Effect.never);
      const waiting = yield* Effect.fork(
        refusedBy(
          doors.logs,
          encodeLogRequest({
            resourceLogs: [{ scopeLogs: [{ logRecords: [{ timeUnixNano: nanos(NOW_MS) }] }] }],
          }),
        ),
      );
      yield* Effect.yieldNow();
      yield* TestClock.adjust("8 seconds");
      const { refusal } = yield* waiting;
      expect(refusal).toMatchObject({ status: 503, retryAfter: 5 });
    }),
  );

  it.effect("is 400 when the store refuses its rows", () =>
    Effect.gen(function* () {
      const doors = yield* doorsOver(() => Effect.fail(new TelemetryRefused({ reason: "wrong" })));
      expect((yield* refusedBy(doors.traces, good)).refusal.status).toBe(400);
    }),
  );
});
