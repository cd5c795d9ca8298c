/**
 * Writer of the server's own rows (minutes, points, events, incidents): collects them and inserts once a second and
 * table, each table on its own fiber so that one cannot hold up the others. Owned by Writer. Bounded in bytes; since the
 * rows are derived, the oldest go first when it is full, with a count. A failed insert is repeated with the same token; a
 * group that the store refuses as wrong is dropped with a count. At stop it tries once more to write what is queued.
 */
import { Clock, Effect, Queue, type Scope } from "effect";
import { TABLES, type DerivedRow, type DerivedTable } from "../../schemas/tables.ts";
import { untilStored } from "./retry.ts";
import { columnsOf, rowLine } from "./rows.ts";
import type { StoreError, StoreShape } from "./Store.ts";

export interface RowsStats {
  readonly queuedBytes: number;
  readonly queuedRows: number;
  readonly inserts: number;
  readonly retries: number;
  /** rows lost because the queue was full while the store was down or slow */
  readonly dropped: number;
  /** rows lost because the store refused them as wrong */
  readonly rejected: number;
  readonly lastError: string;
}

export interface RowsLane {
  /** Queues; completes at once. */
  readonly write: <T extends DerivedTable>(table: T, rows: readonly DerivedRow[T][]) => Effect.Effect<void>;
  readonly stats: () => RowsStats;
}

export interface RowsConfig {
  readonly maxBytes: number;
  /** differs for every life of the server: part of the tokens */
  readonly life: string;
}

const INTERVAL_MS = 1_000;
const MAX_GROUP_BYTES = 8 * 1024 * 1024;
const REFUSED_AFTER = 4;
/** Codes that say "these rows are wrong" and will say so again. */
export const WRONG_ROWS: ReadonlySet<number> = new Set([
  6, 16, 26, 27, 32, 33, 38, 41, 53, 69, 70, 72, 117, 130, 190, 252,
]);
const LAST_TRY = "3 seconds";

interface Group {
  readonly lines: readonly string[];
  readonly token: string;
}

interface TableQueue {
  readonly table: DerivedTable;
  readonly lines: string[];
  /** taken from the queue and not stored yet: repeated as it is, since its token stands for exactly these lines */
  current: Group | null;
  number: number;
  readonly wake: Queue.Queue<void>;
}

const derived: readonly DerivedTable[] = [
  "sli_minutes",
  "edge_minutes",
  "sli_points",
  "events",
  "incidents",
  "map_edges",
];

export const makeRowsLane = (store: StoreShape, config: RowsConfig): Effect.Effect<RowsLane, never, Scope.Scope> =>
  Effect.gen(function* () {
    const counts = { bytes: 0, rows: 0, inserts: 0, retries: 0, dropped: 0, rejected: 0 };
    let lastError = "";

    const queues = new Map<DerivedTable, TableQueue>();
    for (const table of derived)
      queues.set(table, { table, lines: [], current: null, number: 0, wake: yield* Queue.sliding<void>(1) });

    const forget = (lines: readonly string[]): void => {
      counts.rows -= lines.length;
      for (const line of lines) counts.bytes -= line.length;
    };

    const takeGroup = (queue: TableQueue): Group | null => {
      let bytes = 0;
      const end = queue.lines.findIndex((line) => (bytes += line.length) > MAX_GROUP_BYTES);
      const lines = queue.lines.splice(0, end < 0 ? queue.lines.length : Math.max(1, end));
      if (lines.length === 0) return null;
      return { lines, token: `${config.life}-${TABLES[queue.table].name}-${++queue.number}` };
    };

    const insert = (queue: TableQueue, { lines, token }: Group) =>
      store
        .insert(
          queue.table,
          { format: "JSONEachRow", columns: columnsOf(queue.table), bytes: Buffer.from(lines.join("\n")) },
          token,
        )
        .pipe(Effect.tap(() => Effect.sync(() => counts.inserts++)));

    const failed = (lines: readonly string[]) => (error: StoreError, attempt: number) =>
      Effect.gen(function* () {
        counts.retries++;
        const wrong = error.code !== null && WRONG_ROWS.has(error.code) && attempt + 1 >= REFUSED_AFTER;
        if (wrong) counts.rejected += lines.length;
        if (wrong || lastError !== error.message)
          yield* Effect.logWarning(wrong ? "the store refuses rows" : "rows are not stored yet", {
            rows: lines.length,
            reason: error.message,
          });
        lastError = error.message;
        return wrong ? ("stop" as const) : ("again" as const);
      });

    const round = (queue: TableQueue) =>
      Effect.gen(function* () {
        if (queue.lines.length === 0) yield* Queue.take(queue.wake);
        yield* Effect.sleep(INTERVAL_MS);
        const group = takeGroup(queue);
        if (group === null) return;
        queue.current = group;
        yield* untilStored(store, () => insert(queue, group), failed(group.lines));
        queue.current = null;
        forget(group.lines);
      });

    const lastTry = (queue: TableQueue) =>
      Effect.gen(function* () {
        if (queue.current !== null) yield* insert(queue, queue.current);
        const rest = takeGroup(queue);
        if (rest !== null) yield* insert(queue, rest);
      });
    yield* Effect.addFinalizer(() =>
      Effect.interruptible(Effect.forEach(queues.values(), lastTry, { concurrency: "unbounded", discard: true })).pipe(
        Effect.timeout(LAST_TRY),
        Effect.catchAll((error) =>
          Effect.logWarning("rows were not stored at stop", { rows: counts.rows, reason: error.message }),
        ),
      ),
    );
    for (const queue of queues.values()) yield* Effect.forever(round(queue)).pipe(Effect.forkScoped);

    const dropOldest = (queue: TableQueue): void => {
      let count = 0;
      let excess = counts.bytes - config.maxBytes;
      while (excess > 0 && count < queue.lines.length) excess -= queue.lines[count++]?.length ?? 0;
      forget(queue.lines.splice(0, count));
      counts.dropped += count;
    };

    return {
      write: (table, rows) =>
        Effect.gen(function* () {
          const queue = queues.get(table);
          if (queue === undefined || rows.length === 0) return;
          for (const row of rows) {
            const line = rowLine(table, row);
            queue.lines.push(line);
            counts.rows++;
            counts.bytes += line.length;
          }
          if (counts.bytes > config.maxBytes) dropOldest(queue);
          yield* Queue.offer(queue.wake, undefined);
        }),
      stats: () => ({
        queuedBytes: counts.bytes,
        queuedRows: counts.rows,
        inserts: counts.inserts,
        retries: counts.retries,
        dropped: counts.dropped,
        rejected: counts.rejected,
        lastError,
      }),
    } satisfies RowsLane;
  });

/** A text that differs for every life of the server. */
export const newLife: Effect.Effect<string> = Effect.map(
  Clock.currentTimeNanos,
  (nanos) => `${process.pid}-${nanos.toString(36)}`,
);
