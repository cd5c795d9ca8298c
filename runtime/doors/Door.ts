/**
 * A door: one path by which telemetry that others made comes in over HTTP (remote_write, OTLP, pprof). Whoever serves the
 * doors has checked the key, undone the content encoding and kept the limits before `handle` is called; a door only reads
 * its protocol, and answers when what it took is durable. Holds nothing to stop.
 */
import { Data, type Effect } from "effect";
import type { IncomingHttpHeaders } from "node:http";

export interface Call {
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  /** without parameters, in lower case */
  readonly contentType: string;
  /** decoded: the bytes that the protocol speaks of */
  readonly body: Buffer;
}

export interface Answer {
  readonly status: number;
  readonly contentType?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | string;
}

/** Why a call was not taken; the sender is told in its protocol's form. */
export class DoorRefusal extends Data.TaggedError("DoorRefusal")<{
  readonly status: 400 | 401 | 404 | 413 | 415 | 429 | 503;
  readonly message: string;
  /** seconds, with 429 and 503 */
  readonly retryAfter?: number;
}> {}

export type Encoding = "identity" | "gzip" | "deflate" | "zstd" | "snappy";

export interface Door {
  readonly path: string;
  readonly method: "GET" | "POST";
  /** "any": the protocol names none, and its senders give what they like or nothing */
  readonly contentTypes: readonly string[] | "any";
  readonly encodings: readonly Encoding[];
  /** the protocol's own bytes may be gzip, whatever the headers say: they are decoded too, within the same limits */
  readonly gzipped?: boolean;
  /** of the body, decoded */
  readonly maxBytes: number;
  readonly handle: (call: Call) => Effect.Effect<Answer, DoorRefusal>;
  /** a refusal in the protocol's own form; plain text where the protocol has none */
  readonly refused?: (refusal: DoorRefusal, contentType: string) => Answer;
}
