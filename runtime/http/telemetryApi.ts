/**
 * The handlers of the telemetry routes in schemas/api.ts. Owned by the HTTP server; hold nothing. A wrong parameter is 400
 * and names it, a question that is too large 400 with its limit; a store that does not answer is 503.
 */
import { HttpApiBuilder } from "@effect/platform";
import { Effect } from "effect";
import { Api, BadRequest, MAX_FLAME_MS, Unavailable } from "../../schemas/api.ts";
import { logFacets, logHistogram, logPatterns, searchLogs } from "./logsApi.ts";
import {
  listTraces,
  oneTrace,
  spanEdges,
  traceAttributes,
  traceEndpoints,
  traceErrors,
  traceHeatMap,
} from "./tracesApi.ts";
import { Profiles, type FlameRequest, type ProfilesError, type TimeRange } from "../telemetry/Profiles.ts";

const answered = <A>(question: Effect.Effect<A, ProfilesError>): Effect.Effect<A, BadRequest | Unavailable> =>
  Effect.mapError(question, ({ kind, message }) =>
    kind === "limit" ? new BadRequest({ message }) : new Unavailable({ message }),
  );

const bad = (message: string) => new BadRequest({ message });

const MAX_NAME = 1024;
const named = (field: string, value: string): Effect.Effect<string, BadRequest> =>
  value.length > 0 && value.length <= MAX_NAME
    ? Effect.succeed(value)
    : Effect.fail(bad(`${field}: expected 1 to ${MAX_NAME} characters`));

const isTime = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;

const rangeOf = (names: readonly [string, string], from: number, to: number): Effect.Effect<TimeRange, BadRequest> => {
  const [first, second] = names;
  if (!isTime(from)) return Effect.fail(bad(`${first}: expected milliseconds since the epoch`));
  if (!isTime(to)) return Effect.fail(bad(`${second}: expected milliseconds since the epoch`));
  if (to <= from) return Effect.fail(bad(`${second}: expected a time after ${first}`));
  if (to - from > MAX_FLAME_MS)
    return Effect.fail(bad(`${first}, ${second}: expected at most ${MAX_FLAME_MS / 86_400_000} days`));
  return Effect.succeed({ from, to });
};

const baseOf = (
  from: number | undefined,
  to: number | undefined,
): Effect.Effect<Pick<FlameRequest, "base">, BadRequest> => {
  if (from === undefined && to === undefined) return Effect.succeed({});
  if (from === undefined) return Effect.fail(bad("base_from: expected with base_to"));
  if (to === undefined) return Effect.fail(bad("base_to: expected with base_from"));
  return Effect.map(rangeOf(["base_from", "base_to"], from, to), (base) => ({ base }));
};

export const TelemetryGroupLive = HttpApiBuilder.group(Api, "telemetry", (handlers) =>
  handlers
    .handle("logs", ({ urlParams }) => searchLogs(urlParams))
    .handle("logFacets", ({ urlParams }) => logFacets(urlParams))
    .handle("logHistogram", ({ urlParams }) => logHistogram(urlParams))
    .handle("logPatterns", ({ urlParams }) => logPatterns(urlParams))
    .handle("traces", ({ urlParams }) => listTraces(urlParams))
    .handle("trace", ({ path }) => oneTrace(path.id))
    .handle("traceHeatmap", ({ urlParams }) => traceHeatMap(urlParams))
    .handle("traceErrors", ({ urlParams }) => traceErrors(urlParams))
    .handle("traceEndpoints", ({ urlParams }) => traceEndpoints(urlParams))
    .handle("traceAttributes", ({ urlParams }) => traceAttributes(urlParams))
    .handle("spanEdges", ({ urlParams }) => spanEdges(urlParams))
    .handle("profileTypes", ({ urlParams }) =>
      Effect.gen(function* () {
        const service = yield* named("service", urlParams.service);
        return { service, types: yield* answered((yield* Profiles).types(service)) };
      }),
    )
    .handle("flame", ({ urlParams }) =>
      Effect.gen(function* () {
        const service = yield* named("service", urlParams.service);
        const type = yield* named("type", urlParams.type);
        const range = yield* rangeOf(["from", "to"], urlParams.from, urlParams.to);
        const base = yield* baseOf(urlParams.base_from, urlParams.base_to);
        const { pod, host } = urlParams;
        const filters = {
          ...(pod === undefined ? {} : { pod: yield* named("pod", pod) }),
          ...(host === undefined ? {} : { host: yield* named("host", host) }),
        };
        return yield* answered((yield* Profiles).flame({ service, type, ...range, ...base, ...filters }));
      }),
    ),
);
