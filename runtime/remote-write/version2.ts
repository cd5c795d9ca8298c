/**
 * Reads Prometheus' remote_write 2.0 (`io.prometheus.write.v2.Request`): series name their labels by places in one table
 * of symbols. Pure but for the cache of series. A message that cannot be read, or a reference beyond the table, is a
 * Malformed, and nothing of its call is taken; a series that breaks the rules is left out alone. Metadata is passed over;
 * exemplars and native histograms are counted. Source: https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/
 */
import { BYTES, Cursor, Malformed, VARINT } from "../doors/Protobuf.ts";
import type { Columns } from "./Columns.ts";
import { LABEL_LIMITS, utf8Text, type InvalidSeries, type SeriesCache } from "./SeriesCache.ts";
import { readSample, SERIES_PER_STEP } from "./version1.ts";

const MAX_SYMBOLS = 1_000_000;
const SYMBOLS_PER_STEP = 20_000;

/** null: bytes that are not UTF-8 */
type Symbols = readonly (string | null)[];

const readSymbols = function* (body: Buffer): Generator<void, Symbols> {
  const cursor = new Cursor(body);
  const end = body.length;
  const symbols: (string | null)[] = [];
  while (cursor.at < end) {
    if (cursor.field(end) !== 4) {
      cursor.skip(end);
      continue;
    }
    cursor.expect(BYTES);
    const to = cursor.span(end);
    if (symbols.length === MAX_SYMBOLS) throw new Malformed(`more than ${MAX_SYMBOLS} symbols`, cursor.at);
    symbols.push(utf8Text(body, cursor.at, to));
    cursor.at = to;
    if (symbols.length % SYMBOLS_PER_STEP === 0) yield;
  }
  if (symbols.length > 0 && symbols[0] !== "") throw new Malformed("a table of symbols that does not begin with ''", 0);
  return symbols;
};

const namesOf = (refs: readonly number[], symbols: Symbols): readonly string[] | InvalidSeries => {
  if (refs.length > 2 * LABEL_LIMITS.labels) return "too many labels";
  const pairs: string[] = [];
  for (let i = 0; i < refs.length; i++) {
    const text = symbols[refs[i] ?? 0];
    if (text === undefined || text === null) return "labels that are not UTF-8";
    if (text.length > (i % 2 === 0 ? LABEL_LIMITS.nameBytes : LABEL_LIMITS.valueBytes))
      return "a label that is too long";
    pairs.push(text);
  }
  return pairs;
};

const readSeries = (cursor: Cursor, end: number, symbols: Symbols, cache: SeriesCache, out: Columns): void => {
  const refs: number[] = [];
  let count = 0;
  const ref = (to: number): void => {
    cursor.varint(to);
    if (cursor.high !== 0 || cursor.low >= symbols.length)
      throw new Malformed("a reference beyond the table of symbols", cursor.at);
    // more are counted only, so that a million labels cost nothing
    if (count++ <= 2 * LABEL_LIMITS.labels) refs.push(cursor.low);
  };
  while (cursor.at < end) {
    const field = cursor.field(end);
    if (field === 1 && cursor.type === VARINT) {
      ref(end);
      continue;
    }
    if (field > 4) {
      cursor.skip(end);
      continue;
    }
    cursor.expect(BYTES);
    const to = cursor.span(end);
    if (field === 1) while (cursor.at < to) ref(to);
    else if (field === 2) readSample(cursor, to, out);
    else out.skip(field === 3 ? "native histograms" : "exemplars", 1);
    cursor.at = to;
  }
  if (count % 2 === 1) throw new Malformed("a label without a value", cursor.at);
  out.close(cache.pairs(namesOf(refs, symbols)));
};

/** Steps through the message, so that whoever runs it can let others have the thread in between. */
export const readVersion2 = function* (body: Buffer, cache: SeriesCache, out: Columns): Generator<void, void> {
  const symbols = yield* readSymbols(body);
  const cursor = new Cursor(body);
  const end = body.length;
  let series = 0;
  while (cursor.at < end) {
    if (cursor.field(end) !== 5) {
      cursor.skip(end);
      continue;
    }
    cursor.expect(BYTES);
    readSeries(cursor, cursor.span(end), symbols, cache, out);
    if (++series % SERIES_PER_STEP === 0) yield;
  }
};
