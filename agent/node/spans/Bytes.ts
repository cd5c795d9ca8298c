/** Reads a head from its beginning: every read is bounded by what was captured, and past the end it gives `undefined`. */
export class Bytes {
  readonly bytes: Buffer;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get left(): number {
    return Math.max(0, this.bytes.length - this.at);
  }

  skip(n: number): this {
    this.at += Math.max(0, n);
    return this;
  }

  u8(): number | undefined {
    return this.bytes[this.at++];
  }

  private whole(n: number): boolean {
    this.at += n;
    return this.at <= this.bytes.length;
  }

  u16(): number | undefined {
    return this.whole(2) ? this.bytes.readUInt16BE(this.at - 2) : undefined;
  }
  i16(): number | undefined {
    return this.whole(2) ? this.bytes.readInt16BE(this.at - 2) : undefined;
  }
  i32(): number | undefined {
    return this.whole(4) ? this.bytes.readInt32BE(this.at - 4) : undefined;
  }
  u16le(): number | undefined {
    return this.whole(2) ? this.bytes.readUInt16LE(this.at - 2) : undefined;
  }
  u24le(): number | undefined {
    return this.whole(3) ? this.bytes.readUIntLE(this.at - 3, 3) : undefined;
  }
  u32le(): number | undefined {
    return this.whole(4) ? this.bytes.readUInt32LE(this.at - 4) : undefined;
  }

  /** Unsigned LEB128 of at most five bytes. */
  varint(): number | undefined {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.u8();
      if (byte === undefined) return undefined;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    return undefined;
  }

  /** Text of `n` bytes; what of it was captured. */
  text(n: number): string {
    const start = this.at;
    this.at += Math.max(0, n);
    return this.bytes.toString("utf8", Math.min(start, this.bytes.length), Math.min(this.at, this.bytes.length));
  }

  /** Text up to a zero byte, and whether that was captured. */
  cstring(): { readonly text: string; readonly whole: boolean } {
    const end = this.at > this.bytes.length ? -1 : this.bytes.indexOf(0, this.at);
    const text = this.text((end < 0 ? this.bytes.length : end) - this.at);
    this.at++;
    return { text, whole: end >= 0 };
  }
}
