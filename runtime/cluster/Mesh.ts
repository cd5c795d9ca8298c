/**
 * The sockets between replicas: each dials every other one, speaks on its own connection and listens on theirs, so that
 * no message waits for the state database. Owned by its scope; closing it says goodbye.
 *
 * It also knows who is dead: its connection ended, and then two dials in a row were refused within three seconds. A
 * slow or starving replica still accepts, so load alone never looks like death. Frames that are no frames end the
 * connection; whoever cannot show the deployment's key is not listened to.
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { Clock, Data, Deferred, Effect, FiberMap, Metric, Schedule, type Scope } from "effect";
import { WebSocket, WebSocketServer, type RawData } from "ws";
import { sameKey } from "../config/sameKey.ts";
import type { Answer } from "../actor/Asks.ts";
import {
  decodeFrame,
  encodeFrame,
  KIND,
  MAX_REPLICA_FRAME,
  REPLICA_PROTOCOL,
  ReplicaFrameError,
  type ReplicaFrame,
} from "./frames.ts";

const DIAL_AGAIN_MS = 400;
const HANDSHAKE_MS = 2_000;
const DEAD_WITHIN_MS = 3_000;
const REFUSALS_OF_THE_DEAD = 2;
/** A peer that does not read this much is cut off; what it should have got waits in the router, bounded. */
const MAX_UNSENT_BYTES = 64 * 1024 * 1024;
const PING_EVERY = "5 seconds";

const refusedTotal = Metric.counter("coroot_replica_refused_total", {
  description: "replica connections that showed no valid key, or said something that is no frame",
  incremental: true,
});
const unknownTotal = Metric.counter("coroot_replica_frames_unknown_total", { incremental: true });

/** Another server of this deployment, as the state database lists it. */
export interface Replica {
  readonly id: string;
  readonly name: string;
  /** ws://host:port/replica */
  readonly url: string;
}

export interface PeerState {
  readonly replica: Replica;
  readonly connected: boolean;
  readonly lostAt: number | null;
  /** dials in a row that nobody accepted since the connection ended */
  readonly refusals: number;
  readonly dead: boolean;
}

export class QueryFailed extends Data.TaggedError("QueryFailed")<{ readonly message: string }> {}

export interface MeshOptions {
  /** as it is listed now */
  readonly self: () => Replica;
  readonly key: string;
  readonly version: string;
  readonly connected: (replica: string) => void;
  readonly closed: (replica: string) => void;
  readonly frame: (replica: string, frame: ReplicaFrame) => void;
  /** answers what a peer asks of this process: the console, boards */
  readonly answer: (
    name: string,
    argument: unknown,
    from: string,
  ) => Effect.Effect<unknown, { readonly message: string }>;
}

export interface Mesh {
  readonly upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
  readonly send: (replica: string, frame: ReplicaFrame) => boolean;
  readonly query: (
    replica: string,
    name: string,
    argument: unknown,
    timeoutMs: number,
  ) => Effect.Effect<unknown, QueryFailed>;
  readonly peers: () => readonly PeerState[];
  /** the list as the database has it; who is not on it any more is not dialled again */
  readonly know: (replicas: readonly Replica[]) => Effect.Effect<void>;
}

interface Peer {
  replica: Replica;
  socket: WebSocket | null;
  lostAt: number | null;
  refusals: number;
}

const bytesOf = (data: RawData): Uint8Array =>
  Array.isArray(data) ? Buffer.concat(data) : data instanceof ArrayBuffer ? new Uint8Array(data) : data;

export const isDead = (peer: Pick<Peer, "socket" | "lostAt" | "refusals">, now: number): boolean =>
  peer.socket === null &&
  peer.lostAt !== null &&
  (peer.refusals >= REFUSALS_OF_THE_DEAD || (peer.refusals > 0 && now - peer.lostAt > DEAD_WITHIN_MS));

export const makeMesh = (options: MeshOptions): Effect.Effect<Mesh, never, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.clockWith(Effect.succeed);
    const now = (): number => clock.unsafeCurrentTimeMillis();
    const peers = new Map<string, Peer>();
    const dialling = yield* FiberMap.make<string>();
    const serving = yield* FiberMap.make<number>();
    const serve = yield* FiberMap.runtime(serving)<never>();
    const queries = new Map<number, Deferred.Deferred<unknown, QueryFailed>>();
    let nextQuery = 1;
    let nextServed = 1;

    const send = (replica: string, frame: ReplicaFrame): boolean => {
      const socket = peers.get(replica)?.socket;
      if (socket === null || socket === undefined || socket.readyState !== WebSocket.OPEN) return false;
      if (socket.bufferedAmount > MAX_UNSENT_BYTES) {
        socket.terminate();
        return false;
      }
      socket.send(encodeFrame(frame));
      return true;
    };

    const respond = (from: string, id: number, name: string, argument: unknown): void => {
      serve(
        nextServed++,
        options.answer(name, argument, from).pipe(
          Effect.matchCause({
            onSuccess: (value): Answer => ({ ok: true, value }),
            onFailure: (cause): Answer => ({ ok: false, error: cause.toString() }),
          }),
          Effect.map((answer) => void send(from, [KIND.response, id, answer])),
        ),
      );
    };

    const take = (from: string, frame: ReplicaFrame): void => {
      if (frame[0] === KIND.query) return respond(from, frame[1], frame[2], frame[3]);
      if (frame[0] !== KIND.response) return options.frame(from, frame);
      const [, id, answer] = frame;
      const asked = queries.get(id);
      if (asked === undefined) return;
      queries.delete(id);
      Deferred.unsafeDone(
        asked,
        answer.ok ? Effect.succeed(answer.value) : Effect.fail(new QueryFailed({ message: answer.error })),
      );
    };

    // ——— the connection that we speak on ———

    const lost = (peer: Peer): void => {
      peer.socket = null;
      peer.lostAt = now();
      peer.refusals = 0;
      options.closed(peer.replica.id);
    };

    const dial = (peer: Peer): Effect.Effect<void> =>
      Effect.async<void>((resume) => {
        const socket = new WebSocket(`${peer.replica.url}?to=${peer.replica.id}`, {
          handshakeTimeout: HANDSHAKE_MS,
          maxPayload: MAX_REPLICA_FRAME,
          perMessageDeflate: false,
        });
        let opened = false;
        socket.on("open", () => {
          opened = true;
          peer.socket = socket;
          peer.lostAt = null;
          peer.refusals = 0;
          const { id, name, url } = options.self();
          socket.send(encodeFrame([KIND.hello, REPLICA_PROTOCOL, id, name, options.key, options.version, url]));
          options.connected(peer.replica.id);
        });
        socket.on("error", (error: Error & { readonly code?: string }) => {
          // 410: somebody else listens there now.
          const refused =
            error.code === "ECONNREFUSED" || error.code === "ECONNRESET" || error.message.endsWith(" 410");
          if (!opened && refused) peer.refusals++;
        });
        socket.on("close", () => {
          if (opened) lost(peer);
          resume(Effect.void);
        });
        return Effect.sync(() => {
          socket.removeAllListeners("close");
          if (opened) {
            peer.socket = null;
            socket.close(1000);
          } else socket.terminate();
        });
      });

    const keepDialling = (peer: Peer): Effect.Effect<void> =>
      dial(peer).pipe(Effect.zipRight(Effect.sleep(DIAL_AGAIN_MS)), Effect.forever);

    const startDialling = yield* FiberMap.runtime(dialling)<never>();
    const meet = (replica: Replica): void => {
      if (replica.id === options.self().id || peers.has(replica.id)) return;
      const peer: Peer = { replica, socket: null, lostAt: now(), refusals: 0 };
      peers.set(replica.id, peer);
      startDialling(replica.id, keepDialling(peer));
    };

    // ——— the connections that we listen on ———

    const server = yield* Effect.acquireRelease(
      Effect.sync(
        () => new WebSocketServer({ noServer: true, maxPayload: MAX_REPLICA_FRAME, perMessageDeflate: false }),
      ),
      (wss) =>
        Effect.sync(() => {
          for (const socket of wss.clients) socket.terminate();
          wss.close();
        }),
    );

    const listen = (socket: WebSocket): void => {
      let from: string | null = null;
      const refuse = (): void => {
        refusedTotal.unsafeUpdate(1, []);
        socket.close(1008);
      };
      socket.on("error", () => socket.terminate());
      socket.on("message", (data) => {
        try {
          const frame = decodeFrame(bytesOf(data));
          if (frame === null) return unknownTotal.unsafeUpdate(1, []);
          if (from !== null) return take(from, frame);
          if (frame[0] !== KIND.hello || !sameKey(String(frame[4]), options.key)) return refuse();
          from = frame[2];
          // The list may be old, or out of reach: whoever comes is spoken to at once, and so hears what is whose.
          const url: unknown = frame[6];
          if (typeof url === "string" && url.startsWith("ws")) meet({ id: from, name: frame[3], url });
        } catch (error) {
          if (!(error instanceof ReplicaFrameError)) throw error;
          refuse();
        }
      });
    };

    yield* Effect.sync(() => {
      for (const socket of server.clients) if (socket.readyState === WebSocket.OPEN) socket.ping();
    }).pipe(Effect.repeat(Schedule.spaced(PING_EVERY)), Effect.forkScoped);

    return {
      upgrade: (request, socket, head) => {
        const to = new URL(request.url ?? "/", "http://replica").searchParams.get("to");
        if (to === options.self().id) server.handleUpgrade(request, socket, head, listen);
        else socket.end("HTTP/1.1 410 Gone\r\nConnection: close\r\n\r\n");
      },
      send,
      query: (replica, name, argument, timeoutMs) =>
        Effect.gen(function* () {
          const asked = yield* Deferred.make<unknown, QueryFailed>();
          const id = nextQuery++;
          queries.set(id, asked);
          if (!send(replica, [KIND.query, id, name, argument])) {
            queries.delete(id);
            return yield* new QueryFailed({ message: `replica ${replica} is not connected` });
          }
          return yield* Deferred.await(asked).pipe(
            Effect.timeoutFail({
              duration: timeoutMs,
              onTimeout: () => new QueryFailed({ message: `replica ${replica} did not answer within ${timeoutMs} ms` }),
            }),
            Effect.ensuring(Effect.sync(() => queries.delete(id))),
          );
        }),
      peers: () =>
        [...peers.values()].map((peer) => ({
          replica: peer.replica,
          connected: peer.socket !== null,
          lostAt: peer.lostAt,
          refusals: peer.refusals,
          dead: isDead(peer, now()),
        })),
      know: (replicas) =>
        Effect.gen(function* () {
          const listed = new Set(replicas.map((replica) => replica.id));
          replicas.forEach(meet);
          for (const [id, peer] of peers) {
            if (listed.has(id) || peer.socket !== null) continue;
            yield* FiberMap.remove(dialling, id);
            peers.delete(id);
          }
        }),
    };
  });
