/**
 * Evaluates an expression over a grid of times. Leaves come from a Source; all above them is computed here, node by node,
 * and lets others run between two nodes. Holds nothing beyond a query; stops by interruption. What is over a bound, or
 * not allowed by the data, fails with QueryError.
 */
import { Effect } from "effect";
import { aggregate } from "./aggregate.ts";
import {
  METRIC_NAME,
  standsStill,
  typeOf,
  type CallNode,
  type Expr,
  type Matcher,
  type Moment,
  type RangeNode,
  type SubqueryNode,
} from "./ast.ts";
import { binary } from "./binary.ts";
import { DATE_FUNCTIONS, MATH_FUNCTIONS, roundTo } from "./elementwise.ts";
import {
  changed,
  constant,
  emptySeries,
  gridOf,
  isEmpty,
  merged,
  pointsOf,
  spread,
  timeAt,
  timesOf,
  type Grid,
  type GridSeries,
  type RawSeries,
  type Value,
} from "./grid.ts";
import { histogramQuantile } from "./histogram.ts";
import { NO_LABELS, withoutName, type Labels } from "./labels.ts";
import { ascending } from "./numbers.ts";
import { overWindows, reach, type Placement } from "./overTime.ts";
import { execution, LIMITS, overLimit, type QueryError } from "./QueryError.ts";
import { checkLabel, labelJoin, labelReplace } from "./replace.ts";
import type { Source } from "./Source.ts";
import { Pace, worked, type Work } from "./work.ts";

/** Resolution of a subquery that names none. */
const DEFAULT_STEP_MS = 60_000;

interface Scope {
  readonly source: Source;
  /** of the whole query, for @ start() and @ end() */
  readonly startMs: number;
  readonly endMs: number;
  readonly used: { samples: number; visits: number };
}

type Evaluation<A> = Effect.Effect<A, QueryError>;

const vector = (series: readonly GridSeries[]): Value => ({ kind: "vector", series });
const seriesOf = (value: Value): readonly GridSeries[] => (value.kind === "vector" ? value.series : []);
const scalarOf = (value: Value): Float64Array => (value.kind === "scalar" ? value.values : new Float64Array(0));
const textOf = (value: Value | undefined): string => (value?.kind === "string" ? value.text : "");

const count = (scope: Scope, samples: number): Evaluation<void> =>
  Effect.suspend(() => {
    scope.used.samples += samples;
    return scope.used.samples > LIMITS.samples ? Effect.fail(overLimit("samples", scope.used.samples)) : Effect.void;
  });

const pinned = ({ at }: Moment, scope: Scope): number | null =>
  at === "start" ? scope.startMs : at === "end" ? scope.endMs : at;

/** The grid of a leaf: moved by its offset, or a single point where @ pins it. */
const leafGrid = (node: Moment, grid: Grid, scope: Scope): Grid => {
  const at = pinned(node, scope);
  return at === null
    ? { ...grid, startMs: grid.startMs - node.offsetMs }
    : { startMs: at - node.offsetMs, stepMs: 1, points: 1 };
};

const instant = (
  node: Moment & { readonly matchers: readonly Matcher[] },
  grid: Grid,
  scope: Scope,
  what: "value" | "time",
): Evaluation<Value> =>
  Effect.gen(function* () {
    const at = leafGrid(node, grid, scope);
    const found = yield* scope.source.instant(node.matchers, at, what);
    yield* count(scope, found.length * grid.points);
    const value = vector(what === "time" ? yield* unnamed(found) : found);
    return at.points === grid.points ? value : spread(value, grid.points);
  });

const nameless = (one: GridSeries): GridSeries => ({ ...one, labels: withoutName(one.labels) });
const unnamed = (series: readonly GridSeries[]): Evaluation<readonly GridSeries[]> =>
  worked(function* () {
    return yield* merged(yield* changed(series, nameless));
  });

const mapped = function* (
  series: readonly GridSeries[],
  change: (value: number, point: number) => number,
): Work<Value> {
  const all = yield* changed(series, (one) => ({ ...nameless(one), values: one.values.map(change) }));
  return vector(yield* merged(all));
};

/** The samples of a subquery: its inner expression at the multiples of its step that its windows reach. */
const subquery = (node: SubqueryNode, placement: Placement, scope: Scope): Evaluation<readonly RawSeries[]> =>
  Effect.gen(function* () {
    const stepMs = node.stepMs ?? DEFAULT_STEP_MS;
    const { afterMs, untilMs } = reach(placement);
    const startMs = (Math.floor(afterMs / stepMs) + 1) * stepMs;
    if (startMs > untilMs) return [];
    const grid = gridOf(startMs, untilMs, stepMs);
    if (grid.points > LIMITS.subqueryPoints) return yield* overLimit("subqueryPoints", grid.points);
    const value = yield* evaluate(node.body, grid, scope);
    const series = seriesOf(value);
    yield* count(scope, series.length * grid.points);
    const times = timesOf(grid);
    return yield* worked(() => changed(series, (one) => pointsOf(one, times)));
  });

const samplesOf = (node: RangeNode | SubqueryNode, placement: Placement, scope: Scope) => {
  if (node.kind === "subquery") return subquery(node, placement, scope);
  const { afterMs, untilMs } = reach(placement);
  return scope.source.raw(node.matchers, afterMs, untilMs).pipe(
    Effect.tap((found) =>
      count(
        scope,
        found.reduce((sum, { times }) => sum + 2 * times.length, 0),
      ),
    ),
  );
};

/** Windows end where they end for all points, or move with the grid. */
const placed = (node: RangeNode | SubqueryNode, grid: Grid, scope: Scope): Placement => ({
  grid,
  rangeMs: node.rangeMs,
  shiftMs: node.offsetMs,
  pinnedMs: pinned(node, scope),
});

const rangeFunction = (
  name: string,
  node: RangeNode | SubqueryNode,
  param: Float64Array | null,
  grid: Grid,
  scope: Scope,
): Evaluation<readonly GridSeries[]> =>
  Effect.gen(function* () {
    const moves = pinned(node, scope) === null || grid.points === 1;
    const steady = param === null || param.every((value) => Object.is(value, param[0]));
    if (node.kind === "range" && moves && steady && (name !== "predict_linear" || pinned(node, scope) === null)) {
      // the prediction counts from the evaluation's time, the store counts from the window's end
      const argument = param === null ? null : (param[0] ?? 0) + (name === "predict_linear" ? node.offsetMs / 1000 : 0);
      const at = leafGrid(node, grid, scope);
      const found = yield* scope.source.over(name, node.matchers, at, node.rangeMs, argument);
      if (found !== null) {
        yield* count(scope, found.length * grid.points);
        return found;
      }
    }
    const placement = placed(node, grid, scope);
    const samples = yield* samplesOf(node, placement, scope);
    yield* count(scope, samples.length * grid.points);
    return yield* worked(function* () {
      const pace = new Pace();
      const out: GridSeries[] = [];
      for (const raw of samples)
        out.push(
          yield* overWindows(name, raw, placement, param, pace, (visits) => {
            scope.used.visits += visits;
            if (scope.used.visits > LIMITS.visits) throw overLimit("visits");
          }),
        );
      return out;
    });
  });

/** Labels of what is absent: those that the selector asks for by equality, once. */
const absentLabels = (node: Expr): Labels => {
  if (node.kind !== "selector" && node.kind !== "range") return NO_LABELS;
  const out = new Map<string, string>();
  const seen = new Set<string>();
  for (const { name, operator, value } of node.matchers) {
    if (name === METRIC_NAME) continue;
    if (operator === "=" && !seen.has(name) && value !== "") out.set(name, value);
    else out.delete(name);
    if (operator === "=") seen.add(name);
  }
  return out;
};

const absent = (node: Expr, series: readonly GridSeries[], points: number): Value => {
  const out = emptySeries(absentLabels(node), points);
  out.values.fill(1);
  out.present.fill(1);
  for (const { present } of series) for (let i = 0; i < points; i++) if (present[i] === 1) out.present[i] = 0;
  return vector([out]);
};

/** The only value there is at each point, else NaN. */
const asScalar = (series: readonly GridSeries[], points: number): Float64Array => {
  const out = constant(Number.NaN, points);
  const found = new Uint32Array(points);
  for (const { present, values } of series)
    for (let i = 0; i < points; i++)
      if (present[i] === 1) {
        found[i] = (found[i] ?? 0) + 1;
        out[i] = values[i] ?? Number.NaN;
      }
  return out.map((value, i) => (found[i] === 1 ? value : Number.NaN));
};

const seconds = (grid: Grid): Float64Array => timesOf(grid).map((ms) => ms / 1000);

const firstValue = ({ values }: GridSeries): number => values[0] ?? Number.NaN;

/** A range query is in the order of its labels anyway. */
const sorted = (series: readonly GridSeries[], direction: 1 | -1, points: number): Value => {
  if (points > 1) return vector(series);
  return vector(
    series.toSorted((a, b) =>
      Number.isNaN(firstValue(a)) || Number.isNaN(firstValue(b))
        ? ascending(firstValue(b), firstValue(a))
        : direction * (firstValue(a) - firstValue(b)),
    ),
  );
};

const replaced = (args: readonly Value[], scope: Scope): Evaluation<Value> =>
  Effect.gen(function* () {
    const [input, ...texts] = args;
    const [target = "", template = "", source = "", pattern = ""] = texts.map(textOf);
    const series = input === undefined ? [] : seriesOf(input).filter((one) => !isEmpty(one));
    const values = [...new Set(series.map(({ labels }) => labels.get(source) ?? ""))];
    const groups = yield* scope.source.groups(pattern, values);
    const known = new Map(values.map((value, i) => [value, groups[i] ?? null]));
    return vector(
      yield* worked(() =>
        labelReplace(series, { target, template, source, pattern }, (value) => known.get(value) ?? null),
      ),
    );
  });

const joined = function* (args: readonly Value[]): Work<Value> {
  const [input, target, separator, ...sources] = args;
  const name = textOf(target);
  checkLabel(name, "label_join");
  for (const source of sources) checkLabel(textOf(source), "label_join");
  const series = input === undefined ? [] : seriesOf(input).filter((one) => !isEmpty(one));
  return vector(yield* labelJoin(series, name, textOf(separator), sources.map(textOf)));
};

/** Functions of values that are there already. */
const plainFunction = function* (node: CallNode, args: readonly Value[], grid: Grid): Work<Value> {
  const { points } = grid;
  const { name } = node;
  const input = args.find(({ kind }) => kind === "vector");
  const series = input === undefined ? [] : seriesOf(input);
  const scalars = args.filter(({ kind }) => kind === "scalar").map(scalarOf);
  const [first, second] = [scalars[0] ?? constant(1, points), scalars[1] ?? constant(1, points)];
  const math = MATH_FUNCTIONS[name];
  if (math !== undefined) return yield* mapped(series, math);
  const date = DATE_FUNCTIONS[name];
  if (date !== undefined) {
    if (input !== undefined) return yield* mapped(series, date);
    return vector([{ labels: NO_LABELS, values: seconds(grid).map(date), present: new Uint8Array(points).fill(1) }]);
  }
  switch (name) {
    case "pi":
      return { kind: "scalar", values: constant(Math.PI, points) };
    case "time":
      return { kind: "scalar", values: seconds(grid) };
    case "vector":
      return vector([{ labels: NO_LABELS, values: first, present: new Uint8Array(points).fill(1) }]);
    case "scalar":
      return { kind: "scalar", values: asScalar(series, points) };
    case "timestamp":
      return yield* mapped(series, (_, point) => timeAt(grid, point) / 1000);
    case "absent":
      return absent(node.args[0] ?? node, series, points);
    case "round":
      return yield* mapped(series, (value, point) => roundTo(value, first[point] ?? 1));
    case "clamp_min":
      return yield* mapped(series, (value, point) => Math.max(value, first[point] ?? 0));
    case "clamp_max":
      return yield* mapped(series, (value, point) => Math.min(value, first[point] ?? 0));
    case "clamp": {
      const inside = yield* mapped(series, (value, point) =>
        Math.max(first[point] ?? 0, Math.min(second[point] ?? 0, value)),
      );
      return vector(
        seriesOf(inside).map((one) => ({
          ...one,
          present: one.present.map((there, i) => ((second[i] ?? 0) < (first[i] ?? 0) ? 0 : there)),
        })),
      );
    }
    case "histogram_quantile":
      return vector(yield* histogramQuantile(first, series));
    case "sort":
      return sorted(series, 1, points);
    case "sort_desc":
      return sorted(series, -1, points);
    case "label_join":
      return yield* joined(args);
    default:
      throw execution(`function ${name} is not supported`);
  }
};

const call = (node: CallNode, grid: Grid, scope: Scope): Evaluation<Value> =>
  Effect.gen(function* () {
    const { name, args } = node;
    const ranged = args.find((arg) => arg.kind === "range" || arg.kind === "subquery");
    if (ranged !== undefined && (ranged.kind === "range" || ranged.kind === "subquery")) {
      const scalar = args.find((arg) => typeOf(arg) === "scalar");
      const param = scalar === undefined ? null : scalarOf(yield* evaluate(scalar, grid, scope));
      if (name === "absent_over_time") {
        const there = yield* rangeFunction("present_over_time", ranged, null, grid, scope);
        return absent(ranged, there, grid.points);
      }
      const found = yield* rangeFunction(name, ranged, param, grid, scope);
      if (name === "last_over_time") return vector(found);
      return vector(yield* unnamed(found));
    }
    const [only] = args;
    if (name === "timestamp" && only?.kind === "selector") return yield* instant(only, grid, scope, "time");
    const values: Value[] = [];
    for (const arg of args) values.push(yield* evaluate(arg, grid, scope));
    if (name === "label_replace") return yield* replaced(values, scope);
    return yield* worked(() => plainFunction(node, values, grid));
  });

const evaluateMoving = (node: Expr, grid: Grid, scope: Scope): Evaluation<Value> =>
  Effect.gen(function* () {
    const { points } = grid;
    switch (node.kind) {
      case "number":
        return { kind: "scalar", values: constant(node.value, points) };
      case "text":
        return { kind: "string", text: node.value };
      case "selector":
        return yield* instant(node, grid, scope, "value");
      case "range":
      case "subquery":
        return yield* execution("a range vector is only allowed as the argument of a function that takes one");
      case "negate": {
        const value = yield* evaluate(node.body, grid, scope);
        if (value.kind === "scalar") return { kind: "scalar", values: value.values.map((one) => -one) };
        return yield* worked(() => mapped(seriesOf(value), (one) => -one));
      }
      case "binary": {
        const left = yield* evaluate(node.left, grid, scope);
        const right = yield* evaluate(node.right, grid, scope);
        return yield* worked(() => binary(node, left, right, points));
      }
      case "aggregate": {
        const param = node.param === null ? null : yield* evaluate(node.param, grid, scope);
        const body = yield* evaluate(node.body, grid, scope);
        return vector(yield* worked(() => aggregate(node, seriesOf(body), param, points)));
      }
      case "call":
        return yield* call(node, grid, scope);
    }
  });

const evaluate = (node: Expr, grid: Grid, scope: Scope): Evaluation<Value> => {
  if (node.kind === "number" || node.kind === "text") return evaluateMoving(node, grid, scope);
  if (grid.points > 1 && standsStill(node))
    return evaluateMoving(node, { ...grid, points: 1 }, scope).pipe(
      Effect.tap((value) => count(scope, seriesOf(value).length * grid.points)),
      Effect.map((value) => spread(value, grid.points)),
    );
  return Effect.zipRight(Effect.sleep(0), evaluateMoving(node, grid, scope));
};

/** `endMs`: of the query, which need not lie on the grid. Series without a single value are left out. */
export const evaluateQuery = (node: Expr, grid: Grid, endMs: number, source: Source): Evaluation<Value> =>
  Effect.gen(function* () {
    const scope: Scope = { source, startMs: grid.startMs, endMs, used: { samples: 0, visits: 0 } };
    const value = yield* evaluate(node, grid, scope);
    return value.kind === "vector" ? vector(value.series.filter((one) => !isEmpty(one))) : value;
  });

/** The samples that a range vector selects at one moment, for a query that asks for them as they are. */
export const evaluateSamples = (
  node: RangeNode | SubqueryNode,
  atMs: number,
  source: Source,
): Evaluation<readonly RawSeries[]> => {
  const grid = { startMs: atMs, stepMs: 1, points: 1 };
  const scope: Scope = { source, startMs: atMs, endMs: atMs, used: { samples: 0, visits: 0 } };
  return Effect.map(samplesOf(node, placed(node, grid, scope), scope), (found) =>
    found.filter((one) => one.times.length > 0),
  );
};
