import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { Cgroups, findHierarchies } from "../../../deploy/demo/cgroups.ts";

const v1 = `proc /proc proc rw 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0`;

describe("finding the machine's cgroups", () => {
  it("takes version 2 where it has the controllers", () => {
    const found = findHierarchies("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0", () => ["cpu", "io", "memory", "pids"]);
    expect(found?.version).toBe(2);
    expect(found?.mounts.map((mount) => mount.path)).toEqual(["/sys/fs/cgroup"]);
  });

  it("takes version 1's hierarchies and the empty version 2 beside them", () => {
    const found = findHierarchies(v1, () => []);
    expect(found?.version).toBe(1);
    expect(found?.mounts.map((mount) => mount.path)).toEqual([
      "/sys/fs/cgroup/cpu,cpuacct",
      "/sys/fs/cgroup/memory",
      "/sys/fs/cgroup/unified",
    ]);
  });

  it("finds none where memory or cpu cannot be limited", () => {
    expect(findHierarchies("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0", () => ["pids"])).toBeNull();
    expect(findHierarchies(v1.replace("memory cgroup", "memory tmpfs"), () => [])).toBeNull();
  });
});

describe("version 2's files", () => {
  const folder = mkdtempSync(join(tmpdir(), "coroot-cgroup2-"));
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it("delegates the controllers that are missing and writes limits in its words", async () => {
    const slice = join(folder, "coroot-demo.slice");
    mkdirSync(slice);
    for (const path of [folder, slice]) writeFileSync(join(path, "cgroup.subtree_control"), "cpu pids\n");
    const controllers = new Set(["cpu", "memory", "pids"]);
    const cgroups = new Cgroups({ version: 2, mounts: [{ path: folder, controllers }] });
    await cgroups.create("cart", { cpuCores: 0.08, memoryBytes: 1_048_576 });
    const read = (file: string): string => readFileSync(join(slice, file), "utf8");
    expect(read("cgroup.subtree_control")).toBe("+memory");
    expect(read("cart.service/cpu.max")).toBe("8000 100000");
    expect(read("cart.service/memory.max")).toBe("1048576");
    await cgroups.setCpu("cart", null);
    expect(read("cart.service/cpu.max")).toBe("max 100000");
    expect(cgroups.entrances("cart")).toEqual([join(slice, "cart.service/cgroup.procs")]);
  });
});
