/**
 * One side of an HTTP/2 connection, written frame by frame for specs: header blocks in every form that HPACK and the
 * framing allow, chosen by a source of random numbers. What a block means is decided by a real implementation at the
 * other end, never by this one.
 */
export type Header = readonly [name: string, value: string];
/** A whole number from 0 to below n. */
export type Choose = (n: number) => number;

const STATIC: readonly Header[] = [
  [":authority", ""],
  [":method", "GET"],
  [":method", "POST"],
  [":path", "/"],
  [":path", "/index.html"],
  [":scheme", "http"],
  [":scheme", "https"],
  [":status", "200"],
  [":status", "204"],
  [":status", "206"],
  [":status", "304"],
  [":status", "400"],
  [":status", "404"],
  [":status", "500"],
];
/** Of the rest of the static table, names that are used here. */
const STATIC_NAMES: Readonly<Record<string, number>> = { "content-type": 31, date: 33, server: 54, via: 60 };

const five = "012aceiost";
const six = " %-./3456789=A_bdfghlmnpru";
const seven = ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz";
const code = (char: string): readonly [value: number, bits: number] => {
  const short = five.indexOf(char);
  if (short >= 0) return [short, 5];
  const middle = six.indexOf(char);
  if (middle >= 0) return [20 + middle, 6];
  if (char === "+") return [0x7fb, 11];
  if (char === "?") return [0x3fc, 10];
  const long = seven.indexOf(char);
  if (long < 0) throw new Error(`no code for ${char}`);
  return [92 + long, 7];
};
export const huffman = (text: string): Buffer => {
  let bits = [...text].map((char) => code(char)[0].toString(2).padStart(code(char)[1], "0")).join("");
  bits = bits.padEnd(Math.ceil(bits.length / 8) * 8, "1");
  return Buffer.from((bits.match(/.{8}/g) ?? []).map((byte) => parseInt(byte, 2)));
};

const number = (first: number, prefix: number, value: number): Buffer => {
  const most = (1 << prefix) - 1;
  if (value < most) return Buffer.of(first | value);
  const bytes = [first | most];
  let rest = value - most;
  for (; rest >= 128; rest >>= 7) bytes.push((rest & 127) | 128);
  return Buffer.from([...bytes, rest]);
};

/** Encodes header blocks of one direction of a connection. */
export class Encoder {
  private table: Header[] = [];
  private limit = 4_096;
  private readonly choose: Choose;
  constructor(choose: Choose) {
    this.choose = choose;
  }

  block(headers: readonly Header[]): Buffer {
    const parts: Buffer[] = [];
    if (this.choose(10) === 0) {
      this.limit = [0, 64, 200, 4_096][this.choose(4)] ?? 0;
      this.evict();
      parts.push(number(0x20, 5, this.limit));
    }
    for (const header of headers) parts.push(this.field(header));
    return Buffer.concat(parts);
  }

  private evict(): void {
    const size = (): number => this.table.reduce((n, [name, value]) => n + name.length + value.length + 32, 0);
    while (size() > this.limit) this.table.pop();
  }

  private text(text: string): Buffer {
    if (this.choose(2) === 0) return Buffer.concat([number(0, 7, text.length), Buffer.from(text)]);
    const coded = huffman(text);
    return Buffer.concat([number(0x80, 7, coded.length), coded]);
  }

  private field(header: Header): Buffer {
    const [name, value] = header;
    const same = (all: readonly Header[]): number => all.findIndex(([n, v]) => n === name && v === value);
    const fixed = same(STATIC);
    const known = same(this.table);
    if (known >= 0 && this.choose(4) > 0) return number(0x80, 7, 62 + known);
    if (fixed >= 0 && this.choose(4) > 0) return number(0x80, 7, 1 + fixed);
    const named = this.table.findIndex(([n]) => n === name);
    const named1 = STATIC.findIndex(([n]) => n === name);
    let index = 0;
    if (this.choose(4) > 0) {
      if (named >= 0 && this.choose(2) === 0) index = 62 + named;
      else if (named1 >= 0) index = 1 + named1;
      else index = STATIC_NAMES[name] ?? (named >= 0 ? 62 + named : 0);
    }
    const kind = this.choose(4);
    const head = kind > 1 ? number(0x40, 6, index) : number(kind === 0 ? 0 : 0x10, 4, index);
    if (kind > 1) {
      this.table.unshift(header);
      this.evict();
    }
    return Buffer.concat([head, index === 0 ? this.text(name) : Buffer.alloc(0), this.text(value)]);
  }
}

export const TYPE = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, window: 8, continuation: 9 } as const;
export const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

export const frame = (type: number, flags: number, stream: number, body: Buffer = Buffer.alloc(0)): Buffer => {
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.byteLength, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, body]);
};

/** A header block as frames: padded, with a priority, cut into continuations anywhere. */
export const headers = (choose: Choose, stream: number, end: boolean, block: Buffer): Buffer => {
  const cuts =
    choose(3) === 0 ? Array.from({ length: 1 + choose(3) }, () => choose(block.length + 1)).sort((a, b) => a - b) : [];
  const parts = [...cuts, block.length].map((to, i) => block.subarray(i === 0 ? 0 : cuts[i - 1], to));
  const [first = Buffer.alloc(0), ...rest] = parts;
  // a token that is cut by padding is not put together again, and no implementation is known to make one
  const padding = cuts.length === 0 && choose(4) === 0 ? choose(20) : -1;
  const priority = choose(4) === 0;
  const body = Buffer.concat([
    padding >= 0 ? Buffer.of(padding) : Buffer.alloc(0),
    priority ? Buffer.of(0, 0, 0, 0, 15) : Buffer.alloc(0),
    first,
    Buffer.alloc(Math.max(0, padding)),
  ]);
  const flags = (end ? 1 : 0) | (padding >= 0 ? 8 : 0) | (priority ? 0x20 : 0);
  return Buffer.concat([
    frame(TYPE.headers, flags | (rest.length === 0 ? 4 : 0), stream, body),
    ...rest.map((part, i) => frame(TYPE.continuation, i === rest.length - 1 ? 4 : 0, stream, part)),
  ]);
};

/** Takes a stream of bytes apart into frames. */
export class Frames {
  private held = Buffer.alloc(0);
  private skip: number;
  /** `skip`: bytes before the first frame */
  constructor(skip = 0) {
    this.skip = skip;
  }
  push(chunk: Buffer): readonly { type: number; flags: number; stream: number; body: Buffer }[] {
    this.held = Buffer.concat([this.held, chunk]);
    const out = [];
    if (this.held.length < this.skip) return [];
    this.held = this.held.subarray(this.skip);
    this.skip = 0;
    while (this.held.length >= 9) {
      const length = this.held.readUIntBE(0, 3);
      if (this.held.length < 9 + length) break;
      out.push({
        type: this.held[3] ?? 0,
        flags: this.held[4] ?? 0,
        stream: this.held.readUInt32BE(5),
        body: this.held.subarray(9, 9 + length),
      });
      this.held = this.held.subarray(9 + length);
    }
    return out;
  }
}
