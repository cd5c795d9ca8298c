/**
 * Writes protobuf's wire format into one growing buffer. Pure but for its buffer. A message's length is written as four
 * bytes whatever its value (a varint may have leading zeros), so that nothing has to be moved when the message ends.
 */
import { BYTES, FIXED32, FIXED64, VARINT } from "../doors/Protobuf.ts";

const LENGTH_BYTES = 4;
const MASK_64 = 0xffffffffffffffffn;

export class WireWriter {
  private bytes = Buffer.allocUnsafe(1024);
  private at = 0;

  private room(more: number): void {
    const needed = this.at + more;
    if (needed <= this.bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(needed, this.bytes.length * 2));
    this.bytes.copy(grown, 0, 0, this.at);
    this.bytes = grown;
  }

  private small(value: number): void {
    this.room(5);
    let rest = value >>> 0;
    while (rest > 0x7f) {
      this.bytes[this.at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.bytes[this.at++] = rest;
  }

  varint(field: number, value: bigint): void {
    this.small((field << 3) | VARINT);
    this.room(10);
    let rest = value & MASK_64;
    while (rest > 0x7fn) {
      this.bytes[this.at++] = Number(rest & 0x7fn) | 0x80;
      rest >>= 7n;
    }
    this.bytes[this.at++] = Number(rest);
  }

  fixed64(field: number, value: bigint): void {
    this.small((field << 3) | FIXED64);
    this.room(8);
    this.at = this.bytes.writeBigUInt64LE(value & MASK_64, this.at);
  }

  double(field: number, value: number): void {
    this.small((field << 3) | FIXED64);
    this.room(8);
    this.at = this.bytes.writeDoubleLE(value, this.at);
  }

  fixed32(field: number, value: number): void {
    this.small((field << 3) | FIXED32);
    this.room(4);
    this.at = this.bytes.writeUInt32LE(value >>> 0, this.at);
  }

  data(field: number, value: Uint8Array): void {
    this.small((field << 3) | BYTES);
    this.small(value.length);
    this.room(value.length);
    this.bytes.set(value, this.at);
    this.at += value.length;
  }

  text(field: number, value: string): void {
    this.data(field, Buffer.from(value, "utf8"));
  }

  /** Begins a message; what it gives goes to `close`. */
  open(field: number): number {
    this.small((field << 3) | BYTES);
    this.room(LENGTH_BYTES);
    this.at += LENGTH_BYTES;
    return this.at;
  }

  close(opened: number): void {
    const length = this.at - opened;
    for (let i = 0; i < LENGTH_BYTES; i++) {
      const more = i < LENGTH_BYTES - 1 ? 0x80 : 0;
      this.bytes[opened - LENGTH_BYTES + i] = ((length >>> (7 * i)) & 0x7f) | more;
    }
  }

  take(): Buffer {
    return this.bytes.subarray(0, this.at);
  }
}
