/**
 * The database of what the server owns: a libsql file beside the store, or PostgreSQL that several servers share. Owned
 * by the server's scope. A database that cannot be reached at the start is one clear error, and no start; later it is
 * waited for, and nothing hangs: every operation ends within `WITHIN`.
 */
import * as LibsqlClient from "@effect/sql-libsql/LibsqlClient";
import * as PgClient from "@effect/sql-pg/PgClient";
import { SqlClient } from "@effect/sql/SqlClient";
import { Cause, Data, Effect, Layer, Redacted } from "effect";
import { migrate } from "./migrations.ts";

const WITHIN = "5 seconds";
const START_WITHIN = "15 seconds";

export class StateError extends Data.TaggedError("StateError")<{
  readonly operation: string;
  readonly reason: string;
}> {
  override get message(): string {
    return `${this.operation}: ${this.reason}`;
  }
}

export type StateOptions =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "postgres"; readonly url: string; readonly connections: number };

/** The innermost text that a person can use. */
const reasonOf = (error: unknown): string => {
  const inner = error instanceof Error && error.cause !== undefined ? error.cause : error;
  if (!(inner instanceof Error)) return String(inner);
  const code = "code" in inner && typeof inner.code === "string" ? ` (${inner.code})` : "";
  return `${inner.message === "" ? inner.name : inner.message}${code}`;
};

/** What went wrong as a StateError, and never later than in five seconds. */
export const bounded =
  (operation: string) =>
  <A, R>(effect: Effect.Effect<A, unknown, R>): Effect.Effect<A, StateError, R> =>
    effect.pipe(
      Effect.mapError((error) => new StateError({ operation, reason: reasonOf(error) })),
      Effect.timeoutFail({
        duration: WITHIN,
        onTimeout: () => new StateError({ operation, reason: `no answer within ${WITHIN}` }),
      }),
    );

/** Without the password. */
const shownUrl = (url: string): string => {
  const { hostname, port, pathname } = new URL(url);
  return `PostgreSQL at ${hostname}:${port === "" ? "5432" : port}, database ${pathname.slice(1)}`;
};

const client = (options: StateOptions) =>
  options.kind === "file"
    ? LibsqlClient.layer({ url: `file:${options.path}`, intMode: "bigint" })
    : PgClient.layer({
        url: Redacted.make(options.url),
        maxConnections: options.connections,
        minConnections: 1,
        connectTimeout: "5 seconds",
        idleTimeout: "1 minute",
        applicationName: "coroot",
      });

const prepared = Layer.effectDiscard(
  Effect.gen(function* () {
    const sql = yield* SqlClient;
    // A write-ahead log with full synchronisation: what was answered survives the end of the process and of the machine.
    yield* sql.onDialectOrElse({
      sqlite: () => Effect.zipRight(sql`PRAGMA journal_mode = WAL`, sql`PRAGMA synchronous = FULL`),
      orElse: () => Effect.void,
    });
    yield* migrate;
  }),
);

/** Fails with StateError when the database cannot be reached or prepared. */
export const stateDatabase = (options: StateOptions): Layer.Layer<SqlClient, StateError> => {
  const where = options.kind === "file" ? options.path : shownUrl(options.url);
  const failed = (reason: string): StateError =>
    new StateError({ operation: `The state database cannot be used (${where})`, reason });
  return prepared.pipe(
    Layer.provideMerge(client(options)),
    // The driver throws where it cannot open its file, which is no defect of ours.
    Layer.catchAllCause((cause) => Layer.fail(failed(reasonOf(Cause.squash(cause))))),
    (layer) =>
      Layer.unwrapScoped(
        Layer.build(layer).pipe(
          Effect.map((context) => Layer.succeedContext(context)),
          Effect.timeoutFail({
            duration: START_WITHIN,
            onTimeout: () => failed(`no answer within ${START_WITHIN}`),
          }),
        ),
      ),
  );
};
