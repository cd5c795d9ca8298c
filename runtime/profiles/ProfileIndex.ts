/**
 * Where the parts of a pprof message lie: one pass over its top level, which writers order as they like, notes places of
 * samples, locations, functions, mappings and strings without looking into them. Owned by one reading of one message. A
 * message that cannot be read is Malformed, one with more parts than the limits is TooLarge. Source of the format:
 * https://github.com/google/pprof/blob/main/proto/profile.proto
 */
import { int64Text } from "../otlp/values.ts";
import { Malformed, type Cursor } from "../doors/Protobuf.ts";
import { Ints } from "../Keys64.ts";
import { LIMITS, overLimit } from "./limits.ts";

/** Places of repeated messages or texts. */
export class Spans {
  readonly starts = new Ints();
  readonly ends = new Ints();
  private readonly limit: keyof typeof LIMITS;
  constructor(limit: keyof typeof LIMITS) {
    this.limit = limit;
  }
  get length(): number {
    return this.starts.length;
  }
  add(start: number, end: number): void {
    if (this.starts.length === LIMITS[this.limit]) throw overLimit(this.limit);
    this.starts.push(start);
    this.ends.push(end);
  }
}

const PIECE = 30_000;

export class ProfileIndex {
  readonly types = new Spans("types");
  readonly samples = new Spans("samples");
  readonly mappings = new Spans("mappings");
  readonly locations = new Spans("locations");
  readonly functions = new Spans("functions");
  readonly strings = new Spans("strings");
  /** halves of nanoseconds */
  timeLow = 0;
  timeHigh = 0;
  durationLow = 0;
  durationHigh = 0;

  /** In steps. */
  *read(reader: Cursor): Generator<void, void> {
    const end = reader.bytes.length;
    for (let parts = 1; reader.at < end; parts++) {
      const field = reader.field(end);
      const into = this.spansOf(field);
      if (into !== null) {
        if (reader.isSpan(end)) into.add(reader.start, reader.at);
      } else if (field === 9) {
        if (!reader.isVarint(end)) continue;
        this.timeLow = reader.low;
        this.timeHigh = reader.high;
      } else if (field === 10) {
        if (!reader.isVarint(end)) continue;
        this.durationLow = reader.low;
        this.durationHigh = reader.high;
      } else reader.skip(end);
      if (parts % PIECE === 0) yield;
    }
  }

  /** The index of a string, as the number that the reader has just read. */
  stringIndex({ low, high }: Cursor, who: string): number {
    if (high === 0 && (low < this.strings.length || low === 0)) return low;
    throw new Malformed(`${who} names string ${int64Text(low, high)} of ${this.strings.length}`);
  }

  private spansOf(field: number): Spans | null {
    switch (field) {
      case 1:
        return this.types;
      case 2:
        return this.samples;
      case 3:
        return this.mappings;
      case 4:
        return this.locations;
      case 5:
        return this.functions;
      case 6:
        return this.strings;
      default:
        return null;
    }
  }
}
