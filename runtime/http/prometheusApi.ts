/**
 * Prometheus' HTTP API (`/api/v1/query`, `query_range`, `series`, `labels`, `label/<name>/values`, `metadata`) over
 * MetricsQuery, for Grafana and whatever else speaks it. Owned by the HTTP server, which has checked Host and Origin; holds
 * nothing between requests. What cannot be answered is said in Prometheus' form. A reader that goes away ends its query.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Clock, Effect, Metric } from "effect";
import type { Labels } from "../promql/labels.ts";
import { duration } from "../promql/literals.ts";
import type {
  Found,
  InstantAnswer,
  ListRequest,
  Metadata,
  MetricsQueryShape,
  SeriesValues,
} from "../promql/MetricsQuery.ts";
import { valueText } from "../promql/numbers.ts";
import { LIMITS, QueryError } from "../promql/QueryError.ts";

export const PROMETHEUS_PREFIX = "/api/v1/";

const MAX_FORM_BYTES = 1024 * 1024;
/** Points of an answer that are written in one piece. */
const PIECE = 2_000;

const failedTotal = Metric.counter("coroot_promql_failed_total", {
  description: "queries of the Prometheus API without an answer, by kind",
  incremental: true,
});

const STATUS: Readonly<Record<QueryError["kind"], number>> = {
  bad_data: 400,
  execution: 422,
  timeout: 503,
  unavailable: 503,
  internal: 500,
};

type Pieces = Iterable<string>;

const bad = (reason: string): QueryError => new QueryError({ kind: "bad_data", reason });

/** Unix seconds or RFC 3339, in ms; null when absent. */
const timeOf = (name: string, text: string | null): Effect.Effect<number | null, QueryError> => {
  if (text === null || text === "") return Effect.succeed(null);
  const ms = /^[+-]?[\d.]+(e[+-]?\d+)?$/i.test(text) ? Number(text) * 1000 : Date.parse(text);
  return Number.isFinite(ms)
    ? Effect.succeed(Math.round(ms))
    : Effect.fail(
        bad(`invalid parameter ${JSON.stringify(name)}: cannot parse ${JSON.stringify(text)} to a valid timestamp`),
      );
};

/** Seconds or `1h30m`, in ms; null when absent. */
const durationOf = (name: string, text: string | null): Effect.Effect<number | null, QueryError> => {
  if (text === null || text === "") return Effect.succeed(null);
  const ms = /^[\d.]+(e[+-]?\d+)?$/i.test(text) ? Number(text) * 1000 : duration(text);
  return ms !== null && Number.isFinite(ms)
    ? Effect.succeed(Math.round(ms))
    : Effect.fail(
        bad(`invalid parameter ${JSON.stringify(name)}: cannot parse ${JSON.stringify(text)} to a valid duration`),
      );
};

const required = <A>(name: string, value: A | null): Effect.Effect<A, QueryError> =>
  value === null ? Effect.fail(bad(`invalid parameter ${JSON.stringify(name)}: it is missing`)) : Effect.succeed(value);

/** In the order of their names, as Prometheus writes them. */
const labelsJson = (labels: Labels): string =>
  `{${[...labels]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`)
    .join(",")}}`;

const pointJson = (atMs: number, value: number): string => `[${atMs / 1000},"${valueText(value)}"]`;

const joined = function* (items: Iterable<Pieces>): Pieces {
  let first = true;
  for (const item of items) {
    if (!first) yield ",";
    first = false;
    yield* item;
  }
};

const seriesJson = function* ({ labels, times, values }: SeriesValues): Pieces {
  yield `{"metric":${labelsJson(labels)},"values":[`;
  for (let at = 0; at < times.length; at += PIECE) {
    const points = Array.from(times.subarray(at, at + PIECE), (time, i) => pointJson(time, values[at + i] ?? 0));
    yield `${at === 0 ? "" : ","}${points.join(",")}`;
  }
  yield "]}";
};

const notesJson = (name: "warnings" | "infos", all: readonly string[]): string =>
  all.length === 0 ? "" : `,"${name}":${JSON.stringify(all)}`;

/** What follows the data. */
const endJson = ({ warnings, infos }: Found<unknown>): string =>
  `${notesJson("warnings", warnings)}${notesJson("infos", infos)}}\n`;

const resultJson = function* (type: string, items: Iterable<Pieces>, found: Found<unknown>): Pieces {
  yield `{"status":"success","data":{"resultType":"${type}","result":[`;
  yield* joined(items);
  yield `]}${endJson(found)}`;
};

const listJson = function* <A>(found: Found<readonly A[]>, text: (item: A) => string): Pieces {
  yield '{"status":"success","data":[';
  yield* joined(mapIterable(found.value, (item) => [text(item)]));
  yield `]${endJson(found)}`;
};

const mapIterable = function* <A, B>(items: Iterable<A>, change: (item: A) => B): Iterable<B> {
  for (const item of items) yield change(item);
};

const instantJson = (found: Found<InstantAnswer>): Pieces => {
  const answer = found.value;
  switch (answer.type) {
    case "scalar":
    case "string": {
      const text = answer.type === "scalar" ? valueText(answer.value) : answer.text;
      return resultJson(answer.type, [[`${answer.atMs / 1000}`], [JSON.stringify(text)]], found);
    }
    case "vector":
      return resultJson(
        "vector",
        mapIterable(answer.samples, ({ labels, value }) => [
          `{"metric":${labelsJson(labels)},"value":${pointJson(answer.atMs, value)}}`,
        ]),
        found,
      );
    case "matrix":
      return resultJson("matrix", mapIterable(answer.series, seriesJson), found);
  }
};

/** A metric may be described in several ways, by whoever exposes it. */
const metadataJson = function* (found: Found<readonly Metadata[]>): Pieces {
  const byMetric = new Map<string, string[]>();
  for (const { metric, type, help, unit } of found.value) {
    const known = byMetric.get(metric) ?? [];
    known.push(JSON.stringify({ type, help, unit }));
    byMetric.set(metric, known);
  }
  yield '{"status":"success","data":{';
  yield* joined(mapIterable(byMetric, ([metric, all]) => [`${JSON.stringify(metric)}:[${all.join(",")}]`]));
  yield `}${endJson(found)}`;
};

/** Form and URL together, as Prometheus takes them. */
const parametersOf = (request: IncomingMessage): Effect.Effect<URLSearchParams, QueryError> =>
  Effect.tryPromise({
    try: async () => {
      const url = new URL(request.url ?? "/", "http://localhost");
      if (request.method !== "POST") return url.searchParams;
      const chunks: Buffer[] = [];
      let bytes = 0;
      for await (const chunk of request as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        if (bytes > MAX_FORM_BYTES) throw bad(`the form is larger than ${MAX_FORM_BYTES} bytes`);
        chunks.push(chunk);
      }
      const all = new URLSearchParams(Buffer.concat(chunks).toString("utf8"));
      for (const [name, value] of url.searchParams) all.append(name, value);
      return all;
    },
    catch: (error) => (error instanceof QueryError ? error : bad(`the form cannot be read: ${String(error)}`)),
  });

type Handler = (metrics: MetricsQueryShape, parameters: URLSearchParams) => Effect.Effect<Pieces, QueryError>;

const listRequest = (parameters: URLSearchParams): Effect.Effect<ListRequest, QueryError> =>
  Effect.gen(function* () {
    const startMs = (yield* timeOf("start", parameters.get("start"))) ?? 0;
    const endMs = (yield* timeOf("end", parameters.get("end"))) ?? (yield* Clock.currentTimeMillis);
    if (endMs < startMs) return yield* bad("end timestamp must not be before start time");
    const limit = Number(parameters.get("limit") ?? 0);
    if (!Number.isInteger(limit) || limit < 0) return yield* bad('invalid parameter "limit": it must be a number');
    return { selectors: parameters.getAll("match[]"), startMs, endMs, limit };
  });

const query: Handler = (metrics, parameters) =>
  Effect.gen(function* () {
    const at = (yield* timeOf("time", parameters.get("time"))) ?? (yield* Clock.currentTimeMillis);
    const text = yield* required("query", parameters.get("query"));
    return instantJson(yield* metrics.instant(text, at));
  });

const queryRange: Handler = (metrics, parameters) =>
  Effect.gen(function* () {
    const start = yield* Effect.flatMap(timeOf("start", parameters.get("start")), (at) => required("start", at));
    const end = yield* Effect.flatMap(timeOf("end", parameters.get("end")), (at) => required("end", at));
    const step = yield* Effect.flatMap(durationOf("step", parameters.get("step")), (ms) => required("step", ms));
    const text = yield* required("query", parameters.get("query"));
    if (step <= 0)
      return yield* bad('invalid parameter "step": zero or negative query resolution step widths are not accepted');
    const found = yield* metrics.range(text, start, end, step);
    return resultJson("matrix", mapIterable(found.value, seriesJson), found);
  });

const series: Handler = (metrics, parameters) =>
  Effect.gen(function* () {
    return listJson(yield* metrics.series(yield* listRequest(parameters)), labelsJson);
  });

const labels: Handler = (metrics, parameters) =>
  Effect.gen(function* () {
    return listJson(yield* metrics.labels(yield* listRequest(parameters)), JSON.stringify);
  });

const labelValues =
  (name: string): Handler =>
  (metrics, parameters) =>
    Effect.gen(function* () {
      return listJson(yield* metrics.labelValues(name, yield* listRequest(parameters)), JSON.stringify);
    });

const metadata: Handler = (metrics, parameters) =>
  Effect.gen(function* () {
    const limit = Number(parameters.get("limit") ?? 0);
    if (!Number.isInteger(limit)) return yield* bad('invalid parameter "limit": it must be a number');
    return metadataJson(yield* metrics.metadata(parameters.get("metric"), Math.max(0, limit)));
  });

const BY_FORM: Readonly<Record<string, Handler>> = { query, query_range: queryRange, series, labels };

interface Route {
  readonly handler: Handler;
  readonly methods: readonly string[];
}

const routeOf = (path: string): Route | null => {
  const name = path.slice(PROMETHEUS_PREFIX.length);
  const byForm = Object.hasOwn(BY_FORM, name) ? BY_FORM[name] : undefined;
  if (byForm !== undefined) return { handler: byForm, methods: ["GET", "POST"] };
  if (name === "metadata") return { handler: metadata, methods: ["GET"] };
  const label = /^label\/([^/]+)\/values$/.exec(name)?.[1];
  if (label === undefined) return null;
  try {
    return { handler: labelValues(decodeURIComponent(label)), methods: ["GET"] };
  } catch {
    return null; // a broken escape names no label
  }
};

const late = (ms: number): QueryError =>
  new QueryError({ kind: "timeout", reason: `the query did not end within the ${ms / 1000} s that it was given` });

const HEADERS = { "content-type": "application/json", "cache-control": "no-store" };

const refuse = (response: ServerResponse, status: number, errorType: string, error: string): void => {
  response.writeHead(status, HEADERS);
  response.end(`${JSON.stringify({ status: "error", errorType, error })}\n`);
};

/** Completes when the reader has closed the connection. */
const gone = (response: ServerResponse): Effect.Effect<void> =>
  Effect.async<void>((resume) => {
    const closed = (): void => resume(Effect.void);
    response.once("close", closed);
    return Effect.sync(() => void response.off("close", closed));
  });

const send = (response: ServerResponse, pieces: Pieces): Effect.Effect<void> =>
  Effect.promise(async () => {
    response.writeHead(200, HEADERS);
    await pipeline(Readable.from(pieces), response);
  });

/** Answers a request below the prefix. */
export const answerPrometheus = (
  metrics: MetricsQueryShape,
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
): Effect.Effect<void> => {
  const route = routeOf(path);
  if (route === null)
    return Effect.sync(() => refuse(response, 404, "not_found", `there is no ${path.slice(0, 200)} here`));
  const { handler, methods } = route;
  if (!methods.includes(request.method ?? ""))
    return Effect.sync(() => {
      response.setHeader("allow", methods.join(", "));
      refuse(response, 405, "bad_data", `${path} takes ${methods.join(" and ")}`);
    });
  const answered = Effect.gen(function* () {
    const parameters = yield* parametersOf(request);
    const asked = (yield* durationOf("timeout", parameters.get("timeout"))) ?? Infinity;
    const timeout = Math.min(asked, LIMITS.seconds * 1000);
    return yield* handler(metrics, parameters).pipe(
      Effect.timeoutFail({ duration: timeout, onTimeout: () => late(timeout) }),
    );
  }).pipe(
    Effect.matchEffect({
      onSuccess: (pieces) => send(response, pieces),
      onFailure: (error) =>
        Metric.increment(Metric.tagged(failedTotal, "kind", error.kind)).pipe(
          Effect.zipRight(Effect.sync(() => refuse(response, STATUS[error.kind], error.kind, error.reason))),
        ),
    }),
  );
  return Effect.raceFirst(answered, gone(response));
};
