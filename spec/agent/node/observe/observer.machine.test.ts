import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseCgroupMounts } from "../../../../agent/node/host/cgroups.ts";
import { Observer } from "../../../../agent/node/observe/Observer.ts";
import { Dictionary } from "../../../../agent/node/observe/Window.ts";
import { checkObserve, decodeFrame } from "../../../../schemas/wire/codec.ts";
import type { InstanceDefinition, InstanceEvent, ListenDefinition } from "../../../../schemas/wire/observe.ts";
import { describeWith } from "../../../capabilities.ts";

const mounts = parseCgroupMounts(readFileSync("/proc/self/mountinfo", "utf8"));
const bootMs = Date.now() - Number.parseFloat(readFileSync("/proc/uptime", "utf8")) * 1000;

/** Observes this machine as the agent does, as fast as the test likes, and remembers what the server would know. */
class Watch {
  readonly observer = new Observer({ node: "spec", bootMs, mounts });
  readonly instances = new Map<number, InstanceDefinition>();
  readonly events: InstanceEvent[] = [];
  readonly sums = new Map<string, number>();
  readonly gauges = new Map<string, number>();
  readonly gone = new Set<number>();
  listens: readonly ListenDefinition[] = [];
  private readonly dictionary = new Dictionary(this.observer.catalog);
  private readonly began = performance.now();
  private window = 0;

  look(): void {
    const clocks = { monoMs: performance.now() - this.began, wallMs: Date.now() };
    const frame = this.dictionary.encode(this.observer.observe(this.window++, clocks));
    const body = checkObserve(decodeFrame(frame).body);
    for (const one of body.instances) this.instances.set(one.id, one);
    for (const id of body.gone) this.gone.add(id);
    this.events.push(...body.events);
    this.listens = body.listens ?? this.listens;
    const { usage } = body;
    for (let i = 0; i < usage.rows; i++) {
      const name = this.instances.get(usage.instance[i] ?? 0)?.name ?? "?";
      for (const figure of ["cpuMs", "throttledMs", "throttledPeriods", "oomKills", "restarts", "ioBytes"] as const)
        this.sums.set(`${name} ${figure}`, (this.sums.get(`${name} ${figure}`) ?? 0) + (usage[figure][i] ?? 0));
      for (const figure of ["cpuLimit", "memory", "memoryLimit", "processes"] as const)
        this.gauges.set(`${name} ${figure}`, usage[figure][i] ?? 0);
    }
  }

  async until(what: string, done: () => boolean, withinMs = 15_000): Promise<void> {
    const end = performance.now() + withinMs;
    for (;;) {
      this.look();
      if (done()) return;
      if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  named(name: string): InstanceDefinition | undefined {
    return [...this.instances.values()].find((one) => one.name === name && !this.gone.has(one.id));
  }
}

let watch: Watch;
let folder = "";
const children: ChildProcess[] = [];
const cgroups: string[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "coroot-observe-"));
  watch = new Watch();
});
afterEach(async () => {
  for (const child of children.splice(0)) await stop(child);
  watch.observer.close();
  for (const path of cgroups.splice(0).toReversed()) if (existsSync(path)) rmdirSync(path);
  rmSync(folder, { recursive: true });
});

const run = (command: string, args: readonly string[]): ChildProcess => {
  const child = spawn(command, args, { stdio: "ignore" });
  children.push(child);
  return child;
};
const stop = async (child: ChildProcess): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await ended;
};
const script = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};
const LISTEN = "require('http').createServer((q, r) => r.end('ok')).listen(0, process.argv[2]);";

describe("this machine without a probe", () => {
  it("sees two Node scripts as two services, come, listen and go", async () => {
    const first = run(process.execPath, [script("spec-cart.cjs", LISTEN), "127.0.0.1", "password=s3cr3t"]);
    run(process.execPath, [script("spec-front.cjs", LISTEN), "0.0.0.0"]);
    await watch.until("both listen", () => {
      const owners = new Set(watch.listens.map((one) => watch.instances.get(one.instance)?.name));
      return owners.has("spec-cart") && owners.has("spec-front");
    });
    const cart = watch.named("spec-cart");
    const front = watch.named("spec-front");
    expect(cart).toMatchObject({ namespace: "spec", type: "nodejs", instance: String(first.pid) });
    expect(cart?.id).not.toBe(front?.id);
    expect(JSON.stringify([...watch.instances.values()])).not.toContain("s3cr3t");
    // A wildcard is every address of the namespace, never the wildcard itself.
    const addresses = watch.listens.filter((one) => one.instance === front?.id).map((one) => one.address);
    expect(addresses).toContain("127.0.0.1");
    expect(addresses).not.toContain("0.0.0.0");
    await watch.until("memory is known", () => (watch.gauges.get("spec-cart memory") ?? 0) > 1e6);
    await stop(first);
    await watch.until("the end is told", () =>
      watch.events.some((event) => event.kind === "exit" && event.instance === cart?.id && event.left === 0),
    );
    await watch.until("it is gone", () => watch.gone.has(cart?.id ?? 0));
    expect(watch.listens.some((one) => one.instance === cart?.id)).toBe(false);
    // The same script again is a restart of the same service.
    run(process.execPath, [join(folder, "spec-cart.cjs"), "127.0.0.1"]);
    await watch.until("the restart is counted", () => watch.sums.get("spec-cart restarts") === 1);
  });
});

const make = (path: string): string => {
  mkdirSync(path);
  cgroups.push(path);
  return path;
};

/** A unit's cgroup as systemd would make it, in version 1 or 2, under a slice of this test. */
const makeUnit = (
  unit: string,
): { readonly join: string; readonly set: (v1: string, v2: string, value: string) => void } => {
  const slice = `corootspec${process.pid}.slice`;
  const v2 = mounts.controllers.has("cpu") ? null : (mounts.unified?.path ?? null);
  if (v2 !== null) {
    const root = `${v2}/cgroup.subtree_control`;
    writeFileSync(root, "+cpu +memory");
    writeFileSync(`${make(`${v2}/${slice}`)}/cgroup.subtree_control`, "+cpu +memory");
    const own = make(`${v2}/${slice}/${unit}`);
    return { join: `echo $$ > ${own}/cgroup.procs`, set: (_, file, value) => writeFileSync(`${own}/${file}`, value) };
  }
  // cpu and cpuacct are often one mount.
  const mounted = ["cpu", "cpuacct", "memory"].map((controller) => mounts.controllers.get(controller)?.path ?? "");
  const folders = [...new Set(mounted)].map((base) => {
    make(`${base}/${slice}`);
    return make(`${base}/${slice}/${unit}`);
  });
  return {
    join: folders.map((path) => `echo $$ > ${path}/cgroup.procs`).join("; "),
    set: (file, _, value) => {
      const owner = folders.find((path) => existsSync(`${path}/${file}`));
      if (owner === undefined) throw new Error(`no ${file} in ${folders.join(", ")}`);
      writeFileSync(`${owner}/${file}`, value);
    },
  };
};

describeWith(["root", "cgroup"], "units on this machine", () => {
  it("sees a unit being throttled, with its limit and what it used", async () => {
    const unit = makeUnit("spec-burn@1.service");
    unit.set("cpu.cfs_quota_us", "cpu.max", "10000");
    run("sh", ["-c", `${unit.join}; exec ${process.execPath} -e 'for (;;);'`]);
    await watch.until("throttled", () => (watch.sums.get("spec-burn throttledPeriods") ?? 0) >= 3);
    await watch.until("its limit is known", () => (watch.gauges.get("spec-burn cpuLimit") ?? 0) > 0);
    expect(watch.named("spec-burn")).toMatchObject({ kind: "SystemdUnit", instance: "spec-burn@1.service" });
    expect(watch.gauges.get("spec-burn cpuLimit")).toBeCloseTo(0.1);
    expect(watch.sums.get("spec-burn throttledMs")).toBeGreaterThan(10);
    expect(watch.sums.get("spec-burn cpuMs")).toBeGreaterThan(0);
  });

  it("counts a kill for lack of memory and the restart after it", async () => {
    const unit = makeUnit("spec-eater.service");
    unit.set("memory.limit_in_bytes", "memory.max", String(96 * 1024 * 1024));
    const start = (code: string) => run("sh", ["-c", `${unit.join}; exec ${process.execPath} -e '${code}'`]);
    start("setTimeout(() => { const kept = []; for (;;) kept.push(Buffer.alloc(1 << 20, 1)); }, 3000)");
    await watch.until("seen", () => watch.gauges.get("spec-eater memoryLimit") === 96 * 1024 * 1024);
    await watch.until("killed and told", () =>
      watch.events.some(
        (event) =>
          event.kind === "exit" && event.left === 0 && watch.instances.get(event.instance)?.name === "spec-eater",
      ),
    );
    await watch.until("counted", () => watch.sums.get("spec-eater oomKills") === 1);
    start("setInterval(() => {}, 1000)");
    await watch.until("restart counted", () => watch.sums.get("spec-eater restarts") === 1);
  });
});
