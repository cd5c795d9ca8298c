import { Effect, Exit, Fiber } from "effect";
import { afterEach, expect } from "vitest";
import { describeWith, itWith } from "../../capabilities.ts";
import { fingerprint, fingerprintText } from "../../../runtime/store/fingerprint.ts";
import { ROW_BYTES } from "../../../runtime/store/batch.ts";
import { makeSamplesLane } from "../../../runtime/store/SamplesLane.ts";
import { Store, StoreError, type StoreShape } from "../../../runtime/store/Store.ts";
import { Writer } from "../../../runtime/store/Writer.ts";
import {
  freshFolder,
  makeBatch,
  makeStore,
  processState,
  removeFolder,
  startRaw,
  stateWhere,
  stockClient,
  until,
  whenUp,
} from "./harness.ts";

const start = Date.now() - 3_600_000;

const stored = Effect.flatMap(Store, ({ query }) =>
  query<{ batches: number; rows: number; least: number; most: number; distinct: number }>(
    `SELECT count() AS batches, sum(n) AS rows, min(n) AS least, max(n) AS most, sum(u) AS distinct FROM (
       SELECT count() AS n, uniqExact(fp, ts, value) AS u FROM coroot.samples GROUP BY source, sequence)`,
  ),
).pipe(Effect.map(([row]) => row));

const untilStats = (test: (inserts: number) => boolean) =>
  until(
    Effect.flatMap(Writer, ({ stats }) => stats),
    ({ inserts }) => test(inserts),
  );

const event = (n: number) => ({ ts: start + n, service: "s", kind: "k", text: `event ${n}`, json: "" });

const killStore = Effect.gen(function* () {
  const { pid } = yield* processState;
  if (pid !== null) process.kill(pid, "SIGKILL");
  yield* stateWhere((state) => state.pid !== pid);
});

describeWith(["chdb"], "the writer stores every acknowledged batch once", () => {
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

  itWith(["chdb"], "through SIGKILL of the store, and a new server to which everything is sent again", async () => {
    const { runtime, data } = open();
    const agents = ["a", "b", "c"];
    await runtime.runPromise(
      Effect.gen(function* () {
        yield* whenUp;
        const writer = yield* Writer;
        const agent = (name: string) =>
          Effect.forEach(
            Array.from({ length: 24 }, (_, i) => i),
            (sequence) => writer.samples(makeBatch(name, sequence, 200, start)),
            { concurrency: 6, discard: true },
          );
        const writing = yield* Effect.fork(Effect.forEach(agents, agent, { concurrency: "unbounded", discard: true }));
        for (const inserts of [1, 5]) {
          yield* untilStats((done) => done >= inserts);
          yield* killStore;
        }
        yield* Fiber.join(writing).pipe(Effect.timeout("40 seconds"));
        expect(yield* stored).toEqual({ batches: 72, rows: 14_400, least: 200, most: 200, distinct: 14_400 });
        expect((yield* processState).restarts).toBe(2);
      }),
    );
    await runtime.dispose();

    const second = open(data).runtime;
    await second.runPromise(
      Effect.gen(function* () {
        yield* whenUp;
        const writer = yield* Writer;
        const again = agents.flatMap((name) => Array.from({ length: 25 }, (_, i) => makeBatch(name, i, 200, start, 2)));
        yield* Effect.forEach(again, writer.samples, { concurrency: "unbounded", discard: true });
        expect((yield* writer.stats).samples.repeated).toBe(72);
        expect(yield* stored).toEqual({ batches: 75, rows: 15_000, least: 200, most: 200, distinct: 15_000 });
      }),
    );
  });

  itWith(["chdb"], "waits while another process holds the data, says who, and loses nothing", async () => {
    const data = freshFolder();
    const holder = startRaw(data);
    expect(await holder.firstLine).toMatchObject({ ready: true });
    const { runtime } = open(data);
    await runtime.runPromise(
      Effect.gen(function* () {
        const writer = yield* Writer;
        const writing = yield* Effect.fork(
          Effect.forEach([0, 1, 2, 3], (sequence) => writer.samples(makeBatch("a", sequence, 50, start)), {
            concurrency: "unbounded",
          }),
        );
        yield* writer.rows("events", [{ ts: start, service: "s", kind: "oom", text: "killed", json: "{}" }]);
        const { message } = yield* stateWhere(({ status }) => status === "down");
        expect(message).toBe(`data directory ${data} is in use by another store process (pid ${holder.process.pid})`);
        const failure = yield* Effect.flip(Effect.flatMap(Store, ({ query }) => query("SELECT 1")));
        expect(failure.message).toContain("is in use by another store process");
        expect((yield* writer.stats).queuedRows).toBe(201);
        expect(yield* Fiber.poll(writing)).toMatchObject({ _tag: "None" });
        holder.process.stdin?.end();
        yield* Fiber.join(writing).pipe(Effect.timeout("30 seconds"));
        expect(yield* stored).toMatchObject({ batches: 4, rows: 200, distinct: 200 });
      }),
    );
    expect(await holder.ended).toBe(0);
  });

  itWith(
    ["chdb"],
    "merges agents into one insert, keeps every sample's bits, and refuses only what retention would",
    async () => {
      const { runtime } = open();
      await runtime.runPromise(
        Effect.gen(function* () {
          yield* whenUp;
          const writer = yield* Writer;
          const store = yield* Store;
          const day = 86_400_000;
          const now = Math.floor(Date.now() / day) * day;
          const odd = {
            ...makeBatch("odd", 9, 8, 0),
            times: Float64Array.of(
              now - 1,
              now,
              now - 30 * day,
              Date.now() + 9 * day,
              Number.NaN,
              now - day,
              now,
              now - 2,
            ),
            values: Float64Array.of(0.1, -0, 1, 1, 1, Number.MAX_VALUE, Number.MIN_VALUE, -1.5),
          };
          const many = Array.from({ length: 50 }, (_, i) => makeBatch(`agent-${i}`, 3, 100, start));
          yield* Effect.forEach([odd, ...many], writer.samples, { concurrency: "unbounded", discard: true });
          const stats = yield* writer.stats;
          expect(stats.samples).toMatchObject({
            inserts: 3,
            refusedRows: 3,
            insertedRows: 5_005,
            queuedBytes: 0,
            retries: 0,
          });
          const labels = { service: "shop/default/Deployment/cart", mode: "it's \\ \n" };
          const fp = fingerprintText(fingerprint("cpu_seconds", labels));
          const series = yield* store.query(
            "SELECT toString(fp) AS id, labels FROM coroot.series FINAL WHERE name = 'cpu_seconds' AND fp = {fp:UInt64}",
            { fp },
          );
          expect(series).toEqual([{ id: fp, labels }]);
          const samples = yield* store.query(
            `SELECT toUnixTimestamp64Milli(ts) AS at, value FROM coroot.samples
           WHERE source NOT IN (SELECT source FROM coroot.samples GROUP BY source HAVING count() = 100) ORDER BY ts, value`,
          );
          expect(samples).toEqual([
            { at: now - day, value: Number.MAX_VALUE },
            { at: now - 2, value: -1.5 },
            { at: now - 1, value: 0.1 },
            { at: now, value: -0 },
            { at: now, value: Number.MIN_VALUE },
          ]);
        }),
      );
    },
  );

  itWith(["chdb"], "holds senders back when full, drops only the server's own rows, with a count", async () => {
    const data = freshFolder();
    const holder = startRaw(data);
    await holder.firstLine;
    const runtime = makeStore(data, { samplesBytes: 100_000, rowsBytes: 1_000 });
    opened.push({ runtime, data });
    await runtime.runPromise(
      Effect.gen(function* () {
        const writer = yield* Writer;
        expect(writer.ready).toBe(true);
        const writing = yield* Effect.fork(
          Effect.forEach(
            Array.from({ length: 40 }, (_, i) => i),
            (sequence) => writer.samples(makeBatch("a", sequence, 200, start)),
            { concurrency: "unbounded", discard: true },
          ),
        );
        yield* stateWhere(({ status }) => status === "down");
        expect(writer.ready).toBe(false);
        expect((yield* writer.stats).samples.queuedBytes).toBeLessThan(110_000);
        for (let n = 0; n < 30; n++) yield* writer.rows("events", [event(n)]);
        const { dropped } = (yield* writer.stats).rows;
        expect(dropped).toBeGreaterThan(0);
        holder.process.kill("SIGTERM");
        yield* Fiber.join(writing).pipe(Effect.timeout("40 seconds"));
        expect(yield* stored).toMatchObject({ batches: 40, rows: 8_000, distinct: 8_000 });
        expect(writer.ready).toBe(true);
        const events = Effect.flatMap(Store, ({ query }) =>
          query<{ n: number; last: string }>("SELECT count() AS n, argMax(text, ts) AS last FROM coroot.events"),
        );
        const [row] = yield* until(events, ([found]) => (found?.n ?? 0) > 0);
        expect(row).toEqual({ n: 30 - dropped, last: "event 29" });
      }),
    );
    await holder.ended;
  });

  itWith(["chdb"], "keeps other tables going when one is given rows that the store refuses", async () => {
    const { runtime } = open();
    const exit = await runtime.runPromiseExit(
      Effect.gen(function* () {
        yield* whenUp;
        const writer = yield* Writer;
        const minute = { service: "s", minute: start, total: 1.5, bad: 0, slow: 0, counts: [], version: 1 };
        yield* writer.rows("sli_minutes", [{ ...minute, buckets: [] }]);
        yield* writer.rows("events", [{ ts: start, service: "s", kind: "k", text: "t", json: "" }]);
        return yield* until(writer.stats, ({ rows }) => rows.queuedRows === 0);
      }),
    );
    expect(Exit.isSuccess(exit) ? exit.value.rows : exit).toMatchObject({ rejected: 1, inserts: 1, dropped: 0 });
  });

  itWith(["chdb"], "writes at stop what is still queued, and stops in time when the store is down", async () => {
    const { runtime, data } = open();
    const events = Effect.flatMap(Writer, ({ rows }) => rows("events", [event(1), event(2)]));
    await runtime.runPromise(Effect.zipRight(whenUp, events));
    await runtime.dispose();
    const holder = startRaw(data);
    await holder.firstLine;
    const blocked = open(data).runtime;
    await blocked.runPromise(
      Effect.zipRight(
        events,
        stateWhere(({ status }) => status === "down"),
      ),
    );
    const stopping = performance.now();
    await blocked.dispose();
    expect(performance.now() - stopping).toBeLessThan(8_000);
    holder.process.kill("SIGTERM");
    await holder.ended;
    const next = open(data).runtime;
    const count = Effect.flatMap(Store, ({ query }) => query("SELECT count() AS n FROM coroot.events"));
    expect(await next.runPromise(Effect.zipRight(whenUp, count))).toEqual([{ n: 2 }]);
  });

  const lost = new StoreError({ operation: "insert", code: null, reason: "the answer was lost" });
  const day = (ms: number) => Math.floor(ms / 86_400_000) * 86_400_000;

  /** What the store has after a lane wrote three batches, whose inserts go as `insert` says. */
  const written = (insert: (store: StoreShape, tries: number) => StoreShape["insert"]) =>
    Effect.gen(function* () {
      yield* whenUp;
      const store = yield* Store;
      let tries = 0;
      const faulty: StoreShape = {
        ...store,
        insert: (table, body, token) =>
          table === "samples" ? insert(store, tries++)(table, body, token) : store.insert(table, body, token),
      };
      const lane = yield* makeSamplesLane(faulty, { maxBytes: 10_000_000 });
      // around midnight, so that a batch has two days
      const batches = [0, 1, 2].map((sequence) =>
        makeBatch("a", sequence, 100, day(Date.now()) - 50 - 1_000 * sequence),
      );
      yield* Effect.forEach(batches, lane.write, { concurrency: "unbounded" });
      expect(lane.stats()).toMatchObject({ retries: 1, queuedBytes: 0 });
      const series = yield* store.query<{ n: number }>("SELECT uniqExact(fp) AS n FROM coroot.series");
      return { tries, series: series[0]?.n, ...(yield* stored) };
    }).pipe(Effect.scoped);
  const once = { series: 4, batches: 3, rows: 300, least: 100, most: 100, distinct: 300 };

  itWith(["chdb"], "by a store that forgot the tokens of what it has", async () => {
    const { runtime } = open();
    const found = await runtime.runPromise(
      written((store, tries) => (table, body, token) => {
        const forgetful = store.insert(table, body, `${token}${tries}`);
        return tries === 0 ? Effect.zipRight(forgetful, Effect.fail(lost)) : forgetful;
      }),
    );
    expect(found).toEqual({ ...once, tries: 1 });
  });

  itWith(["chdb"], "by a store that knows a token and has not the rows", async () => {
    const { runtime } = open();
    const found = await runtime.runPromise(
      written((store, tries) => (table, body, token) => {
        if (tries > 0) return store.insert(table, body, token);
        // the same rows of another batch and time, so that only the token is the same
        const bytes = Buffer.concat(body.bytes instanceof Uint8Array ? [body.bytes] : body.bytes);
        for (let at = 0; at < bytes.length; at += ROW_BYTES) bytes.writeUInt32LE(77, at + 32);
        return Effect.zipRight(store.insert(table, { ...body, bytes }, token), Effect.fail(lost));
      }),
    );
    expect(found).toMatchObject({ batches: 4, rows: 600, tries: 3 });
  });

  itWith(["chdb"], "by a store that was replaced after it failed, with the series of all samples", async () => {
    const { runtime } = open();
    const client = await runtime.runPromise(
      Effect.zipRight(
        whenUp,
        Effect.promise(() => stockClient(runtime)),
      ),
    );
    const replaced = Effect.promise(async () => {
      for (const table of ["samples", "series", "sources"])
        await client.command({ query: `TRUNCATE TABLE coroot.${table}` });
    });
    const found = await runtime.runPromise(
      written((store, tries) => (table, body, token) => {
        const done = store.insert(table, body, token);
        return tries === 0 ? done.pipe(Effect.zipRight(replaced), Effect.zipRight(Effect.fail(lost))) : done;
      }),
    );
    await client.close();
    expect(found).toMatchObject(once);
  });
});
