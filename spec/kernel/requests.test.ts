/**
 * Requests of real clients to real servers, counted exactly at both ends of the connection, by protocol and outcome.
 */
import { writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ROLE, STATUS } from "../../schemas/wire/observe.ts";
import { describeWith } from "../capabilities.ts";
import { buildProbe, ProbeBed } from "./ProbeBed.ts";
import { freePort, type Running, startNginx, startPostgres, startRedis } from "./servers.ts";
import { command, exchange, HttpClient, open, pgbench, psql, redisBenchmark } from "./traffic.ts";

const N = 2_000;
const answered = (answer: string): boolean => answer.endsWith("ok") || answer.endsWith("0\r\n\r\n");
const listen = (server: Server): Promise<number> =>
  new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : 0);
    });
  });

describeWith(["bpf"], "requests at both ends", () => {
  let bed: ProbeBed;
  beforeAll(async () => {
    buildProbe();
    bed = await ProbeBed.start();
  });
  afterAll(() => bed.stop());

  describeWith(["nginx"], "of HTTP", () => {
    let nginx: Running;
    let client: HttpClient;
    beforeAll(async () => {
      nginx = await startNginx(
        `location = /fail { return 503; } location = /no { return 404; }
         location /file { } location / { return 200 "hello\\n"; }`,
      );
      writeFileSync(join(nginx.folder, "file"), Buffer.alloc(20_000, "x"));
    });
    afterAll(() => nginx.stop());

    it("counts each of keep-alive connections, with its outcome", async () => {
      client = new HttpClient(nginx.port, 4);
      await client.times(N, {}, 4);
      await client.times(300, { path: "/file" });
      await client.times(40, { path: "/no" });
      await client.times(20, { path: "/fail" });
      await client.times(10, { method: "HEAD", path: "/file" });
      await bed.settled();
      expect(bed.both(nginx.port, "http", STATUS.ok)).toEqual([N + 310, N + 310]);
      expect(bed.both(nginx.port, "http", STATUS.rejected)).toEqual([40, 40]);
      expect(bed.both(nginx.port, "http", STATUS.failed)).toEqual([20, 20]);
      client.close();
    });

    it("finds every reply of a pipeline, with bodies between them", async () => {
      const before = bed.both(nginx.port, "http", STATUS.ok);
      const socket = await open(nginx.port);
      const get = "GET /file HTTP/1.1\r\nHost: x\r\n\r\n";
      for (let i = 0; i < 50; i++)
        await exchange(socket, get.repeat(10), (answer) => answer.length >= 200_000 && answer.endsWith("x"));
      socket.destroy();
      await bed.settled();
      expect(bed.both(nginx.port, "http", STATUS.ok)).toEqual([before[0] + 500, before[1] + 500]);
    });
  });

  describe("of HTTP in Node.js", () => {
    it("passes by interim replies, chunked bodies and uploads", async () => {
      const server = createServer((ask, reply) => {
        ask.resume();
        ask.once("end", () => {
          reply.write("part");
          reply.end("end");
        });
      });
      const port = await listen(server);
      const client = new HttpClient(port);
      await client.times(500, { method: "POST", body: Buffer.alloc(30_000, "y") });
      await client.times(100, { method: "PUT", body: Buffer.from("small"), headers: { expect: "100-continue" } });
      await client.times(200);
      client.close();
      await bed.settled();
      expect(bed.both(port, "http", STATUS.ok)).toEqual([800, 800]);
      server.close();
    });
  });

  it("follows messages that are cut at every byte, and ends at an upgrade", async () => {
    const server = createServer((ask, reply) => {
      ask.resume();
      ask.once("end", () => reply.end("ok"));
    });
    server.on("upgrade", (_ask, socket) => {
      socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
      socket.on("data", () => socket.write("HTTP/1.1 200 OK\r\n\r\n"));
    });
    const port = await listen(server);
    const socket = await open(port);
    const post = "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    await exchange(socket, post, answered);
    for (const byte of post.slice(0, -1)) await new Promise((resolve) => socket.write(byte, resolve));
    await exchange(socket, "o", answered);
    // one send of many buffers: writev
    socket.cork();
    for (const byte of post) socket.write(byte);
    const whole = exchange(socket, "", answered);
    socket.uncork();
    await whole;
    await exchange(socket, "GET /up HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", (a) =>
      a.endsWith("\r\n\r\n"),
    );
    await exchange(socket, "GET / HTTP/1.1\r\n\r\n", (a) => a.endsWith("\r\n\r\n"));
    await bed.settled();
    expect(bed.both(port, "http", STATUS.ok)).toEqual([4, 4]);
    expect(bed.find({ port }).map((edge) => edge.pendingCount)).toEqual([0, 0]);
    socket.destroy();
    server.close();
  });

  describeWith(["redis"], "of Redis", () => {
    let redis: Running;
    beforeAll(async () => {
      redis = await startRedis();
    });
    afterAll(() => redis.stop());

    it.each([
      [1, 300],
      [10, 300],
      [10, 3_000],
    ])("counts each command of pipelines of %i with values of %i bytes", async (depth, bytes) => {
      const before = bed.both(redis.port, "redis");
      redisBenchmark(redis.port, N, depth, bytes, "set,get");
      await bed.settled();
      // the driver asks for two settings before each of its runs
      expect(bed.both(redis.port, "redis").map((n, i) => n - (before[i] ?? 0))).toEqual([2 * N + 2, 2 * N + 2]);
      expect(bed.both(redis.port, "redis", STATUS.failed)).toEqual([0, 0]);
    });

    it("follows commands in many buffers and cut at every byte", async () => {
      const ok = bed.both(redis.port, "redis", STATUS.ok);
      const socket = await open(redis.port);
      const set = command("SET", "key", "value of some length", "EX", "1000");
      await exchange(socket, set, (a) => a === "+OK\r\n");
      for (const byte of set.slice(0, -1)) await new Promise((resolve) => socket.write(byte, resolve));
      await exchange(socket, "\n", (a) => a === "+OK\r\n");
      for (let i = 0; i < 20; i++) {
        socket.cork();
        for (const part of `${set}${command("GET", "key")}`.match(/[^]{1,3}/g) ?? []) socket.write(part);
        const both = exchange(socket, "", (a) => a.endsWith("length\r\n"));
        socket.uncork();
        await both;
      }
      socket.destroy();
      await bed.settled();
      expect(bed.both(redis.port, "redis", STATUS.ok)).toEqual([ok[0] + 42, ok[1] + 42]);
      expect(bed.self("desyncs")).toBe(0);
    });

    it("counts error replies as failed and keeps waiting commands out", async () => {
      const ok = bed.both(redis.port, "redis", STATUS.ok);
      const waits = bed.self("waitsByDesign");
      const socket = await open(redis.port);
      for (let i = 0; i < 30; i++) await exchange(socket, command("NOSUCH", "x"), (a) => a.endsWith("\r\n"));
      await exchange(socket, command("SET", "k", "v"), (a) => a === "+OK\r\n");
      await exchange(socket, "PING\r\n", (a) => a === "+PONG\r\n");
      const blocked = exchange(socket, command("BLPOP", "list", "0"), (a) => a.startsWith("*2"));
      await bed.settled();
      const server = bed.find({ role: ROLE.server, port: redis.port });
      expect(server.map((edge) => edge.pendingCount)).toEqual(server.map(() => 0));
      const other = await open(redis.port);
      await exchange(other, command("RPUSH", "list", "a"), (a) => a.startsWith(":"));
      await blocked;
      socket.destroy();
      other.destroy();
      await bed.settled();
      expect(bed.both(redis.port, "redis", STATUS.failed)).toEqual([30, 30]);
      expect(bed.both(redis.port, "redis", STATUS.ok)).toEqual([ok[0] + 3, ok[1] + 3]);
      expect(bed.self("waitsByDesign") - waits).toBe(2);
    });
  });

  describeWith(["postgres"], "of PostgreSQL", () => {
    let postgres: Awaited<ReturnType<typeof startPostgres>>;
    let script: string;
    let seen: readonly [number, number];
    const since = (): readonly number[] => bed.both(postgres.port, "postgres").map((n, i) => n - (seen[i] ?? 0));
    beforeAll(async () => {
      postgres = await startPostgres();
      script = join(postgres.folder, "script.sql");
      writeFileSync(script, "select 1;\n");
      postgres.run("create table t(id int, v text)");
      await bed.settled();
    });
    afterAll(() => postgres.stop());

    it.each([
      ["simple", 0],
      ["extended", 0],
      ["prepared", 4],
    ])("counts each statement of the %s protocol", async (mode, more) => {
      seen = bed.both(postgres.port, "postgres");
      await pgbench(postgres.port, mode, 4, N / 4, script);
      await bed.settled();
      expect(since()).toEqual([N + more, N + more]);
    });

    it("counts errors, also after rows, and is not led astray by long replies and COPY", async () => {
      seen = bed.both(postgres.port, "postgres");
      const failed = bed.both(postgres.port, "postgres", STATUS.failed);
      psql(
        postgres.port,
        [
          "select 1/0;\n".repeat(300),
          "select 1/(50-g) from generate_series(1,100) g;\n",
          "select g, repeat('x', 100) from generate_series(1,2000) g;\n".repeat(5),
          "select repeat('y', 100000) from generate_series(1,20);\n".repeat(5),
          "copy t from stdin;\n1\ta\n2\tb\n\\.\n",
          "copy t to stdout;\n",
          "select 1;\n".repeat(10),
        ].join(""),
      );
      await bed.settled();
      expect(since()).toEqual([323, 323]);
      expect(bed.both(postgres.port, "postgres", STATUS.failed).map((n, i) => n - (failed[i] ?? 0))).toEqual([
        301, 301,
      ]);
    });
  });

  it("leaves a connection alone that speaks nothing it knows", async () => {
    const port = await freePort();
    const { createServer: listenTcp } = await import("node:net");
    const server = listenTcp((socket) => socket.on("data", () => socket.write("1234 unknown\n")));
    await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", () => resolve()));
    const socket = await open(port);
    for (let i = 0; i < 20; i++) await exchange(socket, "?? what\n", (a) => a.endsWith("\n"));
    const client = () => bed.find({ port, role: ROLE.client }).map((edge) => [edge.bytesOut, edge.bytesIn]);
    // connections are read before a tick has its time
    await bed.until("the bytes of 20 exchanges", () => (client()[0]?.[1] ?? 0) >= 260);
    expect(client()).toEqual([[160, 260]]);
    expect(bed.find({ port }).flatMap((edge) => [...edge.requests.keys()])).toEqual([]);
    socket.destroy();
    server.close();
  });
});
