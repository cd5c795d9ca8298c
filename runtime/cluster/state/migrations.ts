/**
 * The schema of the state database, one for both engines, and how it came to be: numbered steps, each run once, one
 * server at a time. Steps that have been released never change; a new one is added at the end.
 */
import { SqlClient } from "@effect/sql/SqlClient";
import type { SqlError } from "@effect/sql/SqlError";
import { Effect } from "effect";

/** Any number that nobody else locks: "coroot" in ASCII, shortened. */
const LOCK = 0x636f726f;

interface Step {
  readonly id: number;
  readonly statements: (bytes: string) => readonly string[];
}

const STEPS: readonly Step[] = [
  {
    id: 1,
    statements: (bytes) => [
      "CREATE TABLE coroot_deployment (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
      `CREATE TABLE coroot_claims (
        part TEXT PRIMARY KEY, token BIGINT NOT NULL, owner TEXT NOT NULL, at BIGINT NOT NULL)`,
      `CREATE TABLE coroot_actor_state (
        path TEXT PRIMARY KEY, part TEXT NOT NULL, kind TEXT NOT NULL, version INTEGER NOT NULL, at BIGINT NOT NULL,
        argument ${bytes} NOT NULL, bytes ${bytes})`,
      "CREATE INDEX coroot_actor_state_part ON coroot_actor_state (part)",
      `CREATE TABLE coroot_actor_state_aside (
        path TEXT NOT NULL, part TEXT NOT NULL, kind TEXT NOT NULL, version INTEGER NOT NULL, at BIGINT NOT NULL,
        aside_at BIGINT NOT NULL, reason TEXT NOT NULL, bytes ${bytes}, PRIMARY KEY (path, aside_at))`,
      `CREATE TABLE coroot_replicas (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, link_url TEXT NOT NULL, engine_host TEXT NOT NULL,
        engine_port INTEGER NOT NULL, version TEXT NOT NULL, started_at BIGINT NOT NULL, seen_at BIGINT NOT NULL)`,
      `CREATE TABLE coroot_audit (
        id TEXT PRIMARY KEY, at BIGINT NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL, target TEXT NOT NULL,
        outcome TEXT NOT NULL)`,
      "CREATE INDEX coroot_audit_at ON coroot_audit (at)",
    ],
  },
];

/** Safe to run by several servers at once: the second waits for the first and finds the work done. */
export const migrate: Effect.Effect<void, SqlError, SqlClient> = Effect.gen(function* () {
  const sql = yield* SqlClient;
  const bytes = sql.onDialectOrElse({ pg: () => "BYTEA", orElse: () => "BLOB" });
  const lock = sql.onDialectOrElse({
    pg: () => Effect.asVoid(sql`SELECT pg_advisory_xact_lock(${LOCK})`),
    orElse: () => Effect.void,
  });
  yield* sql.withTransaction(
    Effect.gen(function* () {
      yield* lock;
      yield* sql`CREATE TABLE IF NOT EXISTS coroot_migrations (id INTEGER PRIMARY KEY)`;
      const rows = yield* sql<{ id: number | bigint }>`SELECT id FROM coroot_migrations`;
      const done = new Set(rows.map(({ id }) => Number(id)));
      for (const { id, statements } of STEPS) {
        if (done.has(id)) continue;
        for (const statement of statements(bytes)) yield* sql.unsafe(statement);
        yield* sql`INSERT INTO coroot_migrations (id) VALUES (${id})`;
      }
    }),
  );
});
