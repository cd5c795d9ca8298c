/** Processes: their starts, ends and kills for memory. And the probe's own process: refusal, help, its end. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Effect, Ref } from "effect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeProbe } from "../../agent/node/probe/Probe.ts";
import type { ProbeTick } from "../../agent/node/probe/frames.ts";
import type { Capability } from "../../schemas/wire/link.ts";
import { describeWith, itWith } from "../capabilities.ts";
import { buildProbe, ProbeBed, probePath } from "./ProbeBed.ts";

/** A cgroup with a memory limit, of version 1 or 2, whichever this machine has. */
const smallCgroup = (bytes: number): { readonly path: string; readonly id: number; readonly remove: () => void } => {
  const one = "/sys/fs/cgroup/memory";
  const path = join(existsSync(one) ? one : "/sys/fs/cgroup", `coroot-oom-${process.pid}`);
  mkdirSync(path);
  writeFileSync(join(path, existsSync(one) ? "memory.limit_in_bytes" : "memory.max"), String(bytes));
  return { path, id: statSync(path).ino, remove: () => rmdirSync(path) };
};

describeWith(["bpf"], "processes", () => {
  let bed: ProbeBed;
  beforeAll(async () => {
    buildProbe();
    bed = await ProbeBed.start();
  });
  afterAll(() => bed.stop());

  it("reports start, exit code and signal", async () => {
    const three = spawn("/bin/sh", ["-c", "exit 3"]);
    const killed = spawn("/bin/sleep", ["60"]);
    await new Promise((resolve) => killed.once("spawn", resolve));
    killed.kill("SIGTERM");
    await bed.until("both ends", () =>
      [three.pid, killed.pid].every((pid) => bed.events.some((event) => event.kind === "exit" && event.pid === pid)),
    );
    const of = (pid: number | undefined): readonly unknown[] => bed.events.filter((event) => event.pid === pid);
    expect(of(three.pid)).toEqual([
      expect.objectContaining({ kind: "exec", ppid: process.pid, filename: "/bin/sh" }),
      expect.objectContaining({ kind: "exit", code: 3, signal: null }),
    ]);
    expect(of(killed.pid)).toEqual([
      expect.objectContaining({ kind: "exec", comm: "sleep", filename: "/bin/sleep" }),
      expect.objectContaining({ kind: "exit", code: null, signal: 15 }),
    ]);
  });

  it("reports one end for a process of many threads", async () => {
    const child = spawn(process.execPath, ["-e", "0"]);
    await bed.until("its end", () => bed.events.some((event) => event.kind === "exit" && event.pid === child.pid));
    await bed.settled();
    expect(bed.events.filter((event) => event.kind === "exit" && event.pid === child.pid)).toHaveLength(1);
  });

  itWith(["cgroup", "python"], "reports a kill for memory, with the cgroup of the process", async () => {
    const group = smallCgroup(32 * 1024 * 1024);
    const child = spawn("/bin/sh", [
      "-c",
      `echo $$ > ${group.path}/cgroup.procs; exec python3 -c 'x = [b"x" * 1048576 for i in range(200)]'`,
    ]);
    await bed.until("the kill", () => bed.events.some((event) => event.kind === "oom" && event.pid === child.pid));
    await bed.until("its end", () => bed.events.some((event) => event.kind === "exit" && event.pid === child.pid));
    const [oom] = bed.events.filter((event) => event.kind === "oom" && event.pid === child.pid);
    expect(oom?.kind === "oom" && oom.rssBytes).toBeGreaterThan(16 * 1024 * 1024);
    expect(oom?.kind === "oom" && oom.rssBytes).toBeLessThan(48 * 1024 * 1024);
    expect(oom?.kind === "oom" && oom.anonBytes).toBeGreaterThan(16 * 1024 * 1024);
    expect(oom?.kind === "oom" && oom.shmemBytes).toBe(0);
    const exec = bed.events.findLast((event) => event.kind === "exec" && event.pid === child.pid);
    expect(exec).toMatchObject({ memoryCgroupId: group.id });
    expect(bed.events.find((event) => event.kind === "exit" && event.pid === child.pid)).toMatchObject({ signal: 9 });
    group.remove();
  });

  it("keeps its memory small", async () => {
    await bed.settled();
    expect(bed.self("rssBytes")).toBeLessThan(8e6);
    expect(bed.self("kernelBytes")).toBeGreaterThan(0);
    expect(bed.self("kernelBytes")).toBeLessThan(16e6);
    expect(bed.self("readErrors")).toBe(0);
  });
});

describeWith(["toolchain"], "the probe's process", () => {
  beforeAll(buildProbe);

  it("explains itself", () => {
    expect(execFileSync(probePath, ["--help"], { encoding: "utf8" })).toMatch(/Needs Linux 5\.17/);
    expect(spawnSync(probePath, ["--what"], { encoding: "utf8" }).status).toBe(2);
  });

  itWith(["root"], "says without rights why it can observe nothing, and ends", async () => {
    const folder = mkdtempSync(join(tmpdir(), "coroot-probe-"));
    chmodSync(folder, 0o755);
    copyFileSync(probePath, join(folder, "probe"));
    const wrapper = join(folder, "as-nobody");
    writeFileSync(wrapper, `#!/bin/sh\nexec setpriv --reuid=65534 --clear-groups ${folder}/probe\n`, { mode: 0o755 });
    const bed = await ProbeBed.start(wrapper);
    await bed.until("its end", () => bed.exitCode !== null);
    expect([bed.ended, bed.exitCode]).toEqual([true, 0]);
    expect(bed.capabilities.length).toBeGreaterThan(5);
    for (const one of bed.capabilities) {
      expect(one.state).toBe("off");
      expect(one.errno).toBeGreaterThan(0);
      expect(one.reason).toMatch(/permitted/);
    }
    const told: (readonly Capability[])[] = [];
    const status = await Effect.runPromise(
      Effect.scoped(
        Effect.gen(function* () {
          const probe = yield* makeProbe({
            path: wrapper,
            onTick: () => Effect.void,
            onCapabilities: (list) => Effect.sync(() => void told.push(list)),
          });
          yield* Effect.repeat(Effect.sleep("20 millis"), {
            until: () => Effect.map(probe.status, (now) => now.state === "refused"),
          });
          return yield* probe.status;
        }),
      ),
    );
    expect(status).toMatchObject({ state: "refused", restarts: 0 });
    expect(told.at(-1)?.[0]).toMatchObject({ feature: "probe", state: "off" });
    rmSync(folder, { recursive: true });
  });
});

describeWith(["bpf"], "a kernel without one hook", () => {
  it("costs that feature and no other", async () => {
    const folder = mkdtempSync(join(tmpdir(), "coroot-probe-"));
    // the same sources, asking for a tracepoint that no kernel has
    cpSync(join(dirname(fileURLToPath(import.meta.url)), "../../bpf"), folder, { recursive: true });
    const hooks = join(folder, "process.bpf.c");
    writeFileSync(hooks, readFileSync(hooks, "utf8").replace("tp_btf/mark_victim", "tp_btf/no_such_hook"));
    execFileSync(process.execPath, [join(folder, "build.mjs"), "--out", join(folder, "built")]);
    const bed = await ProbeBed.start(join(folder, "built"));
    const off = bed.capabilities.filter((one) => one.state !== "on");
    expect(off).toEqual([expect.objectContaining({ feature: "process.oom", state: "off", errno: 3 })]);
    const child = spawn("/bin/true");
    await bed.until("its end", () => bed.events.some((event) => event.kind === "exit" && event.pid === child.pid));
    await bed.stop();
    rmSync(folder, { recursive: true });
  });
});

describeWith(["bpf"], "a kernel without BTF", () => {
  it("is reported as such", async () => {
    const folder = mkdtempSync(join(tmpdir(), "coroot-probe-"));
    const wrapper = join(folder, "without-btf");
    const hide = `mount -t tmpfs none /sys/kernel/btf && exec ${probePath}`;
    writeFileSync(wrapper, `#!/bin/sh\nexec unshare --mount sh -c '${hide}'\n`, { mode: 0o755 });
    const bed = await ProbeBed.start(wrapper);
    await bed.until("its end", () => bed.exitCode !== null);
    expect([bed.ended, bed.exitCode]).toEqual([true, 0]);
    for (const one of bed.capabilities) expect(one).toMatchObject({ state: "off", errno: 2 });
    expect(bed.capabilities[0]?.reason).toMatch(/BTF/);
    rmSync(folder, { recursive: true });
  });
});

describe("supervision of the probe", () => {
  it("reports a missing executable by its path and tries again", async () => {
    const told: (readonly Capability[])[] = [];
    await Effect.runPromise(
      Effect.scoped(
        Effect.gen(function* () {
          const probe = yield* makeProbe({
            path: "/no/such/probe",
            onTick: () => Effect.void,
            onCapabilities: (list) => Effect.sync(() => void told.push(list)),
          });
          yield* Effect.repeat(Effect.sleep("20 millis"), {
            until: () => Effect.map(probe.status, (now) => now.restarts >= 2),
          });
        }),
      ),
    );
    expect(told[0]).toEqual([
      expect.objectContaining({
        feature: "probe",
        state: "off",
        errno: 2,
        reason: expect.stringMatching(/\/no\/such\/probe/),
      }),
    ]);
  });

  itWith(["bpf"], "starts a killed probe again, says that edges start anew, and ends it with its scope", async () => {
    buildProbe();
    const pid = await Effect.runPromise(
      Effect.scoped(
        Effect.gen(function* () {
          const ticks = yield* Ref.make<readonly ProbeTick[]>([]);
          const probe = yield* makeProbe({
            path: probePath,
            onTick: (tick) => Ref.update(ticks, (all) => [...all, tick]),
            onCapabilities: () => Effect.void,
          });
          const resets = Effect.map(Ref.get(ticks), (all) => all.filter((tick) => tick.reset).length);
          const until = (n: number) =>
            Effect.repeat(Effect.sleep("20 millis"), { until: () => Effect.map(resets, (seen) => seen === n) });
          yield* until(1);
          const first = yield* probe.status;
          expect(first.state).toBe("running");
          if (first.pid !== null) process.kill(first.pid, "SIGKILL");
          yield* until(2);
          const second = yield* probe.status;
          expect(second.restarts).toBe(1);
          expect(second.lastFailure).toMatch(/SIGKILL/);
          return second.pid;
        }),
      ),
    );
    expect(existsSync(`/proc/${pid}`)).toBe(false);
  });
});
