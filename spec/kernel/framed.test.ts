/**
 * Protocols of frames with a length in front. ZooKeeper against Debian's server. The others have no
 * server here: small ones, written from the protocols' specifications, speak over real sockets.
 */
import { createServer, type Server, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { STATUS } from "../../schemas/wire/observe.ts";
import { describeWith } from "../capabilities.ts";
import { buildProbe, probePath, ProbeBed } from "./ProbeBed.ts";
import { type Running, startZookeeper } from "./servers.ts";
import { open } from "./traffic.ts";

const N = 10_000;
type LengthOf = (held: Buffer) => number;
const behindLength: LengthOf = (held) => (held.byteLength < 4 ? 4 : 4 + held.readInt32BE(0));

const u16 = (n: number): Buffer => {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(n & 0xffff);
  return bytes;
};
const i32 = (n: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(n | 0);
  return bytes;
};
const l32 = (n: number): Buffer => i32(n).reverse();
const text = (words: string): Buffer => Buffer.concat([i32(words.length), Buffer.from(words)]);
const name = (words: string): Buffer => Buffer.concat([u16(words.length), Buffer.from(words)]);
const framed = (...parts: readonly Buffer[]): Buffer => {
  const body = Buffer.concat(parts);
  return Buffer.concat([i32(body.byteLength), body]);
};

/** Calls with each whole frame that comes in. */
const onFrames = (socket: Socket, lengthOf: LengthOf, take: (frame: Buffer) => void): void => {
  let held: Buffer = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    held = held.byteLength === 0 ? chunk : Buffer.concat([held, chunk]);
    for (let n = lengthOf(held); held.byteLength >= n && held.byteLength > 0; n = lengthOf(held)) {
      take(held.subarray(0, n));
      held = held.subarray(n);
    }
  });
};

/** A server that answers each frame by `reply`, null for none; the answers of a batch go out last first where told so. */
const serve = async (
  lengthOf: LengthOf,
  reply: (frame: Buffer) => Buffer | null,
  reversed = false,
): Promise<{ readonly server: Server; readonly port: number }> => {
  const server = createServer((socket) => {
    socket.setNoDelay(true);
    let batch: Buffer[] = [];
    onFrames(socket, lengthOf, (frame) => {
      const answer = reply(frame);
      if (answer === null) return;
      if (batch.length === 0)
        setImmediate(() => {
          socket.write(Buffer.concat(reversed ? batch.toReversed() : batch));
          batch = [];
        });
      batch.push(answer);
    });
    socket.on("error", () => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const address = server.address();
  return { server, port: typeof address === "object" && address !== null ? address.port : 0 };
};

class Client {
  readonly socket: Socket;
  private got = 0;
  private wanted = 0;
  private wait: { readonly resolve: () => void; readonly reject: (error: Error) => void } | null = null;
  private constructor(socket: Socket, lengthOf: LengthOf) {
    this.socket = socket;
    onFrames(socket, lengthOf, () => {
      if (++this.got >= this.wanted) this.wait?.resolve();
    });
    socket.once("close", () => this.wait?.reject(new Error("the server closed the connection")));
  }
  static async open(port: number, lengthOf: LengthOf): Promise<Client> {
    return new Client(await open(port), lengthOf);
  }
  /** Sends bytes and waits until so many frames have come back. */
  async call(bytes: Buffer, replies: number): Promise<void> {
    this.wanted = this.got + replies;
    const done = new Promise<void>((resolve, reject) => (this.wait = { resolve, reject }));
    this.socket.write(bytes);
    if (replies > 0) await done;
    this.wait = null;
  }
  async byByte(bytes: Buffer, replies: number): Promise<void> {
    for (const byte of bytes.subarray(0, -1))
      await new Promise((resolve) => this.socket.write(Buffer.of(byte), resolve));
    await this.call(bytes.subarray(-1), replies);
  }
}

describeWith(["bpf"], "framed requests at both ends", () => {
  let bed: ProbeBed;
  beforeAll(async () => {
    buildProbe();
    bed = await ProbeBed.start();
  });
  afterAll(() => bed.stop());

  /** In batches of `depth`, a tenth of them `bad`; then all byte by byte; then two that are never answered. */
  const exercise = async (
    protocol: "mongodb" | "kafka" | "cassandra" | "dubbo" | "foundationdb",
    port: number,
    lengthOf: LengthOf,
    depth: number,
    request: (i: number, bad: boolean) => Buffer,
    silent: (i: number) => Buffer,
    errors = true,
  ): Promise<void> => {
    const counts = await bed.since(port, protocol);
    const client = await Client.open(port, lengthOf);
    await client.call(request(0, false), 1);
    for (let i = 1; i <= N; i += depth) {
      const batch = Array.from({ length: depth }, (_, at) => request(i + at, (i + at) % 10 === 0));
      await client.call(Buffer.concat(batch), depth);
    }
    await client.byByte(Buffer.concat([request(1, false), request(2, true), request(3, false)]), 3);
    expect(await counts()).toEqual(
      errors ? { ok: [(N * 9) / 10 + 3, (N * 9) / 10 + 3], failed: [N / 10 + 1, N / 10 + 1] } : { ok: [N + 3, N + 3] },
    );
    client.socket.write(Buffer.concat([silent(4), silent(5)]));
    await bed.settled();
    client.socket.destroy();
    await bed.until("both ends", () => bed.both(port, protocol, STATUS.unanswered).every((n) => n === 2));
    expect(bed.self("desyncs")).toBe(0);
    expect(bed.self("unmatched")).toBe(0);
  };

  describe("of MongoDB", () => {
    const lengthOf: LengthOf = (held) => (held.byteLength < 4 ? 4 : held.readInt32LE(0));
    const cstring = (words: string): Buffer => Buffer.from(`${words}\0`);
    const double = (n: number): Buffer => {
      const bytes = Buffer.alloc(8);
      bytes.writeDoubleLE(n);
      return bytes;
    };
    const bson = (...fields: readonly (readonly [type: number, name: string, value: Buffer])[]): Buffer => {
      const body = Buffer.concat([
        ...fields.flatMap(([type, key, value]) => [Buffer.of(type), cstring(key), value]),
        Buffer.of(0),
      ]);
      return Buffer.concat([l32(body.byteLength + 4), body]);
    };
    const string = (words: string): Buffer => Buffer.concat([l32(words.length + 1), cstring(words)]);
    const message = (id: number, to: number, flags: number, body: Buffer): Buffer => {
      const head = [l32(id), l32(to), l32(2013), l32(flags), Buffer.of(0), body];
      return Buffer.concat([l32(4 + Buffer.concat(head).byteLength), ...head]);
    };
    const cursor = bson(
      [0x04, "firstBatch", bson([0x03, "0", bson([0x02, "ok", string("no outcome")], [0x01, "ok", double(0)])])],
      [0x12, "id", Buffer.alloc(8)],
      [0x02, "ns", string("d.c")],
    );
    const good = bson(
      [0x03, "cursor", cursor],
      [0x08, "flag", Buffer.of(0)],
      [0x05, "blob", Buffer.concat([l32(40), Buffer.of(0), Buffer.alloc(40)])],
      [0x0a, "nothing", Buffer.alloc(0)],
      [0x07, "electionId", Buffer.alloc(12)],
      [0x01, "ok", double(1)],
      [0x11, "operationTime", Buffer.alloc(8)],
    );
    const bad = [
      bson([0x01, "ok", double(0)], [0x02, "errmsg", string("no")], [0x10, "code", l32(13)]),
      bson([0x02, "errmsg", string("ns not found")], [0x10, "ok", l32(0)]),
      bson([0x10, "n", l32(1)], [0x04, "writeErrors", bson([0x03, "0", bson()])], [0x01, "ok", double(1)]),
    ];
    const request = (i: number, failing: boolean): Buffer =>
      message(i, 0, 0, bson([0x02, failing ? "fail" : "find", string("c")], [0x02, "$db", string("d")]));
    const reply = (frame: Buffer): Buffer | null => {
      const id = frame.readInt32LE(4);
      const flags = frame.readInt32LE(16);
      const word = frame.subarray(26, 30).toString();
      if (word === "mute" || (flags & 2) !== 0) return null;
      return message(id + 1_000_000, id, 0, word === "fail" ? (bad[id % 3] ?? good) : good);
    };
    it.each([1, 20])(`counts ${N} in batches of %i, answered last first`, async (depth) => {
      const { server, port } = await serve(lengthOf, reply, true);
      await exercise("mongodb", port, lengthOf, depth, request, (i) =>
        message(i, 0, 0, bson([0x02, "mute", string("c")])),
      );
      server.close();
    });
    it("keeps out what wants no answer and what waits by design", async () => {
      const { server, port } = await serve(lengthOf, reply);
      const counts = await bed.since(port, "mongodb");
      const waits = bed.self("waitsByDesign");
      const client = await Client.open(port, lengthOf);
      await client.call(request(1, false), 1);
      await client.call(Buffer.concat([message(2, 0, 2, bson([0x02, "insert", string("c")])), request(3, true)]), 1);
      await client.call(message(4, 0, 1 << 16, bson([0x10, "hello", l32(1)])), 1);
      expect(await counts()).toEqual({ ok: [1, 1], failed: [1, 1] });
      expect(bed.self("waitsByDesign") - waits).toBe(2);
      client.socket.destroy();
      server.close();
    });
    it("counts exactly with more in flight than there are slots", async () => {
      const { server, port } = await serve(lengthOf, reply, true);
      const counts = await bed.since(port, "mongodb");
      const client = await Client.open(port, lengthOf);
      await client.call(request(1, false), 1);
      for (let i = 0; i < 10; i++)
        await client.call(
          Buffer.concat(Array.from({ length: 200 }, (_, at) => request(1000 + i * 200 + at, false))),
          200,
        );
      expect(await counts()).toEqual({ ok: [2001, 2001] });
      expect(bed.self("fifoOverflows")).toBeGreaterThan(0);
      client.socket.destroy();
      server.close();
    });
  });

  describe("of Kafka", () => {
    const header = (key: number, version: number, id: number): Buffer[] => [
      u16(key),
      u16(version),
      i32(id),
      name("a client of the spec"),
    ];
    const KEY = { produce: 0, fetch: 1, metadata: 3, heartbeat: 12, versions: 18 };
    const produce = (version: number, id: number, acks: number, topic: string): Buffer =>
      framed(
        ...header(KEY.produce, version, id),
        ...(version >= 9 ? [Buffer.of(0, 0)] : version >= 3 ? [u16(-1)] : []),
        u16(acks),
        i32(30_000),
        version >= 9
          ? Buffer.concat([Buffer.of(2, topic.length + 1), Buffer.from(topic)])
          : Buffer.concat([i32(1), name(topic)]),
        Buffer.alloc(100),
      );
    const produced = (version: number, id: number, topic: string, error: number): Buffer =>
      version >= 9
        ? framed(
            i32(id),
            Buffer.of(0, 2, topic.length + 1),
            Buffer.from(topic),
            Buffer.of(2),
            i32(7),
            u16(error),
            Buffer.alloc(30),
          )
        : framed(i32(id), i32(1), name(topic), i32(1), i32(7), u16(error), Buffer.alloc(20));
    const request = (i: number, bad: boolean): Buffer => {
      const topic = bad ? "bad-topic-of-a-long-name" : "good-topic-of-a-long-name";
      if (i === 0) return framed(...header(KEY.versions, 3, 0), Buffer.alloc(20));
      if (i % 5 === 0) return produce([2, 7, 9][i % 3] ?? 9, i, -1, topic);
      return framed(...header([KEY.heartbeat, KEY.metadata][bad ? 0 : i % 2] ?? 3, i % 5, i), text(topic));
    };
    const reply = (frame: Buffer): Buffer | null => {
      const [key, version, id] = [frame.readInt16BE(4), frame.readInt16BE(6), frame.readInt32BE(8)];
      const bad = frame.includes("bad-topic");
      if (frame.includes("mute") || (key === KEY.produce && frame.includes("no-acks"))) return null;
      if (key === KEY.produce) return produced(version, id, bad ? "bad-topic" : "good-topic", bad ? 6 : 0);
      if (key === KEY.heartbeat)
        return framed(
          i32(id),
          ...(version >= 4 ? [Buffer.of(0)] : []),
          ...(version >= 1 ? [i32(0)] : []),
          u16(bad ? 27 : 0),
        );
      return framed(i32(id), key === KEY.versions ? u16(0) : i32(99), Buffer.alloc(200, 1));
    };
    it.each([1, 20])(`counts ${N} in batches of %i`, async (depth) => {
      const { server, port } = await serve(behindLength, reply);
      await exercise("kafka", port, behindLength, depth, request, (i) =>
        framed(...header(KEY.metadata, 1, i), text("mute")),
      );
      server.close();
    });
    it("keeps out what wants no answer and what waits by design", async () => {
      const { server, port } = await serve(behindLength, reply);
      const counts = await bed.since(port, "kafka");
      const waits = bed.self("waitsByDesign");
      const client = await Client.open(port, behindLength);
      await client.call(request(0, false), 1);
      for (const version of [2, 8, 9]) await client.call(produce(version, 10 + version, 0, "no-acks"), 0);
      for (const version of [2, 8, 9]) await client.call(produce(version, 20 + version, 1, "good-topic"), 1);
      await client.call(framed(...header(KEY.fetch, 11, 40), Buffer.alloc(60)), 1);
      expect(await counts()).toEqual({ ok: [4, 4] });
      expect(bed.self("waitsByDesign") - waits).toBe(2);
      expect(bed.find({ port }).map((edge) => edge.pendingCount)).toEqual([0, 0]);
      client.socket.destroy();
      server.close();
    });
  });

  describe("of Cassandra", () => {
    const lengthOf: LengthOf = (held) => (held.byteLength < 9 ? 9 : 9 + held.readInt32BE(5));
    const frame = (version: number, stream: number, code: number, body: Buffer): Buffer =>
      Buffer.concat([Buffer.of(version, 0), u16(stream), Buffer.of(code), i32(body.byteLength), body]);
    const request = (i: number, bad: boolean): Buffer =>
      i === 0
        ? frame(4, 0, 1, Buffer.concat([u16(1), name("CQL_VERSION"), name("3.0.0")]))
        : frame(4, i % 128, i % 2 === 0 ? 7 : 10, text(bad ? "fail" : "select"));
    const reply = (asked: Buffer): Buffer | null => {
      const stream = asked.readInt16BE(2);
      if (asked.includes("mute")) return null;
      if (asked[4] === 1) return frame(0x84, stream, 2, Buffer.alloc(0));
      const code = asked.includes("fail")
        ? 0x1200
        : asked.includes("wrong")
          ? 0x2000
          : asked.includes("again")
            ? 0x2500
            : 0;
      if (code !== 0) return frame(0x84, stream, 0, Buffer.concat([i32(code), name("it did not work")]));
      return Buffer.concat([
        frame(0x84, -1, 0x0c, name("STATUS_CHANGE")),
        frame(0x84, stream, 8, Buffer.concat([i32(2), Buffer.alloc(500)])),
      ]).subarray(stream % 7 === 0 ? 0 : 24);
    };
    it.each([1, 20])(`counts ${N} in batches of %i, answered last first`, async (depth) => {
      const { server, port } = await serve(
        lengthOf,
        (asked) => {
          const answer = reply(asked);
          // events are frames of their own, which the client here does not count
          return answer?.[4] === 0x0c ? answer.subarray(24) : answer;
        },
        true,
      );
      await exercise("cassandra", port, lengthOf, depth, request, (i) => frame(4, i, 7, text("mute")));
      server.close();
    });
    it("passes events by and tells the client's errors from the server's", async () => {
      const { server, port } = await serve(lengthOf, reply);
      const counts = await bed.since(port, "cassandra");
      const client = await Client.open(port, lengthOf);
      await client.call(request(0, false), 1);
      await client.call(frame(4, 7, 7, text("select")), 2);
      await client.call(frame(4, 8, 7, text("wrong")), 1);
      await client.call(frame(4, 9, 10, text("again")), 1);
      await client.call(frame(4, 10, 10, text("fail")), 1);
      expect(await counts()).toEqual({ ok: [3, 3], rejected: [1, 1], failed: [1, 1] });
      client.socket.destroy();
      server.close();
    });
  });

  describe("of Dubbo", () => {
    const lengthOf: LengthOf = (held) => (held.byteLength < 16 ? 16 : 16 + held.readUInt32BE(12));
    const frame = (flags: number, status: number, id: number, body: Buffer): Buffer =>
      Buffer.concat([Buffer.of(0xda, 0xbb, flags, status), i32(7), i32(id), i32(body.byteLength), body]);
    const CALL = 0xc2;
    const ONE_WAY = 0x82;
    const HEARTBEAT = 0xe2;
    const request = (i: number, bad: boolean): Buffer =>
      frame(CALL, 0, i, Buffer.from(bad ? "fail" : "a call of a method"));
    const reply = (asked: Buffer): Buffer | null => {
      const id = asked.readInt32BE(8);
      const said = asked.subarray(16, 20).toString();
      if (said === "mute" || asked[2] === ONE_WAY || ((asked[2] ?? 0) & 0x80) === 0) return null;
      if (asked[2] === HEARTBEAT) return frame(0x22, 20, id, Buffer.from("N"));
      if (said === "reje") return frame(2, 40, id, Buffer.from("no"));
      if (said !== "fail") return frame(2, 20, id, Buffer.concat([Buffer.of(0x94), Buffer.alloc(200, 0x90)]));
      // a status of the server, and exceptions of the application
      return (
        [
          frame(2, 70, id, Buffer.from("no")),
          frame(2, 20, id, Buffer.from([0x90, 1, 2])),
          frame(2, 20, id, Buffer.from([0x93])),
        ][id % 3] ?? null
      );
    };
    it.each([1, 20])(`counts ${N} in batches of %i, answered last first`, async (depth) => {
      const { server, port } = await serve(lengthOf, reply, true);
      await exercise("dubbo", port, lengthOf, depth, request, (i) => frame(CALL, 0, i, Buffer.from("mute")));
      server.close();
    });
    it("keeps out what wants no answer, and heartbeats of either side", async () => {
      const { server, port } = await serve(lengthOf, (asked) => {
        const answer = reply(asked);
        return answer === null ? null : Buffer.concat([frame(HEARTBEAT, 0, 99, Buffer.from("N")), answer]);
      });
      const counts = await bed.since(port, "dubbo");
      const client = await Client.open(port, lengthOf);
      await client.call(request(1, false), 2);
      await client.call(frame(0x22, 20, 99, Buffer.from("N")), 0);
      await client.call(frame(ONE_WAY, 0, 2, Buffer.from("call")), 0);
      await client.call(frame(HEARTBEAT, 0, 3, Buffer.from("N")), 2);
      await client.call(frame(CALL, 0, 4, Buffer.from("reject")), 2);
      expect(await counts()).toEqual({ ok: [1, 1], rejected: [1, 1] });
      expect(bed.find({ port }).map((edge) => edge.pendingCount)).toEqual([0, 0]);
      client.socket.destroy();
      server.close();
    });
  });

  describe("of FoundationDB", () => {
    const lengthOf: LengthOf = (held) => {
      if (held.byteLength < 12) return 12;
      return held.readUInt16LE(10) === 0x1fdb ? 4 + held.readUInt32LE(0) : 12 + held.readUInt32LE(0);
    };
    const packet = (type: number, body: Buffer): Buffer =>
      Buffer.concat([
        l32(24 + body.byteLength),
        Buffer.alloc(8, 0xee),
        Buffer.alloc(16, 0x77),
        l32(8),
        l32(type),
        body,
      ]);
    const connect = Buffer.concat([l32(40), Buffer.from([0, 0, 0, 0x71, 0, 0xb0, 0xdb, 0x1f]), Buffer.alloc(32)]);
    const REPLIES = new Map([
      [8454530, 1378929],
      [6795746, 1783066],
      [838566, 15709388],
      [93948, 14254927],
    ]);
    const asked = [...REPLIES.keys()];
    const WATCH = 14747733;
    const request = (i: number): Buffer =>
      i === 0 ? connect : packet(asked[i % 4] ?? 0, Buffer.concat([Buffer.alloc(i % 50), Buffer.from("key")]));
    const reply = (held: Buffer): Buffer | null => {
      if (held.readUInt16LE(10) === 0x1fdb) return connect;
      if (held.includes("mute")) return null;
      const type = held.readUInt32LE(32);
      if (type === WATCH) return packet(0x02000003, Buffer.alloc(9));
      return packet(0x02000000 | (REPLIES.get(type) ?? 0), Buffer.alloc(100));
    };
    it.each([1, 20])(`counts ${N} in batches of %i, answered last first`, async (depth) => {
      const { server, port } = await serve(lengthOf, reply, true);
      await exercise("foundationdb", port, lengthOf, depth, request, () => packet(8454530, Buffer.from("mute")), false);
      server.close();
    });
    it("passes watches and other packets by", async () => {
      const { server, port } = await serve(lengthOf, reply);
      const counts = await bed.since(port, "foundationdb");
      const client = await Client.open(port, lengthOf);
      await client.call(connect, 1);
      await client.call(packet(WATCH, Buffer.from("key")), 1);
      await client.call(Buffer.concat([packet(12345, Buffer.from("mute")), request(4)]), 1);
      expect(await counts()).toEqual({ ok: [1, 1] });
      client.socket.destroy();
      server.close();
    });
  });

  it("gives up requests whose clients have, on connections that stay open, and takes no late answer for one", async () => {
    const patient = bed;
    const hasty = await ProbeBed.start(probePath, "--patience", "1");
    const late: Buffer[] = [];
    const ask = (id: number, word: string): Buffer =>
      framed(u16(3), u16(1), i32(id), name("a client of the spec"), text(word));
    const { server, port } = await serve(behindLength, (asked) => {
      const answer = framed(i32(asked.readInt32BE(8)), Buffer.alloc(40));
      if (!asked.includes("mute")) return Buffer.concat([...late.splice(0), answer]);
      late.push(answer);
      return null;
    });
    const client = await Client.open(port, behindLength);
    await client.call(ask(1, "at once"), 1);
    await client.call(Buffer.concat([ask(2, "mute"), ask(3, "mute")]), 0);
    await hasty.until("both ends", () => hasty.both(port, "kafka", STATUS.unanswered).every((n) => n === 2));
    await hasty.settled();
    expect(hasty.find({ port }).map((edge) => edge.pendingCount)).toEqual([0, 0]);
    expect(patient.find({ port }).map((edge) => edge.pendingCount)).toEqual([2, 2]);
    expect(hasty.self("givenUp")).toBe(4);
    await client.call(ask(4, "at once"), 3);
    await client.call(ask(5, "at once"), 1);
    await Promise.all([hasty.settled(), patient.settled()]);
    expect(hasty.both(port, "kafka", STATUS.ok)).toEqual([3, 3]);
    expect(hasty.both(port, "kafka")).toEqual([5, 5]);
    expect(hasty.self("desyncs")).toBe(0);
    expect(patient.both(port, "kafka", STATUS.ok)).toEqual([5, 5]);
    await hasty.stop();
    client.socket.destroy();
    server.close();
  });

  describeWith(["zookeeper"], "of ZooKeeper", () => {
    let server: Running;
    const OP = { create: 1, exists: 3, getData: 4, ping: 11, close: -11 };
    const acl = Buffer.concat([i32(1), i32(31), text("world"), text("anyone")]);
    const ask = (xid: number, type: number, ...parts: readonly Buffer[]): Buffer =>
      framed(i32(xid), i32(type), ...parts);
    const connectBytes = framed(
      i32(0),
      Buffer.alloc(8),
      i32(10_000),
      Buffer.alloc(8),
      text("p".repeat(16)),
      Buffer.of(0),
    );
    const login = async (): Promise<Client> => {
      const client = await Client.open(server.port, behindLength);
      await client.call(connectBytes, 1);
      return client;
    };
    beforeAll(async () => {
      server = await startZookeeper();
    }, 90_000);
    afterAll(() => server.stop());

    it.each([1, 20])(`counts ${N} in batches of %i; what a node's state makes of them is an answer`, async (depth) => {
      const client = await login();
      const counts = await bed.since(server.port, "zookeeper");
      const path = `/spec${depth}`;
      await client.call(ask(1, OP.create, text(path), text("data"), acl, i32(0)), 1);
      for (let i = 2; i < N + 2; i += depth) {
        const batch = Array.from({ length: depth }, (_, at) =>
          (i + at) % 10 === 0
            ? ask(i + at, OP.exists, text("/none"), Buffer.of(0))
            : ask(i + at, OP.getData, text(path), Buffer.of(0)),
        );
        await client.call(Buffer.concat(batch), depth);
      }
      await client.call(ask(-2, OP.ping), 1);
      await client.byByte(ask(N + 10, OP.getData, text(path), Buffer.of(0)), 1);
      // a watch: its event answers nothing
      await client.call(ask(N + 11, OP.exists, text(`${path}/x`), Buffer.of(1)), 1);
      await client.call(ask(N + 12, OP.create, text(`${path}/x`), text(""), acl, i32(0)), 2);
      expect(await counts()).toEqual({ ok: [N + 4, N + 4] });
      client.socket.destroy();
      expect(bed.self("desyncs")).toBe(0);
    });

    it("counts what is refused and what fails", async () => {
      const client = await login();
      const counts = await bed.since(server.port, "zookeeper");
      for (let i = 0; i < 50; i++)
        await client.call(ask(i + 1, OP.create, text("/bad-acl"), text(""), i32(0), i32(0)), 1);
      for (let i = 0; i < 50; i++)
        await client.call(ask(i + 100, OP.create, text("no-slash"), text(""), acl, i32(0)), 1);
      await client.call(ask(200, OP.close), 1);
      expect(await counts()).toEqual({ ok: [1, 1], rejected: [50, 50], failed: [50, 50] });
      client.socket.destroy();
    });
  });
});
