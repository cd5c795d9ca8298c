/**
 * Requests of disks and fsync, as the kernel times them: per device for the node, and per instance by the cgroup that a
 * request was done for (fsync: by process). Owned by the observer; totals since the agent's start, for metrics. What
 * belongs to no known instance is in the device's figures only.
 */
import { readlinkSync } from "node:fs";
import { basename } from "node:path";
import type { Emit } from "../host/nodeFigures.ts";
import { FSYNC, type ProbeTick, TIMED } from "../probe/ProbeTick.ts";
import { bucketsInto } from "./WireEdge.ts";

/** Seconds; finer below 5 ms than those of requests, since that is where disks are. */
const LE = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;
const LE_OF = bucketsInto(LE);
const READ = TIMED.indexOf("read");
const WRITE = TIMED.indexOf("write");
const KINDS = 8;
const MINOR_BITS = 20;

/** One device and kind of request. */
export class TimedCell {
  readonly device: number;
  readonly what: number;
  count = 0;
  errors = 0;
  bytes = 0;
  sumUs = 0;
  readonly le = new Float64Array(LE.length + 1);
  constructor(device: number, what: number) {
    this.device = device;
    this.what = what;
  }
}
type Cells = Map<number, TimedCell>;

export interface DiskOwners {
  /** the instance that a cgroup, or for fsync a process, belongs to; null: none that is known */
  readonly ofCgroup: (id: number) => { readonly id: number } | null;
  readonly ofProcess: (tgid: number) => { readonly id: number } | null;
  /** what an instance did in this tick: reads and writes, or fsyncs */
  readonly used: (instance: number, sync: boolean, count: number, us: number) => void;
  /** name of a device by its numbers */
  readonly nameOf?: (device: string) => string;
}

/** Of a block device, by its numbers. */
export const nameByLink = (device: string): string => {
  try {
    return basename(readlinkSync(`/sys/dev/block/${device}`));
  } catch {
    // it is gone, or /sys is not ours to see: its numbers name it as well
    return device;
  }
};

export class Disks {
  readonly devices: Cells = new Map();
  readonly instances = new Map<number, Cells>();
  private readonly owners: DiskOwners;
  private readonly names = new Map<number, string>();

  constructor(owners: DiskOwners) {
    this.owners = owners;
  }

  absorb({ io, ioHist }: Pick<ProbeTick, "io" | "ioHist">): void {
    const cellsOfRow: (readonly TimedCell[])[] = [];
    for (let i = 0; i < io.rows; i++) {
      const what = io.what[i] ?? 0;
      const device = io.device[i] ?? 0;
      const owner = io.owner[i] ?? 0;
      const count = io.count[i] ?? 0;
      const cells = [cellIn(this.devices, device, what)];
      const instance = owner === 0 ? null : what === FSYNC ? this.owners.ofProcess(owner) : this.owners.ofCgroup(owner);
      if (instance !== null) {
        let own = this.instances.get(instance.id);
        if (own === undefined) this.instances.set(instance.id, (own = new Map()));
        cells.push(cellIn(own, device, what));
        if (what === FSYNC || what === READ || what === WRITE)
          this.owners.used(instance.id, what === FSYNC, count, io.sumUs[i] ?? 0);
      }
      for (const cell of cells) {
        cell.count += count;
        cell.errors += io.errors[i] ?? 0;
        cell.bytes += io.bytes[i] ?? 0;
        cell.sumUs += io.sumUs[i] ?? 0;
      }
      cellsOfRow.push(cells);
    }
    for (let i = 0; i < ioHist.rows; i++)
      for (const cell of cellsOfRow[ioHist.row[i] ?? 0] ?? []) {
        const le = LE_OF[ioHist.bucket[i] ?? 0] ?? LE.length;
        cell.le[le] = (cell.le[le] ?? 0) + (ioHist.count[i] ?? 0);
      }
  }

  forget(alive: (instance: number) => boolean): void {
    for (const id of this.instances.keys()) if (!alive(id)) this.instances.delete(id);
  }

  /** Latencies by device and operation, of the whole node. */
  putNode(put: Emit): void {
    for (const cell of this.devices.values()) {
      const labels = { device: this.nameOf(cell.device), operation: TIMED[cell.what] ?? "" };
      putHistogram(put, "node_resources_disk_request_duration_seconds_total", labels, cell);
      if (cell.errors > 0) put("node_resources_disk_request_errors_total", labels, cell.errors);
    }
  }

  /** Reads and writes under Coroot's names, and latencies, of one instance. */
  put(put: Emit, base: Readonly<Record<string, string>>, instance: number): void {
    for (const cell of this.instances.get(instance)?.values() ?? []) {
      const labels = { ...base, device: this.nameOf(cell.device) };
      if (cell.what === READ) {
        put("container_resources_disk_reads_total", labels, cell.count);
        put("container_resources_disk_read_bytes_total", labels, cell.bytes);
      } else if (cell.what === WRITE) {
        put("container_resources_disk_writes_total", labels, cell.count);
        put("container_resources_disk_written_bytes_total", labels, cell.bytes);
      }
      const operation = TIMED[cell.what] ?? "";
      putHistogram(put, "container_resources_disk_request_duration_seconds_total", { ...labels, operation }, cell);
    }
  }

  private nameOf(device: number): string {
    let name = this.names.get(device);
    if (name === undefined) {
      name = (this.owners.nameOf ?? nameByLink)(`${device >>> MINOR_BITS}:${device & ((1 << MINOR_BITS) - 1)}`);
      this.names.set(device, name);
    }
    return name;
  }
}

const cellIn = (cells: Cells, device: number, what: number): TimedCell => {
  const key = device * KINDS + what;
  let cell = cells.get(key);
  if (cell === undefined) cells.set(key, (cell = new TimedCell(device, what)));
  return cell;
};

const putHistogram = (put: Emit, name: string, labels: Readonly<Record<string, string>>, cell: TimedCell): void => {
  let sum = 0;
  for (const [i, le] of LE.entries()) {
    sum += cell.le[i] ?? 0;
    put(`${name}_bucket`, { ...labels, le: String(le) }, sum);
  }
  put(`${name}_bucket`, { ...labels, le: "+Inf" }, cell.count);
  put(`${name}_sum`, labels, cell.sumUs / 1e6);
  put(`${name}_count`, labels, cell.count);
};
