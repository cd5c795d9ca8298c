/**
 * `coroot server` as a scoped program: configuration, data directory, store, actors, agent link, page. It runs until it
 * is interrupted; then agents and pages are told, mailboxes drained and the store child stopped, in this order.
 */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { Clock, Effect, Layer, Logger, LogLevel, SubscriptionRef } from "effect";
import { startActors } from "../../actors/guardian.ts";
import type { Recovered } from "../../actors/incident/IncidentDesk.ts";
import { INCIDENT_DESK } from "../../actors/service/messages.ts";
import { readTopic } from "../../actors/ui-session/topics.ts";
import { ActorSystem, make as makeActorSystem } from "../../runtime/actor/ActorSystem.ts";
import { agentKeyPath, ensureAgentKey } from "../../runtime/config/AgentKey.ts";
import { loadConfig, type Settings } from "../../runtime/config/Config.ts";
import { openDataDir } from "../../runtime/config/DataDir.ts";
import { PageHubLive } from "../../runtime/http/PageHub.ts";
import { HttpServerLive } from "../../runtime/http/Server.ts";
import {
  HealthPort,
  HistoryError,
  HistoryPort,
  Topics,
  WatchersLive,
  type PartHealth,
} from "../../runtime/http/Topics.ts";
import { AgentHandler } from "../../runtime/ingest/AgentHandler.ts";
import { AgentLink, AgentLinkLive } from "../../runtime/ingest/AgentLink.ts";
import { History, layer as historyLayer } from "../../runtime/store/History.ts";
import { Store, layer as storeLayer } from "../../runtime/store/Store.ts";
import { layer as storeProcessLayer } from "../../runtime/store/StoreProcess.ts";
import { Writer, layer as writerLayer } from "../../runtime/store/Writer.ts";
import type { SliPointRow } from "../../schemas/tables.ts";
import type { Overview } from "../../schemas/wire/page.ts";
import { distDir } from "./dist.ts";
import { agentHandler, boardChanges, wirePorts } from "./ports.ts";
import { version } from "./version.ts";

export interface ServerOptions {
  readonly config?: string;
  readonly host?: string;
  readonly port?: number;
  readonly data?: string;
  readonly cluster?: string;
}

const RECENT_INCIDENTS = 200;
const HISTORY_POINTS = 1_000;

const settingsOf = (options: ServerOptions) =>
  loadConfig({
    path: options.config,
    env: {
      ...process.env,
      ...(options.host === undefined ? {} : { COROOT_HOST: options.host }),
      ...(options.port === undefined ? {} : { COROOT_PORT: String(options.port) }),
      ...(options.data === undefined ? {} : { COROOT_DATA: options.data }),
      ...(options.cluster === undefined ? {} : { COROOT_CLUSTER: options.cluster }),
    },
  });

const LOG_LEVELS = {
  debug: LogLevel.Debug,
  info: LogLevel.Info,
  warning: LogLevel.Warning,
  error: LogLevel.Error,
} as const;

const stores = (settings: Settings) => {
  const { url, user, password, database } = settings.clickhouse;
  const child = storeProcessLayer({
    command: [process.execPath, process.argv[1] ?? "", "store"],
    data: join(settings.data, "store"),
    ...(url === undefined ? {} : { external: { url, username: user, password } }),
  });
  const store = storeLayer({ database }).pipe(Layer.provideMerge(child));
  return Layer.mergeAll(writerLayer(), historyLayer).pipe(Layer.provideMerge(store));
};

const actors = (settings: Settings) =>
  Layer.scoped(
    ActorSystem,
    Effect.gen(function* () {
      const system = yield* makeActorSystem;
      const store = yield* Store;
      const history = yield* History;
      yield* wirePorts(system, store, yield* Writer, history);
      const { slo, alerts, server } = settings;
      startActors(system, {
        slo: { ...slo, holdMs: slo.holdSeconds * 1000 },
        webhooks: alerts.webhooks,
        url: `http://${server.host}:${server.port}`,
      });
      yield* store.whenUp.pipe(
        Effect.zipRight(history.recentIncidents(RECENT_INCIDENTS)),
        Effect.retry({ times: 5 }),
        Effect.matchEffect({
          onSuccess: (incidents) => {
            const recovered: Recovered = { type: "recovered", incidents };
            return Effect.sync(() => void system.tell(INCIDENT_DESK, recovered));
          },
          onFailure: (error) => Effect.logError("open incidents could not be read back", error),
        }),
        Effect.forkScoped,
      );
      return system;
    }),
  );

const handler = Layer.effect(
  AgentHandler,
  Effect.gen(function* () {
    return agentHandler(yield* ActorSystem, yield* Writer);
  }),
);

const storeOverview = Effect.gen(function* () {
  const store = yield* Store;
  const writer = yield* Writer;
  return Effect.gen(function* () {
    const state = yield* SubscriptionRef.get(store.state);
    const stats = yield* writer.stats;
    const view: Overview["store"] = {
      state: state.status,
      message: state.message,
      queuedRows: stats.queuedRows,
      dropped: stats.dropped,
    };
    return view;
  });
});

const topics = (settings: Settings) =>
  Layer.effect(
    Topics,
    Effect.gen(function* () {
      const system = yield* ActorSystem;
      const { agents } = yield* AgentLink;
      const sources = {
        cluster: settings.cluster,
        version,
        startedAt: yield* Clock.currentTimeMillis,
        agents,
        store: yield* storeOverview,
      };
      return Topics.of({ read: (topic) => readTopic(system, sources, topic), changed: boardChanges(system) });
    }),
  );

const historyPort = Layer.effect(
  HistoryPort,
  Effect.gen(function* () {
    const history = yield* History;
    return HistoryPort.of({
      sliPoints: (service, from, to) =>
        history.sliPoints(service, from, to, HISTORY_POINTS).pipe(
          Effect.map(({ points, stepMs }) =>
            points.map(({ at, requests, errors, ...rest }): SliPointRow => {
              const perSecond = 1000 / stepMs;
              return { service, ts: at, requests: requests * perSecond, errors: errors * perSecond, ...rest };
            }),
          ),
          Effect.mapError((error) => new HistoryError({ message: error.message })),
        ),
    });
  }),
);

const health = Layer.effect(
  HealthPort,
  Effect.gen(function* () {
    const store = yield* storeOverview;
    const { agents } = yield* AgentLink;
    return HealthPort.of({
      parts: Effect.gen(function* () {
        const { state, message } = yield* store;
        const connected = (yield* agents).filter((agent) => agent.state === "connected").length;
        const parts: Record<string, PartHealth> = {
          store: { state, message },
          actors: { state: "up", message: `process ${process.pid}` },
          agents: { state: connected > 0 ? "up" : "starting", message: `${connected} connected` },
        };
        return parts;
      }),
    });
  }),
);

/** Runs until interrupted. Fails with ConfigError, DataDirError, AgentKeyError or ListenError before it serves. */
export const runServer = (options: ServerOptions) =>
  Effect.gen(function* () {
    const settings = yield* settingsOf(options);
    yield* openDataDir(settings.data);
    const key = yield* ensureAgentKey(agentKeyPath(settings.data));
    const serverId = randomUUID();
    const { host, port } = settings.server;
    const edges = Layer.mergeAll(topics(settings), historyPort, health).pipe(
      Layer.provideMerge(AgentLinkLive({ key, serverId })),
      Layer.provide(handler),
      Layer.provideMerge(actors(settings)),
      Layer.provideMerge(stores(settings)),
    );
    const page = PageHubLive({ serverId, version }).pipe(Layer.provide(WatchersLive));
    const http = HttpServerLive({ host, port, pageDir: join(distDir(), "ui"), serverId, version });
    yield* Layer.launch(http.pipe(Layer.provide(page), Layer.provide(edges))).pipe(
      Logger.withMinimumLogLevel(LOG_LEVELS[settings.log]),
    );
  });
