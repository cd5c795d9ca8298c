/**
 * What takes metrics in this server, whichever way they come: one source of batches, one cache of series. Owned by the
 * server's layers, shared by the door and the gRPC server. Fails as its parts do; nothing to stop.
 */
import { Context, Effect, Layer, Option } from "effect";
import type { Retention } from "../../schemas/tables.ts";
import { Writer } from "../store/Writer.ts";
import { makeSamplesIntake, type SamplesIntake } from "./Intake.ts";
import { MetricsWatch, type MetricsWatchShape } from "./MetricsWatch.ts";
import { makeTakeMetrics, type TakeMetrics } from "./otlp/take.ts";
import { SeriesCache } from "./SeriesCache.ts";

export interface MetricsIntakeShape {
  readonly samples: SamplesIntake;
  readonly cache: SeriesCache;
  readonly takeOtlp: TakeMetrics;
  readonly watch: MetricsWatchShape | null;
}

export class MetricsIntake extends Context.Tag("runtime/remote-write/MetricsIntake")<
  MetricsIntake,
  MetricsIntakeShape
>() {}

export const layer = (retention: Retention = {}): Layer.Layer<MetricsIntake, never, Writer> =>
  Layer.effect(
    MetricsIntake,
    Effect.gen(function* () {
      const samples = makeSamplesIntake(yield* Writer, retention);
      const watch = Option.getOrNull(yield* Effect.serviceOption(MetricsWatch));
      const cache = new SeriesCache(watch?.watcherOf);
      return MetricsIntake.of({ samples, cache, takeOtlp: makeTakeMetrics(samples, cache), watch });
    }),
  );
