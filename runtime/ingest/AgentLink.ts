/**
 * The server's side of the agent link: takes WebSockets from the HTTP server at `/agent` and runs one session fiber for
 * each (LinkSession.ts). Owned by its layer's scope: when that closes, every agent is told `goaway` shutdown and no
 * fiber is left. One session's defect ends that session alone; refusals are counted by reason and shown in `agents`.
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { Context, Effect, FiberSet, Layer, Metric, Schedule } from "effect";
import { WebSocketServer } from "ws";
import { MAX_FRAME_BYTES } from "../../schemas/wire/frame.ts";
import type { GoawayBody, PolicyBody } from "../../schemas/wire/link.ts";
import type { AgentView } from "../../schemas/wire/page.ts";
import { AgentHandler } from "./AgentHandler.ts";
import { makeAgentRegistry } from "./AgentRegistry.ts";
import { refusal, runSession } from "./LinkSession.ts";
import type { SessionContext, SessionControl } from "./LinkSession.ts";

/** Connections that have not shown a key yet. Above it new ones are closed, and counted. */
const MAX_STRANGERS = 256;
const SILENCE_MS = 30_000;
const PING_EVERY_TICKS = 10;

const connectedGauge = Metric.gauge("coroot_agents_connected", { description: "agents connected now" });
const strangersTotal = Metric.counter("coroot_agent_strangers_refused_total", {
  description: "connections refused because too many had not shown a key yet",
  incremental: true,
});

export interface AgentLink {
  /** Takes over a socket that asked for an upgrade. */
  readonly upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
  /** Every agent of the last 24 hours. */
  readonly agents: Effect.Effect<readonly AgentView[]>;
  /** has the agent come again, and send again what its session then says that it lacks; false: it is not connected */
  readonly again: (agentId: string) => boolean;
  /** tells the agent which requests are slow; false: it is not connected here */
  readonly policy: (agentId: string, policy: PolicyBody) => boolean;
  /** connections that the server refused or ended since its start, by reason */
  readonly refusals: Effect.Effect<Readonly<Partial<Record<GoawayBody["code"], number>>>>;
}
export const AgentLink = Context.GenericTag<AgentLink>("runtime/ingest/AgentLink");

export interface AgentLinkOptions {
  /** the key that agents must show */
  readonly key: string;
  readonly serverId: string;
}

const make = (options: AgentLinkOptions) =>
  Effect.gen(function* () {
    const handler = yield* AgentHandler;
    const clock = yield* Effect.clock;
    const registry = makeAgentRegistry();
    const sessions = new Map<SessionControl, () => void>();
    let strangers = 0;
    const refusals: SessionContext["refusals"] = new Map();
    const context: SessionContext = {
      ...options,
      registry,
      handler,
      refusals,
      now: () => clock.unsafeCurrentTimeMillis(),
    };

    // Closed after the fibers (finalizers run in reverse), which say goodbye over its sockets.
    const server = yield* Effect.acquireRelease(
      Effect.sync(
        // frames somewhat too large are refused by name; beyond that the WebSocket itself hangs up
        () =>
          new WebSocketServer({ noServer: true, maxPayload: MAX_FRAME_BYTES + 1024 * 1024, perMessageDeflate: false }),
      ),
      (wss) => Effect.async<void>((resume) => wss.close(() => resume(Effect.void))),
    );
    const fibers = yield* FiberSet.make<void>();
    const run = yield* FiberSet.runtime(fibers)<never>();

    let ticks = 0;
    const tick = Effect.gen(function* () {
      registry.tick(context.now());
      connectedGauge.unsafeUpdate(sessions.size, []);
      const ping = ++ticks % PING_EVERY_TICKS === 0;
      const ready = yield* handler.storeReady;
      for (const [session, sendPing] of sessions) {
        session.setStoreReady(ready);
        session.reassure();
        if (ping) sendPing();
        if (context.now() - session.lastHeardAt() > SILENCE_MS)
          session.end(refusal("timeout", `no frame and no pong for ${SILENCE_MS / 1000} s`));
      }
    });
    yield* tick.pipe(
      Effect.catchAllCause((cause) => Effect.logError("the agent link's tick failed", cause)),
      Effect.repeat(Schedule.spaced("1 second")),
      Effect.forkScoped,
    );

    const upgrade: AgentLink["upgrade"] = (request, wire, head) => {
      if (strangers >= MAX_STRANGERS) {
        strangersTotal.unsafeUpdate(1, []);
        wire.end("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\n\r\n");
        return;
      }
      server.handleUpgrade(request, wire, head, (socket) => {
        strangers++;
        let stranger = true;
        const known = (): void => {
          if (stranger) strangers--;
          stranger = false;
        };
        run(
          runSession(context, socket, wire, (control) => {
            known();
            sessions.set(control, () => socket.ping());
            return () => sessions.delete(control);
          }).pipe(Effect.ensuring(Effect.sync(known))),
        );
      });
    };
    return AgentLink.of({
      upgrade,
      again: (agentId) => {
        const connected = [...sessions.keys()].filter((session) => session.agentId === agentId);
        for (const session of connected) session.end(refusal("again", "windows are needed again"));
        return connected.length > 0;
      },
      policy: (agentId, policy) => {
        const connected = [...sessions.keys()].filter((session) => session.agentId === agentId);
        for (const session of connected) session.tellPolicy(policy);
        return connected.length > 0;
      },
      agents: Effect.sync(() => registry.views()),
      refusals: Effect.sync(() => Object.fromEntries(refusals)),
    });
  });

export const AgentLinkLive = (options: AgentLinkOptions): Layer.Layer<AgentLink, never, AgentHandler> =>
  Layer.scoped(AgentLink, make(options));
