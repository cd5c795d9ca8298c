/**
 * ExportTraceServiceRequest to rows of `spans`: one pass over each span's fields that notes where they lie, then one that
 * writes the row, in the order of the table's columns. No object per span. Pure; see envelope.ts for failures. A span without valid ids or with a time that
 * the store would not keep is refused by itself; an unknown kind or status is kept as unspecified.
 */
import { DayRows, msOf } from "./DayRows.ts";
import { encoded, Rejections, walk, type Encoded, type EncodeOptions } from "./envelope.ts";
import { AHEAD_MS, LIMITS } from "./limits.ts";
import { Origin } from "./Origin.ts";
import { Peer } from "./Peer.ts";
import { noRepairs, type RowWriter } from "./RowWriter.ts";
import { keyValue, Places, writePairs, writeValue } from "./values.ts";
import { Cursor } from "../doors/Protobuf.ts";

const NAMES = { resources: "resource_spans", scopes: "scope_spans", records: "spans" };
const CLIENT = 3;
const PRODUCER = 4;
const MOST_KIND = 5;
const MOST_STATUS = 2;

const isZero = (bytes: Buffer, start: number, end: number): boolean => {
  for (let i = start; i < end; i++) if (bytes[i] !== 0) return false;
  return true;
};

class SpanEncoder {
  readonly repairs = noRepairs();
  readonly rejected = new Rejections();
  readonly rows: DayRows;
  readonly origin = new Origin(this.repairs);
  private readonly attributes = new Places(LIMITS.attributes);
  private readonly events = new Places(LIMITS.events);
  private readonly links = new Places(LIMITS.links);
  private readonly nested = new Places(LIMITS.attributes);
  private readonly peer = new Peer();
  private readonly batchLow: number;
  private readonly batchHigh: number;
  private readonly oldestMs: number;
  private readonly newestMs: number;
  private readonly reader: Cursor;

  constructor(reader: Cursor, { batch, nowMs, oldestMs }: EncodeOptions) {
    this.reader = reader;
    this.rows = new DayRows(this.repairs, reader.bytes.length);
    this.batchLow = Number(batch & 0xffffffffn);
    this.batchHigh = Number(batch >> 32n);
    this.oldestMs = oldestMs;
    this.newestMs = nowMs + AHEAD_MS;
  }

  readonly span = (start: number, end: number): void => {
    const { reader, attributes, events, links, repairs } = this;
    const { bytes } = reader;
    attributes.count = events.count = links.count = 0;
    let trace = start;
    let traceEnd = start;
    let id = start;
    let idEnd = start;
    let parent = start;
    let parentEnd = start;
    let name = start;
    let nameEnd = start;
    let state = start;
    let stateEnd = start;
    let message = start;
    let messageEnd = start;
    let kind = 0;
    let status = 0;
    let startLow = 0;
    let startHigh = 0;
    let endLow = 0;
    let endHigh = 0;
    reader.at = start;
    while (reader.at < end) {
      switch (reader.field(end)) {
        case 1:
          if (!reader.isSpan(end)) break;
          trace = reader.start;
          traceEnd = reader.at;
          break;
        case 2:
          if (!reader.isSpan(end)) break;
          id = reader.start;
          idEnd = reader.at;
          break;
        case 3:
          if (!reader.isSpan(end)) break;
          state = reader.start;
          stateEnd = reader.at;
          break;
        case 4:
          if (!reader.isSpan(end)) break;
          parent = reader.start;
          parentEnd = reader.at;
          break;
        case 5:
          if (!reader.isSpan(end)) break;
          name = reader.start;
          nameEnd = reader.at;
          break;
        case 6:
          if (!reader.isVarint(end)) break;
          kind = reader.high === 0 && reader.low <= MOST_KIND ? reader.low : 0;
          break;
        case 7:
          if (!reader.isFixed64(end)) break;
          startLow = reader.low;
          startHigh = reader.high;
          break;
        case 8:
          if (!reader.isFixed64(end)) break;
          endLow = reader.low;
          endHigh = reader.high;
          break;
        case 9:
          if (reader.isSpan(end)) attributes.add(reader.start, reader.at, repairs);
          break;
        case 11:
          if (reader.isSpan(end)) events.add(reader.start, reader.at, repairs);
          break;
        case 13:
          if (reader.isSpan(end)) links.add(reader.start, reader.at, repairs);
          break;
        case 15: {
          if (!reader.isSpan(end)) break;
          const to = reader.at;
          reader.at = reader.start;
          while (reader.at < to) {
            const field = reader.field(to);
            if (field === 2 && reader.isSpan(to)) {
              message = reader.start;
              messageEnd = reader.at;
            } else if (field === 3 && reader.isVarint(to))
              status = reader.high === 0 && reader.low <= MOST_STATUS ? reader.low : 0;
            else if (field !== 2 && field !== 3) reader.skip(to);
          }
          break;
        }
        default:
          reader.skip(end);
      }
    }
    const ms = msOf(startLow, startHigh);
    if (traceEnd - trace !== 16 || isZero(bytes, trace, traceEnd)) return this.rejected.add("no valid trace id");
    if (idEnd - id !== 8 || isZero(bytes, id, idEnd)) return this.rejected.add("no valid span id");
    if (ms === 0) return this.rejected.add("no start time");
    if (ms > this.newestMs) return this.rejected.add("a start time that is more than an hour ahead");
    if (ms < this.oldestMs) return this.rejected.add("a start time that is older than what is kept");

    const out = this.rows.begin(startLow, startHigh);
    out.u64(startLow, startHigh);
    const backwards = endHigh < startHigh || (endHigh === startHigh && endLow < startLow);
    if (backwards) out.u64(0, 0);
    else out.u64((endLow - startLow) >>> 0, (endHigh - startHigh - (endLow < startLow ? 1 : 0)) >>> 0);
    out.raw(bytes, trace, traceEnd);
    out.raw(bytes, id, idEnd);
    if (parentEnd - parent === 8) out.raw(bytes, parent, parentEnd);
    else out.u64(0, 0);
    out.byte(kind);
    out.byte(status);
    out.u64(this.batchLow, this.batchHigh);
    this.origin.copyInto(out);
    out.text(bytes, name, nameEnd, LIMITS.nameBytes);
    out.text(bytes, message, messageEnd, LIMITS.nameBytes);
    out.text(bytes, state, stateEnd, LIMITS.nameBytes);
    if (kind === CLIENT || kind === PRODUCER) this.writeCaller(out);
    else {
      writePairs(reader, attributes, out);
      out.byte(0);
    }
    this.writeEvents(out);
    this.writeLinks(out);
    this.rows.end(out);
  };

  /** Attributes, and whom they name as the other end. */
  private writeCaller(out: RowWriter): void {
    const { reader, attributes, peer } = this;
    peer.clear();
    out.length(attributes.count);
    for (let i = 0; i < attributes.count; i++) {
      const { keyStart, keyEnd, valueStart, valueEnd } = keyValue(
        reader,
        attributes.starts[i] ?? 0,
        attributes.ends[i] ?? 0,
      );
      peer.look(reader.bytes, keyStart, keyEnd, valueStart, valueEnd);
      out.text(reader.bytes, keyStart, keyEnd, LIMITS.nameBytes);
      writeValue(reader, valueStart, valueEnd, out, LIMITS.valueBytes);
    }
    writeValue(reader, peer.start, peer.end, out, LIMITS.nameBytes);
  }

  private writeEvents(out: RowWriter): void {
    const { events, reader } = this;
    if (events.count === 0) return out.zeros(3);
    for (const column of ["ts", "name", "attributes"] as const) {
      out.length(events.count);
      for (let i = 0; i < events.count; i++) {
        const end = events.ends[i] ?? 0;
        let low = 0;
        let high = 0;
        let name = end;
        let nameEnd = end;
        this.nested.count = 0;
        reader.at = events.starts[i] ?? 0;
        while (reader.at < end) {
          const field = reader.field(end);
          if (field === 1 && reader.isFixed64(end)) {
            low = reader.low;
            high = reader.high;
          } else if (field === 2 && reader.isSpan(end)) {
            name = reader.start;
            nameEnd = reader.at;
          } else if (field === 3 && reader.isSpan(end)) {
            if (column === "attributes") this.nested.add(reader.start, reader.at, this.repairs);
          } else if (field > 3) reader.skip(end);
        }
        // the highest bit would make it a time before 1970
        if (column === "ts") out.u64(low, high & 0x7fffffff);
        else if (column === "name") out.text(reader.bytes, name, nameEnd, LIMITS.nameBytes);
        else writePairs(reader, this.nested, out);
      }
    }
  }

  private writeLinks(out: RowWriter): void {
    const { links, reader } = this;
    if (links.count === 0) return out.zeros(3);
    for (const column of ["trace", "span", "attributes"] as const) {
      out.length(links.count);
      for (let i = 0; i < links.count; i++) {
        const end = links.ends[i] ?? 0;
        const wanted = column === "trace" ? 1 : 2;
        let id = end;
        let idEnd = end;
        this.nested.count = 0;
        reader.at = links.starts[i] ?? 0;
        while (reader.at < end) {
          const field = reader.field(end);
          if (!reader.isSpan(end)) continue;
          if (field === 4 && column === "attributes") this.nested.add(reader.start, reader.at, this.repairs);
          else if (field === wanted) {
            id = reader.start;
            idEnd = reader.at;
          }
        }
        if (column === "attributes") writePairs(reader, this.nested, out);
        else {
          const length = column === "trace" ? 16 : 8;
          if (idEnd - id === length) out.raw(reader.bytes, id, idEnd);
          else out.zeros(length);
        }
      }
    }
  }
}

/** In steps; see envelope.ts. */
export function* encodeSpans(bytes: Buffer, options: EncodeOptions): Generator<void, Encoded> {
  const reader = new Cursor(bytes);
  const encoder = new SpanEncoder(reader, options);
  yield* walk(reader, encoder.origin, encoder.span, NAMES);
  return encoded(encoder.rows, encoder.rejected, encoder.repairs, 0);
}
