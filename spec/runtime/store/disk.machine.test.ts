import { Effect, Layer, ManagedRuntime } from "effect";
import { afterAll, expect } from "vitest";
import { describeWith, itWith } from "../../capabilities.ts";
import { DiskGuard, layer as guardLayer } from "../../../runtime/store/DiskGuard.ts";
import { Store } from "../../../runtime/store/Store.ts";
import { Writer } from "../../../runtime/store/Writer.ts";
import { freshFolder, makeStore, removeFolder, until, whenUp } from "./harness.ts";

const DAY = 86_400_000;

describeWith(["chdb"], "a disk that is too full", () => {
  const folder = freshFolder();
  const runtime = makeStore(folder);
  afterAll(async () => {
    await runtime.dispose();
    removeFolder(folder);
  });

  itWith(["chdb"], "loses the oldest day of telemetry at each look, never today's, and says so", async () => {
    const now = Date.now();
    const point = (daysAgo: number) => ({
      service: "a",
      ts: Math.floor((now - daysAgo * DAY) / 10_000) * 10_000,
      requests: 1,
      errors: 0,
      p50: null,
      p95: null,
      p99: null,
      cpu: null,
      memory: null,
    });
    const minute = (daysAgo: number) => ({
      service: "a",
      minute: Math.floor((now - daysAgo * DAY) / 60_000) * 60_000,
      total: 1,
      bad: 0,
      slow: 0,
      buckets: [],
      counts: [],
      version: 1,
    });
    const left = Effect.flatMap(Store, (store) =>
      Effect.map(
        store.query<{ table: string; days: string[] }>(
          `SELECT 'points' AS table, arraySort(groupUniqArray(toString(toDate(ts)))) AS days FROM coroot.sli_points
           UNION ALL SELECT 'minutes', arraySort(groupUniqArray(toString(toDate(minute)))) FROM coroot.sli_minutes`,
        ),
        (rows) => Object.fromEntries(rows.map(({ table, days }) => [table, days])),
      ),
    );
    const dayOf = (daysAgo: number): string => new Date(now - daysAgo * DAY).toISOString().slice(0, 10);
    await runtime.runPromise(whenUp);
    await runtime.runPromise(
      Effect.gen(function* () {
        const writer = yield* Writer;
        yield* writer.rows("sli_points", [0, 2, 3].map(point));
        yield* writer.rows("sli_minutes", [0, 3].map(minute));
        yield* until(left, (found) => found["points"]?.length === 3 && found["minutes"]?.length === 2);
      }),
    );
    // Any disk is fuller than that.
    const guarding = ManagedRuntime.make(
      guardLayer({ threshold: 0.000001 }).pipe(Layer.provide(Layer.succeed(Store, await runtime.runPromise(Store)))),
    );
    const guard = await guarding.runPromise(DiskGuard);
    const all = [dayOf(3), dayOf(2), dayOf(0)];
    await runtime.runPromise(until(left, (found) => (found["points"]?.length ?? 9) < 3));
    expect(await runtime.runPromise(left)).toEqual({ points: all.slice(1), minutes: [dayOf(3), dayOf(0)] });
    expect(guard.notices().join()).toContain(`telemetry up to ${dayOf(3)} was dropped`);
    await guarding.runPromise(guard.look);
    await guarding.runPromise(guard.look);
    expect(await runtime.runPromise(left)).toEqual({ points: [dayOf(0)], minutes: [dayOf(3), dayOf(0)] });
    expect(guard.notices().join()).toContain("nothing older than today is left to drop");
    await guarding.dispose();
  });

  itWith(["chdb"], "is left alone with a threshold of 0", async () => {
    const guarding = ManagedRuntime.make(
      guardLayer({ threshold: 0 }).pipe(Layer.provide(Layer.succeed(Store, await runtime.runPromise(Store)))),
    );
    const guard = await guarding.runPromise(DiskGuard);
    await guarding.runPromise(guard.look);
    expect(guard.notices()).toEqual([]);
    await guarding.dispose();
  });
});
