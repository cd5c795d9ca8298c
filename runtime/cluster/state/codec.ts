/**
 * Snapshots as bytes: a format byte, a CRC-32 (IEEE 802.3) of the rest, then msgpack. A byte that changed on disk is
 * found before it becomes somebody's state.
 */
import { crc32 } from "node:zlib";
import { Packr } from "msgpackr";

const FORMAT = 1;
const HEADER_BYTES = 5;

const packr = new Packr({ useRecords: false, moreTypes: true });

export const encodeState = (value: unknown): Uint8Array => {
  const body = packr.pack(value);
  const bytes = new Uint8Array(HEADER_BYTES + body.byteLength);
  bytes[0] = FORMAT;
  new DataView(bytes.buffer).setUint32(1, crc32(body));
  bytes.set(body, HEADER_BYTES);
  return bytes;
};

export type Decoded = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly reason: string };

export const decodeState = (bytes: Uint8Array): Decoded => {
  if (bytes.byteLength <= HEADER_BYTES) return { ok: false, reason: `${bytes.byteLength} bytes, too few` };
  if (bytes[0] !== FORMAT) return { ok: false, reason: `format ${bytes[0]}, expected ${FORMAT}` };
  const body = bytes.subarray(HEADER_BYTES);
  const expected = new DataView(bytes.buffer, bytes.byteOffset).getUint32(1);
  if (crc32(body) !== expected) return { ok: false, reason: "corrupt: the checksum does not fit" };
  try {
    return { ok: true, value: packr.unpack(body) };
  } catch (error) {
    return { ok: false, reason: `not msgpack: ${error instanceof Error ? error.message : String(error)}` };
  }
};
