/**
 * Reads OTLP's ExportMetricsServiceRequest in JSON into a Translator. Pure but for it. 64-bit numbers come as text or as
 * numbers, enums as numbers, names in lowerCamelCase. What is no JSON, or has a list or an object where there is none, is a
 * Malformed. Source: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
 */
import { Malformed } from "../../doors/Protobuf.ts";
import { attributeText, MAX_ATTRIBUTES, MAX_BUCKETS, POINTS_PER_STEP } from "./protobuf.ts";
import type { MetricHead, Translator } from "./Translator.ts";

type Fields = Readonly<Record<string, unknown>>;

const wrong = (what: string): Malformed => new Malformed(what);

const fieldsOf = (value: unknown, what: string): Fields => {
  if (value === undefined || value === null) return {};
  if (typeof value !== "object" || Array.isArray(value)) throw wrong(`${what} is no object`);
  return value as Fields;
};

const listOf = (value: unknown, what: string): readonly unknown[] => {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw wrong(`${what} is no list`);
  return value;
};

const textOf = (value: unknown): string => (typeof value === "string" ? value : "");

/** A number, or its text; "NaN", "Infinity" and "-Infinity" as protobuf's JSON has them. */
const numberOf = (value: unknown, what: string): number => {
  if (typeof value === "number") return value;
  if (value === undefined || value === null || value === "") return 0;
  const number = typeof value === "string" ? Number(value) : Number.NaN;
  if (Number.isNaN(number) && value !== "NaN") throw wrong(`${what} is no number`);
  return number;
};

const millisOf = (value: unknown): number => {
  if (typeof value === "string" && /^\d{1,20}$/.test(value)) return Math.floor(Number(value.slice(0, -6)));
  return Math.floor(numberOf(value, "timeUnixNano") / 1e6);
};

/** AnyValue as plain JSON. */
const plainValue = (value: unknown, depth: number): unknown => {
  const fields = fieldsOf(value, "value");
  if (depth > 16) return null;
  if (fields["stringValue"] !== undefined) return textOf(fields["stringValue"]);
  if (fields["boolValue"] !== undefined) return fields["boolValue"] === true;
  if (fields["intValue"] !== undefined) return numberOf(fields["intValue"], "intValue");
  if (fields["doubleValue"] !== undefined) return numberOf(fields["doubleValue"], "doubleValue");
  if (fields["bytesValue"] !== undefined) return textOf(fields["bytesValue"]);
  if (fields["arrayValue"] !== undefined)
    return listOf(fieldsOf(fields["arrayValue"], "arrayValue")["values"], "values").map((one) =>
      plainValue(one, depth + 1),
    );
  if (fields["kvlistValue"] === undefined) return null;
  const pairs = listOf(fieldsOf(fields["kvlistValue"], "kvlistValue")["values"], "values");
  return Object.fromEntries(
    pairs.map((pair) => {
      const { key, value: content } = fieldsOf(pair, "attribute");
      return [textOf(key), plainValue(content, depth + 1)];
    }),
  );
};

const attributesOf = (value: unknown): string[] =>
  listOf(value, "attributes")
    .slice(0, MAX_ATTRIBUTES)
    .flatMap((one) => {
      const { key, value: content } = fieldsOf(one, "attribute");
      return [textOf(key), attributeText(plainValue(content, 0))];
    });

const numbersOf = (value: unknown, what: string): number[] =>
  listOf(value, what)
    .slice(0, MAX_BUCKETS + 2)
    .map((one) => numberOf(one, what));

const DATA = [
  ["gauge", "gauge"],
  ["sum", "sum"],
  ["histogram", "histogram"],
  ["exponentialHistogram", "exponential"],
  ["summary", "summary"],
] as const;

const TEMPORALITIES: ReadonlyMap<unknown, number> = new Map<unknown, number>([
  ["AGGREGATION_TEMPORALITY_DELTA", 1],
  ["AGGREGATION_TEMPORALITY_CUMULATIVE", 2],
]);

const readPoint = (point: Fields, data: MetricHead["data"], out: Translator): void => {
  const head = {
    attributes: attributesOf(point["attributes"]),
    timeMs: millisOf(point["timeUnixNano"]),
    ended: (numberOf(point["flags"], "flags") & 1) === 1,
  };
  if (data === "gauge" || data === "sum") {
    const isInt = point["asInt"] !== undefined;
    return out.number(head, numberOf(isInt ? point["asInt"] : point["asDouble"], isInt ? "asInt" : "asDouble"));
  }
  const count = numberOf(point["count"], "count");
  const hasSum = point["sum"] !== undefined && point["sum"] !== null;
  const sum = hasSum ? numberOf(point["sum"], "sum") : null;
  if (data === "summary") {
    const quantiles = listOf(point["quantileValues"], "quantileValues")
      .slice(0, MAX_BUCKETS)
      .flatMap((one) => {
        const { quantile, value } = fieldsOf(one, "quantileValue");
        return [numberOf(quantile, "quantile"), numberOf(value, "value")];
      });
    return out.summary(head, count, sum ?? 0, quantiles);
  }
  const bounds = numbersOf(point["explicitBounds"], "explicitBounds");
  if (bounds.length > MAX_BUCKETS) return out.reject("too many buckets");
  out.histogram(head, count, sum, numbersOf(point["bucketCounts"], "bucketCounts"), bounds);
};

const readMetric = function* (metric: Fields, out: Translator): Generator<void, void> {
  for (const [field, data] of DATA) {
    if (metric[field] === undefined || metric[field] === null) continue;
    const content = fieldsOf(metric[field], field);
    const temporality = content["aggregationTemporality"];
    const taken = out.metric({
      name: textOf(metric["name"]),
      unit: textOf(metric["unit"]),
      data,
      temporality: TEMPORALITIES.get(temporality) ?? numberOf(temporality, "aggregationTemporality"),
      monotonic: content["isMonotonic"] === true,
    });
    for (const point of listOf(content["dataPoints"], "dataPoints")) {
      if (taken === true) readPoint(fieldsOf(point, "dataPoint"), data, out);
      else out.reject(taken);
      if (++out.seen % POINTS_PER_STEP === 0) yield;
    }
  }
};

const parsed = (body: Buffer): Fields => {
  try {
    return fieldsOf(JSON.parse(body.toString("utf8")) as unknown, "the request");
  } catch (error) {
    throw error instanceof Malformed ? error : wrong("it is no JSON");
  }
};

/** Steps through the request, so that whoever runs it can let others have the thread in between. */
export const readJson = function* (body: Buffer, out: Translator): Generator<void, void> {
  for (const resourceMetrics of listOf(parsed(body)["resourceMetrics"], "resourceMetrics")) {
    const { resource, scopeMetrics } = fieldsOf(resourceMetrics, "resourceMetrics");
    out.resource(attributesOf(fieldsOf(resource, "resource")["attributes"]));
    for (const one of listOf(scopeMetrics, "scopeMetrics")) {
      const { scope, metrics } = fieldsOf(one, "scopeMetrics");
      const { name, version } = fieldsOf(scope, "scope");
      out.scope(textOf(name), textOf(version));
      for (const metric of listOf(metrics, "metrics")) yield* readMetric(fieldsOf(metric, "metric"), out);
    }
    out.endResource();
  }
};
