/**
 * What actors own, in the state database: snapshots by part, claims with their fencing tokens, the replicas of this
 * deployment. Every operation ends in time, with StateError when the database does not answer; nothing is kept here.
 */
import { SqlClient } from "@effect/sql/SqlClient";
import { randomBytes } from "node:crypto";
import { Clock, Context, Effect, Layer } from "effect";
import { bounded, StateError } from "./StateDatabase.ts";

/** Snapshots of one path that could not be read: so many are kept. */
const ASIDE_KEPT = 20;
/** Entries of the audit log: the newest are kept. */
const AUDIT_KEPT = 10_000;
/** A replica that was not seen for this long is not listed. */
const REPLICA_GONE_MS = 60_000;

export interface StateRow {
  readonly path: string;
  readonly kind: string;
  readonly version: number;
  readonly at: number;
  /** of its start, encoded (codec.ts) */
  readonly argument: Uint8Array;
  /** its snapshot, encoded; null: it gave out none yet */
  readonly bytes: Uint8Array | null;
}

/** What is written of one part. */
export interface PartWrite {
  readonly part: string;
  /** of the claim that it is written under */
  readonly token: number;
  readonly rows: readonly StateRow[];
  /** paths of which nothing is to be left */
  readonly drops: readonly string[];
}

export interface SavedState extends StateRow {
  readonly part: string;
}

export interface ReplicaRow {
  readonly id: string;
  readonly name: string;
  readonly linkUrl: string;
  readonly engineHost: string;
  readonly enginePort: number;
  readonly version: string;
}

/** What an operator did, or tried to do. */
export interface AuditEntry {
  readonly at: number;
  readonly who: string;
  readonly action: string;
  readonly target: string;
  readonly outcome: string;
}

export interface OwnedStateShape {
  /** Raises the part's fencing token and gives it: whoever holds an older one writes nothing any more. */
  readonly claim: (part: string, owner: string) => Effect.Effect<number, StateError>;
  /** All snapshots of a part, by one query. */
  readonly load: (part: string) => Effect.Effect<readonly SavedState[], StateError>;
  /**
   * All or nothing in one transaction, which costs a write to the disk however many parts are in it; gives the parts of
   * which nothing was written, since their token is another one by now. A row without bytes keeps those there.
   */
  readonly save: (writes: readonly PartWrite[]) => Effect.Effect<ReadonlySet<string>, StateError>;
  /** Keeps what could not be read, for whoever looks into it; the newest 20 of each path. */
  readonly setAside: (saved: SavedState, reason: string) => Effect.Effect<void, StateError>;
  readonly replicas: {
    readonly register: (replica: ReplicaRow) => Effect.Effect<void, StateError>;
    readonly heartbeat: (id: string) => Effect.Effect<void, StateError>;
    readonly list: Effect.Effect<readonly ReplicaRow[], StateError>;
    readonly remove: (id: string) => Effect.Effect<void, StateError>;
  };
  readonly audit: {
    readonly add: (entry: AuditEntry) => Effect.Effect<void, StateError>;
    /** newest first */
    readonly recent: (limit: number) => Effect.Effect<readonly AuditEntry[], StateError>;
  };
  /** A secret that all replicas share; made by the first that asks. */
  readonly secret: (name: string) => Effect.Effect<string, StateError>;
}

export class OwnedState extends Context.Tag("runtime/cluster/state/OwnedState")<OwnedState, OwnedStateShape>() {}

const bytesOf = (value: unknown): Uint8Array | null => {
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  return value instanceof Uint8Array ? value : null;
};

const NONE = new Uint8Array(0);

interface StateColumns {
  readonly path: string;
  readonly part: string;
  readonly kind: string;
  readonly version: number | bigint;
  readonly at: number | bigint | string;
  readonly argument: unknown;
  readonly bytes: unknown;
}

const make = (partitions: number) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient;
    const shared = sql.onDialectOrElse({ pg: () => sql`FOR SHARE`, orElse: () => sql`` });

    /** The value that the first server recorded under this name. */
    const recorded = (name: string, value: string): Effect.Effect<string, StateError> =>
      Effect.gen(function* () {
        yield* sql`INSERT INTO coroot_deployment (name, value) VALUES (${name}, ${value}) ON CONFLICT (name) DO NOTHING`;
        const [row] = yield* sql<{ value: string }>`SELECT value FROM coroot_deployment WHERE name = ${name}`;
        return row?.value ?? value;
      }).pipe(bounded(`deployment value ${name}`));

    const known = yield* recorded("partitions", String(partitions));
    if (known !== String(partitions))
      return yield* new StateError({
        operation: "partitions",
        reason: `this deployment was started with ${known} partitions, expected by this server: ${partitions}. The number is fixed for a deployment's life`,
      });

    return OwnedState.of({
      claim: (part, owner) =>
        Effect.gen(function* () {
          const at = yield* Clock.currentTimeMillis;
          const [row] = yield* sql<{ token: number | bigint | string }>`
            INSERT INTO coroot_claims (part, token, owner, at) VALUES (${part}, 1, ${owner}, ${at})
            ON CONFLICT (part) DO UPDATE SET token = coroot_claims.token + 1, owner = ${owner}, at = ${at}
            RETURNING token`;
          return Number(row?.token);
        }).pipe(bounded(`claim of part ${part}`)),

      load: (part) =>
        sql<StateColumns>`
          SELECT path, part, kind, version, at, argument, bytes FROM coroot_actor_state WHERE part = ${part}`.pipe(
          Effect.map((rows) =>
            rows.map(
              (row): SavedState => ({
                path: row.path,
                part: row.part,
                kind: row.kind,
                version: Number(row.version),
                at: Number(row.at),
                argument: bytesOf(row.argument) ?? NONE,
                bytes: bytesOf(row.bytes),
              }),
            ),
          ),
          bounded(`snapshots of part ${part}`),
        ),

      save: (writes) =>
        sql
          .withTransaction(
            Effect.gen(function* () {
              const names = writes.map(({ part }) => part);
              const claims = yield* sql<{ part: string; token: number | bigint | string }>`
                SELECT part, token FROM coroot_claims WHERE ${sql.in("part", names)} ORDER BY part ${shared}`;
              const tokens = new Map(claims.map(({ part, token }) => [part, Number(token)]));
              const ours = writes.filter(({ part, token }) => tokens.get(part) === token);
              const values = ours.flatMap(({ part, rows }) =>
                rows.map(({ path, kind, version, at, argument, bytes }) => {
                  return { path, part, kind, version, at, argument, bytes };
                }),
              );
              const drops = ours.flatMap((write) => write.drops);
              if (values.length > 0) {
                yield* sql`
                  INSERT INTO coroot_actor_state ${sql.insert(values)}
                  ON CONFLICT (path) DO UPDATE SET part = excluded.part, kind = excluded.kind,
                    argument = excluded.argument, at = excluded.at,
                    version = CASE WHEN excluded.bytes IS NULL THEN coroot_actor_state.version ELSE excluded.version END,
                    bytes = COALESCE(excluded.bytes, coroot_actor_state.bytes)`;
              }
              if (drops.length > 0) yield* sql`DELETE FROM coroot_actor_state WHERE ${sql.in("path", drops)}`;
              return new Set(names.filter((part) => !ours.some((one) => one.part === part)));
            }),
          )
          .pipe(bounded(`snapshots of ${writes.length === 1 ? `part ${writes[0]?.part}` : `${writes.length} parts`}`)),

      setAside: ({ path, part, kind, version, at, bytes }, reason) =>
        Effect.gen(function* () {
          const now = yield* Clock.currentTimeMillis;
          yield* sql`
            INSERT INTO coroot_actor_state_aside (path, part, kind, version, at, aside_at, reason, bytes)
            VALUES (${path}, ${part}, ${kind}, ${version}, ${at}, ${now}, ${reason}, ${bytes})
            ON CONFLICT (path, aside_at) DO NOTHING`;
          yield* sql`
            DELETE FROM coroot_actor_state_aside WHERE path = ${path} AND aside_at NOT IN (
              SELECT aside_at FROM coroot_actor_state_aside WHERE path = ${path}
              ORDER BY aside_at DESC LIMIT ${ASIDE_KEPT})`;
          yield* sql`UPDATE coroot_actor_state SET bytes = NULL, version = 0 WHERE path = ${path} AND part = ${part}`;
        }).pipe(bounded(`snapshot of ${path}`)),

      replicas: {
        register: ({ id, name, linkUrl, engineHost, enginePort, version }) =>
          Effect.gen(function* () {
            const now = yield* Clock.currentTimeMillis;
            // Whoever listened there before is gone.
            yield* sql`DELETE FROM coroot_replicas WHERE link_url = ${linkUrl} OR seen_at < ${now - 86_400_000}`;
            yield* sql`
              INSERT INTO coroot_replicas (id, name, link_url, engine_host, engine_port, version, started_at, seen_at)
              VALUES (${id}, ${name}, ${linkUrl}, ${engineHost}, ${enginePort}, ${version}, ${now}, ${now})
              ON CONFLICT (id) DO UPDATE SET link_url = ${linkUrl}, seen_at = ${now}`;
          }).pipe(bounded("list of replicas")),
        heartbeat: (id) =>
          Effect.gen(function* () {
            const now = yield* Clock.currentTimeMillis;
            yield* sql`UPDATE coroot_replicas SET seen_at = ${now} WHERE id = ${id}`;
          }).pipe(bounded("heartbeat")),
        list: Effect.gen(function* () {
          const rows = yield* sql<{
            id: string;
            name: string;
            link_url: string;
            engine_host: string;
            engine_port: number | bigint;
            version: string;
            seen_at: number | bigint | string;
          }>`SELECT * FROM coroot_replicas`;
          // Compared among themselves: the clocks of replicas differ.
          const newest = Math.max(...rows.map((row) => Number(row.seen_at)));
          return rows
            .filter((row) => newest - Number(row.seen_at) < REPLICA_GONE_MS)
            .map(
              (row): ReplicaRow => ({
                id: row.id,
                name: row.name,
                linkUrl: row.link_url,
                engineHost: row.engine_host,
                enginePort: Number(row.engine_port),
                version: row.version,
              }),
            );
        }).pipe(bounded("list of replicas")),
        remove: (id) =>
          sql`DELETE FROM coroot_replicas WHERE id = ${id}`.pipe(Effect.asVoid, bounded("list of replicas")),
      },

      audit: {
        add: ({ at, who, action, target, outcome }) =>
          Effect.gen(function* () {
            const id = `${at.toString(36)}-${randomBytes(6).toString("base64url")}`;
            yield* sql`
              INSERT INTO coroot_audit (id, at, who, action, target, outcome)
              VALUES (${id}, ${at}, ${who}, ${action}, ${target}, ${outcome})`;
            yield* sql`
              DELETE FROM coroot_audit WHERE id IN (
                SELECT id FROM coroot_audit ORDER BY at DESC LIMIT 100 OFFSET ${AUDIT_KEPT})`;
          }).pipe(bounded("audit log")),
        recent: (limit) =>
          sql<Omit<AuditEntry, "at"> & { readonly at: number | bigint | string }>`
            SELECT at, who, action, target, outcome FROM coroot_audit ORDER BY at DESC LIMIT ${limit}`.pipe(
            Effect.map((rows) => rows.map((row): AuditEntry => ({ ...row, at: Number(row.at) }))),
            bounded("audit log"),
          ),
      },

      secret: (name) => recorded(`secret:${name}`, randomBytes(32).toString("base64url")),
    });
  });

/** Fails when the deployment was started with another number of partitions. */
export const ownedState = (partitions: number): Layer.Layer<OwnedState, StateError, SqlClient> =>
  Layer.effect(OwnedState, make(partitions));
