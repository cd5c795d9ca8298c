/**
 * Frames of HTTP/2 (RFC 9113) at the beginning of what was captured: header blocks by stream. A frame that is cut off gives
 * what is there of it; CONTINUATION frames are passed by.
 */
import { readBlock, type Entries } from "./hpack.ts";

const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES = 9;
const HEADERS = 1;
const MOST_TYPES = 9;
const PADDED = 8;
const PRIORITY = 0x20;

/** Text of HTTP/1 begins with a letter. */
export const isHttp2 = (head: Uint8Array): boolean =>
  head.length >= HEAD_BYTES && (head[0] === 0 || Buffer.from(head.subarray(0, 3)).toString("latin1") === "PRI");

export interface Block {
  readonly stream: number;
  readonly fields: ReadonlyMap<string, string>;
}

/** `inserted`: entries that the table of this direction had had before the first byte. */
export const readFrames = (head: Uint8Array, inserted: number, entries: Entries): readonly Block[] => {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  const blocks: Block[] = [];
  let count = inserted;
  let at = bytes.toString("latin1", 0, PREFACE.length) === PREFACE ? PREFACE.length : 0;
  while (at + HEAD_BYTES <= bytes.length) {
    const length = bytes.readUIntBE(at, 3);
    const type = bytes[at + 3] ?? 0;
    const flags = bytes[at + 4] ?? 0;
    const stream = bytes.readUInt32BE(at + 5) & 0x7fffffff;
    if (type > MOST_TYPES) break;
    let from = at + HEAD_BYTES;
    let to = Math.min(from + length, bytes.length);
    at = from + length;
    if (type !== HEADERS) continue;
    if (flags & PADDED) to = Math.min(to, at - (bytes[from++] ?? 0));
    if (flags & PRIORITY) from += 5;
    const block = readBlock(bytes.subarray(from, to), count, entries);
    count = block.inserted;
    blocks.push({ stream, fields: block.fields });
  }
  return blocks;
};
