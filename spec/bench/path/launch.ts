/**
 * Starts the product the way a person does, on a free port with a data folder of its own, and stops it like Ctrl-C.
 * Owned by the figures of this group; everything it starts ends with `stop`, by force after fifteen seconds.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = join(dirname(fileURLToPath(import.meta.url)), "../../..");

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

export const temporaryFolder = (): { readonly path: string; readonly remove: () => void } => {
  const path = mkdtempSync(join(tmpdir(), "coroot-bench-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
};

export const pause = (ms: number): Promise<void> => new Promise((resume) => setTimeout(resume, ms));

/** Polls `look` until it gives something; fails with `what` and the last error when the time is over. */
export const waitFor = async <T>(
  what: string,
  timeoutMs: number,
  look: () => Promise<T | null>,
  everyMs = 20,
): Promise<T> => {
  const until = performance.now() + timeoutMs;
  let last = "";
  while (performance.now() < until) {
    try {
      const found = await look();
      if (found !== null) return found;
    } catch (error) {
      last = error instanceof Error ? error.message : String(error);
    }
    await pause(everyMs);
  }
  throw new Error(`${what} did not come within ${timeoutMs / 1000} s${last === "" ? "" : ` (${last})`}`);
};

export interface Running {
  readonly address: string;
  readonly pid: number;
  /** seconds from the launch until the page answered */
  readonly startSeconds: number;
  readonly stop: () => Promise<void>;
}

const stopGroup = async (child: ChildProcess): Promise<void> => {
  const { pid } = child;
  if (pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise<boolean>((resolve) => child.once("close", () => resolve(true)));
  // like Ctrl-C on a terminal: to the whole group of this start, npm included
  process.kill(-pid, "SIGINT");
  const stopped = await Promise.race([ended, pause(15_000).then(() => false)]);
  if (!stopped) process.kill(-pid, "SIGKILL");
};

/** `npm start` with this port and data folder; resolves when the page itself (not only /health) has been served. */
export const npmStart = async (data: string, port: number, timeoutMs = 120_000): Promise<Running> => {
  const launchedAt = performance.now();
  const child = spawn("npm", ["start", "--silent", "--", "--port", String(port), "--data", data], {
    cwd: root,
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => {
      output = (output + text).slice(-4_000);
    });
  const address = `http://127.0.0.1:${port}`;
  try {
    await waitFor(`the page at ${address}`, timeoutMs, async () => {
      if (child.exitCode !== null) throw new Error(`npm start ended with ${child.exitCode}`);
      const response = await fetch(address, { signal: AbortSignal.timeout(2_000) });
      const text = await response.text();
      return response.ok && text.includes("<html") ? true : null;
    });
  } catch (error) {
    await stopGroup(child);
    throw new Error(`${error instanceof Error ? error.message : String(error)}\n${output}`, { cause: error });
  }
  return {
    address,
    pid: child.pid ?? 0,
    startSeconds: (performance.now() - launchedAt) / 1000,
    stop: () => stopGroup(child),
  };
};

interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly arguments: readonly string[];
}

const processes = (): readonly Process[] =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name): readonly Process[] => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, "utf8")
          .replace(/^.*\) /s, "")
          .split(" ");
        const line = readFileSync(`/proc/${name}/cmdline`, "utf8").split("\0");
        return [{ pid: Number(name), parent: Number(stat[1]), arguments: line }];
      } catch {
        // gone between the listing and the reading
        return [];
      }
    });

/** Every process below `pid`. */
export const descendants = (pid: number): readonly Process[] => {
  const all = processes();
  const below = (parent: number): readonly Process[] =>
    all.filter((one) => one.parent === parent).flatMap((one) => [one, ...below(one.pid)]);
  return below(pid);
};

/** CPU time of a process in ns, over all its threads. */
export const cpuNs = (pid: number): number =>
  readdirSync(`/proc/${pid}/task`)
    .map((task) => `/proc/${pid}/task/${task}/schedstat`)
    .filter(existsSync)
    .reduce((sum, file) => sum + Number(readFileSync(file, "utf8").split(" ")[0]), 0);

const TICKS_PER_SECOND = 100;

/** CPU time of a process in ms, also of its threads that have ended; in steps of ten. */
export const cpuMs = (pid: number): number => {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / TICKS_PER_SECOND;
};

/** Resident memory of a process in MB. */
export const rssMb = (pid: number): number =>
  (Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) * 1024) / 1e6;
