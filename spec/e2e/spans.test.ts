/**
 * Requests without instrumentation as traces, through the whole path: kernel, node agent, spool, link, store, API and
 * command line. curl asks nginx, nginx a Node.js program, and that PostgreSQL.
 */
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Endpoints, Trace, TraceSpan } from "../../schemas/telemetry.ts";
import type { AgentView, Overview } from "../../schemas/wire/page.ts";
import { describeWith } from "../capabilities.ts";
import { until } from "../cluster/until.ts";
import { freePort, listening, type Running, startNginx, startPostgres } from "../kernel/servers.ts";
import { HttpClient } from "../kernel/traffic.ts";

const COROOT = fileURLToPath(new URL("../../dist/coroot.mjs", import.meta.url));
const TRACE_ID = "0af7651916cd43dd8448eb211c80319c";
const PARENT_ID = "b7ad6b7169203331";
const ITEMS = 400;
const run = promisify(execFile);

/** A program that asks PostgreSQL, by the simple protocol, and knows nothing of traces. */
const program = (port: number, database: number): string => `
const net = require("node:net");
const socket = net.connect(${database}, "127.0.0.1");
const message = (type, text) => {
  const body = Buffer.from(text + "\\0");
  const head = Buffer.alloc(4);
  head.writeInt32BE(body.length + 4);
  return Buffer.concat([Buffer.from(type), head, body]);
};
const start = Buffer.from("\\0\\0\\0\\0\\0\\x03\\0\\0user\\0postgres\\0\\0", "latin1");
start.writeInt32BE(start.length);
socket.write(start);
let asked = null;
socket.on("data", (data) => {
  if (data.subarray(-6, -5).toString() !== "Z" || asked === null) return;
  const done = asked;
  asked = null;
  done();
});
require("node:http").createServer((ask, reply) => {
  if (ask.url === "/charge") return void reply.writeHead(500).end("no");
  if (ask.url.startsWith("/items/")) return void reply.end("one");
  asked = () => reply.end("done");
  socket.write(message("Q", "select pg_sleep(0.7), 'secret' as word, 42 as n"));
}).listen(${port}, "127.0.0.1");
`;

describeWith(["chdb", "bpf", "nginx", "postgres"], "requests without instrumentation", () => {
  let folder: string;
  let base: string;
  let server: ChildProcess;
  let app: ChildProcess;
  let appPort: number;
  let nginx: Running;
  let postgres: Running;

  const get = async <T>(path: string): Promise<T | undefined> => {
    const response = await fetch(`${base}/api/${path}`, { signal: AbortSignal.timeout(10_000) });
    if (response.status === 404) return undefined;
    const text = await response.text();
    if (!response.ok) throw new Error(text);
    return JSON.parse(text) as T;
  };
  const spansOf = async (sql: string): Promise<readonly (readonly string[])[]> => {
    const response = await fetch(`${base}/api/query`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ sql }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(text);
    return (JSON.parse(text) as { rows: readonly (readonly string[])[] }).rows;
  };

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "coroot-spans-"));
    const port = await freePort();
    base = `http://127.0.0.1:${port}`;
    const config = {
      server: { port },
      otlp: { grpcPort: 0 },
      data: join(folder, "data"),
      agent: { spansSampleOneOf: 1, spansSampledPerSecond: 10_000 },
    };
    await writeFile(join(folder, "coroot.yaml"), JSON.stringify(config));
    server = spawn(process.execPath, [COROOT, "start", "--config", join(folder, "coroot.yaml")], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    postgres = await startPostgres();
    appPort = await freePort();
    app = spawn(process.execPath, ["-e", program(appPort, postgres.port)], { stdio: ["ignore", "ignore", "inherit"] });
    await listening(appPort, app, "the program");
    nginx = await startNginx(`location / { proxy_pass http://127.0.0.1:${appPort}; }`);
    await until("a store and an agent", 60_000, async () => {
      const overview = await get<{ entries: Record<string, Overview> }>("overview");
      const agents = await get<{ entries: Record<string, AgentView> }>("agents");
      const connected = Object.values(agents?.entries ?? {}).some(({ state }) => state === "connected");
      return overview?.entries["overview"]?.store.state === "up" && connected ? true : undefined;
    });
  }, 120_000);
  afterAll(async () => {
    for (const child of [server, app])
      if (child !== undefined && child.exitCode === null) {
        const ended = once(child, "exit");
        child.kill("SIGTERM");
        await ended;
      }
    await nginx?.stop();
    await postgres?.stop();
    await rm(folder, { recursive: true, force: true });
  }, 60_000);

  it("join an SDK's trace, from the first server to the statement in the database", async () => {
    const header = `traceparent: 00-${TRACE_ID}-${PARENT_ID}-01`;
    await run("curl", ["-sS", "-H", header, `http://127.0.0.1:${nginx.port}/orders/42?card=hush`]);
    const trace = await until("the trace", 40_000, async () => {
      const found = await get<Trace>(`traces/${TRACE_ID}`);
      return (found?.spans.length ?? 0) >= 5 ? found : undefined;
    });
    const spans = trace.spans.filter(({ service }) => service !== "curl");
    const one = (what: string, holds: (span: TraceSpan) => boolean): TraceSpan => {
      const found = spans.filter(holds);
      if (found.length !== 1 || found[0] === undefined)
        throw new Error(`${found.length} of ${what}: ${JSON.stringify(spans)}`);
      return found[0];
    };
    const http = (name: string, kind: string, of: string) =>
      one(
        name,
        (span) =>
          span.name === "GET /orders/{id}" && span.kind === kind && (span.service === "nginx") === (of === "nginx"),
      );
    const front = http("nginx as a server", "server", "nginx");
    const proxy = http("nginx as a client", "client", "nginx");
    const server = http("the program as a server", "server", "program");
    const call = one("calls of the database", ({ kind, name }) => kind === "client" && name === "SELECT");
    const query = one("statements in the database", ({ service }) => service === "postgres");
    for (const span of [front, proxy, server]) expect(span.parentId).toBe(PARENT_ID);
    expect(call.parentId).toBe(server.spanId);
    expect(query.parentId).toBe(call.spanId);
    expect(query.kind).toBe("server");
    expect(query.attributes).toMatchObject({
      "db.system.name": "postgresql",
      "db.query.text": "select pg_sleep(?), ? as word, ? as n",
      "coroot.told": expect.stringContaining("slow") as string,
    });
    expect(front.attributes).toMatchObject({
      "http.request.method": "GET",
      "http.route": "/orders/{id}",
      "http.response.status_code": "200",
    });
    expect(front.resource["telemetry.sdk.name"]).toBe("coroot-ebpf");
    expect(query.durationMs).toBeGreaterThan(690);
    expect(front.durationMs).toBeGreaterThanOrEqual(server.durationMs);
    expect(JSON.stringify(trace)).not.toMatch(/hush|secret/);
    const { stdout } = await run(process.execPath, [COROOT, "trace", TRACE_ID, "--server", base]);
    expect(stdout).toMatch(/postgres: SELECT/);
  }, 60_000);

  it("are joined by their connection where nobody carries a header, each stored once", async () => {
    for (let i = 0; i < 5; i++) await run("curl", ["-sS", `http://127.0.0.1:${nginx.port}/charge`]);
    const rows = await until("the failed requests", 40_000, async () => {
      const found = await spansOf(
        `SELECT lower(hex(trace_id)), lower(hex(span_id)), lower(hex(parent_id)), service, kind, status, status_message FROM spans
         WHERE name = 'GET /charge' AND service != 'curl'`,
      );
      return found.length >= 15 ? found : undefined;
    });
    expect(rows).toHaveLength(15);
    expect(new Set(rows.map(([, span]) => span)).size).toBe(15);
    for (const [trace, span, , service, kind, status, said] of rows) {
      expect([status, said]).toEqual(["error", "HTTP 500"]);
      if (service !== "nginx" || kind !== "client") continue;
      const others = rows.filter(([same, , parent]) => same === trace && parent === span);
      expect(others.map(([, , , , of]) => of)).toEqual(["server"]);
    }
  }, 60_000);

  it("give estimates by endpoint, with their error", async () => {
    const client = new HttpClient(appPort, 4);
    const fromMs = Date.now() - 1_000;
    await client.times(ITEMS, { path: "/items/7" }, 4);
    client.close();
    const service = (
      await spansOf(
        "SELECT DISTINCT service FROM spans WHERE name = 'GET /charge' AND kind = 'server' AND service != 'nginx'",
      )
    )[0]?.[0];
    const endpoint = await until("the endpoint", 40_000, async () => {
      const found = await get<Endpoints>(`traces/endpoints?service=${service}&from=${fromMs}&to=${fromMs + 60_000}`);
      return found?.endpoints.find((one) => one.endpoint === "GET /items/{id}" && one.kind === "server");
    });
    // other programs of the machine may use up the budget; then each of these stands for more
    const off = Math.abs(endpoint.perSecond * 60 - ITEMS);
    expect(off).toBeLessThan(ITEMS * 0.02 + 3 * endpoint.perSecondError * 60);
    expect(endpoint.failed).toBe(0);
    expect(endpoint.p50).toBeGreaterThan(0);
    const { stdout } = await run(process.execPath, [COROOT, "endpoints", service ?? "", "--server", base]);
    expect(stdout).toMatch(/±.*http +GET \/items\/\{id\}/);
  }, 60_000);
});
