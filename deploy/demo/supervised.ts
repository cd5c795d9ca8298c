/**
 * One program of the shop, kept running: started inside its cgroup and namespace, and started again ten seconds after it
 * was killed or ended by itself, which is counted and told. Owned by the shop. `hold` keeps a killed one down until
 * `release`; `stop` ends it for good, politely and then by force. It dies with the demo (parent-death signal).
 */
import { spawn, type ChildProcess } from "node:child_process";
import { openSync, closeSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { now, until } from "./clock.ts";
import { killIfAlive } from "./cgroups.ts";
import { dropTo, type User } from "./postgres.ts";

export const RESTART_AFTER_MS = 10_000;
const STOP_PATIENCE_MS = 3_000;

export interface Launch {
  readonly name: string;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly folder: string;
  /** cgroup.procs files to enter first */
  readonly cgroups: readonly string[];
  /** namespace file to enter, null for the machine's own */
  readonly namespace: string | null;
  readonly user: User | null;
  readonly stopSignal: NodeJS.Signals;
  readonly logFile: string;
  /** reads lines of standard output; they go to the log file when absent */
  readonly onLine?: (line: string) => void;
}

const ENTER = 'while [ "$1" != -- ]; do echo $$ >"$1" || exit 125; shift; done; shift; exec "$@"';

/** The program behind its wrappers; each execs the next, so that the process id stays. */
const fullCommand = (launch: Launch): readonly string[] => [
  "/bin/sh",
  "-c",
  ENTER,
  "sh",
  ...launch.cgroups,
  "--",
  ...(launch.namespace === null ? [] : ["nsenter", `--net=${launch.namespace}`]),
  "setpriv",
  "--pdeathsig=KILL",
  ...dropTo(launch.user),
  ...launch.command,
];

export class Supervised {
  readonly name: string;
  restarts = 0;
  readonly #launch: Launch;
  readonly #tell: (text: string) => void;
  #child: ChildProcess | null = null;
  #exited: Promise<void> = Promise.resolve();
  #timer: ReturnType<typeof setTimeout> | null = null;
  #state: "new" | "kept" | "held" | "stopped" = "new";
  #control: Readonly<Record<string, unknown>> = {};

  constructor(launch: Launch, tell: (text: string) => void) {
    this.name = launch.name;
    this.#launch = launch;
    this.#tell = tell;
  }

  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  /** What the program reads on its standard input, also after a restart: a fault outlives the process. */
  control(change: Readonly<Record<string, unknown>>): void {
    this.#control = { ...this.#control, ...change };
    this.#sendControl();
  }

  start(): void {
    if (this.#state === "stopped" || this.#child !== null) return;
    this.#state = "kept";
    const { command, env, folder, logFile, onLine } = this.#launch;
    const [program = "", ...rest] = fullCommand(this.#launch);
    const log = openSync(logFile, "a");
    const child = spawn(program, rest, {
      cwd: folder,
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LANG: "C.UTF-8", ...env },
      // its own session: a Ctrl-C at the terminal reaches the demo only, which then stops its programs in order
      detached: true,
      stdio: ["pipe", onLine === undefined ? log : "pipe", log],
    });
    closeSync(log);
    this.#child = child;
    child.stdin?.on("error", (error) => this.#tell(`${this.name}: input: ${error.message}`));
    if (onLine !== undefined) readLines(child, onLine);
    this.#exited = new Promise((resolve) => {
      child.once("error", (error) => {
        this.#ended(`could not be started (${command[0]}): ${error.message}`);
        resolve();
      });
      child.once("exit", (code, signal) => {
        this.#ended(signal === null ? `ended with exit code ${code}` : `was killed by ${signal}`);
        resolve();
      });
    });
    this.#sendControl();
  }

  /** Until a socket of its namespace listens on the port; fails with the end of its log. */
  async listening(port: number, signal?: AbortSignal): Promise<void> {
    const from = now();
    try {
      await until(`${this.name} listens on port ${port}`, 20_000, () => this.#listens(port), { signal, everyMs: 50 });
    } catch (error) {
      if (signal?.aborted === true) throw error;
      const log = await readFile(this.#launch.logFile, "utf8").catch(() => "");
      const said = log.trim().split("\n").slice(-5).join("\n");
      throw new Error(`${this.name} does not listen on port ${port} after ${now() - from} ms:\n${said}`, {
        cause: error,
      });
    }
  }

  kill(): void {
    if (this.pid !== null) killIfAlive(this.pid);
  }

  /** Kills it and keeps it down. */
  async hold(): Promise<void> {
    this.#state = "held";
    this.#clearTimer();
    this.kill();
    await this.#exited;
  }

  release(): void {
    if (this.#state === "held") this.start();
  }

  async stop(): Promise<void> {
    this.#state = "stopped";
    this.#clearTimer();
    const pid = this.pid;
    if (pid === null) return;
    killIfAlive(pid, this.#launch.stopSignal);
    const force = setTimeout(() => this.#killGroup(pid), STOP_PATIENCE_MS);
    await this.#exited;
    clearTimeout(force);
    // children that outlived it, such as the workers of a killed nginx
    this.#killGroup(pid);
  }

  #killGroup(pid: number): void {
    killIfAlive(-pid);
  }

  #clearTimer(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #ended(how: string): void {
    const pid = this.pid;
    this.#child = null;
    if (this.#state !== "kept") return;
    if (pid !== null) this.#killGroup(pid);
    this.#tell(`${this.name} ${how}; it is started again in ${RESTART_AFTER_MS / 1000} s`);
    this.#clearTimer();
    this.#timer = setTimeout(() => {
      this.restarts += 1;
      this.start();
      this.#tell(`${this.name} is started again (restart ${this.restarts})`);
    }, RESTART_AFTER_MS);
  }

  #sendControl(): void {
    const input = this.#child?.stdin;
    if (input?.writable === true && Object.keys(this.#control).length > 0)
      input.write(`${JSON.stringify(this.#control)}\n`);
  }

  async #listens(port: number): Promise<true | undefined> {
    if (this.pid === null) return undefined;
    const suffix = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
    for (const table of ["tcp", "tcp6"]) {
      const text = await readFile(`/proc/${this.pid}/net/${table}`, "utf8").catch(() => "");
      const found = text.split("\n").some((line) => {
        const [, local, , state] = line.trim().split(/\s+/);
        return state === "0A" && local?.endsWith(suffix) === true;
      });
      if (found) return true;
    }
    return undefined;
  }
}

const readLines = (child: ChildProcess, onLine: (line: string) => void): void => {
  let rest = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) onLine(line);
  });
};
