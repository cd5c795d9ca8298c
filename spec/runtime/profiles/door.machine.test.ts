/**
 * Profiles from the sender's socket to the flame graph, over the real engine: a real profiler of Node, and requests as
 * stock Coroot agents make them. What was answered is there once, with its stacks.
 */
import { gunzipSync, gzipSync } from "node:zlib";
import { encode, time } from "@datadog/pprof";
import { Effect, Layer, ManagedRuntime } from "effect";
import { afterEach, expect } from "vitest";
import { describeWith, itWith } from "../../capabilities.ts";
import { layer as doorLayer, ProfilesDoor } from "../../../runtime/profiles/door.ts";
import * as Store from "../../../runtime/store/Store.ts";
import * as StoreProcess from "../../../runtime/store/StoreProcess.ts";
import * as Writer from "../../../runtime/store/Writer.ts";
import { layer as profilesLayer, Profiles } from "../../../runtime/telemetry/Profiles.ts";
import type { FlameAnswer } from "../../../schemas/api.ts";
import { serveDoors, type DoorsUnderTest } from "../doors/client.ts";
import { COMMAND, freshFolder, processState, removeFolder, stateWhere, until, whenUp } from "../store/harness.ts";
import { profileBody } from "./load.ts";
import { decodeMessage, meaning } from "./proto.ts";

const MINUTE_MS = 60_000;
const makeRuntime = (data: string) => {
  const store = Store.layer({ database: "coroot" }).pipe(
    Layer.provideMerge(StoreProcess.layer({ command: [...COMMAND], data })),
  );
  return ManagedRuntime.make(
    Layer.merge(doorLayer(), profilesLayer).pipe(Layer.provideMerge(Writer.layer()), Layer.provideMerge(store)),
  );
};

/** Not over midnight, or a range of minutes would have two days. */
const now = Date.now();
const LOAD = {
  functions: 60,
  stacks: 200,
  timeMs: now - MINUTE_MS,
  type: "ebpf:cpu:nanoseconds",
  durationMs: MINUTE_MS,
};
const TYPE = LOAD.type;
const RANGE = { from: now - 10 * MINUTE_MS, to: now + MINUTE_MS };

const pathOf = (service: string, more: Readonly<Record<string, string>> = {}): string =>
  `/v1/profiles?${new URLSearchParams({ "service.name": service, ...more }).toString()}`;

/** As "a;b;c" to the total and its own part. */
const paths = ({ depth, frame, names, self, total }: FlameAnswer): ReadonlyMap<string, readonly [number, number]> => {
  const path: string[] = [];
  return new Map(
    depth.map((level, i) => {
      path.length = level;
      path.push(names[frame[i] ?? 0] ?? "");
      return [path.join(";"), [self[i] ?? 0, total[i] ?? 0]] as const;
    }),
  );
};

/** As the oracle reads the messages: the sums of all stacks, by their functions. */
const sums = (bodies: readonly Buffer[], type: string): ReadonlyMap<string, number> => {
  const out = new Map<string, number>();
  for (const body of bodies)
    for (const [key, value] of meaning(decodeMessage(body))) {
      const [of, stack] = JSON.parse(key) as [string, string[]];
      if (of !== type) continue;
      const path = ["total", ...stack.map((one) => one.split("\t")[0] ?? "")].join(";");
      out.set(path, (out.get(path) ?? 0) + Number(value));
    }
  return out;
};

describeWith(["chdb"], "the door of profiles", () => {
  const opened: { close: () => Promise<void> }[] = [];
  const open = async (data = freshFolder()) => {
    const runtime = makeRuntime(data);
    await runtime.runPromise(whenUp);
    const doors: DoorsUnderTest = await serveDoors([await runtime.runPromise(ProfilesDoor)]);
    const close = async (): Promise<void> => {
      await doors.close();
      await runtime.dispose();
    };
    opened.push({ close });
    const query = <T>(sql: string) => runtime.runPromise(Effect.flatMap(Store.Store, (store) => store.query<T>(sql)));
    const flame = (service: string, more: object = {}) =>
      runtime.runPromise(Effect.flatMap(Profiles, (one) => one.flame({ service, type: TYPE, ...RANGE, ...more })));
    const counts = async () => {
      const [row] = await query<Record<string, number>>(
        `SELECT (SELECT count() FROM coroot.profile_samples) AS samples,
           (SELECT count() FROM coroot.profile_stacks) AS stackRows,
           (SELECT count() FROM coroot.profile_samples WHERE (service, stack) NOT IN (SELECT service, hash FROM coroot.profile_stacks)) AS orphans`,
      );
      return row;
    };
    return { runtime, doors, query, flame, counts, data, close };
  };
  const folders: string[] = [];
  afterEach(async () => {
    for (const { close } of opened.splice(0)) await close();
    for (const folder of folders.splice(0)) removeFolder(folder);
  });

  itWith(["chdb"], "takes what a profiler of Node makes, and shows where the time went", async () => {
    const { doors, runtime, query, data } = await open();
    folders.push(data);
    const burnProcessor = (): number => {
      let sum = 0;
      for (const end = performance.now() + 400; performance.now() < end; )
        for (let i = 0; i < 1e5; i++) sum += Math.sqrt(i);
      return sum;
    };
    time.start({ durationMillis: 400, intervalMicros: 1_000 });
    expect(burnProcessor()).toBeGreaterThan(0);
    const profile = time.stop();
    const body = await encode(profile);
    // gzip without a content encoding, as this and Go's own files are
    expect(body.subarray(0, 2)).toEqual(Buffer.from([0x1f, 0x8b]));
    const reply = await doors.post(pathOf("node-app"), body);
    expect([reply.status, reply.text]).toEqual([200, ""]);

    const types = await runtime.runPromise(Effect.flatMap(Profiles, (one) => one.types("node-app")));
    expect(types.map(({ type, kind, unit }) => [type, kind, unit]).sort()).toEqual([
      ["sample:count", "sum", "count"],
      ["wall:nanoseconds", "sum", "nanoseconds"],
    ]);
    const flame = await runtime.runPromise(
      Effect.flatMap(Profiles, (one) => one.flame({ service: "node-app", type: "wall:nanoseconds", ...RANGE })),
    );
    const plain = gunzipSync(body);
    const expected = sums([plain], "wall:nanoseconds");
    expect(flame).toMatchObject({ profiles: 1, merged: 0, unknown: 0 });
    expect(new Map([...paths(flame)].filter(([, [self]]) => self > 0).map(([path, [self]]) => [path, self]))).toEqual(
      expected,
    );
    const [burnt] = [...paths(flame)].filter(([path]) => path.endsWith(";burnProcessor"));
    expect(burnt?.[1][1]).toBeGreaterThan((flame.total[0] ?? 0) / 2);
    expect(flame.files[flame.names.indexOf("burnProcessor")]).toContain("door.machine.test.ts");
    const [stored] = await query("SELECT uniqExact(batch) AS batches, any(host) AS host FROM coroot.profile_samples");
    expect(stored).toEqual({ batches: 1, host: "" });
  });

  itWith(["chdb"], "takes what stock agents send, adds it up over pods, and compares two ranges", async () => {
    const { doors, flame, query, counts, data } = await open();
    folders.push(data);
    const early = [0, 1].map((n) => profileBody(1, n, { ...LOAD, timeMs: now - 20 * MINUTE_MS }));
    const late = [2, 3].map((n) => profileBody(1, n, LOAD));
    for (const [i, body] of [...early, ...late].entries()) {
      const query = {
        "container.id": `/k8s/shop/cart-${i % 2}/cart`,
        "host.name": "node-1",
        "host.id": "x",
        pod: `cart-${i % 2}`,
      };
      expect((await doors.post(pathOf("/k8s/shop/cart", query), gzipSync(body))).status).toBe(200);
    }
    const [row] = await query(
      "SELECT any(namespace) AS namespace, any(host) AS host, groupUniqArray(resource) AS resources, any(type) AS type FROM coroot.profile_samples",
    );
    expect(row).toMatchObject({ namespace: "", host: "node-1", type: TYPE });
    expect((row as { resources: unknown[] }).resources).toContainEqual({
      "container.id": "/k8s/shop/cart-0/cart",
      "host.id": "x",
    });
    expect(await counts()).toEqual({ samples: 800, stackRows: 200, orphans: 0 });

    const whole = await flame("/k8s/shop/cart", { base: { from: now - 30 * MINUTE_MS, to: RANGE.from } });
    const nanos = [...sums(late, TYPE).values()].reduce((sum, value) => sum + value, 0);
    const before = [...sums(early, TYPE).values()].reduce((sum, value) => sum + value, 0);
    expect(whole).toMatchObject({ kind: "rate", unit: "cores", profiles: 2, seconds: 120, unknown: 0 });
    expect(whole.total[0]).toBeCloseTo(nanos / 1e9 / 120, 4);
    expect(whole.base).toMatchObject({ profiles: 2, seconds: 120 });
    expect(whole.base?.total[0]).toBeCloseTo(before / 1e9 / 120, 4);
    const one = await flame("/k8s/shop/cart", { pod: "cart-1" });
    expect(one.profiles).toBe(1);
    const [, third] = late;
    expect(one.total[0]).toBeCloseTo(
      [...sums([third ?? Buffer.alloc(0)], TYPE).values()].reduce((a, b) => a + b, 0) / 1e9 / 60,
      4,
    );
    expect((await flame("/k8s/shop/cart", { host: "other" })).total).toEqual([0]);
    expect((await flame("' OR 1 = 1 --")).profiles).toBe(0);
  });

  itWith(
    ["chdb"],
    "stores a call that comes again once, also for another server, and its stacks before it",
    async () => {
      const first = await open();
      folders.push(first.data);
      const body = gzipSync(profileBody(2, 0, LOAD));
      for (let i = 0; i < 2; i++) expect((await first.doors.post(pathOf("cart"), body)).status).toBe(200);
      // the same bytes of another container are another profile
      expect((await first.doors.post(pathOf("cart", { "container.id": "b" }), body)).status).toBe(200);
      expect(await first.counts()).toEqual({ samples: 400, stackRows: 200, orphans: 0 });
      await first.close();
      opened.length = 0;
      const second = await open(first.data);
      expect((await second.doors.post(pathOf("cart"), body)).status).toBe(200);
      expect((await second.flame("cart")).profiles).toBe(2);
      expect(await second.counts()).toMatchObject({ samples: 400, orphans: 0 });
    },
  );

  itWith(
    ["chdb"],
    "loses no stack and stores nothing twice while the store is killed, and writes stacks again to an emptied store",
    async () => {
      const { doors, runtime, counts, data, flame, query } = await open();
      folders.push(data);
      const bodies = Array.from({ length: 12 }, (_, n) =>
        gzipSync(profileBody(n % 4, n, { ...LOAD, timeMs: now - n * 1_000 })),
      );
      const untilTaken = async (body: Buffer): Promise<void> => {
        for (;;) if ((await doors.post(pathOf("cart"), body)).status === 200) return;
      };
      const sent = Promise.all(bodies.map(untilTaken));
      const killStore = Effect.gen(function* () {
        const { pid } = yield* processState;
        if (pid !== null) process.kill(pid, "SIGKILL");
        yield* stateWhere((state) => state.pid !== pid && state.status === "up");
      });
      const queued = Effect.flatMap(Writer.Writer, ({ stats }) =>
        Effect.map(stats, ({ telemetry }) => telemetry.queuedRows),
      );
      await runtime.runPromise(
        Effect.zipRight(
          until(queued, (rows) => rows > 0),
          killStore,
        ),
      );
      await sent;
      expect(await counts()).toMatchObject({ samples: 2_400, orphans: 0 });
      expect((await flame("cart")).profiles).toBe(12);

      const emptied = Effect.flatMap(Store.Store, (store) =>
        store.query<{ n: number }>("SELECT count() AS n FROM coroot.profile_stacks"),
      );
      await runtime.runPromise(
        Effect.gen(function* () {
          const { endpoint } = yield* processState;
          if (endpoint === null) return;
          const headers = {
            "X-ClickHouse-Key": endpoint.password ?? "",
            "X-ClickHouse-User": endpoint.username ?? "default",
          };
          const answer = yield* Effect.promise(() =>
            fetch(endpoint.url ?? "", { method: "POST", headers, body: "TRUNCATE TABLE coroot.profile_stacks" }),
          );
          expect(answer.status).toBe(200);
          yield* killStore;
          yield* whenUp;
          yield* until(emptied, ([row]) => row?.n === 0);
        }),
      );
      await untilTaken(gzipSync(profileBody(0, 99, LOAD)));
      const [row] = await query<{ n: number }>("SELECT count() AS n FROM coroot.profile_stacks");
      expect(row?.n).toBe(200);
    },
  );

  itWith(["chdb"], "refuses what is no profile, what says no service, and bombs", async () => {
    const { doors, counts, data } = await open();
    folders.push(data);
    const body = profileBody(3, 0, { ...LOAD, stacks: 3 });
    const reply = async (path: string, sent: Uint8Array, headers: Record<string, string> = {}) => {
      const { status, text } = await doors.post(path, sent, headers);
      return [status, text.trim()];
    };
    expect(await reply("/v1/profiles?pod=a", body)).toEqual([
      400,
      "service.name: expected a parameter with the name of the profiled service",
    ]);
    expect(await reply("/v1/profiles?service.name=a&service.name=b", body)).toEqual([
      400,
      "service.name: expected one value",
    ]);
    expect(await reply(pathOf("a"), Buffer.alloc(0))).toEqual([400, "a profile without sample types"]);
    expect((await reply(pathOf("a"), Buffer.from("hello, this is no profile")))[0]).toBe(400);
    expect((await reply(pathOf("a"), gzipSync(body).subarray(0, 40)))[0]).toBe(400);
    expect((await reply(pathOf("a"), gzipSync(Buffer.alloc(64 * 1024 * 1024))))[0]).toBe(413);
    expect((await reply(pathOf("a"), gzipSync(gzipSync(body)), { "content-encoding": "gzip" }))[0]).toBe(200);
    expect((await reply(pathOf("a"), body, { "content-type": "application/x-www-form-urlencoded" }))[0]).toBe(200);
    expect((await reply(pathOf("a"), body, { "x-api-key": "wrong" }))[0]).toBe(401);
    expect(await counts()).toMatchObject({ samples: 3, orphans: 0 });
  });
});
