/**
 * All processes of the machine, kept incrementally: a kept descriptor per process tells use and death every second, a
 * listing of /proc finds new ones, and exec events re-read one. Owned by the observer; synchronous. What cannot be read
 * (rights, a process that ended meanwhile) is left out and counted. Holds descriptors until `close`.
 */
import { readdirSync, readlinkSync } from "node:fs";
import { identify, type Identity } from "../identity/identify.ts";
import { digits, errnoOf, type KeptFile, type Reader } from "./Reader.ts";
import { emptyStat, parseStat } from "./processStat.ts";

export const TICK_MS = 10;
export const PAGE_BYTES = 4096;
const MAX_TASKS = 64;
const MAX_CMDLINE = 8192;
/** At most so many processes are measured per second; the others take turns. */
const MAX_MEASURED = 1_500;

export interface Process {
  readonly pid: number;
  readonly ppid: number;
  readonly startTicks: number;
  readonly startedAtMs: number;
  readonly netns: number;
  readonly identity: Identity;
  readonly stat: KeptFile;
  commHash: number;
  readonly cgroup: string;
  /** looks left at the cgroup: starters often move a process into its cgroup after it began */
  looks: number;
  nextLookMs: number;
  /** totals as last read */
  cpuTicks: number;
  ioWaitTicks: number;
  rssBytes: number;
  threads: number;
  /** increases since they were last taken by `takeUse` */
  cpuMs: number;
  waitMs: number;
  ioWaitMs: number;
  tasks: Map<number, { readonly file: KeptFile; waitNs: number }> | null;
  tasksReadAt: number;
}

export interface ProcessChanges {
  readonly joined: Process[];
  readonly left: Process[];
  /** same process, other program: its instance must be found again */
  readonly replaced: { readonly before: Process; readonly after: Process }[];
}

export interface ProcessTableOptions {
  readonly reader: Reader;
  readonly node: string;
  readonly proc?: string;
  /** wall clock at boot, ms */
  readonly bootMs: number;
}

export class ProcessTable {
  readonly processes = new Map<number, Process>();
  /** times that we might not read a process's executable or namespace, and the errno of the last refusal */
  refused = 0;
  refusedErrno = 0;
  private readonly kernelThreads = new Set<number>();
  private readonly stat = emptyStat();
  private readonly options: ProcessTableOptions;
  private readonly proc: string;
  private cursor = 0;
  private changes: ProcessChanges = { joined: [], left: [], replaced: [] };

  constructor(options: ProcessTableOptions) {
    this.options = options;
    this.proc = options.proc ?? "/proc";
  }

  /** What changed since the last call, oldest first. */
  takeChanges(): ProcessChanges {
    const changes = this.changes;
    this.changes = { joined: [], left: [], replaced: [] };
    return changes;
  }

  /** Lists /proc: new processes join, missing ones leave. */
  scan(): void {
    const seen = new Set<number>();
    const fresh: number[] = [];
    for (const entry of readdirSync(this.proc)) {
      const code = entry.charCodeAt(0);
      if (code < 48 || code > 57) continue;
      const pid = Number(entry);
      seen.add(pid);
      if (!this.processes.has(pid) && !this.kernelThreads.has(pid)) fresh.push(pid);
    }
    for (const pid of this.kernelThreads) if (!seen.has(pid)) this.kernelThreads.delete(pid);
    for (const process of this.processes.values()) if (!seen.has(process.pid)) this.remove(process);
    for (const pid of fresh) this.load(pid);
  }

  /** The process, reading it now when it is not known yet; null when it is gone or not ours to see. */
  lookup(pid: number): Process | null {
    return this.processes.get(pid) ?? (this.kernelThreads.has(pid) ? null : this.load(pid));
  }

  /** A process called exec: its program may be another one. */
  executed(pid: number): void {
    this.kernelThreads.delete(pid);
    const before = this.processes.get(pid);
    if (before === undefined) this.load(pid);
    else this.reload(before);
  }

  exited(pid: number): void {
    const process = this.processes.get(pid);
    if (process === undefined) return;
    // The exit of one thread group is told before its pid is free; what was used until now still counts.
    this.measureOne(process, Number.NaN);
    if (this.processes.has(pid)) this.remove(process);
  }

  /** Reads the use of processes (all, or a turn of them on a crowded machine). `nowMs` is monotonic. */
  measure(nowMs: number): void {
    const { reader } = this.options;
    const crowded = this.processes.size > MAX_MEASURED;
    let skip = crowded ? this.cursor % this.processes.size : 0;
    let left = MAX_MEASURED;
    for (const process of this.processes.values()) {
      if (skip > 0) {
        skip--;
        continue;
      }
      if (left-- === 0) break;
      const length = reader.readKept(process.stat);
      if (length < 0) this.remove(process);
      else this.measureOne(process, nowMs, length);
    }
    this.cursor = crowded ? this.cursor + MAX_MEASURED : 0;
  }

  close(): void {
    for (const process of this.processes.values()) this.drop(process);
    this.processes.clear();
  }

  private measureOne(process: Process, nowMs: number, length = 0): void {
    const { reader } = this.options;
    const { stat } = this;
    const bytes = length > 0 ? length : reader.readKept(process.stat);
    if (bytes <= 0 || !parseStat(reader.buffer, bytes, stat) || stat.startTicks !== process.startTicks) {
      this.remove(process);
      return;
    }
    const ticks = Math.max(0, stat.cpuTicks - process.cpuTicks);
    process.cpuMs += ticks * TICK_MS;
    process.ioWaitMs += Math.max(0, stat.ioWaitTicks - process.ioWaitTicks) * TICK_MS;
    process.cpuTicks = stat.cpuTicks;
    process.ioWaitTicks = stat.ioWaitTicks;
    process.rssBytes = stat.rssPages * PAGE_BYTES;
    process.threads = stat.threads;
    const { commHash, zombie } = stat;
    if (zombie) return this.remove(process);
    if (ticks > 0 && !Number.isNaN(nowMs)) this.measureWait(process, nowMs);
    if (commHash !== process.commHash) return this.reload(process);
    if (process.looks > 0 && nowMs >= process.nextLookMs) {
      process.looks--;
      process.nextLookMs = nowMs + (process.looks > 1 ? 1_000 : 8_000);
      if ((reader.text(`${this.proc}/${process.pid}/cgroup`) ?? process.cgroup) !== process.cgroup)
        this.reload(process);
    }
  }

  /** Time runnable but not running, of all threads: /proc/PID/schedstat is the main thread alone. */
  private measureWait(process: Process, nowMs: number): void {
    const { reader } = this.options;
    const tasks = (process.tasks ??= new Map());
    const fresh = process.tasksReadAt === 0;
    if (fresh || (process.threads !== tasks.size && nowMs - process.tasksReadAt >= 5_000)) {
      process.tasksReadAt = nowMs;
      let tids: string[];
      try {
        tids = readdirSync(`${this.proc}/${process.pid}/task`);
      } catch (error) {
        this.refusedErrno = errnoOf(error);
        return;
      }
      for (const tid of tids) {
        if (tasks.size >= MAX_TASKS) break;
        const id = Number(tid);
        if (tasks.has(id)) continue;
        tasks.set(id, {
          file: reader.keep(`${this.proc}/${process.pid}/task/${tid}/schedstat`),
          // A thread that was there before us has a past that is not this window's; a new one has none.
          waitNs: fresh ? -1 : 0,
        });
      }
    }
    for (const [tid, task] of tasks) {
      const length = reader.readKept(task.file);
      if (length <= 0) {
        tasks.delete(tid);
        continue;
      }
      const wait = digits(reader.buffer, reader.buffer.indexOf(32) + 1);
      if (task.waitNs >= 0) process.waitMs += Math.max(0, wait - task.waitNs) / 1e6;
      task.waitNs = wait;
    }
  }

  private load(pid: number): Process | null {
    const process = this.readProcess(pid);
    if (process === null) return null;
    this.processes.set(pid, process);
    this.changes.joined.push(process);
    return process;
  }

  private reload(before: Process): void {
    const after = this.readProcess(before.pid);
    if (after === null) return this.remove(before);
    before.commHash = after.commHash;
    if (
      after.startTicks === before.startTicks &&
      after.netns === before.netns &&
      after.cgroup === before.cgroup &&
      after.identity.exe === before.identity.exe &&
      after.identity.kind === before.identity.kind &&
      after.identity.instance === before.identity.instance &&
      // A rewritten title makes the name worse, not other: only interpreters can become another program in one exe.
      (after.identity.name === before.identity.name || after.identity.type === "" || isFallback(after.identity))
    ) {
      this.drop(after);
      return;
    }
    this.drop(before);
    after.cpuMs += before.cpuMs;
    this.processes.set(after.pid, after);
    this.changes.replaced.push({ before, after });
  }

  private readProcess(pid: number): Process | null {
    const { reader } = this.options;
    const { stat } = this;
    const folder = `${this.proc}/${pid}`;
    const kept = reader.keep(`${folder}/stat`);
    const length = reader.readKept(kept);
    if (length <= 0 || !parseStat(reader.buffer, length, stat)) {
      reader.release(kept);
      return null;
    }
    if (stat.kernelThread || stat.zombie) {
      if (stat.kernelThread) this.kernelThreads.add(pid);
      reader.release(kept);
      return null;
    }
    const open = reader.buffer.indexOf(40);
    const comm = reader.buffer.toString("utf8", open + 1, reader.buffer.subarray(0, length).lastIndexOf(41));
    const { ppid, startTicks, commHash, cpuTicks, ioWaitTicks, rssPages, threads } = stat;
    const cmdline = reader.read(`${folder}/cmdline`);
    const argv =
      cmdline <= 0
        ? []
        : reader.buffer.toString("utf8", 0, Math.min(cmdline, MAX_CMDLINE)).replace(/\0+$/, "").split("\0");
    const cgroup = reader.text(`${folder}/cgroup`) ?? "";
    const exe = this.link(`${folder}/exe`);
    const script = argv.length > 1 && !argv.some((argument, i) => i > 0 && argument.startsWith("/"));
    const identity = identify({
      exe,
      argv,
      comm,
      cwd: script ? this.link(`${folder}/cwd`) : "",
      cgroup,
      node: this.options.node,
    });
    return {
      pid,
      ppid,
      startTicks,
      startedAtMs: this.options.bootMs + startTicks * TICK_MS,
      cgroup,
      looks: 4,
      nextLookMs: 0,
      netns: Number(/\[(\d+)\]/.exec(this.link(`${folder}/ns/net`))?.[1] ?? 0),
      identity,
      stat: kept,
      commHash,
      cpuTicks,
      ioWaitTicks,
      rssBytes: rssPages * PAGE_BYTES,
      threads,
      cpuMs: 0,
      waitMs: 0,
      ioWaitMs: 0,
      tasks: null,
      tasksReadAt: 0,
    };
  }

  private link(path: string): string {
    try {
      return readlinkSync(path);
    } catch (error) {
      const errno = errnoOf(error);
      // EACCES and EPERM are rights; the rest is a process that ended or a kernel thread.
      if (errno === 13 || errno === 1) {
        this.refused++;
        this.refusedErrno = errno;
      }
      return "";
    }
  }

  private remove(process: Process): void {
    this.processes.delete(process.pid);
    this.drop(process);
    this.changes.left.push(process);
  }

  private drop(process: Process): void {
    this.options.reader.release(process.stat);
    if (process.tasks !== null) for (const task of process.tasks.values()) this.options.reader.release(task.file);
    process.tasks = null;
  }
}

const FALLBACKS = new Set(["node", "python", "java", "ruby", "perl", "php", "dotnet", "unknown"]);
const isFallback = (identity: Identity): boolean => FALLBACKS.has(identity.name);
