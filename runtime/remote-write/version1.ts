/**
 * Reads Prometheus' remote_write 1.0 (`prometheus.WriteRequest`) in a single pass into columns. Pure but for the cache of
 * series. A message that cannot be read is a Malformed, and nothing of its call is taken; a series that breaks the rules
 * is left out alone. Metadata and exemplars are passed over. Source: prompb/{remote,types}.proto of Prometheus 2.42.
 */
import { BYTES, FIXED64, VARINT, Cursor } from "../doors/Protobuf.ts";
import type { Columns } from "./Columns.ts";
import type { SeriesCache } from "./SeriesCache.ts";

/** Series between two steps: some milliseconds at most, also when none is known. */
export const SERIES_PER_STEP = 1_000;

const LABEL_TAG = 0x0a;

/** `Sample { double value = 1; int64 timestamp = 2; }`, alike in both versions. */
export const readSample = (cursor: Cursor, end: number, out: Columns): void => {
  let low = 0;
  let high = 0;
  let time = 0;
  while (cursor.at < end) {
    const field = cursor.field(end);
    if (field === 1) {
      cursor.expect(FIXED64);
      cursor.fixed64(end);
      low = cursor.low;
      high = cursor.high;
    } else if (field === 2) {
      cursor.expect(VARINT);
      cursor.varint(end);
      time = cursor.signed;
    } else cursor.skip(end);
  }
  out.add(time, low, high);
};

/** The Label messages of a series whose labels do not lie together, put together. */
const gathered = (bytes: Buffer, start: number, end: number): Buffer => {
  const cursor = new Cursor(bytes);
  const parts: Buffer[] = [];
  cursor.at = start;
  while (cursor.at < end) {
    const from = cursor.at;
    const field = cursor.field(end);
    cursor.skip(end);
    if (field === 1) parts.push(bytes.subarray(from, cursor.at));
  }
  return Buffer.concat(parts);
};

const readSeries = (cursor: Cursor, end: number, cache: SeriesCache, out: Columns): void => {
  const { bytes } = cursor;
  const start = cursor.at;
  while (cursor.at < end && bytes[cursor.at] === LABEL_TAG) {
    cursor.at++;
    cursor.at = cursor.span(end);
  }
  const labelsEnd = cursor.at;
  let together = true;
  while (cursor.at < end) {
    const field = cursor.field(end);
    if (field > 4) {
      cursor.skip(end);
      continue;
    }
    cursor.expect(BYTES);
    const to = cursor.span(end);
    if (field === 2) readSample(cursor, to, out);
    else if (field === 1) together = false;
    else out.skip(field === 3 ? "exemplars" : "native histograms", 1);
    cursor.at = to;
  }
  if (together) return out.close(cache.labels(cursor, start, labelsEnd));
  const labels = gathered(bytes, start, end);
  out.close(cache.labels(new Cursor(labels), 0, labels.length));
};

/** Steps through the message, so that whoever runs it can let others have the thread in between. */
export const readVersion1 = function* (body: Buffer, cache: SeriesCache, out: Columns): Generator<void, void> {
  const cursor = new Cursor(body);
  const end = body.length;
  let series = 0;
  while (cursor.at < end) {
    if (cursor.field(end) !== 1) {
      cursor.skip(end);
      continue;
    }
    cursor.expect(BYTES);
    readSeries(cursor, cursor.span(end), cache, out);
    if (++series % SERIES_PER_STEP === 0) yield;
  }
};
