/**
 * The shop for real, as root: in namespaces and cgroups, under load, with each fault done to it, and nothing left of it
 * afterwards. Faults are judged by what the users saw only; what the server makes of them is the check's business.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { createInterface } from "node:readline";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { FaultName } from "../../../deploy/demo/args.ts";
import { Cleanup } from "../../../deploy/demo/cleanup.ts";
import { now, until } from "../../../deploy/demo/clock.ts";
import { run } from "../../../deploy/demo/command.ts";
import { environmentInTurn, makeEnvironment, type Environment } from "../../../deploy/demo/environment.ts";
import { faults, type EndFault } from "../../../deploy/demo/faults.ts";
import type { BadRequest } from "../../../deploy/demo/load.ts";
import { plainPlan, roles, type Role } from "../../../deploy/demo/plan.ts";
import { serviceOf, startShop, type Shop } from "../../../deploy/demo/shop.ts";
import { describeWith, itWith } from "../../capabilities.ts";

const programs = ["nginx", "redis", "postgres", "python"] as const;

/** Another demo on the machine has the turn until it ends. */
const myTurn = (cleanup: Cleanup): Promise<Environment> => environmentInTurn(plainPlan(), cleanup, { tell: () => {} });

const alive = (pid: number): boolean => existsSync(`/proc/${pid}`);

const leftovers = async (): Promise<readonly string[]> => {
  const namespaces = (await run(["ip", "netns", "list"])).split("\n").filter((line) => line.startsWith("coroot-demo-"));
  const base = "/sys/fs/cgroup";
  const slices = [base, ...readdirSync(base).map((name) => join(base, name))]
    .map((path) => join(path, "coroot-demo.slice"))
    .filter((path) => existsSync(path));
  const lock = existsSync("/run/coroot-demo.lock") ? ["/run/coroot-demo.lock"] : [];
  return [...namespaces, ...slices, ...lock];
};

/** Runs spec/deploy/demo/orphan.ts; gives its first line. */
const startOrphan = async (wrapper: readonly string[]) => {
  const script = fileURLToPath(new URL("orphan.ts", import.meta.url));
  const [program = "", ...rest] = [...wrapper, process.execPath, "--import", "tsx", script];
  const child: ChildProcess = spawn(program, rest, { stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
  if (child.stdout === null) throw new Error("no output");
  const lines: string[] = [];
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(line));
  const first = await until("the other demo runs", 60_000, () => {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`);
    return lines[0];
  });
  const said = JSON.parse(first) as { folder: string; off: string[]; pids: number[]; url: string };
  return { child, ended, lines, ...said };
};

describeWith(["root", "netns", "cgroup", ...programs], "the shop on its own network", () => {
  const cleanup = new Cleanup();
  let shop: Shop;
  let environment: Environment;

  beforeAll(async () => {
    environment = await myTurn(cleanup);
    shop = await startShop({ environment, cleanup, tell: () => {}, rate: 80 });
  }, 90_000);
  afterAll(async () => {
    await cleanup.run();
  }, 60_000);

  const bad = (type: BadRequest["type"], since: number, count: number): Promise<readonly BadRequest[]> =>
    until(`${count} ${type} requests`, 20_000, () => {
      const found = shop.users.bad.filter((request) => request.type === type && request.at >= since);
      return found.length >= count ? found : undefined;
    });
  const goodSecond = (since: number) =>
    until("a second without a bad request", 20_000, () =>
      shop.users.seconds.find(
        (second) => second.at > since + 1000 && second.ok > 30 && second.failed + second.slow === 0,
      ),
    );
  const inject = async (
    name: FaultName,
  ): Promise<{ readonly at: number; readonly end: EndFault; readonly role: Role }> => {
    expect(environment.off).toEqual([]);
    await goodSecond(now() - 1000);
    const role = faults[name].role(false);
    const at = now();
    return { at, end: await faults[name].inject(shop, role), role };
  };

  it("serves its users, each service in its own cgroup and namespace", async () => {
    await goodSecond(0);
    expect(shop.users.total.failed).toBe(0);
    expect(shop.users.unread).toBe(0);
    const namespaces = new Set<string>();
    for (const role of roles) {
      const { pid } = serviceOf(shop, role);
      const groups = readFileSync(`/proc/${pid}/cgroup`, "utf8");
      expect(groups).toMatch(new RegExp(`(:|,)(memory|):/coroot-demo.slice/${role}.service$`, "m"));
      namespaces.add((await run(["readlink", `/proc/${pid}/ns/net`])).trim());
    }
    namespaces.add((await run(["readlink", "/proc/self/ns/net"])).trim());
    expect(namespaces.size).toBe(roles.length + 1);
  });

  it("allows one demo at a time", async () => {
    await expect(makeEnvironment(plainPlan(), new Cleanup())).rejects.toThrow(
      `another demo runs on this machine (process ${process.pid})`,
    );
  });

  it("fails the cart's requests while Redis is down, and only those", async () => {
    const { at, end } = await inject("redis-down");
    const failed = await bad("failed", at, 20);
    expect(new Set(failed.map((request) => request.route))).toEqual(new Set(["cart", "home"]));
    expect(serviceOf(shop, "redis").pid).toBeNull();
    await end();
    await goodSecond(now());
  });

  it("fails about a third of the cart's requests with errors", async () => {
    const { at, end } = await inject("errors");
    const failed = await bad("failed", at, 20);
    expect(failed.map((request) => request.problem)).toEqual(failed.map(() => "502"));
    expect(shop.users.seconds.at(-1)?.ok).toBeGreaterThan(20);
    await end();
    await goodSecond(now());
  });

  it("makes the catalog's requests slow, then fail, while the products are locked", async () => {
    const { at, end } = await inject("db-lock");
    const slow = await bad("slow", at, 10);
    expect(slow[0]?.at).toBeLessThan(at + 2_000);
    const failed = await bad("failed", at, 5);
    for (const request of [...slow, ...failed]) expect(request.route).not.toBe("cart");
    await end();
    await goodSecond(now());
  });

  it("makes the catalog's queue grow under a small CPU quota", async () => {
    const { at, end } = await inject("cpu-hog");
    const slow = await bad("slow", at, 20);
    for (const request of slow) expect(request.route).not.toBe("cart");
    await end();
    await goodSecond(now());
  });

  it("lets the kernel kill the leaking cart, which serves until then, and starts it again after ten seconds", async () => {
    const cart = serviceOf(shop, "cart");
    const before = cart.pid;
    const { at, end } = await inject("oom");
    const failed = await bad("failed", at, 5);
    expect(await environment.cgroups?.oomKills("cart")).toBe(1);
    expect((failed[0]?.at ?? 0) - at).toBeGreaterThan(2_000);
    await end();
    await until("the cart is started again", 15_000, () => (cart.restarts === 1 ? true : undefined));
    expect(now() - (failed[0]?.at ?? 0)).toBeGreaterThan(9_500);
    expect(cart.pid).not.toBe(before);
    await goodSecond(now());
  }, 60_000);

  it("leaves no process, namespace, cgroup, folder or lock", async () => {
    const pids = roles.map((role) => serviceOf(shop, role).pid ?? 0);
    const processes = (await environment.cgroups?.processes()) ?? [];
    expect(processes.length).toBeGreaterThan(8);
    expect(await cleanup.run()).toEqual([]);
    expect([...pids, ...processes].filter(alive)).toEqual([]);
    expect(existsSync(environment.folder)).toBe(false);
    expect(await leftovers()).toEqual([]);
  });
});

describeWith(["root", "netns", "cgroup", ...programs], "a demo that was killed", () => {
  it("takes its programs with it, and the next demo removes the rest", async () => {
    const orphan = await startOrphan([]);
    orphan.child.kill("SIGKILL");
    await orphan.ended;
    await until("its programs are gone", 10_000, () => (orphan.pids.some(alive) ? undefined : true));
    expect(await leftovers()).not.toEqual([]);
    const cleanup = new Cleanup();
    await myTurn(cleanup);
    expect(existsSync(orphan.folder)).toBe(false);
    expect(await cleanup.run()).toEqual([]);
    expect(await leftovers()).toEqual([]);
  }, 90_000);
});

itWith(
  ["root", ...programs],
  "without root the shop runs on loopback, and says what is off",
  async () => {
    const demo = await startOrphan(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
    expect(demo.off).toEqual(["cgroups: off, this needs root", "network namespaces: off, this needs root"]);
    expect(demo.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    await until("users are served", 15_000, () =>
      demo.lines.some((line) => /"ok":[1-9]\d.*"failed":0/.test(line)) ? true : undefined,
    );
    expect((await fetch(`${demo.url}/home/u1`)).status).toBe(200);
    demo.child.kill("SIGTERM");
    expect(await demo.ended).toBe(0);
    expect(demo.pids.filter(alive)).toEqual([]);
    expect(existsSync(demo.folder)).toBe(false);
    expect(readdirSync(tmpdir()).filter((name) => name.startsWith(`coroot-demo-${demo.child.pid}-`))).toEqual([]);
  },
  60_000,
);
