import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { Briefs } from "../../../../agent/node/observe/Briefs.ts";
import { Instances } from "../../../../agent/node/observe/Instances.ts";
import type { Process } from "../../../../agent/node/host/ProcessTable.ts";
import { member } from "./members.ts";

it("names the owner of a process that was never looked at by the cgroup of its exec, and only if that is known", () => {
  const root = mkdtempSync(join(tmpdir(), "coroot-briefs-"));
  const briefs = new Briefs({ unified: { root: "/", path: root }, controllers: new Map() });
  const instances = new Instances<Process>();
  const folders = { unified: "/", cpu: null, cpuacct: null, memory: null, blkio: null };
  const process: Process = {
    ...member(10, { instance: "cart.service", name: "cart", folders }),
    stat: { path: "", fd: -1 },
    commHash: 0,
    cgroup: "",
    looks: 0,
    nextLookMs: 0,
    cpuTicks: 0,
    ioWaitTicks: 0,
    rssBytes: 0,
    threads: 1,
    cpuMs: 0,
    waitMs: 0,
    ioWaitMs: 0,
    tasks: null,
    tasksReadAt: 0,
  };
  const cart = instances.join(process, 0);
  briefs.known(cart);
  const exec = (pid: number, cgroupId: number) =>
    ({
      kind: "exec",
      pid,
      ppid: 1,
      comm: "curl",
      filename: "/bin/curl",
      monoMs: 0,
      cgroupId,
      memoryCgroupId: 1,
    }) as const;
  briefs.executed(exec(77, statSync(root).ino), 0);
  briefs.executed(exec(78, 1), 0);
  expect([briefs.ownerOf(77), briefs.ownerOf(78), briefs.ownerOf(79)]).toEqual([cart, null, null]);
  briefs.forget(20_000, () => true);
  expect(briefs.ownerOf(77)).toBeNull();
  rmSync(root, { recursive: true });
});
