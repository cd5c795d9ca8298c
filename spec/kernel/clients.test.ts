/**
 * The npm clients of MongoDB and Kafka against small servers that are written from the protocols' specifications and
 * count what they answer.
 */
import { deserialize, type Document, Long, ObjectId, serialize } from "bson";
import { Kafka, logLevel } from "kafkajs";
import { MongoClient } from "mongodb";
import { createServer, type Server, type Socket } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeWith } from "../capabilities.ts";
import { buildProbe, ProbeBed } from "./ProbeBed.ts";

const N = 10_000;
type Outcome = "ok" | "failed" | "waits";
interface Answer {
  readonly bytes: Buffer | null;
  readonly outcome: Outcome;
}
interface Small {
  readonly server: Server;
  readonly port: number;
  readonly told: Record<Outcome, number>;
}

/** A server of whole messages, whose length is in the first four bytes: `lengthOf` says how long. */
const serve = async (
  lengthOf: (held: Buffer) => number,
  answer: (message: Buffer, port: number) => Answer,
): Promise<Small> => {
  const told = { ok: 0, failed: 0, waits: 0 };
  const take = (socket: Socket): void => {
    let held: Buffer = Buffer.alloc(0);
    socket.setNoDelay(true);
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk: Buffer) => {
      held = held.byteLength === 0 ? chunk : Buffer.concat([held, chunk]);
      while (held.byteLength >= 4 && held.byteLength >= lengthOf(held)) {
        const { bytes, outcome } = answer(held.subarray(0, lengthOf(held)), small.port);
        held = held.subarray(lengthOf(held));
        told[outcome]++;
        if (bytes !== null) socket.write(bytes);
      }
    });
  };
  const server = createServer(take);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const address = server.address();
  const small = { server, port: typeof address === "object" && address !== null ? address.port : 0, told };
  return small;
};

describeWith(["bpf"], "npm clients at both ends", () => {
  let bed: ProbeBed;
  beforeAll(async () => {
    buildProbe();
    bed = await ProbeBed.start();
  });
  afterAll(() => bed.stop());

  it(`counts ${N} commands of the MongoDB driver, a tenth of them errors, and lets its monitor wait`, async () => {
    const version = { processId: new ObjectId(), counter: Long.fromNumber(0) };
    const hello = {
      ok: 1,
      helloOk: true,
      ismaster: true,
      isWritablePrimary: true,
      topologyVersion: version,
      maxBsonObjectSize: 16_777_216,
      maxMessageSizeBytes: 48_000_000,
      maxWriteBatchSize: 100_000,
      minWireVersion: 0,
      maxWireVersion: 21,
    };
    const little = (...numbers: readonly number[]): Buffer => {
      const bytes = Buffer.alloc(4 * numbers.length);
      numbers.forEach((n, i) => bytes.writeInt32LE(n, 4 * i));
      return bytes;
    };
    const run = (command: Document): Document => {
      if ("hello" in command || "ismaster" in command || "isMaster" in command) return hello;
      if (command["find"] === "bad") return { ok: 0, code: 13, codeName: "Unauthorized", errmsg: "not allowed" };
      if (command["insert"] === "twice")
        // servers put the errors of writes in front of `ok`
        return { n: 0, writeErrors: [{ index: 0, code: 11_000, errmsg: "duplicate key" }], ok: 1 };
      if ("find" in command)
        return { cursor: { firstBatch: [{ a: 1, ok: 0 }], id: Long.fromNumber(0), ns: "d.c" }, ok: 1 };
      return { n: 1, ok: 1 };
    };
    const { server, port, told } = await serve(
      (held) => held.readInt32LE(0),
      (message) => {
        const [id, code] = [message.readInt32LE(4), message.readInt32LE(12)];
        if (code === 2004) {
          const body = serialize(run(deserialize(message.subarray(message.indexOf(0, 20) + 9))));
          const head = little(36 + body.byteLength, 0, id, 1, 8, 0, 0, 0, 1);
          return { bytes: Buffer.concat([head, body]), outcome: "ok" };
        }
        // a hello that may be answered again and again waits for a change of what it knows
        if ((message.readInt32LE(16) & (1 << 16)) !== 0) return { bytes: null, outcome: "waits" };
        const reply = run(deserialize(message.subarray(21, 21 + message.readInt32LE(21))));
        const body = serialize(reply);
        const head = Buffer.concat([little(21 + body.byteLength, 0, id, 2013, 0), Buffer.of(0)]);
        const failed = reply["ok"] === 0 || "writeErrors" in reply;
        return { bytes: Buffer.concat([head, body]), outcome: failed ? "failed" : "ok" };
      },
    );
    const counts = await bed.since(port, "mongodb");
    const waits = bed.self("waitsByDesign");
    const client = new MongoClient(`mongodb://127.0.0.1:${port}/?maxPoolSize=4&retryReads=false&retryWrites=false`);
    await client.connect();
    const database = client.db("d");
    const command = (i: number): Promise<unknown> => {
      if (i % 20 === 3) return database.collection("bad").findOne({});
      if (i % 20 === 13) return database.collection("twice").insertOne({ i });
      return i % 2 === 0 ? database.collection("c").findOne({ i }) : database.collection("c").insertOne({ i });
    };
    let refused = 0;
    for (let i = 0; i < N; i += 20) {
      const done = await Promise.allSettled(Array.from({ length: 20 }, (_, at) => command(i + at)));
      refused += done.filter(({ status }) => status === "rejected").length;
    }
    expect(refused).toBe(N / 10);
    expect(told.failed).toBe(N / 10);
    expect(told.ok).toBeGreaterThan((N * 9) / 10);
    expect(await counts()).toEqual({ ok: [told.ok, told.ok], failed: [told.failed, told.failed] });
    expect(bed.self("waitsByDesign") - waits).toBe(2 * told.waits);
    expect(told.waits).toBeGreaterThan(0);
    expect(bed.find({ port }).map((edge) => edge.pendingCount)).toEqual([0, 0]);
    await client.close();
    server.close();
  });

  it(`counts ${N} requests of KafkaJS, a tenth of them errors`, async () => {
    const KEY = { produce: 0, metadata: 3, versions: 18 };
    const u16 = (n: number): Buffer => Buffer.of((n >> 8) & 255, n & 255);
    const u32 = (n: number): Buffer => Buffer.of((n >>> 24) & 255, (n >>> 16) & 255, (n >>> 8) & 255, n & 255);
    const name = (words: string): Buffer => Buffer.concat([u16(words.length), Buffer.from(words)]);
    const list = (...items: readonly Buffer[]): Buffer => Buffer.concat([u32(items.length), ...items]);
    const { server, port, told } = await serve(
      (held) => 4 + held.readInt32BE(0),
      (message, at) => {
        const [key, id] = [message.readInt16BE(4), message.readInt32BE(8)];
        const bad = message.includes("bad-topic");
        const topic = bad ? "bad-topic" : "good-topic";
        const partition = Buffer.concat([u16(0), u32(0), u32(1), list(u32(1)), list(u32(1))]);
        const body =
          key === KEY.versions
            ? Buffer.concat([
                u16(0),
                list(...Object.values(KEY).map((k) => Buffer.concat([u16(k), u16(0), u16(k === KEY.produce ? 2 : 0)]))),
              ])
            : key === KEY.metadata
              ? Buffer.concat([
                  list(Buffer.concat([u32(1), name("127.0.0.1"), u32(at)])),
                  list(...["bad-topic", "good-topic"].map((t) => Buffer.concat([u16(0), name(t), list(partition)]))),
                ])
              : Buffer.concat([
                  list(
                    Buffer.concat([name(topic), list(Buffer.concat([u32(0), u16(bad ? 10 : 0), Buffer.alloc(16)]))]),
                  ),
                  u32(0),
                ]);
        const failed = key === KEY.produce && bad;
        return { bytes: Buffer.concat([u32(4 + body.byteLength), u32(id), body]), outcome: failed ? "failed" : "ok" };
      },
    );
    const counts = await bed.since(port, "kafka");
    const kafka = new Kafka({ brokers: [`127.0.0.1:${port}`], logLevel: logLevel.NOTHING, retry: { retries: 0 } });
    const producer = kafka.producer({ allowAutoTopicCreation: false });
    await producer.connect();
    let refused = 0;
    for (let i = 0; i < N; i += 20) {
      const done = await Promise.allSettled(
        Array.from({ length: 20 }, (_, at) =>
          producer.send({
            topic: at % 10 === 3 ? "bad-topic" : "good-topic",
            messages: [{ value: "x".repeat(at * 9) }],
          }),
        ),
      );
      refused += done.filter(({ status }) => status === "rejected").length;
    }
    expect(refused).toBe(N / 10);
    expect(told.failed).toBe(N / 10);
    expect(await counts()).toEqual({ ok: [told.ok, told.ok], failed: [told.failed, told.failed] });
    await producer.disconnect();
    server.close();
  });
});
