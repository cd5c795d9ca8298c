/**
 * Protobuf's wire format, read in place: a cursor over one message's bytes. Pure. What cannot be read (cut off, a length
 * beyond the end, an unknown wire type) is a Malformed that says what and at which byte; nothing is allocated by a length
 * that the bytes claim. Source of the format: https://protobuf.dev/programming-guides/encoding/
 */
export class Malformed extends Error {
  constructor(what: string, at: number) {
    super(`${what} at byte ${at}`);
    this.name = "Malformed";
  }
}

export const VARINT = 0;
export const FIXED64 = 1;
export const BYTES = 2;
export const FIXED32 = 5;

const WORD = 2 ** 32;

export class Cursor {
  readonly bytes: Buffer;
  at = 0;
  /** wire type of the last field */
  type = 0;
  /** halves of the last 64-bit number, each an unsigned 32-bit number */
  low = 0;
  high = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  /** The next field's number; its wire type is left in `type`. */
  field(end: number): number {
    const first = this.bytes[this.at] ?? 0;
    let tag = first;
    if (first < 128 && this.at < end) this.at++;
    else {
      this.varint(end);
      if (this.high !== 0) throw new Malformed("a field number out of range", this.at);
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
    const { bytes, at } = this;
    if (at + 8 > end) throw new Malformed("an 8-byte number that is cut off", at);
    this.low =
      ((bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24)) >>>
      0;
    this.high =
      ((bytes[at + 4] ?? 0) |
        ((bytes[at + 5] ?? 0) << 8) |
        ((bytes[at + 6] ?? 0) << 16) |
        ((bytes[at + 7] ?? 0) << 24)) >>>
      0;
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

  /** Passes a field's content, whatever its type. */
  skip(end: number): void {
    if (this.type === VARINT) this.varint(end);
    else if (this.type === BYTES) this.at = this.span(end);
    else if (this.type === FIXED64 || this.type === FIXED32) {
      const length = this.type === FIXED64 ? 8 : 4;
      if (this.at + length > end) throw new Malformed(`a ${length}-byte number that is cut off`, this.at);
      this.at += length;
    } else throw new Malformed(`wire type ${this.type}`, this.at - 1);
  }

  /** Refuses a field of another wire type than its message declares. */
  expect(type: number): void {
    if (this.type !== type) throw new Malformed(`wire type ${this.type} where ${type} belongs`, this.at - 1);
  }

  text(start: number, end: number): string {
    return this.bytes.toString("utf8", start, end);
  }
}

const HALVES = new DataView(new ArrayBuffer(8));
