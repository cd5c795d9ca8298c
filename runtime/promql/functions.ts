/**
 * The functions that PromQL has here, by name: what they take and give. A name of Prometheus that is absent is refused by
 * name, with the reason. Pure data.
 */
import type { ValueType } from "./ast.ts";

export interface Signature {
  readonly args: readonly ValueType[];
  /** how many of `args` may be left out at the end */
  readonly optional: number;
  /** the last argument may be repeated, or left out */
  readonly variadic: boolean;
  readonly returns: ValueType;
}

const fn = (args: readonly ValueType[], returns: ValueType, optional = 0, variadic = false): Signature => ({
  args,
  optional,
  variadic,
  returns,
});

/** Names that take a vector and give one, value by value. */
export const ELEMENTWISE = [
  ..."abs ceil floor exp ln log2 log10 sqrt sgn deg rad".split(" "),
  ..."sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh".split(" "),
] as const;

export const DATE_PARTS = "minute hour month year day_of_week day_of_month day_of_year days_in_month".split(" ");

const OVER_TIME = "avg min max sum count stddev stdvar last present".split(" ").map((name) => `${name}_over_time`);
const RANGE = [..."rate increase delta irate idelta deriv changes resets".split(" "), ...OVER_TIME];

export const FUNCTIONS: ReadonlyMap<string, Signature> = new Map<string, Signature>([
  ...ELEMENTWISE.map((name) => [name, fn(["vector"], "vector")] as const),
  ...DATE_PARTS.map((name) => [name, fn(["vector"], "vector", 1)] as const),
  ...RANGE.map((name) => [name, fn(["matrix"], "vector")] as const),
  ["absent", fn(["vector"], "vector")],
  ["absent_over_time", fn(["matrix"], "vector")],
  ["clamp", fn(["vector", "scalar", "scalar"], "vector")],
  ["clamp_max", fn(["vector", "scalar"], "vector")],
  ["clamp_min", fn(["vector", "scalar"], "vector")],
  ["histogram_quantile", fn(["scalar", "vector"], "vector")],
  ["label_join", fn(["vector", "string", "string", "string"], "vector", 0, true)],
  ["label_replace", fn(["vector", "string", "string", "string", "string"], "vector")],
  ["pi", fn([], "scalar")],
  ["predict_linear", fn(["matrix", "scalar"], "vector")],
  ["quantile_over_time", fn(["scalar", "matrix"], "vector")],
  ["round", fn(["vector", "scalar"], "vector", 1)],
  ["scalar", fn(["vector"], "scalar")],
  ["sort", fn(["vector"], "vector")],
  ["sort_desc", fn(["vector"], "vector")],
  ["time", fn([], "scalar")],
  ["timestamp", fn(["vector"], "vector")],
  ["vector", fn(["scalar"], "vector")],
]);

const NATIVE = "it works on native histograms, which are not kept";
const EXPERIMENTAL = "it is experimental in Prometheus";

/** Why a function of Prometheus is not there; null for a name that it does not have either. */
export const absentBecause = (name: string): string | null => {
  if (/^histogram_(avg|count|sum|fraction|stddev|stdvar)$/.test(name)) return NATIVE;
  if (name === "info") return "it needs joins with info metrics, which are not kept apart";
  if (
    /^(double_exponential_smoothing|mad_over_time|first_over_time|histogram_quantiles|start_timestamp|limitk|limit_ratio)$/.test(
      name,
    ) ||
    /^(ts_of_\w+_over_time|sort_by_label|sort_by_label_desc|start|end|range|step|min_of|max_of)$/.test(name)
  )
    return EXPERIMENTAL;
  return name === "holt_winters" ? "Prometheus has taken it out" : null;
};
