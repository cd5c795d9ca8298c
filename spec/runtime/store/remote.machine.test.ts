/** Samples that are kept elsewhere: Debian's Prometheus and VictoriaMetrics as receivers, and one that misbehaves. */
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { Effect, Exit, Fiber, Logger, Scope } from "effect";
import { uncompressSync } from "snappy";
import { describe, expect, it } from "vitest";
import { makeRemoteLane, type RemoteConfig } from "../../../runtime/store/RemoteLane.ts";
import type { SamplesLane } from "../../../runtime/store/SamplesLane.ts";
import { seriesList, type StoreBatch } from "../../../runtime/store/batch.ts";
import { fingerprint } from "../../../runtime/store/fingerprint.ts";
import { describeWith, itWith } from "../../capabilities.ts";
import { MetricsServer } from "../remote-write/MetricsServer.ts";
import { decode1, type PlainSeries } from "../remote-write/proto.ts";

const quiet = Logger.replace(Logger.defaultLogger, Logger.none);

interface LaneUnderTest extends SamplesLane {
  readonly close: () => Promise<void>;
}

const openLane = async (config: Partial<RemoteConfig> & Pick<RemoteConfig, "url">): Promise<LaneUnderTest> => {
  const scope = Effect.runSync(Scope.make());
  const made = makeRemoteLane({ maxBytes: 64 * 1024 * 1024, headers: {}, ...config });
  const lane = await Effect.runPromise(made.pipe(Scope.extend(scope), Effect.provide(quiet)));
  return { ...lane, close: () => Effect.runPromise(Scope.close(scope, Exit.void)) };
};

const SERIES = Array.from({ length: 20 }, (_, i) => {
  const labels = { zone: `z${i}`, job: "it's ü", empty: "" };
  return { name: "remote_total", labels, fingerprint: fingerprint("remote_total", labels) };
});

/** Every series once per step; values tell batch and step. */
const batchOf = (sequence: number, steps: number, start: number): StoreBatch => {
  const rows = steps * SERIES.length;
  return {
    agent: "a",
    epoch: 1,
    sequence,
    connection: 1,
    series: seriesList(SERIES),
    index: Uint32Array.from({ length: rows }, (_, i) => i % SERIES.length),
    times: Float64Array.from(
      { length: rows },
      (_, i) => start + (sequence * steps + Math.floor(i / SERIES.length)) * 100,
    ),
    values: Float64Array.from({ length: rows }, (_, i) => sequence * steps + Math.floor(i / SERIES.length)),
  };
};

interface Receiver {
  readonly url: string;
  /** samples of each request that was taken */
  readonly taken: PlainSeries[][];
  readonly headers: IncomingHttpHeaders[];
  requests: number;
  answer: (series: PlainSeries[]) => { readonly status: number; readonly retryAfter?: number };
  readonly close: () => Promise<void>;
}

const receiver = async (): Promise<Receiver> => {
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on("data", (part: Buffer) => parts.push(part));
    request.on("end", () => {
      const { timeseries } = decode1(uncompressSync(Buffer.concat(parts), { asBuffer: true }) as Buffer);
      one.requests++;
      one.headers.push(request.headers);
      const { status, retryAfter } = one.answer(timeseries);
      if (status < 300) one.taken.push(timeseries);
      response.writeHead(status, retryAfter === undefined ? {} : { "retry-after": String(retryAfter) });
      response.end(status < 300 ? "" : "what is wrong\nand more");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const one: Receiver = {
    url: `http://user:pass%20word@127.0.0.1:${(server.address() as AddressInfo).port}/write`,
    taken: [],
    headers: [],
    requests: 0,
    answer: () => ({ status: 204 }),
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return one;
};

const zoneOf = ({ labels }: PlainSeries): string => labels.find(({ name }) => name === "zone")?.value ?? "";
const valuesOf = (taken: readonly PlainSeries[], zone: string): number[] =>
  taken.filter((one) => zoneOf(one) === zone).flatMap(({ samples }) => samples.map(({ value }) => value));

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

describe("a metrics store elsewhere", () => {
  it("gets each series in order and once, as remote_write has it", async () => {
    const store = await receiver();
    const lane = await openLane({ url: store.url, headers: { "x-scope-orgid": "team" } });
    const start = Date.now() - 100_000;
    const batches = upTo(20).map((sequence) => lane.write(batchOf(sequence, 50, start)));
    await Effect.runPromise(Effect.all([...batches, lane.write(batchOf(3, 50, start))], { concurrency: "unbounded" }));
    // a batch that comes again after a new connection
    await Effect.runPromise(lane.write(batchOf(7, 50, start)));
    const taken = store.taken.flat();
    for (const { labels } of SERIES) expect(valuesOf(taken, labels.zone)).toEqual(upTo(1_000));
    expect(taken[0]?.labels.map(({ name }) => name)).toEqual(["__name__", "job", "zone"]);
    expect(store.headers[0]).toMatchObject({
      "content-type": "application/x-protobuf",
      "content-encoding": "snappy",
      "x-prometheus-remote-write-version": "0.1.0",
      "x-scope-orgid": "team",
      authorization: `Basic ${Buffer.from("user:pass word").toString("base64")}`,
    });
    expect(lane.stats()).toMatchObject({
      queuedBytes: 0,
      queuedRows: 0,
      queuedBatches: 0,
      insertedRows: 20_000,
      refusedRows: 0,
      repeated: 1,
    });
    await lane.close();
    await store.close();
  });

  it("is asked again while it is away or overloaded, and nothing is acknowledged before it took it", async () => {
    const store = await receiver();
    const answers = [503, 429, 500, 401, 302];
    store.answer = () => ({ status: answers.shift() ?? 204, ...(answers.length === 3 ? { retryAfter: 1 } : {}) });
    const lane = await openLane({ url: store.url });
    const began = performance.now();
    let done = false;
    const writing = Effect.runPromise(lane.write(batchOf(0, 5, Date.now()))).then(() => (done = true));
    await expect.poll(() => store.requests).toBeGreaterThan(2);
    expect([done, lane.stats().queuedRows]).toEqual([false, 100]);
    expect(lane.stats().lastError).toMatch(/^\d{3} what is wrong$/);
    await writing;
    expect(performance.now() - began).toBeGreaterThan(600);
    expect(lane.stats()).toMatchObject({ retries: 5, insertedRows: 100, refusedRows: 0, lastError: "" });
    for (const { labels } of SERIES) expect(valuesOf(store.taken.flat(), labels.zone)).toEqual(upTo(5));
    await lane.close();
    await store.close();
  });

  it("is bounded while nothing is taken, and a batch in it is not acknowledged at stop", async () => {
    const store = await receiver();
    store.answer = () => ({ status: 503, retryAfter: 1 });
    const lane = await openLane({ url: store.url, maxBytes: 40_000 });
    const fibers = upTo(6).map((sequence) => Effect.runFork(lane.write(batchOf(sequence, 20, Date.now()))));
    await expect.poll(() => lane.stats().queuedBatches).toBe(3);
    expect(lane.ready()).toBe(false);
    await lane.close();
    const [first] = fibers;
    expect(first === undefined ? null : Exit.isInterrupted(await Effect.runPromise(Fiber.await(first)))).toBe(true);
    for (const fiber of fibers) await Effect.runPromise(Fiber.interrupt(fiber));
    await store.close();
  });

  it("that calls samples wrong gets all others; the wrong ones are dropped and counted", async () => {
    const store = await receiver();
    const isWrong = (one: PlainSeries): boolean =>
      zoneOf(one) === "z3" && one.samples.some(({ value }) => value === 17);
    store.answer = (series) => ({ status: series.some(isWrong) ? 400 : 204 });
    const lane = await openLane({ url: store.url });
    await Effect.runPromise(lane.write(batchOf(0, 100, Date.now())));
    expect(lane.stats()).toMatchObject({ refusedRows: 1, insertedRows: 1_999, queuedBytes: 0 });
    for (const { labels } of SERIES)
      expect(valuesOf(store.taken.flat(), labels.zone)).toEqual(
        upTo(100).filter((n) => labels.zone !== "z3" || n !== 17),
      );
    store.answer = () => ({ status: 400 });
    const before = store.requests;
    await Effect.runPromise(lane.write(batchOf(1, 100, Date.now())));
    expect(lane.stats().refusedRows).toBe(2_001);
    expect(store.requests - before).toBeLessThanOrEqual(4 * 220);
    await lane.close();
    await store.close();
  });
});

const kept = async (server: MetricsServer, path: string): Promise<void> => {
  const lane = await openLane({ url: `${server.url}${path}` });
  const start = Date.now() - 120_000;
  const batches = upTo(10).map((sequence) => lane.write(batchOf(sequence, 20, start)));
  await Effect.runPromise(Effect.all(batches, { concurrency: "unbounded" }));
  expect(lane.stats()).toMatchObject({ insertedRows: 4_000, refusedRows: 0, retries: 0 });
  const expected = upTo(200).map((n): [number, string] => [(start + n * 100) / 1000, String(n)]);
  await expect
    .poll(async () => (await server.samples("remote_total")).length, { timeout: 15_000, interval: 200 })
    .toBe(SERIES.length);
  const found = await server.samples("remote_total");
  for (const { metric, values } of found) {
    expect(metric).toMatchObject({ __name__: "remote_total", job: "it's ü" });
    expect(values).toEqual(expected);
  }
  await lane.close();
};

describeWith(["prometheus"], "Prometheus as the metrics store", () => {
  itWith(
    ["prometheus"],
    "has each sample once; it is restarted meanwhile, and late samples are dropped alone",
    async () => {
      const first = await MetricsServer.prometheus();
      await kept(first, "/api/v1/write");
      const lane = await openLane({ url: `${first.url}/api/v1/write` });
      const now = Date.now();
      // far older than what its head takes, beside ones that are in order
      const batch = batchOf(0, 10, now);
      const late: StoreBatch = {
        ...batch,
        times: batch.times.map((time, i) => (i % 20 === 5 ? now - 86_400_000 : time)),
      };
      await Effect.runPromise(lane.write(late));
      expect(lane.stats()).toMatchObject({ insertedRows: 190, refusedRows: 10 });
      const folder = await first.stop(true);
      const writing = Effect.runPromise(lane.write(batchOf(1, 10, now)));
      await expect.poll(() => lane.stats().retries).toBeGreaterThan(0);
      const second = await MetricsServer.prometheus("", first.port, folder);
      await writing;
      const found = (await second.samples("remote_total")).filter(({ metric }) => metric["zone"] !== "z5");
      expect(found.length).toBe(SERIES.length - 1);
      for (const { values } of found) expect(values.slice(-20).map(([, value]) => Number(value))).toEqual(upTo(20));
      await lane.close();
      await second.stop();
    },
  );
});

describeWith(["victoria-metrics"], "VictoriaMetrics as the metrics store", () => {
  itWith(["victoria-metrics"], "has each sample once", async () => {
    const server = await MetricsServer.victoria();
    await kept(server, "/api/v1/write");
    await server.stop();
  });
});
