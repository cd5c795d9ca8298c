/**
 * Where the shop runs: as root in cgroups and network namespaces of its own, otherwise as plain processes on loopback,
 * with a sentence for each thing that is off. One demo per machine as root (a lock names the owner); what a killed demo
 * left behind is removed before a new one is made. Everything made here is undone by the Cleanup it is given.
 */
import { chmod, mkdtemp, open, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer } from "node:net";
import { Cgroups, type Limits } from "./cgroups.ts";
import type { Cleanup } from "./cleanup.ts";
import { until } from "./clock.ts";
import { Network } from "./network.ts";
import { LOAD, roles, serviceNames, withPorts, type Plan, type Role } from "./plan.ts";

const LOCK = "/run/coroot-demo.lock";
const FOLDER_PREFIX = "coroot-demo-";
const MIB = 1024 * 1024;

/** The catalog may use one core and the cart 128 MiB; the others have room and a bound. */
export const normalLimits = (role: Role | typeof LOAD): Limits => {
  if (role === "catalog") return { cpuCores: 1, memoryBytes: 256 * MIB };
  if (role === "cart") return { cpuCores: null, memoryBytes: 128 * MIB };
  return { cpuCores: null, memoryBytes: 512 * MIB };
};

export interface Environment {
  readonly plan: Plan;
  readonly folder: string;
  readonly cgroups: Cgroups | null;
  readonly network: Network | null;
  /** what is off and why, for a person */
  readonly off: readonly string[];
}

const message = (error: unknown): string => (error instanceof Error ? error.message : String(error));

export const addressOf = (environment: Environment, name: string): string =>
  environment.network?.address(name) ?? "127.0.0.1";

export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => {
        if (address !== null && typeof address === "object") resolve(address.port);
        else reject(new Error("a listening socket without a port"));
      });
    });
  });

/** Whether this process is alive, told apart from a later one with the same id by its start time. */
const identity = async (pid: number): Promise<string | null> => {
  try {
    const text = await readFile(`/proc/${pid}/stat`, "utf8");
    return `${pid} ${text.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? "?"}`;
  } catch {
    return null;
  }
};

export class DemoRunning extends Error {
  constructor(pid: number) {
    super(`another demo runs on this machine (process ${pid})`);
    this.name = "DemoRunning";
  }
}

const takeLock = async (cleanup: Cleanup): Promise<void> => {
  const mine = (await identity(process.pid)) ?? String(process.pid);
  for (let attempt = 0; attempt < 3; attempt += 1) {
    try {
      const file = await open(LOCK, "wx");
      await file.writeFile(mine);
      await file.close();
      cleanup.add(LOCK, () => rm(LOCK, { force: true }));
      return;
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
      const owner = await readFile(LOCK, "utf8").catch(() => "");
      const pid = Number(owner.split(" ")[0]);
      if (owner !== "" && (await identity(pid)) === owner) throw new DemoRunning(pid);
      await rm(LOCK, { force: true });
    }
  }
  throw new Error(`${LOCK} is taken and given back too often`);
};

/** Folders of demos that were killed: the name holds the owner's process id. */
const removeOldFolders = async (): Promise<void> => {
  for (const name of await readdir(tmpdir())) {
    const pid = Number(/^coroot-demo-(\d+)-/.exec(name)?.[1] ?? Number.NaN);
    if (Number.isNaN(pid) || (await identity(pid)) !== null) continue;
    const path = join(tmpdir(), name);
    const owner = (await stat(path).catch(() => null))?.uid;
    if (owner === process.getuid?.()) await rm(path, { recursive: true, force: true });
  }
};

const makeCgroups = async (plan: Plan, cleanup: Cleanup): Promise<Cgroups> => {
  const cgroups = await Cgroups.detect();
  if (cgroups === null) throw new Error("no hierarchy with the cpu and memory controllers is mounted");
  await cgroups.remove();
  cleanup.add("cgroups", () => cgroups.remove());
  for (const role of roles) await cgroups.create(plan.services[role].name, normalLimits(role));
  await cgroups.create(LOAD, normalLimits(LOAD));
  return cgroups;
};

const makeNetwork = async (plan: Plan, cleanup: Cleanup): Promise<Network> => {
  await Network.remove();
  cleanup.add("network namespaces", () => Network.remove());
  return Network.create([...serviceNames(plan), LOAD], Math.random);
};

export const makeEnvironment = async (plan: Plan, cleanup: Cleanup): Promise<Environment> => {
  const root = process.getuid?.() === 0;
  if (root) await takeLock(cleanup);
  await removeOldFolders();
  const folder = await mkdtemp(join(tmpdir(), `${FOLDER_PREFIX}${process.pid}-`));
  cleanup.add(folder, () => rm(folder, { recursive: true, force: true }));
  // PostgreSQL runs as another user and has to pass through
  await chmod(folder, 0o711);
  const off: string[] = [];
  const attempt = async <A>(what: string, make: () => Promise<A>): Promise<A | null> => {
    if (!root) {
      off.push(`${what}: off, this needs root`);
      return null;
    }
    try {
      return await make();
    } catch (error) {
      off.push(`${what}: off, ${message(error)}`);
      return null;
    }
  };
  const cgroups = await attempt("cgroups", () => makeCgroups(plan, cleanup));
  const network = await attempt("network namespaces", () => makeNetwork(plan, cleanup));
  if (network !== null) return { plan, folder, cgroups, network, off };
  const [nginx, front, catalog, postgres, cart, redis] = await Promise.all([
    freePort(),
    freePort(),
    freePort(),
    freePort(),
    freePort(),
    freePort(),
  ]);
  return { plan: withPorts(plan, { nginx, front, catalog, postgres, cart, redis }), folder, cgroups, network, off };
};

const TURN_WITHIN_MS = 600_000;

/** The environment, once no other demo runs on the machine. */
export const environmentInTurn = async (
  plan: Plan,
  cleanup: Cleanup,
  options: { readonly tell: (text: string) => void; readonly signal?: AbortSignal },
): Promise<Environment> => {
  let told = false;
  const attempt = async (): Promise<Environment | undefined> => {
    try {
      return await makeEnvironment(plan, cleanup);
    } catch (error) {
      if (!(error instanceof DemoRunning)) throw error;
      if (!told) options.tell(`${error.message}; waiting for its end`);
      told = true;
      return undefined;
    }
  };
  return until("the end of another demo", TURN_WITHIN_MS, attempt, { signal: options.signal, everyMs: 500 });
};
