/** probe.kernel_mem, probe.load_cpu: what the probe takes of the kernel, in memory in use and in CPU time at its start. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmdirSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { ProbeBed, probePath, SYSCALLS } from "../../kernel/ProbeBed.ts";
import { exchange, open } from "../../kernel/traffic.ts";
import type { Figure, Measured, MeasureContext } from "../figure.ts";
import { median, whereAble } from "../path/probe.ts";
import { bothHooks, type Hooks, startProbe } from "./hooks.ts";

const CONNECTIONS = 5_000;

/** A memory cgroup of its own, and what the kernel has taken for it, bytes: maps and storage are their maker's. */
const cgroup = (): { readonly procs: string; readonly bytes: () => number; readonly remove: () => void } | null => {
  const [one, two] = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].map((at) => join(at, `coroot-bench-${process.pid}`));
  const path = existsSync("/sys/fs/cgroup/memory/memory.kmem.usage_in_bytes") ? one : two;
  if (path === undefined) return null;
  mkdirSync(path);
  const remove = (): void => rmdirSync(path);
  const [kmem, stat] = [join(path, "memory.kmem.usage_in_bytes"), join(path, "memory.stat")];
  const read = (): number =>
    existsSync(kmem)
      ? Number(readFileSync(kmem, "utf8"))
      : Number(/^kernel (\d+)$/m.exec(readFileSync(stat, "utf8"))?.[1] ?? Number.NaN);
  if (!existsSync(kmem) && !existsSync(stat)) {
    remove();
    return null;
  }
  return { procs: join(path, "cgroup.procs"), bytes: read, remove };
};

const measureMemory = async ({ log }: MeasureContext): Promise<Measured> => {
  const group = cgroup();
  if (group === null) return { value: null, reason: "no memory controller of cgroups" };
  const server = createServer((socket) =>
    socket.on("data", () => socket.write("+OK\r\n")).on("error", () => undefined),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", 512, () => resolve()));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const sockets: Socket[] = [];
  try {
    const bed = await ProbeBed.start("/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', group.procs, probePath);
    try {
      const start = group.bytes();
      for (let i = 0; i < CONNECTIONS; i += 100)
        sockets.push(...(await Promise.all(Array.from({ length: 100 }, () => open(port)))));
      for (const socket of sockets) await exchange(socket, "*1\r\n$4\r\nPING\r\n", (answer) => answer === "+OK\r\n");
      await bed.settled();
      const [used, connections] = [group.bytes(), bed.self("connections")];
      log(`${connections} connections`);
      if (connections < 2 * CONNECTIONS) return { value: null, reason: `${connections} sockets are open only` };
      return {
        value: used / 1e6,
        detail:
          `${connections} sockets; ${(start / 1e6).toFixed(1)} MB at start, ` +
          `${Math.round((used - start) / connections)} bytes each; the probe's maps by its own word ` +
          `${(bed.self("kernelBytes") / 1e6).toFixed(1)} MB without what sockets hold`,
      };
    } finally {
      await bed.stop();
    }
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
    group.remove();
  }
};

const measureLoad = async (hooks: Hooks, { long, log }: MeasureContext): Promise<Measured> => {
  const seconds: number[] = [];
  for (let round = 0; round < (long ? 21 : 7); round++) {
    const bed = await startProbe(hooks);
    seconds.push(bed.self("loadUs") / 1e6);
    await bed.stop();
    log(`${seconds.at(-1)?.toFixed(3)} s`);
  }
  const table = execFileSync(probePath, ["--verifier", ...(hooks === "calls" ? [SYSCALLS] : [])], { encoding: "utf8" });
  const programs = table
    .split("\n")
    .map((line) => /^(\w+) +(\d+) +(\d+)/.exec(line))
    .filter((found) => found !== null)
    .map((found) => `${found[1]} ${(Number(found[3]) / 1e3).toFixed(1)} ms (${found[2]})`);
  const sorted = seconds.toSorted((a, b) => a - b);
  return {
    value: median(seconds),
    detail:
      `${seconds.length} starts, ${sorted[0]?.toFixed(2)} to ${sorted.at(-1)?.toFixed(2)} s of the loader's CPU; ` +
      `by the verifier's clock (instructions): ${programs.join(", ")}`,
  };
};

export const figures: readonly Figure[] = [
  {
    id: "probe.kernel_mem",
    figure: "kernel memory of the probe at 10,000 sockets",
    unit: "MB",
    bar: "<= 32",
    holds: (value) => value <= 32,
    measure: whereAble(["bpf"], measureMemory),
  },
  ...bothHooks(
    { id: "probe.load_cpu", figure: "CPU of loading the probe, the verifier's for the most part", unit: "s" },
    { sockets: 0.5, calls: 0.5 },
    (context, hooks) => whereAble(["bpf"], (of) => measureLoad(hooks, of))(context),
  ),
];
