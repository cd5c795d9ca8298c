/**
 * One OTLP metrics request, whatever way it came: read, translated, and answered when its samples are on disk. Holds the
 * cache of series, for the server's life. A request that cannot be read is refused whole; points that cannot be kept are
 * rejected singly and told in the outcome. Nothing to stop.
 */
import { Effect, Metric } from "effect";
import { Unreadable, type Behind, type SamplesIntake } from "../Intake.ts";
import type { SeriesCache } from "../SeriesCache.ts";
import { outcomeOf, type Outcome } from "./answers.ts";
import { readJson } from "./json.ts";
import { readProtobuf } from "./protobuf.ts";
import { Translator } from "./Translator.ts";

export type TakeMetrics = (
  body: Buffer,
  encoding: "protobuf" | "json",
) => Effect.Effect<Outcome & { readonly samples: number }, Behind | Unreadable>;

/** JSON is parsed in one go, and its objects take many times its bytes. */
const MAX_JSON_BYTES = 4 * 1024 * 1024;

const rejectedTotal = Metric.counter("coroot_otlp_metric_points_rejected_total", {
  description: "data points of OTLP's metrics that were refused singly",
  incremental: true,
});

export const makeTakeMetrics =
  (intake: SamplesIntake, cache: SeriesCache): TakeMetrics =>
  (body, encoding) =>
    Effect.gen(function* () {
      if (encoding === "json" && body.length > MAX_JSON_BYTES)
        return yield* new Unreadable({
          reason: "too large",
          message: `the body is larger than the ${MAX_JSON_BYTES} bytes that JSON may have`,
        });
      yield* intake.ready;
      const rejected = new Map<string, number>();
      const columns = yield* intake.read(function* (out) {
        const translator = new Translator(out, cache);
        yield* encoding === "json" ? readJson(body, translator) : readProtobuf(body, translator);
        for (const [reason, count] of translator.rejected) rejected.set(reason, count);
      });
      yield* intake.write(body, columns);
      const outcome = outcomeOf(rejected);
      yield* Metric.incrementBy(rejectedTotal, outcome.rejected);
      return { ...outcome, samples: columns.rows };
    });
