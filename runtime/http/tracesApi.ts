/** The API's questions about traces, in the manner of logsApi.ts. */
import { Effect } from "effect";
import { NotFound } from "../../schemas/api.ts";
import { MAX_PAGE_ROWS, SPAN_KINDS, SPAN_STATUSES } from "../../schemas/telemetry.ts";
import { traceIdOf } from "../telemetry/ask.ts";
import { MAX_CAUSES, Traces, type SpanFilter } from "../telemetry/Traces.ts";
import {
  answered,
  attributes,
  count,
  cursorOf,
  GROUPS,
  list,
  milliseconds,
  oneOf,
  rangeOf,
  ROWS,
  short,
  stepsOf,
  time,
  TRACE_ID,
  wrong,
  type Read,
  type Text,
  type WhoseParams,
} from "./parameters.ts";

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

export const listTraces = (
  params: SpanParams & { readonly order?: Text; readonly limit?: Text; readonly cursor?: Text },
) =>
  Effect.gen(function* () {
    const traces = yield* Traces;
    const filter = yield* spanFilter(params);
    const order = (yield* oneOf("order", params.order, ["newest", "slowest"])) ?? "newest";
    const limit = yield* count("limit", params.limit, ROWS, MAX_PAGE_ROWS);
    return yield* answered(traces.list(filter, order, limit, yield* cursorOf(params.cursor)));
  });

export const oneTrace = (text: string) =>
  Effect.gen(function* () {
    const traces = yield* Traces;
    const id = traceIdOf(text);
    if (id === null) return yield* wrong("id", TRACE_ID);
    const found = yield* answered(traces.trace(id));
    return found ?? (yield* new NotFound({ message: `there is no trace ${text}` }));
  });

export const traceHeatMap = (params: SpanParams & { readonly steps?: Text }) =>
  Effect.gen(function* () {
    const traces = yield* Traces;
    return yield* answered(traces.heatMap(yield* spanFilter(params), yield* stepsOf(params.steps)));
  });

export const traceErrors = (params: SpanParams & { readonly limit?: Text }) =>
  Effect.gen(function* () {
    const traces = yield* Traces;
    const limit = yield* count("limit", params.limit, GROUPS, MAX_CAUSES);
    return yield* answered(traces.errors(yield* spanFilter(params), limit));
  });

interface EndpointParams {
  readonly from?: Text;
  readonly to?: Text;
  readonly service?: Text;
  readonly limit?: Text;
}

export const traceEndpoints = (params: EndpointParams) =>
  Effect.gen(function* () {
    const traces = yield* Traces;
    const limit = yield* count("limit", params.limit, GROUPS, MAX_CAUSES);
    const service = yield* short("service", params.service);
    if (service === null) return yield* wrong("service", "the name of a service");
    return yield* answered(traces.endpoints(yield* rangeOf(params), service, limit));
  });

interface SelectionParams {
  readonly selectedFrom?: Text;
  readonly selectedTo?: Text;
  readonly selectedMinMs?: Text;
  readonly selectedMaxMs?: Text;
  readonly selectedStatus?: Text;
}

export const traceAttributes = (params: SpanParams & SelectionParams) =>
  Effect.gen(function* () {
    const traces = yield* Traces;
    const filter = yield* spanFilter(params);
    const selection = {
      fromMs: yield* time("selectedFrom", params.selectedFrom),
      toMs: yield* time("selectedTo", params.selectedTo),
      leastMs: yield* milliseconds("selectedMinMs", params.selectedMinMs),
      mostMs: yield* milliseconds("selectedMaxMs", params.selectedMaxMs),
      status: yield* oneOf("selectedStatus", params.selectedStatus, SPAN_STATUSES),
    };
    if (Object.values(selection).every((one) => one === null))
      return yield* wrong("selectedFrom, selectedTo, selectedMinMs, selectedMaxMs, selectedStatus", "one of them");
    return yield* answered(traces.compare(filter, selection));
  });

export const spanEdges = (params: WhoseParams) =>
  Effect.gen(function* () {
    const traces = yield* Traces;
    const range = yield* rangeOf(params);
    return { edges: yield* answered(traces.edges(range, yield* list("service", params.service))) };
  });
