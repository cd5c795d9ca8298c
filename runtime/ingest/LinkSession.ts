/**
 * One agent's connection: hello and key first, then observe frames in order and store frames beside them, each lane
 * with its own credit. Runs as one fiber of the agent link; frames wait in a queue that the credit bounds.
 * A frame that lies ends this connection with a `goaway` that says why; a defect of the handler ends it too, and the
 * agent returns. Stops when the socket closes, the link interrupts it (`goaway` shutdown) or another takes its place.
 */
import type { Duplex } from "node:stream";
import { Data, Deferred, Effect, Exit, FiberSet, Metric, Queue } from "effect";
import type { RawData, WebSocket } from "ws";
import { checkHello, checkObserve, checkStore, decodeFrame, encodeFrame } from "../../schemas/wire/codec.ts";
import { FRAME, FrameError, MAX_FRAME_BYTES, MAX_HELLO_BYTES, PROTOCOL, readHeader } from "../../schemas/wire/frame.ts";
import type { FrameKind } from "../../schemas/wire/frame.ts";
import type {
  AckBody,
  CreditBody,
  GoawayBody,
  HelloBody,
  Lane,
  PolicyBody,
  ServerHelloBody,
} from "../../schemas/wire/link.ts";
import { BULK } from "../actor/TurnScheduler.ts";
import { sameKey } from "../config/sameKey.ts";
import type { AgentHandler, AgentPeer } from "./AgentHandler.ts";
import { countLoss } from "./AgentRegistry.ts";
import type { AgentRecord, AgentRegistry } from "./AgentRegistry.ts";
import { makeClockOffset } from "./ClockOffset.ts";
import type { ClockOffset } from "./ClockOffset.ts";

export const OBSERVE_CREDIT = 8;
/**
 * Batches of one agent that may be under way to the store: an insert takes about a second whatever is in it, so that few
 * agents may catch up faster than many, whose batches would fill the memory.
 */
const STORE_CREDIT = { most: 16, least: 2, ofAll: 2_000 } as const;
const storeCreditFor = (agents: number): number =>
  Math.max(STORE_CREDIT.least, Math.min(STORE_CREDIT.most, Math.floor(STORE_CREDIT.ofAll / Math.max(1, agents))));
/** Agents take a server that says nothing for 15 s for dead. */
const REASSURED_EVERY_MS = 4_000;
const HELLO_WITHIN = "5 seconds";
const REPLACED_WITHIN = "5 seconds";
/** An agent that does not read its acknowledgements is cut off at this. */
const MAX_UNSENT_BYTES = 1024 * 1024;

const refusedTotal = Metric.counter("coroot_agent_refused_total", {
  description: "agent connections refused or ended by the server, by reason",
  incremental: true,
});
const framesTotal = Metric.counter("coroot_agent_frames_total", { description: "frames by lane", incremental: true });
const bytesTotal = Metric.counter("coroot_agent_bytes_total", { description: "bytes of frames", incremental: true });
const defectsTotal = Metric.counter("coroot_agent_defects_total", {
  description: "agent connections that ended because the server failed on a frame",
  incremental: true,
});

/** The connection ends, and the agent is told why. */
export class Refusal extends Data.TaggedError("Refusal")<GoawayBody> {}

const RETRY_MS: Readonly<Record<GoawayBody["code"], number>> = {
  key: 0,
  version: 0,
  duplicate: 10_000,
  "bad-frame": 5_000,
  oversized: 5_000,
  timeout: 1_000,
  shutdown: 1_000,
  again: 100,
};
export const refusal = (code: GoawayBody["code"], message: string): Refusal =>
  new Refusal({ code, message, retryAfterMs: RETRY_MS[code] });

const fromFrame = (error: FrameError): Refusal =>
  refusal(error.code === "version" || error.code === "oversized" ? error.code : "bad-frame", error.message);

const decoding = <A>(run: () => A): Effect.Effect<A, Refusal> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(run());
    } catch (error) {
      return error instanceof FrameError ? Effect.fail(fromFrame(error)) : Effect.die(error);
    }
  });

const bytesOf = (data: RawData): Uint8Array =>
  Array.isArray(data) ? Buffer.concat(data) : data instanceof ArrayBuffer ? new Uint8Array(data) : data;

export interface SessionContext {
  readonly key: string;
  readonly serverId: string;
  readonly registry: AgentRegistry;
  readonly handler: AgentHandler;
  readonly now: () => number;
  /** refusals since the start, by code */
  readonly refusals: Map<GoawayBody["code"], number>;
}

/** What the link can do with a connection from outside of its fiber. */
export interface SessionControl {
  readonly agentId: string;
  /** server time of the last frame or pong */
  readonly lastHeardAt: () => number;
  readonly end: (why: Refusal) => void;
  readonly setStoreReady: (ready: boolean) => void;
  /** tells an agent whose windows wait here that nothing is lost: it would come again with all that it has */
  readonly reassure: () => void;
  readonly tellPolicy: (policy: PolicyBody) => void;
}

type Inbound =
  | { readonly type: "frame"; readonly kind: number; readonly bytes: Uint8Array; readonly at: number }
  | { readonly type: "closed"; readonly reason: string };

interface PendingStore {
  readonly epoch: number;
  readonly sequence: number;
  readonly monoMs: number;
  durable: boolean;
}

/** Runs the connection to its end. Never fails; what went wrong has been told to the agent and counted. */
export const runSession = (
  context: SessionContext,
  socket: WebSocket,
  wire: Duplex,
  onAccepted: (control: SessionControl) => () => void,
): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { registry, handler, now } = context;
    const inbox = yield* Queue.unbounded<Inbound>();
    const ended = yield* Deferred.make<never, Refusal>();
    const done = yield* Deferred.make<void>();
    let listening = true;
    let accepted: AgentRecord | null = null;
    let lastHeardAt = now();
    let helloBytes = 0;
    const waiting = { observe: 0, store: 0 };
    /** of the store lane: what the agent may go by now, and the most that it was ever told */
    const granted = { now: 0, most: 0 };
    let toldAt = now();

    const stop = (why: Refusal): void => {
      listening = false;
      Deferred.unsafeDone(ended, Exit.fail(why));
    };
    const send = (kind: FrameKind, body: object): void => {
      if (socket.readyState !== socket.OPEN) return;
      if (socket.bufferedAmount > MAX_UNSENT_BYTES) {
        socket.terminate();
        return;
      }
      socket.send(encodeFrame(kind, body));
    };

    const reassure = (): void => {
      if (waiting.observe === 0 || now() - toldAt < REASSURED_EVERY_MS) return;
      toldAt = now();
      send(FRAME.credit, { lane: "observe", frames: OBSERVE_CREDIT } satisfies CreditBody);
    };
    const grantStore = (frames: number): void => {
      if (frames === granted.now) return;
      granted.now = frames;
      granted.most = Math.max(granted.most, frames);
      send(FRAME.credit, { lane: "store", frames } satisfies CreditBody);
    };
    const ack = (lane: Lane, epoch: number, upTo: number, echoMonoMs: number): void =>
      send(FRAME.ack, { lane, epoch, upTo, echoMonoMs, serverMs: now() } satisfies AckBody);

    // The checks that bound the queue are made on arrival, before anything is kept.
    const arrive = (data: RawData, isBinary: boolean): void => {
      if (!listening) return;
      const bytes = bytesOf(data);
      lastHeardAt = now();
      if (!isBinary) return stop(refusal("bad-frame", "frame: text, expected binary frames"));
      const { kind } = readHeader(bytes, accepted === null ? MAX_HELLO_BYTES : MAX_FRAME_BYTES);
      if (accepted !== null) {
        accepted.frames++;
        accepted.bytes += bytes.byteLength;
        accepted.lastFrameAt = lastHeardAt;
        bytesTotal.unsafeUpdate(bytes.byteLength, []);
      }
      const lane: Lane | null = kind === FRAME.observe ? "observe" : kind === FRAME.store ? "store" : null;
      if (accepted !== null && lane === null) return countLoss(accepted, "unknown frames", 1);
      if (lane !== null) {
        const limit = lane === "observe" ? OBSERVE_CREDIT : Math.max(granted.most, STORE_CREDIT.least);
        if (++waiting[lane] > limit)
          return stop(
            refusal("bad-frame", `${lane}: ${waiting[lane]} frames without acknowledgement, ${limit} were granted`),
          );
      }
      Queue.unsafeOffer(inbox, { type: "frame", kind, bytes, at: lastHeardAt });
    };
    const onMessage = (data: RawData, isBinary: boolean): void => {
      try {
        arrive(data, isBinary);
      } catch (error) {
        stop(error instanceof FrameError ? fromFrame(error) : refusal("bad-frame", "frame: cannot be read"));
      }
    };
    // Counted below the WebSocket, which would otherwise gather a whole frame of 8 MiB from somebody without a key.
    const onRaw = (chunk: Buffer): void => {
      helloBytes += chunk.byteLength;
      if (helloBytes > MAX_HELLO_BYTES + 1024)
        stop(refusal("oversized", `hello: more than ${MAX_HELLO_BYTES} bytes before the key was accepted`));
    };
    const onError = (error: Error & { readonly code?: string }): void => {
      if (error.code === "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH")
        stop(refusal("oversized", `frame: larger than ${MAX_FRAME_BYTES} bytes`));
      else Queue.unsafeOffer(inbox, { type: "closed", reason: error.message });
    };
    wire.on("data", onRaw);
    socket.on("message", onMessage);
    socket.on("error", onError);
    socket.on("pong", () => (lastHeardAt = now()));
    socket.on("close", (code) => Queue.unsafeOffer(inbox, { type: "closed", reason: `connection closed (${code})` }));

    const receiveHello = Effect.gen(function* () {
      const first = yield* Queue.take(inbox);
      if (first.type === "closed") return null;
      if (first.kind !== FRAME.hello)
        return yield* refusal("bad-frame", `frame.kind: ${first.kind}, expected hello (${FRAME.hello}) first`);
      const hello = yield* decoding(() => checkHello(decodeFrame(first.bytes, MAX_HELLO_BYTES).body));
      if (!sameKey(hello.key, context.key))
        return yield* refusal("key", `hello.key: not the key of this server (agent ${hello.agentId} on ${hello.node})`);
      return { hello, at: first.at };
    }).pipe(
      Effect.timeoutFail({
        duration: HELLO_WITHIN,
        onTimeout: () => refusal("timeout", `hello: nothing within ${HELLO_WITHIN}`),
      }),
    );

    const observe = (record: AgentRecord, peer: AgentPeer, clock: ClockOffset, bytes: Uint8Array, at: number) =>
      Effect.gen(function* () {
        const body = yield* decoding(() => checkObserve(decodeFrame(bytes).body));
        clock.add(body.monoMs, at);
        record.window = body.window;
        if (body.self !== null) record.self = body.self;
        record.wallOffsetMs = body.wallMs - (body.monoMs + clock.offsetMs());
        for (const [what, n] of Object.entries(body.skipped)) countLoss(record, `unknown ${what}`, n);
        yield* handler.observe(peer, body);
        waiting.observe--;
        toldAt = now();
        ack("observe", peer.epoch, body.window, body.monoMs);
      });

    const frames = (record: AgentRecord, peer: AgentPeer, clock: ClockOffset) =>
      Effect.gen(function* () {
        const writes = yield* FiberSet.make<void>();
        const stores: PendingStore[] = [];

        /** Cumulative: what is durable is acknowledged as far as nothing before it is missing. */
        const ackStores = (): void => {
          for (let head = stores[0]; head?.durable === true; head = stores[0]) {
            stores.shift();
            waiting.store--;
            const next = stores[0];
            if (next?.durable !== true || next.epoch !== head.epoch)
              ack("store", head.epoch, head.sequence, head.monoMs);
          }
          if (granted.now > 0) grantStore(storeCreditFor(registry.connected()));
        };

        const store = (bytes: Uint8Array) =>
          Effect.gen(function* () {
            const body = yield* decoding(() => checkStore(decodeFrame(bytes).body));
            for (const [what, n] of Object.entries(body.skipped)) countLoss(record, `unknown ${what}`, n);
            if (body.dropped > 0) record.losses.set("dropped by the agent's spool", body.dropped);
            const pending: PendingStore = { ...body, durable: false };
            stores.push(pending);
            yield* FiberSet.run(
              writes,
              handler.store(peer, body).pipe(
                Effect.tap(() =>
                  Effect.sync(() => {
                    pending.durable = true;
                    ackStores();
                  }),
                ),
                Effect.catchAllDefect((defect) => Deferred.die(ended, defect)),
                Effect.asVoid,
              ),
            );
          });

        while (true) {
          const next = yield* Queue.take(inbox);
          if (next.type === "closed") return next.reason;
          if (next.kind !== FRAME.observe && next.kind !== FRAME.store) {
            countLoss(record, "unknown frames", 1);
            continue;
          }
          const lane = next.kind === FRAME.observe ? "observe" : "store";
          framesTotal.pipe(Metric.tagged("lane", lane)).unsafeUpdate(1, []);
          yield* next.kind === FRAME.observe ? observe(record, peer, clock, next.bytes, next.at) : store(next.bytes);
        }
      }).pipe(Effect.scoped);

    const converse = (hello: HelloBody, at: number) =>
      Effect.gen(function* () {
        const connection = {
          epoch: hello.epoch,
          end: (reason: string) => stop(refusal("duplicate", reason)),
          done: Deferred.await(done),
        };
        const claim = registry.claim(hello, now(), connection);
        if (claim === "duplicate")
          return yield* refusal(
            "duplicate",
            `hello.agentId: ${hello.agentId} is connected in another life (from ${hello.node}); two agents must not share an id`,
          );
        const { record, replaced } = claim;
        const clock = makeClockOffset();
        clock.add(hello.monoMs, at);
        const peer: AgentPeer = {
          agentId: hello.agentId,
          epoch: hello.epoch,
          cluster: hello.cluster,
          node: hello.node,
          version: hello.version,
          kernel: hello.kernel,
          capabilities: hello.capabilities,
          connectedAt: record.connectedAt,
          offsetMs: clock.offsetMs,
          count: (loss, n) => countLoss(record, loss, n),
          report: (figures) => Object.assign(record, figures),
        };
        const setStoreReady = (ready: boolean): void => grantStore(ready ? storeCreditFor(registry.connected()) : 0);
        let reason = "connection closed";
        yield* Effect.gen(function* () {
          if (replaced !== null) {
            replaced.end("this agent has connected again");
            yield* replaced.done.pipe(Effect.timeoutOption(REPLACED_WITHIN));
          }
          yield* Effect.acquireUseRelease(
            handler.connected(peer),
            (have) =>
              Effect.gen(function* () {
                accepted = record;
                wire.off("data", onRaw);
                send(FRAME.hello, {
                  protocol: [PROTOCOL.major, PROTOCOL.minor],
                  serverId: context.serverId,
                  serverMs: now(),
                  ...(have === undefined ? {} : { have }),
                } satisfies ServerHelloBody);
                send(FRAME.credit, { lane: "observe", frames: OBSERVE_CREDIT } satisfies CreditBody);
                setStoreReady(yield* handler.storeReady);
                const forget = onAccepted({
                  agentId: hello.agentId,
                  lastHeardAt: () => lastHeardAt,
                  end: stop,
                  setStoreReady,
                  reassure,
                  tellPolicy: (policy) => send(FRAME.policy, policy),
                });
                reason = yield* frames(record, peer, clock).pipe(
                  Effect.withSchedulingPriority(BULK),
                  Effect.ensuring(Effect.sync(forget)),
                );
              }),
            (_, exit) =>
              handler.disconnected(
                peer,
                Exit.isSuccess(exit) ? reason : Exit.isInterrupted(exit) ? "ended by the server" : "failed",
              ),
          );
        }).pipe(Effect.ensuring(Effect.sync(() => registry.release(record, connection))));
      });

    const goaway = (why: Refusal) =>
      Effect.gen(function* () {
        listening = false;
        const { code, message, retryAfterMs } = why;
        send(FRAME.goaway, { code, message, retryAfterMs } satisfies GoawayBody);
        if (code === "again") return;
        yield* Metric.increment(Metric.tagged(refusedTotal, "code", why.code));
        context.refusals.set(code, (context.refusals.get(code) ?? 0) + 1);
        if (code !== "shutdown")
          yield* Effect.logWarning(`agent connection ended (${code}): ${message}`).pipe(
            Effect.annotateLogs({ agent: accepted?.id ?? "unknown" }),
          );
      });

    const hangUp = Effect.async<void>((resume) => {
      if (socket.readyState === socket.CLOSED) return resume(Effect.void);
      socket.once("close", () => resume(Effect.void));
      socket.close(1008);
    }).pipe(
      Effect.interruptible,
      Effect.timeout("1 second"),
      Effect.catchAll(() => Effect.sync(() => socket.terminate())),
      Effect.ensuring(Effect.sync(() => wire.off("data", onRaw))),
    );

    yield* receiveHello.pipe(
      Effect.flatMap((first) => (first === null ? Effect.void : converse(first.hello, first.at))),
      Effect.raceFirst(Deferred.await(ended)),
      Effect.catchTag("Refusal", goaway),
      Effect.catchAllDefect((defect) =>
        Metric.increment(defectsTotal).pipe(
          Effect.zipRight(Effect.logError("an agent connection failed", defect)),
          Effect.zipRight(goaway(refusal("bad-frame", "the server failed on a frame of this connection"))),
        ),
      ),
      Effect.onInterrupt(() => goaway(refusal("shutdown", "the server stops"))),
      Effect.ensuring(Effect.suspend(() => Deferred.succeed(done, undefined))),
      Effect.ensuring(hangUp),
    );
  });
