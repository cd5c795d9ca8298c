/**
 * The frames of a profile's locations: "function<tab>file:line", inlined functions as frames of their own. A location
 * that nobody named is its mapping's file and the offset in it, which are the same on each start of the program. Owned by
 * one reading of one profile. An id that is twice there, or that is named and not there, is Malformed.
 */
import { RowWriter, type Repairs } from "../otlp/RowWriter.ts";
import { BYTES, Malformed, VARINT, type Cursor } from "../doors/Protobuf.ts";
import { ABSENT, Ints, Keys64 } from "../Keys64.ts";
import { LIMITS, overLimit } from "./limits.ts";
import type { ProfileIndex, Spans } from "./ProfileIndex.ts";
import { StackHash } from "./StackHash.ts";

const WORD = 2 ** 32;
const TAB = 9;
const SPACE = 32;
const SLASH = 47;
const UNKNOWN = Buffer.from("[unknown]");
const PIECE = 5_000;

const idText = (low: number, high: number): string => String((BigInt(high) << 32n) | BigInt(low));

export class Frames {
  /** per frame: its text in RowBinary from `textAt` up to the next one's, and its hash */
  readonly texts: RowWriter;
  readonly textAt = new Ints();
  readonly hashLow = new Ints();
  readonly hashHigh = new Ints();
  /** per location: its frames, root first, in `frames` from `firstFrame` up to the next location's */
  readonly firstFrame = new Ints();
  readonly frames = new Ints();
  private readonly byLine = new Keys64();
  private readonly hash = new StackHash();
  private readonly scratch: RowWriter;
  private readonly locationIds = new Keys64();
  private readonly functionIds = new Keys64();
  private readonly mappingIds = new Keys64();
  /** per function: strings of its name and file */
  private readonly names = new Ints();
  private readonly files = new Ints();
  /** per mapping: string of its file, and what an address is less, to be an offset in it */
  private readonly mappingFiles = new Ints();
  private readonly mappingBases: number[] = [];
  private readonly reader: Cursor;
  private readonly index: ProfileIndex;

  constructor(reader: Cursor, index: ProfileIndex, repairs: Repairs) {
    this.reader = reader;
    this.index = index;
    this.texts = new RowWriter(repairs, 16 * 1024);
    this.scratch = new RowWriter(repairs, 1024);
  }

  /** In steps: afterwards all locations have their frames. */
  *read(): Generator<void, void> {
    const { functions, mappings, locations } = this.index;
    this.functionIds.reserve(functions.length);
    this.locationIds.reserve(locations.length);
    this.byLine.reserve(locations.length);
    yield* this.each(mappings, (start, end, i) => this.readMapping(start, end, i));
    yield* this.each(functions, (start, end, i) => this.readFunction(start, end, i));
    yield* this.each(locations, (start, end, i) => this.readLocation(start, end, i));
    this.firstFrame.push(this.frames.length);
    this.textAt.push(this.texts.at);
  }

  /** Place of the location with this id; ABSENT when there is none. */
  locationOf(low: number, high: number): number {
    return this.locationIds.get(low, high);
  }

  private *each(spans: Spans, read: (start: number, end: number, i: number) => void): Generator<void, void> {
    for (let i = 0; i < spans.length; i++) {
      read(spans.starts.at(i), spans.ends.at(i), i);
      if ((i + 1) % PIECE === 0) yield;
    }
  }

  private named(ids: Keys64, what: string, i: number, low: number, high: number): void {
    if (ids.get(low, high) !== ABSENT) throw new Malformed(`two ${what}s have the id ${idText(low, high)}`);
    ids.set(low, high, i);
  }

  private readMapping(start: number, end: number, i: number): void {
    const { reader } = this;
    let idLow = 0;
    let idHigh = 0;
    let memory = 0;
    let offset = 0;
    let file = 0;
    reader.at = start;
    while (reader.at < end) {
      const field = reader.field(end);
      if (!reader.isVarint(end)) continue;
      if (field === 1) {
        idLow = reader.low;
        idHigh = reader.high;
      } else if (field === 2) memory = reader.high * WORD + reader.low;
      else if (field === 4) offset = reader.high * WORD + reader.low;
      else if (field === 5) file = this.index.stringIndex(reader, `mapping[${i}]`);
    }
    this.named(this.mappingIds, "mapping", i, idLow, idHigh);
    this.mappingFiles.push(file);
    this.mappingBases.push(memory - offset);
  }

  private readFunction(start: number, end: number, i: number): void {
    const { reader, index } = this;
    let idLow = 0;
    let idHigh = 0;
    let name = 0;
    let systemName = 0;
    let file = 0;
    reader.at = start;
    while (reader.at < end) {
      const field = reader.field(end);
      if (!reader.isVarint(end)) continue;
      if (field === 1) {
        idLow = reader.low;
        idHigh = reader.high;
      } else if (field === 2) name = index.stringIndex(reader, `function[${i}]`);
      else if (field === 3) systemName = index.stringIndex(reader, `function[${i}]`);
      else if (field === 4) file = index.stringIndex(reader, `function[${i}]`);
    }
    this.named(this.functionIds, "function", i, idLow, idHigh);
    this.names.push(name === 0 ? systemName : name);
    this.files.push(file);
  }

  private readLocation(start: number, end: number, i: number): void {
    const { reader, frames } = this;
    const first = frames.length;
    this.firstFrame.push(first);
    let idLow = 0;
    let idHigh = 0;
    let mappingLow = 0;
    let mappingHigh = 0;
    let address = 0;
    reader.at = start;
    while (reader.at < end) {
      const field = reader.field(end);
      if (reader.type === BYTES) {
        reader.pass(end);
        if (field !== 4) continue;
        const next = reader.at;
        this.readLine(reader.start, next, i);
        reader.at = next;
      } else if (reader.type === VARINT) {
        reader.varint(end);
        if (field === 1) {
          idLow = reader.low;
          idHigh = reader.high;
        } else if (field === 2) {
          mappingLow = reader.low;
          mappingHigh = reader.high;
        } else if (field === 3) address = reader.high * WORD + reader.low;
      } else reader.skip(end);
    }
    this.named(this.locationIds, "location", i, idLow, idHigh);
    let mapping = ABSENT;
    if (mappingLow !== 0 || mappingHigh !== 0) {
      mapping = this.mappingIds.get(mappingLow, mappingHigh);
      if (mapping === ABSENT)
        throw new Malformed(`location[${i}] names mapping ${idText(mappingLow, mappingHigh)}, which is not there`);
    }
    if (frames.length === first) frames.push(this.nameless(mapping, address));
    else frames.values.subarray(first, frames.length).reverse();
  }

  private readLine(start: number, end: number, i: number): void {
    const { reader } = this;
    let idLow = 0;
    let idHigh = 0;
    let line = 0;
    reader.at = start;
    while (reader.at < end) {
      const field = reader.field(end);
      if (!reader.isVarint(end)) continue;
      if (field === 1) {
        idLow = reader.low;
        idHigh = reader.high;
      } else if (field === 2) line = reader.high === 0 ? reader.low : 0;
    }
    if (idLow === 0 && idHigh === 0) return;
    const found = this.functionIds.get(idLow, idHigh);
    if (found === ABSENT)
      throw new Malformed(`location[${i}] names function ${idText(idLow, idHigh)}, which is not there`);
    if (this.frames.length === LIMITS.lines) throw overLimit("lines");
    let frame = this.byLine.get(line, found);
    if (frame === ABSENT) {
      frame = this.write(this.names.at(found), this.files.at(found), line);
      this.byLine.set(line, found, frame);
    }
    this.frames.push(frame);
  }

  private write(name: number, file: number, line: number): number {
    const { scratch } = this;
    scratch.at = 0;
    this.copy(name);
    if (scratch.at === 0) scratch.raw(UNKNOWN, 0, UNKNOWN.length);
    const before = scratch.at;
    for (let at = 0; at < before; at++) if (scratch.bytes[at] === TAB) scratch.bytes[at] = SPACE;
    scratch.byte(TAB);
    this.copy(file);
    if (scratch.at === before + 1) scratch.at = before;
    else if (line > 0) this.ascii(`:${line}`);
    return this.add();
  }

  /** The last part of the mapping's file, and the offset in it. */
  private nameless(mapping: number, address: number): number {
    const { scratch } = this;
    scratch.at = 0;
    const base = mapping === ABSENT ? Number.NaN : (this.mappingBases[mapping] ?? Number.NaN);
    if (mapping !== ABSENT) this.copy(this.mappingFiles.at(mapping));
    const from = scratch.bytes.subarray(0, scratch.at).lastIndexOf(SLASH) + 1;
    if (scratch.at === 0) scratch.raw(UNKNOWN, 0, UNKNOWN.length);
    else {
      scratch.bytes.copyWithin(0, from, scratch.at);
      scratch.at -= from;
      if (address >= base && address > 0) this.ascii(`+0x${(address - base).toString(16)}`);
    }
    return this.add();
  }

  private copy(string: number): void {
    const { starts, ends } = this.index.strings;
    const start = starts.at(string);
    const end = string < ends.length ? ends.at(string) : start;
    this.scratch.raw(this.reader.bytes, start, Math.min(end, start + LIMITS.frameBytes));
  }

  private ascii(text: string): void {
    for (let i = 0; i < text.length; i++) this.scratch.byte(text.charCodeAt(i));
  }

  private add(): number {
    const { texts, scratch, hash, textAt } = this;
    const at = texts.at;
    textAt.push(at);
    texts.text(scratch.bytes, 0, scratch.at, LIMITS.frameBytes);
    const lengthBytes = (texts.bytes[at] ?? 0) < 0x80 ? 1 : 2;
    hash.frame(texts.bytes, at + lengthBytes, texts.at);
    this.hashLow.push(hash.low);
    this.hashHigh.push(hash.high);
    return this.hashLow.length - 1;
  }
}
