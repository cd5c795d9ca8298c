/** remote_write through the door into the real engine: each sample once, whatever is lost, killed or sent again. */
import { compressSync } from "snappy";
import { Effect, Exit, Scope } from "effect";
import { afterAll, beforeAll, expect } from "vitest";
import { metricsDoor } from "../../../runtime/remote-write/door.ts";
import { makeSamplesIntake } from "../../../runtime/remote-write/Intake.ts";
import { Store } from "../../../runtime/store/Store.ts";
import { make as makeWriter, Writer } from "../../../runtime/store/Writer.ts";
import { describeWith, itWith } from "../../capabilities.ts";
import { serveDoors, type DoorsUnderTest, type Reply } from "../doors/client.ts";
import {
  freshFolder,
  makeStore,
  processState,
  removeFolder,
  stateWhere,
  whenUp,
  type TestStore,
} from "../store/harness.ts";
import { encode1, encode2, labelsOf, type PlainSeries } from "./proto.ts";

const V1 = { "content-type": "application/x-protobuf", "content-encoding": "snappy" };
const HEADERS_1 = { ...V1, "x-prometheus-remote-write-version": "0.1.0" };
const HEADERS_2 = {
  "content-type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
  "content-encoding": "snappy",
  "x-prometheus-remote-write-version": "2.0.0",
};
const DAY = 86_400_000;

describeWith(["chdb"], "remote_write into the embedded store", () => {
  const data = freshFolder();
  let runtime: TestStore;
  let doors: DoorsUnderTest;
  beforeAll(async () => {
    runtime = makeStore(data);
    await runtime.runPromise(whenUp);
    const writer = await runtime.runPromise(Writer);
    doors = await serveDoors([metricsDoor(makeSamplesIntake(writer))]);
  });
  afterAll(async () => {
    await doors.close();
    await runtime.dispose();
    removeFolder(data);
  });

  const send = (body: Buffer, headers: Record<string, string> = HEADERS_1): Promise<Reply> =>
    doors.post("/v1/metrics", compressSync(body), headers);

  interface Row {
    readonly name: string;
    readonly labels: Record<string, string>;
    readonly ts: number;
    readonly bits: string;
    readonly value: number | null;
  }
  const stored = (name: string): Promise<Row[]> =>
    runtime.runPromise(
      Effect.flatMap(Store, ({ query }) =>
        query<Row>(
          `SELECT name, labels, toUnixTimestamp64Milli(ts) AS ts, toString(reinterpretAsUInt64(value)) AS bits, value
           FROM coroot.samples INNER JOIN (SELECT fp, any(name) AS name, any(s.labels) AS labels FROM coroot.series AS s
             WHERE s.name = {name:String} GROUP BY fp) AS one USING fp ORDER BY labels['n'], ts`,
          { name },
        ),
      ),
    );

  itWith(["chdb"], "keeps each sample once, bit for bit, also when its call is sent again", async () => {
    const now = Date.now();
    const values = [1.5, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, 1e300, 3];
    // out of order
    const times = values.map((_, i) => now - (i % 2 === 0 ? i : 10 - i) * 1_000);
    const samples = values.map((value, i) => ({ value, timestamp: times[i] ?? 0 }));
    const marker = { value: Number.NaN, timestamp: now - 60_000 };
    const body = encode1({
      timeseries: [{ labels: labelsOf("bits", { n: "1", job: "it's \\ \n ü" }), samples: [...samples, marker] }],
    });
    const at = body.indexOf(Buffer.from([0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f])) + 1;
    Buffer.from([2, 0, 0, 0, 0, 0, 0xf0, 0x7f]).copy(body, at);
    const replies = await Promise.all([send(body), send(body)]);
    expect([...replies, await send(body)].map(({ status }) => status)).toEqual([204, 204, 204]);
    const bits = new BigUint64Array(Float64Array.from(values).buffer);
    const expected = [...bits].map((one, i): [number, string] => [times[i] ?? 0, String(one)]);
    expected.push([marker.timestamp, String(0x7ff0000000000002n)]);
    const rows = await stored("bits");
    expect(rows.map(({ ts, bits: one }) => [ts, one])).toEqual(expected.sort(([a], [b]) => a - b));
    expect(rows[0]?.labels).toEqual({ n: "1", job: "it's \\ \n ü" });
  });

  itWith(["chdb"], "keeps a sample once also when the call comes again to another server", async () => {
    const body = (n: number) =>
      encode1({
        timeseries: [{ labels: labelsOf("lives", { n: String(n) }), samples: [{ value: n, timestamp: Date.now() }] }],
      });
    const bodies = [body(1), body(2), body(3)];
    const store = await runtime.runPromise(Store);
    for (const sent of [[0], [0, 1], [0, 1, 2]]) {
      const scope = Effect.runSync(Scope.make());
      const writer = await Effect.runPromise(
        makeWriter().pipe(Effect.provideService(Store, store), Scope.extend(scope)),
      );
      const life = await serveDoors([metricsDoor(makeSamplesIntake(writer))]);
      // at once, so that they share an insert that no server before made
      const answers = sent.map((n) => life.post("/v1/metrics", compressSync(bodies[n] ?? ""), HEADERS_1));
      for (const answer of answers) expect((await answer).status).toBe(204);
      await life.close();
      await Effect.runPromise(Scope.close(scope, Exit.void));
    }
    expect((await stored("lives")).map(({ labels, value }) => [labels["n"], value])).toEqual([
      ["1", 1],
      ["2", 2],
      ["3", 3],
    ]);
  });

  itWith(["chdb"], "tells a sender of 2.0 what was written, and one of 1.0 that all is well", async () => {
    const now = Date.now();
    const series = (n: string, timestamps: readonly number[]): PlainSeries => ({
      labels: labelsOf("two", { n }),
      samples: timestamps.map((timestamp) => ({ value: 1, timestamp })),
    });
    const whole = await send(encode2([series("1", [now, now - 1_000]), series("2", [now])]), HEADERS_2);
    expect([whole.status, whole.headers["x-prometheus-remote-write-samples-written"]]).toEqual([204, "3"]);
    expect(whole.headers["x-prometheus-remote-write-histograms-written"]).toBe("0");
    const odd = [series("3", [now, now - 30 * DAY, now + DAY]), { ...series("4", [now]), labels: [] }];
    const part = await send(encode2(odd), HEADERS_2);
    expect([part.status, part.headers["x-prometheus-remote-write-samples-written"]]).toEqual([400, "1"]);
    expect(part.text).toBe("not stored: 2 with times outside of what is kept, 1 with labels without a metric name\n");
    expect((await send(encode1({ timeseries: odd }))).status).toBe(204);
    expect((await stored("two")).map(({ labels, ts }) => [labels["n"], ts])).toEqual([
      ["1", now - 1_000],
      ["1", now],
      ["2", now],
      ["3", now],
      ["3", now],
    ]);
  });

  itWith(["chdb"], "refuses what cannot be read, and says why", async () => {
    const right = encode1({
      timeseries: [{ labels: labelsOf("cut"), samples: [{ value: 1, timestamp: Date.now() }] }],
    });
    const cut = await send(right.subarray(0, right.length - 3));
    expect([cut.status, cut.text]).toEqual([
      400,
      "the body is not what it should be: a length that goes beyond the end at byte 1\n",
    ]);
    expect((await send(Buffer.from("nonsense"))).status).toBe(400);
    expect((await doors.post("/v1/metrics", right, HEADERS_1)).text).toMatch(/^the body is not snappy: /);
    const proto = { ...V1, "content-type": "application/x-protobuf;proto=io.prometheus.write.v9.Request" };
    expect((await send(right, proto)).status).toBe(415);
    expect(
      (await send(right, { ...V1, "content-type": "application/x-protobuf; proto=prometheus.WriteRequest" })).status,
    ).toBe(204);
    expect(await stored("cut")).toHaveLength(1);
    expect((await send(Buffer.alloc(0))).status).toBe(204);
  });

  itWith(["chdb"], "loses and doubles nothing while the store is killed and senders come again", async () => {
    const start = Date.now() - 600_000;
    const calls = 24;
    const rows = 500;
    const body = (call: number) =>
      encode1({
        timeseries: Array.from({ length: rows }, (_, i) => ({
          labels: labelsOf("killed", { n: String(i) }),
          samples: [{ value: call * rows + i, timestamp: start + call * 1_000 }],
        })),
      });
    const until = async (call: number): Promise<number> => {
      for (let attempt = 1; ; attempt++) {
        const { status } = await send(body(call));
        if (status === 204) return attempt;
        expect(status).toBe(503);
      }
    };
    const kill = Effect.gen(function* () {
      const { pid } = yield* processState;
      if (pid !== null) process.kill(pid, "SIGKILL");
      yield* stateWhere((state) => state.pid !== pid && state.status === "up");
    });
    const sending = Promise.all(
      Array.from({ length: 4 }, async (_, sender) => {
        for (let call = sender; call < calls; call += 4) await until(call);
      }),
    );
    await runtime.runPromise(Effect.zipRight(Effect.sleep("300 millis"), kill));
    await runtime.runPromise(Effect.zipRight(Effect.sleep("1500 millis"), kill));
    await sending;
    const found = await runtime.runPromise(
      Effect.flatMap(Store, ({ query }) =>
        query<{ rows: number; different: number; sum: number }>(
          `SELECT count() AS rows, uniqExact(fp, ts, value) AS different, sum(value) AS sum FROM coroot.samples
           WHERE fp IN (SELECT fp FROM coroot.series WHERE name = 'killed')`,
        ),
      ),
    );
    const all = calls * rows;
    expect(found).toEqual([{ rows: all, different: all, sum: (all * (all - 1)) / 2 }]);
  });
});
