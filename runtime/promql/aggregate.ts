/**
 * Aggregations over the series of a grid: by labels or without them, point by point. Pure; throws QueryError.
 */
import { METRIC_NAME, type AggregateNode, type Aggregation } from "./ast.ts";
import { emptySeries, type GridSeries, type Value } from "./grid.ts";
import { labelsKey, only, without, type Labels } from "./labels.ts";
import { ascending, mean, plainText, quantile, Sum, variance } from "./numbers.ts";
import { execution } from "./QueryError.ts";

interface Group {
  readonly labels: Labels;
  readonly members: GridSeries[];
}

const LABEL_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

const grouped = (node: AggregateNode, series: readonly GridSeries[]): readonly Group[] => {
  const groups = new Map<string, Group>();
  for (const one of series) {
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

const fold = (
  operator: Aggregation,
  { labels, members }: Group,
  param: Float64Array | null,
  points: number,
): GridSeries => {
  const out = emptySeries(labels, points);
  for (let point = 0; point < points; point++) {
    const values: number[] = [];
    for (const { present, values: all } of members) if (present[point] === 1) values.push(all[point] ?? 0);
    if (values.length === 0) continue;
    out.present[point] = 1;
    out.values[point] = folded(operator, values, param?.[point] ?? Number.NaN);
  }
  return out;
};

/** The k first of each group at each point; at a single point in the order of their values. NaN is the last choice. */
const chosen = (largest: boolean, { members }: Group, k: Float64Array): readonly GridSeries[] => {
  const points = k.length;
  const out = members.map(({ labels, values }) => ({ labels, values, present: new Uint8Array(points) }));
  const first = (a: number, b: number): number => {
    if (Number.isNaN(a) || Number.isNaN(b)) return ascending(b, a);
    return largest ? b - a : a - b;
  };
  let order: readonly number[] = members.map((_, i) => i);
  for (let point = 0; point < points; point++) {
    const most = Math.floor(k[point] ?? Number.NaN);
    if (Number.isNaN(most)) throw execution("Parameter value is NaN");
    if (most < 1) continue;
    const there = members.flatMap((member, i) => (member.present[point] === 1 ? [i] : []));
    const at = (i: number): number => members[i]?.values[point] ?? Number.NaN;
    const best = there.sort((a, b) => first(at(a), at(b))).slice(0, most);
    for (const i of best) (out[i]?.present ?? new Uint8Array(0))[point] = 1;
    if (points === 1) order = best;
  }
  return order.flatMap((i) => out[i] ?? []);
};

const countValues = (label: string, group: Group, points: number): readonly GridSeries[] => {
  if (!LABEL_NAME.test(label)) throw execution(`invalid label name ${JSON.stringify(label)} in count_values`);
  const found = new Map<string, GridSeries>();
  for (let point = 0; point < points; point++)
    for (const { present, values } of group.members) {
      if (present[point] !== 1) continue;
      const text = plainText(values[point] ?? 0);
      let series = found.get(text);
      if (series === undefined) {
        series = emptySeries(new Map([...group.labels, [label, text]]), points);
        found.set(text, series);
      }
      series.present[point] = 1;
      series.values[point] = (series.values[point] ?? 0) + 1;
    }
  return [...found.values()];
};

export const aggregate = (
  node: AggregateNode,
  series: readonly GridSeries[],
  param: Value | null,
  points: number,
): readonly GridSeries[] => {
  const { operator } = node;
  const scalar = param?.kind === "scalar" ? param.values : null;
  if (operator === "count_values") {
    const label = param?.kind === "string" ? param.text : "";
    // a label that they have by that name is replaced, so it does not keep series apart
    const bare = series.map((one) => ({ ...one, labels: without(one.labels, [label]) }));
    return grouped(node, bare).flatMap((group) => countValues(label, group, points));
  }
  const groups = grouped(node, series);
  if (operator === "topk" || operator === "bottomk")
    return groups.flatMap((group) => chosen(operator === "topk", group, scalar ?? new Float64Array(points)));
  return groups.map((group) => fold(operator, group, scalar, points));
};
