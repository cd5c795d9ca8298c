/**
 * One pprof message to rows of `profile_samples`, and to rows of `profile_stacks` for the stacks that are not known to be
 * stored. Pure, in steps. Samples of one stack and the same text labels become one row for each sample type; zeros, and
 * types without a name, are left out. Labels that are numbers (sizes, thread ids) are not kept. `time_nanos` is when a
 * profile began, as pprof has it, but when it ended for types that stock Coroot agents name with a source
 * ("ebpf:cpu:nanoseconds"), since these set it so. A message that cannot be read is Malformed, one that is too large
 * TooLarge; then nothing of it counts. Source of the format:
 * https://github.com/google/pprof/blob/main/proto/profile.proto
 */
import { DayRows, msOf } from "../otlp/DayRows.ts";
import { AHEAD_MS, LIMITS as ROW_LIMITS } from "../otlp/limits.ts";
import { noRepairs, RowWriter, type Repairs } from "../otlp/RowWriter.ts";
import { BYTES, Cursor, Malformed, VARINT } from "../doors/Protobuf.ts";
import { Frames } from "./Frames.ts";
import type { KnownStacks } from "./KnownStacks.ts";
import { ABSENT, Ints, Keys64 } from "../Keys64.ts";
import { LIMITS, overLimit } from "./limits.ts";
import { ProfileIndex } from "./ProfileIndex.ts";
import { StackHash } from "./StackHash.ts";

/** Whose profile it is; columns of the rows. */
export interface ProfileOrigin {
  readonly service: string;
  readonly namespace: string;
  readonly pod: string;
  readonly host: string;
  readonly resource: readonly (readonly [name: string, value: string])[];
}

export interface ProfileOptions {
  readonly origin: ProfileOrigin;
  /** written into every row */
  readonly batch: bigint;
  readonly nowMs: number;
  /** profiles before this are refused */
  readonly oldestMs: number;
  readonly known: KnownStacks;
}

export interface EncodedProfile {
  /** rows of profile_samples in RowBinary by day number since 1970 */
  readonly days: ReadonlyMap<number, Buffer>;
  readonly rows: number;
  readonly fromMs: number;
  readonly toMs: number;
  /** rows of profile_stacks in RowBinary */
  readonly stacks: Buffer;
  readonly stackRows: number;
  /** to be called when these are on disk */
  readonly stored: () => void;
  readonly repairs: Repairs;
  /** it told no time and was given ours */
  readonly timeless: boolean;
}

interface SampleType {
  /** columns that are the same in all its rows, from service on */
  readonly origin: Buffer;
  readonly named: boolean;
  readonly startLow: number;
  readonly startHigh: number;
}

const DAY_NS = 86_400_000_000_000n;
const MOST_DURATION_NS = 31n * DAY_NS;
const MS = 1_000_000n;
/** Frames, locations and rows that are handled in one step: a few milliseconds. */
const PIECE = 30_000;
const SOURCE = /^[^:]+:[^:]+:[^:]+$/;

const signed = (low: number, high: number): bigint => BigInt.asIntN(64, (BigInt(high) << 32n) | BigInt(low));
const lowOf = (value: bigint): number => Number(value & 0xffffffffn);
const highOf = (value: bigint): number => Number((value >> 32n) & 0xffffffffn);

class Profile {
  readonly repairs = noRepairs();
  readonly rows: DayRows;
  readonly stacks = new RowWriter(this.repairs, 4096);
  stackRows = 0;
  timeless = false;
  private readonly reader: Cursor;
  private readonly options: ProfileOptions;
  private readonly index = new ProfileIndex();
  private readonly frames: Frames;
  private readonly hash = new StackHash();
  private types: readonly SampleType[] = [];
  private duration = 0n;
  private readonly service: RowWriter;
  private serviceLow = 0;
  private serviceHigh = 0;
  private readonly seconds: number;
  /** stacks of this profile by hash, and those of them that are written with it */
  private readonly seen = new Keys64();
  private readonly newLow = new Ints();
  private readonly newHigh = new Ints();
  /** of the sample that is read */
  private readonly locations = new Int32Array(LIMITS.stackLocations);
  private locationCount = 0;
  private valueCount = 0;
  private anyValue = 0;
  private readonly valueLow = new Uint32Array(LIMITS.types);
  private readonly valueHigh = new Uint32Array(LIMITS.types);
  private readonly labels = new Int32Array(2 * LIMITS.labels);
  /** samples that were added up: stack, labels (pairs of strings in `labelPairs`), and a value for each type */
  private readonly entries = new Keys64();
  private readonly entryLow = new Ints();
  private readonly entryHigh = new Ints();
  private readonly firstLabel = new Ints();
  private readonly labelPairs = new Ints();
  private readonly sumLow = new Ints();
  private readonly sumHigh = new Ints();
  /** frames of all stacks so far, and what was done in this step */
  private frameCount = 0;
  private spent = 0;

  constructor(body: Buffer, options: ProfileOptions) {
    this.options = options;
    this.reader = new Cursor(body);
    this.rows = new DayRows(this.repairs, body.length / 2);
    this.frames = new Frames(this.reader, this.index, this.repairs);
    this.seconds = Math.floor(options.nowMs / 1000);
    this.service = new RowWriter(this.repairs, 256);
    this.service.string(options.origin.service, ROW_LIMITS.nameBytes);
    this.hash.frame(this.service.bytes, 0, this.service.at);
    this.serviceLow = this.hash.low;
    this.serviceHigh = this.hash.high;
  }

  *read(): Generator<void, void> {
    const { index, reader } = this;
    yield* index.read(reader);
    this.readTypes();
    yield* this.frames.read();
    const { starts, ends, length } = index.samples;
    this.seen.reserve(length);
    this.entries.reserve(length);
    for (let i = 0; i < length; i++) {
      this.sample(starts.at(i), ends.at(i), i);
      if (this.spent < PIECE) continue;
      this.spent = 0;
      yield;
    }
    for (let entry = 0; entry < this.entryLow.length; entry++) {
      this.write(entry);
      this.spent += 4 * this.types.length;
      if (this.spent < PIECE) continue;
      this.spent = 0;
      yield;
    }
  }

  /** Holds nothing of the profile but the hashes. */
  storedAt(life: number): () => void {
    const { serviceLow, serviceHigh } = this;
    const { known, nowMs } = this.options;
    const lows = Uint32Array.from(this.newLow.values.subarray(0, this.newLow.length));
    const highs = Uint32Array.from(this.newHigh.values.subarray(0, this.newHigh.length));
    return () => {
      for (const [i, low] of lows.entries()) known.add(life, serviceLow, serviceHigh, low, highs[i] ?? 0, nowMs);
    };
  }

  private text(string: number): string {
    const { starts, ends } = this.index.strings;
    if (string >= ends.length) return "";
    return this.reader.bytes.toString("utf8", starts.at(string), ends.at(string));
  }

  private readTypes(): void {
    const { reader, index } = this;
    const { starts, ends, length } = index.types;
    if (length === 0) throw new Malformed("a profile without sample types");
    this.duration = signed(index.durationLow, index.durationHigh);
    if (this.duration < 0n || this.duration > MOST_DURATION_NS)
      throw new Malformed(`duration_nanos is ${this.duration}, expected 0 to ${MOST_DURATION_NS}`);
    const types: SampleType[] = [];
    for (let i = 0; i < length; i++) {
      const end = ends.at(i);
      let type = 0;
      let unit = 0;
      reader.at = starts.at(i);
      while (reader.at < end) {
        const field = reader.field(end);
        if (!reader.isVarint(end)) continue;
        if (field === 1) type = index.stringIndex(reader, `sample_type[${i}]`);
        else if (field === 2) unit = index.stringIndex(reader, `sample_type[${i}]`);
      }
      const name = this.text(type).slice(0, ROW_LIMITS.nameBytes);
      types.push(this.typeOf(name, this.text(unit).slice(0, ROW_LIMITS.nameBytes)));
    }
    this.types = types;
  }

  private typeOf(name: string, unit: string): SampleType {
    const type = name.includes(":") || unit === "" ? name : `${name}:${unit}`;
    const start = this.startOf(SOURCE.test(type));
    const { namespace, pod, host, resource } = this.options.origin;
    const origin = new RowWriter(this.repairs, 512);
    origin.raw(this.service.bytes, 0, this.service.at);
    origin.string(type, ROW_LIMITS.nameBytes);
    for (const text of [namespace, pod, host]) origin.string(text, ROW_LIMITS.nameBytes);
    origin.length(resource.length);
    for (const [key, value] of resource) {
      origin.string(key, ROW_LIMITS.nameBytes);
      origin.string(value, ROW_LIMITS.valueBytes);
    }
    return { origin: origin.take(), named: name !== "", startLow: lowOf(start), startHigh: highOf(start) };
  }

  private startOf(timeIsEnd: boolean): bigint {
    const { index, options, duration } = this;
    const told = signed(index.timeLow, index.timeHigh);
    if (told < 0n) throw new Malformed(`time_nanos is ${told}, expected nanoseconds since 1970`);
    this.timeless = told === 0n;
    const start = this.timeless
      ? BigInt(Math.floor(options.nowMs)) * MS - duration
      : timeIsEnd
        ? told - duration
        : told;
    const ms = msOf(lowOf(start), highOf(start));
    if (start < 0n || ms < options.oldestMs) throw new Malformed("time_nanos: the profile is older than what is kept");
    if (ms > options.nowMs + AHEAD_MS) throw new Malformed("time_nanos: the profile is more than an hour ahead");
    return start;
  }

  private sample(start: number, end: number, i: number): void {
    const { reader } = this;
    this.locationCount = this.valueCount = this.anyValue = 0;
    let labels = 0;
    reader.at = start;
    while (reader.at < end) {
      const field = reader.field(end);
      const { type } = reader;
      if (type === BYTES && field > 0 && field < 4) {
        reader.pass(end);
        const next = reader.at;
        if (field === 3) labels = this.label(reader.start, next, i, labels);
        else {
          reader.at = reader.start;
          while (reader.at < next) {
            reader.varint(next);
            this.number(field, i);
          }
        }
        reader.at = next;
      } else if (type === VARINT && field < 3) {
        reader.varint(end);
        this.number(field, i);
      } else reader.skip(end);
    }
    if (this.valueCount !== this.types.length)
      throw new Malformed(`sample[${i}] has ${this.valueCount} values for ${this.types.length} sample types`);
    this.spent += 1 + this.locationCount;
    if (this.anyValue !== 0) this.add(labels);
  }

  /** A location's id (field 1) or a value (field 2), which the reader has just read. */
  private number(field: number, i: number): void {
    const { low, high } = this.reader;
    if (field === 2) {
      if (this.valueCount < LIMITS.types) {
        this.valueLow[this.valueCount] = low;
        this.valueHigh[this.valueCount] = high;
        this.anyValue |= low | high;
      }
      this.valueCount++;
      return;
    }
    if (this.locationCount === LIMITS.stackLocations) throw overLimit("stackLocations");
    const found = this.frames.locationOf(low, high);
    if (found === ABSENT)
      throw new Malformed(`sample[${i}] names location ${(BigInt(high) << 32n) | BigInt(low)}, which is not there`);
    this.locations[this.locationCount++] = found;
  }

  /** Text labels are kept; gives how many the sample has now. */
  private label(start: number, end: number, i: number, labels: number): number {
    const { reader, index } = this;
    let key = 0;
    let text = 0;
    reader.at = start;
    while (reader.at < end) {
      const field = reader.field(end);
      if (!reader.isVarint(end)) continue;
      if (field === 1) key = index.stringIndex(reader, `a label of sample[${i}]`);
      else if (field === 2) text = index.stringIndex(reader, `a label of sample[${i}]`);
    }
    if (text === 0) return labels;
    if (labels === LIMITS.labels) {
      this.repairs.leftOut++;
      return labels;
    }
    this.labels[2 * labels] = key;
    this.labels[2 * labels + 1] = text;
    return labels + 1;
  }

  /** The hash of the sample's stack is left in `hash`; gives the number of its frames. */
  private hashStack(): number {
    const { frames, hash } = this;
    let count = 0;
    hash.clear();
    for (let at = this.locationCount - 1; at >= 0; at--) {
      const location = this.locations[at] ?? 0;
      const last = frames.firstFrame.at(location + 1);
      for (let i = frames.firstFrame.at(location); i < last; i++, count++) {
        if (count === LIMITS.stackFrames) {
          this.repairs.cut++;
          hash.end();
          return count;
        }
        const frame = frames.frames.at(i);
        hash.add(frames.hashLow.at(frame), frames.hashHigh.at(frame));
      }
    }
    hash.end();
    return count;
  }

  /** Adds the sample's values to what its stack and labels have already. */
  private add(labels: number): void {
    const { hash } = this;
    const count = this.hashStack();
    this.spent += count;
    this.frameCount += count;
    if (this.frameCount > LIMITS.frames) throw overLimit("frames");
    const { low, high } = hash;
    if (this.seen.get(low, high) === ABSENT) this.newStack(low, high, count);
    hash.clear();
    for (let i = 0; i < 2 * labels; i += 2) hash.add(this.labels[i] ?? 0, this.labels[i + 1] ?? 0);
    hash.end();
    const keyLow = labels === 0 ? low : (low ^ hash.low) >>> 0;
    const keyHigh = labels === 0 ? high : (high ^ hash.high) >>> 0;
    let entry = this.entries.get(keyLow, keyHigh);
    if (entry === ABSENT) {
      entry = this.newEntry(low, high, labels);
      this.entries.set(keyLow, keyHigh, entry);
    }
    const types = this.types.length;
    const sumLow = this.sumLow.values;
    const sumHigh = this.sumHigh.values;
    for (let type = 0, at = entry * types; type < types; type++, at++) {
      const sum = ((sumLow[at] ?? 0) >>> 0) + (this.valueLow[type] ?? 0);
      sumLow[at] = sum;
      sumHigh[at] = (sumHigh[at] ?? 0) + (this.valueHigh[type] ?? 0) + (sum > 0xffffffff ? 1 : 0);
    }
  }

  private newEntry(low: number, high: number, labels: number): number {
    const entry = this.entryLow.length;
    if ((entry + 1) * this.types.length > LIMITS.values) throw overLimit("values");
    this.entryLow.push(low);
    this.entryHigh.push(high);
    this.firstLabel.push(this.labelPairs.length);
    for (let i = 0; i < 2 * labels; i++) this.labelPairs.push(this.labels[i] ?? 0);
    for (const _ of this.types) {
      this.sumLow.push(0);
      this.sumHigh.push(0);
    }
    return entry;
  }

  private newStack(low: number, high: number, count: number): void {
    const { frames, stacks: out, options } = this;
    this.seen.set(low, high, 1);
    if (options.known.has(this.serviceLow, this.serviceHigh, low, high, options.nowMs)) return;
    this.newLow.push(low);
    this.newHigh.push(high);
    this.stackRows++;
    out.raw(this.service.bytes, 0, this.service.at);
    out.u64(low, high);
    out.length(count);
    let left = count;
    for (let at = this.locationCount - 1; at >= 0 && left > 0; at--) {
      const location = this.locations[at] ?? 0;
      const last = frames.firstFrame.at(location + 1);
      for (let i = frames.firstFrame.at(location); i < last && left > 0; i++, left--) {
        const frame = frames.frames.at(i);
        out.raw(frames.texts.bytes, frames.textAt.at(frame), frames.textAt.at(frame + 1));
      }
    }
    out.u32(this.seconds);
    if (out.at > LIMITS.stackBytes) throw overLimit("stackBytes");
  }

  private write(entry: number): void {
    const { types, sumLow, sumHigh, options, duration } = this;
    const stackLow = this.entryLow.at(entry);
    const stackHigh = this.entryHigh.at(entry);
    const labelEnd = entry + 1 < this.firstLabel.length ? this.firstLabel.at(entry + 1) : this.labelPairs.length;
    for (const [i, { named, origin, startLow, startHigh }] of types.entries()) {
      const low = sumLow.at(entry * types.length + i);
      const high = sumHigh.at(entry * types.length + i);
      if (!named || (low === 0 && high === 0)) continue;
      const out = this.rows.begin(startLow, startHigh);
      out.u64(startLow, startHigh);
      out.u64(lowOf(duration), highOf(duration));
      out.u64(lowOf(options.batch), highOf(options.batch));
      out.u64(stackLow, stackHigh);
      out.u64(low, high);
      out.raw(origin, 0, origin.length);
      const first = this.firstLabel.at(entry);
      out.length((labelEnd - first) / 2);
      for (let at = first; at < labelEnd; at += 2) {
        this.copy(out, this.labelPairs.at(at), ROW_LIMITS.nameBytes);
        this.copy(out, this.labelPairs.at(at + 1), ROW_LIMITS.valueBytes);
      }
      this.rows.end(out);
    }
  }

  private copy(out: RowWriter, string: number, most: number): void {
    const { starts, ends } = this.index.strings;
    const start = starts.at(string);
    out.text(this.reader.bytes, start, string < ends.length ? ends.at(string) : start, most);
  }
}

/** In steps. */
export function* encodeProfile(body: Buffer, options: ProfileOptions): Generator<void, EncodedProfile> {
  const profile = new Profile(body, options);
  const { life } = options.known;
  yield* profile.read();
  const { rows } = profile;
  return {
    days: rows.days(),
    rows: rows.rows,
    fromMs: rows.rows === 0 ? 0 : rows.fromMs,
    toMs: rows.toMs,
    stacks: profile.stacks.take(),
    stackRows: profile.stackRows,
    stored: profile.storedAt(life),
    repairs: profile.repairs,
    timeless: profile.timeless,
  };
}
