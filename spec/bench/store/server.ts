/**
 * The built server as a process of its own, with the embedded store, as the figures of this group load it: started, killed
 * and started again on the same port and folder, its CPU time and memory read from /proc, its main thread profiled over
 * the inspector. Owned by a figure; `stop` ends the server and its store and removes the folder.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { WebSocket } from "ws";
import type { FleetOptions, FleetStatus } from "../../cluster/Fleet.ts";
import { until } from "../../cluster/until.ts";
import { descendants, freePort, root } from "../path/launch.ts";
import type { DoorsOptions, Taken } from "./work/doorsWork.ts";

const COROOT = join(root, "dist/coroot.mjs");
const BLOCKS = new URL("./work/blockProbe.mjs", import.meta.url).href;
const DOORS = fileURLToPath(new URL("./work/doorsWork.ts", import.meta.url));
const FLEET = fileURLToPath(new URL("./work/fleetWork.ts", import.meta.url));

/** Resident memory in MiB, now and at its highest. */
export const memoryOf = (pid: number): { readonly now: number; readonly peak: number } => {
  const text = readFileSync(`/proc/${pid}/status`, "utf8");
  const of = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(text)?.[1] ?? 0) / 1024;
  return { now: of("VmRSS"), peak: of("VmHWM") };
};

/** CPU time of the main thread alone, ns. */
export const mainCpuNs = (pid: number): number =>
  Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "utf8").split(" ")[0]);

export interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: {
      readonly functionName: string;
      readonly url: string;
      readonly lineNumber: number;
      readonly columnNumber: number;
    };
    readonly children?: readonly number[];
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

export class LiveServer {
  readonly folder: string;
  readonly port: number;
  readonly grpcPort: number;
  readonly #arguments: readonly string[];
  #child: ChildProcess | null = null;
  #log: string[] = [];

  private constructor(folder: string, port: number, grpcPort: number, nodeArguments: readonly string[]) {
    this.folder = folder;
    this.port = port;
    this.grpcPort = grpcPort;
    this.#arguments = nodeArguments;
  }

  static async make(config: object = {}, nodeArguments: readonly string[] = []): Promise<LiveServer> {
    if (!existsSync(COROOT)) throw new Error(`${COROOT} is not built`);
    const folder = await mkdtemp(join(tmpdir(), "coroot-live-"));
    const [port, grpcPort] = [await freePort(), await freePort()];
    const whole = { server: { port }, otlp: { grpcPort }, data: join(folder, "data"), ...config };
    await writeFile(join(folder, "coroot.yaml"), JSON.stringify(whole));
    return new LiveServer(folder, port, grpcPort, nodeArguments);
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }
  get agentUrl(): string {
    return `ws://127.0.0.1:${this.port}/agent`;
  }
  get pid(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error("the server does not run");
    return pid;
  }
  /** last lines that it wrote */
  get log(): string {
    return this.#log.slice(-40).join("");
  }

  get storePid(): number {
    const store = descendants(this.pid).find((one) => one.arguments.includes("store"));
    if (store === undefined) throw new Error("the server has no store process");
    return store.pid;
  }

  get blocksFile(): string {
    return join(this.folder, "blocks.jsonl");
  }
  /** Longest turn of the event loop of each second since `since` (wall clock, ms), in ms of the main thread's CPU time. */
  blocks(since: number): readonly number[] {
    return readFileSync(this.blocksFile, "utf8")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as { at: number; longestUs: number })
      .filter(({ at }) => at - 1_000 >= since)
      .map(({ longestUs }) => longestUs / 1_000);
  }

  async key(): Promise<string> {
    return (await readFile(join(this.folder, "data/agent.key"), "utf8")).trim();
  }

  /** Seconds until it answered. */
  async start(): Promise<number> {
    const began = performance.now();
    const args = [
      "--import",
      BLOCKS,
      ...this.#arguments,
      COROOT,
      "server",
      "--config",
      join(this.folder, "coroot.yaml"),
    ];
    const child = spawn(process.execPath, args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NODE_OPTIONS: "", COROOT_BLOCKS: this.blocksFile },
    });
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => {
        this.#log.push(text);
        if (this.#log.length > 2_000) this.#log.shift();
      });
    this.#child = child;
    // a figure whose time is over leaves nothing behind; the other processes end with their input
    const leave = (): void => void child.kill("SIGKILL");
    process.once("exit", leave);
    child.once("exit", () => process.off("exit", leave));
    await until("the server to answer", 60_000, () => this.get("/health"));
    return (performance.now() - began) / 1000;
  }

  storeUp(): Promise<true> {
    return until("a store that is up", 60_000, async () => {
      const { entries } = await this.get<{ entries: { overview: { store: { state: string } } } }>("/api/overview");
      return entries.overview.store.state === "up" ? true : undefined;
    });
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }

  async stop(): Promise<void> {
    await this.end("SIGTERM");
    await rm(this.folder, { recursive: true, force: true });
  }

  async get<T>(path: string): Promise<T> {
    const response = await fetch(`${this.url}${path}`, { signal: AbortSignal.timeout(10_000) });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as T;
  }

  /** Rows of a read-only query, asked of the server. */
  async query<T>(sql: string): Promise<T[]> {
    const response = await fetch(`${this.url}/api/query`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ sql, params: {} }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`query: ${response.status} ${text}`);
    const { columns, rows } = JSON.parse(text) as {
      columns: readonly { readonly name: string }[];
      rows: readonly (readonly unknown[])[];
    };
    return rows.map((row) => Object.fromEntries(columns.map(({ name }, i) => [name, row[i]])) as T);
  }

  /** Sum over all its labels. */
  async metric(name: string): Promise<number> {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    return text
      .split("\n")
      .filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
  }

  /** A CPU profile of the main thread over `work`, for a server that was made with an inspector on this port. */
  async profile(inspectorPort: number, work: () => Promise<void>): Promise<CpuProfile> {
    const list = (await (await fetch(`http://127.0.0.1:${inspectorPort}/json/list`)).json()) as {
      webSocketDebuggerUrl: string;
    }[];
    const socket = new WebSocket(list[0]?.webSocketDebuggerUrl ?? "", { maxPayload: 2 ** 30 });
    await once(socket, "open");
    let last = 0;
    const call = (method: string, params: object = {}): Promise<unknown> =>
      new Promise((resolve, reject) => {
        const id = ++last;
        const hear = (data: WebSocket.RawData): void => {
          const said = JSON.parse(String(data)) as { id?: number; result?: unknown; error?: { message: string } };
          if (said.id !== id) return;
          socket.off("message", hear);
          if (said.error === undefined) resolve(said.result);
          else reject(new Error(said.error.message));
        };
        socket.on("message", hear);
        socket.send(JSON.stringify({ id, method, params }));
      });
    try {
      await call("Profiler.enable");
      await call("Profiler.setSamplingInterval", { interval: 1_000 });
      await call("Profiler.start");
      await work();
      const { profile } = (await call("Profiler.stop")) as { profile: CpuProfile };
      return profile;
    } finally {
      socket.close();
    }
  }
}

/** What a person's browser has open: the lists, the map and the overview, as they change. */
export const openPage = async (server: LiveServer): Promise<{ readonly messages: () => number; close: () => void }> => {
  const socket = new WebSocket(`${server.url.replace("http", "ws")}/live`);
  let messages = 0;
  socket.on("message", () => messages++);
  await once(socket, "open");
  for (const topic of ["overview", "services", "map", "incidents", "agents"])
    socket.send(JSON.stringify({ type: "subscribe", topic }));
  return { messages: () => messages, close: () => socket.terminate() };
};

/** The other senders (work/doorsWork.ts) in a process of their own; `stop` tells what the server took. */
export const startDoors = async (options: DoorsOptions): Promise<{ readonly stop: () => Promise<Taken> }> => {
  const child = spawn(process.execPath, ["--import", "tsx", DOORS, JSON.stringify(options)], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  await lines.next();
  return {
    stop: async () => {
      child.stdin.end();
      const { value } = await lines.next();
      return JSON.parse(String(value)) as Taken;
    },
  };
};

/** A fleet in a process of its own. */
export class RunningFleet {
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;

  constructor(options: FleetOptions) {
    this.#child = spawn(process.execPath, ["--import", "tsx", FLEET, JSON.stringify(options)], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    if (this.#child.stdout === null) throw new Error("a fleet without output");
    this.#answers = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  async #ask(command: string): Promise<FleetStatus> {
    this.#child.stdin?.write(`${command}\n`);
    const { value, done } = await this.#answers.next();
    if (done === true) throw new Error("the fleet's process ended");
    return JSON.parse(value) as FleetStatus;
  }
  begin(): Promise<FleetStatus> {
    return this.#ask("begin");
  }
  pause(): Promise<FleetStatus> {
    return this.#ask("pause");
  }
  status(): Promise<FleetStatus> {
    return this.#ask("status");
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.stdin?.end();
    await ended;
  }
}
