/**
 * A recording of one actor as bytes: entries, each a length (4 bytes, big endian) and msgpack. First the header, then
 * what the actor was told, with digests of its state in between. One recording replays to the same states, offline.
 */
import { createHash } from "node:crypto";
import { Packr } from "msgpackr";
import type { Message } from "../Behavior.ts";

export const FORMAT = 1;

export interface Header {
  readonly format: number;
  readonly kind: string;
  readonly path: string;
  readonly argument: unknown;
  readonly at: number;
  readonly snapshot: unknown;
  /** of the server that recorded */
  readonly version: string;
}

export type Entry =
  /** it was told this; `failed`: the step threw, and the actor was restarted */
  | readonly [kind: "m", at: number, message: Message, failed: boolean]
  | readonly [kind: "restart", at: number, snapshot: unknown]
  /** of the state after the message before */
  | readonly [kind: "digest", sha256: string]
  /** why there is no more */
  | readonly [kind: "end", reason: string];

const packr = new Packr({ useRecords: false, moreTypes: true });

export const frame = (value: Header | Entry): Buffer => {
  const body = packr.pack(value);
  const head = Buffer.alloc(4);
  head.writeUInt32BE(body.byteLength);
  return Buffer.concat([head, body]);
};

/** Objects in the order of their keys, so that equal states have equal texts. */
const canonical = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(canonical);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, canonical(inner)]),
  );
};

export const digestOf = (state: unknown): string =>
  createHash("sha256")
    .update(JSON.stringify(canonical(state)) ?? "")
    .digest("hex");

export class RecordingError extends Error {
  override readonly name = "RecordingError";
}

/** Reads a whole file. One that ends in the middle of an entry (the server died) is read as far as it goes. */
export const parse = (bytes: Buffer): { readonly header: Header; readonly entries: readonly Entry[] } => {
  const values: unknown[] = [];
  for (let at = 0; at + 4 <= bytes.byteLength; ) {
    const length = bytes.readUInt32BE(at);
    if (at + 4 + length > bytes.byteLength) break;
    try {
      values.push(packr.unpack(bytes.subarray(at + 4, at + 4 + length)));
    } catch (error) {
      throw new RecordingError(
        `byte ${at}: expected an entry of a recording (${error instanceof Error ? error.message : String(error)})`,
      );
    }
    at += 4 + length;
  }
  const [header, ...entries] = values;
  const { format, kind } = (header ?? {}) as Partial<Header>;
  if (format !== FORMAT || typeof kind !== "string")
    throw new RecordingError(`byte 0: expected a recording of format ${FORMAT}`);
  return { header: header as Header, entries: entries as Entry[] };
};
