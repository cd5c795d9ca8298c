/**
 * What instances asked name servers for. Numbers by type and outcome are the kernel's and exact; names come with the
 * answers that the probe could tell, and the requests that are left over are of the domain `~other`. Owned by the
 * observer; all bounded, what does not fit is counted in `losses`.
 *
 * A name with a domain of the search list behind it is a try: NXDOMAIN for it says nothing when the same process then
 * gets an answer for the name itself or for another try. Only when nothing came of all tries the name is absent.
 *
 * Addresses bear the name that was asked for. One that several names share keeps the first while that lives, so that the
 * other end of a connection does not change its name at every look-up.
 */
import { isLoopback } from "../../../schemas/wire/address.ts";
import { type AbsentDefinition, type NameDefinition, PROTOCOLS, STATUS } from "../../../schemas/wire/observe.ts";
import type { Emit } from "../host/nodeFigures.ts";
import type { ProbeAnswer, ProbeTick } from "../probe/ProbeTick.ts";
import { codeName, readDnsMessage, typeName } from "./dnsMessage.ts";

export const DNS_PROTOCOL = PROTOCOLS.indexOf("dns");
const NXDOMAIN = 3;
/** as Coroot's agent has it by default */
const MOST_DOMAINS = 50;
const MOST_ADDRESSES = 4_096;
const MOST_TRIES = 256;
const MOST_RESOLVED = 512;
const MOST_ABSENT = 256;
const TRIES_MS = 10_000;
const SEARCH_LIST_MS = 60_000;
const LEAST_LIFE_MS = 60_000;
const LONGEST_LIFE_MS = 3_600_000;
export const OTHER = "~other";

export interface LookupOwners {
  /** the instance and process that sent on a client's edge; null: not known */
  readonly clientOf: (edge: number) => { readonly instance: number; readonly tgid: number } | null;
  /** text of a process's resolv.conf, null where it cannot be read */
  readonly resolvConf: (tgid: number) => string | null;
}

/** Requests of one type and outcome. */
interface Cell {
  exact: number;
  named: number;
  other: number;
}

interface Try {
  readonly base: string;
  readonly type: number;
  readonly untilMs: number;
}

interface Asked {
  readonly cells: Map<number, Cell>;
  /** requests by domain and cell */
  readonly domains: Map<string, Map<number, number>>;
  /** by process, name and type */
  readonly tries: Map<string, Try>;
  /** names that it has got an answer for */
  readonly resolved: Set<string>;
  readonly absent: Map<string, { readonly name: string; readonly type: number; count: number }>;
  search: readonly string[];
  searchUntilMs: number;
}

export interface LookupLosses {
  tries: number;
  absent: number;
  addresses: number;
}

const cellKey = (status: number, detail: number): number => status * 65_536 + detail;

/** The domains of the last `search` or `domain` line (resolv.conf(5)). */
export const parseSearchList = (text: string): readonly string[] => {
  let list: readonly string[] = [];
  for (const line of text.split("\n")) {
    const [word, ...rest] = line.trim().split(/\s+/);
    if (word === "search" || word === "domain")
      list = rest.map((one) => one.toLowerCase().replace(/\.$/, "")).filter((one) => one !== "");
  }
  return list.toSorted((a, b) => b.length - a.length);
};

export class Lookups {
  readonly losses: LookupLosses = { tries: 0, absent: 0, addresses: 0 };
  readonly addresses = new Map<string, { readonly name: string; untilMs: number }>();
  private readonly all = new Map<number, Asked>();
  private fresh: NameDefinition[] = [];
  private readonly owners: LookupOwners;

  constructor(owners: LookupOwners) {
    this.owners = owners;
  }

  absorb(tick: ProbeTick, nowMs: number): void {
    for (const answer of tick.answers) {
      const owner = this.owners.clientOf(answer.edge);
      if (owner !== null) this.takeAnswer(this.of(owner.instance), owner.tgid, answer, nowMs);
    }
    // what was counted up to the last tick has been told by now, if ever
    for (const asked of this.all.values())
      for (const cell of asked.cells.values()) cell.other = Math.max(cell.other, cell.exact - cell.named);
    const { l7 } = tick;
    for (let i = 0; i < l7.rows; i++) {
      if (l7.protocol[i] !== DNS_PROTOCOL) continue;
      const owner = this.owners.clientOf(l7.edge[i] ?? 0);
      if (owner === null) continue;
      cellOf(this.of(owner.instance), cellKey(l7.status[i] ?? 0, l7.detail[i] ?? 0)).exact += l7.count[i] ?? 0;
    }
  }

  /** New names of addresses, and names that do not exist, of the instances that `shown` accepts; the others wait. */
  flush(
    nowMs: number,
    shown: (instance: number) => boolean,
  ): { readonly names: readonly NameDefinition[]; readonly absent: readonly AbsentDefinition[] } {
    const absent: AbsentDefinition[] = [];
    for (const [instance, asked] of this.all) {
      for (const [key, one] of asked.tries)
        if (one.untilMs <= nowMs) {
          asked.tries.delete(key);
          this.noteAbsent(asked, one.base, one.type);
        }
      if (asked.absent.size === 0 || !shown(instance)) continue;
      for (const { name, type, count } of asked.absent.values())
        absent.push({ instance, name, type: typeName(type), count, known: asked.resolved.has(name) });
      asked.absent.clear();
    }
    const names = this.fresh;
    this.fresh = [];
    return { names, absent };
  }

  forget(alive: (instance: number) => boolean): void {
    for (const instance of this.all.keys()) if (!alive(instance)) this.all.delete(instance);
  }

  /** `container_dns_requests_total` of one instance; over all domains it is exact. */
  put(put: Emit, base: Readonly<Record<string, string>>, instance: number): void {
    const asked = this.all.get(instance);
    if (asked === undefined) return;
    const emit = (domain: string, key: number, count: number): void => {
      if (count === 0) return;
      const status = Math.floor(key / 65_536) === STATUS.unanswered ? "unanswered" : codeName((key >> 8) & 255);
      put("container_dns_requests_total", { ...base, request_type: typeName(key & 255), domain, status }, count);
    };
    for (const [domain, counts] of asked.domains) for (const [key, count] of counts) emit(domain, key, count);
    for (const [key, cell] of asked.cells) emit(OTHER, key, cell.other);
  }

  private of(instance: number): Asked {
    let asked = this.all.get(instance);
    if (asked === undefined) {
      asked = {
        cells: new Map(),
        domains: new Map(),
        tries: new Map(),
        resolved: new Set(),
        absent: new Map(),
        search: [],
        searchUntilMs: Number.NEGATIVE_INFINITY,
      };
      this.all.set(instance, asked);
    }
    return asked;
  }

  private takeAnswer(asked: Asked, tgid: number, answer: ProbeAnswer, nowMs: number): void {
    const message = readDnsMessage(answer.message);
    if (message === null) return;
    const key = cellKey(answer.status, (answer.type < 256 ? answer.type : 0) + 256 * answer.rcode);
    let domain = message.name;
    if (answer.status === STATUS.rejected && answer.rcode === NXDOMAIN)
      domain = this.takeAbsent(asked, tgid, message.name, answer.type, nowMs);
    else if (answer.status === STATUS.ok) {
      this.takeResolved(asked, tgid, message.name);
      for (const { address, ttl } of message.addresses) this.nameAddress(address, message.name, ttl, nowMs);
    }
    const counts = countsOf(asked, domain);
    counts.set(key, (counts.get(key) ?? 0) + 1);
    cellOf(asked, key).named++;
  }

  /** A try of a search list, or a name that is absent. Answers the domain that it is counted under. */
  private takeAbsent(asked: Asked, tgid: number, name: string, type: number, nowMs: number): string {
    if (nowMs >= asked.searchUntilMs) {
      const text = this.owners.resolvConf(tgid);
      if (text !== null) asked.search = parseSearchList(text);
      asked.searchUntilMs = nowMs + SEARCH_LIST_MS;
    }
    const suffix = asked.search.find((one) => name.endsWith(`.${one}`));
    if (suffix === undefined) {
      asked.tries.delete(tryKey(tgid, name, type));
      this.noteAbsent(asked, name, type);
      return name;
    }
    const base = name.slice(0, -suffix.length - 1);
    const key = tryKey(tgid, base, type);
    if (!asked.tries.has(key) && asked.tries.size >= MOST_TRIES) this.losses.tries++;
    else asked.tries.set(key, { base, type, untilMs: nowMs + TRIES_MS });
    return `${base}.search_path_suffix`;
  }

  private takeResolved(asked: Asked, tgid: number, name: string): void {
    asked.resolved.delete(name);
    asked.resolved.add(name);
    if (asked.resolved.size > MOST_RESOLVED) dropFirst(asked.resolved);
    if (asked.tries.size === 0) return;
    const suffix = asked.search.find((one) => name.endsWith(`.${one}`));
    const bases = suffix === undefined ? [name] : [name, name.slice(0, -suffix.length - 1)];
    // an answer for one kind of address is one for the name
    for (const [key, one] of asked.tries)
      if (bases.includes(one.base) && key.startsWith(`${tgid}|`)) asked.tries.delete(key);
  }

  private noteAbsent(asked: Asked, name: string, type: number): void {
    const key = `${name}|${type}`;
    const known = asked.absent.get(key);
    if (known !== undefined) known.count++;
    else if (asked.absent.size >= MOST_ABSENT) this.losses.absent++;
    else asked.absent.set(key, { name, type, count: 1 });
  }

  private nameAddress(address: string, name: string, ttl: number, nowMs: number): void {
    if (isLoopback(address) || address === "0.0.0.0" || address === "::" || name === ".") return;
    const untilMs = nowMs + Math.min(LONGEST_LIFE_MS, Math.max(LEAST_LIFE_MS, ttl * 1000));
    const known = this.addresses.get(address);
    if (known !== undefined) {
      if (known.name !== name && known.untilMs > nowMs) return;
      this.addresses.delete(address);
      if (known.name === name) {
        this.addresses.set(address, { name, untilMs: Math.max(known.untilMs, untilMs) });
        return;
      }
    }
    this.addresses.set(address, { name, untilMs });
    this.fresh.push({ address, name });
    if (this.addresses.size <= MOST_ADDRESSES) return;
    dropFirst(this.addresses);
    this.losses.addresses++;
  }
}

const tryKey = (tgid: number, base: string, type: number): string => `${tgid}|${base}|${type}`;

const dropFirst = (of: Set<string> | Map<string, unknown>): void => {
  const [first] = of.keys();
  if (first !== undefined) of.delete(first);
};

const cellOf = (asked: Asked, key: number): Cell => {
  let cell = asked.cells.get(key);
  if (cell === undefined) {
    cell = { exact: 0, named: 0, other: 0 };
    asked.cells.set(key, cell);
  }
  return cell;
};

const countsOf = (asked: Asked, domain: string): Map<number, number> => {
  const known = asked.domains.get(domain);
  if (known !== undefined) return known;
  if (asked.domains.size >= MOST_DOMAINS && domain !== OTHER) return countsOf(asked, OTHER);
  const counts = new Map<number, number>();
  asked.domains.set(domain, counts);
  return counts;
};
