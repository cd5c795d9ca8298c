/**
 * Header blocks of HTTP/2 (RFC 7541), as far as they were captured. Entries of the dynamic table are named by their number
 * since the connection began, so that no sizes are needed: an index says how far its entry is behind the newest, and no
 * encoder names one that it has evicted. What is not known, or cut off, is left out; nothing here throws.
 */

/** What a connection's requests made entries of their table, by number; a name of "" is of no interest here. */
export interface Entries {
  readonly get: (number: number) => Field | undefined;
  readonly set: (number: number, field: Field) => void;
}
export type Field = readonly [name: string, value: string];

/** Of RFC 7541, appendix A; the others' names are of no interest here. */
const STATIC = new Map<number, Field>([
  [1, [":authority", ""]],
  [2, [":method", "GET"]],
  [3, [":method", "POST"]],
  [4, [":path", "/"]],
  [5, [":path", "/index.html"]],
  [8, [":status", "200"]],
  [9, [":status", "204"]],
  [10, [":status", "206"]],
  [11, [":status", "304"]],
  [12, [":status", "400"]],
  [13, [":status", "404"]],
  [14, [":status", "500"]],
  [38, ["host", ""]],
]);
const STATIC_ENTRIES = 61;
const OTHER: Field = ["", ""];

/**
 * Lengths of the codes of bytes 0 to 255 (RFC 7541, appendix B), in base 36. Codes of one length follow each other, and so
 * do the lengths: the lengths alone say what the codes are.
 */
const LENGTHS =
  "dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6ca" +
  "d67777777777777777777777878djde6f56565666577666567655677777fbeds" +
  "kmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmolmnnllmlnmnnkmmmnmmn" +
  "qqkjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrq";
const MOST_BITS = 30;

/** By length: the first code, and the bytes of that length in the order of their codes. */
const CODES = ((): readonly { readonly first: number; readonly bytes: readonly number[] }[] => {
  let code = 0;
  return Array.from({ length: MOST_BITS + 1 }, (_, length) => {
    code *= 2;
    const first = code;
    const bytes = Array.from({ length: LENGTHS.length }, (_unused, byte) => byte).filter(
      (byte) => Number.parseInt(LENGTHS[byte] ?? "", 36) === length,
    );
    code += bytes.length;
    return { first, bytes };
  });
})();

/** Up to the first code that is none, or that is cut off. */
export const unhuffman = (bytes: Uint8Array): string => {
  const out: number[] = [];
  let code = 0;
  let length = 0;
  for (const byte of bytes)
    for (let bit = 7; bit >= 0; bit--) {
      code = code * 2 + ((byte >> bit) & 1);
      length++;
      const of = CODES[length];
      if (of === undefined) return Buffer.from(out).toString("utf8");
      const found = of.bytes[code - of.first];
      if (found === undefined) continue;
      out.push(found);
      code = length = 0;
    }
  return Buffer.from(out).toString("utf8");
};

/** Names that anybody asks for; values of all others are passed by, and kept nowhere. */
const WANTED: ReadonlySet<string> = new Set([
  ":method",
  ":path",
  ":authority",
  ":status",
  "host",
  "traceparent",
  "grpc-status",
]);

class Reader {
  readonly bytes: Uint8Array;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  get done(): boolean {
    return this.at >= this.bytes.length;
  }

  /** A number with that many bits in its first byte (RFC 7541, 5.1). */
  number(bits: number): number | undefined {
    const most = 2 ** bits - 1;
    let value = (this.bytes[this.at++] ?? 0) & most;
    if (value < most) return value;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.bytes[this.at++];
      if (byte === undefined) return undefined;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    return undefined;
  }

  /** A string (RFC 7541, 5.2); undefined where it is cut off. */
  string(): string | undefined {
    if (this.done) return undefined;
    const huffman = ((this.bytes[this.at] ?? 0) & 0x80) !== 0;
    const length = this.number(7);
    if (length === undefined || this.at + length > this.bytes.length) return undefined;
    const bytes = this.bytes.subarray(this.at, this.at + length);
    this.at += length;
    return huffman ? unhuffman(bytes) : Buffer.from(bytes).toString("utf8");
  }
}

/** Fields of a block, of which some entries were made before; and how many there are behind it. */
export const readBlock = (
  block: Uint8Array,
  inserted: number,
  entries: Entries,
): { readonly fields: ReadonlyMap<string, string>; readonly inserted: number } => {
  const r = new Reader(block);
  const fields = new Map<string, string>();
  let count = inserted;
  const entry = (index: number): Field | undefined =>
    index <= STATIC_ENTRIES ? (STATIC.get(index) ?? OTHER) : entries.get(count - 1 - (index - STATIC_ENTRIES - 1));
  const note = (field: Field | undefined): void => {
    if (field !== undefined && WANTED.has(field[0])) fields.set(...field);
  };
  while (!r.done) {
    const first = r.bytes[r.at] ?? 0;
    if (first & 0x80) {
      const index = r.number(7);
      if (index === undefined || index === 0) break;
      note(entry(index));
      continue;
    }
    if ((first & 0xe0) === 0x20) {
      if (r.number(5) === undefined) break;
      continue;
    }
    const isInserted = (first & 0xc0) === 0x40;
    const index = r.number(isInserted ? 6 : 4);
    if (index === undefined) break;
    const name = index === 0 ? r.string() : (entry(index)?.[0] ?? "");
    const value = r.string();
    if (name === undefined || value === undefined) break;
    const field: Field = WANTED.has(name) ? [name, value] : OTHER;
    if (isInserted) entries.set(count++, field);
    note(field);
  }
  return { fields, inserted: count };
};
