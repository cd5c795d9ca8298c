/**
 * Reads OTLP's ExportMetricsServiceRequest in protobuf, point by point, into a Translator. Pure but for it. Fields may come
 * in any order, so what a point depends on is looked for before the points are read. A message that cannot be read is a
 * Malformed. Source: opentelemetry/proto/metrics/v1/metrics.proto of opentelemetry-proto 1.9.
 */
import { BYTES, Cursor, FIXED64, Malformed } from "../../doors/Protobuf.ts";
import type { MetricHead, PointHead, Translator } from "./Translator.ts";

export const POINTS_PER_STEP = 500;
const MAX_DEPTH = 16;
/** Of one point; more are passed over, and the point is rejected for them. */
export const MAX_ATTRIBUTES = 200;
export const MAX_BUCKETS = 1_000;
const NANOS_PER_MS = 1e6;
const WORD = 2 ** 32;

/** Milliseconds of 64-bit nanoseconds, without rounding up. */
export const millis = (high: number, low: number): number =>
  Math.floor(high / NANOS_PER_MS) * WORD + Math.floor(((high % NANOS_PER_MS) * WORD + low) / NANOS_PER_MS);

const spanOf = (cursor: Cursor, end: number): number => {
  cursor.expect(BYTES);
  return cursor.span(end);
};

/** AnyValue as text: scalars plainly, bytes as base64, lists and maps as JSON. */
const readValue = (cursor: Cursor, end: number, depth: number): string | number | boolean | null | object => {
  let value: string | number | boolean | null | object = null;
  while (cursor.at < end) {
    const field = cursor.field(end);
    if (cursor.type === BYTES) {
      const to = cursor.span(end);
      if (field === 1) value = cursor.text(cursor.at, to);
      else if (field === 7) value = cursor.bytes.toString("base64", cursor.at, to);
      else if (field === 5 || field === 6) value = depth > MAX_DEPTH ? null : readMany(cursor, to, field, depth);
      cursor.at = to;
    } else if (field === 2 || field === 3) {
      cursor.varint(end);
      value = field === 2 ? cursor.low !== 0 : cursor.signed;
    } else if (field === 4) {
      cursor.fixed64(end);
      value = cursor.double;
    } else cursor.skip(end);
  }
  return value;
};

const readMany = (cursor: Cursor, end: number, kind: 5 | 6, depth: number): object => {
  const list: unknown[] = [];
  const map: [string, unknown][] = [];
  while (cursor.at < end) {
    const field = cursor.field(end);
    if (field !== 1) {
      cursor.skip(end);
      continue;
    }
    const to = spanOf(cursor, end);
    if (kind === 5) list.push(readValue(cursor, to, depth + 1));
    else {
      const [key, value] = readPair(cursor, to, depth + 1);
      map.push([key, value]);
    }
    cursor.at = to;
  }
  return kind === 5 ? list : Object.fromEntries(map);
};

const readPair = (cursor: Cursor, end: number, depth: number): [string, unknown] => {
  let key = "";
  let value: unknown = null;
  while (cursor.at < end) {
    const field = cursor.field(end);
    if (field > 2) {
      cursor.skip(end);
      continue;
    }
    const to = spanOf(cursor, end);
    if (field === 1) key = cursor.text(cursor.at, to);
    else value = readValue(cursor, to, depth);
    cursor.at = to;
  }
  return [key, value];
};

export const attributeText = (value: unknown): string => {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value as string | number | boolean);
};

const readAttribute = (cursor: Cursor, end: number, into: string[]): void => {
  if (into.length < 2 * MAX_ATTRIBUTES) {
    const [key, value] = readPair(cursor, end, 0);
    into.push(key, attributeText(value));
  }
  cursor.at = end;
};

/** Attributes of a Resource or a scope, whose field number is given. */
const attributesIn = (cursor: Cursor, end: number, number: number): string[] => {
  const attributes: string[] = [];
  while (cursor.at < end) {
    const field = cursor.field(end);
    if (field === number) readAttribute(cursor, spanOf(cursor, end), attributes);
    else cursor.skip(end);
  }
  return attributes;
};

const readScope = (cursor: Cursor, end: number, out: Translator): void => {
  let [name, version] = ["", ""];
  while (cursor.at < end) {
    const field = cursor.field(end);
    if (field > 2) {
      cursor.skip(end);
      continue;
    }
    const to = spanOf(cursor, end);
    if (field === 1) name = cursor.text(cursor.at, to);
    else version = cursor.text(cursor.at, to);
    cursor.at = to;
  }
  out.scope(name, version);
};

/** Numbers of 8 bytes, packed or one by one. */
const readNumbers = (cursor: Cursor, end: number, into: number[], asDouble: boolean): void => {
  const to = cursor.type === BYTES ? cursor.span(end) : cursor.at + 8;
  while (cursor.at < to) {
    cursor.fixed64(Math.min(to, end));
    if (into.length <= MAX_BUCKETS) into.push(asDouble ? cursor.double : cursor.unsigned);
  }
};

const DATA: ReadonlyMap<number, MetricHead["data"]> = new Map([
  [5, "gauge"],
  [7, "sum"],
  [9, "histogram"],
  [10, "exponential"],
  [11, "summary"],
] as const);

interface Point {
  attributes: string[];
  timeMs: number;
  ended: boolean;
  value: number;
  count: number;
  sum: number | null;
  counts: number[];
  bounds: number[];
  quantiles: number[];
}

const readQuantile = (cursor: Cursor, end: number, into: number[]): void => {
  let [quantile, value] = [0, 0];
  while (cursor.at < end) {
    const field = cursor.field(end);
    if (field > 2) {
      cursor.skip(end);
      continue;
    }
    cursor.expect(FIXED64);
    cursor.fixed64(end);
    if (field === 1) quantile = cursor.double;
    else value = cursor.double;
  }
  if (into.length < 2 * MAX_BUCKETS) into.push(quantile, value);
};

const readPoint = (cursor: Cursor, end: number, data: MetricHead["data"], out: Translator): void => {
  const point: Point = {
    attributes: [],
    timeMs: 0,
    ended: false,
    value: 0,
    count: 0,
    sum: null,
    counts: [],
    bounds: [],
    quantiles: [],
  };
  const isHistogram = data === "histogram";
  const isNumber = data === "gauge" || data === "sum";
  while (cursor.at < end) {
    const field = cursor.field(end);
    if (field === (isHistogram ? 9 : 7)) readAttribute(cursor, spanOf(cursor, end), point.attributes);
    else if (field === 3 && cursor.type === FIXED64) {
      cursor.fixed64(end);
      point.timeMs = millis(cursor.high, cursor.low);
    } else if (field === (isHistogram ? 10 : 8) && cursor.type !== BYTES) {
      cursor.varint(end);
      point.ended = (cursor.low & 1) === 1;
    } else if (isNumber && (field === 4 || field === 6)) {
      cursor.expect(FIXED64);
      cursor.fixed64(end);
      point.value = field === 4 ? cursor.double : cursor.signed;
    } else if (!isNumber && (field === 4 || field === 5)) {
      cursor.expect(FIXED64);
      cursor.fixed64(end);
      if (field === 4) point.count = cursor.unsigned;
      else point.sum = cursor.double;
    } else if (isHistogram && (field === 6 || field === 7))
      readNumbers(cursor, end, field === 6 ? point.counts : point.bounds, field === 7);
    else if (data === "summary" && field === 6) readQuantile(cursor, spanOf(cursor, end), point.quantiles);
    else cursor.skip(end);
  }
  const head: PointHead = point;
  if (isNumber) out.number(head, point.value);
  else if (data === "summary") out.summary(head, point.count, point.sum ?? 0, point.quantiles);
  else if (point.bounds.length > MAX_BUCKETS) out.reject("too many buckets");
  else out.histogram(head, point.count, point.sum, point.counts, point.bounds);
};

/** Steps over the fields of a message whose places matter before its content. */
const fields = (cursor: Cursor, end: number, visit: (field: number) => void): void => {
  const start = cursor.at;
  while (cursor.at < end) {
    const field = cursor.field(end);
    const { at, type } = cursor;
    visit(field);
    cursor.at = at;
    cursor.type = type;
    cursor.skip(end);
  }
  cursor.at = start;
};

const readMetric = function* (cursor: Cursor, end: number, out: Translator): Generator<void, void> {
  let [name, unit] = ["", ""];
  let data: MetricHead["data"] | null = null;
  let [from, to] = [0, 0];
  fields(cursor, end, (field) => {
    const kind = DATA.get(field);
    if (field !== 1 && field !== 3 && kind === undefined) return;
    const until = spanOf(cursor, end);
    if (field === 1) name = cursor.text(cursor.at, until);
    else if (field === 3) unit = cursor.text(cursor.at, until);
    else if (kind !== undefined) [data, from, to] = [kind, cursor.at, until];
  });
  const found = data as MetricHead["data"] | null;
  if (found === null) return;
  let [temporality, monotonic] = [0, false];
  cursor.at = from;
  fields(cursor, to, (field) => {
    if ((field !== 2 && field !== 3) || cursor.type === BYTES) return;
    cursor.varint(to);
    if (field === 2) temporality = cursor.low;
    else monotonic = cursor.low !== 0;
  });
  const taken = out.metric({ name, unit, data: found, temporality, monotonic });
  while (cursor.at < to) {
    if (cursor.field(to) !== 1) {
      cursor.skip(to);
      continue;
    }
    const until = spanOf(cursor, to);
    if (taken === true) readPoint(cursor, until, found, out);
    else out.reject(taken);
    cursor.at = until;
    if (++out.seen % POINTS_PER_STEP === 0) yield;
  }
};

const readScopeMetrics = function* (cursor: Cursor, end: number, out: Translator): Generator<void, void> {
  out.scope("", "");
  fields(cursor, end, (field) => {
    if (field === 1) readScope(cursor, spanOf(cursor, end), out);
  });
  while (cursor.at < end) {
    const field = cursor.field(end);
    if (field !== 2) {
      cursor.skip(end);
      continue;
    }
    const to = spanOf(cursor, end);
    yield* readMetric(cursor, to, out);
    cursor.at = to;
  }
};

/** Steps through the request, so that whoever runs it can let others have the thread in between. */
export const readProtobuf = function* (body: Buffer, out: Translator): Generator<void, void> {
  const cursor = new Cursor(body);
  const end = body.length;
  while (cursor.at < end) {
    if (cursor.field(end) !== 1) {
      cursor.skip(end);
      continue;
    }
    const to = spanOf(cursor, end);
    out.resource([]);
    fields(cursor, to, (field) => {
      if (field === 1) out.resource(attributesIn(cursor, spanOf(cursor, to), 1));
    });
    while (cursor.at < to) {
      const field = cursor.field(to);
      if (field !== 2) {
        cursor.skip(to);
        continue;
      }
      const until = spanOf(cursor, to);
      yield* readScopeMetrics(cursor, until, out);
      cursor.at = until;
    }
    out.endResource();
  }
  if (cursor.at !== end) throw new Malformed("a message beyond its end", cursor.at);
};
