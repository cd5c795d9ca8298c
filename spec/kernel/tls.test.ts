/**
 * Requests within TLS, counted at both ends: nginx, Node.js, Python, curl, Redis and PostgreSQL, with certificates of
 * our own. Each pair first speaks a few words, so that the probe sees TLS and hooks the library, and is counted from
 * then on.
 */
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { chownSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import { type ClientHttp2Session, connect as http2Connect } from "node:http2";
import { Agent, request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeWith, findProgram, itWith } from "../capabilities.ts";
import { buildProbe, ProbeBed } from "./ProbeBed.ts";
import {
  freePort,
  listening,
  makeCertificate,
  startMariadb,
  type Running,
  startNginx,
  startPostgres,
  startRedis,
} from "./servers.ts";
import { GO, NODE, PYTHON, Told } from "./tls-programs.ts";
import { exchange } from "./traffic.ts";

const N = 10_000;
const DEBIAN_PYTHON = "/usr/bin/python3";

/** Keep-alive HTTPS from this process: Node.js keeps cipher text in memory. */
class HttpsClient {
  readonly port: number;
  private readonly agent: Agent;
  constructor(port: number, sockets: number, ca: string) {
    this.port = port;
    this.agent = new Agent({ keepAlive: true, maxSockets: sockets, ca, servername: "localhost" });
  }
  call(path = "/"): Promise<number> {
    return new Promise((resolve, reject) => {
      request({ host: "127.0.0.1", port: this.port, agent: this.agent, path }, (reply) => {
        reply.resume();
        reply.once("end", () => resolve(reply.statusCode ?? 0));
        reply.once("error", reject);
      })
        .once("error", reject)
        .end();
    });
  }
  async times(n: number, path: string, width: number): Promise<void> {
    for (let i = 0; i < n; i += width)
      await Promise.all(Array.from({ length: Math.min(width, n - i) }, () => this.call(path)));
  }
  close(): void {
    this.agent.destroy();
  }
}

describeWith(["bpf", "openssl"], "requests within TLS", () => {
  let bed: ProbeBed;
  let certificate: ReturnType<typeof makeCertificate>;
  beforeAll(async () => {
    buildProbe();
    certificate = makeCertificate();
    bed = await ProbeBed.start(undefined, "--tls-delay", "0", "--tls-budget", "0");
  });
  afterAll(async () => {
    await bed.stop();
    certificate.remove();
  });

  const isRead = (pid: number): boolean => bed.tls.get(pid)?.state === "read";
  const read = (...pids: readonly number[]): Promise<void> =>
    bed.until(`hooks in ${pids.join(", ")}`, () => pids.every(isRead));
  /** Waits for the server of a port, which may be a child of what was started. */
  const serverRead = (port: number): Promise<void> =>
    bed.until(`hooks in the server of ${port}`, () =>
      bed.find({ port, role: 1 }).some(({ edge }) => isRead(edge.tgid)),
    );

  describeWith(["nginx"], "of nginx", () => {
    let nginx: Running;
    /** what nginx asks for /wait: answered only when it is let go */
    const held: ServerResponse[] = [];
    const behind = createServer((_ask, reply) => void held.push(reply));
    beforeAll(async () => {
      const port = await freePort();
      await new Promise<void>((resolve) => behind.listen(port, "127.0.0.1", resolve));
      nginx = await startNginx(
        `ssl_certificate ${certificate.cert}; ssl_certificate_key ${certificate.key};
         location = /fail { return 503; } location = /no { return 404; } location = /wait { proxy_pass http://127.0.0.1:${port}; }
         location /file { } location / { return 200 "hello\\n"; }`,
        "ssl",
      );
      writeFileSync(join(nginx.folder, "file"), Buffer.alloc(20_000, "x"));
    });
    afterAll(async () => {
      await nginx.stop();
      behind.close();
    });

    it("counts each of keep-alive connections of Node.js, with its outcome", async () => {
      const client = new HttpsClient(nginx.port, 8, certificate.ca);
      await client.times(16, "/", 8);
      await read(process.pid);
      await serverRead(nginx.port);
      const counted = await bed.since(nginx.port, "http");
      await client.times(N - 1_000, "/", 8);
      await client.times(700, "/no", 8);
      await client.times(300, "/fail", 8);
      expect(await counted()).toEqual({ ok: [N - 1_000, N - 1_000], rejected: [700, 700], failed: [300, 300] });
      client.close();
    }, 30_000);

    it("finds every reply of a pipeline, and what is left unanswered", async () => {
      const counted = await bed.since(nginx.port, "http");
      const socket = connect({ host: "127.0.0.1", port: nginx.port, ca: certificate.ca, servername: "localhost" });
      await new Promise((resolve) => socket.once("secureConnect", resolve));
      const get = "GET /file HTTP/1.1\r\nHost: x\r\n\r\n";
      for (let i = 0; i < 50; i++)
        await exchange(socket, get.repeat(10), (answer) => answer.length >= 200_000 && answer.endsWith("x"));
      await new Promise((resolve) => socket.write("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n", resolve));
      await bed.until("the request that waits", () =>
        bed.find({ port: nginx.port }).every((e) => e.pendingCount === 1),
      );
      socket.destroy();
      const counts = await counted();
      expect(counts["ok"]).toEqual([500, 500]);
      expect(counts["unanswered"]?.[0]).toBe(1);
    });

    itWith(["wget"], "lists a client whose library it does not read", async () => {
      const wget = new Told("wget", [
        "-q",
        "-O",
        "/dev/null",
        `--ca-certificate=${certificate.caFile}`,
        `https://localhost:${nginx.port}/wait`,
      ]);
      await bed.until("wget on the list", () => bed.tls.get(wget.pid)?.state === "unreadable");
      expect(bed.tls.get(wget.pid)).toMatchObject({ reason: "GnuTLS is not read", connections: 1 });
      for (const reply of held.splice(0)) reply.end("ok");
      await new Promise((resolve) => wget.child.once("exit", resolve));
    });

    it("joins connections that are older than itself, and leaves off where hooks cost too much", async () => {
      const client = new HttpsClient(nginx.port, 4, certificate.ca);
      await client.times(8, "/", 4);
      const late = await ProbeBed.start(undefined, "--tls-delay", "0", "--tls-budget", "0.1");
      const state = (): string => late.tls.get(process.pid)?.state ?? "";
      await client.times(8, "/", 4);
      await late.until(
        "hooks",
        () => state() === "read" && [...late.tls.values()].every((one) => one.state === "read"),
      );
      const counted = await late.since(nginx.port, "http");
      await client.times(100, "/", 4);
      expect(await counted()).toEqual({ ok: [100, 100] });
      const until = performance.now() + 15_000;
      while (state() === "read" && performance.now() < until) await client.times(200, "/", 4);
      expect(state()).toBe("over-budget");
      expect(late.tls.get(process.pid)?.reason).toMatch(/^over its budget: hooks cost \d+ % of its CPU time$/);
      const off = await late.since(nginx.port, "http");
      await client.times(100, "/", 4);
      expect((await off())["ok"]?.[0] ?? 0).toBe(0);
      client.close();
      await late.stop();
    }, 30_000);

    it("hooks nothing where that is turned off, and says so", async () => {
      const off = await ProbeBed.start(undefined, "--no-tls");
      const client = new HttpsClient(nginx.port, 1, certificate.ca);
      await client.times(10, "/", 1);
      await off.until("both on the list", () => off.tls.size === 2);
      expect([...off.tls.values()].map(({ state, reason }) => `${state}: ${reason}`)).toEqual(
        Array.from({ length: 2 }, () => "unreadable: reading TLS is turned off"),
      );
      expect(off.self("tlsLinks")).toBe(0);
      client.close();
      await off.stop();
    });

    itWith(["curl"], "counts those of curl, and names what it was hooked by", async () => {
      const url = `https://localhost:${nginx.port}`;
      const args = ["-sS", "--http1.1", "--cacert", certificate.caFile, "-o", "/dev/null"];
      const counted = await bed.since(nginx.port, "http");
      // the first takes as long as it needs to be seen
      const curl = new Told(findProgram("curl") ?? "curl", [...args, `${url}/wait`, ...args, `${url}/[1-1000]`]);
      await read(curl.pid);
      for (const reply of held.splice(0)) reply.end("ok");
      expect(bed.tls.get(curl.pid)?.reason).toMatch(/^libssl/);
      await new Promise((resolve) => curl.child.once("exit", resolve));
      expect((await counted())["ok"]).toEqual([1_000, 1_001]);
      await bed.until("curl to be gone from the list", () => !bed.tls.has(curl.pid));
    });
  });

  itWith(["nginx"], "counts streams of HTTP/2", async () => {
    const nginx = await startNginx(
      `ssl_certificate ${certificate.cert}; ssl_certificate_key ${certificate.key}; http2_max_requests 100000;
       location = /fail { return 503; } location / { return 200 "hello\n"; }`,
      "ssl http2",
    );
    const open = (): ClientHttp2Session => http2Connect(`https://localhost:${nginx.port}`, { ca: certificate.ca });
    const times = async (session: ClientHttp2Session, n: number): Promise<void> => {
      for (let i = 0; i < n; i += 10)
        await Promise.all(
          Array.from({ length: 10 }, (_, k) =>
            once(session.request({ ":path": k === 9 ? "/fail" : "/" }).resume(), "end"),
          ),
        );
    };
    const first = open();
    await times(first, 10);
    await read(process.pid);
    await serverRead(nginx.port);
    first.close();
    // from its beginning, since headers refer to those before
    const next = open();
    const counted = await bed.since(nginx.port, "http");
    await times(next, 1_000);
    expect(await counted()).toEqual({ ok: [900, 900], failed: [100, 100] });
    next.close();
    await nginx.stop();
  });

  it("counts those of a Node.js server, whose executable carries the library", async () => {
    const port = await freePort();
    const server = new Told(process.execPath, ["-e", NODE, String(port), certificate.cert, certificate.key]);
    await listening(port, server.child, "node");
    const client = new HttpsClient(port, 4, certificate.ca);
    await client.times(8, "/", 4);
    await read(process.pid, server.pid);
    const counted = await bed.since(port, "http");
    await client.times(2_000, "/", 4);
    await client.times(100, "/no", 4);
    await client.times(50, "/fail", 4);
    expect(await counted()).toEqual({ ok: [2_000, 2_000], rejected: [100, 100], failed: [50, 50] });
    client.close();
    await server.stop();
  });

  itWith(
    ["go"],
    "counts those of a Go server, stripped as well",
    async () => {
      const folder = mkdtempSync(join(tmpdir(), "coroot-go-"));
      writeFileSync(join(folder, "main.go"), GO);
      const client = (port: number): HttpsClient => new HttpsClient(port, 4, certificate.ca);
      for (const flags of ["", "-s -w"]) {
        execFileSync("go", ["build", "-ldflags", flags, "-o", "server", "main.go"], {
          cwd: folder,
          env: { ...process.env, GO111MODULE: "off", CGO_ENABLED: "0" },
        });
        const port = await freePort();
        const server = new Told(join(folder, "server"), [`127.0.0.1:${port}`, certificate.cert, certificate.key]);
        await listening(port, server.child, "go");
        const asking = client(port);
        await asking.times(8, "/", 4);
        await read(process.pid, server.pid);
        // goroutines that waited for their next request when they were hooked
        await asking.times(8, "/", 4);
        const counted = await bed.since(port, "http");
        await asking.times(2_000, "/", 4);
        await asking.times(100, "/fail", 4);
        expect(await counted()).toEqual({ ok: [2_000, 2_000], failed: [100, 100] });
        asking.close();
        await server.stop();
      }
      rmSync(folder, { recursive: true, force: true });
    },
    60_000,
  );

  itWith(["python"], "counts those of Python, with sockets and with an event loop", async () => {
    const port = await freePort();
    const server = new Told(DEBIAN_PYTHON, ["-c", PYTHON, "serve", String(port), certificate.cert, certificate.key]);
    await listening(port, server.child, "python");
    const ask = new Told(DEBIAN_PYTHON, ["-c", PYTHON, "ask", String(port), certificate.caFile]);
    const stream = new Told(DEBIAN_PYTHON, ["-c", PYTHON, "stream", String(port), certificate.caFile]);
    for (const one of [ask, stream]) await one.tell("2\n", /done/);
    await read(server.pid, ask.pid, stream.pid);
    // a thread that waited in the library when that was hooked is seen from its next call on
    for (const one of [ask, stream]) await one.tell("2\n", /done/);
    const counted = await bed.since(port, "http");
    for (const one of [ask, stream]) await one.tell("500\n", /done/);
    expect(await counted()).toEqual({ ok: [900, 900], failed: [100, 100] });
    for (const one of [ask, stream, server]) await one.stop();
  });

  describeWith(["redis"], "of Redis", () => {
    it("counts commands and errors", async () => {
      const redis = await startRedis(certificate);
      const cli = new Told("redis-cli", ["--tls", "--cacert", certificate.caFile, "-p", String(redis.port)]);
      await cli.tell("PING\n", /PONG/);
      await read(cli.pid, redis.child.pid ?? 0);
      const counted = await bed.since(redis.port, "redis");
      await cli.tell("SET key value\n".repeat(900), /OK/, 900);
      await cli.tell("NOSUCH\n".repeat(100), /ERR/, 100);
      expect(await counted()).toEqual({ ok: [900, 900], failed: [100, 100] });
      await cli.stop();
      await redis.stop();
    });
  });

  describeWith(["mariadb"], "of MariaDB", () => {
    it("counts statements and errors of a session that begins in the clear", async () => {
      const mariadb = await startMariadb([`--ssl-cert=${certificate.cert}`, `--ssl-key=${certificate.key}`]);
      const words = `--no-defaults -h 127.0.0.1 -P ${mariadb.port} -u root -N -B -n --force --ssl --ssl-ca=${certificate.caFile}`;
      const cli = new Told("mariadb", words.split(" "));
      await cli.tell("select 'first';\n", /first/);
      await read(cli.pid, mariadb.child.pid ?? 0);
      await cli.tell("select 'second';\n", /second/);
      const counted = await bed.since(mariadb.port, "mysql");
      await cli.tell("select 'ok';\n".repeat(900), /^ok/, 900);
      await cli.tell("select nothing;\n".repeat(100), /ERROR/, 100);
      expect(await counted()).toEqual({ ok: [900, 900], failed: [100, 100] });
      await cli.stop();
      await mariadb.stop();
    });
  });

  describeWith(["postgres"], "of PostgreSQL", () => {
    it("counts statements and errors of a session that begins in the clear", async () => {
      const postgres = await startPostgres((data, uid) => {
        for (const [from, to] of [
          [certificate.cert, "server.crt"],
          [certificate.key, "server.key"],
        ] as const) {
          copyFileSync(from, join(data, to));
          chownSync(join(data, to), uid, uid);
        }
        return ["-c", "ssl=on"];
      });
      const args = ["-h", "127.0.0.1", "-p", String(postgres.port), "-U", "postgres", "-AtqX"];
      const open = (): Told => new Told("psql", args, { ...process.env, PGSSLMODE: "require" });
      const psql = open();
      await psql.tell("select 'first';\n", /first/);
      await read(psql.pid);
      await serverRead(postgres.port);
      const counted = await bed.since(postgres.port, "postgres");
      await psql.tell("select 'ok';\n".repeat(900), /^ok/, 900);
      await psql.tell("select nothing;\n".repeat(100), /ERROR/, 100);
      expect(await counted()).toEqual({ ok: [900, 900], failed: [100, 100] });
      // the next process of the server is read from its first byte, since its parent is known
      const server = await bed.since(postgres.port, "postgres");
      const next = open();
      await next.tell("select 'next';\n", /next/);
      expect((await server())["ok"]?.[1]).toBe(1);
      for (const one of [psql, next]) await one.stop();
      await postgres.stop();
    });
  });

  // last, since from then on the library is hooked process by process
  itWith(["python"], "keeps out of a process that does not want it, and goes on with its neighbours", async () => {
    const port = await freePort();
    const server = new Told(DEBIAN_PYTHON, ["-c", PYTHON, "serve", String(port), certificate.cert, certificate.key]);
    await listening(port, server.child, "python");
    const words = ["-c", PYTHON, "ask", String(port), certificate.caFile];
    const willing = new Told(DEBIAN_PYTHON, words);
    const unwilling = new Told(DEBIAN_PYTHON, words, { ...process.env, COROOT_EBPF_TRACES: "disabled" });
    for (const one of [willing, unwilling]) await one.tell("2\n", /done/);
    await read(server.pid, willing.pid);
    await bed.until("the refusal", () => bed.tls.get(unwilling.pid)?.state === "opted-out");
    expect(bed.tls.get(unwilling.pid)?.reason).toBe("opted out by its environment");
    // one link for each process of the library from now on
    await bed.until("hooks of its own", () => bed.self("tlsLinks") >= 2);
    for (const one of [willing, unwilling]) await one.tell("2\n", /done/);
    const counted = await bed.since(port, "http");
    for (const one of [willing, unwilling]) await one.tell("100\n", /done/);
    expect(await counted()).toEqual({ ok: [90, 180], failed: [10, 20] });
    for (const one of [willing, unwilling, server]) await one.stop();
  });
});
