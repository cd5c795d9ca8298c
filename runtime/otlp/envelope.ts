/**
 * What the requests for traces and logs have in common: resources, in them scopes, in these the records. Walks one
 * request and hands each record's place to its encoder, with the origin set. Pure, in steps: it gives way after each
 * stretch of bytes, so that a large request does not hold up its thread. A request that cannot be read is Malformed with
 * what and where; then nothing of it counts. Source of the messages:
 * https://github.com/open-telemetry/opentelemetry-proto/tree/main/opentelemetry/proto
 */
import type { DayRows } from "./DayRows.ts";
import type { Origin } from "./Origin.ts";
import type { Repairs } from "./RowWriter.ts";
import { Malformed, type Cursor } from "../doors/Protobuf.ts";

export interface EncodeOptions {
  /** written into every row */
  readonly batch: bigint;
  readonly nowMs: number;
  /** records before this are refused */
  readonly oldestMs: number;
}

export interface Encoded {
  /** RowBinary by day number since 1970 */
  readonly days: ReadonlyMap<number, Buffer>;
  readonly rows: number;
  readonly fromMs: number;
  readonly toMs: number;
  /** records that were refused, by reason */
  readonly rejected: ReadonlyMap<string, number>;
  readonly repairs: Repairs;
  /** records that told no time and were given ours */
  readonly timeless: number;
}

/** Between two of these the caller may do something else. */
const STRETCH_BYTES = 96 * 1024;

type Record = (start: number, end: number) => void;

export interface Names {
  readonly resources: string;
  readonly scopes: string;
  readonly records: string;
}

export function* walk(reader: Cursor, origin: Origin, record: Record, names: Names): Generator<void, void> {
  const total = reader.bytes.length;
  const place = { resource: -1, scope: -1, record: -1 };
  let paused = 0;
  try {
    while (reader.at < total) {
      const field = reader.field(total);
      if (!reader.isSpan(total) || field !== 1) continue;
      const [start, end] = [reader.start, reader.at];
      place.resource++;
      place.scope = place.record = -1;
      findFirst(reader, start, end, (from, to) => origin.resource(reader, from, to));
      reader.at = start;
      while (reader.at < end) {
        const inner = reader.field(end);
        if (!reader.isSpan(end) || inner !== 2) continue;
        const [scopeStart, scopeEnd] = [reader.start, reader.at];
        place.scope++;
        place.record = -1;
        findFirst(reader, scopeStart, scopeEnd, (from, to) => origin.scope(reader, from, to));
        reader.at = scopeStart;
        while (reader.at < scopeEnd) {
          const inScope = reader.field(scopeEnd);
          if (!reader.isSpan(scopeEnd) || inScope !== 2) continue;
          const next = reader.at;
          place.record++;
          record(reader.start, next);
          reader.at = next;
          if (next - paused > STRETCH_BYTES) {
            paused = next;
            yield;
          }
        }
        reader.at = scopeEnd;
      }
      reader.at = end;
    }
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    const path = [
      ...(place.resource < 0 ? [] : [`${names.resources}[${place.resource}]`]),
      ...(place.scope < 0 ? [] : [`${names.scopes}[${place.scope}]`]),
      ...(place.record < 0 ? [] : [`${names.records}[${place.record}]`]),
    ].join(".");
    throw path === "" ? error : new Malformed(`${error.message}, in or after ${path}`);
  }
}

/** Field 1 of the message, the last one when there are several, an empty one when there is none. */
const findFirst = (reader: Cursor, start: number, end: number, found: (from: number, to: number) => void): void => {
  let from = start;
  let to = start;
  reader.at = start;
  while (reader.at < end) {
    const field = reader.field(end);
    if (!reader.isSpan(end) || field !== 1) continue;
    from = reader.start;
    to = reader.at;
  }
  found(from, to);
};

/** Counts refused records by reason. */
export class Rejections {
  readonly counts = new Map<string, number>();
  add(reason: string): void {
    this.counts.set(reason, (this.counts.get(reason) ?? 0) + 1);
  }
}

export const encoded = (rows: DayRows, rejected: Rejections, repairs: Repairs, timeless: number): Encoded => ({
  days: rows.days(),
  rows: rows.rows,
  fromMs: rows.rows === 0 ? 0 : rows.fromMs,
  toMs: rows.toMs,
  rejected: rejected.counts,
  repairs,
  timeless,
});
