/**
 * What replicas say to each other: msgpack arrays `[kind, …]` on one WebSocket per direction. A kind that is not known
 * comes from a newer replica and is skipped, and counted; fields are only ever added at the end.
 */
import { Packr } from "msgpackr";
import type { Answer } from "../actor/Asks.ts";
import type { Parcel } from "../actor/Outside.ts";

export const REPLICA_PROTOCOL = 1;
/** Parcels of one flush may be many; a frame beyond this is an error of the sender. */
export const MAX_REPLICA_FRAME = 64 * 1024 * 1024;

export const KIND = {
  hello: 1,
  claims: 2,
  sessions: 3,
  parcels: 4,
  answer: 5,
  spawn: 6,
  stop: 7,
  query: 8,
  response: 9,
  leaving: 10,
} as const;

export type ReplicaFrame =
  | readonly [
      kind: typeof KIND.hello,
      protocol: number,
      id: string,
      name: string,
      key: string,
      version: string,
      /** where the sender listens; older ones do not say */
      url?: string,
    ]
  /** parts that the sender owns; `whole`: all of them, also those in doubt, and the others are not its any more */
  | readonly [kind: typeof KIND.claims, whole: boolean, claims: readonly (readonly [part: string, token: number])[]]
  | readonly [kind: typeof KIND.sessions, whole: boolean, here: readonly string[], gone: readonly string[]]
  | readonly [kind: typeof KIND.parcels, parcels: readonly WireParcel[]]
  | readonly [kind: typeof KIND.answer, ask: number, answer: Answer]
  | readonly [kind: typeof KIND.spawn, path: string, behavior: string, argument: unknown, parent: string | null]
  | readonly [kind: typeof KIND.stop, path: string]
  | readonly [kind: typeof KIND.query, id: number, name: string, argument: unknown]
  | readonly [kind: typeof KIND.response, id: number, answer: Answer]
  /** the sender hands over what it owns and stops */
  | readonly [kind: typeof KIND.leaving];

export type WireParcel = readonly [
  to: string,
  message: unknown,
  from: string | null,
  trace: number,
  ask: number,
  timeoutMs: number,
];

const packr = new Packr({ useRecords: false, moreTypes: true });

export const encodeFrame = (frame: ReplicaFrame): Uint8Array => packr.pack(frame);

export class ReplicaFrameError extends Error {
  override readonly name = "ReplicaFrameError";
}

/** Null: a kind that is not known. Throws ReplicaFrameError for what is no frame. */
export const decodeFrame = (bytes: Uint8Array): ReplicaFrame | null => {
  let value: unknown;
  try {
    value = packr.unpack(bytes);
  } catch (error) {
    throw new ReplicaFrameError(`not msgpack: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (!Array.isArray(value) || typeof value[0] !== "number")
    throw new ReplicaFrameError("expected an array that begins with the number of its kind");
  const known: readonly number[] = Object.values(KIND);
  return known.includes(value[0]) ? (value as unknown as ReplicaFrame) : null;
};

export const toWire = ({ to, message, from, trace, ask, timeoutMs }: Parcel): WireParcel => [
  to,
  message,
  from,
  trace,
  ask,
  timeoutMs,
];

/** Throws ReplicaFrameError when it is none. */
export const fromWire = ([to, message, from, trace, ask, timeoutMs]: WireParcel): Parcel => {
  const typed = message as { readonly type?: unknown } | null;
  if (typeof to !== "string" || typeof typed !== "object" || typed === null || typeof typed.type !== "string")
    throw new ReplicaFrameError("parcel: expected a path and a message with a type");
  return { to, message: typed as Parcel["message"], from, trace, ask, timeoutMs };
};
