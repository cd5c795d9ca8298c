/**
 * Deletes the engine's processed messages, which it keeps for ever: a day after they were sent, with their replies, in
 * chunks. For that day a message that is sent again under its key is recognised. Runs beside everything else; a failure
 * is logged and the next round goes on. The tables are those of SqlMessageStorage of @effect/cluster.
 */
import * as MachineId from "@effect/cluster/MachineId";
import * as Snowflake from "@effect/cluster/Snowflake";
import { SqlClient } from "@effect/sql/SqlClient";
import { Clock, Effect, Metric } from "effect";
import { bounded, type StateError } from "./StateDatabase.ts";

const KEPT_MS = 24 * 3600 * 1000;
const CHUNK = 500;
const EVERY = "10 minutes";
const BETWEEN = "100 millis";

const deletedTotal = Metric.counter("coroot_state_messages_vacuumed_total", { incremental: true });

/** Messages deleted, all chunks together. */
export const vacuum: Effect.Effect<number, StateError, SqlClient> = Effect.gen(function* () {
  const sql = yield* SqlClient;
  const now = yield* Clock.currentTimeMillis;
  const before = Snowflake.make({ machineId: MachineId.make(0), sequence: 0, timestamp: now - KEPT_MS });
  const processed = sql.onDialectOrElse({ pg: () => sql`processed = TRUE`, orElse: () => sql`processed = 1` });
  let all = 0;
  for (;;) {
    const rows = yield* sql<{ id: bigint | string }>`
      SELECT id FROM cluster_messages WHERE ${processed} AND id < ${before} ORDER BY id LIMIT ${CHUNK}`.pipe(
      bounded("vacuum"),
    );
    if (rows.length === 0) return all;
    const ids = rows.map(({ id }) => BigInt(id));
    yield* sql
      .withTransaction(
        Effect.gen(function* () {
          yield* sql`UPDATE cluster_messages SET last_reply_id = NULL WHERE ${sql.in("id", ids)}`;
          yield* sql`DELETE FROM cluster_replies WHERE ${sql.in("request_id", ids)}`;
          yield* sql`DELETE FROM cluster_messages WHERE ${sql.in("id", ids)} OR ${sql.in("request_id", ids)}`;
        }),
      )
      .pipe(bounded("vacuum"));
    all += ids.length;
    deletedTotal.unsafeUpdate(ids.length, []);
    yield* Effect.sleep(BETWEEN);
  }
});

export const keepVacuuming: Effect.Effect<never, never, SqlClient> = Effect.sleep(EVERY).pipe(
  Effect.zipRight(vacuum),
  Effect.catchAll((error) => Effect.logWarning(`processed messages could not be deleted: ${error.message}`)),
  Effect.forever,
);
