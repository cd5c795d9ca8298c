/**
 * Undoes a body's content encoding: gzip, deflate, zstd, and snappy's block format. Owned by the call that it is for. What
 * grows beyond `most` is stopped there and not after it: streams are cut at the limit, snappy and zstd are refused by the
 * sizes that they claim before anything is allocated. What cannot be decoded is a refusal with the reason. Work is cut
 * into steps, so that one call holds up nobody; an interrupted one ends.
 */
import type { Transform } from "node:stream";
import { createGunzip, createInflate, createInflateRaw } from "node:zlib";
import { Effect } from "effect";
import { Decompress } from "fzstd";
import { uncompress, uncompressSync } from "snappy";
import type { Lease } from "./Budget.ts";
import { DoorRefusal, type Encoding } from "./Door.ts";

export interface DecodeLimits {
  /** of the decoded body */
  readonly most: number;
  readonly lease: Lease;
}

/** Seconds after which a sender may come again. */
export const RETRY_AFTER_S = 5;

export const tooLarge = (most: number): DoorRefusal =>
  new DoorRefusal({ status: 413, message: `the body is larger than ${most} bytes` });

export const tooMuch = (): DoorRefusal =>
  new DoorRefusal({ status: 429, message: "too many bytes are under way", retryAfter: RETRY_AFTER_S });

const broken = (encoding: Encoding, error: unknown): DoorRefusal =>
  new DoorRefusal({
    status: 400,
    message: `the body is not ${encoding}: ${error instanceof Error ? error.message : String(error)}`,
  });

/** Counts what is decoded; gives the refusal once it is too much. */
const meter = ({ most, lease }: DecodeLimits): ((bytes: number) => DoorRefusal | null) => {
  let total = 0;
  return (bytes) => {
    total += bytes;
    if (total > most) return tooLarge(most);
    return lease.take(bytes) ? null : tooMuch();
  };
};

const through = (
  encoding: Encoding,
  stream: Transform,
  body: Buffer,
  limits: DecodeLimits,
): Effect.Effect<Buffer, DoorRefusal> =>
  Effect.async<Buffer, DoorRefusal>((resume) => {
    const count = meter(limits);
    const parts: Buffer[] = [];
    stream.on("data", (part: Buffer) => {
      const refusal = count(part.length);
      if (refusal === null) return void parts.push(part);
      stream.destroy();
      resume(Effect.fail(refusal));
    });
    stream.on("error", (error) => resume(Effect.fail(broken(encoding, error))));
    stream.on("end", () => resume(Effect.succeed(Buffer.concat(parts))));
    stream.end(body);
    return Effect.sync(() => stream.destroy());
  });

/** Most senders mean zlib's wrapping by "deflate", as RFC 9110 has it; some send the bare stream. */
const inflate = (body: Buffer): Transform => {
  const wrapped = body.length >= 2 && ((body[0] ?? 0) & 15) === 8 && body.readUInt16BE(0) % 31 === 0;
  return wrapped ? createInflate() : createInflateRaw();
};

/** Below this it is cheaper to decode at once than to hand it to another thread. */
const SNAPPY_AT_ONCE = 1024 * 1024;

/** Length that a snappy block claims to decode to; null when it says none. */
const snappyLength = (body: Buffer): number | null => {
  let length = 0;
  for (let i = 0; i < 5; i++) {
    const byte = body[i];
    if (byte === undefined) return null;
    length += (byte & 127) * 2 ** (7 * i);
    if (byte < 128) return length;
  }
  return null;
};

const snappy = (body: Buffer, { most, lease }: DecodeLimits): Effect.Effect<Buffer, DoorRefusal> =>
  Effect.suspend(() => {
    const length = snappyLength(body);
    if (length === null) return Effect.fail(broken("snappy", "it has no length"));
    if (length > most) return Effect.fail(tooLarge(most));
    if (!lease.take(length)) return Effect.fail(tooMuch());
    return Effect.tryPromise({
      try: async () =>
        length <= SNAPPY_AT_ONCE
          ? (uncompressSync(body, { asBuffer: true }) as Buffer)
          : ((await uncompress(body, { asBuffer: true })) as Buffer),
      catch: (error) => broken("snappy", error),
    });
  });

/** The largest window that RFC 8878 asks a decoder to support. */
const ZSTD_WINDOW = 8 * 1024 * 1024;
const ZSTD_FRAMES = 64;
const ZSTD_MAGIC = 0xfd2fb528;
const ZSTD_STEP = 1024 * 1024;

class Unreadable extends Error {}

const little = (body: Buffer, at: number, bytes: number): number => {
  if (at + bytes > body.length) throw new Unreadable("it is cut off");
  return bytes === 0 ? 0 : bytes <= 6 ? body.readUIntLE(at, bytes) : Number(body.readBigUInt64LE(at));
};

interface ZstdLayout {
  /** ends of the pieces (header and first block, each further block, checksum) of all frames */
  readonly ends: readonly number[];
  /** bytes that the decoder will allocate for looking back */
  readonly windows: number;
}

/** Found without decoding anything. Source of the format: RFC 8878, section 3.1.1. */
const zstdLayout = (body: Buffer): ZstdLayout => {
  const ends: number[] = [];
  let windows = 0;
  let at = 0;
  for (let frame = 0; at < body.length; frame++) {
    if (frame === ZSTD_FRAMES) throw new Unreadable(`it has more than ${ZSTD_FRAMES} frames`);
    const magic = little(body, at, 4);
    if (magic >>> 4 === 0x184d2a5) {
      at += 8 + little(body, at + 4, 4);
      ends.push(at);
      continue;
    }
    if (magic !== ZSTD_MAGIC) throw new Unreadable("a frame has no magic number");
    const flags = little(body, at + 4, 1);
    const single = (flags >> 5) & 1;
    const sizeBytes = flags >> 6 === 0 ? single : 1 << (flags >> 6);
    const sizeAt = at + 6 - single + ([0, 1, 2, 4][flags & 3] ?? 0);
    const descriptor = little(body, at + 5, 1);
    const window = 2 ** (10 + (descriptor >> 3)) * (1 + (descriptor & 7) / 8);
    if (single === 0 && window > ZSTD_WINDOW) throw new Unreadable(`its window is larger than ${ZSTD_WINDOW} bytes`);
    windows += single === 0 ? window : little(body, sizeAt, sizeBytes) + (sizeBytes === 2 ? 256 : 0);
    at = sizeAt + sizeBytes;
    for (let last = 0; last === 0; ) {
      const header = little(body, at, 3);
      last = header & 1;
      at += 3 + (((header >> 1) & 3) === 1 ? 1 : header >> 3);
      if (at > body.length) throw new Unreadable("it is cut off");
      ends.push(at);
    }
    if ((flags & 4) !== 0) at += 4;
  }
  ends[ends.length - 1] = body.length;
  return { ends, windows };
};

const nextTurn = Effect.async<void>((resume) => {
  const turn = setImmediate(() => resume(Effect.void));
  return Effect.sync(() => clearImmediate(turn));
});

const brokenZstd = (error: unknown): DoorRefusal => (error instanceof DoorRefusal ? error : broken("zstd", error));

const zstd = (body: Buffer, limits: DecodeLimits): Effect.Effect<Buffer, DoorRefusal> =>
  Effect.gen(function* () {
    const { ends, windows } = yield* Effect.try({ try: () => zstdLayout(body), catch: brokenZstd });
    if (windows > limits.most + ZSTD_WINDOW) return yield* tooLarge(limits.most);
    if (!limits.lease.take(windows)) return yield* tooMuch();
    const count = meter(limits);
    const parts: Uint8Array[] = [];
    let sinceTurn = 0;
    const decoder = new Decompress((part) => {
      const refusal = count(part.length);
      if (refusal !== null) throw refusal;
      sinceTurn += part.length;
      parts.push(part);
    });
    let from = 0;
    for (const end of ends) {
      const piece = body.subarray(from, end);
      yield* Effect.try({ try: () => void decoder.push(piece, end === body.length), catch: brokenZstd });
      from = end;
      if (sinceTurn < ZSTD_STEP) continue;
      sinceTurn = 0;
      yield* nextTurn;
    }
    return Buffer.concat(parts);
  });

export const decodeBody = (
  encoding: Encoding,
  body: Buffer,
  limits: DecodeLimits,
): Effect.Effect<Buffer, DoorRefusal> => {
  switch (encoding) {
    case "identity":
      return Effect.succeed(body);
    case "gzip":
      return Effect.suspend(() => through(encoding, createGunzip(), body, limits));
    case "deflate":
      return Effect.suspend(() => through(encoding, inflate(body), body, limits));
    case "snappy":
      return snappy(body, limits);
    case "zstd":
      return zstd(body, limits);
  }
};
