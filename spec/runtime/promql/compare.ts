/**
 * Asks Prometheus and the own store the same, and says where the answers differ by more than 1e-9 of the value. Both have
 * the same samples (`dataset.ts`).
 */
import { Effect } from "effect";
import type { Labels } from "../../../runtime/promql/labels.ts";
import * as MetricsQuery from "../../../runtime/promql/MetricsQuery.ts";
import { freshFolder, makeStore, processState, removeFolder, whenUp } from "../store/harness.ts";
import { makeDataset, writeToStore, type Dataset } from "./dataset.ts";
import { Prometheus } from "./Prometheus.ts";
import { remoteWrite } from "./remoteWrite.ts";

/** label set → time in ms → value */
type Points = Map<string, Map<number, number>>;
export type Answered = { readonly points: Points; readonly order: readonly string[] } | { readonly error: string };

const STEP_MS = 60_000;

interface ApiSeries {
  readonly metric: Readonly<Record<string, string>>;
  readonly value?: readonly [number, string];
  readonly values?: readonly (readonly [number, string])[];
}
interface ApiAnswer {
  readonly status: string;
  readonly error?: string;
  readonly data?: { readonly resultType: string; readonly result: readonly unknown[] };
}

const read = (text: string): number => (text === "+Inf" ? Infinity : text === "-Inf" ? -Infinity : Number(text));
const keyOf = (labels: Iterable<readonly [string, string]>): string => JSON.stringify([...labels].sort());
const labelled = (labels: Labels): string => keyOf(labels);

/** Prometheus' answer; `path` with its query. */
const askPrometheus = async (url: string, path: string): Promise<Answered> => {
  const answer = (await (await fetch(`${url}/api/v1/${path}`)).json()) as ApiAnswer;
  if (answer.status !== "success" || answer.data === undefined) return { error: answer.error ?? "no reason" };
  const { resultType, result } = answer.data;
  if (resultType === "scalar" || resultType === "string") {
    const [at, text] = result as unknown as readonly [number, string];
    return { points: new Map([["scalar", new Map([[at * 1000, read(text)]])]]), order: [] };
  }
  const points: Points = new Map();
  for (const one of result as readonly ApiSeries[]) {
    const pairs = one.values ?? (one.value === undefined ? [] : [one.value]);
    points.set(
      keyOf(Object.entries(one.metric)),
      new Map(pairs.map(([at, text]) => [Math.round(at * 1000), read(text)])),
    );
  }
  return { points, order: [...points.keys()] };
};

const close = (a: number, b: number): boolean =>
  Object.is(a, b) || a === b || Math.abs(a - b) <= 1e-9 * Math.max(Math.abs(a), Math.abs(b), 1e-3);

/** Null: equal. */
export const difference = (theirs: Answered, ours: Answered): string | null => {
  if ("error" in theirs) return "error" in ours ? null : `they refuse it: ${theirs.error}`;
  if ("error" in ours) return `we refuse it: ${ours.error}`;
  for (const [key, points] of theirs.points) {
    const own = ours.points.get(key);
    if (own === undefined) return `we lack ${key}`;
    for (const [at, value] of points) {
      const found = own.get(at);
      if (found === undefined) return `${key} at ${at}: they have ${value}, we have nothing`;
      if (!close(value, found)) return `${key} at ${at}: they have ${value}, we have ${found}`;
    }
    for (const [at, value] of own) if (!points.has(at)) return `${key} at ${at}: they have nothing, we have ${value}`;
  }
  for (const key of ours.points.keys()) if (!theirs.points.has(key)) return `only we have ${key}`;
  return null;
};

export interface Bed {
  readonly dataset: Dataset;
  readonly prometheus: Prometheus;
  readonly metrics: MetricsQuery.MetricsQueryShape;
  readonly ask: <A, E>(
    question: (metrics: MetricsQuery.MetricsQueryShape) => Effect.Effect<MetricsQuery.Found<A>, E>,
  ) => Promise<A>;
  /** their answer and ours, over time */
  readonly range: (query: string) => Promise<readonly [Answered, Answered]>;
  /** and at a moment */
  readonly instant: (query: string) => Promise<readonly [Answered, Answered]>;
  /** ours alone, over time; how many points */
  readonly own: (query: string) => Promise<number>;
  /** process of the own store */
  readonly storePid: number | null;
  readonly close: () => Promise<void>;
}

/** Both stores with the data. */
export const openBed = async (): Promise<Bed> => {
  const endMs = Math.floor(Date.now() / 60_000) * 60_000 - 120_000;
  const dataset = makeDataset(endMs);
  const folder = freshFolder();
  const runtime = makeStore(folder);
  const prometheus = await Prometheus.start();
  const close = async (): Promise<void> => {
    await prometheus.stop();
    await runtime.dispose();
    removeFolder(folder);
  };
  try {
    await remoteWrite(prometheus.url, dataset.series);
    await runtime.runPromise(Effect.zipRight(whenUp, writeToStore(dataset)));
    const metrics = await runtime.runPromise(MetricsQuery.make);
    const ask: Bed["ask"] = (question) => runtime.runPromise(Effect.map(question(metrics), ({ value }) => value));
    const ours = <A>(question: Effect.Effect<A, Error>, points: (answer: A) => Answered): Promise<Answered> =>
      runtime.runPromise(
        question.pipe(
          Effect.map(points),
          Effect.catchAll((error) => Effect.succeed<Answered>({ error: error.message })),
        ),
      );
    // seven seconds past multiples of a subquery's step, where a closed window (2.42) and an open one (3) differ; and an
    // hour after the first sample, since the two carry on a counter differently that begins within a window
    const [start, end] = [dataset.startMs + 62 * 60_000 + 7_000, endMs - 11_000];
    return {
      dataset,
      prometheus,
      metrics,
      ask,
      close,
      storePid: (await runtime.runPromise(processState)).pid,
      own: (query) =>
        ask(({ range }) => range(query, start, end, STEP_MS)).then((series) =>
          series.reduce((sum, { times }) => sum + times.length, 0),
        ),
      range: (query) => {
        const params = new URLSearchParams({
          query,
          start: String(start / 1000),
          end: String(end / 1000),
          step: String(STEP_MS / 1000),
        });
        return Promise.all([
          askPrometheus(prometheus.url, `query_range?${params.toString()}`),
          ours(metrics.range(query, start, end, STEP_MS), ({ value: series }) => ({
            points: new Map(
              series.map(({ labels, times, values }) => [
                labelled(labels),
                new Map(Array.from(times, (at, i) => [at, values[i] ?? 0])),
              ]),
            ),
            order: series.map(({ labels }) => labelled(labels)),
          })),
        ]);
      },
      instant: (query) =>
        Promise.all([
          askPrometheus(prometheus.url, `query?${new URLSearchParams({ query, time: String(end / 1000) }).toString()}`),
          ours(metrics.instant(query, end), ({ value: answer }): Answered => {
            if (answer.type === "scalar")
              return { points: new Map([["scalar", new Map([[answer.atMs, answer.value]])]]), order: [] };
            if (answer.type === "string")
              return { points: new Map([["scalar", new Map([[answer.atMs, read(answer.text)]])]]), order: [] };
            const series =
              answer.type === "vector"
                ? answer.samples.map(({ labels, value }) => ({ labels, times: [answer.atMs], values: [value] }))
                : answer.series;
            return {
              points: new Map(
                series.map(({ labels, times, values }) => [
                  labelled(labels),
                  new Map(Array.from(times, (at, i) => [at, values[i] ?? 0])),
                ]),
              ),
              order: series.map(({ labels }) => labelled(labels)),
            };
          }),
        ]),
    };
  } catch (error) {
    await close();
    throw error;
  }
};
