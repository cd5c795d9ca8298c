/**
 * Requests seen at the end of system calls, as on kernels before 6.3, here by the probe's own switch: real clients and
 * servers, counted exactly at both ends. Every other spec can be run so too, see ProbeBed.start.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { ROLE, STATUS } from "../../schemas/wire/observe.ts";
import { describeWith } from "../capabilities.ts";
import { COMMAND, MysqlClient } from "./MysqlClient.ts";
import { buildProbe, ProbeBed, probePath, SYSCALLS } from "./ProbeBed.ts";
import { startMariadb, startNginx, startPostgres, startRedis } from "./servers.ts";
import { command, exchange, HttpClient, open, pgbench, psql, redisBenchmark } from "./traffic.ts";

const N = 10_000;

describeWith(["bpf"], "at the end of system calls", () => {
  let bed: ProbeBed;
  beforeAll(async () => {
    buildProbe();
    bed = await ProbeBed.start(probePath, SYSCALLS);
  });
  afterAll(() => bed.stop());

  it("says that it sees requests so, and why", () => {
    expect(bed.capabilities.filter((one) => one.feature.startsWith("requests.") && one.state !== "on")).toEqual([
      {
        feature: "requests.calls",
        state: "degraded",
        errno: 0,
        reason: expect.stringMatching(/^seen at the end of system calls.*: asked for$/),
      },
    ]);
  });

  describeWith(["nginx"], "HTTP", () => {
    it(`counts ${N} requests with their outcomes, replies by writev and sendfile, and forgets what is closed`, async () => {
      const nginx = await startNginx(
        `location = /fail { return 503; } location = /no { return 404; }
         location /file { } location / { return 200 "hello\\n"; }`,
      );
      writeFileSync(join(nginx.folder, "file"), Buffer.alloc(20_000, "x"));
      const client = new HttpClient(nginx.port, 4);
      await client.times(N - 1_300, {}, 4);
      await client.times(300, { path: "/file" }, 4);
      await client.times(600, { path: "/no" }, 4);
      await client.times(400, { path: "/fail" }, 4);
      client.close();
      await bed.settled();
      expect(bed.both(nginx.port, "http", STATUS.ok)).toEqual([N - 1_000, N - 1_000]);
      expect(bed.both(nginx.port, "http", STATUS.rejected)).toEqual([600, 600]);
      expect(bed.both(nginx.port, "http", STATUS.failed)).toEqual([400, 400]);
      const [client4, server4] = [ROLE.client, ROLE.server].map((role) => bed.find({ role, port: nginx.port })[0]);
      expect([client4?.edge.tgid, client4?.bytesIn]).toEqual([process.pid, server4?.bytesOut]);
      await bed.until("all closes", () => bed.find({ port: nginx.port }).every((edge) => edge.active === 0));
      await nginx.stop();
    });
  });

  describeWith(["redis"], "Redis", () => {
    it(`counts ${N} commands in pipelines, one at a time and on a socket older than the probe`, async () => {
      const redis = await startRedis();
      const socket = await open(redis.port);
      await exchange(socket, command("SET", "k", "v"), (answer) => answer === "+OK\r\n");
      const late = await ProbeBed.start(probePath, SYSCALLS);
      try {
        for (let i = 0; i < 100; i++)
          await exchange(socket, command(i % 4 === 0 ? "NOPE" : "GET", "k"), (answer) => answer.endsWith("\r\n"));
        await late.settled();
        expect(late.both(redis.port, "redis", STATUS.failed)).toEqual([25, 25]);
        expect(late.both(redis.port, "redis", STATUS.ok)).toEqual([75, 75]);
      } finally {
        await late.stop();
        socket.destroy();
      }
      const since = await bed.since(redis.port, "redis");
      redisBenchmark(redis.port, N, 16, 100, "set,get");
      redisBenchmark(redis.port, N, 1, 100, "set");
      // the driver asks for two settings before each of its runs
      expect(await since()).toEqual({ ok: [3 * N + 4, 3 * N + 4] });
      await redis.stop();
    });
  });

  describeWith(["postgres"], "PostgreSQL", () => {
    it(`counts ${N} statements of each protocol, and errors`, async () => {
      const postgres = await startPostgres();
      const script = join(postgres.folder, "script.sql");
      writeFileSync(script, "select 1;\n");
      const since = await bed.since(postgres.port, "postgres");
      for (const mode of ["simple", "prepared"]) await pgbench(postgres.port, mode, 4, N / 4, script);
      psql(postgres.port, "select 1/0;\n".repeat(300));
      expect(await since()).toEqual({ ok: [2 * N + 4, 2 * N + 4], failed: [300, 300] });
      await postgres.stop();
    });
  });

  describeWith(["mariadb"], "MySQL", () => {
    it(`counts ${N} statements, a tenth of them errors`, async () => {
      const server = await startMariadb();
      const since = await bed.since(server.port, "mysql");
      const client = await MysqlClient.connect(server.port, false);
      for (let i = 0; i < N; i++) await client.call(COMMAND.query, i % 10 === 0 ? "select * from no.such" : "select 1");
      client.socket.destroy();
      expect(await since()).toEqual({ ok: [(N * 9) / 10, (N * 9) / 10], failed: [N / 10, N / 10] });
      await server.stop();
    }, 60_000);
  });
});
