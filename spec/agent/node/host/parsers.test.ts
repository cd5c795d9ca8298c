import { describe, expect, it } from "vitest";
import {
  cgroupFolder,
  parseBlkio,
  parseCgroupMounts,
  parseCpuMax,
  parseCpuStatV1,
  parseCpuStatV2,
  parseIoStat,
  parseMemoryLimit,
} from "../../../../agent/node/host/cgroups.ts";
import { parseCpuModes, parseDiskstats, parseMeminfo, parseNetDev } from "../../../../agent/node/host/nodeFigures.ts";
import { emptyStat, parseStat } from "../../../../agent/node/host/processStat.ts";
import { expandAddress, parseFibTrie, parseIfInet6, parseListening } from "../../../../agent/node/host/sockets.ts";

const figures = () => ({ usageMs: null, periods: 0, throttledPeriods: 0, throttledMs: 0 });
const emitted = (parse: (text: string, emit: (n: string, l: object, v: number) => void) => void, text: string) => {
  const all: [string, object, number][] = [];
  parse(text, (name, labels, value) => all.push([name, labels, value]));
  return all;
};

describe("cgroup files", () => {
  it("reads v2 cpu.stat and cpu.max", () => {
    const cpu = figures();
    parseCpuStatV2(
      "usage_usec 2500000\nuser_usec 1\nsystem_usec 2\nnr_periods 40\nnr_throttled 12\nthrottled_usec 900500\n",
      cpu,
    );
    expect(cpu).toEqual({ usageMs: 2500, periods: 40, throttledPeriods: 12, throttledMs: 900.5 });
    expect(parseCpuMax("20000 100000\n")).toBe(0.2);
    expect(parseCpuMax("max 100000\n")).toBe(0);
  });
  it("reads v1 cpu.stat, quotas and limits", () => {
    const cpu = figures();
    parseCpuStatV1("nr_periods 13\nnr_throttled 8\nthrottled_time 129000000\n", cpu);
    expect(cpu).toMatchObject({ periods: 13, throttledPeriods: 8, throttledMs: 129 });
    expect(parseCpuMax("-1 100000")).toBe(0);
    expect(parseMemoryLimit("9223372036854771712\n")).toBe(0);
    expect(parseMemoryLimit("max\n")).toBe(0);
    expect(parseMemoryLimit("67108864\n")).toBe(67108864);
  });
  it("adds up block I/O over devices", () => {
    expect(parseIoStat("8:0 rbytes=100 wbytes=20 rios=1 wios=1 dbytes=7\n8:16 rbytes=3 wbytes=0\n")).toBe(123);
    expect(parseBlkio("8:0 Read 10\n8:0 Write 5\n8:0 Sync 9\n8:0 Total 15\nTotal 15\n")).toBe(15);
  });
  it("finds the mounts of both versions and stays inside what they show", () => {
    const mounts = parseCgroupMounts(
      [
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755",
        "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
      ].join("\n"),
    );
    expect(cgroupFolder(mounts.controllers.get("cpuacct"), "/a.slice/b.service")).toBe(
      "/sys/fs/cgroup/cpu,cpuacct/a.slice/b.service",
    );
    expect(mounts.unified?.path).toBe("/sys/fs/cgroup/unified");
    expect(cgroupFolder({ root: "/docker/x", path: "/cg" }, "/docker/x/y")).toBe("/cg/y");
    expect(cgroupFolder({ root: "/docker/x", path: "/cg" }, "/other")).toBeNull();
    expect(cgroupFolder(mounts.unified, "/../out")).toBeNull();
  });
});

describe("/proc/PID/stat", () => {
  it("survives blanks and brackets in the command", () => {
    const line =
      "77 (tmux: a) (b c) S 1 77 77 0 -1 4194304 100 0 0 0 30 12 0 0 20 0 5 0 136523 3133440 380 1 0 0 0 0 0 0 0 0 0 0 0 0 17 1 0 0 9 0 0 0 0 0 0 0 0 0 0\n";
    const stat = emptyStat();
    expect(parseStat(Buffer.from(line), line.length, stat)).toBe(true);
    expect(stat).toMatchObject({
      ppid: 1,
      cpuTicks: 42,
      threads: 5,
      startTicks: 136523,
      rssPages: 380,
      ioWaitTicks: 9,
    });
    expect(stat.zombie).toBe(false);
  });
});

const row = (local: string, state: string, inode: number) =>
  `   0: ${local} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000     0        0 ${inode} 1 0000 100 0 0 10 0\n`;

describe("sockets", () => {
  it("reads listening rows of both families and stops at the first other one", () => {
    const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    expect(
      parseListening(
        head + row("0100007F:1F90", "0A", 11) + row("0100007F:9999", "01", 12) + row("00000000:0050", "0A", 13),
      ),
    ).toEqual([{ address: "127.0.0.1", port: 8080, inode: 11 }]);
    expect(parseListening(head + row("000080FE00000000FF005450B6AD1DFE:0035", "0A", 5))[0]?.address).toBe(
      "fe80::5054:ff:fe1d:adb6",
    );
    expect(parseListening(head + row("0000000000000000FFFF00000100007F:0051", "0A", 6))[0]?.address).toBe("127.0.0.1");
    expect(parseListening(head + row("00000000000000000000000000000000:0050", "0A", 7))[0]?.address).toBe("::");
  });
  it("expands wildcards to the namespace's own addresses", () => {
    const ipv4 = parseFibTrie(
      "Main:\n  +-- 0.0.0.0/0\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 192.0.2.2\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\nLocal:\n     |-- 192.0.2.2\n        /32 host LOCAL\n",
    );
    const ipv6 = parseIfInet6(
      "00000000000000000000000000000001 01 80 10 80       lo\nfe8000000000000000fc00fffe000001 04 40 20 80     eth0\n",
    );
    expect(expandAddress("0.0.0.0", ipv4, ipv6)).toEqual(["127.0.0.1", "192.0.2.2"]);
    expect(expandAddress("::", ipv4, ipv6)).toEqual(["127.0.0.1", "192.0.2.2", "::1"]);
    expect(expandAddress("10.1.1.1", ipv4, ipv6)).toEqual(["10.1.1.1"]);
  });
});

describe("node figures", () => {
  it("reads modes, memory in KiB, whole disks and real interfaces", () => {
    expect(emitted(parseCpuModes, "cpu  100 0 50 800 5 0 1 0 0 0\ncpu0 1 1\ncpu1 1 1\n")).toContainEqual([
      "node_resources_cpu_usage_seconds_total",
      { mode: "idle" },
      8,
    ]);
    expect(emitted(parseMeminfo, "MemTotal:  1000 kB\nMemAvailable: 500 kB\nCached: 5 kB\n")[0]).toEqual([
      "node_resources_memory_total_bytes",
      {},
      1_024_000,
    ]);
    const disks = emitted(
      parseDiskstats,
      " 7 0 loop0 1 0 2 0 1 0 0 0 0 0 0\n 254 0 vda 10 0 16 7 5 0 8 3 0 9 0\n 254 1 vda1 10 0 16 7 5 0 8 3 0 9 0\n",
    );
    expect(disks).toContainEqual(["node_resources_disk_written_bytes_total", { device: "vda" }, 4096]);
    expect(disks.every(([, labels]) => "device" in labels && labels.device === "vda")).toBe(true);
    const net = emitted(
      parseNetDev,
      "Inter-|\n face |\n    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  eth0: 100 2 0 0 0 0 0 0 50 1 0 0 0 0 0 0\n",
    );
    expect(net).toContainEqual(["node_net_transmitted_bytes_total", { interface: "eth0" }, 50]);
    expect(net).toHaveLength(4);
  });
});
