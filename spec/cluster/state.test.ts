/**
 * The state database on both engines: a claim fences the one before, snapshots that cannot be read are put aside, two
 * servers may prepare it at once, processed messages go after a day, and a database that is away is an error in time.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as Entity from "@effect/cluster/Entity";
import * as Rpc from "@effect/rpc/Rpc";
import { Persisted } from "@effect/cluster/ClusterSchema";
import { SqlClient } from "@effect/sql/SqlClient";
import { Effect, Layer, Logger, Schema } from "effect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { make as makeActorSystem, ActorSystem } from "../../runtime/actor/ActorSystem.ts";
import type { Behavior, Message } from "../../runtime/actor/Behavior.ts";
import { Cluster, clusterLayer } from "../../runtime/cluster/Cluster.ts";
import { singleEngine, testEngine, type Engine } from "../../runtime/cluster/Engine.ts";
import { MAIN } from "../../runtime/cluster/places.ts";
import { decodeState, encodeState } from "../../runtime/cluster/state/codec.ts";
import { OwnedState, ownedState, type StateRow } from "../../runtime/cluster/state/OwnedState.ts";
import { stateDatabase, type StateOptions } from "../../runtime/cluster/state/StateDatabase.ts";
import { vacuum } from "../../runtime/cluster/state/vacuum.ts";
import { describeWith } from "../capabilities.ts";
import { Postgres } from "./Postgres.ts";
import { until } from "./until.ts";

const row = (path: string, value: unknown, version = 1): StateRow => ({
  path,
  kind: "k",
  version,
  at: 1,
  argument: encodeState({ argument: { a: 1 }, parent: null }),
  bytes: value === undefined ? null : encodeState(value),
});

const quiet = Logger.replace(Logger.defaultLogger, Logger.none);
const on = (options: StateOptions, partitions = 256) =>
  ownedState(partitions).pipe(Layer.provideMerge(stateDatabase(options)), Layer.provideMerge(quiet));

const suite = (options: () => StateOptions): void => {
  const run = <A, E>(effect: Effect.Effect<A, E, OwnedState | SqlClient>, partitions = 256): Promise<A> =>
    Effect.runPromise(effect.pipe(Effect.provide(on(options(), partitions))) as Effect.Effect<A, E>);

  it("keeps what a part owns, all of it or nothing, and only for who holds its newest claim", () =>
    run(
      Effect.gen(function* () {
        const owned = yield* OwnedState;
        const first = yield* owned.claim("p", "a");
        const save = (token: number, rows: readonly StateRow[], drops: readonly string[]) =>
          owned.save([{ part: "p", token, rows, drops }]).pipe(Effect.map((fenced) => [...fenced]));
        expect(yield* save(first, [row("x", { n: 1 }), row("y", undefined)], [])).toEqual([]);
        const second = yield* owned.claim("p", "b");
        expect(second).toBe(first + 1);
        const other = yield* owned.claim("q", "a");
        const both = [
          { part: "p", token: first, rows: [row("x", { n: 2 })], drops: ["y"] },
          { part: "q", token: other, rows: [row("z", { n: 3 })], drops: [] },
        ];
        expect([...(yield* owned.save(both))]).toEqual(["p"]);
        expect((yield* owned.load("q")).map(({ path }) => path)).toEqual(["z"]);
        const loaded = yield* owned.load("p");
        expect(loaded.map(({ path, bytes }) => [path, bytes === null ? null : decodeState(bytes)]).toSorted()).toEqual([
          ["x", { ok: true, value: { n: 1 } }],
          ["y", null],
        ]);
        // A row without bytes says that there is an actor, and forgets nothing that it gave out before.
        yield* save(second, [row("x", undefined)], ["y"]);
        const [kept, ...others] = yield* owned.load("p");
        expect(others).toEqual([]);
        expect(kept?.bytes && decodeState(kept.bytes)).toEqual({ ok: true, value: { n: 1 } });
      }),
    ));

  it("writes a thousand snapshots at once", () =>
    run(
      Effect.gen(function* () {
        const owned = yield* OwnedState;
        const token = yield* owned.claim("many", "a");
        const rows = Array.from({ length: 1_000 }, (_, i) => row(`many/${i}`, { i }));
        expect((yield* owned.save([{ part: "many", token, rows, drops: [] }])).size).toBe(0);
        expect(yield* owned.load("many")).toHaveLength(1_000);
      }),
    ));

  it("refuses another number of partitions than the deployment was started with", async () => {
    await run(Effect.void);
    await expect(run(Effect.void, 128)).rejects.toThrow("started with 256 partitions, expected by this server: 128");
  });

  it("keeps an audit log, the list of replicas and a shared secret", () =>
    run(
      Effect.gen(function* () {
        const owned = yield* OwnedState;
        yield* owned.audit.add({ at: 1, who: "w", action: "pause", target: "a", outcome: "allowed" });
        yield* owned.audit.add({ at: 2, who: "w", action: "dump", target: "b", outcome: "refused" });
        expect((yield* owned.audit.recent(10)).map(({ action }) => action)).toEqual(["dump", "pause"]);
        const replica = { id: "r", name: "n", linkUrl: "ws://x", engineHost: "h", enginePort: 1, version: "v" };
        yield* owned.replicas.register(replica);
        yield* owned.replicas.register({ ...replica, id: "r2" });
        expect((yield* owned.replicas.list).map(({ id }) => id)).toEqual(["r2"]);
        expect(yield* owned.secret("s")).toBe(yield* owned.secret("s"));
      }),
    ));

  it("forgets processed messages after a day and no other, and knows a key for that day", () =>
    run(
      Effect.gen(function* () {
        const sql = yield* SqlClient;
        const Kept = Entity.make("Kept", [
          Rpc.make("Say", {
            payload: { key: Schema.String },
            success: Schema.Number,
            primaryKey: ({ key }) => key,
          }).annotate(Persisted, true),
        ]);
        let handled = 0;
        const answers = Kept.toLayer({ Say: () => Effect.sync(() => ++handled) });
        yield* Effect.gen(function* () {
          const client = yield* Kept.client;
          const say = (key: string) => client("one").Say({ key });
          yield* say("a");
          yield* say("a");
          expect(handled).toBe(1);
          expect(yield* vacuum).toBe(0);
          yield* say("a");
          expect(handled).toBe(1);
          // As if it had been sent two days ago: ids begin with their time.
          const twoDays = BigInt(2 * 86_400_000) << 22n;
          yield* sql`UPDATE cluster_messages SET last_reply_id = NULL`;
          yield* sql`DELETE FROM cluster_replies`;
          yield* sql`UPDATE cluster_messages SET id = id - ${twoDays}, request_id = request_id - ${twoDays}`;
          expect(yield* vacuum).toBe(1);
          expect(yield* sql`SELECT id FROM cluster_messages`).toHaveLength(0);
        }).pipe(Effect.provide(answers.pipe(Layer.provideMerge(singleEngine))));
      }),
    ));
};

interface Keep extends Message {
  readonly type: "keep" | "read";
  readonly n?: number;
}
/** Owns a number. */
const keeper: Behavior<{ n: number }, Keep, { first: number }> = {
  kind: "keeper",
  mailbox: 16,
  messages: { keep: "refuse", read: "refuse" } as never,
  ticks: false,
  initial: (_path, { first }, _now, snapshot) => [{ n: typeof snapshot === "number" ? snapshot : first }, []],
  step: (state, { type, n }) => {
    if (type === "read") return [state, [{ kind: "reply", value: state.n }]];
    state.n = n ?? 0;
    return [state, [{ kind: "snapshot", value: state.n, afterwards: [{ kind: "reply", value: true }] }]];
  },
  owned: {
    version: 2,
    migrate: (version, value) => {
      if (version === 1) return Number(value) * 10;
      throw new Error(`a keeper's snapshot of version ${version}`);
    },
  },
  inspect: (state) => state,
};

/** One life of a server with one actor of its own, on that engine. */
const life = <A>(
  options: StateOptions,
  engine: Layer.Layer<Engine, unknown, SqlClient>,
  body: (system: ActorSystem["Type"]) => Effect.Effect<A, unknown, OwnedState>,
): Promise<A> => {
  const system = Layer.scoped(
    ActorSystem,
    Effect.tap(makeActorSystem, (made) => Effect.sync(() => made.register(keeper))),
  );
  const cluster = clusterLayer({
    name: "n",
    version: "v",
    partOf: () => MAIN,
    partitions: 256,
    replicated: null,
    argumentOf: (_path, saved) => saved,
    claimed: () => undefined,
    moved: () => undefined,
    orphaned: () => undefined,
    answer: () => Effect.fail({ message: "nothing" }),
  });
  const all = cluster.pipe(Layer.provideMerge(system), Layer.provideMerge(engine), Layer.provideMerge(on(options)));
  const program = Effect.gen(function* () {
    const { settled, waiting } = yield* Cluster;
    yield* settled;
    const result = yield* body(yield* ActorSystem);
    yield* Effect.sync(() => waiting().snapshots).pipe(Effect.repeat({ until: (n) => n === 0 }));
    return result;
  });
  return Effect.runPromise(Effect.scoped(Effect.provide(program, all)) as Effect.Effect<A>);
};

const lives = (options: () => StateOptions): void => {
  it("takes its actors up again, an older snapshot by its migration, a strange or corrupt one put aside", async () => {
    await life(options(), singleEngine, (system) =>
      Effect.sync(() => {
        for (const path of ["own/a", "own/old", "own/strange", "own/corrupt"]) {
          system.spawn(path, "keeper", { first: 7 });
          system.tell(path, { type: "keep", n: 5 } as Keep);
        }
      }).pipe(Effect.zipRight(Effect.sleep("200 millis"))),
    );
    const again = await life(options(), singleEngine, (system) => system.ask("own/a", { type: "read" }, 1_000));
    expect(again).toBe(5);
    await Effect.runPromise(
      Effect.gen(function* () {
        const sql = yield* SqlClient;
        yield* sql`UPDATE coroot_actor_state SET version = 1 WHERE path = 'own/old'`;
        yield* sql`UPDATE coroot_actor_state SET version = 9 WHERE path = 'own/strange'`;
        const bytes = encodeState(5);
        bytes[bytes.length - 1] = 6;
        yield* sql`UPDATE coroot_actor_state SET bytes = ${bytes} WHERE path = 'own/corrupt'`;
      }).pipe(Effect.provide(on(options()))) as Effect.Effect<void>,
    );
    const after = await life(options(), singleEngine, (system) =>
      Effect.forEach(["own/a", "own/old", "own/strange", "own/corrupt"], (path) =>
        system.ask(path, { type: "read" }, 1_000),
      ),
    );
    expect(after).toEqual([5, 50, 7, 7]);
    const aside = await Effect.runPromise(
      Effect.gen(function* () {
        const sql = yield* SqlClient;
        return yield* sql<{
          path: string;
          reason: string;
        }>`SELECT path, reason FROM coroot_actor_state_aside ORDER BY path`;
      }).pipe(Effect.provide(on(options()))) as Effect.Effect<readonly { path: string; reason: string }[]>,
    );
    expect(aside.map(({ path, reason }) => [path, reason])).toEqual([
      ["own/corrupt", "corrupt: the checksum does not fit"],
      ["own/strange", "a keeper's snapshot of version 9"],
    ]);
  });
};

describe("a state file", () => {
  const folder = mkdtempSync(join(tmpdir(), "coroot-state-"));
  const options: StateOptions = { kind: "file", path: join(folder, "state.db") };
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  suite(() => options);
  lives(() => options);

  it("runs the same actors on the test engine", async () => {
    const value = await life(
      { kind: "file", path: join(folder, "test.db") },
      testEngine as Layer.Layer<Engine, unknown, SqlClient>,
      (system) =>
        Effect.gen(function* () {
          system.spawn("own/a", "keeper", { first: 3 });
          return yield* system.ask("own/a", { type: "read" }, 1_000);
        }),
    );
    expect(value).toBe(3);
  });

  it("says where it looked when it cannot be used", async () => {
    const nowhere: StateOptions = { kind: "file", path: join(folder, "no/such/folder/state.db") };
    await expect(Effect.runPromise(Effect.scoped(Layer.build(stateDatabase(nowhere))))).rejects.toThrow(
      /The state database cannot be used \(.*no\/such\/folder\/state\.db\)/,
    );
  });
});

describeWith(["postgres"], "PostgreSQL", () => {
  let postgres: Postgres;
  beforeAll(async () => {
    postgres = await Postgres.start();
  });
  afterAll(() => postgres.stop());
  const options = (): StateOptions => ({ kind: "postgres", url: postgres.url, connections: 4 });

  it("may be prepared by two servers at once", async () => {
    const prepare = () => Effect.runPromise(Effect.scoped(Layer.build(on(options()))));
    await Promise.all([prepare(), prepare(), prepare()]);
  });
  suite(options);
  lives(options);

  it("is an error in time when it is away, and goes on when it is back, in the same process", () =>
    Effect.runPromise(
      Effect.gen(function* () {
        const owned = yield* OwnedState;
        const token = yield* owned.claim("away", "a");
        const writes = [{ part: "away", token, rows: [row("away/x", 1)], drops: [] }];
        yield* Effect.promise(() => postgres.kill());
        const error = yield* Effect.flip(owned.save(writes));
        expect(error.message).toContain("snapshots of part away");
        yield* Effect.promise(() => postgres.up());
        const saved = yield* Effect.promise(() =>
          until("a write after it is back", 20_000, () =>
            Effect.runPromise(owned.save(writes).pipe(Effect.orElseSucceed(() => undefined))),
          ),
        );
        expect(saved.size).toBe(0);
      }).pipe(Effect.provide(on(options()))) as Effect.Effect<void>,
    ));

  it("says which server it could not reach, and no password", async () => {
    const wrong: StateOptions = { kind: "postgres", url: "postgres://u:hunter2@127.0.0.1:1/db", connections: 4 };
    const failed = await Effect.runPromise(Effect.flip(Effect.scoped(Layer.build(stateDatabase(wrong)))));
    expect(failed.message).toContain("PostgreSQL at 127.0.0.1:1, database db");
    expect(failed.message).not.toContain("hunter2");
  });
});
