/** Requests of a loop device with known numbers, and calls of fsync on a file system that lives on it. */
import { execFile, execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import { parseCgroupMounts } from "../../agent/node/host/cgroups.ts";
import type { Emit } from "../../agent/node/host/nodeFigures.ts";
import { putObserved } from "../../agent/node/metrics/Samples.ts";
import { Observer } from "../../agent/node/observe/Observer.ts";
import { Dictionary } from "../../agent/node/observe/Window.ts";
import type { DecodedObserve } from "../../schemas/wire/checkObserve.ts";
import { checkObserve, decodeFrame } from "../../schemas/wire/codec.ts";
import type { MountDefinition } from "../../schemas/wire/observe.ts";
import { describeWith } from "../capabilities.ts";
import { buildProbe, ProbeBed, probePath, type TimedSum } from "./ProbeBed.ts";

const run = promisify(execFile);
const N = 10_000;
const BYTES = 4_096;

const nothing = (): Omit<TimedSum, "histogram"> => ({ count: 0, errors: 0, bytes: 0, sumUs: 0 });

describeWith(["bpf", "loop", "cgroup", "python"], "disks", () => {
  let bed: ProbeBed;
  let folder = "";
  let loop = "";
  let device = 0;
  const cgroups: string[] = [];

  beforeAll(async () => {
    buildProbe();
    folder = mkdtempSync(join(tmpdir(), "coroot-disk-"));
    execFileSync("truncate", ["-s", "64M", `${folder}/image`]);
    loop = execFileSync("losetup", ["--find", "--show", `${folder}/image`], { encoding: "utf8" }).trim();
    const { rdev } = statSync(loop);
    // a device's number as the kernel has it: 20 bits for the minor
    device = ((rdev >> 8) & 0xfff) * 2 ** 20 + (rdev & 0xff);
    bed = await ProbeBed.start(probePath, "--look", "1");
  }, 30_000);
  afterAll(async () => {
    await bed.stop();
    execFileSync("losetup", ["--detach", loop]);
    rmSync(folder, { recursive: true });
    for (const path of cgroups.toReversed()) if (existsSync(path)) rmdirSync(path);
  });

  const timed = (what: string, owner?: number): Omit<TimedSum, "histogram"> & { readonly inBuckets: number } => {
    const out = { ...nothing(), inBuckets: 0 };
    for (const [key, sum] of bed.timed) {
      if (!key.startsWith(`${device} ${what} `) || (owner !== undefined && key !== `${device} ${what} ${owner}`))
        continue;
      out.count += sum.count;
      out.errors += sum.errors;
      out.bytes += sum.bytes;
      out.sumUs += sum.sumUs;
      out.inBuckets += sum.histogram.reduce((total, n) => total + n, 0);
    }
    return out;
  };
  const dd = (n: number, direction: "in" | "out"): readonly string[] =>
    direction === "in"
      ? ["dd", `if=${loop}`, "of=/dev/null", `bs=${BYTES}`, `count=${n}`, "iflag=direct", "status=none"]
      : ["dd", "if=/dev/zero", `of=${loop}`, `bs=${BYTES}`, `count=${n}`, "oflag=direct", "status=none"];

  it("have each request counted and timed, with its bytes", async () => {
    const before = performance.now();
    for (const direction of ["out", "in"] as const) {
      const [program = "", ...args] = dd(N / 2, direction);
      await run(program, args);
    }
    const wallUs = (performance.now() - before) * 1000;
    await bed.settled();
    for (const what of ["read", "write"]) {
      const sum = timed(what);
      // all but those that the kernel itself has left out
      expect(sum.count, what).toBeLessThanOrEqual(N / 2);
      expect(sum.count + bed.self("runsMissed"), what).toBeGreaterThanOrEqual(N / 2);
      expect(sum, what).toMatchObject({ errors: 0, bytes: sum.count * BYTES, inBuckets: sum.count });
      expect(sum.sumUs).toBeGreaterThan(0);
      expect(sum.sumUs).toBeLessThan(wallUs);
    }
  }, 20_000);

  it("have calls of fsync timed by process, on ext4", async () => {
    const calls = N / 10;
    const { stdout } = await run("unshare", [
      "--mount",
      "sh",
      "-c",
      `mkfs.ext4 -q -F ${loop} && mkdir -p ${folder}/at && mount ${loop} ${folder}/at && exec python3 -c '
import os, time
f = os.open("${folder}/at/file", os.O_CREAT | os.O_WRONLY)
began = time.monotonic()
for i in range(${calls}):
    os.pwrite(f, b"x" * 100, 0)
    os.fsync(f) if i % 2 else os.fdatasync(f)
print(os.getpid(), time.monotonic() - began)'`,
    ]);
    const [pid, seconds] = stdout.trim().split(" ").map(Number);
    await bed.settled();
    const sum = timed("fsync", pid);
    expect(sum).toMatchObject({ count: calls, errors: 0, inBuckets: calls });
    expect(sum.sumUs).toBeGreaterThan(0);
    expect(sum.sumUs).toBeLessThan((seconds ?? 0) * 1e6);
  }, 20_000);

  /** A systemd unit by its cgroup, and what an agent's observer tells the server of it as long as it is open. */
  const openUnit = (name: string) => {
    const mounts = parseCgroupMounts(readFileSync("/proc/self/mountinfo", "utf8"));
    const observer = new Observer({ node: "spec", bootMs: Date.now() - performance.now(), mounts });
    const unit = `coroot-spec-${name}-${process.pid}`;
    const make = (path: string): string => {
      mkdirSync(path);
      cgroups.push(path);
      return path;
    };
    const controllers = ["cpu", "blkio"].flatMap((one) => mounts.controllers.get(one)?.path ?? []);
    const roots = controllers.length > 0 ? controllers : [mounts.unified?.path ?? ""];
    const joins = roots.map(
      (root) => `echo $$ > ${make(`${make(`${root}/${unit}.slice`)}/${unit}.service`)}/cgroup.procs`,
    );
    const dictionary = new Dictionary(observer.catalog);
    const began = performance.now();
    const bodies: DecodedObserve[] = [];
    bed.tap = (tick) => {
      const clocks = { monoMs: performance.now() - began, wallMs: Date.now() };
      observer.absorb(tick, clocks);
      bodies.push(checkObserve(decodeFrame(dictionary.encode(observer.observe(bodies.length, clocks))).body));
    };
    return {
      bodies,
      id: () => bodies.flatMap(({ instances }) => instances).find((one) => one.name === unit)?.id ?? -1,
      /** as a shell's script; what it waits for comes on its standard input */
      start: (script: string) => run("unshare", ["--mount", "sh", "-c", `${joins.join("; ")}; ${script}`]),
      /** by name and labels, of one device */
      metrics: (of: string): ReadonlyMap<string, number> => {
        const told = new Map<string, number>();
        const put: Emit = (metric, labels, value) => {
          const { app_id, device: at, le, operation, mount_point } = labels;
          if (app_id?.includes(unit) === true && at === of)
            told.set(`${metric} ${le ?? operation ?? mount_point ?? ""}`.trim(), value);
        };
        putObserved(put, observer, { cluster: "default", machineId: "m" });
        return told;
      },
      close: () => {
        bed.tap = null;
        observer.close();
      },
    };
  };
  const nameOfLoop = (): string => loop.slice("/dev/".length);

  it("count for the unit that a request was done for, in its metrics and in what the server is told", async () => {
    const unit = openUnit("io");
    const own = (): { ios: number; ioUs: number } => {
      const sum = { ios: 0, ioUs: 0 };
      for (const { usage } of unit.bodies)
        for (let i = 0; i < usage.rows; i++)
          if (usage.instance[i] === unit.id()) {
            sum.ios += usage.ios[i] ?? 0;
            sum.ioUs += usage.ioUs[i] ?? 0;
          }
      return sum;
    };
    const inside = unit.start(`read line; ${dd(1_000, "in").join(" ")}; read line || true`);
    try {
      await bed.until("the unit", () => unit.id() >= 0);
      inside.child.stdin?.write("go\n");
      await bed.until("its requests", () => own().ios >= 1_000);
      expect(own().ios).toBe(1_000);
      expect(own().ioUs).toBeGreaterThan(0);
      const told = unit.metrics(nameOfLoop());
      expect(told.get("container_resources_disk_reads_total")).toBe(1_000);
      expect(told.get("container_resources_disk_read_bytes_total")).toBe(1_000 * BYTES);
      expect(told.get("container_resources_disk_request_duration_seconds_total_bucket +Inf")).toBe(1_000);
    } finally {
      inside.child.stdin?.end();
      await inside;
      unit.close();
    }
  }, 20_000);

  it("tell how full they are where a unit has a file open for writing, also in a mount namespace of its own", async () => {
    const unit = openUnit("space");
    const at = `${folder}/space`;
    mkdirSync(at);
    const full = (): MountDefinition | undefined =>
      unit.bodies.flatMap(({ mounts }) => mounts).findLast(({ instance }) => instance === unit.id());
    const inside = unit.start(
      `mkfs.ext4 -q -F ${loop} && mount ${loop} ${at} && exec 3>${at}/data && exec 4<${at}/lost+found; ` +
        `read line; head -c 40M /dev/zero >&3; read line || true`,
    );
    try {
      await bed.until("its disk", () => full() !== undefined, 20_000);
      expect(full()).toMatchObject({ path: at, device: nameOfLoop() });
      const { sizeBytes = 0, usedBytes: before = 0 } = full() ?? {};
      expect(sizeBytes).toBeGreaterThan(40 * 2 ** 20);
      inside.child.stdin?.write("go\n");
      await bed.until("that it fills", () => (full()?.usedBytes ?? 0) >= before + 40 * 2 ** 20, 30_000);
      const { usedBytes = 0, availableBytes = 0 } = full() ?? {};
      expect(usedBytes / (usedBytes + availableBytes)).toBeGreaterThan(0.7);
      expect(unit.metrics(nameOfLoop()).get(`container_resources_disk_used_bytes ${at}`)).toBe(usedBytes);
      expect(unit.metrics(nameOfLoop()).get(`container_resources_disk_size_bytes ${at}`)).toBe(sizeBytes);
    } finally {
      inside.child.stdin?.end();
      await inside;
      unit.close();
    }
  }, 60_000);
});
