/**
 * The agent link's frame: a fixed little-endian header, then a msgpack body (`useRecords: false`).
 *
 *   0  u32  magic 0x54524f43 ("CORT")
 *   4  u8   major    a reader speaks its own and the one before; others are refused with `goaway`
 *   5  u8   minor    additive: unknown columns, fields and kinds are skipped and counted
 *   6  u8   kind     see FRAME
 *   7  u8   flags    reserved, 0
 *   8  u32  length   of the body in bytes
 */
export const MAGIC = 0x54524f43;
export const HEADER_BYTES = 12;
export const PROTOCOL = { major: 1, minor: 0 } as const;
export const MAX_FRAME_BYTES = 8 * 1024 * 1024;
/** Before its key is accepted a peer may send no more than this. */
export const MAX_HELLO_BYTES = 64 * 1024;

export const FRAME = {
  hello: 1,
  observe: 2,
  store: 3,
  ack: 4,
  credit: 5,
  policy: 6,
  command: 7,
  goaway: 8,
} as const;
export type FrameKind = (typeof FRAME)[keyof typeof FRAME];

/** Why a frame was refused; `code` goes out in `goaway` and into the counter's label. */
export class FrameError extends Error {
  readonly code: "truncated" | "magic" | "version" | "oversized" | "length" | "body";
  constructor(code: FrameError["code"], message: string) {
    super(message);
    this.name = "FrameError";
    this.code = code;
  }
}

export interface Header {
  readonly major: number;
  readonly minor: number;
  readonly kind: number;
  readonly flags: number;
  readonly length: number;
}

export const writeHeader = (kind: FrameKind, bodyBytes: number, target: Uint8Array): void => {
  const view = new DataView(target.buffer, target.byteOffset, HEADER_BYTES);
  view.setUint32(0, MAGIC, true);
  view.setUint8(4, PROTOCOL.major);
  view.setUint8(5, PROTOCOL.minor);
  view.setUint8(6, kind);
  view.setUint8(7, 0);
  view.setUint32(8, bodyBytes, true);
};

/** Header of a whole frame. Raises FrameError when the bytes are no frame, of another version, or of another length. */
export const readHeader = (bytes: Uint8Array, maxBytes: number = MAX_FRAME_BYTES): Header => {
  if (bytes.byteLength < HEADER_BYTES)
    throw new FrameError("truncated", `frame: ${bytes.byteLength} bytes, a header has ${HEADER_BYTES}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const magic = view.getUint32(0, true);
  if (magic !== MAGIC)
    throw new FrameError("magic", `frame.magic: 0x${magic.toString(16)}, expected 0x${MAGIC.toString(16)}`);
  const major = view.getUint8(4);
  if (major > PROTOCOL.major || major < Math.max(1, PROTOCOL.major - 1))
    throw new FrameError(
      "version",
      `frame.major: protocol ${major}, this side speaks ${Math.max(1, PROTOCOL.major - 1)} to ${PROTOCOL.major}`,
    );
  const length = view.getUint32(8, true);
  if (length + HEADER_BYTES > maxBytes)
    throw new FrameError("oversized", `frame.length: ${length} bytes, at most ${maxBytes - HEADER_BYTES} are taken`);
  if (length !== bytes.byteLength - HEADER_BYTES)
    throw new FrameError(
      "length",
      `frame.length: header says ${length} bytes, body has ${bytes.byteLength - HEADER_BYTES}`,
    );
  return { major, minor: view.getUint8(5), kind: view.getUint8(6), flags: view.getUint8(7), length };
};
