/** Writes frames as the probe does, by the same layout that the decoder reads; layout.machine.test.ts holds it to the C side. */
import { FRAME, FRAME_MAGIC, FRAME_MAJOR, LAYOUT } from "../../../../agent/node/probe/layout.ts";

type Struct = Exclude<keyof typeof LAYOUT, "header">;
type Value = number | string | Uint8Array;

const WIDE = new Set(
  "mono_ns bytes_out bytes_in connect_ns rtt_us sum_ns oldest_ns cgroup memory_cgroup rss_bytes value tick connections".split(
    " ",
  ),
);
const SHORT = new Set(["port", "major", "minor"]);
const BYTE = new Set(["role", "protocol", "status", "bucket"]);

const put = (bytes: Uint8Array, at: number, name: string, value: Value): void => {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  if (typeof value === "string") bytes.set(new TextEncoder().encode(value), at);
  else if (value instanceof Uint8Array) bytes.set(value, at);
  else if (WIDE.has(name)) view.setBigUint64(at, BigInt(value), true);
  else if (SHORT.has(name)) view.setUint16(at, value, true);
  else if (BYTE.has(name)) view.setUint8(at, value);
  else view.setUint32(at, value >>> 0, true);
};

export const frame = (kind: number, body: Uint8Array): Uint8Array => {
  const bytes = new Uint8Array(8 + body.byteLength);
  new DataView(bytes.buffer).setUint32(0, body.byteLength, true);
  new DataView(bytes.buffer).setUint16(4, kind, true);
  bytes.set(body, 8);
  return bytes;
};

/** A frame of rows of one struct, members by their name in the C header. */
export const rows = (
  kind: number,
  struct: Struct,
  ...values: readonly Readonly<Record<string, Value>>[]
): Uint8Array => {
  const layout: Readonly<Record<string, number>> = LAYOUT[struct];
  const size = LAYOUT[struct].size;
  const body = new Uint8Array(size * values.length);
  for (const [i, row] of values.entries())
    for (const [name, value] of Object.entries(row)) {
      const at = layout[name];
      if (at === undefined) throw new Error(`${struct} has no member ${name}`);
      put(body, i * size + at, name, value);
    }
  return frame(kind, body);
};

export const hello = (change: Readonly<Record<string, Value>> = {}): Uint8Array =>
  rows(FRAME.hello, "hello", {
    magic: FRAME_MAGIC,
    major: FRAME_MAJOR,
    minor: 0,
    buckets: 108,
    pid: 4242,
    mono_ns: 5_000_000,
    ...change,
  });

export const tickEnd = (tick: number): Uint8Array => rows(FRAME.tick, "tick", { tick, mono_ns: tick * 1_000_000_000 });

export const join = (...parts: readonly Uint8Array[]): Uint8Array => {
  const all = new Uint8Array(parts.reduce((n, part) => n + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.byteLength;
  }
  return all;
};
