/** Debian's Prometheus or VictoriaMetrics on loopback, on a folder of its own. The caller stops it by its pid, with its data; it ends with us. */
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

export interface StoredSeries {
  readonly metric: Readonly<Record<string, string>>;
  /** seconds, and the value as text */
  readonly values: readonly (readonly [number, string])[];
}

export class MetricsServer {
  readonly port: number;
  private readonly child: ChildProcess;
  private readonly folder: string;
  private constructor(port: number, child: ChildProcess, folder: string) {
    this.port = port;
    this.child = child;
    this.folder = folder;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** A Prometheus with this configuration that takes remote_write as well. */
  static async prometheus(config = "", port?: number, folder = MetricsServer.folder()): Promise<MetricsServer> {
    const file = join(folder, "prometheus.yml");
    writeFileSync(file, config);
    return MetricsServer.start("prometheus", folder, "/-/ready", port, (at) => [
      `--config.file=${file}`,
      `--storage.tsdb.path=${join(folder, "data")}`,
      `--web.listen-address=127.0.0.1:${at}`,
      "--web.enable-remote-write-receiver",
      "--log.level=error",
    ]);
  }

  static victoria(): Promise<MetricsServer> {
    const folder = MetricsServer.folder();
    return MetricsServer.start("victoria-metrics", folder, "/health", undefined, (at) => [
      `-storageDataPath=${join(folder, "data")}`,
      `-httpListenAddr=127.0.0.1:${at}`,
      "-retentionPeriod=1",
      "-search.latencyOffset=0s",
      "-loggerLevel=ERROR",
    ]);
  }

  static folder(): string {
    return mkdtempSync(join(tmpdir(), "coroot-metrics-"));
  }

  private static async start(
    program: string,
    folder: string,
    ready: string,
    fixed: number | undefined,
    args: (port: number) => string[],
  ): Promise<MetricsServer> {
    const port = fixed ?? (await freePort());
    const child = spawn("setpriv", ["--pdeathsig=KILL", program, ...args(port)], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    const one = new MetricsServer(port, child, folder);
    const until = performance.now() + READY_MS;
    while (performance.now() < until && child.exitCode === null) {
      // refused, or 503, until it has opened its data
      const ok = await fetch(one.url + ready).then(
        (answer) => answer.ok,
        () => false,
      );
      if (ok) return one;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await one.stop();
    throw new Error(`${program} did not become ready`);
  }

  /** Raw samples of the series that match, of the last two hours. */
  async samples(selector: string): Promise<readonly StoredSeries[]> {
    const query = new URLSearchParams({ query: `${selector}[2h]`, time: String(Date.now() / 1000 + 60) });
    const answer = await fetch(`${this.url}/api/v1/query?${query.toString()}`);
    const { data } = (await answer.json()) as { data?: { result: readonly StoredSeries[] } };
    return data?.result ?? [];
  }

  /** Ends it at once; with `keep`, its folder stays for another start. */
  async stop(keep = false): Promise<string> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const ended = new Promise((resolve) => this.child.once("close", resolve));
      this.child.kill(keep ? "SIGTERM" : "SIGKILL");
      await ended;
    }
    if (!keep) rmSync(this.folder, { recursive: true, force: true });
    return this.folder;
  }
}
