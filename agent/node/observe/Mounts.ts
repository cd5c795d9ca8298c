/**
 * Mounts that instances write to, and how full they are. The probe tells which process has a file open for writing on
 * which mount; that counts for as long as the instance lives. Every 15 s each file system is asked for its size, at most
 * ASKED_AT_A_TIME at once: one that hangs keeps a thread, and never the agent. Owned by the observer.
 */
import { statfs } from "node:fs/promises";
import type { MountDefinition } from "../../../schemas/wire/observe.ts";
import { isOnDisk, type MountInfo, parseMountinfo, volumeOf } from "../host/mountinfo.ts";
import type { Emit } from "../host/nodeFigures.ts";
import type { Reader } from "../host/Reader.ts";
import type { ProbeMount } from "../probe/ProbeTick.ts";

const EVERY_MS = 15_000;
const ASKED_AT_A_TIME = 2;
const PIECE_BYTES = 64 * 1024;

export interface Space {
  readonly sizeBytes: number;
  /** what nobody can write to any more */
  readonly usedBytes: number;
  /** what is left for programs without root's reserve */
  readonly availableBytes: number;
  /** share of the inodes that are taken, 0 where there is no such limit */
  readonly inodesUsed: number;
}

interface Mount {
  readonly instance: number;
  readonly path: string;
  readonly device: string;
  readonly volume: string;
  /** a process that sees it */
  tgid: number;
  space: Space | null;
  asking: boolean;
}

export interface MountsOptions {
  readonly reader: Pick<Reader, "head">;
  readonly proc: string;
  readonly ownerOf: (tgid: number) => { readonly id: number } | null;
  /** a process of an instance that still runs */
  readonly processOf: (instance: number) => number | null;
  /** name of a block device by its numbers */
  readonly nameOf: (device: string) => string;
  /** of the file system that is mounted there */
  readonly ask?: (path: string) => Promise<Space>;
}

export const spaceAt = async (path: string): Promise<Space> => {
  const { bsize, blocks, bfree, bavail, files, ffree } = await statfs(path);
  return {
    sizeBytes: blocks * bsize,
    usedBytes: (blocks - bfree) * bsize,
    availableBytes: bavail * bsize,
    inodesUsed: files === 0 ? 0 : (files - ffree) / files,
  };
};

export class Mounts {
  private readonly options: MountsOptions;
  private readonly mounts = new Map<string, Mount>();
  /** by process and mount what was found, null: nothing of interest; of the processes that the probe told last */
  private found = new Map<string, Mount | null>();
  private readonly waiting: Mount[] = [];
  private readonly answered: Mount[] = [];
  private asking = 0;
  private askedMs = Number.NEGATIVE_INFINITY;

  constructor(options: MountsOptions) {
    this.options = options;
  }

  absorb(told: readonly ProbeMount[]): void {
    const found = new Map<string, Mount | null>();
    const news = new Map<number, number[]>();
    for (const { tgid, mount } of told) {
      const key = `${tgid} ${mount}`;
      const known = this.found.get(key);
      if (known === undefined) news.set(tgid, [...(news.get(tgid) ?? []), mount]);
      else {
        found.set(key, known);
        if (known !== null) known.tgid = tgid;
      }
    }
    for (const [tgid, mounts] of news) {
      const owner = this.options.ownerOf(tgid);
      // asked about again at the next look: it may just be too young
      if (owner === null) continue;
      const infos = this.infosOf(tgid);
      for (const id of mounts) {
        const info = infos.get(id);
        found.set(`${tgid} ${id}`, info === undefined || !isOnDisk(info) ? null : this.of(owner.id, info, tgid));
      }
    }
    this.found = found;
  }

  /** Asks, when it is time, those of instances that live. */
  measure(nowMs: number): void {
    if (nowMs - this.askedMs < EVERY_MS) return;
    this.askedMs = nowMs;
    for (const mount of this.mounts.values()) {
      if (mount.asking) continue;
      mount.asking = true;
      this.waiting.push(mount);
    }
    this.askNext();
  }

  /** What file systems have answered since the last call. */
  flush(shown: (instance: number) => boolean): readonly MountDefinition[] {
    return this.answered
      .splice(0)
      .flatMap(({ instance, path, device, space }) =>
        space === null || !shown(instance) ? [] : [{ instance, path, device, ...space }],
      );
  }

  forget(alive: (instance: number) => boolean): void {
    for (const [key, mount] of this.mounts) if (!alive(mount.instance)) this.mounts.delete(key);
  }

  /** Under Coroot's names. */
  put(put: Emit, base: Readonly<Record<string, string>>, instance: number): void {
    for (const mount of this.mounts.values()) {
      if (mount.instance !== instance || mount.space === null) continue;
      const labels = { ...base, mount_point: mount.path, device: mount.device, volume: mount.volume };
      const { sizeBytes, usedBytes, availableBytes } = mount.space;
      put("container_resources_disk_size_bytes", labels, sizeBytes);
      put("container_resources_disk_used_bytes", labels, usedBytes);
      put("container_resources_disk_reserved_bytes", labels, Math.max(0, sizeBytes - usedBytes - availableBytes));
    }
  }

  private infosOf(tgid: number): ReadonlyMap<number, MountInfo> {
    const text = this.options.reader.head(`${this.options.proc}/${tgid}/mountinfo`, PIECE_BYTES, () => false);
    return new Map(parseMountinfo(text).map((info) => [info.id, info]));
  }

  private of(instance: number, info: MountInfo, tgid: number): Mount {
    const key = `${instance} ${info.mountPoint}`;
    let mount = this.mounts.get(key);
    if (mount === undefined) {
      const device = info.device.startsWith("0:") ? info.source : this.options.nameOf(info.device);
      const volume = volumeOf(info);
      mount = { instance, path: info.mountPoint, device, volume, tgid, space: null, asking: false };
      this.mounts.set(key, mount);
      // whoever has just been found is not to wait for the next round
      this.askedMs = Number.NEGATIVE_INFINITY;
    }
    mount.tgid = tgid;
    return mount;
  }

  private askNext(): void {
    while (this.asking < ASKED_AT_A_TIME) {
      const mount = this.waiting.shift();
      if (mount === undefined) return;
      this.asking++;
      void this.ask(mount);
    }
  }

  /** Never fails. */
  private async ask(mount: Mount): Promise<void> {
    const { proc, ownerOf, processOf, ask = spaceAt } = this.options;
    const tgid = ownerOf(mount.tgid)?.id === mount.instance ? mount.tgid : processOf(mount.instance);
    try {
      mount.space = await ask(`${proc}/${tgid ?? mount.tgid}/root${mount.path}`);
      this.answered.push(mount);
    } catch {
      // its processes have ended, or may not be looked into: what is not known is not told
      mount.space = null;
    }
    mount.asking = false;
    this.asking--;
    this.askNext();
  }
}
