/**
 * Protobuf's wire format, read in place: a cursor over one message's bytes that gives fields, numbers and spans of bytes
 * without making objects. Pure. What cannot be read (cut off, a length beyond the end, an unknown wire type) is a Malformed
 * that says what and at which byte; nothing is allocated by a length that the bytes claim. Source of the format:
 * https://protobuf.dev/programming-guides/encoding/
 */
export class Malformed extends Error {
  constructor(what: string, at: number | null = null) {
    super(at === null ? what : `${what} at byte ${at}`);
    this.name = "Malformed";
  }
}

export const VARINT = 0;
export const FIXED64 = 1;
export const BYTES = 2;
const GROUP = 3;
const GROUP_END = 4;
export const FIXED32 = 5;
const MAX_GROUPS = 16;

const WORD = 2 ** 32;

export class Cursor {
  readonly bytes: Buffer;
  readonly view: DataView;
  at = 0;
  /** wire type of the last field */
  type = 0;
  /** halves of the last 64-bit number, each an unsigned 32-bit number */
  low = 0;
  high = 0;
  /** where the bytes of the last field that was passed begin; they end at `at` */
  start = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** The next field's number; its wire type is left in `type`. */
  field(end: number): number {
    const first = this.bytes[this.at] ?? 0;
    let tag = first;
    if (first < 128 && this.at < end) this.at++;
    else {
      const from = this.at;
      this.varint(end);
      if (this.high !== 0) throw new Malformed("a field number out of range", from);
      tag = this.low;
    }
    this.type = tag & 7;
    if (tag >>> 3 === 0) throw new Malformed("field number 0", this.at - 1);
    return tag >>> 3;
  }

  /** A varint of up to 64 bits into `low` and `high`. */
  varint(end: number): void {
    const { bytes } = this;
    let at = this.at;
    let low = 0;
    let high = 0;
    for (let shift = 0; ; shift += 7) {
      if (at >= end) throw new Malformed("a number that is cut off", this.at);
      const byte = bytes[at++] ?? 0;
      const bits = byte & 127;
      if (shift < 28) low |= bits << shift;
      else if (shift === 28) {
        low |= bits << 28;
        high = bits >>> 4;
      } else high |= bits << (shift - 32);
      if (byte < 128) break;
      if (shift === 63) throw new Malformed("a number of more than ten bytes", this.at);
    }
    this.at = at;
    this.low = low >>> 0;
    this.high = high >>> 0;
  }

  fixed64(end: number): void {
    const { view, at } = this;
    if (at + 8 > end) throw new Malformed("an 8-byte number that is cut off", at);
    this.low = view.getUint32(at, true);
    this.high = view.getUint32(at + 4, true);
    this.at = at + 8;
  }

  /** Reads the length of a length-delimited field; gives the end of its bytes, which begin at `at`. */
  span(end: number): number {
    const from = this.at;
    let length = this.bytes[from] ?? 0;
    if (length < 128 && from < end) this.at++;
    else {
      this.varint(end);
      length = this.high === 0 ? this.low : Number.POSITIVE_INFINITY;
    }
    const to = this.at + length;
    if (to > end) throw new Malformed("a length that goes beyond the end", from);
    return to;
  }

  /** The last number as a signed 64-bit integer; what a double cannot hold exactly is rounded. */
  get signed(): number {
    return (this.high | 0) * WORD + this.low;
  }

  get unsigned(): number {
    return this.high * WORD + this.low;
  }

  /** The last 8 bytes as a double. */
  get double(): number {
    HALVES.setUint32(0, this.low, true);
    HALVES.setUint32(4, this.high, true);
    return HALVES.getFloat64(0, true);
  }

  /** Passes a length-delimited field: its bytes lie from `start` up to `at`. */
  pass(end: number): void {
    const to = this.span(end);
    this.start = this.at;
    this.at = to;
  }

  /** Passes a field's content, whatever its type. */
  skip(end: number): void {
    const { type } = this;
    if (type === VARINT) this.varint(end);
    else if (type === BYTES) this.pass(end);
    else if (type === FIXED64) this.forward(8, end);
    else if (type === FIXED32) this.forward(4, end);
    else if (type === GROUP) this.skipGroup(end);
    else throw new Malformed(`wire type ${type}`, this.at - 1);
  }

  /** True, and the field's bytes lie from `start` up to `at`; false when it has another type and was passed. */
  isSpan(end: number): boolean {
    if (this.type === BYTES) {
      this.pass(end);
      return true;
    }
    this.skip(end);
    return false;
  }

  /** True, and the number is in `low` and `high`; false when it has another type and was passed. */
  isVarint(end: number): boolean {
    if (this.type === VARINT) {
      this.varint(end);
      return true;
    }
    this.skip(end);
    return false;
  }

  isFixed64(end: number): boolean {
    if (this.type === FIXED64) {
      this.fixed64(end);
      return true;
    }
    this.skip(end);
    return false;
  }

  /** Refuses a field of another wire type than its message declares. */
  expect(type: number): void {
    if (this.type !== type) throw new Malformed(`wire type ${this.type} where ${type} belongs`, this.at - 1);
  }

  text(start: number, end: number): string {
    return this.bytes.toString("utf8", start, end);
  }

  private forward(length: number, end: number): void {
    if (this.at + length > end) throw new Malformed(`a ${length}-byte number that is cut off`, this.at);
    this.at += length;
  }

  private skipGroup(end: number): void {
    for (let open = 1; open > 0; ) {
      const from = this.at;
      this.field(end);
      if (this.type === GROUP) open++;
      else if (this.type === GROUP_END) open--;
      else this.skip(end);
      if (open > MAX_GROUPS) throw new Malformed("groups that are nested too deeply", from);
    }
  }
}

const HALVES = new DataView(new ArrayBuffer(8));
