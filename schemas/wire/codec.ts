/**
 * Frames to bytes and back, for both ends of the agent link. Decoding trusts nothing: header, then a bounded walk over
 * the msgpack body (msgpack.ts), then the library; the fields of each kind are checked in check.ts, whose functions are
 * exported from here too. Whatever is wrong raises FrameError, never anything else, and never allocates more than a
 * small multiple of the frame's own bytes.
 */
import { Packr, Unpackr } from "msgpackr";
import { FrameError, HEADER_BYTES, MAX_FRAME_BYTES, readHeader, writeHeader } from "./frame.ts";
import type { FrameKind, Header } from "./frame.ts";
import { checkMsgpack } from "./msgpack.ts";

export * from "./check.ts";
export * from "./checkObserve.ts";

export interface DecodedFrame {
  readonly header: Header;
  /** not checked yet beyond being bounded; give it to the check function of `header.kind` */
  readonly body: unknown;
}

const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: true });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: "number" });

/** A whole frame in its own memory. `body` is one of the body types of link.ts and observe.ts. */
export const encodeFrame = (kind: FrameKind, body: object): Uint8Array => {
  const packed = packr.pack(body);
  const frame = new Uint8Array(HEADER_BYTES + packed.byteLength);
  writeHeader(kind, packed.byteLength, frame);
  frame.set(packed, HEADER_BYTES);
  return frame;
};

/** Header and unchecked body. Unknown kinds are decoded too: the caller skips and counts them. Raises FrameError. */
export const decodeFrame = (bytes: Uint8Array, maxBytes: number = MAX_FRAME_BYTES): DecodedFrame => {
  const header = readHeader(bytes, maxBytes);
  checkMsgpack(bytes, HEADER_BYTES);
  try {
    return { header, body: unpackr.unpack(bytes.subarray(HEADER_BYTES)) };
  } catch (cause) {
    const detail = cause instanceof Error ? cause.message : String(cause);
    throw new FrameError("body", `frame.body: not msgpack as used here: ${detail}`);
  }
};
