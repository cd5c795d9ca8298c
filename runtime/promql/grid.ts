/**
 * Values over a grid of times: what every expression gives. A point that is not there is marked apart, since NaN is a
 * value. Pure.
 */
import { labelsKey, labelsText, type Labels } from "./labels.ts";
import { execution } from "./QueryError.ts";
import { Pace, type Work } from "./work.ts";

export interface Grid {
  readonly startMs: number;
  readonly stepMs: number;
  readonly points: number;
}

export interface GridSeries {
  readonly labels: Labels;
  readonly values: Float64Array;
  /** 1: there is a value */
  readonly present: Uint8Array;
}

/** Samples or points with their times in ms, oldest first; no stale markers. */
export interface RawSeries {
  readonly labels: Labels;
  readonly times: Float64Array;
  readonly values: Float64Array;
}

export type Value =
  | { readonly kind: "scalar"; readonly values: Float64Array }
  | { readonly kind: "vector"; readonly series: readonly GridSeries[] }
  | { readonly kind: "string"; readonly text: string };

export const timeAt = (grid: Grid, point: number): number => grid.startMs + point * grid.stepMs;

export const gridOf = (startMs: number, endMs: number, stepMs: number): Grid => ({
  startMs,
  stepMs,
  points: Math.floor((endMs - startMs) / stepMs) + 1,
});

export const emptySeries = (labels: Labels, points: number): GridSeries => ({
  labels,
  values: new Float64Array(points),
  present: new Uint8Array(points),
});

export const constant = (value: number, points: number): Float64Array => new Float64Array(points).fill(value);

export const isEmpty = ({ present }: GridSeries): boolean => !present.includes(1);

/** What handling a series' labels costs, in values. */
export const LABELS_COST = 100;

/** Each series changed by itself. */
export const changed = function* <A = GridSeries>(
  series: readonly GridSeries[],
  change: (one: GridSeries) => A,
): Work<readonly A[]> {
  const pace = new Pace();
  const out: A[] = [];
  for (const one of series) {
    yield* pace.spend(LABELS_COST + one.values.length);
    out.push(change(one));
  }
  return out;
};

/** Series that came to have the same labels are one; two values of it at one time are an error. */
export const merged = function* (series: readonly GridSeries[]): Work<readonly GridSeries[]> {
  const pace = new Pace();
  const found = new Map<string, GridSeries>();
  for (const one of series) {
    yield* pace.spend(LABELS_COST);
    const key = labelsKey(one.labels);
    const first = found.get(key);
    if (first === undefined) {
      found.set(key, one);
      continue;
    }
    const whole = { labels: first.labels, values: first.values.slice(), present: first.present.slice() };
    for (let i = 0; i < one.values.length; i++) {
      if (one.present[i] === 0) continue;
      if (whole.present[i] === 1)
        throw execution(`vector cannot contain metrics with the same labelset: ${labelsText(one.labels)}`);
      whole.present[i] = 1;
      whole.values[i] = one.values[i] ?? 0;
    }
    found.set(key, whole);
  }
  return [...found.values()];
};

/** The points that there are, with their times, which `times` gives by place in the grid. */
export const pointsOf = ({ labels, values, present }: GridSeries, times: Float64Array): RawSeries => {
  let count = 0;
  for (const there of present) count += there;
  const out = { labels, times: new Float64Array(count), values: new Float64Array(count) };
  let at = 0;
  for (let point = 0; point < present.length; point++) {
    if (present[point] === 0) continue;
    out.times[at] = times[point] ?? 0;
    out.values[at++] = values[point] ?? 0;
  }
  return out;
};

export const timesOf = (grid: Grid): Float64Array =>
  Float64Array.from({ length: grid.points }, (_, point) => timeAt(grid, point));

/** The one point of each series at every point of a longer grid. */
export const spread = (value: Value, points: number): Value => {
  if (value.kind === "string") return value;
  if (value.kind === "scalar") return { kind: "scalar", values: constant(value.values[0] ?? Number.NaN, points) };
  const series = value.series.map((one) => ({
    labels: one.labels,
    values: constant(one.values[0] ?? 0, points),
    present: new Uint8Array(points).fill(one.present[0] ?? 0),
  }));
  return { kind: "vector", series };
};
