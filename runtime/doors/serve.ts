/**
 * Serves the doors on the server's port: key, method, content type and encoding, sizes before and after decoding, and the
 * bytes that all calls hold together. Owned by the HTTP server, which has asked who may come (guard.ts). A refusal is told
 * in the door's own form with a clear reason; a door that fails answers 500 and costs nobody else anything. A call whose
 * sender went away goes on: its batch may be on its way to disk, and comes again under the same name. Holds nothing to stop.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { Effect, Metric } from "effect";
import { BULK } from "../actor/TurnScheduler.ts";
import { sameKey } from "../config/sameKey.ts";
import { Budget, type Lease } from "./Budget.ts";
import { decodeBody, RETRY_AFTER_S, tooLarge, tooMuch } from "./decode.ts";
import { DoorRefusal, type Answer, type Door, type Encoding } from "./Door.ts";

export interface DoorServer {
  /** whether the path is one of the doors' */
  readonly serves: (path: string) => boolean;
  readonly answer: (path: string, request: IncomingMessage, response: ServerResponse) => Effect.Effect<void>;
}

export interface DoorServerOptions {
  readonly doors: readonly Door[];
  /** the deployment's agent key */
  readonly key: string;
  /** most bytes that all calls hold together */
  readonly maxBytes?: number;
}

const PREFIX = "/v1/";
const MAX_BYTES = 192 * 1024 * 1024;
const PLAIN = "text/plain; charset=utf-8";

const counter = (name: string, description: string) => Metric.counter(name, { description, incremental: true });
const takenTotal = counter("coroot_door_taken_total", "calls that were taken, by door");
const refusedTotal = counter("coroot_door_refused_total", "calls that were refused, by door and reason");
const failedTotal = counter("coroot_door_failed_total", "calls that a door failed on, by door");
const bytesTotal = counter("coroot_door_bytes_total", "decoded bytes that came in, by door");
const underWay = Metric.gauge("coroot_door_bytes_under_way", { description: "bytes that calls at the doors hold now" });

type Reason = "key" | "path" | "method" | "type" | "size" | "malformed" | "behind" | "late";
const REASONS: Readonly<Record<DoorRefusal["status"], Reason>> = {
  400: "malformed",
  401: "key",
  404: "path",
  413: "size",
  415: "type",
  429: "behind",
  503: "late",
};

const countRefusal = (door: string, reason: Reason): Effect.Effect<void> =>
  Metric.increment(Metric.tagged(Metric.tagged(refusedTotal, "door", door), "reason", reason));

const send = (response: ServerResponse, { status, contentType, headers, body }: Answer): void => {
  if (response.destroyed) return;
  const content = body ?? "";
  response.writeHead(status, {
    "cache-control": "no-store",
    ...(contentType === undefined ? {} : { "content-type": contentType }),
    ...(status === 204 ? {} : { "content-length": Buffer.byteLength(content) }),
    ...headers,
  });
  response.end(content);
};

const plain = (status: number, message: string, headers: Readonly<Record<string, string>> = {}): Answer => ({
  status,
  contentType: PLAIN,
  headers,
  body: `${message}\n`,
});

const refusalAnswer = (refusal: DoorRefusal, door: Door, contentType: string): Answer => {
  if (door.refused !== undefined) return door.refused(refusal, contentType);
  const { status, message, retryAfter } = refusal;
  return plain(status, message, {
    ...(retryAfter === undefined ? {} : { "retry-after": String(retryAfter) }),
    ...(status === 401 ? { "www-authenticate": "Bearer" } : {}),
  });
};

const presentedKey = ({ headers }: IncomingMessage): string => {
  const own = headers["x-api-key"];
  if (typeof own === "string") return own.trim();
  return /^bearer\s+(\S+)\s*$/i.exec(headers.authorization ?? "")?.[1] ?? "";
};

const contentTypeOf = ({ headers }: IncomingMessage): string =>
  (headers["content-type"] ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";

const ENCODINGS: ReadonlyMap<string, Encoding> = new Map([
  ["", "identity"],
  ["identity", "identity"],
  ["gzip", "gzip"],
  ["x-gzip", "gzip"],
  ["deflate", "deflate"],
  ["zlib", "deflate"],
  ["zstd", "zstd"],
  ["snappy", "snappy"],
]);

/** RFC 1952's magic number. */
const isGzip = (body: Buffer): boolean => body[0] === 0x1f && body[1] === 0x8b;

/** The body as it came, and never more than `most` bytes of it. */
const readBody = (request: IncomingMessage, most: number, lease: Lease): Effect.Effect<Buffer, DoorRefusal> =>
  Effect.async<Buffer, DoorRefusal>((resume) => {
    const parts: Buffer[] = [];
    let bytes = 0;
    const end = (result: Effect.Effect<Buffer, DoorRefusal>): void => {
      request.off("data", onData).off("end", onEnd).off("error", onGone).off("close", onGone);
      // what is still to come is let go by, so that the sender reads its answer
      request.on("error", () => undefined).resume();
      resume(result);
    };
    const onData = (part: Buffer): void => {
      bytes += part.length;
      if (bytes > most) return end(Effect.fail(tooLarge(most)));
      if (!lease.take(part.length)) return end(Effect.fail(tooMuch()));
      parts.push(part);
    };
    const onEnd = (): void => end(Effect.succeed(Buffer.concat(parts)));
    const onGone = (): void => end(Effect.fail(new DoorRefusal({ status: 400, message: "the body is cut off" })));
    request.on("data", onData).on("end", onEnd).on("error", onGone).on("close", onGone);
  });

const bodyFor = (door: Door, request: IncomingMessage, lease: Lease): Effect.Effect<Buffer, DoorRefusal> =>
  Effect.gen(function* () {
    if (door.method === "GET") return Buffer.alloc(0);
    const contentType = contentTypeOf(request);
    if (door.contentTypes !== "any" && !door.contentTypes.includes(contentType)) {
      const what = contentType === "" ? "a call without content type" : JSON.stringify(contentType.slice(0, 100));
      const message = `${what} is not taken here; expected ${door.contentTypes.join(" or ")}`;
      return yield* new DoorRefusal({ status: 415, message });
    }
    const named = (request.headers["content-encoding"] ?? "").trim().toLowerCase();
    const encoding = ENCODINGS.get(named);
    if (encoding === undefined || !door.encodings.includes(encoding)) {
      const message = `content encoding ${JSON.stringify(named.slice(0, 100))} is not taken here; expected ${door.encodings.join(", ")}`;
      return yield* new DoorRefusal({ status: 415, message });
    }
    const claimed = Number(request.headers["content-length"] ?? 0);
    if (claimed > door.maxBytes) return yield* tooLarge(door.maxBytes);
    const body = yield* readBody(request, door.maxBytes, lease);
    const limits = { most: door.maxBytes, lease };
    const decoded = yield* decodeBody(encoding, body, limits);
    return door.gzipped === true && isGzip(decoded) ? yield* decodeBody("gzip", decoded, limits) : decoded;
  });

export const makeDoorServer = (options: DoorServerOptions): DoorServer => {
  const byPath = new Map<string, Door[]>();
  for (const door of options.doors) byPath.set(door.path, [...(byPath.get(door.path) ?? []), door]);
  const budget = new Budget(options.maxBytes ?? MAX_BYTES);
  const showBytes = Effect.suspend(() => Metric.set(underWay, budget.bytes));

  const call = (door: Door, request: IncomingMessage, lease: Lease): Effect.Effect<Answer, DoorRefusal> =>
    Effect.gen(function* () {
      if (!sameKey(presentedKey(request), options.key)) {
        const message = "the key is missing or wrong: send it as X-API-Key or as a bearer token";
        return yield* new DoorRefusal({ status: 401, message });
      }
      const body = yield* bodyFor(door, request, lease);
      yield* showBytes;
      yield* Metric.incrementBy(Metric.tagged(bytesTotal, "door", door.path), body.length);
      const query = new URL(request.url ?? "/", "http://localhost").searchParams;
      return yield* door.handle({ query, headers: request.headers, contentType: contentTypeOf(request), body });
    });

  const answered = (door: Door, request: IncomingMessage): Effect.Effect<Answer> =>
    Effect.acquireUseRelease(
      Effect.sync(() => budget.lease()),
      (lease) => call(door, request, lease),
      (lease) => Effect.zipRight(Effect.sync(lease.close), showBytes),
    ).pipe(
      Effect.tap(({ status }) =>
        status < 400
          ? Metric.increment(Metric.tagged(takenTotal, "door", door.path))
          : countRefusal(door.path, status in REASONS ? REASONS[status as DoorRefusal["status"]] : "malformed"),
      ),
      Effect.catchTag("DoorRefusal", (refusal) =>
        Effect.as(
          countRefusal(door.path, REASONS[refusal.status]),
          refusalAnswer(refusal, door, contentTypeOf(request)),
        ),
      ),
      Effect.catchAllDefect((defect) =>
        Effect.logError(`a call at ${door.path} failed`, defect).pipe(
          Effect.zipRight(Metric.increment(Metric.tagged(failedTotal, "door", door.path))),
          Effect.as(plain(500, "the server failed on this call", { "retry-after": String(RETRY_AFTER_S) })),
        ),
      ),
    );

  const answerOf = (path: string, request: IncomingMessage): Effect.Effect<Answer> => {
    const doors = byPath.get(path);
    if (doors === undefined) {
      const message = `there is no ${path.slice(0, 100)}; expected ${[...byPath.keys()].join(", ")}`;
      return Effect.as(countRefusal("none", "path"), plain(404, message));
    }
    const door = doors.find(({ method }) => method === request.method);
    if (door !== undefined) return answered(door, request);
    const allow = doors.map(({ method }) => method).join(", ");
    return Effect.as(countRefusal(path, "method"), plain(405, `${path} takes ${allow}`, { allow }));
  };

  return {
    serves: (path) => path.startsWith(PREFIX),
    answer: (path, request, response) =>
      Effect.map(answerOf(path, request), (answer) => {
        request.resume();
        send(response, answer);
      }).pipe(Effect.withSchedulingPriority(BULK)),
  };
};
