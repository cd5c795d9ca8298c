/**
 * Aggregations over the series of a grid: by labels or without them, point by point. Pure; throws QueryError.
 */
import { METRIC_NAME, type AggregateNode, type Aggregation } from "./ast.ts";
import { emptySeries, LABELS_COST, type GridSeries, type Value } from "./grid.ts";
import { labelsKey, only, without, type Labels } from "./labels.ts";
import { ascending, mean, plainText, quantile, Sum, variance } from "./numbers.ts";
import { execution, LIMITS, overLimit } from "./QueryError.ts";
import { Pace, type Work } from "./work.ts";

interface Group {
  readonly labels: Labels;
  readonly members: GridSeries[];
}

const LABEL_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

const grouped = function* (node: AggregateNode, series: readonly GridSeries[], pace: Pace): Work<readonly Group[]> {
  const groups = new Map<string, Group>();
  for (const one of series) {
    yield* pace.spend(LABELS_COST);
    const labels = node.without ? without(one.labels, [...node.labels, METRIC_NAME]) : only(one.labels, node.labels);
    const key = labelsKey(labels);
    const group = groups.get(key) ?? { labels, members: [] };
    groups.set(key, group);
    group.members.push(one);
  }
  return [...groups.values()];
};

/** Values there are at one point → one value. */
const folded = (operator: Aggregation, values: number[], param: number): number => {
  switch (operator) {
    case "sum": {
      const sum = new Sum();
      for (const value of values) sum.add(value);
      return sum.value;
    }
    case "avg":
      return mean(values.length, (i) => values[i] ?? 0);
    case "min":
      return values.reduce((best, value) => (value < best || Number.isNaN(best) ? value : best));
    case "max":
      return values.reduce((best, value) => (value > best || Number.isNaN(best) ? value : best));
    case "count":
      return values.length;
    case "stdvar":
      return variance(values.length, (i) => values[i] ?? 0);
    case "stddev":
      return Math.sqrt(variance(values.length, (i) => values[i] ?? 0));
    case "quantile":
      return quantile(param, values);
    default:
      return 1;
  }
};

const fold = function* (
  operator: Aggregation,
  { labels, members }: Group,
  param: Float64Array | null,
  points: number,
  pace: Pace,
): Work<GridSeries> {
  const out = emptySeries(labels, points);
  for (let point = 0; point < points; point++) {
    yield* pace.spend(members.length);
    const values: number[] = [];
    for (const { present, values: all } of members) if (present[point] === 1) values.push(all[point] ?? 0);
    if (values.length === 0) continue;
    out.present[point] = 1;
    out.values[point] = folded(operator, values, param?.[point] ?? Number.NaN);
  }
  return out;
};

/** A choice up to this size is kept in order while the series pass; a larger one is sorted out. */
const SMALL = 64;

const best = (there: readonly number[], most: number, first: (a: number, b: number) => number): readonly number[] => {
  if (most > SMALL) return there.toSorted(first).slice(0, most);
  const out: number[] = [];
  for (const one of there) {
    let at = out.length;
    while (at > 0 && first(one, out[at - 1] ?? one) < 0) at--;
    if (at >= most) continue;
    out.splice(at, 0, one);
    if (out.length > most) out.pop();
  }
  return out;
};

/** The k first of each group at each point; at a single point in the order of their values. NaN is the last choice. */
const chosen = function* (
  largest: boolean,
  { members }: Group,
  k: Float64Array,
  pace: Pace,
): Work<readonly GridSeries[]> {
  const points = k.length;
  const out = members.map(({ labels, values }) => ({ labels, values, present: new Uint8Array(points) }));
  let order: readonly number[] = members.map((_, i) => i);
  for (let point = 0; point < points; point++) {
    yield* pace.spend(5 * members.length);
    const most = Math.floor(k[point] ?? Number.NaN);
    if (Number.isNaN(most)) throw execution("Parameter value is NaN");
    if (most < 1) continue;
    const there = members.flatMap((member, i) => (member.present[point] === 1 ? [i] : []));
    const at = (i: number): number => members[i]?.values[point] ?? Number.NaN;
    const first = (i: number, j: number): number => {
      const [a, b] = [at(i), at(j)];
      if (Number.isNaN(a) || Number.isNaN(b)) return ascending(b, a);
      return largest ? b - a : a - b;
    };
    const picked = best(there, most, first);
    for (const i of picked) (out[i]?.present ?? new Uint8Array(0))[point] = 1;
    if (points === 1) order = picked;
  }
  return order.flatMap((i) => out[i] ?? []);
};

/** `made`: series of the groups before. */
const countValues = function* (
  label: string,
  group: Group,
  points: number,
  made: number,
  pace: Pace,
): Work<readonly GridSeries[]> {
  if (!LABEL_NAME.test(label)) throw execution(`invalid label name ${JSON.stringify(label)} in count_values`);
  const found = new Map<string, GridSeries>();
  for (let point = 0; point < points; point++) {
    yield* pace.spend(5 * group.members.length);
    for (const { present, values } of group.members) {
      if (present[point] !== 1) continue;
      const text = plainText(values[point] ?? 0);
      let series = found.get(text);
      if (series === undefined) {
        const wanted = (made + found.size + 1) * points;
        if (wanted > LIMITS.samples) throw overLimit("samples", wanted);
        series = emptySeries(new Map([...group.labels, [label, text]]), points);
        found.set(text, series);
      }
      series.present[point] = 1;
      series.values[point] = (series.values[point] ?? 0) + 1;
    }
  }
  return [...found.values()];
};

export const aggregate = function* (
  node: AggregateNode,
  series: readonly GridSeries[],
  param: Value | null,
  points: number,
): Work<readonly GridSeries[]> {
  const { operator } = node;
  const pace = new Pace();
  const scalar = param?.kind === "scalar" ? param.values : null;
  const label = param?.kind === "string" ? param.text : "";
  // a label that they have by that name is replaced, so it does not keep series apart
  const input =
    operator === "count_values" ? series.map((one) => ({ ...one, labels: without(one.labels, [label]) })) : series;
  const out: GridSeries[] = [];
  for (const group of yield* grouped(node, input, pace)) {
    if (operator === "count_values") out.push(...(yield* countValues(label, group, points, out.length, pace)));
    else if (operator === "topk" || operator === "bottomk")
      out.push(...(yield* chosen(operator === "topk", group, scalar ?? new Float64Array(points), pace)));
    else out.push(yield* fold(operator, group, scalar, points, pace));
  }
  return out;
};
