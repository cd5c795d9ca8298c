/**
 * This server as a replica: its state database, the engine that places parts, and what its actors need of both. With
 * `state.url` several servers share a PostgreSQL database and their work; without, one server and a file.
 */
import { hostname } from "node:os";
import { join } from "node:path";
import { Effect, Layer } from "effect";
import { agentOf, type Relearn, type Rewind } from "../../actors/agent-session/messages.ts";
import { argumentNow, partOf, startMain, type ActorSettings } from "../../actors/guardian.ts";
import { SERVICES, type AgentLost } from "../../actors/service/messages.ts";
import { TOPOLOGY, type Forget } from "../../actors/topology/messages.ts";
import { ActorSystem, type ActorSystemShape } from "../../runtime/actor/ActorSystem.ts";
import { BoardChanges, BOARDS_QUERY, type BoardsQuestion } from "../../runtime/cluster/BoardFeed.ts";
import { Cluster, clusterLayer } from "../../runtime/cluster/Cluster.ts";
import { replicatedEngine, singleEngine } from "../../runtime/cluster/Engine.ts";
import { answerInsides } from "../../runtime/cluster/Insides.ts";
import { MAIN, PARTITIONS } from "../../runtime/cluster/places.ts";
import { OwnedState, ownedState } from "../../runtime/cluster/state/OwnedState.ts";
import { stateDatabase } from "../../runtime/cluster/state/StateDatabase.ts";
import { keepVacuuming } from "../../runtime/cluster/state/vacuum.ts";
import type { Settings } from "../../runtime/config/Config.ts";
import { version } from "./version.ts";

/** Boards that a page on another replica reads. */
const SHARED_BOARDS = ["services", "edges", "incidents", "silences", "topology", "agents"] as const;

export const replicaName = ({ replica }: Settings): string => replica.name ?? hostname();

const database = ({ data, state }: Settings) =>
  stateDatabase(
    state.url === undefined
      ? { kind: "file", path: join(data, "state.db") }
      : { kind: "postgres", url: state.url, connections: state.connections },
  );

/** Sessions have the windows sent again that were on their way to a part which moved. */
const resend = (system: ActorSystemShape, parts: readonly string[]): void => {
  const rewind: Rewind = { type: "rewind" };
  const relearn: Relearn = { type: "relearn" };
  for (const path of system.paths()) {
    if (partOf(path) !== null) continue;
    if (parts.includes(MAIN)) system.tell(path, relearn);
    system.tell(path, rewind);
  }
};

/** Nobody is left who could say that an agent is lost: each replica says so to those of its actors that had heard of it. */
const lose = (system: ActorSystemShape, sessions: readonly string[]): void => {
  for (const session of sessions) {
    const agent = agentOf(session);
    const lost: AgentLost = { type: "agent-lost", agent };
    const forget: Forget = { type: "forget", agent, lost: true };
    for (const path of system.paths())
      if (path === TOPOLOGY) system.tell(path, forget);
      else if (path.startsWith(SERVICES)) system.tell(path, lost);
  }
};

const cluster = (settings: Settings, actors: ActorSettings) =>
  Layer.unwrapEffect(
    Effect.gen(function* () {
      const system = yield* ActorSystem;
      const owned = yield* OwnedState;
      const { state, replica } = settings;
      const changes = new BoardChanges(system.board, SHARED_BOARDS, Math.floor(Math.random() * 2 ** 40) + 1);
      return clusterLayer({
        name: replicaName(settings),
        version,
        partOf,
        partitions: PARTITIONS,
        replicated:
          state.url === undefined
            ? null
            : { key: yield* owned.secret("replica"), engine: { host: replica.host, port: replica.port } },
        argumentOf: argumentNow(actors),
        claimed: (part) => {
          if (part === MAIN) startMain(system, actors);
        },
        moved: (parts) => resend(system, parts),
        orphaned: (sessions) => lose(system, sessions),
        answer: (name, argument) =>
          Effect.suspend(() => {
            if (name === BOARDS_QUERY) return Effect.succeed<unknown>(changes.answer(argument as BoardsQuestion));
            const answer = answerInsides(system, replicaName(settings), name, argument);
            return answer === null
              ? Effect.fail({ message: `nothing is called ${name} here` })
              : Effect.succeed(answer);
          }),
      });
    }),
  );

/** Needs the actor system, whose actors it places; gives the cluster and its state database. */
export const replicaLayer = (settings: Settings, actors: ActorSettings) => {
  const { state, replica } = settings;
  const engine = state.url === undefined ? singleEngine : replicatedEngine({ host: replica.host, port: replica.port });
  return cluster(settings, actors).pipe(
    Layer.provideMerge(
      Layer.mergeAll(engine, ownedState(PARTITIONS), Layer.scopedDiscard(Effect.forkScoped(keepVacuuming))),
    ),
    Layer.provideMerge(database(settings)),
  );
};

export { Cluster };
