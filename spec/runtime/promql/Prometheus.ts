/** Debian's Prometheus on loopback, on a directory of its own. The caller stops it: it ends by its pid, with its data; and with us. */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });

const READY_MS = 30_000;

export class Prometheus {
  readonly url: string;
  private readonly child: ChildProcess;
  private readonly folder: string;
  private constructor(url: string, child: ChildProcess, folder: string) {
    this.url = url;
    this.child = child;
    this.folder = folder;
  }

  static async start(): Promise<Prometheus> {
    const folder = mkdtempSync(join(tmpdir(), "coroot-prometheus-"));
    const config = join(folder, "prometheus.yml");
    writeFileSync(config, "global: { evaluation_interval: 1m }\n");
    const port = await freePort();
    const child = spawn(
      "setpriv",
      [
        "--pdeathsig=KILL",
        "prometheus",
        `--config.file=${config}`,
        `--storage.tsdb.path=${join(folder, "data")}`,
        `--web.listen-address=127.0.0.1:${port}`,
        "--web.enable-remote-write-receiver",
        "--log.level=error",
      ],
      { stdio: ["ignore", "ignore", "inherit"] },
    );
    const one = new Prometheus(`http://127.0.0.1:${port}`, child, folder);
    try {
      await one.ready();
    } catch (error) {
      await one.stop();
      throw error;
    }
    return one;
  }

  private async ready(): Promise<void> {
    const until = performance.now() + READY_MS;
    while (performance.now() < until) {
      if (this.child.exitCode !== null) throw new Error(`prometheus ended with ${this.child.exitCode}`);
      // refused, or 503, until it has opened its data
      const ok = await fetch(`${this.url}/-/ready`).then(
        (answer) => answer.ok,
        () => false,
      );
      if (ok) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error("prometheus did not become ready");
  }

  async stop(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const ended = new Promise((resolve) => this.child.once("close", resolve));
      this.child.kill("SIGKILL");
      await ended;
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}
