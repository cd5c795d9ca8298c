/**
 * One OTLP request, whatever door it came by: decoded, written, and answered when its rows are on disk. Owned by the
 * server's layers; holds nothing. The request's bytes name its batch, so that the same request sent again, by whichever
 * client or to whichever server, is stored once. A request that cannot be read is refused whole; records that cannot be
 * kept are refused singly and told in the answer. Nothing to stop.
 */
import { createHash, randomBytes } from "node:crypto";
import { Clock, Context, Data, Effect, Layer, Metric } from "effect";
import { retentionDays, type Retention, type TelemetryTable } from "../../schemas/tables.ts";
import type { TelemetryBatch, TelemetryBehind, TelemetryRefused } from "../store/TelemetryLane.ts";
import { inSteps } from "../steps.ts";
import { Writer, type WriterShape } from "../store/Writer.ts";
import { TooLarge } from "./DayRows.ts";
import { Malformed } from "../doors/Protobuf.ts";
import type { Encoded, EncodeOptions } from "./envelope.ts";
import { protobufOf } from "./json.ts";
import { encodeLogs } from "./logs.ts";
import { LOGS, TRACES, type RequestDefinition } from "./messages.ts";
import { encodeSpans } from "./spans.ts";

export type Signal = "traces" | "logs";

/** What was not kept of a request that was taken. */
export interface Outcome {
  readonly rejected: number;
  /** for a person: reasons with their counts; empty when nothing was rejected */
  readonly message: string;
}

export class ExportRefused extends Data.TaggedError("ExportRefused")<{
  /** behind and late: the same request may be sent again */
  readonly reason: "malformed" | "too large" | "behind" | "late" | "refused";
  readonly message: string;
}> {}

/** Seconds after which a sender may come again. */
export const RETRY_AFTER_S = 5;

export interface IntakeShape {
  readonly take: (signal: Signal, body: Buffer, encoding: "protobuf" | "json") => Effect.Effect<Outcome, ExportRefused>;
}

export class Intake extends Context.Tag("runtime/otlp/Intake")<Intake, IntakeShape>() {}

/** Below the ten seconds that OpenTelemetry's exporters wait by default, so that they hear why. */
const DURABLE_WITHIN = "8 seconds";
const DAY_MS = 86_400_000;

interface SignalDefinition {
  readonly table: Exclude<TelemetryTable, "profile_samples">;
  readonly json: RequestDefinition;
  readonly encode: (bytes: Buffer, options: EncodeOptions) => Generator<void, Encoded>;
}

const SIGNALS: Readonly<Record<Signal, SignalDefinition>> = {
  traces: { table: "spans", json: TRACES, encode: encodeSpans },
  logs: { table: "logs", json: LOGS, encode: encodeLogs },
};

const counter = (name: string, description: string) => Metric.counter(name, { description, incremental: true });
const takenTotal = counter("coroot_otlp_records_total", "spans and log records that were stored");
const rejectedTotal = counter("coroot_otlp_rejected_total", "spans and log records that were refused singly");
const refusedTotal = counter("coroot_otlp_refused_requests_total", "OTLP requests that were refused whole, by reason");
const cutTotal = counter("coroot_otlp_cut_total", "texts that were cut because they were too long");
const repairedTotal = counter("coroot_otlp_repaired_total", "texts whose invalid UTF-8 was repaired");
const leftOutTotal = counter("coroot_otlp_left_out_total", "attributes, events and links beyond the limits");

/** The request's own name: the same bytes are the same batch. */
export const batchOf = (...parts: readonly (Buffer | string)[]): bigint => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest().readBigUInt64LE(0);
};
/** A name for records that tell no time: they may well be the same in two requests, so their bytes name nothing. */
export const newBatch = (): bigint => randomBytes(8).readBigUInt64LE(0);

const refusal = (error: unknown): ExportRefused | null => {
  if (error instanceof Malformed) return new ExportRefused({ reason: "malformed", message: error.message });
  if (error instanceof TooLarge) return new ExportRefused({ reason: "too large", message: error.message });
  return null;
};

/** Runs the decoding of a request. */
export const decoded = <A>(work: () => Generator<void, A>): Effect.Effect<A, ExportRefused> => inSteps(work, refusal);

const outcomeOf = ({ rejected }: Encoded): Outcome => {
  const reasons = [...rejected].map(([reason, count]) => `${count} with ${reason}`);
  const total = [...rejected.values()].reduce((sum, count) => sum + count, 0);
  return { rejected: total, message: total === 0 ? "" : `${total} rejected: ${reasons.join(", ")}` };
};

const notWritten = (error: TelemetryBehind | TelemetryRefused): ExportRefused =>
  new ExportRefused({ reason: error._tag === "TelemetryBehind" ? "behind" : "refused", message: error.message });

/** Completes when the rows are on disk. */
export const writeInTime = (
  writer: Pick<WriterShape, "telemetry">,
  batch: TelemetryBatch,
): Effect.Effect<void, ExportRefused> =>
  writer.telemetry(batch).pipe(
    Effect.mapError(notWritten),
    Effect.timeoutFail({
      duration: DURABLE_WITHIN,
      onTimeout: () =>
        new ExportRefused({ reason: "late", message: `the store did not take it within ${DURABLE_WITHIN}` }),
    }),
  );

const count = (signal: Signal, { repairs, rows }: Encoded, { rejected }: Outcome) =>
  Effect.all(
    [
      Metric.incrementBy(Metric.tagged(takenTotal, "signal", signal), rows),
      Metric.incrementBy(Metric.tagged(rejectedTotal, "signal", signal), rejected),
      Metric.incrementBy(cutTotal, repairs.cut),
      Metric.incrementBy(repairedTotal, repairs.repaired),
      Metric.incrementBy(leftOutTotal, repairs.leftOut),
    ],
    { discard: true },
  );

export const make = (retention: Retention = {}) =>
  Effect.gen(function* () {
    const writer = yield* Writer;

    const take: IntakeShape["take"] = (signal, body, encoding) =>
      Effect.gen(function* () {
        const { table, json, encode } = SIGNALS[signal];
        const bytes = encoding === "json" ? yield* decoded(() => protobufOf(body, json)) : body;
        const nowMs = yield* Clock.currentTimeMillis;
        const oldestMs = nowMs - retentionDays(table, retention) * DAY_MS;
        let id = batchOf(body);
        let encoded = yield* decoded(() => encode(bytes, { batch: id, nowMs, oldestMs }));
        if (encoded.timeless > 0) {
          id = newBatch();
          encoded = yield* decoded(() => encode(bytes, { batch: id, nowMs, oldestMs }));
        }
        const { days, rows, fromMs, toMs } = encoded;
        if (rows > 0) yield* writeInTime(writer, { table, id, days, rows, fromMs, toMs });
        const outcome = outcomeOf(encoded);
        yield* count(signal, encoded, outcome);
        return outcome;
      }).pipe(Effect.tapError(({ reason }) => Metric.increment(Metric.tagged(refusedTotal, "reason", reason))));

    return Intake.of({ take });
  });

export const layer = (retention: Retention = {}): Layer.Layer<Intake, never, Writer> =>
  Layer.effect(Intake, make(retention));
