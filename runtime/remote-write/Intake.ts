/**
 * The samples of one call to disk, whatever protocol it came by. Owned by the server's layers. The hash of a call's bytes
 * names its batches, so that a call that comes again because its answer was late or lost is stored once, by whichever
 * server. Fails with Behind when the lane is full or slow: the same call may come again. Nothing to stop.
 */
import { createHash } from "node:crypto";
import { Clock, Data, Effect } from "effect";
import { retentionDays, type Retention } from "../../schemas/tables.ts";
import { Malformed } from "../doors/Protobuf.ts";
import { inSteps } from "../steps.ts";
import { seriesList } from "../store/batch.ts";
import type { WriterShape } from "../store/Writer.ts";
import { Columns, TooMany, type TimeBounds } from "./Columns.ts";

export class Behind extends Data.TaggedError("Behind")<{ readonly message: string }> {}

export class Unreadable extends Data.TaggedError("Unreadable")<{
  /** too large: readable, but more than one call may bring */
  readonly reason: "malformed" | "too large";
  readonly message: string;
}> {}

export interface SamplesIntake {
  /** Fails at once while the store cannot take more. */
  readonly ready: Effect.Effect<void, Behind>;
  /** Runs a reader over new columns, in steps. */
  readonly read: (reader: (out: Columns) => Generator<void, void>) => Effect.Effect<Columns, Unreadable>;
  /** Completes when all samples are on disk; `body` names them. */
  readonly write: (body: Uint8Array, columns: Columns) => Effect.Effect<void, Behind>;
}

export const AHEAD_MS = 3_600_000;
const DAY_MS = 86_400_000;
/** Below the ten seconds that OpenTelemetry's exporters wait by default, so that they hear why. */
const DURABLE_WITHIN = "8 seconds";

const refusal = (error: unknown): Unreadable | null => {
  if (error instanceof Malformed) return new Unreadable({ reason: "malformed", message: error.message });
  if (error instanceof TooMany) return new Unreadable({ reason: "too large", message: error.message });
  return null;
};

export const makeSamplesIntake = (
  writer: Pick<WriterShape, "samples" | "ready">,
  retention: Retention = {},
): SamplesIntake => {
  const bounds = Effect.map(Clock.currentTimeMillis, (now): TimeBounds => {
    return { fromMs: now - retentionDays("samples", retention) * DAY_MS, toMs: now + AHEAD_MS };
  });

  return {
    ready: Effect.suspend(() =>
      writer.ready ? Effect.void : Effect.fail(new Behind({ message: "the store is behind" })),
    ),
    read: (reader) =>
      Effect.gen(function* () {
        const out = new Columns(yield* bounds);
        yield* inSteps(() => reader(out), refusal);
        return out;
      }),
    write: (body, columns) =>
      Effect.gen(function* () {
        const chunks = columns.chunks();
        if (chunks.length === 0) return;
        const agent = `call/${createHash("sha256").update(body).digest("base64")}`;
        yield* Effect.forEach(
          chunks,
          ({ series, ...columns }, sequence) =>
            writer.samples({ agent, epoch: 0, sequence, connection: null, series: seriesList(series), ...columns }),
          { concurrency: "unbounded", discard: true },
        ).pipe(
          Effect.timeoutFail({
            duration: DURABLE_WITHIN,
            onTimeout: () => new Behind({ message: `the store did not take it within ${DURABLE_WITHIN}` }),
          }),
        );
      }),
  };
};
