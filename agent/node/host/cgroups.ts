/**
 * Figures of one cgroup, version 1 or 2, read through kept descriptors. Owned by the observer, one per unit or container.
 * CPU and throttling are read every second, memory, limits and I/O on a slower turn. A file that is missing (controller
 * off, cgroup gone) leaves its figure null, so that the caller can fall back on the processes. `close` frees descriptors.
 */
import type { CgroupFolders } from "../identity/identify.ts";
import { digits, keyed, type KeptFile, type Reader } from "./Reader.ts";

/** Where the hierarchies are mounted, with the part of the hierarchy that the mount shows. */
export interface CgroupMount {
  readonly path: string;
  readonly root: string;
}
export interface CgroupMounts {
  readonly unified: CgroupMount | null;
  readonly controllers: ReadonlyMap<string, CgroupMount>;
}

/** From the text of /proc/self/mountinfo. */
export const parseCgroupMounts = (mountinfo: string): CgroupMounts => {
  let unified: CgroupMount | null = null;
  const controllers = new Map<string, CgroupMount>();
  for (const line of mountinfo.split("\n")) {
    const [left, right] = line.split(" - ");
    if (left === undefined || right === undefined) continue;
    const fields = left.split(" ");
    const [type, , superOptions] = right.split(" ");
    const mount = { root: fields[3] ?? "/", path: fields[4] ?? "" };
    if (type === "cgroup2") unified ??= mount;
    else if (type === "cgroup")
      for (const option of (superOptions ?? "").split(","))
        if (!controllers.has(option) && option !== "rw" && option !== "ro") controllers.set(option, mount);
  }
  return { unified, controllers };
};

/** The directory of a cgroup path in a mount, null where the mount does not show it. */
export const cgroupFolder = (mount: CgroupMount | null | undefined, path: string | null): string | null => {
  if (mount === null || mount === undefined || path === null || path.startsWith("/..")) return null;
  if (mount.root === "/" || mount.root === "") return mount.path + path;
  return path === mount.root || path.startsWith(`${mount.root}/`) ? mount.path + path.slice(mount.root.length) : null;
};

export interface CpuFigures {
  usageMs: number | null;
  periods: number;
  throttledPeriods: number;
  throttledMs: number;
}
export interface SlowFigures {
  limitCores: number;
  memoryBytes: number | null;
  cacheBytes: number;
  memoryLimitBytes: number;
  oomKills: number | null;
  ioBytes: number | null;
}

/** v2 cpu.stat */
export const parseCpuStatV2 = (text: string, into: CpuFigures): void => {
  const usage = keyed(text, "usage_usec");
  into.usageMs = usage === null ? null : usage / 1000;
  into.periods = keyed(text, "nr_periods") ?? 0;
  into.throttledPeriods = keyed(text, "nr_throttled") ?? 0;
  into.throttledMs = (keyed(text, "throttled_usec") ?? 0) / 1000;
};

/** v1 cpu.stat; usage is in cpuacct.usage */
export const parseCpuStatV1 = (text: string, into: CpuFigures): void => {
  into.periods = keyed(text, "nr_periods") ?? 0;
  into.throttledPeriods = keyed(text, "nr_throttled") ?? 0;
  into.throttledMs = (keyed(text, "throttled_time") ?? 0) / 1e6;
};

/** v2 cpu.max: `max 100000` or `20000 100000`; cores, 0 = no limit */
export const parseCpuMax = (text: string): number => {
  const [quota, period] = text.trim().split(/\s+/);
  const cores = Number(quota) / Number(period ?? 100_000);
  return Number.isFinite(cores) && cores > 0 ? cores : 0;
};

/** v2 memory.max or v1 memory.limit_in_bytes; 0 = no limit */
export const parseMemoryLimit = (text: string): number => {
  const bytes = Number(text.trim());
  return Number.isFinite(bytes) && bytes > 0 && bytes < 2 ** 62 ? bytes : 0;
};

/** v2 io.stat: bytes read and written over all devices */
export const parseIoStat = (text: string): number => {
  let sum = 0;
  for (const match of text.matchAll(/\b[rw]bytes=(\d+)/g)) sum += Number(match[1]);
  return sum;
};

/** v1 blkio.throttle.io_service_bytes: the last line is the total */
export const parseBlkio = (text: string): number => {
  let sum = 0;
  for (const match of text.matchAll(/ (?:Read|Write) (\d+)/g)) sum += Number(match[1]);
  return sum;
};

type FileName = "cpu" | "usage" | "limit" | "period" | "memory" | "memoryLimit" | "oom" | "io";

export class CgroupFigures {
  readonly cpu: CpuFigures = { usageMs: null, periods: 0, throttledPeriods: 0, throttledMs: 0 };
  readonly slow: SlowFigures = {
    limitCores: 0,
    memoryBytes: null,
    cacheBytes: 0,
    memoryLimitBytes: 0,
    oomKills: null,
    ioBytes: null,
  };
  private readonly reader: Reader;
  private readonly files = new Map<FileName, KeptFile>();
  private readonly v2: { readonly cpu: boolean; readonly memory: boolean; readonly io: boolean };

  constructor(reader: Reader, mounts: CgroupMounts, folders: CgroupFolders) {
    this.reader = reader;
    const unified = cgroupFolder(mounts.unified, folders.unified);
    const controller = (name: string, path: string | null): string | null =>
      cgroupFolder(mounts.controllers.get(name), path);
    const add = (name: FileName, folder: string | null, file: string): void => {
      if (folder !== null) this.files.set(name, reader.keep(`${folder}/${file}`));
    };
    // On hybrid machines a controller is either in version 1 or in version 2, never in both.
    const cpu1 = controller("cpu", folders.cpu);
    const memory1 = controller("memory", folders.memory);
    const io1 = controller("blkio", folders.blkio);
    this.v2 = {
      cpu: cpu1 === null && unified !== null,
      memory: memory1 === null && unified !== null && !mounts.controllers.has("memory"),
      io: io1 === null && unified !== null && !mounts.controllers.has("blkio"),
    };
    add("cpu", cpu1 ?? unified, "cpu.stat");
    add("usage", controller("cpuacct", folders.cpuacct), "cpuacct.usage");
    add("limit", cpu1 ?? unified, cpu1 === null ? "cpu.max" : "cpu.cfs_quota_us");
    add("period", cpu1, "cpu.cfs_period_us");
    add("memory", memory1 ?? (this.v2.memory ? unified : null), "memory.stat");
    add(
      "memoryLimit",
      memory1 ?? (this.v2.memory ? unified : null),
      memory1 === null ? "memory.max" : "memory.limit_in_bytes",
    );
    add("oom", memory1 ?? (this.v2.memory ? unified : null), memory1 === null ? "memory.events" : "memory.oom_control");
    add(
      "io",
      io1 ?? (this.v2.io ? unified : null),
      io1 === null ? "io.stat" : "blkio.throttle.io_service_bytes_recursive",
    );
  }

  /** Usage and throttling: cheap enough for every second. */
  readCpu(): void {
    const text = this.text("cpu");
    if (text !== null) {
      if (this.v2.cpu) parseCpuStatV2(text, this.cpu);
      else parseCpuStatV1(text, this.cpu);
    }
    const usage = this.files.get("usage");
    if (usage !== undefined) {
      const length = this.reader.readKept(usage);
      this.cpu.usageMs = length > 0 ? digits(this.reader.buffer.subarray(0, length), 0) / 1e6 : null;
    }
    if (text === null && usage === undefined) this.cpu.usageMs = null;
  }

  readSlow(): void {
    const { slow } = this;
    const limit = this.text("limit");
    if (limit === null) slow.limitCores = 0;
    else if (this.v2.cpu) slow.limitCores = parseCpuMax(limit);
    else slow.limitCores = parseCpuMax(`${limit.trim()} ${this.text("period")?.trim() ?? "100000"}`);
    const memory = this.text("memory");
    if (memory === null) slow.memoryBytes = null;
    else if (this.v2.memory) {
      slow.memoryBytes = (keyed(memory, "anon") ?? 0) + (keyed(memory, "file_mapped") ?? 0);
      slow.cacheBytes = keyed(memory, "file") ?? 0;
    } else {
      slow.memoryBytes = (keyed(memory, "total_rss") ?? 0) + (keyed(memory, "total_mapped_file") ?? 0);
      slow.cacheBytes = keyed(memory, "total_cache") ?? 0;
    }
    const memoryLimit = this.text("memoryLimit");
    slow.memoryLimitBytes = memoryLimit === null ? 0 : parseMemoryLimit(memoryLimit);
    this.readOom();
    const io = this.text("io");
    slow.ioBytes = io === null ? null : this.v2.io ? parseIoStat(io) : parseBlkio(io);
  }

  /** The kill counter alone; asked at once when the probe saw a victim. */
  readOom(): void {
    const text = this.text("oom");
    this.slow.oomKills = text === null ? null : keyed(text, "oom_kill");
  }

  close(): void {
    for (const file of this.files.values()) this.reader.release(file);
  }

  private text(name: FileName): string | null {
    const file = this.files.get(name);
    if (file === undefined) return null;
    const length = this.reader.readKept(file);
    return length < 0 ? null : this.reader.buffer.toString("latin1", 0, length);
  }
}
