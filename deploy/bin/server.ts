/**
 * `coroot server` as a scoped program: configuration, data directory, store, actors, agent link, page. It runs until it
 * is interrupted; then agents and pages are told, mailboxes drained and the store child stopped, in this order.
 */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { Clock, Effect, Layer, Logger, LogLevel, SubscriptionRef } from "effect";
import type { ComeAgain, TellPolicy } from "../../actors/agent-session/messages.ts";
import { registerActors, type ActorSettings } from "../../actors/guardian.ts";
import type { Acknowledge, AddSilence, Recovered, RemoveSilence } from "../../actors/incident/IncidentDesk.ts";
import { INCIDENT_DESK } from "../../actors/service/messages.ts";
import { readTopic, type PastCall, type TopicSources } from "../../actors/ui-session/topics.ts";
import { ActorSystem, make as makeActorSystem, type ActorSystemShape } from "../../runtime/actor/ActorSystem.ts";
import { makeBoardFeed } from "../../runtime/cluster/BoardFeed.ts";
import { makeInsides } from "../../runtime/cluster/Insides.ts";
import type { ClusterShape } from "../../runtime/cluster/Cluster.ts";
import { makeFileRecorder } from "../../runtime/actor/recording/FileRecorder.ts";
import { adminKeyPath, agentKeyPath, ensureAgentKey } from "../../runtime/config/AgentKey.ts";
import { sameKey } from "../../runtime/config/sameKey.ts";
import { OwnedState } from "../../runtime/cluster/state/OwnedState.ts";
import { loadConfig, type Settings } from "../../runtime/config/Config.ts";
import { openDataDir } from "../../runtime/config/DataDir.ts";
import { metricsDoor } from "../../runtime/remote-write/door.ts";
import { MetricsWatch } from "../../runtime/remote-write/MetricsWatch.ts";
import { TurnScheduler } from "../../runtime/actor/TurnScheduler.ts";
import { makeDoorServer } from "../../runtime/doors/serve.ts";
import { PageHubLive } from "../../runtime/http/PageHub.ts";
import { HttpServer, HttpServerLive } from "../../runtime/http/Server.ts";
import {
  CommandError,
  CommandsPort,
  HealthPort,
  HistoryError,
  HistoryPort,
  QueryError,
  QueryPort,
  Topics,
  WatchersLive,
  type PartHealth,
  type Verdict,
} from "../../runtime/http/Topics.ts";
import { layer as grpcLayer } from "../../runtime/otlp/GrpcServer.ts";
import { otlpDoors } from "../../runtime/otlp/doors.ts";
import { Intake, layer as intakeLayer } from "../../runtime/otlp/Intake.ts";
import { AgentHandler } from "../../runtime/ingest/AgentHandler.ts";
import { AgentLink, AgentLinkLive } from "../../runtime/ingest/AgentLink.ts";
import { layer as profilesDoorLayer, ProfilesDoor } from "../../runtime/profiles/door.ts";
import {
  MetricsQuery,
  layer as metricsQueryLayer,
  type ElsewhereState,
  type MetricsQueryShape,
} from "../../runtime/promql/MetricsQuery.ts";
import { layer as remoteQueryLayer, unread } from "../../runtime/promql/RemoteQuery.ts";
import { layer as metricsIntakeLayer, MetricsIntake } from "../../runtime/remote-write/MetricsIntake.ts";
import { DiskGuard, layer as diskGuardLayer } from "../../runtime/store/DiskGuard.ts";
import { History, layer as historyLayer, type HistoryShape } from "../../runtime/store/History.ts";
import { readQuery } from "../../runtime/store/ReadQuery.ts";
import { Store, layer as storeLayer } from "../../runtime/store/Store.ts";
import { layer as storeProcessLayer } from "../../runtime/store/StoreProcess.ts";
import { layer as profilesLayer } from "../../runtime/telemetry/Profiles.ts";
import { Writer, layer as writerLayer } from "../../runtime/store/Writer.ts";
import { layer as logsLayer } from "../../runtime/telemetry/Logs.ts";
import { layer as tracesLayer } from "../../runtime/telemetry/Traces.ts";
import type { ServiceId } from "../../schemas/service.ts";
import { STACKS_LONGER_DAYS, type Retention, type SliPointRow } from "../../schemas/tables.ts";
import type { AgentView, Overview } from "../../schemas/wire/page.ts";
import { distDir } from "./dist.ts";
import { agentHandler, boardChanges, wirePorts } from "./ports.ts";
import { Cluster, replicaLayer, replicaName } from "./replica.ts";
import { agentConfigDoor, stockWatch } from "./stock.ts";
import { version } from "./version.ts";

export interface ServerOptions {
  readonly config?: string;
  readonly host?: string;
  readonly port?: number;
  readonly data?: string;
  readonly cluster?: string;
}

const RECENT_INCIDENTS = 200;
const AUDITS_SHOWN = 500;
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

const retention = ({ keep }: Settings): Retention => ({
  samples: keep.metricsDays,
  series: keep.metricsDays + 1,
  sli_points: keep.metricsDays,
  logs: keep.logsDays,
  log_patterns: keep.logsDays,
  spans: keep.tracesDays,
  trace_index: keep.tracesDays,
  profile_samples: keep.profilesDays,
  profile_types: keep.profilesDays,
  profile_stacks: keep.profilesDays + STACKS_LONGER_DAYS,
  incidents: keep.incidentsDays,
  events: keep.incidentsDays,
  k8s_events: keep.incidentsDays,
  sli_minutes: keep.minutesDays,
  edge_minutes: keep.minutesDays,
  map_edges: keep.minutesDays,
  span_edges: keep.minutesDays,
  span_latency: keep.minutesDays,
});

const NOT_READ = "metrics are kept elsewhere (prometheus.remoteWriteUrl) and not read here: prometheus.url is not set";

/** Questions about metrics go to where the samples go. */
const metricsQuery = ({ prometheus: { url, remoteWriteUrl, headers } }: Settings) => {
  if (url !== undefined) return remoteQueryLayer({ url, headers });
  return remoteWriteUrl === undefined ? metricsQueryLayer : unread(NOT_READ);
};

const stores = (settings: Settings) => {
  const { url, user, password, database, cluster } = settings.clickhouse;
  const child = storeProcessLayer({
    command: [process.execPath, process.argv[1] ?? "", "store"],
    data: join(settings.data, "store"),
    ...(url === undefined ? {} : { external: { url, username: user, password } }),
  });
  const days = retention(settings);
  const store = storeLayer({ database, cluster, retention: days }).pipe(Layer.provideMerge(child));
  const guard = diskGuardLayer({ threshold: settings.keep.diskPercent });
  const { remoteWriteUrl, headers } = settings.prometheus;
  const remote = remoteWriteUrl === undefined ? {} : { remote: { url: remoteWriteUrl, headers } };
  const writer = writerLayer({ retention: days, ...remote });
  return Layer.mergeAll(
    writer,
    historyLayer,
    metricsQuery(settings),
    profilesLayer,
    logsLayer,
    tracesLayer,
    guard,
  ).pipe(Layer.provideMerge(store));
};

/** Stock agents' metrics go to the actors as well. */
const watch = (settings: Settings) =>
  Layer.effect(
    MetricsWatch,
    Effect.gen(function* () {
      return stockWatch(yield* ActorSystem, yield* Cluster, settings.cluster, settings.services);
    }),
  );

/** What others send: the intakes, and the way to them by gRPC. */
const otlp = (settings: Settings, key: string) => {
  const metrics = metricsIntakeLayer(retention(settings)).pipe(Layer.provide(watch(settings)));
  const profiles = profilesDoorLayer(retention(settings));
  const intakes = Layer.mergeAll(intakeLayer(retention(settings)), metrics, profiles);
  const { grpcPort: port } = settings.otlp;
  if (port === 0) return intakes;
  const { host } = settings.server;
  const grpc = Effect.map(MetricsIntake, ({ takeOtlp }) => grpcLayer({ host, port, key, metrics: takeOtlp }));
  return Layer.unwrapEffect(grpc).pipe(Layer.provideMerge(intakes));
};

const actorSettings = ({ slo, alerts, server, services }: Settings): ActorSettings => ({
  slo: { ...slo, holdMs: slo.holdSeconds * 1000 },
  webhooks: alerts.webhooks,
  grouping: services,
  url: `http://${server.host}:${server.port}`,
});

const actors = (settings: Settings) =>
  Layer.scoped(
    ActorSystem,
    Effect.gen(function* () {
      const { recording, data } = settings;
      const recorder =
        recording.actors.length === 0
          ? null
          : yield* makeFileRecorder({ ...recording, folder: join(data, "recordings"), version });
      const system = yield* makeActorSystem;
      if (recorder !== null) system.connect({ recorder });
      yield* wirePorts(system, yield* Store, yield* Writer, yield* History);
      registerActors(system);
      return system;
    }),
  );

/** A deployment from before it kept incidents itself has them in the store: they are taken up from there, once. */
const recovery = Layer.scopedDiscard(
  Effect.gen(function* () {
    const system = yield* ActorSystem;
    const store = yield* Store;
    const history = yield* History;
    const cluster = yield* Cluster;
    yield* store.whenUp.pipe(
      Effect.zipRight(cluster.settled),
      Effect.zipRight(history.recentIncidents(RECENT_INCIDENTS)),
      Effect.retry({ times: 5 }),
      Effect.matchEffect({
        onSuccess: (incidents) => {
          const recovered: Recovered = { type: "recovered", incidents };
          return Effect.sync(() => void system.tell(INCIDENT_DESK, recovered));
        },
        onFailure: (error) => Effect.logError("incidents of the past could not be read back", error),
      }),
      Effect.forkScoped,
    );
  }),
);

const handler = (settings: Settings) =>
  Layer.effect(
    AgentHandler,
    Effect.gen(function* () {
      return agentHandler(
        yield* ActorSystem,
        yield* Writer,
        yield* Intake,
        settings.services,
        (yield* Cluster).sessionHere,
      );
    }),
  ).pipe(Layer.provide(intakeLayer(retention(settings))));

const agentPort = Layer.effectDiscard(
  Effect.gen(function* () {
    const system = yield* ActorSystem;
    const { again, policy } = yield* AgentLink;
    system.port("agent-link", (request) => Effect.sync(() => again((request as ComeAgain).agent)));
    system.port("agent-policy", (request) =>
      Effect.sync(() => policy((request as TellPolicy).agent, (request as TellPolicy).policy)),
    );
  }),
);

const ASK_MS = 3_000;

const commands = (adminKey: string) =>
  Layer.effect(
    CommandsPort,
    Effect.gen(function* () {
      const system = yield* ActorSystem;
      const { audit } = yield* OwnedState;
      const insides = makeInsides(system, yield* Cluster);
      const desk = (message: Acknowledge | AddSilence | RemoveSilence): Effect.Effect<Verdict, CommandError> =>
        system.ask(INCIDENT_DESK, message, ASK_MS).pipe(
          Effect.map((value) => (typeof value === "string" ? value : null)),
          Effect.mapError((error) => new CommandError({ message: error.message })),
        );
      const failed = Effect.mapError((error: Error) => new CommandError({ message: error.message }));
      return CommandsPort.of({
        acknowledge: (incident, note, who) =>
          Effect.flatMap(Clock.currentTimeMillis, (at) =>
            desk({ type: "acknowledge", incident, by: { at, by: who, note } }),
          ),
        unacknowledge: (incident) => desk({ type: "acknowledge", incident, by: null }),
        silence: (match, minutes, reason, who) =>
          Effect.gen(function* () {
            const from = yield* Clock.currentTimeMillis;
            const until = from + minutes * 60_000;
            const id = randomUUID().slice(0, 8);
            yield* desk({ type: "silence", silence: { id, match, from, until, reason, by: who } });
            return { id, until };
          }),
        unsilence: (id) => desk({ type: "unsilence", id }),
        act: insides.act,
        dump: insides.inspect,
        audit: {
          add: (who, action, target, outcome) =>
            Effect.flatMap(Clock.currentTimeMillis, (at) => failed(audit.add({ at, who, action, target, outcome }))),
          recent: failed(audit.recent(AUDITS_SHOWN)),
        },
        isAdmin: (key) => sameKey(key, adminKey),
      });
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

const PAST_MAPS = 20;

/** The past does not change: what was read once is remembered, for the few moments that people look at. */
const pastCalls = (history: HistoryShape): TopicSources["callsAt"] => {
  const known = new Map<number, readonly PastCall[]>();
  return (at) =>
    Effect.suspend(() => {
      const found = known.get(at);
      if (found !== undefined) return Effect.succeed(found);
      if (!Number.isFinite(at) || at <= 0) return Effect.succeed(null);
      return history.mapAt(at).pipe(
        Effect.map((calls) => {
          const past = calls.map(({ source, target }) => ({ from: source as ServiceId, to: target as ServiceId }));
          known.set(at, past);
          const [oldest] = known.keys();
          if (known.size > PAST_MAPS && oldest !== undefined) known.delete(oldest);
          return past;
        }),
        Effect.catchAll((error) => Effect.as(Effect.logWarning(`the map of the past: ${error.message}`), null)),
      );
    });
};

/** Of all replicas, as far as their boards are known here. */
const stockAgents = (system: ActorSystemShape): readonly AgentView[] =>
  [...system.board.read("agents").values()] as AgentView[];

const topics = (settings: Settings) =>
  Layer.effect(
    Topics,
    Effect.gen(function* () {
      const system = yield* ActorSystem;
      const { agents: linked } = yield* AgentLink;
      const agents = Effect.map(linked, (ours) => [...ours, ...stockAgents(system)]);
      const cluster = yield* Cluster;
      const guard = yield* DiskGuard;
      const metrics = yield* MetricsQuery;
      const fresh = yield* makeBoardFeed({ board: system.board, peers: cluster.peers, query: cluster.query });
      const sources = {
        cluster: settings.cluster,
        version,
        startedAt: yield* Clock.currentTimeMillis,
        agents,
        store: yield* storeOverview,
        callsAt: pastCalls(yield* History),
        insides: makeInsides(system, cluster),
        notices: () => [...replicaNotices(settings, cluster), ...metricsNotices(metrics), ...guard.notices()],
      };
      return Topics.of({
        read: (topic) => Effect.zipRight(fresh, readTopic(system, sources, topic)),
        changed: boardChanges(system),
      });
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

const queryPort = Layer.effect(
  QueryPort,
  Effect.map(Store, (store) =>
    QueryPort.of({
      query: (sql, params, rows) =>
        readQuery(store, sql, params, rows).pipe(
          // A code is the engine's answer to the text; without one it was not there to answer.
          Effect.mapError((error) => {
            const refused = error._tag === "QueryRefused" || error.code !== null;
            return new QueryError({ refused, message: refused ? error.reason : error.message });
          }),
        ),
    }),
  ),
);

const metricsNotices = ({ elsewhere }: MetricsQueryShape): readonly string[] => {
  const state = elsewhere();
  return state?.status === "down" ? [`Metrics cannot be read: ${state.message}. Detection goes on, samples wait.`] : [];
};

/** Of the metrics store elsewhere, both ways. */
const metricsHealth = (elsewhere: ElsewhereState | null, writeError: string): PartHealth => {
  const writing = writeError === "" ? [] : [`it does not take samples yet: ${writeError}`];
  const reading = elsewhere?.message ?? NOT_READ;
  const failing = writing.length + (elsewhere?.status === "down" ? 1 : 0);
  const working = elsewhere?.status === "starting" ? "starting" : "up";
  const state = failing === 0 ? working : failing === 2 ? "down" : "degraded";
  return { state, message: [reading, ...writing].join("; ") };
};

const health = ({ prometheus }: Settings) =>
  Layer.effect(
    HealthPort,
    Effect.gen(function* () {
      const store = yield* storeOverview;
      const writer = yield* Writer;
      const { elsewhere } = yield* MetricsQuery;
      const { agents } = yield* AgentLink;
      const system = yield* ActorSystem;
      const cluster = yield* Cluster;
      return HealthPort.of({
        parts: Effect.gen(function* () {
          const { state, message } = yield* store;
          const connected = [...(yield* agents), ...stockAgents(system)].filter(
            (agent) => agent.state === "connected",
          ).length;
          const parts: Record<string, PartHealth> = {
            store: { state, message },
            actors: { state: "up", message: `process ${process.pid}` },
            replica: replicaHealth(cluster),
            agents: { state: connected > 0 ? "up" : "starting", message: `${connected} connected` },
          };
          if (prometheus.remoteWriteUrl !== undefined)
            parts["metrics"] = metricsHealth(elsewhere(), (yield* writer.stats).samples.lastError);
          return parts;
        }),
      });
    }),
  );

const replicaHealth = ({ claims, peers, waiting }: ClusterShape): PartHealth => {
  const states = [...claims().values()];
  const inDoubt = states.filter((claim) => claim === "in doubt").length;
  const connected = peers().filter((peer) => peer.connected).length;
  const { messages, snapshots } = waiting();
  const parts = [
    `${states.filter((claim) => claim === "confirmed").length} parts owned`,
    ...(inDoubt > 0 ? [`${inDoubt} in doubt: the state database does not confirm them`] : []),
    ...(peers().length > 0 ? [`${connected} of ${peers().length} other replicas connected`] : []),
    ...(messages > 0 ? [`${messages} messages wait for their owner`] : []),
    ...(snapshots > 0 ? [`${snapshots} snapshots wait for the database`] : []),
  ];
  return { state: inDoubt > 0 || connected < peers().length ? "degraded" : "up", message: parts.join(", ") };
};

/** What is wrong with it, as a person must know it. */
const replicaNotices = (settings: Settings, { claims, peers }: ClusterShape): string[] => {
  const out: string[] = [];
  const inDoubt = [...claims().values()].filter((claim) => claim === "in doubt").length;
  if (inDoubt > 0)
    out.push(
      `The state database does not confirm ${inDoubt} parts that this server owns: detection goes on, incidents are not recorded and alerts wait.`,
    );
  for (const peer of peers()) if (!peer.connected) out.push(`Replica ${peer.replica.name} is not connected.`);
  if (settings.state.url !== undefined && settings.clickhouse.url === undefined)
    out.push("Several servers may run, each with a store of its own: history is split. Set clickhouse.url.");
  return out;
};

/** What others send by HTTP. */
const doors = (settings: Settings, key: string) =>
  Effect.gen(function* () {
    const { samples, cache, watch: watched } = yield* MetricsIntake;
    const metrics = metricsDoor(samples, cache, watched);
    const config = agentConfigDoor(yield* ActorSystem, settings);
    return makeDoorServer({ doors: [metrics, ...otlpDoors(yield* Intake), yield* ProfilesDoor, config], key });
  });

/** The peers may come once this server listens. */
const listening = (settings: Settings) =>
  Layer.scopedDiscard(
    Effect.gen(function* () {
      const cluster = yield* Cluster;
      const { url } = yield* HttpServer;
      yield* Effect.forkScoped(cluster.listening(`${url.replace(/^http/, "ws")}/replica`));
      yield* Effect.logDebug(`${replicaName(settings)} is a replica at ${url}`);
    }),
  );

/** Runs until interrupted. Fails with ConfigError, DataDirError, AgentKeyError, StateError or ListenError before it serves. */
export const runServer = (options: ServerOptions) =>
  Effect.gen(function* () {
    const settings = yield* settingsOf(options);
    yield* openDataDir(settings.data);
    const key = yield* ensureAgentKey(agentKeyPath(settings.data));
    const adminKey = yield* ensureAgentKey(adminKeyPath(settings.data));
    const serverId = randomUUID();
    const { host, port } = settings.server;
    const edges = Layer.mergeAll(
      topics(settings),
      historyPort,
      queryPort,
      health(settings),
      recovery,
      agentPort,
      commands(adminKey),
      otlp(settings, key),
    ).pipe(
      Layer.provideMerge(AgentLinkLive({ key, serverId })),
      Layer.provide(handler(settings)),
      Layer.provideMerge(replicaLayer(settings, actorSettings(settings))),
      Layer.provideMerge(actors(settings)),
      Layer.provideMerge(stores(settings)),
    );
    const page = PageHubLive({ serverId, version }).pipe(Layer.provide(WatchersLive));
    const http = Layer.unwrapEffect(
      Effect.gen(function* () {
        const { upgrade: replicas } = yield* Cluster;
        const pageDir = join(distDir(), "ui");
        return HttpServerLive({ host, port, pageDir, serverId, version, replicas, doors: yield* doors(settings, key) });
      }),
    );
    const served = listening(settings).pipe(Layer.provide(http), Layer.provide(page), Layer.provide(edges));
    yield* Layer.launch(served).pipe(Logger.withMinimumLogLevel(LOG_LEVELS[settings.log]));
  }).pipe(Effect.withScheduler(new TurnScheduler()));
