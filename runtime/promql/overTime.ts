/**
 * Range functions over the samples of one window. Windows are open to the left, as in Prometheus 3: a sample at the very
 * start belongs to the window before. Formulas are those of Prometheus' promql/functions.go. Pure.
 */
import type { Grid, GridSeries, RawSeries } from "./grid.ts";
import { timeAt } from "./grid.ts";
import { mean, quantile, Sum, variance } from "./numbers.ts";
import type { Pace, Work } from "./work.ts";

/** Samples `from` … `to - 1` of a series, and the window's bounds in ms. */
export interface Window {
  readonly times: Float64Array;
  readonly values: Float64Array;
  from: number;
  to: number;
  startMs: number;
  endMs: number;
  /** the evaluation's own time, which offset and @ do not move */
  nowMs: number;
  /** the function's scalar argument */
  param: number;
}

/** NONE: the window gives no value. */
export const NONE = Symbol("none");
type WindowFunction = (window: Window) => number | typeof NONE;

const count = (w: Window): number => w.to - w.from;
const value = (w: Window, i: number): number => w.values[w.from + i] ?? Number.NaN;
const time = (w: Window, i: number): number => w.times[w.from + i] ?? Number.NaN;

/** What the counter or gauge grew by, carried on to the window's ends where samples come close to them. */
const extrapolated =
  (counter: boolean, perSecond: boolean): WindowFunction =>
  (w) => {
    const n = count(w);
    if (n < 2) return NONE;
    const first = value(w, 0);
    let grown = value(w, n - 1) - first;
    if (counter)
      for (let i = 1; i < n; i++) {
        const before = value(w, i - 1);
        if (value(w, i) < before) grown += before;
      }
    const covered = (time(w, n - 1) - time(w, 0)) / 1000;
    const between = covered / (n - 1);
    let toStart = (time(w, 0) - w.startMs) / 1000;
    let toEnd = (w.endMs - time(w, n - 1)) / 1000;
    if (toStart >= between * 1.1) toStart = between / 2;
    // a counter was not below zero
    if (counter && grown > 0 && first >= 0) toStart = Math.min(toStart, covered * (first / grown));
    if (toEnd >= between * 1.1) toEnd = between / 2;
    const whole = grown * ((covered + toStart + toEnd) / covered);
    return perSecond ? whole / ((w.endMs - w.startMs) / 1000) : whole;
  };

const lastTwo =
  (rate: boolean): WindowFunction =>
  (w) => {
    const n = count(w);
    if (n < 2) return NONE;
    const seconds = (time(w, n - 1) - time(w, n - 2)) / 1000;
    if (seconds === 0) return NONE;
    const [before, last] = [value(w, n - 2), value(w, n - 1)];
    if (!rate) return last - before;
    return (last < before ? last : last - before) / seconds;
  };

/** Least squares; `at` is where the intercept is taken. */
const regression = (w: Window, at: number): readonly [slope: number, intercept: number] => {
  const n = count(w);
  const [x, y, xy, xx] = [new Sum(), new Sum(), new Sum(), new Sum()];
  const first = value(w, 0);
  let same = true;
  for (let i = 0; i < n; i++) {
    const v = value(w, i);
    if (v !== first) same = false;
    const t = (time(w, i) - at) / 1000;
    x.add(t);
    y.add(v);
    xy.add(t * v);
    xx.add(t * t);
  }
  if (same) return Number.isFinite(first) ? [0, first] : [Number.NaN, Number.NaN];
  const covariance = xy.value - (x.value * y.value) / n;
  const slope = covariance / (xx.value - (x.value * x.value) / n);
  return [slope, y.value / n - (slope * x.value) / n];
};

const extreme =
  (better: (a: number, b: number) => boolean): WindowFunction =>
  (w) => {
    let best = value(w, 0);
    for (let i = 1; i < count(w); i++) {
      const v = value(w, i);
      if (better(v, best) || Number.isNaN(best)) best = v;
    }
    return best;
  };

const pairs =
  (counts: (before: number, now: number) => boolean): WindowFunction =>
  (w) => {
    let found = 0;
    for (let i = 1; i < count(w); i++) if (counts(value(w, i - 1), value(w, i))) found++;
    return found;
  };

export const WINDOW_FUNCTIONS: Readonly<Record<string, WindowFunction>> = {
  rate: extrapolated(true, true),
  increase: extrapolated(true, false),
  delta: extrapolated(false, false),
  irate: lastTwo(true),
  idelta: lastTwo(false),
  deriv: (w) => (count(w) < 2 ? NONE : regression(w, time(w, 0))[0]),
  predict_linear: (w) => {
    if (count(w) < 2) return NONE;
    const [slope, intercept] = regression(w, w.nowMs);
    return slope * w.param + intercept;
  },
  changes: pairs((before, now) => now !== before && !(Number.isNaN(now) && Number.isNaN(before))),
  resets: pairs((before, now) => now < before),
  avg_over_time: (w) => mean(count(w), (i) => value(w, i)),
  min_over_time: extreme((a, b) => a < b),
  max_over_time: extreme((a, b) => a > b),
  sum_over_time: (w) => {
    const sum = new Sum();
    for (let i = 0; i < count(w); i++) sum.add(value(w, i));
    return sum.value;
  },
  count_over_time: count,
  present_over_time: () => 1,
  last_over_time: (w) => value(w, count(w) - 1),
  stdvar_over_time: (w) => variance(count(w), (i) => value(w, i)),
  stddev_over_time: (w) => Math.sqrt(variance(count(w), (i) => value(w, i))),
  quantile_over_time: (w) => quantile(w.param, Array.from(w.values.subarray(w.from, w.to))),
};

/** Where the windows of a grid lie: `shiftMs` by offset; `pinnedMs` by @, for all of them. */
export interface Placement {
  readonly grid: Grid;
  readonly rangeMs: number;
  readonly shiftMs: number;
  readonly pinnedMs: number | null;
}

const endOf = ({ grid, shiftMs, pinnedMs }: Placement, point: number): number =>
  (pinnedMs ?? timeAt(grid, point)) - shiftMs;

/** Times from which on and until which samples can lie in a window. */
export const reach = (placement: Placement): { readonly afterMs: number; readonly untilMs: number } => ({
  afterMs: endOf(placement, 0) - placement.rangeMs,
  untilMs: endOf(placement, placement.grid.points - 1),
});

/** A window that is sorted costs as much as this many that are gone through. */
const SORTING = 10;

/** The function's value in each window of one series; `visited` is told of the samples before they are looked at. */
export const overWindows = function* (
  name: string,
  raw: RawSeries,
  placement: Placement,
  param: Float64Array | null,
  pace: Pace,
  visited: (samples: number) => void,
): Work<GridSeries> {
  const { grid, rangeMs } = placement;
  const { times } = raw;
  const apply = WINDOW_FUNCTIONS[name] ?? (() => NONE);
  const values = new Float64Array(grid.points);
  const present = new Uint8Array(grid.points);
  const window: Window = { ...raw, from: 0, to: 0, startMs: 0, endMs: 0, nowMs: 0, param: 0 };
  const cost = name === "quantile_over_time" ? SORTING : 1;
  for (let point = 0; point < grid.points; point++) {
    window.endMs = endOf(placement, point);
    window.startMs = window.endMs - rangeMs;
    while (window.to < times.length && (times[window.to] ?? 0) <= window.endMs) window.to++;
    while (window.from < window.to && (times[window.from] ?? 0) <= window.startMs) window.from++;
    if (window.from === window.to) continue;
    const samples = cost * (window.to - window.from);
    visited(samples);
    yield* pace.spend(samples);
    window.nowMs = timeAt(grid, point);
    window.param = param?.[point] ?? 0;
    const result = apply(window);
    if (result === NONE) continue;
    values[point] = result;
    present[point] = 1;
  }
  return { labels: raw.labels, values, present };
};
