/**
 * This process as one replica of the deployment: which parts it owns, how it came to them, and how it lets them go.
 *
 * A part is claimed when the engine has given us its shard: the fencing token in the state database is raised, the
 * part's snapshots are read in one query and its actors set going; from then on messages reach them and what they own is
 * written under that token. When the engine takes the shard back (the database is away, or we are cut from it) the
 * claim is in doubt: the actors go on observing and deciding, nothing is written and no alert leaves, until the claim is
 * confirmed, another replica shows a newer one, or two minutes have passed with the database in reach. When it stops,
 * it hands over: actors are drained, what they own is written, and only then the engine lets go.
 */
import { Sharding } from "@effect/cluster/Sharding";
import * as EntityId from "@effect/cluster/EntityId";
import { Clock, Context, Deferred, Effect, FiberMap, Layer, Metric, Runtime, Schedule, type Scope } from "effect";
import { ActorSystem } from "../actor/ActorSystem.ts";
import type { ActorPath, Message } from "../actor/Behavior.ts";
import type { Parcel, Settled } from "../actor/Outside.ts";
import { Health, type Address } from "./Engine.ts";
import { fromWire, KIND, type ReplicaFrame } from "./frames.ts";
import { makeKeeper, type Keeper } from "./Keeper.ts";
import { makeMesh, type Mesh, type PeerState, type Replica } from "./Mesh.ts";
import { Partition, partitionLayer } from "./Partition.ts";
import { allParts, type PartOf } from "./places.ts";
import { restorePart } from "./restore.ts";
import { Router } from "./Router.ts";
import { OwnedState } from "./state/OwnedState.ts";

const LOOK_EVERY = "250 millis";
const HEARTBEAT_EVERY = "3 seconds";
/** Reading a part back costs a query and many starts: so many at once, however many came. */
const CLAIMS_AT_ONCE = 8;
const DOUBT_FOR_MS = 120_000;
const HAND_OVER_WITHIN = "2 seconds";
const SEND_AGAIN_AFTER = "1 second";
const CONFIRM_DEAD_WITHIN_MS = 1_000;
/** Whoever was connected to a replica that is gone has found another one by then, or is gone too. */
const ORPHANED_AFTER = "30 seconds";

const partsGauge = Metric.gauge("coroot_cluster_parts");
const claimsTotal = Metric.counter("coroot_cluster_claims_total", { incremental: true });
const doubtsTotal = Metric.counter("coroot_cluster_claims_in_doubt_total", { incremental: true });
const fencedTotal = Metric.counter("coroot_cluster_fenced_total", { incremental: true });
const buriedTotal = Metric.counter("coroot_cluster_replicas_buried_total", { incremental: true });

export type Claim = "claiming" | "confirmed" | "in doubt";

interface Held {
  claim: Claim;
  token: number;
  since: number;
}

export interface ClusterOptions {
  /** what the console and the log call this replica */
  readonly name: string;
  readonly version: string;
  readonly partOf: PartOf;
  readonly partitions: number;
  /** null: this is the only replica there can be */
  readonly replicated: { readonly key: string; readonly engine: Address } | null;
  /** argument of an actor that is taken up again, from the one that it was first started with */
  readonly argumentOf: (path: ActorPath, saved: unknown) => unknown;
  /** once the part's actors are here */
  readonly claimed: (part: string) => void;
  /** parts changed hands somewhere: what was under way to them may be lost */
  readonly moved: (parts: readonly string[]) => void;
  /** actors of connections whose replica is gone, and that no other replica has had since */
  readonly orphaned: (sessions: readonly ActorPath[]) => void;
  /** answers peers; see Mesh */
  readonly answer: (name: string, argument: unknown) => Effect.Effect<unknown, { readonly message: string }>;
}

export interface ClusterShape {
  readonly self: Replica;
  /** the server listens at that address: peers may dial now. Ends with the scope. */
  readonly listening: (url: string) => Effect.Effect<void, never, Scope.Scope>;
  readonly upgrade: Mesh["upgrade"];
  readonly query: Mesh["query"];
  readonly peers: () => readonly PeerState[];
  /** an actor of a connection started or ended here */
  readonly sessionHere: (path: ActorPath) => void;
  readonly sessionGone: (path: ActorPath) => void;
  /** another replica has it: what is told to it goes there */
  readonly sessionElsewhere: (path: ActorPath) => boolean;
  readonly claims: () => ReadonlyMap<string, Claim>;
  /** messages that wait for the owner of their part, and snapshots that wait for the database */
  readonly waiting: () => { readonly messages: number; readonly snapshots: number };
  /** every part has been claimed by somebody since the start */
  readonly settled: Effect.Effect<void>;
}

export class Cluster extends Context.Tag("runtime/cluster/Cluster")<Cluster, ClusterShape>() {}

const make = (options: ClusterOptions) =>
  Effect.gen(function* () {
    const system = yield* ActorSystem;
    const sharding = yield* Sharding;
    const owned = yield* OwnedState;
    const health = yield* Health;
    const scope = yield* Effect.scope;
    const clock = yield* Clock.clockWith(Effect.succeed);
    const now = (): number => clock.unsafeCurrentTimeMillis();
    const fork = Runtime.runFork(yield* Effect.runtime<never>());
    const { partOf, replicated } = options;
    const parts = allParts(options.partitions);
    const shards = new Map(parts.map((part) => [part, sharding.getShardId(EntityId.make(part), "default")]));
    const held = new Map<string, Held>();
    const everOwned = new Set<string>();
    const sessions = new Set<ActorPath>();
    const buried = new Set<string>();
    /** replicas that this one has spoken to in their present life */
    const met = new Set<string>();
    const news: (readonly [string, number])[] = [];
    const moved: string[] = [];
    const settled = yield* Deferred.make<void>();
    const gate = yield* Effect.makeSemaphore(CLAIMS_AT_ONCE);
    let databaseAwayAt = 0;
    let databaseAnswers = true;
    let leaving = false;
    let listed = false;
    let self: Replica = { id: `${options.name}-${now().toString(36)}-${process.pid}`, name: options.name, url: "" };

    const router: Router = new Router({
      partOf,
      send: (replica, frame) => mesh.send(replica, frame),
      receive: (parcel, answered) => void system.receive(parcel, answered),
      answer: (ask, answer) => system.answer(ask, answer),
      spawn: (path, kind, argument, parent) => void system.spawn(path, kind, argument, parent ?? undefined),
      stop: (path) => system.stop(path),
      soon: (flush) => void setImmediate(flush),
    });

    // ——— claims ———

    const evict = (part: string): void => {
      for (const path of system.paths()) if (partOf(path) === part) system.evict(path);
    };

    const leave = (part: string): void => {
      if (!held.delete(part)) return;
      router.left(part);
      keeper.left(part);
      evict(part);
    };

    const keeper: Keeper = yield* makeKeeper({
      partOf,
      now,
      owned,
      fenced: (part) => {
        fencedTotal.unsafeUpdate(1, []);
        leave(part);
      },
      send: (part, key, parcel) => sendDurably(part, key, parcel),
    });

    const confirm = (part: string, token: number, anew: boolean): void => {
      held.set(part, { claim: "confirmed", token, since: now() });
      keeper.confirmed(part, token);
      // Somebody had it before and we took it up anew: what was on its way to them is lost.
      if (anew && everOwned.has(part)) moved.push(part);
      everOwned.add(part);
      news.push([part, token]);
      claimsTotal.unsafeUpdate(1, []);
    };

    const claim = (part: string, before: Held | undefined): Effect.Effect<void> =>
      gate.withPermits(1)(
        Effect.gen(function* () {
          const token = yield* owned.claim(part, self.id);
          if (before !== undefined && token === before.token + 1) return confirm(part, token, false);
          if (before !== undefined) {
            keeper.left(part);
            router.left(part);
            evict(part);
          }
          held.set(part, { claim: "claiming", token, since: now() });
          router.loading(part);
          keeper.confirmed(part, token);
          yield* restorePart(system, owned, keeper, part, options.argumentOf);
          router.settled(part);
          options.claimed(part);
          confirm(part, token, true);
        }).pipe(
          Effect.catchAllCause((cause) =>
            Effect.zipRight(
              Effect.logWarning(`part ${part} cannot be claimed yet`, cause),
              Effect.sync(() => {
                if (before === undefined) leave(part);
                else held.set(part, before);
              }),
            ),
          ),
        ),
      );

    /** A claim in doubt ends after a while, unless the database is away: then nobody else could have it either. */
    const isOver = ({ since }: Held, at: number): boolean => at - Math.max(since, databaseAwayAt) > DOUBT_FOR_MS;

    const look = Effect.sync(() => {
      if (leaving) return;
      const at = now();
      for (const [part, shard] of shards) {
        const ours = held.get(part);
        if (sharding.hasShardId(shard)) {
          if (ours === undefined || ours.claim === "in doubt") {
            held.set(part, { claim: "claiming", token: ours?.token ?? -1, since: at });
            fork(claim(part, ours), { scope });
          }
        } else if (ours?.claim === "confirmed") {
          held.set(part, { ...ours, claim: "in doubt", since: at });
          keeper.doubted(part);
          doubtsTotal.unsafeUpdate(1, []);
        } else if (ours?.claim === "in doubt" && isOver(ours, at)) leave(part);
      }
      announce();
      countParts();
      if (parts.every((part) => everOwned.has(part))) Deferred.unsafeDone(settled, Effect.void);
    });

    const countParts = (): void => {
      const count = { claiming: 0, confirmed: 0, "in doubt": 0 };
      for (const { claim: state } of held.values()) count[state]++;
      for (const [state, n] of Object.entries(count))
        partsGauge.pipe(Metric.tagged("claim", state)).unsafeUpdate(n, []);
    };

    // ——— peers ———

    const broadcast = (frame: ReplicaFrame): void => {
      for (const peer of mesh.peers()) if (peer.connected) mesh.send(peer.replica.id, frame);
    };

    const announce = (): void => {
      if (news.length === 0) return;
      broadcast([KIND.claims, false, news.splice(0)]);
      if (moved.length > 0) options.moved(moved.splice(0));
    };

    const takeClaims = (from: string, whole: boolean, claims: readonly (readonly [string, number])[]): void => {
      const before = new Set(parts.filter((part) => router.isOwner(from, part)));
      if (whole) router.disowned(from);
      const lost: string[] = [];
      for (const [part, token] of claims) {
        const ours = held.get(part);
        if (ours !== undefined && token < ours.token) continue;
        if (ours !== undefined) leave(part);
        if (router.owned(part, from, token) && everOwned.has(part) && !before.has(part)) lost.push(part);
        everOwned.add(part);
      }
      if (lost.length > 0) options.moved(lost);
    };

    const takeSessions = (from: string, whole: boolean, here: readonly string[], gone: readonly string[]): void => {
      if (whole) for (const path of router.sessionsOf(from)) router.sessionGone(path, from);
      for (const path of gone) router.sessionGone(path, from);
      for (const path of here) {
        // The agent has moved on: what is left of it here would call it lost.
        if (sessions.delete(path)) system.evict(path);
        router.session(path, from);
      }
    };

    const orphan = (replica: string): void => {
      const paths = router.sessionsOf(replica);
      for (const path of paths) router.sessionGone(path, replica);
      if (paths.length === 0) return;
      const nowhere = Effect.sync(() => {
        const gone = paths.filter((path) => !sessions.has(path) && !router.hasSession(path));
        if (gone.length > 0) options.orphaned(gone);
      });
      fork(Effect.delay(nowhere, ORPHANED_AFTER), { scope });
    };

    const takeFrame = (from: string, frame: ReplicaFrame): void => {
      switch (frame[0]) {
        case KIND.parcels:
          for (const wire of frame[1]) {
            const parcel = fromWire(wire);
            router.arrived(parcel, (answer) => void mesh.send(from, [KIND.answer, parcel.ask, answer]));
          }
          return;
        case KIND.answer:
          return system.answer(frame[1], frame[2]);
        case KIND.spawn: {
          const [, path, kind, argument, parent] = frame;
          if (router.isHere(path)) system.spawn(path, kind, argument, parent ?? undefined);
          else router.spawn(path, kind, argument, parent);
          return;
        }
        case KIND.stop:
          return system.stop(frame[1]);
        case KIND.claims:
          return takeClaims(from, frame[1], frame[2]);
        case KIND.sessions:
          return takeSessions(from, frame[1], frame[2], frame[3]);
        case KIND.leaving:
          orphan(from);
          return router.disowned(from);
        case KIND.hello:
        case KIND.query:
        case KIND.response:
          return;
      }
    };

    /** Also those in doubt, or being claimed again: until somebody shows a newer claim, their actors are here. */
    const allClaims = (): (readonly [string, number])[] =>
      [...held].flatMap(([part, { token }]) => (token < 0 ? [] : [[part, token] as const]));

    const mesh: Mesh = yield* makeMesh({
      self: () => self,
      key: replicated?.key ?? "",
      version: options.version,
      connected: (replica) => {
        buried.delete(replica);
        mesh.send(replica, [KIND.claims, true, allClaims()]);
        mesh.send(replica, [KIND.sessions, true, [...sessions], []]);
        router.connected(replica);
        // What was on its way to it when the connection broke is lost.
        const theirs = met.has(replica) ? parts.filter((part) => router.isOwner(replica, part)) : [];
        met.add(replica);
        if (theirs.length > 0) options.moved(theirs);
      },
      closed: () => undefined,
      frame: takeFrame,
      answer: (name, argument) =>
        name === "is-dead"
          ? Effect.sync(() => mesh.peers().some((peer) => peer.replica.id === argument && peer.dead))
          : options.answer(name, argument),
    });

    const addresses = new Map<string, Address>();
    health.isAlive = ({ host, port }) =>
      !mesh.peers().some(({ dead, replica }) => {
        const address = addresses.get(replica.id);
        return dead && buried.has(replica.id) && address?.host === host && address.port === port;
      });

    /** Dead for us and, where a third replica is connected, for one more: it could be our own network that is broken. */
    const buryTheDead = Effect.gen(function* () {
      for (const { replica, dead } of mesh.peers()) {
        const address = addresses.get(replica.id);
        if (!dead || buried.has(replica.id) || address === undefined) continue;
        const witnesses = mesh.peers().filter((peer) => peer.connected);
        const agreed = yield* Effect.exists(
          witnesses,
          (peer) =>
            mesh.query(peer.replica.id, "is-dead", replica.id, CONFIRM_DEAD_WITHIN_MS).pipe(
              Effect.orElseSucceed(() => false),
              Effect.map((answer) => answer === true),
            ),
          { concurrency: "unbounded" },
        );
        if (witnesses.length > 0 && !agreed) continue;
        yield* health.bury(address);
        buried.add(replica.id);
        buriedTotal.unsafeUpdate(1, []);
        yield* Effect.logWarning(`replica ${replica.name} is gone: its parts are taken over`);
        orphan(replica.id);
      }
    }).pipe(Effect.catchAll((error) => Effect.logWarning(`a dead replica cannot be reported yet: ${error.message}`)));

    const heartbeat = Effect.gen(function* () {
      if (listed) yield* owned.replicas.heartbeat(self.id);
      const all = yield* owned.replicas.list;
      for (const one of all) addresses.set(one.id, { host: one.engineHost, port: one.enginePort });
      if (!databaseAnswers) yield* Effect.logInfo("the state database answers again");
      databaseAnswers = true;
      yield* mesh.know(all.map(({ id, name, linkUrl }) => ({ id, name, url: linkUrl })));
    }).pipe(
      Effect.catchAll((error) =>
        Effect.zipRight(
          databaseAnswers ? Effect.logWarning(`the state database does not answer: ${error.message}`) : Effect.void,
          Effect.sync(() => {
            databaseAwayAt = now();
            databaseAnswers = false;
          }),
        ),
      ),
    );

    // ——— durable messages ———

    const client = yield* Partition.client;
    const sending = yield* FiberMap.make<string>();
    const runSending = yield* FiberMap.runtime(sending)<never>();
    const sendDurably = (part: string, key: string, { to, message }: Parcel): void => {
      runSending(
        key,
        client(part)
          .Hand({ key, to, message }, { discard: true })
          .pipe(
            Effect.tapError((error) => Effect.logWarning(`message ${key} cannot be kept yet: ${error.message}`)),
            Effect.retry(Schedule.spaced(SEND_AGAIN_AFTER)),
            Effect.ignore,
          ),
        { onlyIfMissing: true },
      );
    };

    const deliver = (part: string, to: ActorPath, message: Message, key: string): Effect.Effect<Settled> =>
      Effect.async<Settled>((resume) => {
        if (held.get(part)?.claim !== "confirmed") return resume(Effect.succeed("again"));
        system.deliver(to, message, key, (how) => resume(Effect.succeed(how)));
      });
    yield* Layer.build(partitionLayer({ deliver }).pipe(Layer.provide(Layer.succeed(Sharding, sharding))));

    // ——— going on ———

    system.connect({ node: options.name, router, keeper });
    yield* look.pipe(Effect.zipRight(Effect.sleep(LOOK_EVERY)), Effect.forever, Effect.forkScoped);
    if (replicated !== null) {
      yield* heartbeat.pipe(Effect.zipRight(Effect.sleep(HEARTBEAT_EVERY)), Effect.forever, Effect.forkScoped);
      yield* buryTheDead.pipe(Effect.zipRight(Effect.sleep(LOOK_EVERY)), Effect.forever, Effect.forkScoped);
    }

    /** Drained, written, and only then let go: the engine gives the shards up after this. */
    yield* Effect.addFinalizer(() =>
      Effect.gen(function* () {
        leaving = true;
        broadcast([KIND.leaving]);
        for (const part of held.keys()) evict(part);
        yield* system.idle;
        yield* Effect.forEach(held.keys(), keeper.flush, { concurrency: CLAIMS_AT_ONCE, discard: true });
        if (listed) yield* Effect.ignore(owned.replicas.remove(self.id));
      }).pipe(Effect.timeoutOption(HAND_OVER_WITHIN)),
    );

    const sessionNews = (path: ActorPath, here: boolean): void =>
      broadcast([KIND.sessions, false, here ? [path] : [], here ? [] : [path]]);

    return Cluster.of({
      get self() {
        return self;
      },
      listening: (url) =>
        Effect.gen(function* () {
          if (replicated === null) return;
          self = { ...self, url };
          const { host, port } = replicated.engine;
          yield* owned.replicas
            .register({ ...self, linkUrl: url, engineHost: host, enginePort: port, version: options.version })
            .pipe(
              Effect.tap(() => Effect.sync(() => (listed = true))),
              Effect.tapError((error) => Effect.logWarning(`this replica cannot be listed yet: ${error.message}`)),
              Effect.retry(Schedule.spaced(SEND_AGAIN_AFTER)),
              Effect.ignore,
            );
          yield* heartbeat;
        }),
      upgrade: mesh.upgrade,
      query: mesh.query,
      peers: mesh.peers,
      sessionHere: (path) => {
        if (sessions.has(path)) return;
        sessions.add(path);
        router.sessionHere(path);
        sessionNews(path, true);
      },
      sessionGone: (path) => {
        if (sessions.delete(path)) sessionNews(path, false);
      },
      sessionElsewhere: (path) => router.hasSession(path),
      claims: () => new Map([...held].map(([part, { claim: state }]) => [part, state])),
      waiting: () => ({ messages: router.held, snapshots: keeper.waiting() }),
      settled: Deferred.await(settled),
    });
  });

export const clusterLayer = (
  options: ClusterOptions,
): Layer.Layer<Cluster, never, ActorSystem | Sharding | OwnedState | Health> => Layer.scoped(Cluster, make(options));
