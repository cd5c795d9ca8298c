/**
 * Owners of processes that lived between two looks: when the probe tells of an exec it tells the cgroup too, and a cgroup
 * that belongs to a known unit or container names the owner for sure (health checks and jobs inside them are such). Owned
 * by the observer. Bounded; what is in no known cgroup stays without an owner and is counted by the fold.
 */
import { statSync } from "node:fs";
import { cgroupFolder, type CgroupMounts } from "../host/cgroups.ts";
import type { Process } from "../host/ProcessTable.ts";
import type { ProbeEvent } from "../probe/ProbeTick.ts";
import type { Instance } from "./Instances.ts";

type Exec = Extract<ProbeEvent, { readonly kind: "exec" }>;

const KEEP_MS = 10_000;
const MAX_EXECS = 5_000;

export class Briefs {
  private readonly mounts: CgroupMounts;
  /** inode of a cgroup folder (memory's, or the unified one) to the instance that lives there */
  private readonly owners = new Map<number, Instance<Process>>();
  /** the same by the folder of the controller that disk requests are counted by */
  private readonly blockOwners = new Map<number, Instance<Process>>();
  private readonly seen = new Set<number>();
  private readonly execs = new Map<number, { readonly event: Exec; readonly atMs: number }>();

  constructor(mounts: CgroupMounts) {
    this.mounts = mounts;
  }

  /** An instance that may be new: its cgroup folders are looked up once. */
  known(instance: Instance<Process>): void {
    if (this.seen.has(instance.id)) return;
    this.seen.add(instance.id);
    const { memory, unified } = instance.identity.folders;
    for (const folder of [
      cgroupFolder(this.mounts.controllers.get("memory"), memory),
      cgroupFolder(this.mounts.unified, unified),
    ]) {
      if (folder === null) continue;
      const inode = statSync(folder, { throwIfNoEntry: false })?.ino;
      if (inode !== undefined) this.owners.set(inode, instance);
    }
    // numbers of folders are each hierarchy's own
    const { blkio } = instance.identity.folders;
    const blocks = this.mounts.controllers.get("blkio");
    const folder = blocks === undefined ? cgroupFolder(this.mounts.unified, unified) : cgroupFolder(blocks, blkio);
    const inode = folder === null ? undefined : statSync(folder, { throwIfNoEntry: false })?.ino;
    if (inode !== undefined) this.blockOwners.set(inode, instance);
  }

  executed(event: Exec, nowMs: number): void {
    // Again at the end, so that the oldest is always the first.
    this.execs.delete(event.pid);
    this.execs.set(event.pid, { event, atMs: nowMs });
    if (this.execs.size > MAX_EXECS) for (const pid of this.execs.keys()) return void this.execs.delete(pid);
  }

  ownerOf(pid: number): Instance<Process> | null {
    const exec = this.execs.get(pid)?.event;
    if (exec === undefined) return null;
    return this.owners.get(exec.memoryCgroupId) ?? this.owners.get(exec.cgroupId) ?? null;
  }

  /** Whose disk requests a cgroup's are. */
  ownerOfBlocks(cgroup: number): Instance<Process> | null {
    return this.blockOwners.get(cgroup) ?? null;
  }

  forget(nowMs: number, alive: (id: number) => boolean): void {
    for (const [pid, { atMs }] of this.execs) {
      if (nowMs - atMs < KEEP_MS) break;
      this.execs.delete(pid);
    }
    for (const [inode, instance] of this.owners) if (!alive(instance.id)) this.owners.delete(inode);
    for (const [inode, instance] of this.blockOwners) if (!alive(instance.id)) this.blockOwners.delete(inode);
    for (const id of this.seen) if (!alive(id)) this.seen.delete(id);
  }
}
