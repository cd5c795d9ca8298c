/**
 * Which address was whose, when. A lease is what one agent saw: a service listens at an address and port from one moment
 * to another, by server time of the evidence. Lookups depend on the leases alone, never on the order in which agents told
 * of them. Owned by the topology actor; ended leases are kept for as long as somebody may still ask, all bounded.
 */
import type { ServiceId } from "../../schemas/service.ts";

/** A dead service keeps its callers for this long. */
export const LEASE_MEMORY_MS = 10 * 60_000;
/** Agents' clocks are mapped to the server's within about this. */
const SKEW_MS = 2_000;
const MOST_LEASES = 200_000;

export interface Lease {
  readonly service: ServiceId;
  readonly agent: string;
  readonly from: number;
  /** null: it holds */
  to: number | null;
}

export class Leases {
  /** by scope, address and port */
  readonly #byKey = new Map<string, Lease[]>();
  /** keys at an address */
  readonly #byAddress = new Map<string, Set<string>>();
  /** keys that an agent holds now */
  readonly #byAgent = new Map<string, Set<string>>();
  #size = 0;
  dropped = 0;

  get size(): number {
    return this.#size;
  }
  get addresses(): number {
    return this.#byAddress.size;
  }

  /** False: nothing is new. */
  hold(key: string, address: string | null, service: ServiceId, agent: string, at: number): boolean {
    const all = this.#byKey.get(key) ?? [];
    const open = all.find((lease) => lease.agent === agent && lease.to === null);
    if (open?.service === service) return false;
    if (open !== undefined) open.to = at;
    if (this.#size >= MOST_LEASES) {
      this.dropped++;
      return false;
    }
    all.push({ service, agent, from: at, to: null });
    this.#size++;
    this.#byKey.set(key, all);
    if (address !== null) add(this.#byAddress, address, key);
    add(this.#byAgent, agent, key);
    return true;
  }

  /** Ends what the agent holds, except these keys; the keys that ended. */
  release(agent: string, except: ReadonlySet<string>, at: number): string[] {
    const held = this.#byAgent.get(agent);
    if (held === undefined) return [];
    const ended: string[] = [];
    for (const key of held) {
      if (except.has(key)) continue;
      held.delete(key);
      for (const lease of this.#byKey.get(key) ?? [])
        if (lease.agent === agent && lease.to === null) lease.to = Math.max(at, lease.from);
      ended.push(key);
    }
    return ended;
  }

  /** Whose it was at that moment; the one that took it last when agents disagree. */
  holder(key: string, at: number): ServiceId | null {
    return best(this.#byKey.get(key), (lease) => lease.from <= at + SKEW_MS && (lease.to === null || lease.to > at));
  }

  /** Who had it until less than ten minutes before. */
  former(key: string, at: number): ServiceId | null {
    return best(
      this.#byKey.get(key),
      (lease) => lease.to !== null && lease.from <= at + SKEW_MS && at - lease.to < LEASE_MEMORY_MS,
    );
  }

  /** Services that listen at that address at that moment. */
  at(address: string, at: number): ReadonlySet<ServiceId> {
    const out = new Set<ServiceId>();
    for (const key of this.#byAddress.get(address) ?? []) {
      const holder = this.holder(key, at);
      if (holder !== null) out.add(holder);
    }
    return out;
  }

  /** Forgets leases that ended long ago. */
  prune(now: number): void {
    for (const [key, all] of this.#byKey) {
      const kept = all.filter((lease) => lease.to === null || now - lease.to < LEASE_MEMORY_MS);
      if (kept.length === all.length) continue;
      this.#size -= all.length - kept.length;
      if (kept.length > 0) this.#byKey.set(key, kept);
      else this.#byKey.delete(key);
    }
    for (const [address, keys] of this.#byAddress) {
      for (const key of keys) if (!this.#byKey.has(key)) keys.delete(key);
      if (keys.size === 0) this.#byAddress.delete(address);
    }
  }

  *entries(): Iterable<readonly [key: string, lease: Lease]> {
    for (const [key, all] of this.#byKey) for (const lease of all) yield [key, lease];
  }
}

const add = (index: Map<string, Set<string>>, name: string, key: string): void => {
  const keys = index.get(name);
  if (keys === undefined) index.set(name, new Set([key]));
  else keys.add(key);
};

const best = (all: readonly Lease[] | undefined, holds: (lease: Lease) => boolean): ServiceId | null => {
  let found: Lease | null = null;
  for (const lease of all ?? []) {
    if (!holds(lease)) continue;
    if (found === null || lease.from > found.from || (lease.from === found.from && lease.agent > found.agent))
      found = lease;
  }
  return found?.service ?? null;
};
