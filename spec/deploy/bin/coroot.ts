/** The built executable as a person runs it, for the specs of this folder. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "../../../deploy/bin/build.mjs";
import { root } from "../../../deploy/bin/fresh.mjs";

const bundle = join(root, "dist/coroot.mjs");

/** Builds what is stale; fails with the builder's reason. */
export const ensureBuilt = async (): Promise<void> => {
  const failed = (await build()).filter((result) => result.state === "failed");
  if (failed.length > 0) throw new Error(failed.map((result) => `${result.part}: ${result.reason}`).join("\n"));
};

export interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs it to its end. */
export const coroot = (...args: readonly string[]): Ended => {
  const {
    COROOT_SERVER: _server,
    COROOT_PORT: _port,
    COROOT_DATA: _data,
    COROOT_CONFIG: _config,
    ...env
  } = process.env;
  const ran = spawnSync(process.execPath, [bundle, ...args], { encoding: "utf8", env, timeout: 60_000 });
  return { code: ran.status, out: ran.stdout, err: ran.stderr };
};

export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => {
        if (address !== null && typeof address === "object") resolve(address.port);
        else reject(new Error("a listening socket without a port"));
      });
    });
  });

/** Polls until `look` gives something; fails with what it waited for. */
export const until = async <T>(
  what: string | (() => string),
  timeoutMs: number,
  look: () => T | null | Promise<T | null>,
): Promise<T> => {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found !== null) return found;
    if (performance.now() > end)
      throw new Error(`${typeof what === "string" ? what : what()}: not within ${timeoutMs / 1000} s`);
    await new Promise((resume) => setTimeout(resume, 50));
  }
};

/** Process ids below this one, all generations. */
export const descendants = (pid: number): readonly number[] => {
  const parents = readdirSync("/proc").flatMap((name): readonly (readonly [number, number])[] => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const fields = readFileSync(`/proc/${name}/stat`, "utf8")
        .replace(/^.*\) /s, "")
        .split(" ");
      return [[Number(name), Number(fields[1])]];
    } catch {
      // ended between the listing and the reading
      return [];
    }
  });
  const below = (parent: number): readonly number[] =>
    parents.filter(([, of]) => of === parent).flatMap(([child]) => [child, ...below(child)]);
  return below(pid);
};

/** Whether a process is there and no zombie. */
export const runs = (pid: number): boolean => {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    // no such process
    return false;
  }
};

export interface Started {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly port: number;
  readonly address: string;
  readonly data: string;
  readonly output: () => string;
  readonly ended: Promise<number | null>;
  /** ends it by force, with all below it, and removes the data folder */
  readonly dispose: () => Promise<void>;
}

/** `coroot start` on a free port with a data folder of its own. */
export const startCoroot = async (...flags: readonly string[]): Promise<Started> => {
  const data = mkdtempSync(join(tmpdir(), "coroot-start-"));
  const port = await freePort();
  const child = spawn(process.execPath, [bundle, "start", "--port", String(port), "--data", data, ...flags], {
    stdio: ["ignore", "pipe", "pipe"],
    // a process group of its own, as on a terminal
    detached: true,
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  const ended = new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code)));
  const pid = child.pid ?? 0;
  return {
    child,
    pid,
    port,
    address: `http://127.0.0.1:${port}`,
    data,
    output: () => output,
    ended,
    dispose: async () => {
      const all = descendants(pid);
      if (child.exitCode === null && child.signalCode === null) {
        child.kill("SIGKILL");
        await ended;
      }
      for (const one of all) if (runs(one)) process.kill(one, "SIGKILL");
      rmSync(data, { recursive: true, force: true, maxRetries: 5 });
    },
  };
};
