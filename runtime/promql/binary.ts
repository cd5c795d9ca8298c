/**
 * Operators between two results: scalars, vectors with a scalar, and vectors matched by labels, point by point. What a
 * match may not be is an error with Prometheus' words. Pure; throws QueryError.
 */
import {
  isComparison,
  METRIC_NAME,
  type BinaryNode,
  type BinaryOperator,
  type Matching,
  type SetOperator,
} from "./ast.ts";
import { changed, emptySeries, LABELS_COST, merged, type GridSeries, type Value } from "./grid.ts";
import { labelsKey, labelsText, only, without, withoutName, type Labels } from "./labels.ts";
import { execution, LIMITS, overLimit } from "./QueryError.ts";
import { Pace, type Work } from "./work.ts";

const power = (base: number, exponent: number): number =>
  // unlike ECMAScript, IEEE 754 says that these are 1
  base === 1 || (base === -1 && !Number.isFinite(exponent) && !Number.isNaN(exponent)) ? 1 : base ** exponent;

const APPLY: Readonly<Record<Exclude<BinaryOperator, SetOperator>, (a: number, b: number) => number>> = {
  "+": (a, b) => a + b,
  "-": (a, b) => a - b,
  "*": (a, b) => a * b,
  "/": (a, b) => a / b,
  "%": (a, b) => a % b,
  "^": power,
  atan2: Math.atan2,
  "==": (a, b) => Number(a === b),
  "!=": (a, b) => Number(a !== b),
  ">": (a, b) => Number(a > b),
  "<": (a, b) => Number(a < b),
  ">=": (a, b) => Number(a >= b),
  "<=": (a, b) => Number(a <= b),
};

type ValueOperator = keyof typeof APPLY;

const ofScalars = (operator: ValueOperator, a: Float64Array, b: Float64Array): Float64Array => {
  const apply = APPLY[operator];
  return a.map((value, i) => apply(value, b[i] ?? 0));
};

/** One side of each pair is the scalar. A comparison without `bool` keeps the vector's value where it holds. */
const withScalar = (
  { operator, bool }: BinaryNode & { readonly operator: ValueOperator },
  series: readonly GridSeries[],
  scalar: Float64Array,
  scalarIsLeft: boolean,
): Work<readonly GridSeries[]> => {
  const apply = APPLY[operator];
  const filter = isComparison(operator) && !bool;
  return changed(series, (one) => {
    const out = emptySeries(filter ? one.labels : withoutName(one.labels), scalar.length);
    for (let i = 0; i < scalar.length; i++) {
      if (one.present[i] === 0) continue;
      const value = one.values[i] ?? 0;
      const other = scalar[i] ?? 0;
      const result = scalarIsLeft ? apply(other, value) : apply(value, other);
      if (filter && result === 0) continue;
      out.values[i] = filter ? value : result;
      out.present[i] = 1;
    }
    return out;
  });
};

const groupLabels = (labels: Labels, { on, labels: names }: Matching): Labels =>
  on ? only(labels, names) : without(labels, [...names, METRIC_NAME]);

const byGroup = function* (
  series: readonly GridSeries[],
  matching: Matching,
  pace: Pace,
): Work<ReadonlyMap<string, readonly GridSeries[]>> {
  const out = new Map<string, GridSeries[]>();
  for (const one of series) {
    yield* pace.spend(LABELS_COST);
    const key = labelsKey(groupLabels(one.labels, matching));
    const group = out.get(key);
    if (group === undefined) out.set(key, [one]);
    else group.push(one);
  }
  return out;
};

const resultLabels = (many: Labels, one: Labels, node: BinaryNode): Labels => {
  const { matching, operator, bool } = node;
  let labels = many;
  if (!isComparison(operator)) labels = withoutName(labels);
  if (matching.many === "none") labels = matching.on ? only(labels, matching.labels) : without(labels, matching.labels);
  if (matching.include.length > 0) {
    const out = new Map(labels);
    for (const name of matching.include) {
      const value = one.get(name);
      if (value === undefined) out.delete(name);
      else out.set(name, value);
    }
    labels = out;
  }
  return bool ? withoutName(labels) : labels;
};

/** The one series of a group that is there at a point; -1: none. Two are an error. */
const theOne = (group: readonly GridSeries[], point: number, node: BinaryNode): number => {
  let found = -1;
  for (let i = 0; i < group.length; i++) {
    if (group[i]?.present[point] !== 1) continue;
    if (found >= 0) {
      const side = node.matching.many === "right" ? "left" : "right";
      const [a, b] = [group[i]?.labels ?? new Map(), group[found]?.labels ?? new Map()];
      throw execution(
        `found duplicate series for the match group ${labelsText(groupLabels(a, node.matching))} on the ${side} hand-side of the operation: [${labelsText(a)}, ${labelsText(b)}];many-to-many matching not allowed: matching labels must be unique on one side`,
      );
    }
    found = i;
  }
  return found;
};

const matchedVectors = function* (
  node: BinaryNode & { readonly operator: ValueOperator },
  left: readonly GridSeries[],
  right: readonly GridSeries[],
  points: number,
): Work<readonly GridSeries[]> {
  const { operator, bool, matching } = node;
  const pace = new Pace();
  const apply = APPLY[operator];
  const filter = isComparison(operator) && !bool;
  const manyIsRight = matching.many === "right";
  const [many, one] = manyIsRight ? [right, left] : [left, right];
  const ones = yield* byGroup(one, matching, pace);
  const out: GridSeries[] = [];
  let made = 0;
  for (const [key, members] of yield* byGroup(many, matching, pace)) {
    const group = ones.get(key);
    if (group === undefined) continue;
    // series of this group by their result's labels, which may differ over time where the one side does
    const results = new Map<string, GridSeries>();
    const keys = new Map<string, string>();
    for (let point = 0; point < points; point++) {
      yield* pace.spend(5 * (members.length + group.length));
      const index = theOne(group, point, node);
      const partner = group[index];
      if (partner === undefined) continue;
      let matches = 0;
      for (let m = 0; m < members.length; m++) {
        const member = members[m];
        if (member?.present[point] !== 1) continue;
        const [a, b] = [member.values[point] ?? 0, partner.values[point] ?? 0];
        const result = manyIsRight ? apply(b, a) : apply(a, b);
        if (filter && result === 0) continue;
        if (matching.many === "none" && ++matches > 1)
          throw execution(
            "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
          );
        const pair = `${m} ${index}`;
        let resultKey = keys.get(pair);
        let series = resultKey === undefined ? undefined : results.get(resultKey);
        if (resultKey === undefined || series === undefined) {
          const labels = resultLabels(member.labels, partner.labels, node);
          resultKey = labelsKey(labels);
          keys.set(pair, resultKey);
          series = results.get(resultKey);
          if (series === undefined) {
            made += points;
            if (made > LIMITS.samples) throw overLimit("samples", made);
            series = emptySeries(labels, points);
            results.set(resultKey, series);
          }
        }
        if (series.present[point] === 1)
          throw execution("multiple matches for labels: grouping labels must ensure unique matches");
        series.present[point] = 1;
        // a comparison keeps the left value, whichever side has many
        series.values[point] = filter ? (manyIsRight ? b : a) : result;
      }
    }
    out.push(...results.values());
  }
  // a group of the one side must be unique also where nothing of the other side meets it
  if (many.length > 0)
    for (const group of ones.values())
      if (group.length > 1)
        for (let point = 0; point < points; point++)
          if (many.some(({ present }) => present[point] === 1)) theOne(group, point, node);
  return out;
};

/** 1 where any series of the group is there. */
const anyPresent = (group: readonly GridSeries[] | undefined, points: number): Uint8Array => {
  const out = new Uint8Array(points);
  for (const { present } of group ?? []) for (let i = 0; i < points; i++) if (present[i] === 1) out[i] = 1;
  return out;
};

const where = (one: GridSeries, other: Uint8Array, wanted: 0 | 1): GridSeries => ({
  ...one,
  present: one.present.map((there, i) => (there === 1 && other[i] === wanted ? 1 : 0)),
});

const ofSets = function* (
  operator: SetOperator,
  matching: Matching,
  left: readonly GridSeries[],
  right: readonly GridSeries[],
  points: number,
): Work<readonly GridSeries[]> {
  const pace = new Pace();
  const kept = operator === "or" ? right : left;
  const masks = new Map<string, Uint8Array>();
  const others = yield* byGroup(operator === "or" ? left : right, matching, pace);
  const filtered: GridSeries[] = [];
  for (const one of kept) {
    yield* pace.spend(LABELS_COST + points);
    const key = labelsKey(groupLabels(one.labels, matching));
    const mask = masks.get(key) ?? anyPresent(others.get(key), points);
    masks.set(key, mask);
    filtered.push(where(one, mask, operator === "and" ? 1 : 0));
  }
  return operator === "or" ? [...left, ...filtered] : filtered;
};

const isValueOperator = (node: BinaryNode): node is BinaryNode & { readonly operator: ValueOperator } =>
  Object.hasOwn(APPLY, node.operator);

const seriesOf = (value: Value): readonly GridSeries[] => (value.kind === "vector" ? value.series : []);

export const binary = function* (node: BinaryNode, left: Value, right: Value, points: number): Work<Value> {
  if (left.kind === "string" || right.kind === "string") throw execution("operators do not join texts");
  const [a, b] = [seriesOf(left), seriesOf(right)];
  if (!isValueOperator(node)) {
    const sets = yield* ofSets(node.operator as SetOperator, node.matching, a, b, points);
    return { kind: "vector", series: yield* merged(sets) };
  }
  if (left.kind === "scalar" && right.kind === "scalar")
    return { kind: "scalar", values: ofScalars(node.operator, left.values, right.values) };
  const series =
    left.kind === "scalar"
      ? yield* withScalar(node, b, left.values, true)
      : right.kind === "scalar"
        ? yield* withScalar(node, a, right.values, false)
        : yield* matchedVectors(node, a, b, points);
  return { kind: "vector", series: yield* merged(series) };
};
