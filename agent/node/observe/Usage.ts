/**
 * Resources per instance: from its cgroup where it has one with that controller, else summed over its processes. Owned by
 * the observer; called once per window. The first reading of anything is its base line and counts nothing. A cgroup that
 * vanished gives way to the processes. `close` frees the cgroups' descriptors.
 */
import { emptyTable, encodeTable, type WireTable } from "../../../schemas/wire/columns.ts";
import { USAGE_SHAPE } from "../../../schemas/wire/observe.ts";
import { CgroupFigures, type CgroupMounts } from "../host/cgroups.ts";
import { PAGE_BYTES, type Process } from "../host/ProcessTable.ts";
import { keyed, type Reader } from "../host/Reader.ts";
import type { Instance } from "./Instances.ts";

/** Memory, limits and I/O are read every so many windows, instances taking turns. */
const SLOW_EVERY = 5;

export interface UsageTotals {
  cpuMs: number;
  throttledMs: number;
  waitMs: number;
  ioWaitMs: number;
  ioBytes: number;
  oomKills: number;
}

/** Figures of one instance. Increases are since the last row that was sent. */
export class InstanceUsage {
  readonly cgroup: CgroupFigures | null;
  readonly totals: UsageTotals = { cpuMs: 0, throttledMs: 0, waitMs: 0, ioWaitMs: 0, ioBytes: 0, oomKills: 0 };
  cpuMs = 0;
  throttledMs = 0;
  throttledPeriods = 0;
  periods = 0;
  waitMs = 0;
  ioWaitMs = 0;
  ioBytes = 0;
  oomKills = 0;
  ios = 0;
  ioUs = 0;
  syncs = 0;
  syncUs = 0;
  cpuLimit = 0;
  memory = 0;
  cache = 0;
  memoryLimit = 0;
  processes = 0;
  changed = true;
  lastUsageMs: number | null = null;
  lastThrottledMs = 0;
  lastThrottledPeriods = 0;
  lastPeriods = 0;
  lastOom: number | null = null;
  lastIo: number | null = null;

  constructor(cgroup: CgroupFigures | null) {
    this.cgroup = cgroup;
  }
}

export class Usage {
  readonly all = new Map<number, InstanceUsage>();
  private readonly reader: Reader;
  private readonly mounts: CgroupMounts;
  private readonly proc: string;
  private readonly ioByPid = new Map<number, { readonly startTicks: number; bytes: number }>();
  private turn = 0;

  constructor(reader: Reader, mounts: CgroupMounts, proc = "/proc") {
    this.reader = reader;
    this.mounts = mounts;
    this.proc = proc;
  }

  /** Takes what the processes used since the last call and reads the cgroups. Returns OOM kills that only a counter saw. */
  measure(instances: Iterable<Instance<Process>>): readonly Instance<Process>[] {
    this.turn++;
    const killed: Instance<Process>[] = [];
    for (const instance of instances) {
      const usage = this.of(instance);
      let cpuMs = 0;
      let waitMs = 0;
      let ioWaitMs = 0;
      for (const process of instance.members.values()) {
        cpuMs += process.cpuMs;
        waitMs += process.waitMs;
        ioWaitMs += process.ioWaitMs;
        process.cpuMs = process.waitMs = process.ioWaitMs = 0;
      }
      const fromCgroup = this.measureCgroup(usage);
      if (fromCgroup !== null) cpuMs = fromCgroup;
      add(usage, "cpuMs", cpuMs);
      add(usage, "waitMs", waitMs);
      add(usage, "ioWaitMs", ioWaitMs);
      if (usage.processes !== instance.members.size) {
        usage.processes = instance.members.size;
        usage.changed = true;
      }
      const first = usage.lastOom === null && usage.memory === 0;
      if (first || (instance.id + this.turn) % SLOW_EVERY === 0) {
        const before = usage.totals.oomKills;
        this.measureSlow(usage, instance);
        if (usage.totals.oomKills > before) killed.push(instance);
      }
    }
    return killed;
  }

  /** A process ended: what it used since the last window still belongs to its instance. */
  ended(instance: Instance<Process>, process: Process): void {
    const usage = this.of(instance);
    if (usage.cgroup === null || usage.cgroup.cpu.usageMs === null) add(usage, "cpuMs", process.cpuMs);
    add(usage, "waitMs", process.waitMs);
    add(usage, "ioWaitMs", process.ioWaitMs);
  }

  /** The probe saw a victim: read the counter now, or count the event where there is none. */
  oom(instance: Instance<Process>): void {
    const usage = this.of(instance);
    const before = usage.totals.oomKills;
    usage.cgroup?.readOom();
    this.takeOom(usage);
    if (usage.totals.oomKills === before && (usage.cgroup === null || usage.cgroup.slow.oomKills === null))
      add(usage, "oomKills", 1);
  }

  /** Requests of disks that were done for it, or its calls of fsync, and how long they took in all. */
  timed(instance: Instance<Process>, sync: boolean, count: number, us: number): void {
    const usage = this.of(instance);
    if (sync) {
      usage.syncs += count;
      usage.syncUs += us;
    } else {
      usage.ios += count;
      usage.ioUs += us;
    }
    usage.changed = true;
  }

  /** Rows of what changed, among the instances that are shown. */
  table(instances: Iterable<Instance<Process>>): WireTable | null {
    const rows: [Instance<Process>, InstanceUsage][] = [];
    for (const instance of instances) {
      const usage = this.all.get(instance.id);
      if (instance.reported && usage !== undefined && (usage.changed || instance.restarts > 0))
        rows.push([instance, usage]);
    }
    if (rows.length === 0) return null;
    const table = emptyTable(USAGE_SHAPE, rows.length);
    for (const [i, [instance, usage]] of rows.entries()) {
      table.instance[i] = instance.id;
      table.cpuMs[i] = usage.cpuMs;
      table.cpuLimit[i] = usage.cpuLimit;
      table.throttledMs[i] = usage.throttledMs;
      table.throttledPeriods[i] = usage.throttledPeriods;
      table.periods[i] = usage.periods;
      table.waitMs[i] = usage.waitMs;
      table.memory[i] = usage.memory;
      table.memoryLimit[i] = usage.memoryLimit;
      table.oomKills[i] = usage.oomKills;
      table.ioBytes[i] = usage.ioBytes;
      table.ioWaitMs[i] = usage.ioWaitMs;
      table.ios[i] = usage.ios;
      table.ioUs[i] = usage.ioUs;
      table.syncs[i] = usage.syncs;
      table.syncUs[i] = usage.syncUs;
      table.restarts[i] = instance.restarts;
      table.processes[i] = usage.processes;
      instance.restarts = 0;
      usage.cpuMs = usage.throttledMs = usage.throttledPeriods = usage.periods = 0;
      usage.waitMs = usage.ioWaitMs = usage.ioBytes = usage.oomKills = 0;
      usage.ios = usage.ioUs = usage.syncs = usage.syncUs = 0;
      usage.changed = false;
    }
    return encodeTable(USAGE_SHAPE, table);
  }

  forget(alive: (id: number) => boolean, pidAlive: (pid: number) => boolean): void {
    for (const [id, usage] of this.all)
      if (!alive(id)) {
        usage.cgroup?.close();
        this.all.delete(id);
      }
    for (const pid of this.ioByPid.keys()) if (!pidAlive(pid)) this.ioByPid.delete(pid);
  }

  close(): void {
    this.forget(
      () => false,
      () => false,
    );
  }

  private of(instance: Instance<Process>): InstanceUsage {
    const known = this.all.get(instance.id);
    if (known !== undefined) return known;
    const { folders } = instance.identity;
    const inCgroup = Object.values(folders).some((folder) => folder !== null);
    const usage = new InstanceUsage(inCgroup ? new CgroupFigures(this.reader, this.mounts, folders) : null);
    this.all.set(instance.id, usage);
    return usage;
  }

  /** CPU used since the last reading by the cgroup's own account, or null where it has none. */
  private measureCgroup(usage: InstanceUsage): number | null {
    const { cgroup } = usage;
    if (cgroup === null) return null;
    cgroup.readCpu();
    const { cpu } = cgroup;
    const base = usage.lastUsageMs === null;
    const throttledMs = base ? 0 : Math.max(0, cpu.throttledMs - usage.lastThrottledMs);
    usage.throttledMs += throttledMs;
    usage.totals.throttledMs += throttledMs;
    if (!base) {
      const periods = Math.max(0, cpu.periods - usage.lastPeriods);
      usage.periods += periods;
      usage.throttledPeriods += Math.max(0, cpu.throttledPeriods - usage.lastThrottledPeriods);
      if (periods > 0) usage.changed = true;
    }
    usage.lastThrottledMs = cpu.throttledMs;
    usage.lastPeriods = cpu.periods;
    usage.lastThrottledPeriods = cpu.throttledPeriods;
    const before = usage.lastUsageMs;
    usage.lastUsageMs = cpu.usageMs ?? usage.lastUsageMs ?? 0;
    if (cpu.usageMs === null) return null;
    return before === null ? 0 : Math.max(0, cpu.usageMs - before);
  }

  private measureSlow(usage: InstanceUsage, instance: Instance<Process>): void {
    usage.cgroup?.readSlow();
    const slow = usage.cgroup?.slow;
    this.takeOom(usage);
    let ioBytes = 0;
    if (slow !== undefined && slow.ioBytes !== null) {
      if (usage.lastIo !== null) ioBytes = Math.max(0, slow.ioBytes - usage.lastIo);
      usage.lastIo = slow.ioBytes;
    } else ioBytes = this.processIo(instance);
    add(usage, "ioBytes", ioBytes);
    const memory = slow?.memoryBytes ?? this.processMemory(instance);
    const limit = slow?.limitCores ?? 0;
    const memoryLimit = slow?.memoryLimitBytes ?? 0;
    if (memory !== usage.memory || limit !== usage.cpuLimit || memoryLimit !== usage.memoryLimit) usage.changed = true;
    usage.memory = memory;
    usage.cache = slow?.cacheBytes ?? 0;
    usage.cpuLimit = limit;
    usage.memoryLimit = memoryLimit;
  }

  private takeOom(usage: InstanceUsage): void {
    const kills = usage.cgroup?.slow.oomKills ?? null;
    if (kills === null) return;
    if (usage.lastOom !== null) add(usage, "oomKills", Math.max(0, kills - usage.lastOom));
    usage.lastOom = kills;
  }

  /** Own pages of all processes plus the largest shared part, which forks have in common. */
  private processMemory(instance: Instance<Process>): number {
    let own = 0;
    let shared = 0;
    for (const { pid } of instance.members.values()) {
      const fields = this.reader.text(`${this.proc}/${pid}/statm`)?.split(" ");
      if (fields === undefined) continue;
      const common = Number(fields[2] ?? 0);
      own += Math.max(0, Number(fields[1] ?? 0) - common);
      shared = Math.max(shared, common);
    }
    return (own + shared) * PAGE_BYTES;
  }

  private processIo(instance: Instance<Process>): number {
    let sum = 0;
    for (const { pid, startTicks } of instance.members.values()) {
      const text = this.reader.text(`${this.proc}/${pid}/io`);
      if (text === null) continue;
      const bytes = (keyed(text, "read_bytes:") ?? 0) + (keyed(text, "write_bytes:") ?? 0);
      const before = this.ioByPid.get(pid);
      if (before !== undefined && before.startTicks === startTicks) {
        sum += Math.max(0, bytes - before.bytes);
        before.bytes = bytes;
      } else this.ioByPid.set(pid, { startTicks, bytes });
    }
    return sum;
  }
}

const add = (usage: InstanceUsage, figure: keyof UsageTotals, amount: number): void => {
  if (amount === 0) return;
  usage[figure] += amount;
  usage.totals[figure] += amount;
  usage.changed = true;
};
