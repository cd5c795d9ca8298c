/**
 * Bytes of ClickHouse's RowBinary that grow as rows are written: numbers little-endian, strings with their length before
 * them. Pure but for its own buffer. Text is checked on its way: invalid UTF-8 is repaired, over-long text cut at a
 * character's border, and both are counted. Source of the format:
 * https://clickhouse.com/docs/interfaces/formats/RowBinary
 */
import { isUtf8 } from "node:buffer";

/** What had to be changed, of one request. */
export interface Repairs {
  cut: number;
  repaired: number;
  /** attributes, events and links beyond the limits */
  leftOut: number;
}

export const noRepairs = (): Repairs => ({ cut: 0, repaired: 0, leftOut: 0 });

/** Copying byte by byte is faster than a call below this length. */
const SHORT = 48;

/** End of the longest whole-character prefix that ends at or before `end`. */
const characterEnd = (bytes: Uint8Array, start: number, end: number): number => {
  let at = end;
  while (at > start && end - at < 4 && ((bytes[at] ?? 0) & 0xc0) === 0x80) at--;
  return at;
};

export class RowWriter {
  bytes: Buffer;
  at = 0;
  readonly repairs: Repairs;

  constructor(repairs: Repairs, capacity = 4096) {
    this.repairs = repairs;
    this.bytes = Buffer.allocUnsafe(capacity);
  }

  /** Room for `more` bytes after `at`. */
  room(more: number): void {
    const needed = this.at + more;
    if (needed <= this.bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(needed, this.bytes.length * 2));
    this.bytes.copy(grown, 0, 0, this.at);
    this.bytes = grown;
  }

  byte(value: number): void {
    this.room(1);
    this.bytes[this.at++] = value;
  }

  u32(value: number): void {
    this.room(4);
    const { bytes, at } = this;
    bytes[at] = value;
    bytes[at + 1] = value >>> 8;
    bytes[at + 2] = value >>> 16;
    bytes[at + 3] = value >>> 24;
    this.at = at + 4;
  }

  u64(low: number, high: number): void {
    this.u32(low);
    this.u32(high);
  }

  /** A length or count: LEB128. */
  length(value: number): void {
    this.room(5);
    let rest = value;
    while (rest > 0x7f) {
      this.bytes[this.at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.bytes[this.at++] = rest;
  }

  raw(from: Uint8Array, start: number, end: number): void {
    const length = end - start;
    this.room(length);
    if (length > SHORT) this.bytes.set(from.subarray(start, end), this.at);
    else {
      const { bytes, at } = this;
      for (let i = 0; i < length; i++) bytes[at + i] = from[start + i] ?? 0;
    }
    this.at += length;
  }

  zeros(count: number): void {
    this.room(count);
    this.bytes.fill(0, this.at, this.at + count);
    this.at += count;
  }

  /** A string: UTF-8 from `start` up to `end`, of which at most `most` bytes are kept. */
  text(from: Buffer, start: number, end: number, most: number): void {
    let stop = end;
    if (end - start > most) {
      stop = characterEnd(from, start, start + most);
      this.repairs.cut++;
    }
    const length = stop - start;
    this.length(length);
    this.room(length);
    const { bytes, at } = this;
    if (length > SHORT) {
      const part = from.subarray(start, stop);
      if (!isUtf8(part)) return this.repair(part, at, most);
      bytes.set(part, at);
    } else {
      let seen = 0;
      for (let i = 0; i < length; i++) {
        const byte = from[start + i] ?? 0;
        seen |= byte;
        bytes[at + i] = byte;
      }
      if (seen > 0x7f) {
        const part = from.subarray(start, stop);
        if (!isUtf8(part)) return this.repair(part, at, most);
      }
    }
    this.at = at + length;
  }

  /** A string of ours. */
  string(text: string, most: number): void {
    const bytes = Buffer.from(text, "utf8");
    this.text(bytes, 0, bytes.length, most);
  }

  /** Up to 20 digits and signs: no check needed. */
  ascii(text: string): void {
    this.length(text.length);
    this.room(text.length);
    for (let i = 0; i < text.length; i++) this.bytes[this.at++] = text.charCodeAt(i);
  }

  /** What was written. A buffer that turned out far too large is not kept by it. */
  take(): Buffer {
    const written = this.bytes.subarray(0, this.at);
    return this.at < this.bytes.length / 2 ? Buffer.from(written) : written;
  }

  /** `at`: where the string's bytes would have begun; its length, written before it, was for the broken bytes. */
  private repair(broken: Buffer, at: number, most: number): void {
    this.repairs.repaired++;
    const mended = Buffer.from(broken.toString("utf8"), "utf8");
    this.at = at - lengthBytes(broken.length);
    const end = mended.length > most ? characterEnd(mended, 0, most) : mended.length;
    this.length(end);
    this.raw(mended, 0, end);
  }
}

const lengthBytes = (value: number): number => {
  let bytes = 1;
  for (let rest = value; rest > 0x7f; rest >>>= 7) bytes++;
  return bytes;
};
