/**
 * The ports of the actors: what they have done outside. Wires the store's writer and history and an HTTP client to the
 * actor system, and agent connections to their session actors. Nothing here decides anything.
 */
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { Clock, Deferred, Effect, Queue, Schedule, Stream, type Scope } from "effect";
import type { HttpAnswer, HttpPost } from "../../actors/alert-sink/WebhookSink.ts";
import type { Grouping } from "../../actors/topology/grouping.ts";
import { sessionPath, type SessionArgument, type SessionMessage } from "../../actors/agent-session/messages.ts";
import { ROWS_PORT, type RowsRequest } from "../../actors/rows.ts";
import { BASELINE_MS, BASELINES_PORT } from "../../actors/service/baselines.ts";
import type { LedgerMinute } from "../../actors/service/ledger.ts";
import type { ActorSystemShape } from "../../runtime/actor/ActorSystem.ts";
import { AgentHandler, type AgentPeer } from "../../runtime/ingest/AgentHandler.ts";
import { Words } from "../../runtime/Generations.ts";
import { Dictionary } from "../../runtime/store/Dictionary.ts";
import { RETRY_AFTER_S, type IntakeShape } from "../../runtime/otlp/Intake.ts";
import type { EdgeMinutes, HistoryShape, SliMinutes } from "../../runtime/store/History.ts";
import type { DecodedObserve } from "../../schemas/wire/codec.ts";
import type { ServerHelloBody } from "../../schemas/wire/link.ts";
import type { StoreShape } from "../../runtime/store/Store.ts";
import type { WriterShape } from "../../runtime/store/Writer.ts";

const POST_WITHIN_MS = 10_000;
const HAVE_WITHIN_MS = 500;
/** Windows that wait for their session or in it; the agent keeps the others. */
const WINDOWS_AHEAD = 2;
/** By so much may the time that an agent gives to a window be off this server's clock. */
const CLOCKS_DIFFER_MS = 60_000;
const MONTH_MS = 30 * 24 * 3600 * 1000;
const LEDGERS_AT_ONCE = 500;
/** Some hundred kilobytes of an answer: reading it holds up nobody. */
const BASELINES_AT_ONCE = 50;

const post = ({ url, headers, body }: HttpPost): Effect.Effect<HttpAnswer, Error> =>
  Effect.async<HttpAnswer, Error>((resume) => {
    const make = url.startsWith("https:") ? httpsRequest : httpRequest;
    const length = Buffer.byteLength(body);
    const request = make(
      url,
      { method: "POST", headers: { ...headers, "content-length": length }, timeout: POST_WITHIN_MS },
      (response) => {
        response.resume();
        response.on("end", () => resume(Effect.succeed({ status: response.statusCode ?? 0 })));
        response.on("error", (error) => resume(Effect.fail(error)));
      },
    );
    request.on("timeout", () => request.destroy(new Error(`no answer within ${POST_WITHIN_MS} ms`)));
    request.on("error", (error) => resume(Effect.fail(error)));
    request.end(body);
    return Effect.sync(() => request.destroy());
  });

const minutesOf = ({ minutes, total, bad, slow }: SliMinutes): LedgerMinute[] =>
  minutes.map((minuteMs, i) => ({ minuteMs, total: total[i] ?? 0, bad: bad[i] ?? 0, slow: slow[i] ?? 0 }));

interface Ask<A> {
  readonly service: string;
  readonly answer: Deferred.Deferred<A, Error>;
}

/** Services that start together are answered by one query; `none` is for those that it does not find. */
const together = <A>(
  store: StoreShape,
  atOnce: number,
  none: A,
  read: (services: readonly string[]) => Effect.Effect<ReadonlyMap<string, A>, Error>,
): Effect.Effect<(service: string) => Effect.Effect<A, Error>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const asked = yield* Queue.unbounded<Ask<A>>();
    const serve = Effect.gen(function* () {
      const first = yield* Queue.take(asked);
      yield* store.whenUp;
      yield* Effect.sleep(200);
      const all = [first, ...(yield* Queue.takeUpTo(asked, atOnce - 1))];
      yield* read([...new Set(all.map(({ service }) => service))]).pipe(
        Effect.matchEffect({
          onSuccess: (found) =>
            Effect.forEach(all, ({ service, answer }) => Deferred.succeed(answer, found.get(service) ?? none)),
          onFailure: (error) => Effect.forEach(all, ({ answer }) => Deferred.fail(answer, error)),
        }),
      );
    });
    yield* Effect.forkScoped(Effect.forever(serve));
    return (service) =>
      Effect.gen(function* () {
        const answer = yield* Deferred.make<A, Error>();
        yield* Queue.offer(asked, { service, answer });
        return yield* Deferred.await(answer);
      });
  });

export const wirePorts = (
  system: ActorSystemShape,
  store: StoreShape,
  writer: WriterShape,
  history: HistoryShape,
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const ledger = yield* together<readonly LedgerMinute[]>(store, LEDGERS_AT_ONCE, [], (services) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        Effect.map(
          history.sliMinutes(services, now - MONTH_MS),
          (found) => new Map([...found].map(([service, columns]) => [service, minutesOf(columns)])),
        ),
      ),
    );
    const baselines = yield* together<readonly EdgeMinutes[]>(store, BASELINES_AT_ONCE, [], (services) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => history.edgeMinutes(services, now - BASELINE_MS)),
    );
    system.port("http-post", (request) => post(request as HttpPost));
    system.port("ledger", (request) => ledger(String(request)));
    system.port(BASELINES_PORT, (request) => baselines(String(request)));
    system.port(ROWS_PORT, (request) => {
      const { table, rows } = request as RowsRequest;
      return writer.rows(table, rows);
    });
  });

/** When a window counts for: as the agent says, so that it is the same on every server. */
const momentOf = (peer: AgentPeer, { monoMs, serverMs }: DecodedObserve, now: number): number => {
  const mapped = Math.min(now, monoMs + peer.offsetMs());
  if (serverMs === null) return mapped;
  if (Math.abs(serverMs - mapped) < CLOCKS_DIFFER_MS) return serverMs;
  peer.count("times far from this server's clock", 1);
  return mapped;
};

/**
 * Completes when the spans are on disk, or were told to be none. A batch is named by its bytes, so that what an agent sends
 * again, here or to another server, is stored once.
 */
const storeSpans = (peer: AgentPeer, intake: IntakeShape, bytes: Uint8Array): Effect.Effect<void> =>
  bytes.byteLength === 0
    ? Effect.void
    : intake.take("traces", Buffer.from(bytes), "protobuf").pipe(
        Effect.tap(({ rejected }) =>
          Effect.sync(() => rejected > 0 && peer.count("spans that were rejected", rejected)),
        ),
        Effect.retry({
          while: ({ reason }) => reason === "behind" || reason === "late",
          schedule: Schedule.spaced(`${RETRY_AFTER_S} seconds`),
        }),
        Effect.catchAll(({ message }) => {
          peer.count("batches of spans that were refused", 1);
          return Effect.logWarning(`spans of agent ${peer.agentId} on ${peer.node} are refused: ${message}`);
        }),
        Effect.asVoid,
      );

/** Agent connections to their actors, and their store lane to the writer. */
export const agentHandler = (
  system: ActorSystemShape,
  writer: WriterShape,
  intake: IntakeShape,
  grouping: Grouping,
  /** the session of an agent lives here from now on */
  sessionHere: (path: string) => void,
): AgentHandler => {
  const dictionaries = new WeakMap<AgentPeer, { readonly dictionary: Dictionary; readonly connection: number }>();
  const known = new Map<string, { instances: number; edges: number }>();
  const words = new Words();
  let connections = 0;
  const tell = (peer: AgentPeer, message: SessionMessage): boolean => system.tell(sessionPath(peer.agentId), message);
  return AgentHandler.of({
    connected: (peer) =>
      Effect.gen(function* () {
        connections++;
        dictionaries.set(peer, { dictionary: new Dictionary(words), connection: connections });
        known.set(peer.agentId, { instances: 0, edges: 0 });
        const path = sessionPath(peer.agentId);
        sessionHere(path);
        system.spawn(path, "agent-session", { agent: peer.agentId, grouping } satisfies SessionArgument);
        const { epoch, node, cluster } = peer;
        const connected: SessionMessage = { type: "connected", epoch, node, cluster };
        const have = yield* system.ask(path, connected, HAVE_WITHIN_MS).pipe(
          // It answers when it can; until then everything that comes again is recognised by the services.
          Effect.catchAll((error) => Effect.as(Effect.logDebug(error.message), null)),
        );
        return have as ServerHelloBody["have"];
      }),
    observe: (peer, body) =>
      Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis;
        const at = momentOf(peer, body, now);
        // Not acknowledged until then, so that the agent keeps its next windows to itself.
        yield* system.room(sessionPath(peer.agentId), WINDOWS_AHEAD);
        if (!tell(peer, { type: "window", at, body })) peer.count("windows shed", 1);
        const figures = known.get(peer.agentId);
        if (figures === undefined) return;
        figures.instances += body.instances.length - body.gone.length;
        figures.edges += body.edges.length;
        peer.report(figures);
      }),
    store: (peer, body) => {
      const connection = dictionaries.get(peer);
      if (connection === undefined) return Effect.void;
      const { dictionary, connection: number } = connection;
      dictionary.define(body.series);
      const header = { agent: peer.agentId, epoch: body.epoch, sequence: body.sequence, connection: number };
      const before = dictionary.unknown;
      const batch = dictionary.batch(header, body.samples);
      if (dictionary.unknown > before) peer.count("samples without a series", dictionary.unknown - before);
      // spans alone come without a sample
      const samples = body.samples.rows === 0 && body.spans.byteLength > 0 ? Effect.void : writer.samples(batch);
      return Effect.zipRight(storeSpans(peer, intake, body.spans), samples);
    },
    disconnected: (peer) => Effect.sync(() => void tell(peer, { type: "disconnected" })),
    storeReady: Effect.sync(() => writer.ready),
  });
};

/** A beat whenever an actor published something. */
export const boardChanges = (system: ActorSystemShape): Stream.Stream<void> =>
  Stream.asyncPush<void>(
    (emit) =>
      Effect.acquireRelease(
        Effect.sync(() => system.board.onChange(() => void emit.single(undefined))),
        (stop) => Effect.sync(stop),
      ),
    { bufferSize: 1, strategy: "sliding" },
  );
