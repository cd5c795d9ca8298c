/**
 * Who is who in the shop: the six roles, and the name and port each has in this run. Plain names say what they are;
 * shuffled ones say nothing, so that a cause found by its name would be found wrong. Pure; holds nothing to stop.
 */
export const roles = ["nginx", "front", "catalog", "postgres", "cart", "redis"] as const;
export type Role = (typeof roles)[number];

export interface Placement {
  readonly role: Role;
  /** name of the cgroup unit and of the namespace, as the agent sees the service */
  readonly name: string;
  readonly port: number;
}

export interface Plan {
  readonly shuffled: boolean;
  readonly services: Readonly<Record<Role, Placement>>;
}

/** The users' own name, the same in every plan: they are no part of the shop. */
export const LOAD = "load";

const usualPorts: Readonly<Record<Role, number>> = {
  nginx: 80,
  front: 3000,
  catalog: 8000,
  postgres: 5432,
  cart: 3001,
  redis: 6379,
};

const words =
  "alder amber aspen basil beech birch cedar clover coral crane daisy dune elder ember falcon fern finch flint garnet ginger hazel heron ivory jasper juniper lark laurel linden lotus maple marble moss nettle oak olive onyx opal orchid otter pearl pebble pine plover poplar quartz raven reed robin rowan saffron sage slate sorrel sparrow spruce swift thistle topaz tulip violet walnut willow wren".split(
    " ",
  );

const placements = (make: (role: Role) => Placement): Readonly<Record<Role, Placement>> => ({
  nginx: make("nginx"),
  front: make("front"),
  catalog: make("catalog"),
  postgres: make("postgres"),
  cart: make("cart"),
  redis: make("redis"),
});

export const plainPlan = (): Plan => ({
  shuffled: false,
  services: placements((role) => ({ role, name: role, port: usualPorts[role] })),
});

/** `random` gives numbers in [0, 1), as Math.random does. */
export const shuffledPlan = (random: () => number): Plan => {
  const left = [...words];
  const ports = new Set<number>();
  const pickWord = (): string => left.splice(Math.floor(random() * left.length), 1)[0] ?? `service${left.length}`;
  const pickPort = (): number => {
    let port = 10_000 + Math.floor(random() * 20_000);
    while (ports.has(port)) port += 1;
    ports.add(port);
    return port;
  };
  return { shuffled: true, services: placements((role) => ({ role, name: pickWord(), port: pickPort() })) };
};

export const withPorts = (plan: Plan, ports: Readonly<Record<Role, number>>): Plan => ({
  ...plan,
  services: placements((role) => ({ ...plan.services[role], port: ports[role] })),
});

/** The roles that can run when these programs are missing; a part goes with the store behind it. */
export const rolesWithout = (missing: readonly string[]): readonly Role[] => {
  const off = new Set<Role>();
  if (missing.includes("nginx")) off.add("nginx");
  if (missing.includes("redis-server")) off.add("redis").add("cart");
  if (missing.includes("postgres") || missing.includes("python3")) off.add("postgres").add("catalog");
  return roles.filter((role) => !off.has(role));
};

export const serviceNames = (plan: Plan): readonly string[] => roles.map((role) => plan.services[role].name);
