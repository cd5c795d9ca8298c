/**
 * How OpenTelemetry's metrics are called as Prometheus series: names, units as suffixes, `_total`, labels, numbers in
 * labels. Pure. Source: https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/ and, where it
 * leaves a choice, what Prometheus' own OTLP receiver does by default (escaped with underscores, with suffixes).
 */
export type MetricKind = "gauge" | "counter" | "up-down" | "histogram" | "summary";

const UNITS: ReadonlyMap<string, string> = new Map([
  ["d", "days"],
  ["h", "hours"],
  ["min", "minutes"],
  ["s", "seconds"],
  ["ms", "milliseconds"],
  ["us", "microseconds"],
  ["ns", "nanoseconds"],
  ["By", "bytes"],
  ["KiBy", "kibibytes"],
  ["MiBy", "mebibytes"],
  ["GiBy", "gibibytes"],
  ["TiBy", "tibibytes"],
  ["KBy", "kilobytes"],
  ["MBy", "megabytes"],
  ["GBy", "gigabytes"],
  ["TBy", "terabytes"],
  ["m", "meters"],
  ["V", "volts"],
  ["A", "amperes"],
  ["J", "joules"],
  ["W", "watts"],
  ["g", "grams"],
  ["Cel", "celsius"],
  ["Hz", "hertz"],
  ["1", ""],
  ["%", "percent"],
]);

const PER_UNITS: ReadonlyMap<string, string> = new Map([
  ["s", "second"],
  ["m", "minute"],
  ["h", "hour"],
  ["d", "day"],
  ["w", "week"],
  ["mo", "month"],
  ["y", "year"],
]);

const cleanUnit = (unit: string): string => unit.replace(/[^a-zA-Z0-9:]+/g, "_").replace(/^_+|_+$/g, "");

/** A unit in braces is a remark, and no unit. */
const unitText = (unit: string | undefined, known: ReadonlyMap<string, string>): string => {
  const trimmed = (unit ?? "").trim();
  if (trimmed === "" || /[{}]/.test(trimmed)) return "";
  return cleanUnit(known.get(trimmed) ?? trimmed);
};

export const metricName = (name: string, unit: string, kind: MetricKind): string => {
  let tokens = name.split(/[^a-zA-Z0-9:]+/).filter((token) => token !== "");
  const slash = unit.indexOf("/");
  const main = unitText(slash < 0 ? unit : unit.slice(0, slash), UNITS);
  const per = slash < 0 ? "" : unitText(unit.slice(slash + 1), PER_UNITS);
  const without = (word: string): string[] => tokens.filter((token) => token !== word);
  if (main !== "" && !tokens.includes(main)) tokens.push(main);
  if (per !== "" && !tokens.includes(per)) tokens.push("per", per);
  if (kind === "counter") tokens = [...without("total"), "total"];
  if (kind === "gauge" && unit.trim() === "1") tokens = [...without("ratio"), "ratio"];
  const joined = tokens.join("_");
  return /^[0-9]/.test(joined) ? `_${joined}` : joined;
};

export const labelName = (key: string): string => {
  const clean = key.replace(/[^a-zA-Z0-9]+/g, "_");
  return /^[0-9]/.test(clean) ? `key_${clean}` : clean;
};

/** A number in `le` and `quantile`, without an exponent. */
export const numberText = (value: number): string => {
  if (value === Number.POSITIVE_INFINITY) return "+Inf";
  if (value === Number.NEGATIVE_INFINITY) return "-Inf";
  const text = String(value);
  const parts = /^(-?)(\d)(?:\.(\d+))?e([+-]\d+)$/.exec(text);
  if (parts === null) return text;
  const [, sign = "", whole = "", fraction = "", exponent = "0"] = parts;
  const digits = whole + fraction;
  const point = 1 + Number(exponent);
  if (point <= 0) return `${sign}0.${"0".repeat(-point)}${digits}`;
  return `${sign}${digits.padEnd(point, "0")}`;
};

/** Names and values in turn: keys that become the same label have their values joined, in the order of the keys. */
export const labelPairs = (attributes: readonly string[]): string[] => {
  const found = new Map<string, { readonly key: string; readonly value: string }[]>();
  for (let i = 0; i < attributes.length; i += 2) {
    const key = attributes[i] ?? "";
    const label = labelName(key);
    if (label === "" || label === "_") continue;
    const same = found.get(label);
    const one = { key, value: attributes[i + 1] ?? "" };
    if (same === undefined) found.set(label, [one]);
    else same.push(one);
  }
  return [...found].flatMap(([label, values]) => [
    label,
    values.length === 1
      ? (values[0]?.value ?? "")
      : values
          .sort((a, b) => (a.key < b.key ? -1 : 1))
          .map(({ value }) => value)
          .join(";"),
  ]);
};
