/**
 * MetricsQuery where metrics are kept elsewhere: asks Prometheus, VictoriaMetrics or Mimir by Prometheus' HTTP API, in that
 * server's own dialect. Owned by the server's layers, in the place of the layer over the own store; a fiber looks now and
 * then whether it answers. Bounded in time, bytes, series and points, a few questions at once. Fails with QueryError: what
 * the server says is handed on in its kind, a server that is away, not ready or not what it should be is `unavailable`. Its
 * credentials stand in no message. Whoever interrupts a question aborts it there. Stops by interruption.
 */
import { Effect, Layer, Metric, type Scope } from "effect";
import {
  makeMetricsEndpoint,
  type EndpointAnswer,
  type EndpointConfig,
  type EndpointRequest,
} from "../store/MetricsEndpoint.ts";
import {
  readAnswer,
  readMetadata,
  readResult,
  readSeriesList,
  readTexts,
  scalarOf,
  type ApiAnswer,
  type ApiResult,
} from "./apiAnswer.ts";
import { BadJson, type JsonReader } from "./JsonReader.ts";
import {
  checkedGrid,
  checkTimes,
  inTime,
  MetricsQuery,
  type Answering,
  type ElsewhereState,
  type Found,
  type InstantAnswer,
  type ListRequest,
  type MetricsQueryShape,
} from "./MetricsQuery.ts";
import { LIMITS, overLimit, QueryError } from "./QueryError.ts";
import { worked, type Pace, type Work } from "./work.ts";

/** Questions under way at once; others wait for a turn. Their answers together are the memory that this may take. */
const AT_ONCE = 8;
const LOOK_EVERY = "10 seconds";
const LOOK_WITHIN = "5 seconds";
const MAX_REASON = 2_000;
const FORM = { "content-type": "application/x-www-form-urlencoded" };

const failedTotal = Metric.counter("coroot_metrics_store_failed_total", {
  description: "questions to the configured metrics store without an answer, by kind",
  incremental: true,
});

type Kind = QueryError["kind"];

/** By the kinds of Prometheus; VictoriaMetrics gives the status instead. */
const KINDS: ReadonlyMap<string, Kind> = new Map([
  ["bad_data", "bad_data"],
  ["execution", "execution"],
  ["timeout", "timeout"],
  ["canceled", "timeout"],
  ["internal", "internal"],
  ["unavailable", "unavailable"],
]);
const kindOf = (errorType: string, status: number): Kind => {
  const kind = KINDS.get(errorType);
  if (kind !== undefined) return kind;
  if (status === 400 || status === 413 || status === 414) return "bad_data";
  if (status === 422) return "execution";
  if (status === 504) return "timeout";
  return status === 500 ? "internal" : "unavailable";
};

const firstLine = (text: string): string => text.trim().split("\n", 1)[0]?.slice(0, 300) ?? "";

const unavailable = (reason: string): QueryError => new QueryError({ kind: "unavailable", reason });

/** Why an answer without success in the API's form is none. */
const statusReason = (status: number, text: string): string => {
  if (status >= 300 && status < 400) return `it answers ${status}, a redirect, and none is followed`;
  if (status === 401 || status === 403) return `it refuses this server's credentials (${status})`;
  if (status === 404) return "it has no Prometheus API there (404)";
  const said = /^\s*</.test(text) ? "" : firstLine(text);
  return `it answers ${status}${said === "" ? "" : `: ${said}`}`;
};

type ReadData<A> = (json: JsonReader, pace: Pace) => Work<A>;

const seconds = (ms: number): string => String(ms / 1000);

/** Without a start the store's own default holds: how far back a list goes. */
const listParameters = ({ selectors, startMs, endMs, limit = 0 }: ListRequest): URLSearchParams => {
  const out = new URLSearchParams(selectors.map((selector) => ["match[]", selector]));
  if (startMs > 0) out.set("start", seconds(startMs));
  out.set("end", seconds(endMs));
  if (limit > 0) out.set("limit", String(limit));
  return out;
};

/** Older servers do not know `limit`. */
const cutTo =
  (limit = 0) =>
  <A>({ value, ...rest }: Found<readonly A[]>): Found<readonly A[]> => ({
    value: limit > 0 ? value.slice(0, limit) : value,
    ...rest,
  });

const instantOf = (atMs: number, { type, series, single }: ApiResult): InstantAnswer => {
  if (single !== null && type === "string") return { type, ...single };
  if (single !== null) return { type: "scalar", atMs: single.atMs, value: scalarOf(single.text) };
  if (type === "matrix") return { type, series };
  return {
    type: "vector",
    atMs: series[0]?.times[0] ?? atMs,
    samples: series.map(({ labels, values }) => ({ labels, value: values[0] ?? Number.NaN })),
  };
};

/** Native histograms are told of, since values cannot hold them. */
const withoutHistograms = <A>(
  { value, warnings, infos }: Found<ApiResult>,
  change: (result: ApiResult) => A,
): Found<A> => ({
  value: change(value),
  warnings:
    value.histograms === 0
      ? warnings
      : [...warnings, `${value.histograms} native histograms are left out of the answer`],
  infos,
});

export const make = (config: EndpointConfig): Effect.Effect<MetricsQueryShape, never, Scope.Scope> =>
  Effect.gen(function* () {
    const endpoint = makeMetricsEndpoint(config, AT_ONCE + 1);
    yield* Effect.addFinalizer(() => Effect.sync(endpoint.close));
    const turns = yield* Effect.makeSemaphore(AT_ONCE);
    const here = `the metrics store at ${endpoint.shown}`;

    const read = <A>(answer: EndpointAnswer, readData: ReadData<A>): Effect.Effect<Found<A>, QueryError> => {
      const { status, body } = answer;
      if (!answer.whole) return Effect.fail(overLimit("bytes"));
      const isSuccess = status >= 200 && status < 300;
      return worked(function* (): Work<ApiAnswer<A>> {
        try {
          return yield* readAnswer(body, readData);
        } catch (error) {
          if (!(error instanceof BadJson)) throw error;
          const other = `its answer is none of Prometheus' API (${error.message})`;
          const text = body.toString("utf8", 0, MAX_REASON);
          const reason = isSuccess ? other : statusReason(status, text);
          throw new QueryError({ kind: isSuccess ? "unavailable" : kindOf("", status), reason: `${here}: ${reason}` });
        }
      }).pipe(
        Effect.flatMap(({ data, isError, errorType, error, warnings, infos }): Effect.Effect<Found<A>, QueryError> => {
          if (isSuccess && !isError && data !== null) return Effect.succeed({ value: data, warnings, infos });
          const kind = kindOf(errorType, status);
          const said = error.slice(0, MAX_REASON);
          if (said !== "" && kind !== "unavailable") return Effect.fail(new QueryError({ kind, reason: said }));
          const reason = said === "" ? statusReason(status, "") : said;
          return Effect.fail(new QueryError({ kind, reason: `${here}: ${reason}` }));
        }),
      );
    };

    const ask = <A>(asked: Omit<EndpointRequest, "maxBytes">, readData: ReadData<A>): Answering<A> =>
      endpoint.send({ ...asked, maxBytes: LIMITS.bytes }).pipe(
        Effect.mapError(({ message }) => unavailable(`${here} does not answer: ${message}`)),
        Effect.flatMap((answer) => read(answer, readData)),
      );
    const get = <A>(name: string, search: URLSearchParams, readData: ReadData<A>): Answering<A> =>
      ask({ method: "GET", path: `/api/v1/${name}`, search }, readData);
    const post = <A>(name: string, form: URLSearchParams, readData: ReadData<A>): Answering<A> =>
      ask({ method: "POST", path: `/api/v1/${name}`, headers: FORM, body: Buffer.from(form.toString()) }, readData);

    /** Waiting for a turn counts. */
    const bounded = <A>(question: Answering<A>): Answering<A> =>
      inTime(turns.withPermits(1)(question)).pipe(
        Effect.tapError(({ kind }) => Metric.increment(Metric.tagged(failedTotal, "kind", kind))),
      );

    let state: ElsewhereState = { status: "starting", message: `${endpoint.shown} was not asked yet` };
    const one = new URLSearchParams({ query: "1" });
    const look = post("query", one, readResult).pipe(
      Effect.timeoutFail({ duration: LOOK_WITHIN, onTimeout: () => unavailable(`${here} does not answer in time`) }),
      Effect.matchEffect({
        onSuccess: () => Effect.sync(() => (state = { status: "up", message: endpoint.shown })),
        onFailure: ({ reason }) =>
          Effect.gen(function* () {
            if (state.status !== "down") yield* Effect.logWarning("metrics cannot be read", { reason });
            state = { status: "down", message: reason };
          }),
      }),
    );
    yield* Effect.forkScoped(Effect.forever(Effect.zipRight(look, Effect.sleep(LOOK_EVERY))));

    const timeout = `${LIMITS.seconds}s`;
    const list = (path: string, request: ListRequest) =>
      bounded(get(path, listParameters(request), readTexts)).pipe(Effect.map(cutTo(request.limit)));

    return {
      instant: (query, atMs) =>
        checkTimes(atMs).pipe(
          Effect.zipRight(post("query", new URLSearchParams({ query, time: seconds(atMs), timeout }), readResult)),
          Effect.map((found) => withoutHistograms(found, (result) => instantOf(atMs, result))),
          bounded,
        ),
      range: (query, startMs, endMs, stepMs) =>
        checkedGrid(startMs, endMs, stepMs).pipe(
          Effect.zipRight(
            post(
              "query_range",
              new URLSearchParams({
                query,
                start: seconds(startMs),
                end: seconds(endMs),
                step: seconds(stepMs),
                timeout,
              }),
              readResult,
            ),
          ),
          Effect.map((found) => withoutHistograms(found, ({ series }) => series)),
          bounded,
        ),
      series: (request) =>
        bounded(post("series", listParameters(request), readSeriesList)).pipe(Effect.map(cutTo(request.limit))),
      labels: (request) => list("labels", request),
      labelValues: (label, request) => list(`label/${encodeURIComponent(label)}/values`, request),
      metadata: (metric, limit) => {
        const search = new URLSearchParams(metric === null ? {} : { metric });
        if (limit > 0) search.set("limit", String(limit));
        return bounded(get("metadata", search, readMetadata));
      },
      elsewhere: () => state,
    } satisfies MetricsQueryShape;
  });

export const layer = (config: EndpointConfig): Layer.Layer<MetricsQuery> => Layer.scoped(MetricsQuery, make(config));

/** Metrics that are written elsewhere and cannot be read there: every question is told why. */
export const unread = (reason: string): Layer.Layer<MetricsQuery> => {
  const refuse = () => Effect.fail(unavailable(reason));
  return Layer.succeed(MetricsQuery, {
    instant: refuse,
    range: refuse,
    series: refuse,
    labels: refuse,
    labelValues: refuse,
    metadata: refuse,
    elsewhere: () => null,
  });
};
