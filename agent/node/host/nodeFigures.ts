/**
 * Figures of the machine for the store lane: CPU by mode, memory, whole disks, network interfaces, uptime, under Coroot's
 * metric names. Parsers are pure; `readNode` is called every 15 s by the sampler. A file that cannot be read leaves its
 * figures out, and nothing here runs on.
 */
import type { Reader } from "./Reader.ts";

export type Emit = (name: string, labels: Readonly<Record<string, string>>, value: number) => void;

const MODES = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"] as const;
const USER_HZ = 100;
const SECTOR = 512;
const WHOLE_DISK = /^(dm-\d+|(?:s|h|xv|v)d[a-z]+|md\d+|mmcblk\d+|nvme\d+n\d+|rbd\d+)$/;
const INTERFACE = /^(en|eth|em|bond|br|vmbr|p\d+p|wl)/;

export const parseCpuModes = (text: string, emit: Emit): void => {
  let cores = 0;
  for (const line of text.split("\n")) {
    if (line.startsWith("cpu ")) {
      const fields = line.trim().split(/\s+/).slice(1);
      for (const [i, mode] of MODES.entries())
        emit("node_resources_cpu_usage_seconds_total", { mode }, Number(fields[i] ?? 0) / USER_HZ);
    } else if (line.startsWith("cpu")) cores++;
  }
  emit("node_resources_cpu_logical_cores", {}, cores);
};

export const parseMeminfo = (text: string, emit: Emit): void => {
  const kib = (key: string): number => Number(new RegExp(`^${key}:\\s+(\\d+)`, "m").exec(text)?.[1] ?? 0) * 1024;
  emit("node_resources_memory_total_bytes", {}, kib("MemTotal"));
  emit("node_resources_memory_free_bytes", {}, kib("MemFree"));
  emit("node_resources_memory_available_bytes", {}, kib("MemAvailable"));
  emit("node_resources_memory_cached_bytes", {}, kib("Cached"));
};

export const parseDiskstats = (text: string, emit: Emit): void => {
  for (const line of text.split("\n")) {
    const fields = line.trim().split(/\s+/);
    const device = fields[2] ?? "";
    if (!WHOLE_DISK.test(device)) continue;
    const field = (i: number): number => Number(fields[i] ?? 0);
    if (field(3) === 0 && field(7) === 0) continue;
    const labels = { device };
    emit("node_resources_disk_reads_total", labels, field(3));
    emit("node_resources_disk_read_bytes_total", labels, field(5) * SECTOR);
    emit("node_resources_disk_read_time_seconds_total", labels, field(6) / 1000);
    emit("node_resources_disk_writes_total", labels, field(7));
    emit("node_resources_disk_written_bytes_total", labels, field(9) * SECTOR);
    emit("node_resources_disk_write_time_seconds_total", labels, field(10) / 1000);
    emit("node_resources_disk_io_time_seconds_total", labels, field(12) / 1000);
  }
};

export const parseNetDev = (text: string, emit: Emit): void => {
  for (const line of text.split("\n")) {
    const match = /^\s*([^:\s]+):\s*(.*)$/.exec(line);
    if (match?.[1] === undefined || match[2] === undefined || !INTERFACE.test(match[1])) continue;
    const fields = match[2].trim().split(/\s+/).map(Number);
    const labels = { interface: match[1] };
    emit("node_net_received_bytes_total", labels, fields[0] ?? 0);
    emit("node_net_received_packets_total", labels, fields[1] ?? 0);
    emit("node_net_transmitted_bytes_total", labels, fields[8] ?? 0);
    emit("node_net_transmitted_packets_total", labels, fields[9] ?? 0);
  }
};

export const readNode = (reader: Reader, proc: string, emit: Emit): void => {
  const each = (file: string, parse: (text: string, emit: Emit) => void): void => {
    const text = reader.text(`${proc}/${file}`);
    if (text !== null) parse(text, emit);
  };
  each("stat", parseCpuModes);
  each("meminfo", parseMeminfo);
  each("diskstats", parseDiskstats);
  each("1/net/dev", parseNetDev);
  each("uptime", (text, put) => put("node_uptime_seconds", {}, Number(text.split(" ")[0] ?? 0)));
};
