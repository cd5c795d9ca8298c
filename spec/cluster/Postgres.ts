/**
 * A PostgreSQL server of a test's own: a new database cluster in a temporary folder, on loopback, run by an ordinary user.
 * It can be frozen, killed and started again, and reached through proxies that are cut. Stops by its own process id.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chown, mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../deploy/demo/environment.ts";
import { run } from "../../deploy/demo/command.ts";
import { dropTo, unprivilegedUser } from "../../deploy/demo/postgres.ts";
import { postgresBin } from "../machine.ts";
import { proxyTo, type Proxy } from "./proxy.ts";
import { until } from "./until.ts";

export class Postgres {
  readonly port: number;
  readonly #folder: string;
  readonly #command: readonly string[];
  #child: ChildProcess | null = null;

  private constructor(port: number, folder: string, command: readonly string[]) {
    this.port = port;
    this.#folder = folder;
    this.#command = command;
  }

  static async start(): Promise<Postgres> {
    const bin = postgresBin();
    if (bin === null) throw new Error("no PostgreSQL server is installed");
    const port = await freePort();
    const folder = await mkdtemp(join(tmpdir(), "coroot-postgres-"));
    const user = await unprivilegedUser();
    if (user !== null) await chown(folder, user.uid, user.gid);
    const wrapper = user === null ? [] : ["setpriv", ...dropTo(user)];
    const data = join(folder, "data");
    const initdb = [join(bin, "initdb"), "--pgdata", data, "--username", "coroot", "--auth", "trust", "--no-sync"];
    await run([...wrapper, ...initdb, "--encoding", "UTF8", "--locale", "C"], { cwd: folder, timeoutMs: 60_000 });
    const settings = `listen_addresses = '127.0.0.1'\nport = ${port}\nunix_socket_directories = '${folder}'\nfsync = off\n`;
    await writeFile(join(data, "postgresql.auto.conf"), settings);
    const postgres = new Postgres(port, folder, [...wrapper, join(bin, "postgres"), "-D", data]);
    await postgres.up();
    return postgres;
  }

  get url(): string {
    return `postgres://coroot@127.0.0.1:${this.port}/postgres`;
  }

  async up(): Promise<void> {
    const [program = "", ...args] = this.#command;
    this.#child = spawn("setpriv", ["--pdeathsig=KILL", program, ...args], { stdio: "ignore", cwd: this.#folder });
    await until("PostgreSQL", 20_000, () => this.#answers());
  }

  /** Like a crash of the machine: no goodbye. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null) return;
    const ended = once(child, "exit");
    // SIGQUIT ends all its processes at once, without a shutdown.
    child.kill("SIGQUIT");
    await ended;
  }

  async proxy(): Promise<Proxy & { readonly url: string }> {
    const proxy = await proxyTo(this.port);
    return { ...proxy, url: `postgres://coroot@127.0.0.1:${proxy.port}/postgres` };
  }

  async stop(): Promise<void> {
    await this.kill();
    await rm(this.#folder, { recursive: true, force: true });
  }

  #answers(): Promise<true | undefined> {
    return new Promise((resolve) => {
      const socket = connect(this.port, "127.0.0.1");
      socket.once("connect", () => {
        socket.destroy();
        resolve(true);
      });
      socket.once("error", () => resolve(undefined));
    });
  }
}
