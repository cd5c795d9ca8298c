/**
 * The engine that places parts on replicas: `@effect/cluster` in three settings that the rest cannot tell apart. Single:
 * one process, its state file, nothing else. Replicated: several processes, PostgreSQL advisory locks, sockets between
 * them. Test: in memory, under a test clock.
 *
 * Lock refresh and expiry stay at the engine's defaults: shorter ones make a starving replica drop everything. Fail-over
 * is quick because a dead replica is told dead by its peers (Health), and its locks end with its database connection.
 */
import { layerClientProtocol, layerSocketServer } from "@effect/platform-node/NodeClusterSocket";
import type { MessageStorage } from "@effect/cluster/MessageStorage";
import * as RunnerAddress from "@effect/cluster/RunnerAddress";
import * as RunnerHealth from "@effect/cluster/RunnerHealth";
import * as RunnerStorage from "@effect/cluster/RunnerStorage";
import type { Sharding } from "@effect/cluster/Sharding";
import * as ShardingConfig from "@effect/cluster/ShardingConfig";
import * as SingleRunner from "@effect/cluster/SingleRunner";
import * as SocketRunner from "@effect/cluster/SocketRunner";
import * as SqlMessageStorage from "@effect/cluster/SqlMessageStorage";
import * as SqlRunnerStorage from "@effect/cluster/SqlRunnerStorage";
import * as TestRunner from "@effect/cluster/TestRunner";
import type { SocketServerError } from "@effect/platform/SocketServer";
import * as RpcSerialization from "@effect/rpc/RpcSerialization";
import type { SqlClient } from "@effect/sql/SqlClient";
import { Cause, Context, Effect, FiberRef, HashSet, Layer, Logger, Option, type ConfigError } from "effect";

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** Which replicas are alive, as their peers see it; the engine asks here. */
export interface Health {
  isAlive: (address: Address) => boolean;
  /** tells the engine that a replica is gone, so that its parts move now and not when its heartbeat expires */
  readonly bury: (address: Address) => Effect.Effect<void, { readonly message: string }>;
}
export const Health = Context.GenericTag<Health>("runtime/cluster/Health");

export type Engine = Sharding | MessageStorage | Health;

const COMMON = {
  simulateRemoteSerialization: false,
  entityRegistrationTimeout: "10 minutes",
  entityMessagePollInterval: "2 seconds",
  refreshAssignmentsInterval: "1 second",
  runnerHealthCheckInterval: "1 second",
} as const satisfies Parameters<typeof ShardingConfig.layer>[0];

const SAY_AGAIN_MS = 30_000;

/** It logs each look that failed, every two seconds and with the whole chain of causes: said once in a while, in a line. */
const rarely = <A>(logger: Logger.Logger<unknown, A>): Logger.Logger<unknown, A | void> => {
  const said = new Map<string, number>();
  return Logger.make((options) => {
    const text = String(options.message);
    const at = options.date.getTime();
    if (at - (said.get(text) ?? Number.NEGATIVE_INFINITY) < SAY_AGAIN_MS) return;
    said.set(text, at);
    if (Cause.isEmpty(options.cause)) return logger.log(options);
    const why = Cause.squash(options.cause);
    const [line = ""] = (why instanceof Error ? why.message : String(why)).split("\n");
    return logger.log({ ...options, message: `${text}: ${line}`, cause: Cause.empty });
  });
};
const logRarely = Layer.locallyWith(FiberRef.currentLoggers, (loggers) => HashSet.map(loggers, rarely));

const aloneIsAlive = Layer.succeed(Health, Health.of({ isAlive: () => true, bury: () => Effect.void }));

export const singleEngine: Layer.Layer<Engine, ConfigError.ConfigError, SqlClient> = Layer.merge(
  SingleRunner.layer({ shardingConfig: COMMON, runnerStorage: "memory" }),
  aloneIsAlive,
);

export const testEngine: Layer.Layer<Engine> = Layer.merge(TestRunner.layer, aloneIsAlive);

const health: Layer.Layer<Health, never, RunnerStorage.RunnerStorage> = Layer.effect(
  Health,
  Effect.gen(function* () {
    const runners = yield* RunnerStorage.RunnerStorage;
    return Health.of({
      isAlive: () => true,
      bury: ({ host, port }) => runners.setRunnerHealth(RunnerAddress.make(host, port), false),
    });
  }),
);

const runnerHealth: Layer.Layer<RunnerHealth.RunnerHealth, never, Health> = Layer.effect(
  RunnerHealth.RunnerHealth,
  Effect.gen(function* () {
    const book = yield* Health;
    return RunnerHealth.RunnerHealth.of({ isAlive: (address) => Effect.sync(() => book.isAlive(address)) });
  }),
);

/** `address` is where this replica's engine listens, and how the others reach it. */
export const replicatedEngine = (
  address: Address,
): Layer.Layer<Engine, SocketServerError | ConfigError.ConfigError, SqlClient> =>
  SocketRunner.layer.pipe(
    Layer.provide([layerSocketServer, layerClientProtocol]),
    Layer.provide(runnerHealth),
    Layer.provideMerge(health),
    Layer.provideMerge(Layer.orDie(SqlMessageStorage.layer)),
    Layer.provide(Layer.orDie(SqlRunnerStorage.layer)),
    Layer.provide(
      ShardingConfig.layer({
        ...COMMON,
        runnerAddress: Option.some(RunnerAddress.make(address.host, address.port)),
        runnerListenAddress: Option.some(RunnerAddress.make(address.host, address.port)),
      }),
    ),
    Layer.provide(RpcSerialization.layerMsgPack),
    logRarely,
  );
