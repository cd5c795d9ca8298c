/** What senders of profiles are answered, and in which order the lane writes; the store is a stand-in. */
import { Deferred, Effect, Fiber, SubscriptionRef, TestClock } from "effect";
import { describe, expect, it } from "@effect/vitest";
import type { Call } from "../../../runtime/doors/Door.ts";
import { originOf, profilesDoor } from "../../../runtime/profiles/door.ts";
import { KnownStacks } from "../../../runtime/profiles/KnownStacks.ts";
import { StoreError, type StoreShape } from "../../../runtime/store/Store.ts";
import { makeTelemetryLane, TelemetryBehind, type TelemetryBatch } from "../../../runtime/store/TelemetryLane.ts";
import { until } from "../store/harness.ts";
import { profileBody } from "./load.ts";

const NOW_MS = Date.UTC(2026, 10, 27, 12);
const body = profileBody(1, 1, { functions: 20, stacks: 30, timeMs: NOW_MS - 60_000 });
const call = (sent = body, query = "service.name=cart"): Call => ({
  query: new URLSearchParams(query),
  headers: {},
  contentType: "",
  body: sent,
});

describe("a call with a profile", () => {
  it.effect("is told to come again while the store is behind, or does not take it in time", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(NOW_MS);
      const full = profilesDoor(
        { telemetry: () => Effect.fail(new TelemetryBehind({ queuedBytes: 7 })) },
        new KnownStacks(),
      );
      expect(yield* Effect.flip(full.handle(call()))).toMatchObject({ status: 429, retryAfter: 5 });
      const slow = profilesDoor({ telemetry: () => Effect.never }, new KnownStacks());
      const waiting = yield* Effect.fork(Effect.flip(slow.handle(call())));
      yield* Effect.yieldNow();
      yield* TestClock.adjust("8 seconds");
      expect(yield* Fiber.join(waiting)).toMatchObject({ status: 503, retryAfter: 5 });
    }),
  );

  it.effect("is named by its bytes and its origin, whatever the order of the parameters", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(NOW_MS);
      const seen: TelemetryBatch[] = [];
      const door = profilesDoor({ telemetry: (batch) => Effect.sync(() => void seen.push(batch)) }, new KnownStacks());
      for (const query of ["service.name=a&x=1&y=2", "y=2&x=1&service.name=a", "service.name=a&x=1&y=3"])
        yield* door.handle(call(body, query));
      const [first, second, third] = seen.map(({ id }) => id);
      expect(second).toBe(first);
      expect(third).not.toBe(first);
      const timeless = profileBody(1, 1, { functions: 20, stacks: 30, timeMs: 0 });
      seen.length = 0;
      for (let i = 0; i < 2; i++) yield* door.handle(call(timeless));
      expect(new Set(seen.map(({ id }) => id)).size).toBe(2);
    }),
  );

  it("tells where it is from by OpenTelemetry's names or those of Coroot's agents", () => {
    expect(originOf(new URLSearchParams("service.name=a&namespace=n&pod=p&node=h&z=1&b=2"))).toEqual({
      service: "a",
      namespace: "n",
      pod: "p",
      host: "h",
      resource: [
        ["b", "2"],
        ["z", "1"],
      ],
    });
    expect(originOf(new URLSearchParams("service.name=a&k8s.pod.name=q&pod=p&host.name=h"))).toMatchObject({
      pod: "q",
      host: "h",
      resource: [["pod", "p"]],
    });
    const many = Array.from({ length: 40 }, (_, i) => `l${i}=1`).join("&");
    expect(originOf(new URLSearchParams(`service.name=a&${many}`))).toMatchObject({
      message: "expected at most 32 parameters",
    });
  });
});

describe("the lane", () => {
  const lost = new StoreError({ operation: "insert", code: null, reason: "the answer was lost" });

  /** Inserts by table; those whose number is among `failing` are not carried out. */
  const storeOf = (inserted: string[], failing: readonly number[]) =>
    Effect.gen(function* () {
      const state = yield* SubscriptionRef.make({ status: "up", message: "", since: 0, restarts: 0 } as const);
      let count = 0;
      const store: Pick<StoreShape, "database" | "query" | "insert" | "whenUp"> = {
        database: "coroot",
        whenUp: Effect.void,
        query: () => Effect.succeed([]),
        insert: (table) =>
          Effect.suspend(() => {
            const fails = failing.includes(count++);
            inserted.push(fails ? `${table} failed` : table);
            return fails ? Effect.fail(lost) : Effect.void;
          }),
      };
      return { ...store, state } as unknown as StoreShape;
    });

  it.scopedLive("writes stacks before samples, again with each attempt, and knows them only then", () =>
    Effect.gen(function* () {
      const inserted: string[] = [];
      const lane = yield* makeTelemetryLane(yield* storeOf(inserted, [0, 2]), { maxBytes: 1e7 });
      const known = new KnownStacks();
      const door = profilesDoor({ telemetry: lane.write }, known);
      const recent = profileBody(1, 1, { functions: 20, stacks: 30, timeMs: Date.now() - 60_000 });
      yield* door.handle(call(recent));
      expect(inserted).toEqual([
        "profile_stacks failed",
        "profile_stacks",
        "profile_samples failed",
        "profile_stacks",
        "profile_samples",
        // what the failed insert may have left is asked for; the stand-in says that nothing is there
        "profile_samples",
      ]);
      expect(known.size).toBe(30);
      inserted.length = 0;
      yield* door.handle(call(profileBody(1, 2, { functions: 20, stacks: 30, timeMs: Date.now() - 50_000 })));
      expect(inserted).toEqual(["profile_samples"]);
    }),
  );

  it.scopedLive("holds no stack for stored whose profile is not stored", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>();
      const inserted: string[] = [];
      const store = yield* storeOf(inserted, []);
      const waiting: StoreShape = {
        ...store,
        insert: (...all) => Effect.zipRight(Deferred.await(gate), store.insert(...all)),
      };
      const lane = yield* makeTelemetryLane(waiting, { maxBytes: 1e7 });
      const known = new KnownStacks();
      const door = profilesDoor({ telemetry: lane.write }, known);
      const at = Date.now() - 60_000;
      const both = yield* Effect.fork(
        Effect.all(
          [0, 1].map((n) => door.handle(call(profileBody(1, n, { functions: 20, stacks: 30, timeMs: at + n })))),
          { concurrency: 2 },
        ),
      );
      yield* until(Effect.sync(lane.stats), ({ queuedBatches }) => queuedBatches === 2);
      expect(known.size).toBe(0);
      yield* Deferred.succeed(gate, undefined);
      yield* Fiber.join(both);
      expect(known.size).toBe(30);
      expect(inserted).toEqual(["profile_stacks", "profile_samples"]);
    }),
  );
});
