/**
 * The service map builder: one owner of "which address was whose, when". It spawns the actor of each service that is
 * discovered, and tells agent sessions who the other end of each of their edges is.
 *
 * Who an address is: a listening socket there (loopback only within its network namespace), both ends of one connection
 * seen with the same client address and port, a lease that ended less than ten minutes ago (a dead service keeps its
 * callers), the only service at that address, else something outside. Its state is derived: agents tell it again after a
 * restart. It stops with the server.
 */
import { send, type ActorEffect, type Behavior } from "../../runtime/actor/Behavior.ts";
import { serviceId, type ServiceId } from "../../schemas/service.ts";
import { isLoopback } from "../../schemas/wire/address.ts";
import { ROLE, type ServiceKind } from "../../schemas/wire/observe.ts";
import { INCIDENT_DESK, servicePath, type ServiceArgument, type SloSettings } from "../service/messages.ts";
import type { Calls, ConnectionEnd, GraphEdge, Learn, OpenEdge, Resolved, TopologyMessage } from "./messages.ts";

const LEASE_MEMORY_MS = 10 * 60_000;
const MAX_ENDS = 20_000;
const MAX_EXTERNALS = 1_000;
/** A new address is called outside only after this long: who listens there may be told a moment later. */
const DECIDE_AFTER_MS = 10_000;

interface Lease {
  readonly service: ServiceId;
  readonly agent: string;
  readonly from: number;
  to: number | null;
}

interface EdgeRecord extends OpenEdge {
  readonly agent: string;
  readonly node: string;
  readonly cluster: string;
  readonly since: number;
  peerService: ServiceId | null;
  told: boolean;
  /** other ends of its connections, as far as they were seen */
  readonly paired: Set<ServiceId>;
}

interface TopologyState {
  readonly slo: SloSettings;
  /** by scope, address and port */
  readonly leases: Map<string, Lease>;
  /** services at an address */
  readonly owners: Map<string, Set<ServiceId>>;
  readonly edges: Map<string, Map<number, EdgeRecord>>;
  readonly ends: Map<string, { client: EdgeRecord | null; server: EdgeRecord | null }>;
  readonly services: Set<ServiceId>;
  readonly pairs: Map<string, readonly [from: ServiceId, to: ServiceId]>;
  /** edges whose other end may yet turn out to be known */
  readonly undecided: Set<EdgeRecord>;
  externals: number;
  foldedExternals: number;
}

export const topologyActor: Behavior<TopologyState, TopologyMessage, { readonly slo: SloSettings }> = {
  kind: "topology",
  mailbox: 10_000,
  messages: {
    learn: "refuse",
    forget: "refuse",
    retired: "refuse",
    "calls-wanted": "refuse",
    tick: "refuse",
  },
  ticks: true,
  initial: (_path, { slo }) => [
    {
      slo,
      leases: new Map(),
      owners: new Map(),
      edges: new Map(),
      ends: new Map(),
      services: new Set(),
      pairs: new Map(),
      undecided: new Set(),
      externals: 0,
      foldedExternals: 0,
    },
    [],
  ],
  step: (state, message, now) => {
    switch (message.type) {
      case "learn":
        return [state, learn(state, message, now)];
      case "retired":
        if (state.services.delete(message.service) && message.service.includes("/External/")) state.externals--;
        for (const owners of state.owners.values()) owners.delete(message.service);
        return [state, []];
      case "calls-wanted": {
        const message: Calls = { type: "calls", calls: [...state.pairs.values()] };
        return [state, [send(INCIDENT_DESK, message)]];
      }
      case "tick":
        return [state, settle(state, [...state.undecided], now)];
      case "forget":
        for (const edge of state.edges.get(message.agent)?.values() ?? []) state.undecided.delete(edge);
        state.edges.delete(message.agent);
        if (message.lost)
          for (const lease of state.leases.values())
            if (lease.agent === message.agent && lease.to === null) lease.to = now;
        return [state, []];
    }
  },
  inspect: (state) => ({
    services: state.services.size,
    leases: [...state.leases].slice(0, 500).map(([key, lease]) => ({ key, ...lease })),
    edges: Object.fromEntries([...state.edges].map(([agent, edges]) => [agent, edges.size])),
    calls: [...state.pairs.keys()].slice(0, 500),
    connectionEnds: state.ends.size,
    externals: state.externals,
    foldedExternals: state.foldedExternals,
  }),
};

const scopeOf = (node: string, netns: number, address: string): string =>
  isLoopback(address) ? `${node}#${netns}|${address}` : address;

const learn = (state: TopologyState, message: Learn, now: number): ActorEffect[] => {
  const effects: ActorEffect[] = [];
  for (const { service, kind, serviceType } of message.instances)
    effects.push(...discover(state, service, kind, serviceType));
  let changed = false;
  if (message.listens !== null) changed = lease(state, message, now);
  const fresh = message.edges.map((edge) => record(state, message, edge, now));
  for (const end of message.ends) changed = pair(state, message, end) || changed;
  const touched = changed ? [...state.edges.values()].flatMap((edges) => [...edges.values()]) : fresh;
  return [...effects, ...settle(state, touched, now)];
};

/** Resolves edges anew and tells their sessions what is different. */
const settle = (state: TopologyState, edges: readonly EdgeRecord[], now: number): ActorEffect[] => {
  const effects: ActorEffect[] = [];
  const news = new Map<string, { id: number; peer: ServiceId | null }[]>();
  for (const edge of edges) {
    const peer = resolve(state, edge, now, effects);
    if (edge.told && peer === edge.peerService) continue;
    edge.peerService = peer;
    edge.told = true;
    const list = news.get(edge.agent) ?? [];
    list.push({ id: edge.id, peer });
    news.set(edge.agent, list);
    if (edge.role === ROLE.client && peer !== null) effects.push(...called(state, edge.service, peer));
  }
  for (const [agent, told] of news) {
    const resolved: Resolved = { type: "resolved", edges: told };
    effects.push(send(`agent/${agent}`, resolved));
  }
  return effects;
};

const discover = (state: TopologyState, service: ServiceId, kind: ServiceKind, serviceType: string): ActorEffect[] => {
  if (state.services.has(service)) return [];
  state.services.add(service);
  const argument: ServiceArgument = { id: service, kind, serviceType, slo: state.slo };
  return [{ kind: "spawn", path: servicePath(service), behavior: "service", argument }];
};

const called = (state: TopologyState, from: ServiceId, to: ServiceId): ActorEffect[] => {
  const key = `${from} → ${to}`;
  if (state.pairs.has(key)) return [];
  state.pairs.set(key, [from, to]);
  const graph: GraphEdge = { type: "graph", from, to };
  return [send(INCIDENT_DESK, graph)];
};

/** The agent's listening sockets replace those it had; says whether anything changed. */
const lease = (state: TopologyState, message: Learn, now: number): boolean => {
  let changed = false;
  const held = new Set<string>();
  for (const listen of message.listens ?? []) {
    const key = `${scopeOf(message.node, listen.netns, listen.address)}|${listen.port}`;
    held.add(key);
    const current = state.leases.get(key);
    if (current?.service !== listen.service || current.to !== null) {
      state.leases.set(key, { service: listen.service, agent: message.agent, from: now, to: null });
      changed = true;
    }
    if (!isLoopback(listen.address)) own(state, listen.address, listen.service);
  }
  for (const [key, current] of state.leases) {
    if (current.agent === message.agent && current.to === null && !held.has(key)) current.to = now;
    if (current.to !== null && now - current.to > LEASE_MEMORY_MS) state.leases.delete(key);
  }
  return changed;
};

const own = (state: TopologyState, address: string, service: ServiceId): boolean => {
  const owners = state.owners.get(address) ?? new Set<ServiceId>();
  if (owners.has(service)) return false;
  owners.add(service);
  state.owners.set(address, owners);
  return true;
};

const record = (state: TopologyState, message: Learn, edge: OpenEdge, now: number): EdgeRecord => {
  const edges = state.edges.get(message.agent) ?? new Map<number, EdgeRecord>();
  state.edges.set(message.agent, edges);
  const { agent, node, cluster } = message;
  const made: EdgeRecord = {
    ...edge,
    agent,
    node,
    cluster,
    since: now,
    peerService: null,
    told: false,
    paired: new Set(),
  };
  edges.set(edge.id, made);
  return made;
};

/** Both ends of one connection belong together; says whether that taught something. */
const pair = (state: TopologyState, message: Learn, end: ConnectionEnd): boolean => {
  const edge = state.edges.get(message.agent)?.get(end.edge);
  if (edge === undefined) return false;
  let changed = false;
  if (edge.role === ROLE.client && !isLoopback(end.address)) changed = own(state, end.address, edge.service);
  const key = `${scopeOf(edge.node, edge.netns, end.address)}|${end.port}`;
  const seen = state.ends.get(key) ?? { client: null, server: null };
  state.ends.delete(key);
  if (edge.role === ROLE.client) seen.client = edge;
  else seen.server = edge;
  state.ends.set(key, seen);
  if (state.ends.size > MAX_ENDS) {
    const oldest = state.ends.keys().next();
    if (oldest.done !== true) state.ends.delete(oldest.value);
  }
  const { client, server } = seen;
  if (client === null || server === null) return changed;
  if (!client.paired.has(server.service)) {
    client.paired.add(server.service);
    changed = true;
  }
  if (!server.paired.has(client.service)) {
    server.paired.add(client.service);
    changed = true;
  }
  return changed;
};

const only = (services: ReadonlySet<ServiceId> | undefined): ServiceId | null => {
  if (services?.size !== 1) return null;
  const [service] = services;
  return service ?? null;
};

const resolve = (state: TopologyState, edge: EdgeRecord, now: number, effects: ActorEffect[]): ServiceId | null => {
  const known = edge.role === ROLE.server ? caller(state, edge) : callee(state, edge, now);
  if (known !== undefined) {
    state.undecided.delete(edge);
    return known;
  }
  const name =
    edge.role === ROLE.server
      ? "clients"
      : isLoopback(edge.peer)
        ? `localhost:${edge.port}`
        : `${edge.peer}:${edge.port}`;
  const decided = now - edge.since >= DECIDE_AFTER_MS || state.services.has(externalId(edge, name));
  if (!decided) {
    state.undecided.add(edge);
    return null;
  }
  state.undecided.delete(edge);
  return external(state, edge, name, effects);
};

/** Who a server's peer is: undefined when nobody is known there, null when it is one of several. */
const caller = (state: TopologyState, edge: EdgeRecord): ServiceId | null | undefined => {
  const paired = only(edge.paired);
  if (paired !== null) return paired;
  if (isLoopback(edge.peer) || edge.paired.size > 1) return null;
  const owners = state.owners.get(edge.peer);
  return owners === undefined ? undefined : only(owners);
};

/** Who a client has dialled; undefined when nobody is known there. */
const callee = (state: TopologyState, edge: EdgeRecord, now: number): ServiceId | undefined => {
  const listening = state.leases.get(`${scopeOf(edge.node, edge.netns, edge.peer)}|${edge.port}`);
  if (listening !== undefined && listening.to === null) return listening.service;
  const paired = only(edge.paired);
  if (paired !== null) return paired;
  if (listening !== undefined && listening.to !== null && now - listening.to < LEASE_MEMORY_MS)
    return listening.service;
  const alone = isLoopback(edge.peer) ? null : only(state.owners.get(edge.peer));
  return alone !== null && alone !== edge.service ? alone : undefined;
};

const externalId = (edge: EdgeRecord, name: string): ServiceId => serviceId(edge.cluster, "external", "External", name);

/** Something that nobody observes, named by its address. Beyond a bound they are folded into one, and counted. */
const external = (state: TopologyState, edge: EdgeRecord, name: string, effects: ActorEffect[]): ServiceId => {
  let id = externalId(edge, name);
  if (!state.services.has(id)) {
    if (state.externals >= MAX_EXTERNALS) {
      state.foldedExternals++;
      id = externalId(edge, "others");
    } else state.externals++;
    effects.push(...discover(state, id, "External", ""));
  }
  return id;
};
