/**
 * The handlers of schemas/api.ts: each answers one topic as it is now, history comes from the store. Owned by the HTTP
 * server; holds nothing. What is unknown is 404, what cannot be read now is 503, both with a sentence.
 */
import { HttpApiBuilder } from "@effect/platform";
import { Clock, Effect } from "effect";
import { Api, BadRequest, MAX_HISTORY_MS, NotFound, Unavailable } from "../../schemas/api.ts";
import type { TopicAnswer } from "../../schemas/api.ts";
import { entriesOf, HistoryPort, Topics } from "./Topics.ts";

const READ_WITHIN = "3 seconds";

/** Null when there is no such topic. */
const read = (name: string): Effect.Effect<TopicAnswer | null, Unavailable, Topics> =>
  Effect.gen(function* () {
    const topics = yield* Topics;
    const entries = yield* topics.read(name).pipe(
      Effect.timeoutFail({
        duration: READ_WITHIN,
        onTimeout: () => new Unavailable({ message: `${name} did not answer within ${READ_WITHIN}` }),
      }),
    );
    if (entries === null) return null;
    const nowMs = yield* Clock.currentTimeMillis;
    return { topic: name, nowMs, entries: Object.fromEntries(entriesOf(entries)) };
  });

const always = (name: string) =>
  Effect.filterOrFail(
    read(name),
    (answer) => answer !== null,
    () => new Unavailable({ message: `${name} is not there yet` }),
  );
const one = (name: string, what: string) =>
  Effect.filterOrFail(
    read(name),
    (answer) => answer !== null,
    () => new NotFound({ message: `there is no ${what}` }),
  );

const history = (service: string, from: number, to: number) =>
  Effect.gen(function* () {
    const port = yield* HistoryPort;
    if (!(Number.isFinite(from) && Number.isFinite(to) && from >= 0 && to > from))
      return yield* new BadRequest({ message: "from, to: expected milliseconds since the epoch, from before to" });
    if (to - from > MAX_HISTORY_MS)
      return yield* new BadRequest({ message: `from, to: expected at most ${MAX_HISTORY_MS / 86_400_000} days` });
    const rows = yield* port.sliPoints(service, from, to).pipe(
      Effect.mapError((error) => new Unavailable({ message: error.message })),
      Effect.timeoutFail({
        duration: "10 seconds",
        onTimeout: () => new Unavailable({ message: "the store did not answer within 10 seconds" }),
      }),
    );
    return { service, from, to, points: rows };
  });

export const ReadGroupLive = HttpApiBuilder.group(Api, "read", (handlers) =>
  handlers
    .handle("overview", () => always("overview"))
    .handle("services", () => always("services"))
    .handle("service", ({ urlParams }) => one(`service:${urlParams.id}`, `service ${urlParams.id}`))
    .handle("map", () => always("map"))
    .handle("incidents", () => always("incidents"))
    .handle("incident", ({ path }) => one(`incident:${path.id}`, `incident ${path.id}`))
    .handle("agents", () => always("agents"))
    .handle("actors", () => always("console"))
    .handle("actor", ({ urlParams }) => one(`actor:${urlParams.path}`, `actor ${urlParams.path}`))
    .handle("history", ({ urlParams }) => history(urlParams.service, urlParams.from, urlParams.to)),
);
