import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Effect, Exit, Logger, LogLevel, Scope } from "effect";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { makeNodeAgent, type NodeAgent } from "../../../agent/node/NodeAgent.ts";
import { ROLE } from "../../../schemas/wire/observe.ts";
import { describeWith, itWith } from "../../capabilities.ts";
import { buildProbe, probePath } from "../../kernel/ProbeBed.ts";
import { freePort, listening, makeCertificate } from "../../kernel/servers.ts";
import { PYTHON, Told } from "../../kernel/tls-programs.ts";
import { startLinkServer, until, type LinkServer } from "./link/server.ts";

let folder = "";
let server: LinkServer;
let scope: Scope.CloseableScope;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "coroot-agent-"));
  server = await startLinkServer();
  scope = await Effect.runPromise(Scope.make());
});
afterEach(async () => {
  await Effect.runPromise(Scope.close(scope, Exit.void));
  await server.stop();
  rmSync(folder, { recursive: true });
});

const start = (
  probePath: string | null = null,
  probeArguments: readonly string[] = [],
  metrics?: string,
): Promise<NodeAgent> =>
  Effect.runPromise(
    Scope.extend(
      makeNodeAgent({
        servers: [server.url],
        keyFile: join(folder, "agent.key"),
        dataDir: folder,
        probePath,
        cluster: "spec",
        node: "here",
        traffic: probePath !== null,
        probeArguments,
        ...(metrics === undefined ? {} : { metrics }),
      }),
      scope,
    ).pipe(Logger.withMinimumLogLevel(LogLevel.None)),
  );
const windows = () => server.connections.flat();
const tlsStates = () =>
  new Set(
    server.stores.flatMap(({ series }) =>
      series.flatMap(({ name, labels }) => (name === "container_tls_connections" ? [labels["state"]] : [])),
    ),
  );

describe("node agent", () => {
  it("without a probe says so, and sends usage and samples of this machine", async () => {
    writeFileSync(join(folder, "agent.key"), "the-key\n");
    const agent = await start();
    await until("three windows", () => windows().length >= 3, 8_000);
    expect(server.hellos[0]).toMatchObject({ key: "the-key", cluster: "spec", node: "here", agentId: agent.agentId });
    expect(server.hellos[0]?.capabilities).toContainEqual({
      feature: "probe",
      state: "off",
      errno: 0,
      reason: "observing traffic is turned off by configuration",
    });
    const numbers = windows().map((one) => one.window);
    expect(numbers).toEqual(numbers.map((_, i) => (numbers[0] ?? 0) + i));
    // This process listens (the server above), so it is a service at once.
    await until("this test's own process", () =>
      windows().some((one) => one.instances.some(({ exe }) => exe === process.execPath)),
    );
    await Effect.runPromise(agent.flush);
    await until("samples", () => server.stores.length > 0);
    const [first] = server.stores;
    const names = new Set(first?.series.map((one) => one.name));
    for (const name of [
      "node_resources_cpu_usage_seconds_total",
      "container_resources_cpu_usage_seconds_total",
      "coroot_agent_cpu_seconds_total",
      "coroot_agent_unattributed_requests_total",
    ])
      expect(names).toContain(name);
    const container = first?.series.find((one) => one.name === "container_resources_memory_rss_bytes");
    expect(Object.keys(container?.labels ?? {}).toSorted()).toEqual(["app_id", "container_id", "machine_id"]);
    expect(container?.labels["app_id"]).toMatch(/^spec\/here\//);
    await until("samples leave the disk", () => agent.spool.stats.waiting === 0);
  });

  it("tells what it costs and what it lost, and serves its samples as text", async () => {
    writeFileSync(join(folder, "agent.key"), "the-key\n");
    const agent = await start(null, [], "127.0.0.1:0");
    await until("a report", () => windows().some((one) => one.self !== null), 10_000);
    const told = windows().find((one) => one.self !== null)?.self;
    expect(told?.["memoryBytes"]).toBeGreaterThan(10e6);
    expect(told).toMatchObject({ windowsWaiting: expect.any(Number) as number, "used.spool": 0 });
    await Effect.runPromise(agent.flush);
    const page = `http://127.0.0.1:${agent.metricsPort}/metrics`;
    const answer = await fetch(page);
    expect(answer.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
    const lines = (await answer.text()).split("\n");
    expect(lines.some((line) => /^coroot_agent_memory_rss_bytes\{machine_id="[^"]+"\} [0-9]+$/.test(line))).toBe(true);
    expect(lines.some((line) => line.startsWith("node_resources_cpu_usage_seconds_total{"))).toBe(true);
    expect((await fetch(`http://127.0.0.1:${agent.metricsPort}/other`)).status).toBe(404);
  });

  it("waits for a key that is not there yet, says which file, and keeps what it sees", async () => {
    const agent = await start();
    await until("said why", () => agent.link.state().lastError.includes("agent.key"));
    await until("a window waits", () => agent.link.state().ring.length > 0);
    writeFileSync(join(folder, "agent.key"), "late");
    await until("greeted and sent", () => windows().length > 0, 10_000);
    expect(server.hellos[0]?.key).toBe("late");
    expect(windows()[0]?.window).toBeLessThanOrEqual(1);
  });

  it("loses nothing when it is stopped: the running window and a last round of samples arrive", async () => {
    writeFileSync(join(folder, "agent.key"), "k");
    const agent = await start();
    await until("a window", () => windows().length > 0, 8_000);
    const before = windows().length;
    await Effect.runPromise(agent.flush);
    await Effect.runPromise(Scope.close(scope, Exit.void));
    scope = await Effect.runPromise(Scope.make());
    expect(windows().length).toBeGreaterThan(before);
    await until("the samples", () => server.stores.length === 1);
    expect(server.stores[0]?.samples.rows).toBeGreaterThan(20);
  });

  it("keeps its id over its lives, and counts them", async () => {
    writeFileSync(join(folder, "agent.key"), "k");
    const first = await start();
    await Effect.runPromise(Scope.close(scope, Exit.void));
    scope = await Effect.runPromise(Scope.make());
    const second = await start();
    expect(second.agentId).toBe(first.agentId);
    expect(second.epoch).toBeGreaterThan(first.epoch);
  });

  it("tells when the probe cannot be started, and observes without it", async () => {
    writeFileSync(join(folder, "agent.key"), "k");
    await start(join(folder, "no-probe"));
    await until("greeted", () => server.hellos.length > 0, 8_000);
    const probe = server.hellos[0]?.capabilities.find((one) => one.feature === "probe");
    expect(probe).toMatchObject({ state: "off", errno: 2 });
    await until("windows", () => windows().length >= 2, 8_000);
  });
});

describeWith(["bpf"], "node agent with the probe", () => {
  beforeAll(() => buildProbe(), 120_000);

  it("gives every request to both services, and tells how a server ended", async () => {
    writeFileSync(join(folder, "agent.key"), "k");
    const agent = await start(probePath);
    const script = join(folder, "spec-orders.cjs");
    writeFileSync(
      script,
      "require('http').createServer((q, r) => { r.statusCode = q.url === '/bad' ? 500 : 200; r.end('ok'); })" +
        ".listen(0, '127.0.0.1', function () { console.log(this.address().port); });",
    );
    const orders = spawn(process.execPath, [script], { stdio: ["ignore", "pipe", "inherit"] });
    const [line] = (await once(orders.stdout, "data")) as [Buffer];
    const port = Number(line.toString());
    const caller = join(folder, "spec-caller.cjs");
    writeFileSync(
      caller,
      "const get = (p) => fetch('http://127.0.0.1:' + process.argv[2] + p).then((r) => r.text());" +
        "(async () => { for (let i = 0; i < 20; i++) await get('/'); await get('/bad');" +
        "process.stdin.resume().on('end', () => process.exit()); })();",
    );
    await until("the probe ticks", () => windows().length > 1, 8_000);
    const calling = spawn(process.execPath, [caller, String(port)], { stdio: ["pipe", "inherit", "inherit"] });
    const counted = (name: string, role: number, status: number): number => {
      const instances = new Map<number, string>();
      const edges = new Map<number, { name: string; role: number; port: number }>();
      let sum = 0;
      for (const window of windows()) {
        for (const one of window.instances) instances.set(one.id, one.name);
        for (const one of window.edges)
          edges.set(one.id, { name: instances.get(one.instance) ?? "?", role: one.role, port: one.port });
        for (let i = 0; i < window.l7.rows; i++) {
          const edge = edges.get(window.l7.edge[i] ?? 0);
          if (edge?.name === name && edge.role === role && edge.port === port && window.l7.status[i] === status)
            sum += window.l7.count[i] ?? 0;
        }
      }
      return sum;
    };
    await until("the server's side", () => counted("spec-orders", ROLE.server, 0) === 20, 8_000);
    await until("the caller's side", () => counted("spec-caller", ROLE.client, 0) === 20);
    calling.stdin.end();
    expect(counted("spec-orders", ROLE.server, 2)).toBe(1);
    expect(counted("spec-caller", ROLE.client, 2)).toBe(1);
    orders.kill("SIGKILL");
    await until(
      "the kill, with its signal",
      () =>
        windows().some((one) =>
          one.events.some(
            (event) => event.kind === "exit" && event.pid === orders.pid && event.signal === 9 && event.left === 0,
          ),
        ),
      8_000,
    );
    expect(agent.capabilities().find((one) => one.feature === "probe")?.state).not.toBe("off");
  });

  itWith(["openssl", "python"], "reads requests within TLS, and lists who does not want it", async () => {
    writeFileSync(join(folder, "agent.key"), "k");
    const certificate = makeCertificate();
    const agent = await start(probePath, ["--tls-delay", "0", "--tls-budget", "0"]);
    const port = await freePort();
    writeFileSync(join(folder, "spec-secret.py"), PYTHON);
    const run = (env: NodeJS.ProcessEnv, ...args: readonly string[]): Told =>
      new Told("/usr/bin/python3", [join(folder, "spec-secret.py"), ...args], { ...process.env, ...env });
    const secret = run({}, "serve", String(port), certificate.cert, certificate.key);
    await listening(port, secret.child, "python");
    const caller = run({ COROOT_EBPF_TRACES: "disabled" }, "ask", String(port), certificate.caFile);
    const inbound = (status: number): number => {
      const ports = new Map<number, number>();
      let sum = 0;
      for (const window of windows()) {
        for (const one of window.edges) if (one.role === ROLE.server) ports.set(one.id, one.port);
        for (let i = 0; i < window.l7.rows; i++)
          if (ports.get(window.l7.edge[i] ?? 0) === port && window.l7.status[i] === status)
            sum += window.l7.count[i] ?? 0;
      }
      return sum;
    };
    await until("the probe ticks", () => windows().length > 1, 8_000);
    await caller.tell("2\n", /done/);
    await until("the list", () => agent.capabilities().some((one) => one.feature === "tls"), 12_000);
    expect(agent.capabilities().find((one) => one.feature === "tls")).toEqual({
      feature: "tls",
      state: "degraded",
      errno: 0,
      reason: "requests within TLS are not seen: spec-secret (opted out by its environment)",
    });
    await caller.tell("2\n", /done/);
    await caller.tell("20\n", /done/);
    await until("the failures", () => inbound(2) === 2, 8_000);
    // and what came between the hook and the last call
    await until("the rest", () => inbound(0) >= 18);
    expect(inbound(0)).toBeLessThanOrEqual(22);
    await Effect.runPromise(agent.flush);
    await until("samples", () => tlsStates().has("opted-out"));
    for (const one of [caller, secret]) await one.stop();
    certificate.remove();
  });
});
