/**
 * Protobuf's wire format, read in place: a cursor over one message's bytes that gives tags, varints and spans of bytes
 * without making objects. Pure. What cannot be read (cut off, a length beyond the end, an unknown wire type) is a
 * WireError that says what and at which byte; nothing is allocated by a length that the bytes claim. Source of the
 * format: https://protobuf.dev/programming-guides/encoding/
 */
export class WireError extends Error {
  /** what could not be read, without the place */
  readonly what: string;
  readonly at: number;
  constructor(what: string, at: number) {
    super(`${what} at byte ${at}`);
    this.name = "WireError";
    this.what = what;
    this.at = at;
  }
}

export const VARINT = 0;
export const FIXED64 = 1;
export const BYTES = 2;
const GROUP = 3;
const GROUP_END = 4;
export const FIXED32 = 5;
const MAX_GROUPS = 16;

export class WireReader {
  readonly bytes: Buffer;
  at = 0;
  /** wire type of the last tag */
  type = 0;
  /** halves of the last 64-bit number, each as an unsigned 32-bit number */
  low = 0;
  high = 0;
  /** place of the last span of bytes: from `start` up to `at` */
  start = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  /** The next field's number; its wire type is left in `type`. */
  tag(end: number): number {
    const first = this.bytes[this.at] ?? 0;
    let tag = first;
    if (first < 0x80 && this.at < end) this.at++;
    else {
      const from = this.at;
      this.varint(end);
      if (this.high !== 0) throw new WireError("a field number out of range", from);
      tag = this.low;
    }
    this.type = tag & 7;
    const field = tag >>> 3;
    if (field === 0) throw new WireError("field number 0", this.at - 1);
    return field;
  }

  /** A varint of up to 64 bits into `low` and `high`. */
  varint(end: number): void {
    const { bytes } = this;
    let at = this.at;
    let low = 0;
    let high = 0;
    for (let shift = 0; ; shift += 7) {
      if (at >= end) throw new WireError("a number that is cut off", this.at);
      const byte = bytes[at++] ?? 0;
      const bits = byte & 0x7f;
      if (shift < 28) low |= bits << shift;
      else if (shift === 28) {
        low |= bits << 28;
        high = bits >>> 4;
      } else high |= bits << (shift - 32);
      if (byte < 0x80) break;
      if (shift === 63) throw new WireError("a number of more than ten bytes", this.at);
    }
    this.at = at;
    this.low = low >>> 0;
    this.high = high >>> 0;
  }

  fixed64(end: number): void {
    const { bytes, at } = this;
    if (at + 8 > end) throw new WireError("an 8-byte number that is cut off", at);
    this.low = bytes.readUInt32LE(at);
    this.high = bytes.readUInt32LE(at + 4);
    this.at = at + 8;
  }

  /** Passes a length-delimited field: its bytes lie from `start` up to `at`. */
  span(end: number): void {
    const from = this.at;
    let length = this.bytes[from] ?? 0;
    if (length < 0x80 && from < end) this.at++;
    else {
      this.varint(end);
      length = this.high === 0 ? this.low : Number.POSITIVE_INFINITY;
    }
    if (length > end - this.at) throw new WireError("a length that goes beyond the end", from);
    this.start = this.at;
    this.at += length;
  }

  /** Passes a field of any type. */
  skip(end: number): void {
    const { type, at } = this;
    if (type === VARINT) this.varint(end);
    else if (type === FIXED64) this.forward(8, end);
    else if (type === BYTES) this.span(end);
    else if (type === FIXED32) this.forward(4, end);
    else if (type === GROUP) this.skipGroup(end);
    else throw new WireError(`wire type ${type}`, at - 1);
  }

  /** True, and the field's bytes lie from `start` up to `at`; false when it has another type and was passed. */
  isSpan(end: number): boolean {
    if (this.type === BYTES) {
      this.span(end);
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

  private forward(length: number, end: number): void {
    if (this.at + length > end) throw new WireError(`a ${length}-byte number that is cut off`, this.at);
    this.at += length;
  }

  private skipGroup(end: number): void {
    for (let open = 1; open > 0; ) {
      const from = this.at;
      this.tag(end);
      if (this.type === GROUP) open++;
      else if (this.type === GROUP_END) open--;
      else this.skip(end);
      if (open > MAX_GROUPS) throw new WireError("groups that are nested too deeply", from);
    }
  }
}
