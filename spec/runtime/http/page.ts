/** A page's end of `/live` for tests: keeps each topic as the browser does, and a whole server on a free port. */
import { once } from "node:events";
import { mkdtempSync, mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Context, Effect, Exit, Layer, Logger, PubSub, Scope, Stream } from "effect";
import { WebSocket } from "ws";
import { HttpServer, HttpServerLive } from "../../../runtime/http/Server.ts";
import { PageHub, PageHubLive } from "../../../runtime/http/PageHub.ts";
import {
  CommandsPort,
  HealthPort,
  HistoryError,
  HistoryPort,
  QueryError,
  QueryPort,
  Topics,
  Watchers,
  WatchersLive,
} from "../../../runtime/http/Topics.ts";
import type { PartHealth } from "../../../runtime/http/Topics.ts";
import { AgentHandler } from "../../../runtime/ingest/AgentHandler.ts";
import { AgentLink, AgentLinkLive } from "../../../runtime/ingest/AgentLink.ts";
import { MetricsQuery, plain, type MetricsQueryShape } from "../../../runtime/promql/MetricsQuery.ts";
import { TelemetryError } from "../../../runtime/telemetry/ask.ts";
import { Logs, type LogsShape } from "../../../runtime/telemetry/Logs.ts";
import { Profiles, ProfilesError, type ProfilesShape } from "../../../runtime/telemetry/Profiles.ts";
import { Traces, type TracesShape } from "../../../runtime/telemetry/Traces.ts";
import type { SliPointRow } from "../../../schemas/tables.ts";
import type { PageMessage, PageRequest } from "../../../schemas/wire/page.ts";
import { KEY } from "../ingest/agent.ts";

/** What the server's ports answer; tests change it. */
export interface World {
  readonly topics: Map<string, Map<string, unknown>>;
  readonly reads: string[];
  readonly failing: Set<string>;
  readonly commands: CommandsPort;
  /** what was asked of the commands, and the audit log */
  readonly told: string[];
  health: Record<string, PartHealth>;
  metrics: MetricsQueryShape;
  profiles: ProfilesShape;
  history: (from: number, to: number) => Effect.Effect<readonly SliPointRow[], HistoryError>;
  query: QueryPort["query"];
  logs: LogsShape;
  traces: TracesShape;
}

export interface ServerUnderTest {
  readonly server: HttpServer;
  readonly hub: PageHub;
  readonly watchers: Watchers;
  readonly link: AgentLink;
  readonly world: World;
  readonly pageDir: string;
  /** says that something changed */
  readonly change: () => void;
  readonly close: () => Promise<void>;
}

const quiet = Logger.replace(Logger.defaultLogger, Logger.none);

export const serverLayer = (world: World, changed: PubSub.PubSub<void>, port: number, pageDir: string) => {
  const handler = AgentHandler.of({
    connected: () => Effect.succeed(undefined),
    observe: () => Effect.void,
    store: () => Effect.void,
    disconnected: () => Effect.void,
    storeReady: Effect.succeed(true),
  });
  const ports = Layer.mergeAll(
    Layer.succeed(AgentHandler, handler),
    Layer.succeed(
      Topics,
      Topics.of({
        read: (topic) =>
          Effect.suspend(() => {
            world.reads.push(topic);
            if (world.failing.has(topic)) return Effect.die(new Error(`${topic} fails`));
            return Effect.succeed(world.topics.get(topic) ?? null);
          }),
        changed: Stream.fromPubSub(changed),
      }),
    ),
    Layer.succeed(HistoryPort, { sliPoints: (_, from, to) => world.history(from, to) }),
    Layer.succeed(QueryPort, { query: (sql, params, rows) => world.query(sql, params, rows) }),
    Layer.succeed(CommandsPort, CommandsPort.of(world.commands)),
    Layer.succeed(MetricsQuery, MetricsQuery.of(world.metrics)),
    Layer.succeed(Profiles, Profiles.of(world.profiles)),
    Layer.succeed(Logs, Logs.of(world.logs)),
    Layer.succeed(Traces, Traces.of(world.traces)),
    Layer.succeed(HealthPort, { parts: Effect.sync(() => world.health) }),
    WatchersLive,
  );
  const options = { serverId: "server-1", version: "0.1.0" };
  const sockets = Layer.mergeAll(AgentLinkLive({ key: KEY, serverId: "server-1" }), PageHubLive(options));
  return HttpServerLive({ ...options, host: "127.0.0.1", port, pageDir }).pipe(
    Layer.provideMerge(sockets),
    Layer.provideMerge(ports),
    Layer.provide(quiet),
  );
};

export const ADMIN_KEY = "the-admin-key-of-this-test";

export const makeWorld = (): World => {
  const told: string[] = [];
  const note = (text: string): null => {
    told.push(text);
    return null;
  };
  const commands: CommandsPort = {
    acknowledge: (id, text, who) =>
      Effect.sync(() => (id === "known" ? note(`ack ${id} ${text} ${who}`) : `there is no open incident ${id}`)),
    unacknowledge: (id) => Effect.sync(() => note(`unack ${id}`)),
    silence: (match, minutes) => Effect.sync(() => (note(`silence ${match} ${minutes}`), { id: "s1", until: 1 })),
    unsilence: (id) => Effect.sync(() => (id === "s1" ? note("unsilence") : `there is no silence ${id}`)),
    act: (action, path) => Effect.sync(() => (path === "a" ? (note(`${action} ${path}`), "n1") : null)),
    dump: (path) => Effect.succeed(path === "a" ? { state: 1 } : null),
    audit: {
      add: (who, action, target, outcome) =>
        Effect.sync(() => void told.push(`audit ${who} ${action} ${target} ${outcome}`)),
      recent: Effect.succeed([]),
    },
    isAdmin: (key) => key === ADMIN_KEY,
  };
  const query: QueryPort["query"] = (sql, _params, rows) =>
    sql === "SELECT 1"
      ? Effect.succeed({ columns: [{ name: "1", type: "UInt8" }], rows: [[rows]], truncated: false })
      : Effect.fail(new QueryError({ refused: sql !== "down", message: `no ${sql}` }));
  return { ...plainWorld(), commands, told, query };
};

const noMetrics: MetricsQueryShape = {
  instant: (_, atMs) => Effect.succeed(plain({ type: "vector", atMs, samples: [] })),
  range: () => Effect.succeed(plain([])),
  series: () => Effect.succeed(plain([])),
  labels: () => Effect.succeed(plain([])),
  labelValues: () => Effect.succeed(plain([])),
  metadata: () => Effect.succeed(plain([])),
  elsewhere: () => null,
};

const noProfiles: ProfilesShape = {
  types: () => Effect.succeed([]),
  flame: () => Effect.fail(new ProfilesError({ kind: "unavailable", message: "there are no profiles" })),
};

const noStore = Effect.fail(new TelemetryError({ kind: "unavailable", reason: "the store is starting" }));
const noLogs: LogsShape = {
  search: () => noStore,
  facets: () => noStore,
  histogram: () => noStore,
  patterns: () => noStore,
};
const noTraces: TracesShape = {
  list: () => noStore,
  trace: () => noStore,
  heatMap: () => noStore,
  errors: () => noStore,
  compare: () => noStore,
  endpoints: () => noStore,
  edges: () => noStore,
};

const plainWorld = () => ({
  profiles: noProfiles,
  logs: noLogs,
  traces: noTraces,
  metrics: noMetrics,
  topics: new Map([["overview", new Map<string, unknown>([["overview", { services: 0 }]])]]),
  reads: [] as string[],
  failing: new Set<string>(),
  health: { store: { state: "up", message: "" } } as Record<string, PartHealth>,
  history: (): Effect.Effect<readonly SliPointRow[], HistoryError> => Effect.succeed([]),
});

export const makePage = (): string => {
  const dir = mkdtempSync(join(tmpdir(), "coroot-page-"));
  mkdirSync(join(dir, "assets"));
  writeFileSync(join(dir, "index.html"), "<!doctype html><title>page</title>");
  writeFileSync(join(dir, "assets/index-Bx3kd9fA.js"), "export {};");
  writeFileSync(join(dir, "favicon.svg"), "<svg/>");
  return dir;
};

export const startServer = async (world: World = makeWorld(), pageDir = makePage()): Promise<ServerUnderTest> => {
  const scope = Effect.runSync(Scope.make());
  const changed = Effect.runSync(PubSub.sliding<void>(1));
  const context = await Effect.runPromise(Scope.extend(Layer.build(serverLayer(world, changed, 0, pageDir)), scope));
  return {
    server: Context.get(context, HttpServer),
    hub: Context.get(context, PageHub),
    watchers: Context.get(context, Watchers),
    link: Context.get(context, AgentLink),
    world,
    pageDir,
    change: () => void Effect.runSync(PubSub.publish(changed, undefined)),
    close: () => Effect.runPromise(Scope.close(scope, Exit.void)),
  };
};

export class Page {
  readonly socket: WebSocket;
  readonly messages: PageMessage[] = [];
  /** topic → entries, as the browser would show them */
  readonly topics = new Map<string, { seq: number; entries: Record<string, unknown> }>();
  gaps = 0;
  closed = false;

  constructor(url: string, headers: Record<string, string> = {}) {
    this.socket = new WebSocket(`${url.replace("http:", "ws:")}/live`, { perMessageDeflate: false, headers });
    this.socket.on("message", (data: Buffer) => this.take(JSON.parse(String(data)) as PageMessage));
    this.socket.on("close", () => (this.closed = true));
    this.socket.on("error", () => (this.closed = true));
  }
  take(message: PageMessage): void {
    this.messages.push(message);
    if (message.type === "snapshot")
      this.topics.set(message.topic, { seq: message.seq, entries: { ...message.entries } });
    if (message.type !== "delta") return;
    const topic = this.topics.get(message.topic);
    if (topic === undefined) return;
    if (message.seq !== topic.seq + 1) this.gaps++;
    topic.seq = message.seq;
    Object.assign(topic.entries, message.set);
    for (const key of message.del) delete topic.entries[key];
  }
  async open(): Promise<this> {
    await once(this.socket, "open");
    return this;
  }
  ask(type: PageRequest["type"], topic: string): void {
    this.socket.send(JSON.stringify({ type, topic } satisfies PageRequest));
  }
  entries(topic: string): Record<string, unknown> | undefined {
    return this.topics.get(topic)?.entries;
  }
  count(type: PageMessage["type"]): number {
    return this.messages.filter((message) => message.type === type).length;
  }
}
