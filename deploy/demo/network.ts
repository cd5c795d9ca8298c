/**
 * The shop's own network: one namespace per service and one with the bridge, all named coroot-demo-*, in a 10.x.y.0/24
 * that the machine does not use. Nothing is added to the machine's own namespace, so no route or firewall of it is
 * touched. Owned by the environment; a refusal fails the making with ip's words; `remove` deletes the namespaces.
 */
import { run } from "./command.ts";

const PREFIX = "coroot-demo-";
const HUB = `${PREFIX}hub`;

const toNumber = (address: string): number => address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);

/** Whether two IPv4 ranges such as 10.1.2.0/24 share an address. */
export const overlap = (one: string, two: string): boolean => {
  const [a = "", aBits = "32"] = one.split("/");
  const [b = "", bBits = "32"] = two.split("/");
  const size = 2 ** (32 - Math.min(Number(aBits), Number(bBits)));
  return Math.floor(toNumber(a) / size) === Math.floor(toNumber(b) / size);
};

/** First three numbers of a free 10.x.y.0/24; `used` are the machine's routes. */
export const freeRange = (used: readonly string[], random: () => number): string => {
  for (let attempt = 0; attempt < 1000; attempt += 1) {
    const base = `10.${60 + Math.floor(random() * 190)}.${Math.floor(random() * 256)}`;
    if (!used.some((range) => overlap(range, `${base}.0/24`))) return base;
  }
  throw new Error(`no free 10.x.y.0/24 range beside the machine's routes ${used.join(", ")}`);
};

export class Network {
  readonly range: string;
  readonly #addresses: ReadonlyMap<string, string>;

  private constructor(range: string, addresses: ReadonlyMap<string, string>) {
    this.range = range;
    this.#addresses = addresses;
  }

  static async create(names: readonly string[], random: () => number): Promise<Network> {
    const routes = await run(["ip", "-4", "route", "show", "table", "all"]);
    const used = routes.split("\n").flatMap((line) => /\b(10\.[\d.]+(?:\/\d+)?)/.exec(line)?.[1] ?? []);
    const range = freeRange(used, random);
    const addresses = new Map(names.map((name, index) => [name, `${range}.${index + 10}`]));
    await ipBatch(
      null,
      [HUB, ...names.map((name) => PREFIX + name)].map((name) => `netns add ${name}`),
    );
    await ipBatch(HUB, ["link set lo up", "link add hub type bridge", "link set hub up"]);
    for (const [index, name] of names.entries())
      await ipBatch(HUB, [
        `link add port${index} type veth peer name eth0 netns ${PREFIX}${name}`,
        `link set port${index} master hub`,
        `link set port${index} up`,
      ]);
    for (const name of names)
      await ipBatch(PREFIX + name, [
        "link set lo up",
        `address add ${addresses.get(name)}/24 dev eth0`,
        "link set eth0 up",
      ]);
    return new Network(range, addresses);
  }

  address(name: string): string {
    const address = this.#addresses.get(name);
    if (address === undefined) throw new Error(`${name} has no place on the demo's network`);
    return address;
  }

  /** What nsenter enters. */
  entrance(name: string): string {
    return `/run/netns/${PREFIX}${name}`;
  }

  /** Deletes every namespace of a demo, also of one that could not clean up. */
  static async remove(): Promise<void> {
    const list = await run(["ip", "netns", "list"]);
    const ours = list.split("\n").flatMap((line) => (line.startsWith(PREFIX) ? [line.split(" ")[0] ?? line] : []));
    if (ours.length > 0)
      await ipBatch(
        null,
        ours.map((name) => `netns delete ${name}`),
      );
  }
}

const ipBatch = async (namespace: string | null, lines: readonly string[]): Promise<void> => {
  const where = namespace === null ? [] : ["-n", namespace];
  await run(["ip", ...where, "-batch", "-"], { input: `${lines.join("\n")}\n` });
};
