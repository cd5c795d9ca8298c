/**
 * The handlers of the API's routes about logs and traces: texts of the URL become questions of runtime/telemetry. Owned by
 * the HTTP server; holds nothing. A parameter that is wrong is 400 and named with what was expected, a question that asks
 * for too much is 400 and says so, a store that cannot answer is 503. Who goes away ends the query.
 */
import { HttpApiBuilder } from "@effect/platform";
import { Clock, Effect } from "effect";
import { Api, BadRequest, NotFound, Unavailable } from "../../schemas/api.ts";
import {
  MAX_PAGE_ROWS,
  MAX_SPAN_MS,
  MAX_STEPS,
  SEVERITIES,
  SPAN_KINDS,
  SPAN_STATUSES,
} from "../../schemas/telemetry.ts";
import {
  parseCursor,
  traceIdOf,
  type AttributeFilter,
  type Cursor,
  type TelemetryError,
  type TimeRange,
} from "../telemetry/ask.ts";
import { Logs, MAX_PATTERNS, type LogFilter } from "../telemetry/Logs.ts";
import { parseQueryText } from "../telemetry/queryText.ts";
import { MAX_CAUSES, Traces, type SpanFilter } from "../telemetry/Traces.ts";

const HOUR_MS = 3_600_000;
/** Times of the store's columns: up to the year 2105. */
const LATEST_MS = 4_294_967_295_000;
const MOST_MS = 1e12;
const MAX_LIST = 100;
const MAX_ATTRIBUTES = 20;
const MAX_LENGTH = 1_024;

type Text = string | undefined;
type Texts = readonly string[] | undefined;
type Read<A> = Effect.Effect<A, BadRequest>;

const wrong = (field: string, expected: string): Effect.Effect<never, BadRequest> =>
  Effect.fail(new BadRequest({ message: `${field}: expected ${expected}` }));

const numberOf = (field: string, text: Text, least: number, most: number, what: string): Read<number | null> => {
  if (text === undefined || text === "") return Effect.succeed(null);
  const value = Number(text);
  return text.trim() === "" || !(value >= least && value <= most) ? wrong(field, what) : Effect.succeed(value);
};

const time = (field: string, text: Text): Read<number | null> =>
  numberOf(field, text, 0, LATEST_MS, "milliseconds since the epoch");
const milliseconds = (field: string, text: Text): Read<number | null> =>
  numberOf(field, text, 0, MOST_MS, "a number of milliseconds");
const count = (field: string, text: Text, byDefault: number, most: number): Read<number> =>
  Effect.flatMap(numberOf(field, text, 1, most, `a whole number from 1 to ${most}`), (value) =>
    value === null
      ? Effect.succeed(byDefault)
      : Number.isInteger(value)
        ? Effect.succeed(value)
        : wrong(field, `a whole number from 1 to ${most}`),
  );

const oneOf = <const Name extends string>(field: string, text: Text, names: readonly Name[]): Read<Name | null> => {
  if (text === undefined || text === "") return Effect.succeed(null);
  const found = names.find((name) => name === text);
  return found === undefined ? wrong(field, `one of ${names.join(", ")}`) : Effect.succeed(found);
};

const short = (field: string, text: Text): Read<string | null> =>
  text === undefined || text === ""
    ? Effect.succeed(null)
    : text.length > MAX_LENGTH
      ? wrong(field, `at most ${MAX_LENGTH} characters`)
      : Effect.succeed(text);

const list = (field: string, all: Texts = []): Read<readonly string[]> =>
  all.length > MAX_LIST || all.some((text) => text.length > MAX_LENGTH)
    ? wrong(field, `at most ${MAX_LIST} values of at most ${MAX_LENGTH} characters`)
    : Effect.succeed(all.filter((text) => text !== ""));

const attributes = (all: Texts = []): Read<readonly AttributeFilter[]> => {
  if (all.length > MAX_ATTRIBUTES) return wrong("attr", `at most ${MAX_ATTRIBUTES} of it`);
  return Effect.forEach(all, (text) => {
    const [, key, operator, value] = /^([^=]*?)(!?=)(.*)$/s.exec(text) ?? [];
    if (key === undefined || key === "" || value === undefined || text.length > MAX_LENGTH)
      return wrong("attr", `key=value or key!=value of at most ${MAX_LENGTH} characters`);
    return Effect.succeed({ key, value, not: operator === "!=" });
  });
};

const rangeOf = (params: { readonly from?: Text; readonly to?: Text }): Read<TimeRange> =>
  Effect.gen(function* () {
    const toMs = (yield* time("to", params.to)) ?? (yield* Clock.currentTimeMillis);
    const fromMs = (yield* time("from", params.from)) ?? Math.max(0, toMs - HOUR_MS);
    if (fromMs >= toMs) return yield* wrong("from, to", "from before to");
    if (toMs - fromMs > MAX_SPAN_MS) return yield* wrong("from, to", `at most ${MAX_SPAN_MS / 86_400_000} days`);
    return { fromMs, toMs };
  });

const cursorOf = (text: Text): Read<Cursor | null> => {
  if (text === undefined || text === "") return Effect.succeed(null);
  const found = parseCursor(text);
  return found === null ? wrong("cursor", "the next of a page") : Effect.succeed(found);
};

interface WhoseParams {
  readonly from?: Text;
  readonly to?: Text;
  readonly service?: Texts;
  readonly attr?: Texts;
}

interface LogParams extends WhoseParams {
  readonly severity?: Text;
  readonly q?: Text;
  readonly traceId?: Text;
  readonly pattern?: Text;
}

const LEAST_SEVERITIES = SEVERITIES.filter((name) => name !== "unknown");
const MOST_PATTERN = 2n ** 64n;

const logFilter = (params: LogParams): Read<LogFilter> =>
  Effect.gen(function* () {
    const range = yield* rangeOf(params);
    const services = yield* list("service", params.service);
    const least = yield* oneOf("severity", params.severity, LEAST_SEVERITIES);
    const text = parseQueryText(params.q ?? "");
    if (typeof text === "string") return yield* new BadRequest({ message: `q: ${text}` });
    const traceId = params.traceId === undefined || params.traceId === "" ? null : traceIdOf(params.traceId);
    if (traceId === null && (params.traceId ?? "") !== "") return yield* wrong("traceId", TRACE_ID);
    const pattern = yield* short("pattern", params.pattern);
    if (pattern !== null && !(/^\d{1,20}$/.test(pattern) && BigInt(pattern) < MOST_PATTERN))
      return yield* wrong("pattern", "the number of a pattern");
    return {
      ...range,
      services,
      // the first of the class's four numbers
      severity: least === null ? 0 : (SEVERITIES.indexOf(least) - 1) * 4 + 1,
      text,
      attributes: yield* attributes(params.attr),
      traceId,
      pattern: pattern === null ? null : String(BigInt(pattern)),
    };
  });

interface SpanParams extends WhoseParams {
  readonly name?: Text;
  readonly kind?: Text;
  readonly status?: Text;
  readonly minMs?: Text;
  readonly maxMs?: Text;
  readonly roots?: Text;
}

const spanFilter = (params: SpanParams): Read<SpanFilter> =>
  Effect.gen(function* () {
    const range = yield* rangeOf(params);
    return {
      ...range,
      services: yield* list("service", params.service),
      name: yield* short("name", params.name),
      kind: yield* oneOf("kind", params.kind, SPAN_KINDS),
      status: yield* oneOf("status", params.status, SPAN_STATUSES),
      leastMs: yield* milliseconds("minMs", params.minMs),
      mostMs: yield* milliseconds("maxMs", params.maxMs),
      attributes: yield* attributes(params.attr),
      roots: (yield* oneOf("roots", params.roots, ["true", "false"])) === "true",
    };
  });

const TRACE_ID = "32 or 16 hex digits, not all of them 0";
const STEPS = 60;
const ROWS = 100;
const GROUPS = 50;

const answered = <A>(question: Effect.Effect<A, TelemetryError>): Effect.Effect<A, BadRequest | Unavailable> =>
  Effect.mapError(question, ({ kind, reason }) =>
    kind === "unavailable" ? new Unavailable({ message: reason }) : new BadRequest({ message: reason }),
  );

const steps = (text: Text): Read<number> => count("steps", text, STEPS, MAX_STEPS);

export const TelemetryGroupLive = HttpApiBuilder.group(Api, "telemetry", (handlers) =>
  Effect.gen(function* () {
    const logs = yield* Logs;
    const traces = yield* Traces;
    return handlers
      .handle("logs", ({ urlParams }) =>
        Effect.gen(function* () {
          const filter = yield* logFilter(urlParams);
          const limit = yield* count("limit", urlParams.limit, ROWS, MAX_PAGE_ROWS);
          return yield* answered(logs.search(filter, limit, yield* cursorOf(urlParams.cursor)));
        }),
      )
      .handle("logFacets", ({ urlParams }) =>
        Effect.flatMap(logFilter(urlParams), (filter) => answered(logs.facets(filter))),
      )
      .handle("logHistogram", ({ urlParams }) =>
        Effect.gen(function* () {
          return yield* answered(logs.histogram(yield* logFilter(urlParams), yield* steps(urlParams.steps)));
        }),
      )
      .handle("logPatterns", ({ urlParams }) =>
        Effect.gen(function* () {
          const limit = yield* count("limit", urlParams.limit, GROUPS, MAX_PATTERNS);
          const trend = yield* steps(urlParams.steps);
          return yield* answered(logs.patterns(yield* logFilter(urlParams), trend, limit));
        }),
      )
      .handle("traces", ({ urlParams }) =>
        Effect.gen(function* () {
          const filter = yield* spanFilter(urlParams);
          const order = (yield* oneOf("order", urlParams.order, ["newest", "slowest"])) ?? "newest";
          const limit = yield* count("limit", urlParams.limit, ROWS, MAX_PAGE_ROWS);
          return yield* answered(traces.list(filter, order, limit, yield* cursorOf(urlParams.cursor)));
        }),
      )
      .handle("trace", ({ path }) =>
        Effect.gen(function* () {
          const id = traceIdOf(path.id);
          if (id === null) return yield* wrong("id", TRACE_ID);
          const found = yield* answered(traces.trace(id));
          return found ?? (yield* new NotFound({ message: `there is no trace ${path.id}` }));
        }),
      )
      .handle("traceHeatmap", ({ urlParams }) =>
        Effect.gen(function* () {
          return yield* answered(traces.heatMap(yield* spanFilter(urlParams), yield* steps(urlParams.steps)));
        }),
      )
      .handle("traceErrors", ({ urlParams }) =>
        Effect.gen(function* () {
          const limit = yield* count("limit", urlParams.limit, GROUPS, MAX_CAUSES);
          return yield* answered(traces.errors(yield* spanFilter(urlParams), limit));
        }),
      )
      .handle("traceAttributes", ({ urlParams }) =>
        Effect.gen(function* () {
          const filter = yield* spanFilter(urlParams);
          const selection = {
            fromMs: yield* time("selectedFrom", urlParams.selectedFrom),
            toMs: yield* time("selectedTo", urlParams.selectedTo),
            leastMs: yield* milliseconds("selectedMinMs", urlParams.selectedMinMs),
            mostMs: yield* milliseconds("selectedMaxMs", urlParams.selectedMaxMs),
            status: yield* oneOf("selectedStatus", urlParams.selectedStatus, SPAN_STATUSES),
          };
          if (Object.values(selection).every((one) => one === null))
            return yield* wrong(
              "selectedFrom, selectedTo, selectedMinMs, selectedMaxMs, selectedStatus",
              "one of them",
            );
          return yield* answered(traces.compare(filter, selection));
        }),
      )
      .handle("spanEdges", ({ urlParams }) =>
        Effect.gen(function* () {
          const range = yield* rangeOf(urlParams);
          const services = yield* list("service", urlParams.service);
          return { edges: yield* answered(traces.edges(range, services)) };
        }),
      );
  }),
);
