/**
 * What takes metrics in this server, whichever way they come: one source of batches, one cache of series. Owned by the
 * server's layers, shared by the door and the gRPC server. Fails as its parts do; nothing to stop.
 */
import { Context, Effect, Layer } from "effect";
import type { Retention } from "../../schemas/tables.ts";
import { Writer } from "../store/Writer.ts";
import { makeSamplesIntake, type SamplesIntake } from "./Intake.ts";
import { openJournal } from "./Journal.ts";
import { makeTakeMetrics, type TakeMetrics } from "./otlp/take.ts";
import { SeriesCache } from "./SeriesCache.ts";

export interface MetricsIntakeShape {
  readonly samples: SamplesIntake;
  readonly cache: SeriesCache;
  readonly takeOtlp: TakeMetrics;
}

export class MetricsIntake extends Context.Tag("runtime/remote-write/MetricsIntake")<
  MetricsIntake,
  MetricsIntakeShape
>() {}

/** `journal`: path of the file by which a later life of this server knows the calls of this one. */
export const layer = (journal: string, retention: Retention = {}): Layer.Layer<MetricsIntake, never, Writer> =>
  Layer.scoped(
    MetricsIntake,
    Effect.gen(function* () {
      const samples = makeSamplesIntake(yield* Writer, retention, yield* openJournal(journal));
      const cache = new SeriesCache();
      return MetricsIntake.of({ samples, cache, takeOtlp: makeTakeMetrics(samples, cache) });
    }),
  );
