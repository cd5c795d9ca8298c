/**
 * The handlers of schemas/api.ts: each answers one topic as it is now, history comes from the store. Owned by the HTTP
 * server; holds nothing. What is unknown is 404, what cannot be read now is 503, both with a sentence.
 */
import { HttpApiBuilder } from "@effect/platform";
import { Clock, Effect, Metric } from "effect";
import { Api, BadRequest, Forbidden, MAX_HISTORY_MS, NotFound, Unavailable } from "../../schemas/api.ts";
import type { TopicAnswer } from "../../schemas/api.ts";
import { makeRefusals, type Refusals } from "./Refusals.ts";
import { CommandsPort, entriesOf, HistoryPort, QueryPort, Topics, type CommandError, type Verdict } from "./Topics.ts";

const refusedTotal = Metric.counter("coroot_admin_refused_total", {
  description: "requests for an operator's hand without the admin key",
  incremental: true,
});
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

const mapAt = (at: number | undefined) =>
  at === undefined
    ? always("map")
    : Number.isSafeInteger(at) && at > 0
      ? always(`map:${at}`)
      : Effect.fail(new BadRequest({ message: "at: expected milliseconds since the epoch" }));

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
    .handle("map", ({ urlParams: { at } }) => mapAt(at))
    .handle("incidents", () => always("incidents"))
    .handle("incident", ({ path }) => one(`incident:${path.id}`, `incident ${path.id}`))
    .handle("agents", () => always("agents"))
    .handle("actors", () => always("console"))
    .handle("deadLetters", () => always("dead-letters"))
    .handle("trace", ({ urlParams }) => always(`trace:${urlParams.id}`))
    .handle("actor", ({ urlParams }) => one(`actor:${urlParams.path}`, `actor ${urlParams.path}`))
    .handle("history", ({ urlParams }) => history(urlParams.service, urlParams.from, urlParams.to)),
);

/** Who asks, as long as there are no accounts. */
const OPERATOR = "operator";
const done = { done: true } as const;

const unavailable = Effect.mapError((error: CommandError) => new Unavailable({ message: error.message }));

const verdict = (effect: Effect.Effect<Verdict, CommandError>) =>
  effect.pipe(
    unavailable,
    Effect.flatMap((wrong) => (wrong === null ? Effect.succeed(done) : new NotFound({ message: wrong }))),
  );

export const IncidentGroupLive = HttpApiBuilder.group(Api, "decide", (handlers) =>
  handlers
    .handle("acknowledge", ({ path, payload }) =>
      Effect.flatMap(CommandsPort, (port) => verdict(port.acknowledge(path.id, payload.note, OPERATOR))),
    )
    .handle("unacknowledge", ({ path }) => Effect.flatMap(CommandsPort, (port) => verdict(port.unacknowledge(path.id))))
    .handle("silences", () => always("silences"))
    .handle("silence", ({ payload: { match, minutes, reason } }) =>
      Effect.flatMap(CommandsPort, (port) => unavailable(port.silence(match, minutes, reason, OPERATOR))),
    )
    .handle("unsilence", ({ path }) => Effect.flatMap(CommandsPort, (port) => verdict(port.unsilence(path.id)))),
);

export const QueryGroupLive = HttpApiBuilder.group(Api, "query", (handlers) =>
  handlers.handle("query", ({ payload: { params, rows, sql } }) =>
    Effect.flatMap(QueryPort, (port) =>
      Effect.mapError(port.query(sql, params, rows), ({ message, refused }) =>
        refused ? new BadRequest({ message }) : new Unavailable({ message }),
      ),
    ),
  ),
);

const NO_KEY = "authorization: expected Bearer and the admin key, which is in admin.key in the server's data directory";

/** First the right, then the log, then the deed: what cannot be audited is not done. */
const makeAsAdmin =
  (refusals: Refusals) =>
  <A, E>(
    authorization: string | undefined,
    action: string,
    target: string,
    deed: (port: CommandsPort) => Effect.Effect<A, E>,
  ) =>
    Effect.gen(function* () {
      const port = yield* CommandsPort;
      const key = /^Bearer (\S+)$/.exec(authorization ?? "")?.[1];
      if (key === undefined || !port.isAdmin(key)) {
        refusedTotal.unsafeUpdate(1, []);
        const untold = refusals.take(yield* Clock.currentTimeMillis);
        if (untold !== null) {
          const more = untold === 0 ? "" : `; ${untold} more before it are not in this log`;
          // nothing was done, so the answer does not depend on the log
          yield* port.audit
            .add("unknown", action, target, `refused: no admin key${more}`)
            .pipe(Effect.catchAll((error) => Effect.logWarning(`a refusal was not audited: ${error.message}`)));
        }
        return yield* new Forbidden({ message: NO_KEY });
      }
      yield* unavailable(port.audit.add("admin", action, target, "allowed"));
      return yield* deed(port);
    });

const nobody = (path: string) => new NotFound({ message: `there is no actor ${path}` });

export const AdminGroupLive = HttpApiBuilder.group(Api, "admin", (handlers) => {
  const asAdmin = makeAsAdmin(makeRefusals());
  return handlers
    .handle("act", ({ headers, payload: { action, path } }) =>
      asAdmin(headers.authorization, action, path, (port) =>
        Effect.flatMap(port.act(action, path), (node) => (node === null ? nobody(path) : Effect.succeed({ node }))),
      ),
    )
    .handle("dump", ({ headers, urlParams: { path } }) =>
      asAdmin(headers.authorization, "dump", path, (port) =>
        Effect.flatMap(port.dump(path), (dump) => (dump === null ? nobody(path) : Effect.succeed(dump))),
      ),
    )
    .handle("audit", ({ headers }) =>
      asAdmin(headers.authorization, "read the audit log", "", (port) => unavailable(port.audit.recent)),
    );
});
