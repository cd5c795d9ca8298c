/**
 * The API's questions about logs: parameters in, an answer of runtime/telemetry out. A wrong parameter is 400 and named, a
 * question that asks for too much 400, a store that cannot answer 503. Who goes away ends the query.
 */
import { Effect } from "effect";
import { BadRequest } from "../../schemas/api.ts";
import { MAX_PAGE_ROWS, SEVERITIES } from "../../schemas/telemetry.ts";
import { traceIdOf } from "../telemetry/ask.ts";
import { Logs, MAX_PATTERNS, type LogFilter } from "../telemetry/Logs.ts";
import { parseQueryText } from "../telemetry/queryText.ts";
import {
  answered,
  attributes,
  count,
  cursorOf,
  GROUPS,
  list,
  oneOf,
  rangeOf,
  ROWS,
  short,
  stepsOf,
  TRACE_ID,
  wrong,
  type Read,
  type Text,
  type WhoseParams,
} from "./parameters.ts";

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

export const searchLogs = (params: LogParams & { readonly limit?: Text; readonly cursor?: Text }) =>
  Effect.gen(function* () {
    const logs = yield* Logs;
    const filter = yield* logFilter(params);
    const limit = yield* count("limit", params.limit, ROWS, MAX_PAGE_ROWS);
    return yield* answered(logs.search(filter, limit, yield* cursorOf(params.cursor)));
  });

export const logFacets = (params: LogParams) =>
  Effect.gen(function* () {
    const logs = yield* Logs;
    return yield* answered(logs.facets(yield* logFilter(params)));
  });

export const logHistogram = (params: LogParams & { readonly steps?: Text }) =>
  Effect.gen(function* () {
    const logs = yield* Logs;
    return yield* answered(logs.histogram(yield* logFilter(params), yield* stepsOf(params.steps)));
  });

export const logPatterns = (params: LogParams & { readonly steps?: Text; readonly limit?: Text }) =>
  Effect.gen(function* () {
    const logs = yield* Logs;
    const limit = yield* count("limit", params.limit, GROUPS, MAX_PATTERNS);
    return yield* answered(logs.patterns(yield* logFilter(params), yield* stepsOf(params.steps), limit));
  });
