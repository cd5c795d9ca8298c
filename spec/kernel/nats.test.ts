/** NATS against its server: messages, requests by way of inboxes, errors; byte by byte and on connections met later. */
import type { Socket } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { ROLE, STATUS } from "../../schemas/wire/observe.ts";
import { describeWith } from "../capabilities.ts";
import { buildProbe, ProbeBed } from "./ProbeBed.ts";
import { type Running, startNats } from "./servers.ts";
import { open } from "./traffic.ts";

const N = 10_000;
const CONNECT = `CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n`;
const pub = (subject: string, payload = "hello", reply = ""): string =>
  `PUB ${subject} ${reply === "" ? "" : `${reply} `}${payload.length}\r\n${payload}\r\n`;

/** A connection that counts what it is told, and hands each delivery's reply subject to `answer`. */
class Client {
  readonly socket: Socket;
  readonly got = { messages: 0, errors: 0, pongs: 0 };
  answer: (reply: string) => void = () => undefined;
  private held = "";
  private holds: () => boolean = () => true;
  private done: () => void = () => undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.held += chunk.toString("latin1");
      while (this.line());
      if (this.holds()) this.done();
    });
  }
  static async open(port: number): Promise<Client> {
    const client = new Client(await open(port));
    client.socket.write(CONNECT);
    await client.flush();
    return client;
  }
  async until(holds: () => boolean): Promise<void> {
    if (holds()) return;
    this.holds = holds;
    await new Promise<void>((resolve) => (this.done = resolve));
    this.holds = () => false;
  }
  /** Waits until the server has taken all that was sent. */
  async flush(text = ""): Promise<void> {
    const { pongs } = this.got;
    this.socket.write(`${text}PING\r\n`);
    await this.until(() => this.got.pongs > pongs);
  }
  async byByte(text: string): Promise<void> {
    for (const byte of text) await new Promise((resolve) => this.socket.write(byte, "latin1", resolve));
  }
  private line(): boolean {
    const end = this.held.indexOf("\r\n");
    if (end < 0) return false;
    const words = this.held.slice(0, end).split(" ");
    const [verb] = words;
    let next = end + 2;
    if (verb === "MSG" || verb === "HMSG") {
      next += Number(words.at(-1)) + 2;
      if (this.held.length < next) return false;
      this.got.messages++;
      const reply = words.length === (verb === "MSG" ? 5 : 6) ? words[3] : undefined;
      if (reply !== undefined) this.answer(reply);
    } else if (verb === "-ERR") this.got.errors++;
    else if (verb === "PONG") this.got.pongs++;
    this.held = this.held.slice(next);
    return true;
  }
}

describeWith(["bpf", "nats"], "NATS at both ends", () => {
  let bed: ProbeBed;
  let server: Running;
  beforeAll(async () => {
    buildProbe();
    bed = await ProbeBed.start();
    server = await startNats();
  });
  afterAll(async () => {
    await bed.stop();
    await server.stop();
  });
  /** How many requests of a status had a latency, at both ends. */
  const timed = (status: string): readonly number[] =>
    [ROLE.client, ROLE.server].map((role) =>
      bed
        .find({ role, port: server.port })
        .reduce((n, sum) => n + (sum.histograms.get(`nats.${status}`)?.reduce((a, b) => a + b, 0) ?? 0), 0),
    );

  it.each([1, 20])(`counts ${N} requests in batches of %i, a tenth of them without a responder`, async (depth) => {
    const counts = await bed.since(server.port, "nats");
    const before = { ok: timed("ok"), failed: timed("failed") };
    const worker = await Client.open(server.port);
    let replies = "";
    worker.answer = (reply) => {
      if (replies === "")
        setImmediate(() => {
          worker.socket.write(replies);
          replies = "";
        });
      replies += pub(reply, "an answer");
    };
    await worker.flush("SUB app.echo workers 1\r\n");
    const client = await Client.open(server.port);
    await client.flush(`SUB _INBOX.abcdefghijklmnopqrstuv${depth}.* 7\r\n`);
    for (let i = 0; i < N; i += depth) {
      const batch = Array.from({ length: depth }, (_, at) =>
        pub((i + at) % 10 === 3 ? "app.nobody" : "app.echo", "x", `_INBOX.abcdefghijklmnopqrstuv${depth}.${i + at}`),
      );
      client.socket.write(batch.join(""));
      await client.until(() => client.got.messages >= i + depth);
    }
    const good = (N * 9) / 10;
    // the request itself, and at the worker's connection one delivery and one publication
    expect(await counts()).toEqual({ ok: [3 * good, 3 * good], failed: [N / 10, N / 10] });
    expect(timed("ok").map((n, i) => n - (before.ok[i] ?? 0))).toEqual([good, good]);
    expect(timed("failed").map((n, i) => n - (before.failed[i] ?? 0))).toEqual([N / 10, N / 10]);
    expect(bed.find({ port: server.port }).map((edge) => edge.pendingCount)).toEqual([0, 0]);
    client.socket.destroy();
    worker.socket.destroy();
  });

  it(`counts ${N} publications, a tenth of them refused, and their deliveries`, async () => {
    const counts = await bed.since(server.port, "nats");
    const before = timed("ok");
    const client = await Client.open(server.port);
    const reader = await Client.open(server.port);
    await reader.flush("SUB app.news 1\r\n");
    for (let i = 0; i < N; i += 100)
      await client.flush(
        Array.from({ length: 100 }, (_, at) => pub(at % 10 === 3 ? "forbidden" : "app.news", "y".repeat(at * 7))).join(
          "",
        ),
      );
    await reader.until(() => reader.got.messages === (N * 9) / 10);
    expect(client.got.errors).toBe(N / 10);
    const all = N + (N * 9) / 10;
    expect(await counts()).toEqual({ ok: [all, all], rejected: [N / 10, N / 10] });
    expect(timed("ok")).toEqual(before);
    client.socket.destroy();
    reader.socket.destroy();
  });

  it("follows lines and payloads that are cut at every byte, large ones, and ones that look like lines", async () => {
    const counts = await bed.since(server.port, "nats");
    const client = await Client.open(server.port);
    await client.flush("SUB app.> 1\r\nSUB _INBOX.one 2\r\n");
    await client.byByte(
      `${pub("app.a-subject-that-is-longer-than-what-the-window-carries-over.and.more.of.it", "PUB app.x 3\r\nabc\r\n")}` +
        `HPUB app.h  22 25\r\nNATS/1.0 503\r\nA: b\r\n\r\nabc\r\n${pub("app.q", "?", "_INBOX.one")}${pub("_INBOX.one", "!")}`,
    );
    await client.until(() => client.got.messages === 4);
    await client.flush(pub("app.large", "PUB app.y 1\r\nz\r\n".repeat(60_000)));
    await client.until(() => client.got.messages === 5);
    await client.flush("pub app.lower 1\r\nx\r\n");
    await client.until(() => client.got.messages === 6);
    // four messages, five deliveries to app.>, the request with its answer, and the answer as it is published
    expect(await counts()).toEqual({ ok: [11, 11] });
    expect(bed.self("desyncs")).toBe(0);
    client.socket.destroy();
  });

  it("counts requests that are never answered when their connection closes, and nobody else's inboxes", async () => {
    const counts = await bed.since(server.port, "nats");
    const worker = await Client.open(server.port);
    await worker.flush("SUB app.silent 1\r\n");
    const client = await Client.open(server.port);
    await client.flush("SUB _INBOX.mine.* 1\r\n");
    await client.flush(pub("app.silent", "?", "_INBOX.mine.1") + pub("app.silent", "?", "_INBOX.theirs.1"));
    await worker.until(() => worker.got.messages === 2);
    await bed.settled();
    expect(bed.find({ port: server.port }).map((edge) => edge.pendingCount)).toEqual([1, 1]);
    client.socket.destroy();
    await bed.until("both ends", () => bed.both(server.port, "nats", STATUS.unanswered).every((n) => n === 1));
    expect(await counts()).toEqual({ ok: [3, 3], unanswered: [1, 1] });
    worker.socket.destroy();
  });

  it("learns connections that are older than the probe, whichever side speaks", async () => {
    const reader = await Client.open(server.port);
    await reader.flush("SUB app.old 1\r\nSUB _INBOX.mine.* 2\r\n");
    const client = await Client.open(server.port);
    const late = await ProbeBed.start();
    for (let i = 0; i < 20; i++) client.socket.write(pub("app.old"));
    await reader.until(() => reader.got.messages === 20);
    // the second request knows its inbox from the reply to the first
    for (let i = 0; i < 2; i++) {
      const { messages } = reader.got;
      await reader.flush(pub("app.nobody", "?", `_INBOX.mine.${i}`));
      await reader.until(() => reader.got.messages > messages);
    }
    await late.settled();
    const [atClient, atServer] = late.both(server.port, "nats", STATUS.ok);
    // all but the first few, which were the votes
    expect(atClient).toBeGreaterThan(30);
    expect(atServer).toBeGreaterThan(30);
    expect(late.both(server.port, "nats", STATUS.failed)).toEqual([1, 1]);
    await late.stop();
    reader.socket.destroy();
    client.socket.destroy();
  });
});
