/**
 * OpenTelemetry's AnyValue and KeyValue, from protobuf to text columns: a scalar as its plain text, bytes as base64, lists
 * and maps as JSON. Pure; a wrong message is Malformed. What is nested deeper or longer than the limits is cut.
 */
import { LIMITS } from "./limits.ts";
import type { Repairs, RowWriter } from "./RowWriter.ts";
import { BYTES, FIXED64, VARINT, Cursor } from "../doors/Protobuf.ts";

/** Places of the repeated messages of one record, up to a limit; the others are only counted. */
export class Places {
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  count = 0;
  constructor(most: number) {
    this.starts = new Int32Array(most);
    this.ends = new Int32Array(most);
  }
  add(start: number, end: number, repairs: Repairs): void {
    if (this.count === this.starts.length) {
      repairs.leftOut++;
      return;
    }
    this.starts[this.count] = start;
    this.ends[this.count++] = end;
  }
}

export const int64Text = (low: number, high: number): string => {
  if (high === 0) return String(low);
  if (high === 0xffffffff && low >= 0x80000000) return String(low | 0);
  return String(BigInt.asIntN(64, (BigInt(high) << 32n) | BigInt(low)));
};

/** Which kind of value the message holds: the number of its last field; the field is left in the reader. */
const last = (reader: Cursor, start: number, end: number): number => {
  let kind = 0;
  let from = start;
  let to = start;
  reader.at = start;
  while (reader.at < end) {
    const field = reader.field(end);
    const { type } = reader;
    if (type === BYTES) {
      reader.pass(end);
      if (field === 1 || (field >= 5 && field <= 7)) {
        kind = field;
        from = reader.start;
        to = reader.at;
      }
    } else if (type === VARINT) {
      reader.varint(end);
      if (field === 2 || field === 3) kind = field;
    } else if (type === FIXED64) {
      reader.fixed64(end);
      if (field === 4) kind = field;
    } else reader.skip(end);
  }
  reader.start = from;
  reader.at = to;
  return kind;
};

const double = (reader: Cursor): number => {
  HALVES.setUint32(0, reader.low, true);
  HALVES.setUint32(4, reader.high, true);
  return HALVES.getFloat64(0, true);
};
const HALVES = new DataView(new ArrayBuffer(8));

const scalar = (reader: Cursor, kind: number): string => {
  if (kind === 2) return reader.low === 0 && reader.high === 0 ? "false" : "true";
  if (kind === 3) return int64Text(reader.low, reader.high);
  return String(double(reader));
};

const utf8 = (reader: Cursor, start: number, end: number): string =>
  reader.bytes.toString("utf8", start, Math.min(end, start + LIMITS.bodyBytes));

/** A value inside a list or map, as JSON. */
const json = (reader: Cursor, start: number, end: number, depth: number): string => {
  const kind = last(reader, start, end);
  const [from, to] = [reader.start, reader.at];
  if (kind === 0 || depth > LIMITS.depth) return "null";
  if (kind === 1) return JSON.stringify(utf8(reader, from, to));
  if (kind === 4) return Number.isFinite(double(reader)) ? scalar(reader, kind) : `"${scalar(reader, kind)}"`;
  if (kind === 7) return `"${reader.bytes.toString("base64", from, Math.min(to, from + LIMITS.bodyBytes))}"`;
  if (kind < 5) return scalar(reader, kind);
  const parts: string[] = [];
  let length = 0;
  reader.at = from;
  while (reader.at < to && length < LIMITS.bodyBytes) {
    const field = reader.field(to);
    if (!reader.isSpan(to) || field !== 1) continue;
    const next = reader.at;
    const part =
      kind === 5 ? json(reader, reader.start, next, depth + 1) : jsonPair(reader, reader.start, next, depth + 1);
    length += part.length + 1;
    parts.push(part);
    reader.at = next;
  }
  return kind === 5 ? `[${parts.join(",")}]` : `{${parts.join(",")}}`;
};

const jsonPair = (reader: Cursor, start: number, end: number, depth: number): string => {
  const pair = keyValue(reader, start, end);
  const key = JSON.stringify(utf8(reader, pair.keyStart, pair.keyEnd));
  return `${key}:${json(reader, pair.valueStart, pair.valueEnd, depth)}`;
};

/** Writes the AnyValue from `start` up to `end` as text; an empty one is an empty text. */
export const writeValue = (reader: Cursor, start: number, end: number, out: RowWriter, most: number): void => {
  const kind = last(reader, start, end);
  if (kind === 1) out.text(reader.bytes, reader.start, reader.at, most);
  else if (kind === 0) out.byte(0);
  else if (kind < 5) out.ascii(scalar(reader, kind));
  else if (kind === 7)
    out.string(reader.bytes.toString("base64", reader.start, Math.min(reader.at, reader.start + most)), most);
  else out.string(json(reader, start, end, 1), most);
};

/** The AnyValue as text, for the few that are looked at. */
export const valueText = (reader: Cursor, start: number, end: number): string => {
  const kind = last(reader, start, end);
  if (kind === 1) return utf8(reader, reader.start, reader.at);
  return kind >= 2 && kind <= 4 ? scalar(reader, kind) : "";
};

interface Pair {
  keyStart: number;
  keyEnd: number;
  valueStart: number;
  valueEnd: number;
}
// one for all: a decoder runs alone in its thread between two of its steps
const PAIR: Pair = { keyStart: 0, keyEnd: 0, valueStart: 0, valueEnd: 0 };

/** Places of key and value; the result is overwritten by the next call. */
export const keyValue = (reader: Cursor, start: number, end: number): Readonly<Pair> => {
  PAIR.keyStart = PAIR.keyEnd = PAIR.valueStart = PAIR.valueEnd = start;
  reader.at = start;
  while (reader.at < end) {
    const field = reader.field(end);
    if (!reader.isSpan(end)) continue;
    if (field === 1) {
      PAIR.keyStart = reader.start;
      PAIR.keyEnd = reader.at;
    } else if (field === 2) {
      PAIR.valueStart = reader.start;
      PAIR.valueEnd = reader.at;
    }
  }
  return PAIR;
};

/** Writes the KeyValues at these places as a Map column. */
export const writePairs = (reader: Cursor, places: Places, out: RowWriter): void => {
  out.length(places.count);
  for (let i = 0; i < places.count; i++) {
    const pair = keyValue(reader, places.starts[i] ?? 0, places.ends[i] ?? 0);
    out.text(reader.bytes, pair.keyStart, pair.keyEnd, LIMITS.nameBytes);
    writeValue(reader, pair.valueStart, pair.valueEnd, out, LIMITS.valueBytes);
  }
};
