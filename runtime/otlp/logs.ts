/**
 * ExportLogsServiceRequest to rows of `logs`, in the manner of spans.ts. Pure; see envelope.ts for failures. A record
 * without a time has that of its observation, and without that ours. A trace or span id of the wrong length is left out.
 */
import { DayRows, msOf } from "./DayRows.ts";
import { encoded, Rejections, walk, type Encoded, type EncodeOptions } from "./envelope.ts";
import { AHEAD_MS, LIMITS } from "./limits.ts";
import { Origin } from "./Origin.ts";
import { Pattern } from "./pattern.ts";
import { noRepairs } from "./RowWriter.ts";
import { Places, writePairs, writeValue } from "./values.ts";
import { Cursor } from "../doors/Protobuf.ts";

const NAMES = { resources: "resource_logs", scopes: "scope_logs", records: "log_records" };
const MOST_SEVERITY = 24;

/** Where a string's bytes begin whose length is written at `at`. */
const afterLength = (bytes: Buffer, at: number): number => {
  let from = at;
  while ((bytes[from] ?? 0) > 0x7f) from++;
  return from + 1;
};

class LogEncoder {
  readonly repairs = noRepairs();
  readonly rejected = new Rejections();
  readonly rows: DayRows;
  readonly origin = new Origin(this.repairs);
  timeless = 0;
  private readonly attributes = new Places(LIMITS.attributes);
  private readonly pattern = new Pattern();
  private readonly batchLow: number;
  private readonly batchHigh: number;
  private readonly nowLow: number;
  private readonly nowHigh: number;
  private readonly oldestMs: number;
  private readonly newestMs: number;
  private readonly reader: Cursor;

  constructor(reader: Cursor, { batch, nowMs, oldestMs }: EncodeOptions) {
    this.reader = reader;
    this.rows = new DayRows(this.repairs, reader.bytes.length);
    this.batchLow = Number(batch & 0xffffffffn);
    this.batchHigh = Number(batch >> 32n);
    const now = BigInt(Math.floor(nowMs)) * 1_000_000n;
    this.nowLow = Number(now & 0xffffffffn);
    this.nowHigh = Number(now >> 32n);
    this.oldestMs = oldestMs;
    this.newestMs = nowMs + AHEAD_MS;
  }

  readonly record = (start: number, end: number): void => {
    const { reader, attributes } = this;
    const { bytes } = reader;
    attributes.count = 0;
    let low = 0;
    let high = 0;
    let observedLow = 0;
    let observedHigh = 0;
    let severity = 0;
    let severityText = start;
    let severityTextEnd = start;
    let event = start;
    let eventEnd = start;
    let body = start;
    let bodyEnd = start;
    let trace = start;
    let traceEnd = start;
    let id = start;
    let idEnd = start;
    reader.at = start;
    while (reader.at < end) {
      switch (reader.field(end)) {
        case 1:
          if (!reader.isFixed64(end)) break;
          low = reader.low;
          high = reader.high;
          break;
        case 2:
          if (!reader.isVarint(end)) break;
          severity = reader.high === 0 && reader.low <= MOST_SEVERITY ? reader.low : 0;
          break;
        case 3:
          if (!reader.isSpan(end)) break;
          severityText = reader.start;
          severityTextEnd = reader.at;
          break;
        case 5:
          if (!reader.isSpan(end)) break;
          body = reader.start;
          bodyEnd = reader.at;
          break;
        case 6:
          if (reader.isSpan(end)) attributes.add(reader.start, reader.at, this.repairs);
          break;
        case 9:
          if (!reader.isSpan(end)) break;
          trace = reader.start;
          traceEnd = reader.at;
          break;
        case 10:
          if (!reader.isSpan(end)) break;
          id = reader.start;
          idEnd = reader.at;
          break;
        case 11:
          if (!reader.isFixed64(end)) break;
          observedLow = reader.low;
          observedHigh = reader.high;
          break;
        case 12:
          if (!reader.isSpan(end)) break;
          event = reader.start;
          eventEnd = reader.at;
          break;
        default:
          reader.skip(end);
      }
    }
    if (low === 0 && high === 0) {
      low = observedLow;
      high = observedHigh;
    }
    if (low === 0 && high === 0) {
      low = this.nowLow;
      high = this.nowHigh;
      this.timeless++;
    }
    const ms = msOf(low, high);
    if (ms > this.newestMs) return this.rejected.add("a time that is more than an hour ahead");
    if (ms < this.oldestMs) return this.rejected.add("a time that is older than what is kept");

    const out = this.rows.begin(low, high);
    out.u64(low, high);
    out.byte(severity);
    if (traceEnd - trace === 16) out.raw(bytes, trace, traceEnd);
    else out.zeros(16);
    if (idEnd - id === 8) out.raw(bytes, id, idEnd);
    else out.zeros(8);
    out.u64(this.batchLow, this.batchHigh);
    this.origin.copyInto(out);
    out.text(bytes, severityText, severityTextEnd, LIMITS.nameBytes);
    out.text(bytes, event, eventEnd, LIMITS.nameBytes);
    const bodyAt = out.at;
    writeValue(reader, body, bodyEnd, out, LIMITS.bodyBytes);
    const { pattern } = this;
    pattern.of(out.bytes, afterLength(out.bytes, bodyAt), out.at);
    out.u64(pattern.low, pattern.high);
    writePairs(reader, attributes, out);
    this.rows.end(out);
  };
}

/** In steps; see envelope.ts. */
export function* encodeLogs(bytes: Buffer, options: EncodeOptions): Generator<void, Encoded> {
  const reader = new Cursor(bytes);
  const encoder = new LogEncoder(reader, options);
  yield* walk(reader, encoder.origin, encoder.record, NAMES);
  return encoded(encoder.rows, encoder.rejected, encoder.repairs, encoder.timeless);
}
