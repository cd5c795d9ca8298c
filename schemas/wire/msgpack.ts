/**
 * A look over a msgpack body before anything is built from it: the library allocates arrays by the length that the
 * bytes claim (nested 5-byte headers could ask for gigabytes) and turns extension types into dates, errors and sets.
 * This walk takes only what frames use: nil, booleans, numbers, strings, bytes, arrays and maps with text keys; every
 * claimed length must fit into the bytes that are left, and depth and number of values are bounded.
 */
import { FrameError } from "./frame.ts";

export const MAX_DEPTH = 8;
/** Values in one body. Columns count as one value each, so this bounds definitions and events, not rows. */
export const MAX_VALUES = 2_000_000;

const fail = (what: string, at: number): never => {
  throw new FrameError("body", `frame.body: ${what} at byte ${at}`);
};

/** Raises FrameError("body") unless `bytes` from `start` are exactly one bounded msgpack value. */
export const checkMsgpack = (bytes: Uint8Array, start: number): void => {
  const end = bytes.byteLength;
  const view = new DataView(bytes.buffer, bytes.byteOffset, end);
  let at = start;
  let values = 0;

  const need = (n: number): void => {
    if (n > end - at) fail(`${n} bytes are announced, ${end - at} are left`, at);
  };
  const size = (width: 1 | 2 | 4): number => {
    need(width);
    const n = width === 1 ? view.getUint8(at) : width === 2 ? view.getUint16(at) : view.getUint32(at);
    at += width;
    return n;
  };
  const skip = (n: number): void => {
    need(n);
    at += n;
  };
  const array = (n: number, depth: number): void => {
    need(n);
    for (let i = 0; i < n; i++) value(depth + 1, false);
  };
  const map = (n: number, depth: number): void => {
    need(n * 2);
    for (let i = 0; i < n; i++) {
      value(depth + 1, true);
      value(depth + 1, false);
    }
  };
  const value = (depth: number, key: boolean): void => {
    if (depth > MAX_DEPTH) fail(`values are nested deeper than ${MAX_DEPTH}`, at);
    if (++values > MAX_VALUES) fail(`more than ${MAX_VALUES} values`, at);
    need(1);
    const head = view.getUint8(at);
    const text = (head >= 0xa0 && head <= 0xbf) || (head >= 0xd9 && head <= 0xdb);
    if (key && !text) fail("a map key that is no text", at);
    at++;
    if (head <= 0x7f || head >= 0xe0) return;
    if (head <= 0x8f) return map(head & 0x0f, depth);
    if (head <= 0x9f) return array(head & 0x0f, depth);
    if (head <= 0xbf) return skip(head & 0x1f);
    switch (head) {
      case 0xc0: // nil
      case 0xc2: // false
      case 0xc3: // true
        return;
      case 0xc4: // bytes
      case 0xd9: // text
        return skip(size(1));
      case 0xc5:
      case 0xda:
        return skip(size(2));
      case 0xc6:
      case 0xdb:
        return skip(size(4));
      case 0xcc: // numbers
      case 0xd0:
        return skip(1);
      case 0xcd:
      case 0xd1:
        return skip(2);
      case 0xca:
      case 0xce:
      case 0xd2:
        return skip(4);
      case 0xcb:
      case 0xcf:
      case 0xd3:
        return skip(8);
      case 0xdc:
        return array(size(2), depth);
      case 0xdd:
        return array(size(4), depth);
      case 0xde:
        return map(size(2), depth);
      case 0xdf:
        return map(size(4), depth);
      default:
        fail(`type 0x${head.toString(16)} is not used in frames`, at - 1);
    }
  };

  value(0, false);
  if (at !== end) fail(`${end - at} bytes follow the value`, at);
};
