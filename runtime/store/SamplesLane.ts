/**
 * The store lane's writer: merges the batches of many agents into at most one insert a second and completes each batch
 * when its rows are on disk. Owned by Writer. Bounded in bytes: when full, `write` waits and `ready` turns false, so that
 * sessions withhold credit; nothing taken is ever dropped. After a failure the store is asked what it has and gets the
 * rest with the same token, which meets an insert that is still under way; then it is asked again, and what its token
 * hid goes with another one. So every batch is stored once, also by a store that was replaced or lost its memory of
 * tokens. Stops by interruption: batches not completed are not acknowledged and come again from the agents.
 */
import { Clock, Deferred, Effect, FiberId, Queue, type Scope } from "effect";
import { retentionDays, type Retention } from "../../schemas/tables.ts";
import { ABSENT, Keys64 } from "../Keys64.ts";
import {
  batchKey,
  encodeBatch,
  groupToken,
  ROW_BYTES,
  SAMPLE_COLUMNS,
  sourceOf,
  type EncodedBatch,
  type SeriesSet,
  type StoreBatch,
} from "./batch.ts";
import { fingerprintText } from "./fingerprint.ts";
import { KnownSeries } from "./KnownSeries.ts";
import { dayKey, insertMissing, presentDays, reservedSequences, type DayPart, knownCalls } from "./presence.ts";
import { untilStored } from "./retry.ts";
import { columnsOf } from "./rows.ts";
import type { StoreError, StoreShape } from "./Store.ts";

export interface SamplesStats {
  readonly queuedBytes: number;
  readonly queuedRows: number;
  readonly queuedBatches: number;
  readonly inserts: number;
  readonly insertedRows: number;
  readonly retries: number;
  /** batches that the store had already */
  readonly repeated: number;
  /** rows outside the retention or without a valid time; acknowledged, not stored */
  readonly refusedRows: number;
  readonly lastError: string;
}

export interface SamplesLane {
  readonly write: (batch: StoreBatch) => Effect.Effect<void>;
  readonly ready: () => boolean;
  readonly stats: () => SamplesStats;
}

export interface SamplesConfig {
  readonly maxBytes: number;
  readonly retention?: Retention;
}

const INTERVAL_MS = 1_000;
/** Batches that arrive within this time of the first share its insert. */
const GATHER_MS = 50;
/** Below the engine's block of 1,048,449 rows, so that an insert is one part per day. */
const MAX_GROUP_ROWS = 1_000_000;
const RESERVE = 256;
const MAX_SEQUENCE = 0xffffffff;
const ENTRY_BYTES = 512;
const AHEAD_MS = 3_600_000;
const DAY_MS = 86_400_000;
const MAX_SOURCES = 20_000;
const REFRESH_SERIES_S = 6 * 3_600;
/** Some milliseconds. */
const SERIES_AT_ONCE = 2_000;
/** Of one insert. */
const SERIES_BYTES = 8 * 1024 * 1024;
const NEWLINE = Buffer.from("\n");

/** One life of an agent, or one call. */
interface Source {
  readonly id: bigint;
  connection: number | null;
  /** the store was asked since the last new connection */
  asked: boolean;
  /** batches up to this one may be in the store */
  ceiling: number;
  /** written ahead in the store: it says so for every batch up to this one */
  reserved: number;
}

interface Entry {
  readonly batch: EncodedBatch;
  readonly source: Source;
  readonly bytes: number;
  readonly done: Deferred.Deferred<void>;
}

const jsonLines = (rows: readonly object[]): Buffer => Buffer.from(rows.map((row) => JSON.stringify(row)).join("\n"));

const partsOf = (group: readonly Entry[]): readonly DayPart[] =>
  group.flatMap(({ batch }) =>
    [...batch.days].map(([day, rows]) => ({ key: dayKey(batch.source, batch.sequence, day), rows })),
  );

/** Forgets the oldest of a map that grew beyond its bound; what is forgotten is only asked or written again. */
const trim = (map: Map<string, unknown>, most: number): void => {
  for (const key of map.keys()) {
    if (map.size <= most) return;
    map.delete(key);
  }
};

const idsOf = (sources: readonly Source[]): readonly bigint[] => sources.map(({ id }) => id);
const batchesOf = (group: readonly Entry[]): readonly EncodedBatch[] => group.map(({ batch }) => batch);

const takeGroup = (queue: Entry[]): readonly Entry[] => {
  let rows = 0;
  let count = 0;
  for (const { batch } of queue) {
    if (count > 0 && rows + batch.rows > MAX_GROUP_ROWS) break;
    rows += batch.rows;
    count++;
  }
  return queue.splice(0, count);
};

/** Of one batch. */
interface NewSeries {
  readonly set: SeriesSet;
  readonly places: readonly number[];
}

/** Series of a group that the store has not been told of lately, in pieces. */
const newSeries = (group: readonly Entry[], told: KnownSeries, second: number): readonly NewSeries[] => {
  const found: NewSeries[] = [];
  const here = new Keys64();
  for (const { batch } of group) {
    const { series: set, index } = batch;
    let places: number[] = [];
    let last = -1;
    for (const place of index) {
      if (place === last || place >= set.size) continue;
      last = place;
      const low = set.low(place);
      const high = set.high(place);
      if (second - told.at(low, high) <= REFRESH_SERIES_S || here.get(low, high) !== ABSENT) continue;
      here.set(low, high, 0);
      if (places.length === 0) found.push({ set, places });
      if (places.push(place) === SERIES_AT_ONCE) places = [];
    }
  }
  return found;
};

const seriesRow = (set: SeriesSet, place: number, at: number): readonly object[] => {
  const one = set.at(place);
  if (one === undefined) return [];
  const { fingerprint, key, name, labels } = one;
  return [{ fp: key ?? fingerprintText(fingerprint), name, labels, first_seen: at, last_seen: at }];
};

export const makeSamplesLane = (
  store: StoreShape,
  config: SamplesConfig,
): Effect.Effect<SamplesLane, never, Scope.Scope> =>
  Effect.gen(function* () {
    const queue: Entry[] = [];
    const pending = new Map<string, Entry>();
    const sources = new Map<string, Source>();
    const calls = new Map<string, Source>();
    const told = new KnownSeries();
    const wake = yield* Queue.sliding<void>(1);
    const room = yield* Effect.makeLatch(true);
    const counts = { bytes: 0, rows: 0, inserts: 0, insertedRows: 0, retries: 0, repeated: 0, refusedRows: 0 };
    let lastError = "";

    const sourceFor = ({ agent, epoch, connection }: StoreBatch): Source => {
      const key = `${agent}\u0000${epoch}`;
      const kept = connection === null ? calls : sources;
      const known = kept.get(key);
      if (known !== undefined && known.connection === connection) return known;
      const source: Source = known ?? {
        id: sourceOf(agent, epoch),
        connection,
        asked: false,
        ceiling: -1,
        reserved: -1,
      };
      source.connection = connection;
      source.asked = false;
      kept.delete(key);
      kept.set(key, source);
      trim(kept, MAX_SOURCES);
      return source;
    };

    const enqueue = (batch: StoreBatch, now: number): Entry => {
      const source = sourceFor(batch);
      const key = batchKey(source.id, batch.sequence);
      const waiting = pending.get(key);
      if (waiting !== undefined) return waiting;
      const oldest = now - retentionDays("samples", config.retention) * DAY_MS;
      const encoded = encodeBatch(batch, source.id, oldest, now + AHEAD_MS);
      const bytes = ENTRY_BYTES + encoded.rows * ROW_BYTES;
      const entry: Entry = { batch: encoded, source, bytes, done: Deferred.unsafeMake<void>(FiberId.none) };
      counts.refusedRows += encoded.refused;
      counts.bytes += bytes;
      counts.rows += encoded.rows;
      pending.set(key, entry);
      queue.push(entry);
      return entry;
    };

    const ask = (unknown: readonly Source[], highest: ReadonlyMap<bigint, number>): void => {
      for (const source of unknown) {
        source.reserved = highest.get(source.id) ?? -1;
        source.ceiling = Math.max(source.ceiling, source.reserved);
        source.asked = true;
      }
    };

    const askSources = (group: readonly Entry[]) =>
      Effect.gen(function* () {
        const unknown = [...new Set(group.map(({ source }) => source).filter(({ asked }) => !asked))];
        const agents = unknown.filter(({ connection }) => connection !== null);
        const once = unknown.filter(({ connection }) => connection === null);
        if (agents.length > 0) ask(agents, yield* reservedSequences(store, idsOf(agents)));
        if (once.length === 0) return;
        const known = yield* knownCalls(store, idsOf(once));
        ask(once, new Map([...known].map((id) => [id, MAX_SEQUENCE])));
      });

    const note = (table: "sources" | "calls", rows: readonly object[], token: string) =>
      Effect.gen(function* () {
        if (rows.length === 0) return;
        const bytes = jsonLines(rows);
        yield* store.insert(table, { format: "JSONEachRow", columns: columnsOf(table), bytes }, `${token}-${table}`);
        counts.inserts++;
      });

    const reserve = (group: readonly Entry[], token: string, now: number) =>
      Effect.gen(function* () {
        const higher = new Map<Source, number>();
        for (const { source, batch } of group) {
          if (batch.sequence <= source.reserved) continue;
          const most = source.connection === null ? MAX_SEQUENCE : Math.min(MAX_SEQUENCE, batch.sequence + RESERVE);
          higher.set(source, Math.max(higher.get(source) ?? 0, most));
        }
        const at = Math.floor(now / 1000);
        const agents = [...higher].filter(([{ connection }]) => connection !== null);
        const once = [...higher].filter(([{ connection }]) => connection === null);
        yield* note(
          "sources",
          agents.map(([{ id }, reserved]) => ({ source: String(id), reserved, at })),
          token,
        );
        yield* note(
          "calls",
          once.map(([{ id }]) => ({ source: String(id), at })),
          token,
        );
        for (const [source, reserved] of higher) source.reserved = reserved;
      });

    /** In pieces: at a server's start there may be a million of them. */
    const describe = (group: readonly Entry[], token: string, now: number) =>
      Effect.gen(function* () {
        const at = Math.floor(now / 1000);
        const fresh = newSeries(group, told, at);
        let bytes: Buffer[] = [];
        let size = 0;
        for (const [i, { set, places }] of fresh.entries()) {
          const piece = jsonLines(places.flatMap((place) => seriesRow(set, place, at)));
          bytes.push(piece, NEWLINE);
          size += piece.length;
          yield* Effect.yieldNow();
          if (size < SERIES_BYTES && i + 1 < fresh.length) continue;
          yield* store.insert(
            "series",
            { format: "JSONEachRow", columns: columnsOf("series"), bytes },
            `${token}-series-${i}`,
          );
          counts.inserts++;
          bytes = [];
          size = 0;
        }
        for (const { set, places } of fresh) for (const place of places) told.add(set.low(place), set.high(place), at);
      });

    const insertSamples = (token: string) => (parts: readonly DayPart[]) => {
      const bytes = Buffer.concat(parts.map(({ rows }) => rows));
      return store.insert("samples", { format: "RowBinary", columns: SAMPLE_COLUMNS, bytes }, token).pipe(
        Effect.tap(() =>
          Effect.sync(() => {
            counts.inserts++;
            counts.insertedRows += bytes.length / ROW_BYTES;
          }),
        ),
      );
    };

    const commit = (group: readonly Entry[], token: string, attempt: number): Effect.Effect<void, StoreError> =>
      Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis;
        yield* askSources(group);
        const doubtful = attempt > 0 ? group : group.filter(({ source, batch }) => batch.sequence <= source.ceiling);
        const there = yield* presentDays(store, batchesOf(doubtful));
        yield* reserve(group, `${token}-${attempt}`, now);
        yield* describe(group, `${token}-${attempt}`, now);
        counts.repeated += group.filter(({ batch }) =>
          [...batch.days.keys()].some((day) => there.has(dayKey(batch.source, batch.sequence, day))),
        ).length;
        const sent = yield* insertMissing(partsOf(group), Effect.succeed(there), insertSamples(token));
        if (attempt > 0 && sent.length > 0)
          yield* insertMissing(sent, presentDays(store, batchesOf(group)), insertSamples(`${token}-${attempt}`));
        for (const { source, batch } of group) source.ceiling = Math.max(source.ceiling, batch.sequence);
      });

    const release = (group: readonly Entry[]) =>
      Effect.gen(function* () {
        for (const { batch, bytes, done } of group) {
          counts.bytes -= bytes;
          counts.rows -= batch.rows;
          pending.delete(batchKey(batch.source, batch.sequence));
          yield* Deferred.succeed(done, undefined);
        }
        if (counts.bytes < config.maxBytes) yield* room.open;
      });

    const failed = (error: StoreError) =>
      Effect.gen(function* () {
        counts.retries++;
        if (lastError !== error.message)
          yield* Effect.logWarning("samples are not stored yet", { reason: error.message });
        lastError = error.message;
        // it may be another store afterwards, which was told of none of them
        told.forget();
        for (const kept of [sources, calls]) for (const source of kept.values()) source.asked = false;
        return "again" as const;
      });

    const round = (lastStart: number) =>
      Effect.gen(function* () {
        if (queue.length === 0) yield* Queue.take(wake);
        const now = yield* Clock.currentTimeMillis;
        yield* Effect.sleep(Math.max(GATHER_MS, lastStart + INTERVAL_MS - now));
        const start = yield* Clock.currentTimeMillis;
        const group = takeGroup(queue);
        if (group.length === 0) return lastStart;
        const token = groupToken(group.map(({ batch }) => batch));
        yield* untilStored(store, (attempt) => commit(group, token, attempt), failed);
        lastError = "";
        yield* release(group);
        return start;
      });

    yield* Effect.iterate(0, { while: () => true, body: round }).pipe(Effect.forkScoped);
    yield* Effect.addFinalizer(() =>
      Effect.forEach(pending.values(), ({ done }) => Deferred.interrupt(done), { discard: true }),
    );

    const awaitRoom: Effect.Effect<void> = Effect.suspend(() => {
      if (counts.bytes < config.maxBytes) return Effect.void;
      // closed in the same step as the look, so that no release can fall in between
      room.unsafeClose();
      return Effect.zipRight(room.await, awaitRoom);
    });

    return {
      write: (batch) => {
        // not held any longer than until it is encoded: thousands of callers wait for their rows to be on disk
        let given: StoreBatch | null = batch;
        return Effect.gen(function* () {
          yield* awaitRoom;
          if (given === null) return yield* Effect.dieMessage("a batch is written once for each call of write");
          const { done } = enqueue(given, yield* Clock.currentTimeMillis);
          given = null;
          yield* Queue.offer(wake, undefined);
          yield* Deferred.await(done);
        });
      },
      ready: () => counts.bytes < config.maxBytes * 0.75,
      stats: () => ({
        queuedBytes: counts.bytes,
        queuedRows: counts.rows,
        queuedBatches: pending.size,
        inserts: counts.inserts,
        insertedRows: counts.insertedRows,
        retries: counts.retries,
        repeated: counts.repeated,
        refusedRows: counts.refusedRows,
        lastError,
      }),
    };
  });
