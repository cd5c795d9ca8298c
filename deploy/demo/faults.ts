/**
 * The five faults: each is a thing that happens to real shops, done to the running one, and gives what ends it. A fault
 * whose means are missing on this machine says so before anything is touched. Owned by the run that injects it.
 */
import type { FaultName } from "./args.ts";
import { normalLimits, type Environment } from "./environment.ts";
import type { Program } from "./packages.ts";
import { rolesWithout, type Role } from "./plan.ts";
import { serviceOf, type Shop } from "./shop.ts";

export type EndFault = () => Promise<void>;

export interface Fault {
  readonly name: FaultName;
  readonly what: (role: string) => string;
  readonly role: (shuffled: boolean) => Role;
  readonly needsCgroups: boolean;
  readonly inject: (shop: Shop, role: Role) => Promise<EndFault>;
}

/** Capacity of about ten requests per second where thirty arrive. */
const HOG_CORES = 0.08;
const ERROR_SHARE = 0.3;
/** About 7 MiB per second at the usual load: the limit is reached within some 10 to 15 seconds. */
const LEAK_BYTES_PER_REQUEST = 224 * 1024;

export const faults: Readonly<Record<FaultName, Fault>> = {
  "redis-down": {
    name: "redis-down",
    what: (name) => `${name} is killed and stays down`,
    role: () => "redis",
    needsCgroups: false,
    inject: async (shop, role) => {
      const { port } = shop.environment.plan.services[role];
      await serviceOf(shop, role).hold();
      return async () => {
        serviceOf(shop, role).release();
        await serviceOf(shop, role).listening(port);
      };
    },
  },
  "db-lock": {
    name: "db-lock",
    what: (name) => `a transaction in ${name} holds an exclusive lock on the products`,
    role: () => "postgres",
    needsCgroups: false,
    inject: async (shop) => {
      if (shop.postgres === null) throw new Error("PostgreSQL is not installed");
      return shop.postgres.lockProducts();
    },
  },
  "cpu-hog": {
    name: "cpu-hog",
    what: (name) => `the CPU quota of ${name} is cut to ${HOG_CORES} cores`,
    role: () => "catalog",
    needsCgroups: true,
    inject: async (shop, role) => {
      const { cgroups, plan } = shop.environment;
      if (cgroups === null) throw new Error("cpu-hog needs cgroups");
      const { name } = plan.services[role];
      await cgroups.setCpu(name, HOG_CORES);
      return () => cgroups.setCpu(name, normalLimits(role).cpuCores);
    },
  },
  errors: {
    name: "errors",
    what: (name) => `${name} answers 500 to ${ERROR_SHARE * 100} % of its requests`,
    role: (shuffled) => (shuffled ? "catalog" : "cart"),
    needsCgroups: false,
    inject: (shop, role) => {
      serviceOf(shop, role).control({ errors: ERROR_SHARE });
      return Promise.resolve(() => Promise.resolve(serviceOf(shop, role).control({ errors: 0 })));
    },
  },
  oom: {
    name: "oom",
    what: (name) => `${name} leaks memory with every request, into its limit`,
    role: () => "cart",
    needsCgroups: true,
    inject: (shop, role) => {
      serviceOf(shop, role).control({ leakBytes: LEAK_BYTES_PER_REQUEST });
      return Promise.resolve(() => Promise.resolve(serviceOf(shop, role).control({ leakBytes: 0 })));
    },
  },
};

/** Why this fault cannot be injected here; null when it can. */
export const faultProblem = (fault: Fault, environment: Environment, missing: readonly Program[]): string | null => {
  const role = fault.role(environment.plan.shuffled);
  if (!rolesWithout(missing).includes(role))
    return `${fault.name} needs ${role}, which is off: ${missing.join(", ")} missing`;
  if (!fault.needsCgroups || environment.cgroups !== null) return null;
  return `${fault.name} needs limits; ${environment.off.find((off) => off.startsWith("cgroups")) ?? "cgroups: off"}`;
};
