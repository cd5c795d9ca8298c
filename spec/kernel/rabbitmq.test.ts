/** AMQP 0-9-1 against RabbitMQ: confirms, messages, basic.get, methods, closed channels; byte by byte; older connections. */
import type { Socket } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { ROLE, STATUS } from "../../schemas/wire/observe.ts";
import { describeWith } from "../capabilities.ts";
import { buildProbe, ProbeBed } from "./ProbeBed.ts";
import { halt, startRabbit } from "./servers.ts";
import { open } from "./traffic.ts";

const N = 10_000;
const u8 = (n: number): Buffer => Buffer.of(n);
const u16 = (n: number): Buffer => Buffer.of(n >> 8, n & 255);
const u32 = (n: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(n);
  return bytes;
};
const short = (text: string): Buffer => Buffer.concat([u8(text.length), Buffer.from(text)]);
const long = (bytes: Buffer): Buffer => Buffer.concat([u32(bytes.byteLength), bytes]);
const frame = (type: number, channel: number, payload: Buffer): Buffer =>
  Buffer.concat([u8(type), u16(channel), u32(payload.byteLength), payload, u8(0xce)]);
type Method = readonly [class_: number, method: number];
const call = (channel: number, [class_, method]: Method, ...parts: readonly Buffer[]): Buffer =>
  frame(1, channel, Buffer.concat([u16(class_), u16(method), ...parts]));

const PREFACE = Buffer.from("AMQP\0\0\x09\x01", "latin1");
const NONE = u32(0);
const CHANNEL_OPEN: Method = [20, 10];
const CHANNEL_CLOSED: Method = [20, 40];
const DECLARE: Method = [50, 10];
const CONSUME: Method = [60, 20];
const PUBLISH: Method = [60, 40];
const RETURN: Method = [60, 50];
const DELIVER: Method = [60, 60];
const GET: Method = [60, 70];
const ACK: Method = [60, 80];
const NACK: Method = [60, 120];
const SELECT: Method = [85, 10];

const declare = (channel: number, queue: string, passive = false, ...args: readonly Buffer[]): Buffer =>
  call(channel, DECLARE, u16(0), short(queue), u8(passive ? 1 : 8), long(Buffer.concat(args)));
/** A queue that takes one message and refuses the others. */
const small = (channel: number, queue: string): Buffer =>
  declare(
    channel,
    queue,
    false,
    Buffer.concat([short("x-max-length"), Buffer.from("I"), u32(1)]),
    Buffer.concat([short("x-overflow"), Buffer.from("S"), long(Buffer.from("reject-publish"))]),
  );
const publish = (
  channel: number,
  queue: string,
  body: Buffer = Buffer.from("hello"),
  mandatory = false,
  exchange = "",
): Buffer => {
  const bodies: Buffer[] = [];
  for (let at = 0; at < body.byteLength; at += 100_000) bodies.push(frame(3, channel, body.subarray(at, at + 100_000)));
  return Buffer.concat([
    call(channel, PUBLISH, u16(0), short(exchange), short(queue), u8(mandatory ? 1 : 0)),
    frame(2, channel, Buffer.concat([u16(60), u16(0), u32(0), u32(body.byteLength), u16(0)])),
    ...bodies,
  ]);
};
const get = (channel: number, queue: string): Buffer => call(channel, GET, u16(0), short(queue), u8(1));
const consume = (channel: number, queue: string): Buffer =>
  call(channel, CONSUME, u16(0), short(queue), short(""), u8(2), NONE);

/** A connection that counts the methods it is sent, and how many publishes are confirmed per channel. */
class Client {
  readonly socket: Socket;
  private readonly got = new Map<string, number>();
  /** numbers that wait for a confirm, by channel */
  private readonly waits = new Map<number, { last: number; readonly open: Set<number> }>();
  accepted = 0;
  refused = 0;
  private held: Buffer = Buffer.alloc(0);
  private holds: () => boolean = () => false;
  private done: () => void = () => undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.held = this.held.byteLength === 0 ? chunk : Buffer.concat([this.held, chunk]);
      while (this.frame());
      if (this.holds()) this.done();
    });
  }
  static async open(port: number, ...channels: readonly number[]): Promise<Client> {
    const client = new Client(await open(port));
    await client.say(PREFACE, [10, 10]);
    const login = [short("PLAIN"), long(Buffer.from("\0guest\0guest")), short("en_US")];
    await client.say(call(0, [10, 11], NONE, ...login), [10, 30]);
    const tune = call(0, [10, 31], u16(100), u32(131_072), u16(0));
    await client.say(Buffer.concat([tune, call(0, [10, 40], short("/"), short(""), u8(0))]), [10, 41]);
    for (const channel of channels) await client.say(call(channel, CHANNEL_OPEN, short("")), [20, 11]);
    return client;
  }
  count([class_, method]: Method): number {
    return this.got.get(`${class_}.${method}`) ?? 0;
  }
  private lane(channel: number): { last: number; readonly open: Set<number> } {
    const lane = this.waits.get(channel) ?? { last: 0, open: new Set() };
    this.waits.set(channel, lane);
    return lane;
  }
  /** Publishes in confirm mode, on these channels one by one, and waits for all confirms. */
  async publish(channels: readonly number[], send: Buffer | (() => Promise<void>)): Promise<void> {
    for (const channel of channels) {
      const lane = this.lane(channel);
      lane.open.add(++lane.last);
    }
    if (typeof send === "function") await send();
    else this.socket.write(send);
    await this.until(() => channels.every((channel) => this.lane(channel).open.size === 0));
  }
  async byByte(bytes: Buffer): Promise<void> {
    for (const byte of bytes) await new Promise((resolve) => this.socket.write(Buffer.of(byte), resolve));
  }
  async until(holds: () => boolean): Promise<void> {
    if (holds()) return;
    this.holds = holds;
    await new Promise<void>((resolve) => (this.done = resolve));
    this.holds = () => false;
  }
  /** Sends bytes and waits for one more of a method. */
  async say(bytes: Buffer, answer: Method): Promise<void> {
    const before = this.count(answer);
    this.socket.write(bytes);
    await this.until(() => this.count(answer) > before);
  }
  private frame(): boolean {
    const { held } = this;
    if (held.byteLength < 8) return false;
    const whole = 8 + held.readUInt32BE(3);
    if (held.byteLength < whole) return false;
    if (held[0] === 1) {
      const [class_, method, channel] = [held.readUInt16BE(7), held.readUInt16BE(9), held.readUInt16BE(1)];
      this.got.set(`${class_}.${method}`, this.count([class_, method]) + 1);
      if (class_ === 60 && (method === ACK[1] || method === NACK[1])) {
        const tag = held.readUInt32BE(15);
        const { open } = this.lane(channel);
        for (const one of ((held[19] ?? 0) & 1) === 1 ? [...open].filter((n) => n <= tag) : [tag]) {
          if (!open.delete(one)) continue;
          if (method === NACK[1]) this.refused++;
          else this.accepted++;
        }
      }
    }
    this.held = held.subarray(whole);
    return true;
  }
}

describeWith(["bpf", "rabbitmq"], "RabbitMQ at both ends", () => {
  let bed: ProbeBed;
  let server: Awaited<ReturnType<typeof startRabbit>>;
  beforeAll(async () => {
    buildProbe();
    bed = await ProbeBed.start();
    server = await startRabbit();
  }, 60_000);
  afterAll(async () => {
    await bed.stop();
    await server.stop();
  });
  const timed = (status: string): readonly number[] =>
    [ROLE.client, ROLE.server].map((role) =>
      bed
        .find({ role, port: server.port })
        .reduce((n, sum) => n + (sum.histograms.get(`rabbitmq.${status}`)?.reduce((a, b) => a + b, 0) ?? 0), 0),
    );

  it.each([20, 500])(`counts ${N} confirmed publishes in batches of %i, a tenth of them refused`, async (depth) => {
    const counts = await bed.since(server.port, "rabbitmq");
    const before = timed("ok");
    const client = await Client.open(server.port, 1, 2);
    await client.say(declare(1, `confirmed${depth}`), [50, 11]);
    await client.say(small(1, `small${depth}`), [50, 11]);
    await client.say(call(1, SELECT, u8(0)), [85, 11]);
    await client.say(call(2, SELECT, u8(0)), [85, 11]);
    await client.publish([1], publish(1, `small${depth}`));
    for (let i = 0; i < N; i += depth) {
      const channels = Array.from({ length: depth }, (_, at) => 1 + (at % 2));
      const queue = (at: number): string => `${at % 10 === 3 ? "small" : "confirmed"}${depth}`;
      await client.publish(channels, Buffer.concat(channels.map((channel, at) => publish(channel, queue(at)))));
    }
    // a queue that is about to be full takes some more now and then
    expect(client.accepted + client.refused).toBe(N + 1);
    expect(client.refused).toBeGreaterThan(N / 20);
    // besides: two declarations, and two of confirm mode
    const good = client.accepted + 4;
    expect(await counts()).toEqual({ ok: [good, good], failed: [client.refused, client.refused] });
    expect(timed("ok").map((n, i) => n - (before[i] ?? 0))).toEqual([good, good]);
    expect(bed.find({ port: server.port }).every((edge) => edge.pendingCount === 0)).toBe(true);
    client.socket.destroy();
  });

  it(`counts ${N} messages and their deliveries, what comes back, and what is fetched`, async () => {
    const counts = await bed.since(server.port, "rabbitmq");
    const before = timed("ok");
    const client = await Client.open(server.port, 1);
    const reader = await Client.open(server.port, 1);
    await client.say(declare(1, "news"), [50, 11]);
    await reader.say(consume(1, "news"), [60, 21]);
    for (let i = 0; i < N; i += 100) {
      const batch = Array.from({ length: 100 }, (_, at) =>
        publish(1, at % 10 === 3 ? "nowhere" : "news", Buffer.alloc(at * 3 + 1, 0xce), true),
      );
      client.socket.write(Buffer.concat(batch));
    }
    await reader.until(() => reader.count(DELIVER) === (N * 9) / 10);
    await client.until(() => client.count(RETURN) === N / 10);
    await client.say(declare(1, "box"), [50, 11]);
    for (let i = 0; i < 500; i++) {
      await client.say(Buffer.concat([publish(1, "box"), get(1, "box")]), [60, 71]);
      await client.say(get(1, "box"), [60, 72]);
    }
    const methods = 3 + 1000;
    const all = N + (N * 9) / 10 + 500 + methods;
    expect(await counts()).toEqual({ ok: [all, all], failed: [N / 10, N / 10] });
    expect(timed("ok").map((n, i) => n - (before[i] ?? 0))).toEqual([methods, methods]);
    client.socket.destroy();
    reader.socket.destroy();
  });

  it("takes a closed channel for the failure of what it answers", async () => {
    const counts = await bed.since(server.port, "rabbitmq");
    const client = await Client.open(server.port, 1, 2, 3, 4);
    // no such queue; no such exchange, in confirm mode and without; one that comes back in confirm mode
    await client.say(declare(1, "missing", true), CHANNEL_CLOSED);
    await client.say(call(2, SELECT, u8(0)), [85, 11]);
    await client.say(publish(2, "x", undefined, false, "no-exchange"), CHANNEL_CLOSED);
    await client.say(publish(3, "x", undefined, false, "no-exchange"), CHANNEL_CLOSED);
    await client.say(call(4, SELECT, u8(0)), [85, 11]);
    await client.say(publish(4, "nowhere", undefined, true), ACK);
    client.socket.write(Buffer.concat([1, 2, 3].map((channel) => call(channel, [20, 41]))));
    await client.say(call(1, CHANNEL_OPEN, short("")), [20, 11]);
    await client.say(declare(1, "again"), [50, 11]);
    // a channel that is not open: the server closes the connection
    await client.say(declare(9, "x"), [10, 50]);
    // two of confirm mode, the message to no exchange, and the declaration
    expect(await counts()).toEqual({ ok: [4, 4], failed: [5, 5] });
    client.socket.destroy();
  });

  it("follows frames that are cut at every byte, and bodies that look like frames", async () => {
    const counts = await bed.since(server.port, "rabbitmq");
    const client = await Client.open(server.port, 1);
    await client.say(declare(1, "cut"), [50, 11]);
    await client.say(call(1, SELECT, u8(0)), [85, 11]);
    await client.publish([1], () => client.byByte(publish(1, "cut", publish(1, "cut"))));
    await client.byByte(declare(1, "cut"));
    const large = Buffer.concat(Array.from({ length: 20_000 }, () => publish(1, "cut")));
    await client.publish([1], publish(1, "cut", large));
    expect(await counts()).toEqual({ ok: [5, 5] });
    expect(bed.self("desyncs")).toBe(0);
    client.socket.destroy();
  });

  it("counts what was never confirmed when its connection closes", async () => {
    const counts = await bed.since(server.port, "rabbitmq");
    const client = await Client.open(server.port, 1, 2);
    await client.say(call(1, SELECT, u8(0)), [85, 11]);
    await halt(server.pid);
    client.socket.write(Buffer.concat([publish(1, "a"), publish(1, "b"), get(2, "c")]));
    await bed.until("the wait", () =>
      bed.find({ role: ROLE.client, port: server.port }).some((e) => e.pendingCount === 2),
    );
    client.socket.destroy();
    await bed.until("the end", () => bed.both(server.port, "rabbitmq", STATUS.unanswered)[0] === 3);
    process.kill(server.pid, "SIGCONT");
    expect(await counts()).toMatchObject({ unanswered: [3, expect.any(Number)] });
  });

  it("learns connections that are older than the probe, whichever side speaks", async () => {
    const reader = await Client.open(server.port, 1);
    const client = await Client.open(server.port, 1);
    await reader.say(declare(1, "old"), [50, 11]);
    await reader.say(consume(1, "old"), [60, 21]);
    const late = await ProbeBed.start();
    for (let i = 1; i <= 20; i++) {
      client.socket.write(publish(1, "old"));
      await reader.until(() => reader.count(DELIVER) === i);
    }
    await client.say(get(1, "old"), [60, 72]);
    await late.settled();
    const [atClient, atServer] = late.both(server.port, "rabbitmq", STATUS.ok);
    expect(atClient).toBeGreaterThan(30);
    expect(atServer).toBeGreaterThan(30);
    await late.stop();
    client.socket.destroy();
    reader.socket.destroy();
  });
});
