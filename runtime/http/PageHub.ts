/**
 * The server's side of `/live`: pages subscribe to topics, each topic is computed once for all who watch it and sent as
 * a snapshot and numbered deltas. One fiber does all of it, fed by a queue, owned by the layer's scope; closing it
 * closes the sockets. A topic that fails keeps its last state and is counted; a client that does not read is skipped
 * and gets a new snapshot when it does; a malformed request is answered with an error.
 */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { Context, Effect, Layer, Metric, Queue, Schedule, Stream } from "effect";
import { WebSocketServer } from "ws";
import type { RawData, WebSocket } from "ws";
import { PAGE_PROTOCOL } from "../../schemas/wire/page.ts";
import type { PageMessage, PageRequest } from "../../schemas/wire/page.ts";
import { makeTopicFeed } from "./TopicFeed.ts";
import type { TopicFeed } from "./TopicFeed.ts";
import { Topics, Watchers } from "./Topics.ts";
import type { TopicEntries } from "./Topics.ts";

export const MAX_CLIENTS = 256;
export const MAX_TOPICS_PER_CLIENT = 64;
const MAX_REQUEST_BYTES = 16 * 1024;
const MAX_TOPIC_LENGTH = 2048;
/** Requests of one client that wait; a page has a handful. */
const MAX_WAITING = 256;
/** A client that has this much unread is skipped. */
export const SLOW_BYTES = 1024 * 1024;
const STEP = "200 millis";
/** Topics are computed at least this often, changed or not: some of them count seconds. */
const AT_LEAST_MS = 1000;
const READ_WITHIN = "2 seconds";
const READ_CONCURRENCY = 4;
const PING_EVERY_MS = 30_000;

const clientsGauge = Metric.gauge("coroot_page_clients", { description: "pages connected now" });
const skippedTotal = Metric.counter("coroot_page_skipped_total", {
  description: "deltas not sent to a client that does not read; it gets a snapshot later",
  incremental: true,
});
const failedTotal = Metric.counter("coroot_page_topic_failures_total", {
  description: "topics that could not be computed",
  incremental: true,
});
const refusedTotal = Metric.counter("coroot_page_refused_total", {
  description: "pages and requests refused: too many clients or topics, or malformed",
  incremental: true,
});

export interface PageHub {
  readonly upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
  readonly watching: (topic: string) => boolean;
  readonly clients: Effect.Effect<number>;
}
export const PageHub = Context.GenericTag<PageHub>("runtime/http/PageHub");

export interface PageHubOptions {
  readonly serverId: string;
  readonly version: string;
}

interface Client {
  readonly socket: WebSocket;
  readonly topics: Set<string>;
  /** topics of which it missed something */
  readonly behind: Set<string>;
  waiting: number;
  answered: boolean;
}
interface Watched {
  readonly feed: TopicFeed;
  readonly clients: Set<Client>;
}
type Command =
  | { readonly type: "request"; readonly client: Client; readonly request: PageRequest }
  | { readonly type: "gone"; readonly client: Client }
  | { readonly type: "step" };

/** The request, or what is wrong with it. */
export const parseRequest = (text: string): PageRequest | string => {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return "request: not JSON";
  }
  if (typeof value !== "object" || value === null) return "request: expected an object";
  const type = "type" in value ? value.type : undefined;
  const topic = "topic" in value ? value.topic : undefined;
  if (type !== "subscribe" && type !== "unsubscribe") return "request.type: expected subscribe or unsubscribe";
  if (typeof topic !== "string" || topic === "" || topic.length > MAX_TOPIC_LENGTH)
    return `request.topic: expected text of 1 to ${MAX_TOPIC_LENGTH} characters`;
  return { type, topic };
};

const make = (options: PageHubOptions) =>
  Effect.gen(function* () {
    const topics = yield* Topics;
    const watchers = yield* Watchers;
    const clock = yield* Effect.clock;
    const now = (): number => clock.unsafeCurrentTimeMillis();
    const commands = yield* Queue.unbounded<Command>();
    const clients = new Set<Client>();
    const watched = new Map<string, Watched>();
    let dirty = true;
    let lastPass = 0;
    let stepWaits = false;
    let lastPing = now();

    const server = yield* Effect.acquireRelease(
      Effect.sync(
        () => new WebSocketServer({ noServer: true, maxPayload: MAX_REQUEST_BYTES, perMessageDeflate: false }),
      ),
      (wss) =>
        Effect.async<void>((resume) => {
          for (const { socket } of clients) socket.terminate();
          wss.close(() => resume(Effect.void));
        }),
    );

    const say = (client: Client, message: PageMessage): void => {
      if (client.socket.readyState === client.socket.OPEN) client.socket.send(JSON.stringify(message));
    };
    const isSlow = (client: Client): boolean => client.socket.bufferedAmount > SLOW_BYTES;
    const complain = (client: Client, topic: string | null, message: string): void => {
      refusedTotal.unsafeUpdate(1, []);
      if (!isSlow(client)) say(client, { type: "error", topic, message });
    };

    const sendTo = (client: Client, topic: string, feed: TopicFeed, delta: string | null): void => {
      if (client.socket.readyState !== client.socket.OPEN) return;
      if (isSlow(client)) {
        if (delta === null) return;
        client.behind.add(topic);
        skippedTotal.unsafeUpdate(1, []);
      } else if (client.behind.delete(topic)) client.socket.send(feed.snapshot(now()));
      else if (delta !== null) client.socket.send(delta);
    };

    /** Null: no such topic. "failed": counted, try again later. */
    const read = (topic: string): Effect.Effect<TopicEntries | null | "failed"> =>
      topics.read(topic).pipe(
        Effect.timeout(READ_WITHIN),
        Effect.catchAllCause((cause) =>
          Metric.increment(failedTotal).pipe(
            Effect.zipRight(Effect.logWarning(`topic ${topic} could not be computed`, cause)),
            Effect.as("failed" as const),
          ),
        ),
      );

    const drop = (client: Client, topic: string): void => {
      if (!client.topics.delete(topic)) return;
      client.behind.delete(topic);
      watchers.remove(topic);
      const entry = watched.get(topic);
      entry?.clients.delete(client);
      if (entry?.clients.size === 0) watched.delete(topic);
    };

    const refresh = (topic: string, entry: Watched) =>
      Effect.map(read(topic), (entries) => {
        if (entries === "failed") return;
        // a topic that has gone (a service was forgotten) is shown empty
        const delta = entry.feed.update(entries ?? {}, now());
        for (const client of entry.clients) sendTo(client, topic, entry.feed, delta);
      });

    const subscribe = (client: Client, topic: string) =>
      Effect.gen(function* () {
        if (!client.topics.has(topic) && client.topics.size >= MAX_TOPICS_PER_CLIENT)
          return complain(client, topic, `at most ${MAX_TOPICS_PER_CLIENT} topics can be watched at once`);
        // watched before it is computed: some topics are only sampled while somebody looks
        if (!client.topics.has(topic)) {
          client.topics.add(topic);
          watchers.add(topic);
        }
        const entries = yield* read(topic);
        if (entries === null || entries === "failed") {
          drop(client, topic);
          return complain(client, topic, entries === null ? "there is no such topic" : "the topic cannot be read now");
        }
        const entry = watched.get(topic) ?? { feed: makeTopicFeed(topic), clients: new Set<Client>() };
        watched.set(topic, entry);
        const delta = entry.feed.update(entries, now());
        for (const other of entry.clients) if (other !== client) sendTo(other, topic, entry.feed, delta);
        entry.clients.add(client);
        client.behind.add(topic);
        sendTo(client, topic, entry.feed, null);
      });

    const step = Effect.gen(function* () {
      stepWaits = false;
      const at = now();
      if (at - lastPing >= PING_EVERY_MS) {
        lastPing = at;
        for (const client of clients) {
          if (!client.answered) client.socket.terminate();
          client.answered = false;
          if (client.socket.readyState === client.socket.OPEN) client.socket.ping();
        }
      }
      if (watched.size === 0 || !(dirty || at - lastPass >= AT_LEAST_MS)) return;
      dirty = false;
      lastPass = at;
      yield* Effect.forEach([...watched], ([topic, entry]) => refresh(topic, entry), {
        concurrency: READ_CONCURRENCY,
        discard: true,
      });
    });

    const handle = (command: Command) => {
      switch (command.type) {
        case "step":
          return step;
        case "gone":
          return Effect.sync(() => {
            for (const topic of command.client.topics) drop(command.client, topic);
          });
        case "request": {
          const { client, request } = command;
          client.waiting--;
          if (!clients.has(client)) return Effect.void;
          return request.type === "subscribe"
            ? subscribe(client, request.topic)
            : Effect.sync(() => drop(client, request.topic));
        }
      }
    };
    yield* Queue.take(commands).pipe(
      Effect.flatMap(handle),
      Effect.catchAllCause((cause) => Effect.logError("the page hub failed on a request", cause)),
      Effect.forever,
      Effect.forkScoped,
    );
    yield* topics.changed.pipe(
      Stream.runForEach(() => Effect.sync(() => (dirty = true))),
      Effect.forkScoped,
    );
    yield* Effect.sync(() => {
      if (clients.size === 0 || stepWaits) return;
      stepWaits = true;
      Queue.unsafeOffer(commands, { type: "step" });
    }).pipe(Effect.repeat(Schedule.spaced(STEP)), Effect.forkScoped);

    const onMessage = (client: Client, data: RawData, isBinary: boolean): void => {
      const request = isBinary ? "request: binary, expected JSON text" : parseRequest(String(data));
      if (typeof request === "string") return complain(client, null, request);
      if (client.waiting >= MAX_WAITING) return complain(client, request.topic, "too many requests at once");
      client.waiting++;
      Queue.unsafeOffer(commands, { type: "request", client, request });
    };

    const upgrade: PageHub["upgrade"] = (request, wire, head) => {
      if (clients.size >= MAX_CLIENTS) {
        refusedTotal.unsafeUpdate(1, []);
        wire.end(
          `HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n${MAX_CLIENTS} pages are connected, which is the limit\n`,
        );
        return;
      }
      server.handleUpgrade(request, wire, head, (socket) => {
        const client: Client = { socket, topics: new Set(), behind: new Set(), waiting: 0, answered: true };
        clients.add(client);
        clientsGauge.unsafeUpdate(clients.size, []);
        socket.on("message", (data, isBinary) => onMessage(client, data, isBinary));
        socket.on("pong", () => (client.answered = true));
        socket.on("error", () => socket.terminate());
        socket.on("close", () => {
          clients.delete(client);
          clientsGauge.unsafeUpdate(clients.size, []);
          Queue.unsafeOffer(commands, { type: "gone", client });
        });
        const { serverId, version } = options;
        say(client, { type: "hello", protocol: PAGE_PROTOCOL, serverId, version, nowMs: now() });
      });
    };
    return PageHub.of({ upgrade, watching: watchers.watching, clients: Effect.sync(() => clients.size) });
  });

export const PageHubLive = (options: PageHubOptions): Layer.Layer<PageHub, never, Topics | Watchers> =>
  Layer.scoped(PageHub, make(options));
