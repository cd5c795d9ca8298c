/**
 * The shop's cgroups, /coroot-demo.slice/<name>.service, in version 2 or in version 1's memory, cpu, cpuacct and blkio
 * hierarchies (and `unified` beside them), whichever the machine has. Owned by the environment. A hierarchy that refuses
 * fails the making with the file's name; `remove` kills what is still inside and deletes the folders.
 */
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { until } from "./clock.ts";

export const SLICE = "coroot-demo.slice";
const PERIOD_US = 100_000;

export interface Limits {
  readonly cpuCores: number | null;
  readonly memoryBytes: number | null;
}

export interface Hierarchies {
  readonly version: 1 | 2;
  /** mount points, each with what it controls */
  readonly mounts: readonly { readonly path: string; readonly controllers: ReadonlySet<string> }[];
}

const wanted = ["memory", "cpu", "cpuacct", "blkio"];

/** Reads /proc/mounts; `controllersOf` gives a version 2 mount's cgroup.controllers. Null when no version can limit. */
export const findHierarchies = (
  mounts: string,
  controllersOf: (path: string) => readonly string[],
): Hierarchies | null => {
  const rows = mounts.split("\n").map((line) => line.split(" "));
  const v2 = rows.find((row) => row[2] === "cgroup2")?.[1];
  const v2Controllers = new Set(v2 === undefined ? [] : controllersOf(v2));
  if (v2 !== undefined && v2Controllers.has("cpu") && v2Controllers.has("memory"))
    return { version: 2, mounts: [{ path: v2, controllers: v2Controllers }] };
  const v1 = rows.flatMap(([, path, type, options]) => {
    const controllers = (options ?? "").split(",").filter((option) => wanted.includes(option));
    return type === "cgroup" && path !== undefined && controllers.length > 0
      ? [{ path, controllers: new Set(controllers) }]
      : [];
  });
  const has = (controller: string): boolean => v1.some((mount) => mount.controllers.has(controller));
  if (!has("cpu") || !has("memory")) return null;
  return { version: 1, mounts: v2 === undefined ? v1 : [...v1, { path: v2, controllers: new Set<string>() }] };
};

export class Cgroups {
  readonly version: 1 | 2;
  readonly #mounts: Hierarchies["mounts"];

  constructor(hierarchies: Hierarchies) {
    this.version = hierarchies.version;
    this.#mounts = hierarchies.mounts;
  }

  static async detect(): Promise<Cgroups | null> {
    const mounts = await readFile("/proc/mounts", "utf8");
    const v2 = /^\S+ (\S+) cgroup2 /m.exec(mounts)?.[1];
    const file = v2 === undefined ? null : join(v2, "cgroup.controllers");
    const controllers = file !== null && existsSync(file) ? (await readFile(file, "utf8")).trim().split(" ") : [];
    const found = findHierarchies(mounts, () => controllers);
    return found === null ? null : new Cgroups(found);
  }

  async create(name: string, limits: Limits): Promise<void> {
    for (const { path, controllers } of this.#mounts) {
      const slice = join(path, SLICE);
      if (this.version === 2) await this.#delegate(path, controllers);
      await mkdir(slice, { recursive: true });
      if (this.version === 2) await this.#delegate(slice, controllers);
      await mkdir(join(slice, `${name}.service`), { recursive: true });
    }
    await this.setCpu(name, limits.cpuCores);
    if (limits.memoryBytes !== null) await this.#setMemory(name, limits.memoryBytes);
  }

  /** The files a process writes its id to before it becomes the service. */
  entrances(name: string): readonly string[] {
    return this.#mounts.map(({ path }) => join(path, SLICE, `${name}.service`, "cgroup.procs"));
  }

  async setCpu(name: string, cores: number | null): Promise<void> {
    const folder = this.#folder(name, "cpu");
    const quota = cores === null ? null : Math.round(cores * PERIOD_US);
    if (this.version === 2) return writeFile(join(folder, "cpu.max"), `${quota ?? "max"} ${PERIOD_US}`);
    await writeFile(join(folder, "cpu.cfs_period_us"), String(PERIOD_US));
    await writeFile(join(folder, "cpu.cfs_quota_us"), String(quota ?? -1));
  }

  /** How often the kernel killed for memory here since the cgroup was made. */
  async oomKills(name: string): Promise<number> {
    const file = this.version === 2 ? "memory.events" : "memory.oom_control";
    const text = await readFile(join(this.#folder(name, "memory"), file), "utf8");
    return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0);
  }

  async processes(): Promise<readonly number[]> {
    const pids = new Set<number>();
    for (const { path } of this.#mounts) {
      for (const folder of await this.#services(path)) {
        const text = await readFile(join(folder, "cgroup.procs"), "utf8");
        for (const line of text.split("\n")) if (line !== "") pids.add(Number(line));
      }
    }
    return [...pids];
  }

  async remove(): Promise<void> {
    await until("the demo's cgroups are empty", 10_000, async () => {
      const left = await this.processes();
      for (const pid of left) killIfAlive(pid);
      return left.length === 0 ? true : undefined;
    });
    for (const { path } of this.#mounts) {
      for (const folder of await this.#services(path)) await removeFolder(folder);
      if (existsSync(join(path, SLICE))) await removeFolder(join(path, SLICE));
    }
  }

  async #setMemory(name: string, bytes: number): Promise<void> {
    const folder = this.#folder(name, "memory");
    if (this.version === 2) {
      await writeFile(join(folder, "memory.max"), String(bytes));
      // without this a leak would move to swap where the machine has some, and never end
      if (existsSync(join(folder, "memory.swap.max"))) await writeFile(join(folder, "memory.swap.max"), "0");
      return;
    }
    await writeFile(join(folder, "memory.limit_in_bytes"), String(bytes));
    const withSwap = join(folder, "memory.memsw.limit_in_bytes");
    if (existsSync(withSwap)) await writeFile(withSwap, String(bytes));
  }

  async #delegate(folder: string, controllers: ReadonlySet<string>): Promise<void> {
    const enabled = (await readFile(join(folder, "cgroup.subtree_control"), "utf8")).trim().split(" ");
    const missing = ["cpu", "memory", "io", "pids"].filter((name) => controllers.has(name) && !enabled.includes(name));
    if (missing.length > 0)
      await writeFile(join(folder, "cgroup.subtree_control"), missing.map((name) => `+${name}`).join(" "));
  }

  #folder(name: string, controller: string): string {
    const mount = this.#mounts.find(({ controllers }) => controllers.has(controller));
    if (mount === undefined) throw new Error(`no cgroup hierarchy controls ${controller}`);
    return join(mount.path, SLICE, `${name}.service`);
  }

  async #services(mount: string): Promise<readonly string[]> {
    const slice = join(mount, SLICE);
    if (!existsSync(slice)) return [];
    const entries = await readdir(slice, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => join(slice, entry.name));
  }
}

const hasCode = (error: unknown, code: string): boolean =>
  error instanceof Error && "code" in error && error.code === code;

export const killIfAlive = (pid: number, signal: NodeJS.Signals = "SIGKILL"): void => {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (!hasCode(error, "ESRCH")) throw error;
  }
};

/** A cgroup stays busy for a moment after its last process has gone. */
const removeFolder = async (folder: string): Promise<void> => {
  await until(`${folder} can be removed`, 5_000, async () => {
    try {
      await rmdir(folder);
      return true;
    } catch (error) {
      if (hasCode(error, "EBUSY")) return undefined;
      throw error;
    }
  });
};
