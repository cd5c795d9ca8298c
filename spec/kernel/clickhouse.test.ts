/** ClickHouse's native protocol against its server: by its own client, compressed and not, and by a small one. */
import { execFileSync, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import type { Socket } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { ROLE, STATUS } from "../../schemas/wire/observe.ts";
import { describeWith } from "../capabilities.ts";
import { buildProbe, ProbeBed } from "./ProbeBed.ts";
import { type Running, startClickHouse } from "./servers.ts";
import { open } from "./traffic.ts";

const N = 10_000;
const REVISION = 54_058;
const number = (n: number): Buffer => {
  const bytes: number[] = [];
  for (let left = n; ; left >>= 7) {
    if (left < 128) return Buffer.of(...bytes, left);
    bytes.push((left & 127) | 128);
  }
};
const text = (words: string): Buffer => Buffer.concat([number(words.length), Buffer.from(words)]);
const version = Buffer.concat([Buffer.of(18, 16), number(REVISION)]);
const HELLO = Buffer.concat([
  Buffer.of(0),
  text("a client of the spec"),
  version,
  text("default"),
  text("default"),
  text(""),
]);
const PING = Buffer.of(4);
/** A query, and the block without columns that ends what comes with it. */
const query = (sql: string, id = ""): Buffer =>
  Buffer.concat([
    Buffer.of(1),
    text(id),
    Buffer.of(1),
    ...["", "", "0.0.0.0:0"].map(text),
    Buffer.of(1),
    ...["user", "host", "a client of the spec"].map(text),
    version,
    text(""),
    Buffer.of(2, 0),
    text(sql),
    Buffer.of(2, 0, 1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0),
  ]);

class Client {
  readonly socket: Socket;
  private held: Buffer = Buffer.alloc(0);
  private ends: (held: Buffer) => boolean = () => false;
  private done: () => void = () => undefined;
  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.held = Buffer.concat([this.held, chunk]);
      if (this.ends(this.held)) this.done();
    });
  }
  static async open(port: number): Promise<Client> {
    const client = new Client(await open(port));
    await client.call(HELLO, (held) => held.includes("ClickHouse"));
    await client.call(PING, (held) => held.byteLength === 1);
    return client;
  }
  async call(bytes: Buffer, ends: (held: Buffer) => boolean): Promise<void> {
    this.held = Buffer.alloc(0);
    this.ends = ends;
    const done = new Promise<void>((resolve) => (this.done = resolve));
    this.socket.write(bytes);
    await done;
  }
  /** Runs a query with a small result; true when it was answered without an exception. */
  async run(sql: string, id = ""): Promise<boolean> {
    await this.call(query(sql, id), (held) => held.at(-1) === 5 || (held.at(-1) === 0 && held.includes("Exception")));
    return this.held.at(-1) === 5;
  }
}

describeWith(["bpf", "clickhouse"], "ClickHouse at both ends", () => {
  let bed: ProbeBed;
  let server: Running;
  beforeAll(async () => {
    buildProbe();
    bed = await ProbeBed.start();
    server = await startClickHouse();
  }, 30_000);
  afterAll(async () => {
    await bed.stop();
    await server.stop();
  });
  /** Runs statements in the server's own client, which goes on after an exception. */
  const runClient = (sql: string, ...options: readonly string[]): Promise<string> =>
    new Promise((resolve, reject) => {
      const child = spawn(
        "clickhouse-client",
        ["--port", String(server.port), "--multiquery", "--ignore-error", "--format", "Null", ...options],
        { stdio: ["pipe", "ignore", "pipe"], env: { ...process.env, HOME: server.folder } },
      );
      let said = "";
      child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
      child.once("error", reject);
      child.once("close", () => resolve(said));
      child.stdin.end(sql);
    });
  const now = (sql: string): string =>
    execFileSync("clickhouse-client", ["--port", String(server.port), "--query", sql], {
      encoding: "utf8",
      env: { ...process.env, HOME: server.folder },
    });
  const total = (status?: (typeof STATUS)[keyof typeof STATUS]): readonly number[] => [
    ...bed.both(server.port, "clickhouse", status),
  ];
  /** An end that came behind other bytes is believed after half a second. */
  const reaches = async (before: readonly number[], more: number): Promise<void> =>
    bed.until(`${more} more at both ends`, () => total().every((n, i) => n - (before[i] ?? 0) === more));

  it(`counts ${N} queries, a tenth of them exceptions`, async () => {
    const counts = await bed.since(server.port, "clickhouse");
    const before = total();
    const clients = await Promise.all(Array.from({ length: 4 }, () => Client.open(server.port)));
    await Promise.all(
      clients.map(async (client) => {
        for (let i = 0; i < N / 4; i++) {
          const bad = i % 10 === 3;
          const good = await client.run(bad ? "select nothing" : "select 1", i % 3 === 0 ? "" : randomUUID());
          if (good === bad) throw new Error(`query ${i} ended unlike what was asked`);
          if (i % 100 === 0) await client.call(PING, (held) => held.byteLength === 1);
        }
      }),
    );
    await reaches(before, N);
    expect(await counts()).toEqual({ ok: [(N * 9) / 10, (N * 9) / 10], failed: [N / 10, N / 10] });
    for (const client of clients) client.socket.destroy();
  });

  it.each(["1", "0"])(
    "follows the server's client with compression %s: inserts, results of many blocks, late errors",
    async (on) => {
      const counts = await bed.since(server.port, "clickhouse");
      const before = total();
      const statements = [
        `create table t${on} (a UInt64, b String) engine = Memory`,
        `insert into t${on} select number, toString(number) from numbers(1000)`,
        `select number, toString(number * 5) from numbers(2000000)`,
        `select 5, a, b from t${on}`,
        `select throwIf(number = 1500000) from numbers(3000000)`,
        `select number % 6 from numbers(1000000)`,
        "select x from nowhere",
      ];
      const said = await runClient(
        Array.from({ length: 10 }, () => statements.join(";\n")).join(";\n"),
        "--compression",
        on,
      );
      expect(said.match(/^Code: /gm)).toHaveLength(9 + 20);
      await reaches(before, 70);
      expect(await counts()).toEqual({ ok: [41, 41], failed: [29, 29] });
    },
  );

  it("finds the end behind other packets of one read", async () => {
    const counts = await bed.since(server.port, "clickhouse");
    const client = await Client.open(server.port);
    let asked = 0;
    for (const sql of ["select 7", "select throwIf(number = 100000) from numbers(100001)"]) {
      const before = total();
      client.socket.write(query(sql));
      // nothing is read before the server has done with it
      for (let running = 2; running > 1; asked++) running = Number(now("select count() from system.processes"));
      await bed.until("the end at the client", () => total().every((n, i) => n - (before[i] ?? 0) > 1));
    }
    expect(await counts()).toEqual({ ok: [1 + asked, 1 + asked], failed: [1, 1] });
    client.socket.destroy();
  });

  it("counts what is never answered when its connection closes", async () => {
    const counts = await bed.since(server.port, "clickhouse");
    const client = await Client.open(server.port);
    await client.run("select 1");
    client.socket.write(query("select sleep(3)"));
    await bed.until("the wait", () =>
      [ROLE.client, ROLE.server].every((role) =>
        bed.find({ role, port: server.port }).some((edge) => edge.pendingCount === 1),
      ),
    );
    client.socket.destroy();
    await bed.until("both ends", () => total(STATUS.unanswered).every((n) => n === 1));
    expect(await counts()).toEqual({ ok: [1, 1], unanswered: [1, 1] });
  });

  it("learns connections that are older than the probe", async () => {
    const clients = [await Client.open(server.port), await Client.open(server.port)];
    const late = await ProbeBed.start();
    for (const client of clients)
      for (let i = 0; i < 10; i++)
        await client.run("select 1", client === clients[0] ? "" : "00000000-0000-0000-0000-000000000000");
    await late.until("both ends", () => late.both(server.port, "clickhouse", STATUS.ok).every((n) => n === 20));
    await late.stop();
    for (const client of clients) client.socket.destroy();
  });
});
