/**
 * A whole deployment on this machine: PostgreSQL, one ClickHouse store that all servers share, three server processes,
 * a webhook receiver. Everything listens on loopback, is ended by its own process id, and leaves no file behind.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { PARTITIONS } from "../../runtime/cluster/places.ts";
import { freePort } from "../../deploy/demo/environment.ts";
import type { AlertPayload } from "../../schemas/incident.ts";
import type { ActorView, IncidentCard } from "../../schemas/wire/page.ts";
import { Postgres } from "./Postgres.ts";
import type { Proxy } from "./proxy.ts";
import { until } from "./until.ts";

const COROOT = fileURLToPath(new URL("../../dist/coroot.mjs", import.meta.url));

/** partitions, and the part of what there is one of */
const PARTS = PARTITIONS + 1;

export interface Health {
  readonly state: string;
  readonly parts: Readonly<Record<string, { readonly state: string; readonly message: string }>>;
}

export class Replica {
  readonly name: string;
  readonly port: number;
  readonly proxy: Proxy;
  readonly #config: string;
  readonly #log: string[] = [];
  #child: ChildProcess | null = null;

  constructor(name: string, port: number, config: string, proxy: Proxy) {
    this.name = name;
    this.port = port;
    this.proxy = proxy;
    this.#config = config;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }
  get running(): boolean {
    return this.#child !== null;
  }
  /** last lines that it wrote */
  get log(): string {
    return this.#log.slice(-60).join("");
  }

  async start(): Promise<void> {
    const child = spawn(process.execPath, [COROOT, "server", "--config", this.#config], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NODE_OPTIONS: "" },
    });
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => {
        this.#log.push(text);
        if (this.#log.length > 2_000) this.#log.shift();
      });
    this.#child = child;
    await until(`${this.name} to answer`, 30_000, () => this.get<Health>("/health"));
  }

  /** How long it took to end, ms. */
  async end(signal: NodeJS.Signals): Promise<number> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null) return 0;
    const ended = once(child, "exit");
    const began = performance.now();
    child.kill(signal);
    await ended;
    return performance.now() - began;
  }

  async get<T>(path: string): Promise<T> {
    const response = await fetch(`${this.url}${path}`, { signal: AbortSignal.timeout(3_000) });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as T;
  }

  async entries<T>(path: string): Promise<Record<string, T>> {
    return (await this.get<{ entries: Record<string, T> }>(path)).entries;
  }

  async incidents(): Promise<IncidentCard[]> {
    return Object.values(await this.entries<IncidentCard>("/api/incidents"));
  }

  /** actors of that kind, wherever they live */
  async actors(kind: string): Promise<ActorView[]> {
    return Object.values(await this.entries<ActorView>("/api/actors")).filter((actor) => actor.kind === kind);
  }

  async parts(): Promise<{ readonly owned: number; readonly inDoubt: boolean }> {
    const { parts } = await this.get<Health>("/health");
    const message = parts["replica"]?.message ?? "";
    return { owned: Number(/^(\d+) parts owned/.exec(message)?.[1] ?? 0), inDoubt: message.includes("in doubt") };
  }
}

export class Deployment {
  readonly postgres: Postgres;
  readonly replicas: readonly Replica[];
  /** every delivery, as it came over the wire */
  readonly alerts: AlertPayload[];
  readonly key: string;
  readonly store: { readonly url: string; readonly password: string };
  readonly #folder: string;
  readonly #store: ChildProcess;
  readonly #receiver: Server;

  private constructor(parts: {
    postgres: Postgres;
    replicas: readonly Replica[];
    alerts: AlertPayload[];
    key: string;
    store: { url: string; password: string };
    folder: string;
    child: ChildProcess;
    receiver: Server;
  }) {
    this.postgres = parts.postgres;
    this.replicas = parts.replicas;
    this.alerts = parts.alerts;
    this.key = parts.key;
    this.store = parts.store;
    this.#folder = parts.folder;
    this.#store = parts.child;
    this.#receiver = parts.receiver;
  }

  static async start(size = 3): Promise<Deployment> {
    const folder = await mkdtemp(join(tmpdir(), "coroot-cluster-"));
    const postgres = await Postgres.start();
    const child = spawn(process.execPath, [COROOT, "store", "--data", join(folder, "store")], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const [line] = (await once(createInterface(child.stdout), "line")) as [string];
    const ready = JSON.parse(line) as { port: number; key: string };
    const store = { url: `http://127.0.0.1:${ready.port}`, password: ready.key };
    const alerts: AlertPayload[] = [];
    const receiver = createServer((request, response) => {
      let text = "";
      request.on("data", (chunk) => (text += String(chunk)));
      request.on("end", () => {
        alerts.push(JSON.parse(text) as AlertPayload);
        response.end();
      });
    });
    receiver.listen(0, "127.0.0.1");
    await once(receiver, "listening");
    const hook = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`;
    const replicas: Replica[] = [];
    for (let i = 0; i < size; i++) {
      const name = `r${i + 1}`;
      const port = await freePort();
      const proxy = await postgres.proxy();
      const data = join(folder, name);
      const config = {
        server: { port },
        data,
        state: { url: proxy.url },
        replica: { name, port: await freePort() },
        clickhouse: { url: store.url, password: store.password },
        slo: { holdSeconds: 5 },
        alerts: { webhooks: [{ name: "hook", url: hook }] },
      };
      await mkdir(data, { mode: 0o700 });
      await writeFile(join(folder, `${name}.yaml`), JSON.stringify(config));
      replicas.push(new Replica(name, port, join(folder, `${name}.yaml`), proxy));
    }
    const [first, ...others] = replicas;
    await first?.start();
    const keyFile = join(folder, "r1", "agent.key");
    for (const other of others) await cp(keyFile, join(folder, other.name, "agent.key"));
    await Promise.all(others.map((other) => other.start()));
    const key = (await readFile(keyFile, "utf8")).trim();
    return new Deployment({ postgres, replicas, alerts, key, store, folder, child, receiver });
  }

  get living(): readonly Replica[] {
    return this.replicas.filter((replica) => replica.running);
  }

  get agentUrls(): readonly string[] {
    return this.replicas.map(({ port }) => `ws://127.0.0.1:${port}/agent`);
  }

  /** All parts are owned by all that live, about evenly, and none is on its way from one to another. */
  settled(withinMs = 60_000): Promise<true> {
    return until("every part owned", withinMs, async () => {
      const all = await Promise.all(this.living.map((replica) => replica.parts()));
      const fair = PARTS / all.length / 2;
      const owned = all.reduce((n, one) => n + one.owned, 0);
      return owned === PARTS && all.every((one) => one.owned > fair && !one.inDoubt) ? true : undefined;
    });
  }

  /** Rows of a query to the shared store. */
  async query<T>(sql: string): Promise<T[]> {
    const response = await fetch(`${this.store.url}/?default_format=JSONEachRow`, {
      method: "POST",
      headers: { "x-clickhouse-user": "default", "x-clickhouse-key": this.store.password },
      body: sql,
    });
    const text = await response.text();
    if (!response.ok) throw new Error(text);
    return text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as T);
  }

  async stop(): Promise<void> {
    await Promise.all(this.replicas.map((replica) => replica.end("SIGTERM")));
    for (const { proxy } of this.replicas) proxy.close();
    await this.postgres.stop();
    const ended = once(this.#store, "exit");
    this.#store.kill("SIGTERM");
    await ended;
    this.#receiver.close();
    this.#receiver.closeAllConnections();
    await rm(this.#folder, { recursive: true, force: true });
  }
}
