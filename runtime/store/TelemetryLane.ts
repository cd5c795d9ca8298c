/**
 * Writer of what others send (OpenTelemetry, profiles): merges requests into at most one insert per table and second, each table
 * on its own fiber, and completes each write when its rows are on disk. Owned by Writer. Bounded in bytes: when full, a
 * write fails as behind, so that its sender comes again; nothing taken is ever dropped. The store is asked for a batch
 * before its first insert (it may be a re-send, also after another server took it); a failed insert is repeated with the
 * same rows and token, by which table and views recognise it, and looked at afterwards. Stops by interruption: what is
 * not completed is not acknowledged and comes again.
 */
import { createHash } from "node:crypto";
import { Clock, Data, Deferred, Effect, FiberId, Queue, type Scope } from "effect";
import type { TelemetryTable } from "../../schemas/tables.ts";
import { insertMissing, type DayPart } from "./presence.ts";
import { untilStored } from "./retry.ts";
import { WRONG_ROWS } from "./RowsLane.ts";
import { columnsOf } from "./rows.ts";
import type { StoreError, StoreShape } from "./Store.ts";

export interface TelemetryBatch {
  readonly table: TelemetryTable;
  /** stands in each row; the same id always stands for the same rows */
  readonly id: bigint;
  /** rows in RowBinary, columns as the table has them, by day number since 1970 */
  readonly days: ReadonlyMap<number, Buffer>;
  readonly rows: number;
  readonly fromMs: number;
  readonly toMs: number;
  /** what the rows refer to: on disk before them. May be stored twice, so its table makes one of equal rows. */
  readonly before?: Before;
}

export interface Before {
  readonly table: "profile_stacks";
  /** in RowBinary, columns as the table has them */
  readonly rows: Buffer;
  /** called each time that the rows are on disk */
  readonly stored: () => void;
}

/** The lane is full: nothing of the batch was taken. */
export class TelemetryBehind extends Data.TaggedError("TelemetryBehind")<{ readonly queuedBytes: number }> {
  override get message(): string {
    return `the store is behind: ${this.queuedBytes} bytes wait for it`;
  }
}

/** The store said several times that the rows are wrong: they are not stored. */
export class TelemetryRefused extends Data.TaggedError("TelemetryRefused")<{ readonly reason: string }> {
  override get message(): string {
    return `the store refuses the rows: ${this.reason}`;
  }
}

export interface TelemetryStats {
  readonly queuedBytes: number;
  readonly queuedRows: number;
  readonly queuedBatches: number;
  readonly inserts: number;
  readonly insertedRows: number;
  readonly retries: number;
  /** batches that came again, or that the store had already */
  readonly repeated: number;
  /** batches that were not taken because the lane was full */
  readonly behind: number;
  /** rows that the store refused as wrong; their senders were told */
  readonly refusedRows: number;
  readonly lastError: string;
}

export interface TelemetryLane {
  /** Completes when the rows are on disk. The same batch twice is stored once. */
  readonly write: (batch: TelemetryBatch) => Effect.Effect<void, TelemetryBehind | TelemetryRefused>;
  readonly stats: () => TelemetryStats;
}

export interface TelemetryConfig {
  readonly maxBytes: number;
}

const INTERVAL_MS = 1_000;
/** Requests that arrive within this time of the first share its insert. */
const GATHER_MS = 50;
/** Both below the engine's block (1,048,449 rows, 256 MiB in memory), so that an insert is one part per day. */
const MAX_GROUP_ROWS = 1_000_000;
const MAX_GROUP_BYTES = 32 * 1024 * 1024;
const ENTRY_BYTES = 512;
const REFUSED_AFTER = 4;
/** Batches that are known to be stored, so that a re-send is answered at once. */
const MAX_KNOWN = 100_000;
const TABLES: readonly TelemetryTable[] = ["spans", "logs", "profile_samples"];

interface Entry {
  readonly batch: TelemetryBatch;
  readonly key: string;
  readonly bytes: number;
  readonly done: Deferred.Deferred<void, TelemetryRefused>;
}

/** One insert: settled when the store was asked, and from then on repeated as it is. */
interface Block {
  readonly token: string;
  readonly parts: readonly DayPart[];
}

interface TableQueue {
  readonly table: TelemetryTable;
  readonly entries: Entry[];
  readonly wake: Queue.Queue<void>;
}

const partKey = (id: bigint | string, day: number): string => `${id}:${day}`;

const partsOf = (group: readonly Entry[]): readonly DayPart[] =>
  group.flatMap(({ batch }) => [...batch.days].map(([day, rows]) => ({ key: partKey(batch.id, day), rows })));

/** The token of an insert of exactly these parts, in whatever order they arrived. */
const blockOf = (parts: readonly DayPart[], suffix = ""): Block => {
  const keys = parts.map(({ key }) => key).sort();
  return {
    token: `${createHash("sha256").update(keys.join(",")).digest("hex")}${suffix}`,
    parts,
  };
};

/** Which days of the batches the store has. */
const presentParts = (
  store: StoreShape,
  table: TelemetryTable,
  group: readonly Entry[],
): Effect.Effect<ReadonlySet<string>, StoreError> => {
  const from = group.reduce((least, { batch }) => Math.min(least, batch.fromMs), Number.POSITIVE_INFINITY);
  const to = group.reduce((most, { batch }) => Math.max(most, batch.toMs), 0);
  return store
    .query<{ id: string; day: number }>(
      `SELECT DISTINCT toString(batch) AS id, toUInt32(toDate(ts)) AS day FROM ${store.database}.${table}
       WHERE ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND ts <= fromUnixTimestamp64Milli({to:Int64}, 'UTC')
         AND batch IN ({batches:Array(UInt64)})`,
      { from: Math.floor(from), to: Math.ceil(to) + 1, batches: group.map(({ batch }) => batch.id) },
      { seconds: 60, rows: 1_000_000 },
    )
    .pipe(Effect.map((rows) => new Set(rows.map(({ id, day }) => partKey(id, day)))));
};

const takeGroup = (entries: Entry[]): readonly Entry[] => {
  let rows = 0;
  let bytes = 0;
  let end = 0;
  for (const entry of entries) {
    rows += entry.batch.rows;
    bytes += entry.bytes;
    if (end > 0 && (rows > MAX_GROUP_ROWS || bytes > MAX_GROUP_BYTES)) break;
    end++;
  }
  return entries.splice(0, end);
};

export const makeTelemetryLane = (
  store: StoreShape,
  config: TelemetryConfig,
): Effect.Effect<TelemetryLane, never, Scope.Scope> =>
  Effect.gen(function* () {
    const queues = new Map<TelemetryTable, TableQueue>();
    for (const table of TABLES) queues.set(table, { table, entries: [], wake: yield* Queue.sliding<void>(1) });
    const pending = new Map<string, Entry>();
    const known = new Set<string>();
    const counts = {
      bytes: 0,
      rows: 0,
      inserts: 0,
      insertedRows: 0,
      retries: 0,
      repeated: 0,
      behind: 0,
      refusedRows: 0,
    };
    let lastError = "";
    /** the failure that was told last: one that repeats is told once */
    let told = "";

    const insert = (table: TelemetryTable, { parts, token }: Block) => {
      if (parts.length === 0) return Effect.void;
      const bytes = parts.map(({ rows }) => rows);
      return store
        .insert(table, { format: "RowBinary", columns: columnsOf(table), bytes }, token)
        .pipe(Effect.tap(() => Effect.sync(() => counts.inserts++)));
    };

    /** Again before each attempt: between two of them the store may have lost what it had. */
    const insertBefore = (group: readonly Entry[], { parts, token }: Block, attempt: number) =>
      Effect.gen(function* () {
        const keys = new Set(parts.map(({ key }) => key));
        const all = group.flatMap(({ batch }) =>
          batch.before !== undefined && [...batch.days.keys()].some((day) => keys.has(partKey(batch.id, day)))
            ? [batch.before]
            : [],
        );
        const [first] = all;
        if (first === undefined) return;
        const body = {
          format: "RowBinary",
          columns: columnsOf(first.table),
          bytes: all.map(({ rows }) => rows),
        } as const;
        yield* store.insert(first.table, body, `${token}-before-${attempt}`);
        for (const { stored } of all) stored();
      });

    const committing = (table: TelemetryTable, group: readonly Entry[]) => {
      let block: Block | null = null;
      let tried = false;
      return (attempt: number): Effect.Effect<void, StoreError> =>
        Effect.gen(function* () {
          if (block === null) {
            const present = yield* presentParts(store, table, group);
            block = blockOf(partsOf(group).filter(({ key }) => !present.has(key)));
            counts.repeated += group.filter(({ batch }) =>
              [...batch.days.keys()].some((day) => present.has(partKey(batch.id, day))),
            ).length;
          }
          const again = tried;
          tried = true;
          yield* insertBefore(group, block, attempt);
          yield* insert(table, block);
          // the token alone is not believed: a store that died may have kept it without the rows
          if (again)
            yield* insertMissing(block.parts, presentParts(store, table, group), (missing) =>
              insert(table, blockOf(missing, `-${attempt}`)),
            );
        });
    };

    const failed = (group: readonly Entry[]) => (error: StoreError, attempt: number) =>
      Effect.gen(function* () {
        counts.retries++;
        const wrong = error.code !== null && WRONG_ROWS.has(error.code) && attempt + 1 >= REFUSED_AFTER;
        const kind = error.code === null ? error.message : `${error.code}`;
        if (wrong || told !== kind)
          yield* Effect.logWarning(wrong ? "the store refuses telemetry" : "telemetry is not stored yet", {
            requests: group.length,
            reason: error.message,
          });
        told = kind;
        lastError = error.message;
        return wrong ? ("stop" as const) : ("again" as const);
      });

    const forget = ({ key, bytes, batch }: Entry): void => {
      counts.bytes -= bytes;
      counts.rows -= batch.rows;
      pending.delete(key);
    };

    const release = (group: readonly Entry[]) =>
      Effect.gen(function* () {
        for (const entry of group) {
          forget(entry);
          counts.insertedRows += entry.batch.rows;
          known.add(entry.key);
          yield* Deferred.succeed(entry.done, undefined);
        }
        for (const key of known) {
          if (known.size <= MAX_KNOWN) break;
          known.delete(key);
        }
      });

    const refuse = (group: readonly Entry[], reason: string) =>
      Effect.forEach(
        group,
        (entry) => {
          forget(entry);
          counts.refusedRows += entry.batch.rows;
          return Deferred.fail(entry.done, new TelemetryRefused({ reason }));
        },
        { discard: true },
      );

    const round = ({ table, entries, wake }: TableQueue) => {
      const one = (lastStart: number) =>
        Effect.gen(function* () {
          if (entries.length === 0) yield* Queue.take(wake);
          const now = yield* Clock.currentTimeMillis;
          yield* Effect.sleep(Math.max(GATHER_MS, lastStart + INTERVAL_MS - now));
          const start = yield* Clock.currentTimeMillis;
          const group = takeGroup(entries);
          if (group.length === 0) return lastStart;
          let stored = false;
          const commit = committing(table, group);
          yield* untilStored(
            store,
            (attempt) => Effect.tap(commit(attempt), () => Effect.sync(() => (stored = true))),
            failed(group),
          );
          if (!stored) yield* refuse(group, lastError);
          else {
            told = lastError = "";
            yield* release(group);
          }
          return start;
        });
      return Effect.iterate(0, { while: () => true, body: one });
    };

    for (const queue of queues.values()) yield* Effect.forkScoped(round(queue));
    yield* Effect.addFinalizer(() =>
      Effect.forEach(pending.values(), ({ done }) => Deferred.interrupt(done), { discard: true }),
    );

    const enqueue = (batch: TelemetryBatch, key: string, bytes: number): Entry => {
      const entry: Entry = { batch, key, bytes, done: Deferred.unsafeMake<void, TelemetryRefused>(FiberId.none) };
      counts.bytes += bytes;
      counts.rows += batch.rows;
      pending.set(key, entry);
      queues.get(batch.table)?.entries.push(entry);
      return entry;
    };

    return {
      write: (batch) =>
        Effect.suspend((): Effect.Effect<void, TelemetryBehind | TelemetryRefused> => {
          const key = `${batch.table}:${batch.id}`;
          if (known.has(key) || pending.has(key)) counts.repeated++;
          if (known.has(key)) return Effect.void;
          const waiting = pending.get(key);
          if (waiting !== undefined) return Deferred.await(waiting.done);
          let bytes = ENTRY_BYTES;
          for (const rows of batch.days.values()) bytes += rows.length;
          bytes += batch.before?.rows.length ?? 0;
          // an empty lane takes one batch of any size, or that one would never be taken
          if (counts.bytes > 0 && counts.bytes + bytes > config.maxBytes) {
            counts.behind++;
            return Effect.fail(new TelemetryBehind({ queuedBytes: counts.bytes }));
          }
          const entry = enqueue(batch, key, bytes);
          const wake = queues.get(batch.table)?.wake;
          return Effect.zipRight(
            wake === undefined ? Effect.void : Queue.offer(wake, undefined),
            Deferred.await(entry.done),
          );
        }),
      stats: () => ({
        queuedBytes: counts.bytes,
        queuedRows: counts.rows,
        queuedBatches: pending.size,
        inserts: counts.inserts,
        insertedRows: counts.insertedRows,
        retries: counts.retries,
        repeated: counts.repeated,
        behind: counts.behind,
        refusedRows: counts.refusedRows,
        lastError,
      }),
    };
  });
