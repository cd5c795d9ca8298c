/**
 * What a stock coroot-cluster-agent is told to collect from: databases that were discovered, with the logins of the
 * configuration. Pure. Without a login only what needs none is told (Redis, memcached): the agent would otherwise try an
 * empty one at every scrape, and annotations of Pods tell it the others. Shape: config/types.go of coroot-cluster-agent.
 */
import type { ServiceId } from "../../schemas/service.ts";
import { globs } from "../topology/grouping.ts";
import type { Listen } from "../topology/messages.ts";

export interface Instrumentation {
  readonly type: string;
  readonly host: string;
  readonly port: string;
  readonly credentials: { readonly username: string; readonly password: string };
  readonly params: Readonly<Record<string, string>>;
  readonly instance: string;
}

/** Of the configuration. */
export interface Login {
  readonly match: string;
  readonly username: string;
  readonly password: string;
  readonly params: Readonly<Record<string, string>>;
}

export interface Database {
  readonly service: ServiceId;
  readonly name: string;
  readonly namespace: string;
  /** as agents guess it from the program, or the protocol that it is spoken to with */
  readonly types: readonly string[];
}

interface Kind {
  readonly type: string;
  readonly port: number;
  readonly needsLogin: boolean;
}

const KINDS: ReadonlyMap<string, Kind> = new Map(
  (
    [
      ["postgres", ["postgres"], 5432, true],
      ["mysql", ["mysql"], 3306, true],
      ["mongodb", ["mongodb"], 27017, true],
      ["redis", ["redis", "valkey", "keydb"], 6379, false],
      ["memcached", ["memcached"], 11211, false],
    ] as const
  ).flatMap(([type, names, port, needsLogin]) => names.map((name) => [name, { type, port, needsLogin }] as const)),
);

export const isDatabase = (types: readonly string[]): boolean => types.some((type) => KINDS.has(type));

/** The port that such a database usually has, or the only one that it listens on. */
const portOf = (ports: ReadonlySet<number>, usual: number): number | null => {
  if (ports.has(usual)) return usual;
  const [only] = ports;
  return ports.size === 1 && only !== undefined ? only : null;
};

export const instrumentation = (
  databases: readonly Database[],
  listens: readonly Listen[],
  logins: readonly Login[],
): Instrumentation[] => {
  const rules = logins.map((login) => ({ login, globs: globs([login.match]) }));
  return databases.flatMap(({ service, name, namespace, types }) => {
    const kind = types.map((type) => KINDS.get(type)).find((one) => one !== undefined);
    const all = listens.filter((one) => one.service === service);
    if (kind === undefined) return [];
    const login = rules.find((rule) => rule.globs.some((glob) => glob.test(service)))?.login;
    const port = portOf(new Set(all.map((one) => one.port)), kind.port);
    if (port === null || (kind.needsLogin && login === undefined)) return [];
    return all
      .filter((one) => one.port === port)
      .map(({ address }) => ({
        type: kind.type,
        host: address,
        port: String(port),
        credentials: { username: login?.username ?? "", password: login?.password ?? "" },
        params: login?.params ?? {},
        instance: `ns=${namespace} app=${name} instance=${address}`,
      }));
  });
};
