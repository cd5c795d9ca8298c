/** The telemetry lane on the real engine: what was acknowledged is there once, and the views agree with their table. */
import { Effect, Fiber } from "effect";
import { afterEach, expect } from "vitest";
import { describeWith, itWith } from "../../capabilities.ts";
import { encodeLogs } from "../../../runtime/otlp/logs.ts";
import { encodeSpans } from "../../../runtime/otlp/spans.ts";
import { columnsOf } from "../../../runtime/store/rows.ts";
import { Store, StoreError, type StoreShape } from "../../../runtime/store/Store.ts";
import { makeTelemetryLane, type TelemetryBatch } from "../../../runtime/store/TelemetryLane.ts";
import { Writer } from "../../../runtime/store/Writer.ts";
import { logRequest, traceRequest } from "../otlp/load.ts";
import { finish } from "../otlp/rowBinary.ts";
import {
  freshFolder,
  makeStore,
  processState,
  removeFolder,
  stateWhere,
  stockClient,
  until,
  whenUp,
} from "./harness.ts";

const DAY_MS = 86_400_000;
/** Midnight lies within the batches, so that their rows have two days. */
const midnight = Math.floor(Date.now() / DAY_MS) * DAY_MS;
const ROWS = 200;

const idOf = (n: number): bigint => BigInt.asUintN(64, BigInt(n + 1) * 0x9e3779b97f4a7c15n);
const options = (n: number) => ({ batch: idOf(n), nowMs: midnight + DAY_MS, oldestMs: 0 });
const spanBatch = (n: number, ms = midnight - 500): TelemetryBatch => {
  const { days, rows, fromMs, toMs } = finish(encodeSpans(traceRequest(n, ROWS, ms), options(n)));
  return { table: "spans", id: idOf(n), days, rows, fromMs, toMs };
};
const logBatch = (n: number, ms = midnight - 500): TelemetryBatch => {
  const { days, rows, fromMs, toMs } = finish(encodeLogs(logRequest(n, ROWS, ms), options(n)));
  return { table: "logs", id: idOf(n), days, rows, fromMs, toMs };
};

interface Figures {
  readonly rows: number;
  readonly batches: number;
  readonly least: number;
  readonly most: number;
}

const figures = (table: "spans" | "logs") =>
  Effect.flatMap(Store, (store) =>
    store.query<Figures>(
      `SELECT sum(n) AS rows, count() AS batches, min(n) AS least, max(n) AS most
       FROM (SELECT batch, count() AS n FROM coroot.${table} GROUP BY batch)`,
    ),
  ).pipe(Effect.map(([row]) => row));

/** Totals of the rollups beside what the lines and spans themselves say; an empty list when they agree. */
const disagreements = Effect.flatMap(Store, (store) =>
  store.query<{ what: string; view: number; table: number }>(
    `SELECT * FROM (
       SELECT 'traces' AS what, (SELECT sum(spans) FROM coroot.trace_index) AS view, (SELECT count() FROM coroot.spans) AS table
       UNION ALL SELECT 'bounds', (SELECT countIf(a.s != b.s OR a.e != b.e) FROM
           (SELECT trace_id, day, min(start) AS s, max(end) AS e FROM coroot.trace_index GROUP BY trace_id, day) AS a
           JOIN (SELECT trace_id, toDate(ts) AS day, min(ts) AS s, max(addNanoseconds(ts, duration)) AS e FROM coroot.spans GROUP BY trace_id, day) AS b
           ON a.trace_id = b.trace_id AND a.day = b.day), 0
       UNION ALL SELECT 'latency', (SELECT sum(total) FROM coroot.span_latency), (SELECT count() FROM coroot.spans)
       UNION ALL SELECT 'failed', (SELECT sum(failed) FROM coroot.span_latency), (SELECT countIf(status = 'error') FROM coroot.spans)
       UNION ALL SELECT 'patterns', (SELECT sum(lines) FROM coroot.log_patterns), (SELECT count() FROM coroot.logs)
       UNION ALL SELECT 'edges', (SELECT sum(total) FROM coroot.span_edges), (SELECT countIf(peer != '') FROM coroot.spans)
     ) WHERE view != table`,
  ),
);

const whole = (batches: number): Figures => ({ rows: batches * ROWS, batches, least: ROWS, most: ROWS });

const killStore = Effect.gen(function* () {
  const { pid } = yield* processState;
  if (pid !== null) process.kill(pid, "SIGKILL");
  yield* stateWhere((state) => state.pid !== pid);
});

const telemetryOf = Effect.flatMap(Writer, ({ stats }) => Effect.map(stats, ({ telemetry }) => telemetry));

describeWith(["chdb"], "the telemetry lane", () => {
  const opened: { runtime: ReturnType<typeof makeStore>; data: string }[] = [];
  const open = (data = freshFolder()) => {
    const runtime = makeStore(data);
    opened.push({ runtime, data });
    return { runtime, data };
  };
  afterEach(async () => {
    for (const { runtime, data } of opened.splice(0)) {
      await runtime.dispose();
      removeFolder(data);
    }
  });

  itWith(["chdb"], "stores every batch once through SIGKILLs, and again for another server", async () => {
    const { runtime, data } = open();
    await runtime.runPromise(
      Effect.gen(function* () {
        yield* whenUp;
        const writer = yield* Writer;
        const all = Array.from({ length: 40 }, (_, n) => [spanBatch(n), logBatch(n)]).flat();
        const writing = yield* Effect.fork(Effect.forEach(all, writer.telemetry, { concurrency: 12, discard: true }));
        for (const inserts of [1, 4]) {
          yield* until(telemetryOf, (stats) => stats.inserts >= inserts);
          yield* killStore;
        }
        yield* Fiber.join(writing).pipe(Effect.timeout("40 seconds"));
        expect(yield* figures("spans")).toEqual(whole(40));
        expect(yield* figures("logs")).toEqual(whole(40));
        expect(yield* disagreements).toEqual([]);
        const { inserts } = yield* telemetryOf;
        yield* writer.telemetry(spanBatch(3));
        expect(yield* telemetryOf).toMatchObject({ inserts, repeated: 1, queuedBytes: 0 });
      }),
    );
    await runtime.dispose();

    const second = open(data).runtime;
    await second.runPromise(
      Effect.gen(function* () {
        yield* whenUp;
        const writer = yield* Writer;
        const again = Array.from({ length: 41 }, (_, n) => spanBatch(n));
        yield* Effect.forEach(again, writer.telemetry, { concurrency: "unbounded", discard: true });
        expect(yield* telemetryOf).toMatchObject({ repeated: 40, inserts: 1 });
        expect(yield* figures("spans")).toEqual(whole(41));
        expect(yield* disagreements).toEqual([]);
      }),
    );
  });

  /** A lane over the real store, whose first insert goes as `first` says. */
  const laneWith = (
    first: (
      store: StoreShape,
      insert: () => Effect.Effect<void, StoreError>,
      token: string,
    ) => Effect.Effect<void, StoreError>,
  ) =>
    Effect.gen(function* () {
      const store = yield* Store;
      let inserts = 0;
      const faulty: StoreShape = {
        ...store,
        insert: (table, body, token) => {
          const insert = () => store.insert(table, body, token);
          return inserts++ === 0 ? first(store, insert, token) : insert();
        },
      };
      return yield* makeTelemetryLane(faulty, { maxBytes: 10_000_000 });
    });
  const lost = new StoreError({ operation: "insert", code: null, reason: "the answer was lost" });

  itWith(
    ["chdb"],
    "repeats an insert whose answer was lost, or that never came, and stores nothing twice",
    async () => {
      const { runtime } = open();
      await runtime.runPromise(
        Effect.scoped(
          Effect.gen(function* () {
            yield* whenUp;
            const unanswered = yield* laneWith((_, insert) => Effect.zipRight(insert(), Effect.fail(lost)));
            yield* Effect.forEach(
              [0, 1, 2].map((n) => spanBatch(n)),
              unanswered.write,
              { concurrency: "unbounded" },
            );
            expect(unanswered.stats()).toMatchObject({ retries: 1, inserts: 1 });
            expect(yield* figures("spans")).toEqual(whole(3));
            const absent = yield* laneWith(() => Effect.fail(lost));
            yield* Effect.forEach(
              [3, 4].map((n) => spanBatch(n)),
              absent.write,
              { concurrency: "unbounded" },
            );
            expect(yield* figures("spans")).toEqual(whole(5));
            expect(yield* disagreements).toEqual([]);
          }),
        ),
      );
    },
  );

  itWith(["chdb"], "inserts again what the store forgot although it knows the token", async () => {
    const { runtime } = open();
    await runtime.runPromise(
      Effect.scoped(
        Effect.gen(function* () {
          yield* whenUp;
          const lane = yield* laneWith((store, _, token) => {
            const other = spanBatch(99, midnight - DAY_MS / 2);
            const bytes = Buffer.concat([...other.days.values()]);
            const body = { format: "RowBinary", columns: columnsOf("spans"), bytes } as const;
            return Effect.zipRight(store.insert("spans", body, token), Effect.fail(lost));
          });
          yield* lane.write(spanBatch(0, midnight - DAY_MS / 3));
          expect(lane.stats().inserts).toBe(2);
          expect(yield* figures("spans")).toEqual(whole(2));
          expect(yield* disagreements).toEqual([]);
        }),
      ),
    );
  });

  itWith(
    ["chdb"],
    "migrates views and indexes, and gives the views what an insert that died before them left out",
    async () => {
      const { runtime } = open();
      await runtime.runPromise(
        Effect.gen(function* () {
          yield* whenUp;
          const store = yield* Store;
          const { days } = spanBatch(0);
          const body = {
            format: "RowBinary",
            columns: columnsOf("spans"),
            bytes: Buffer.concat([...days.values()]),
          } as const;
          const client = yield* Effect.promise(() => stockClient(runtime));
          for (const view of ["spans_to_trace_index", "spans_to_edges"])
            yield* Effect.promise(() => client.command({ query: `DROP VIEW coroot.${view}` }));
          yield* Effect.promise(() => client.command({ query: "ALTER TABLE coroot.logs DROP INDEX by_small_word" }));
          yield* store.insert("spans", body, "one");
          yield* store.migrate;
          const [indexes] = yield* store.query(
            "SELECT arraySort(groupArray(name)) AS names FROM system.data_skipping_indices WHERE table = 'logs'",
          );
          expect(indexes).toEqual({ names: ["by_batch", "by_pattern", "by_small_word", "by_trace"] });
          expect((yield* disagreements).map(({ what }) => what)).toEqual(["traces", "edges"]);
          for (let i = 0; i < 2; i++) yield* store.insert("spans", body, "one");
          yield* Effect.promise(() => client.close());
          expect(yield* figures("spans")).toEqual(whole(1));
          expect(yield* disagreements).toEqual([]);
        }),
      );
    },
  );

  itWith(["chdb"], "is behind when it is full, stores what it took, and takes more afterwards", async () => {
    const { runtime } = open();
    await runtime.runPromise(
      Effect.scoped(
        Effect.gen(function* () {
          yield* whenUp;
          const store = yield* Store;
          const gate = yield* Effect.makeLatch(false);
          const slow: StoreShape = { ...store, insert: (...all) => Effect.zipRight(gate.await, store.insert(...all)) };
          const lane = yield* makeTelemetryLane(slow, { maxBytes: 400_000 });
          const batches = Array.from({ length: 20 }, (_, n) => logBatch(n));
          const writing = yield* Effect.fork(
            Effect.forEach(batches, (batch) => Effect.either(lane.write(batch)), { concurrency: "unbounded" }),
          );
          yield* until(Effect.sync(lane.stats), ({ behind }) => behind > 0);
          const { behind, queuedBytes, queuedBatches } = lane.stats();
          expect(queuedBytes).toBeLessThanOrEqual(400_000);
          expect(behind).toBe(20 - queuedBatches);
          expect(behind).toBeGreaterThan(5);
          expect(yield* figures("logs")).toMatchObject({ rows: 0 });
          yield* gate.open;
          const results = yield* Fiber.join(writing).pipe(Effect.timeout("30 seconds"));
          expect(results.filter(({ _tag }) => _tag === "Right")).toHaveLength(queuedBatches);
          yield* Effect.forEach(batches, lane.write, { concurrency: 4, discard: true });
          expect(yield* figures("logs")).toEqual(whole(20));
        }),
      ),
    );
  });

  itWith(["chdb"], "tells the sender when the store refuses the rows as wrong, and goes on", async () => {
    const { runtime } = open();
    await runtime.runPromise(
      Effect.gen(function* () {
        yield* whenUp;
        const writer = yield* Writer;
        const good = spanBatch(0);
        const [[day, rows] = [0, Buffer.alloc(0)]] = good.days;
        const broken: TelemetryBatch = { ...good, id: 1n, days: new Map([[day, rows.subarray(0, rows.length - 3)]]) };
        const error = yield* Effect.flip(writer.telemetry(broken));
        expect(error._tag).toBe("TelemetryRefused");
        yield* writer.telemetry(spanBatch(1));
        expect(yield* telemetryOf).toMatchObject({ refusedRows: ROWS, queuedRows: 0, queuedBytes: 0 });
        expect(yield* figures("spans")).toEqual(whole(1));
      }),
    );
  });
});
