/**
 * The service map builder: one owner of "which address was whose, when" (Leases.ts), and of who calls whom. It starts the
 * actor of each service that is discovered, tells agent sessions who the other end of each of their edges is
 * (resolve.ts), keeps the calls between services with their first and last evidence, and writes them down, so that the
 * map of any moment can be drawn again.
 *
 * There is one in a deployment. Its state is derived: it keeps only whom to ask, and after a move or a failure sessions
 * tell everything again. Work follows the change: only edges that a lease or a name touches are looked at again. Every
 * replica has a copy of the calls on board "topology", fed by what changed.
 */
import { send, type ActorEffect, type Behavior } from "../../runtime/actor/Behavior.ts";
import type { ServiceId } from "../../schemas/service.ts";
import { isLoopback } from "../../schemas/wire/address.ts";
import { ROLE, type ServiceKind } from "../../schemas/wire/observe.ts";
import { INCIDENT_DESK, servicePath, type ServiceArgument, type SloSettings } from "../service/messages.ts";
import { Calls } from "./Calls.ts";
import { grouped, type Grouped, type Grouping } from "./grouping.ts";
import { Leases } from "./Leases.ts";
import type { CallsTold, ConnectionEnd, Learn, Listen, OpenEdge, Resolved, TopologyMessage } from "./messages.ts";
import { Names } from "./Names.ts";
import { dialled, externalOf, peerOf, scopeOf, type EdgeRecord } from "./resolve.ts";

const MAX_ENDS = 20_000;
const MAX_EXTERNALS = 1_000;
const MAX_EDGES = 500_000;
/** A new address is called outside only after this long: who listens there may be told a moment later. */
const DECIDE_AFTER_MS = 10_000;
const PRUNE_EVERY_MS = 30_000;

export interface TopologyArgument {
  readonly slo: SloSettings;
  readonly grouping: Grouping;
}

interface AgentState {
  epoch: number;
  window: number;
  seenAt: number;
  readonly edges: Map<number, EdgeRecord>;
}

interface TopologyState {
  readonly slo: SloSettings;
  readonly groups: Grouped;
  readonly leases: Leases;
  readonly names: Names;
  readonly agents: Map<string, AgentState>;
  /** edges by what was dialled, and by the address of the other end */
  readonly byKey: Map<string, Set<EdgeRecord>>;
  readonly byAddress: Map<string, Set<EdgeRecord>>;
  readonly ends: Map<string, { client: EdgeRecord | null; server: EdgeRecord | null }>;
  readonly services: Set<ServiceId>;
  readonly calls: Calls;
  /** edges whose other end may yet turn out to be known */
  readonly undecided: Set<EdgeRecord>;
  edges: number;
  externals: number;
  foldedExternals: number;
  droppedEdges: number;
  prunedAt: number;
}

/** Agents that it heard of: whom to ask after a move. */
type Snapshot = readonly string[];

export const topologyActor: Behavior<TopologyState, TopologyMessage, TopologyArgument> = {
  kind: "topology",
  mailbox: 10_000,
  messages: {
    learn: "refuse",
    forget: "refuse",
    retired: "refuse",
    missing: "refuse",
    "calls-wanted": "refuse",
    "listens-wanted": "refuse",
    tick: "refuse",
  },
  ticks: true,
  turn: "first",
  initial: (_path, { slo, grouping }, now, snapshot) => [
    {
      slo,
      groups: grouped(grouping),
      leases: new Leases(),
      names: new Names(),
      agents: new Map(),
      byKey: new Map(),
      byAddress: new Map(),
      ends: new Map(),
      services: new Set(),
      calls: new Calls(),
      undecided: new Set(),
      edges: 0,
      externals: 0,
      foldedExternals: 0,
      droppedEdges: 0,
      prunedAt: now,
    },
    ((snapshot ?? []) as Snapshot).map((agent) => send(`agent/${agent}`, { type: "relearn" })),
  ],
  step: (state, message, now) => {
    switch (message.type) {
      case "learn":
        return [state, learn(state, message, now)];
      case "retired":
        if (state.services.delete(message.service) && message.service.includes("/External/")) state.externals--;
        return [state, []];
      case "missing":
        // Its part has moved and knows nothing of it, or somebody stopped it: whoever is observed is started again.
        state.services.delete(message.service);
        return [state, discover(state, message.service, message.kind, message.serviceType)];
      case "calls-wanted": {
        const calls: CallsTold = { type: "calls", calls: state.calls.pairs() };
        return [state, [send(INCIDENT_DESK, calls)]];
      }
      case "listens-wanted":
        return [state, [{ kind: "reply", value: listensOf(state, message.services) }]];
      case "forget":
        return [state, forget(state, message.agent, message.lost, now)];
      case "tick":
        return [state, everySecond(state, now)];
    }
  },
  owned: {
    version: 1,
    migrate: (version) => {
      throw new Error(`the topology's snapshot is of version ${version}, expected 1`);
    },
  },
  inspect: (state) => ({
    services: state.services.size,
    leases: state.leases.size,
    addresses: state.leases.addresses,
    someLeases: [...take(state.leases.entries(), 200)].map(([at, lease]) => ({ at, ...lease })),
    agents: Object.fromEntries([...state.agents].map(([agent, { edges }]) => [agent, edges.size])),
    calls: state.calls.view(500),
    connectionEnds: state.ends.size,
    names: state.names.dns.size,
    virtualAddresses: state.names.vips.size,
    translations: state.names.nat.size,
    undecided: state.undecided.size,
    externals: state.externals,
    foldedExternals: state.foldedExternals,
    dropped: {
      edges: state.droppedEdges,
      leases: state.leases.dropped,
      names: state.names.dns.dropped + state.names.nat.dropped + state.names.vips.dropped,
      calls: state.calls.dropped,
    },
  }),
};

const MOST_LISTENS = 10_000;

/** Addresses of the machine itself, which nobody else can reach, are left out. */
const listensOf = ({ leases }: TopologyState, services: readonly ServiceId[]): Listen[] => {
  const wanted = new Set(services);
  const found = new Map<string, Listen>();
  for (const [key, { service, to }] of leases.entries()) {
    const at = key.lastIndexOf("|");
    const port = Number(key.slice(at + 1));
    const address = key.slice(0, at);
    if (to !== null || !wanted.has(service) || address.includes("#") || !(port > 0)) continue;
    found.set(key, { service, address, port });
    if (found.size >= MOST_LISTENS) break;
  }
  return [...found.values()];
};

function* take<T>(all: Iterable<T>, most: number): Iterable<T> {
  let n = 0;
  for (const one of all) {
    if (n++ >= most) return;
    yield one;
  }
}

const learn = (state: TopologyState, message: Learn, now: number): ActorEffect[] => {
  const effects: ActorEffect[] = [];
  let agent = state.agents.get(message.agent);
  if (agent === undefined) {
    agent = { epoch: message.epoch, window: -1, seenAt: now, edges: new Map() };
    state.agents.set(message.agent, agent);
    effects.push({ kind: "snapshot", value: [...state.agents.keys()] satisfies Snapshot });
  }
  agent.seenAt = now;
  for (const { service, kind, serviceType } of message.instances)
    effects.push(...discover(state, service, kind, serviceType));
  const touched = new Set<EdgeRecord>();
  for (const edge of message.edges) {
    const record = recorded(state, agent, message, edge);
    if (record !== null) touched.add(record);
  }
  for (const id of message.gone) {
    const edge = agent.edges.get(id);
    if (edge !== undefined) drop(state, agent, edge);
  }
  for (const id of message.active) {
    const edge = agent.edges.get(id);
    if (edge === undefined || edge.seen >= message.at) continue;
    edge.seen = message.at;
    touched.add(edge);
  }
  // A list that comes late must not undo a newer one of the same life.
  const newer = agent.epoch !== message.epoch || message.window >= agent.window;
  if (newer) {
    agent.epoch = message.epoch;
    agent.window = message.window;
    if (message.listens !== null) lease(state, message, touched);
  }
  tellNames(state, message, touched);
  for (const end of message.ends) pair(state, agent, message, end, touched);
  return [...effects, ...settle(state, touched, now)];
};

/** Resolves edges anew and tells their sessions what is different. */
const settle = (state: TopologyState, edges: Iterable<EdgeRecord>, now: number): ActorEffect[] => {
  const effects: ActorEffect[] = [];
  const news = new Map<string, { id: number; peer: ServiceId | null }[]>();
  for (const edge of edges) {
    const peer = resolved(state, edge, now, effects);
    if (edge.role === ROLE.client && peer !== null) effects.push(...state.calls.seen(edge.service, peer, edge.seen));
    if (edge.told && peer === edge.peerService) continue;
    edge.peerService = peer;
    edge.told = true;
    const list = news.get(edge.agent);
    if (list === undefined) news.set(edge.agent, [{ id: edge.id, peer }]);
    else list.push({ id: edge.id, peer });
  }
  for (const [agent, told] of news) {
    const answer: Resolved = { type: "resolved", edges: told };
    effects.push(send(`agent/${agent}`, answer));
  }
  return effects;
};

const resolved = (state: TopologyState, edge: EdgeRecord, now: number, effects: ActorEffect[]): ServiceId | null => {
  const known = peerOf(state, edge);
  if (known !== undefined) {
    state.undecided.delete(edge);
    return known !== null && known.includes("/External/") ? external(state, known, effects) : known;
  }
  const id = externalOf(state, edge);
  if (now - edge.since < DECIDE_AFTER_MS && !state.services.has(id)) {
    state.undecided.add(edge);
    return null;
  }
  state.undecided.delete(edge);
  return external(state, id, effects);
};

/** Something that nobody observes. Beyond a bound they are folded into one, and counted. */
const external = (state: TopologyState, id: ServiceId, effects: ActorEffect[]): ServiceId => {
  if (state.services.has(id)) return id;
  let named = id;
  if (state.externals >= MAX_EXTERNALS) {
    state.foldedExternals++;
    named = `${id.slice(0, id.lastIndexOf("/"))}/others` as ServiceId;
  } else state.externals++;
  effects.push(...discover(state, named, "External", ""));
  return named;
};

const discover = (state: TopologyState, service: ServiceId, kind: ServiceKind, serviceType: string): ActorEffect[] => {
  if (state.services.has(service)) return [];
  state.services.add(service);
  const category = state.groups.category(service);
  const argument: ServiceArgument = { id: service, kind, serviceType, category, slo: state.slo };
  return [{ kind: "spawn", path: servicePath(service), behavior: "service", argument }];
};

/** The agent's listening sockets replace those it had. */
const lease = (state: TopologyState, message: Learn, touched: Set<EdgeRecord>): void => {
  const held = new Set<string>();
  const changed: string[] = [];
  const from = message.at - (message.spanMs ?? 0);
  for (const { address, port, netns, service } of message.listens ?? []) {
    const key = `${scopeOf(message.node, netns, address)}|${port}`;
    held.add(key);
    if (state.leases.hold(key, isLoopback(address) ? null : address, service, message.agent, from)) changed.push(key);
  }
  changed.push(...state.leases.release(message.agent, held, message.at));
  for (const key of changed) touch(state, key, touched);
};

const touch = (state: TopologyState, key: string, touched: Set<EdgeRecord>): void => {
  for (const edge of state.byKey.get(key) ?? []) touched.add(edge);
  const address = key.slice(0, key.lastIndexOf("|"));
  for (const edge of state.byAddress.get(address) ?? []) touched.add(edge);
};

const tellNames = ({ names, byAddress }: TopologyState, message: Learn, touched: Set<EdgeRecord>): void => {
  const { node, at } = message;
  const touchAddress = (address: string): void => {
    for (const edge of byAddress.get(address) ?? []) touched.add(edge);
  };
  for (const { address, name } of message.names) {
    const here = names.dns.put(`${node}|${address}`, name, at);
    if (names.dns.put(address, name, at) || here) touchAddress(address);
  }
  for (const { address, port, actualAddress, actualPort } of message.nat)
    if (names.nat.put(`${node}|${address}:${port}`, `${actualAddress}:${actualPort}`, at)) touchAddress(address);
  for (const { address, port, name, backends } of message.vips)
    if (names.vips.put(`${address}:${port}`, { name, backends }, at)) touchAddress(address);
};

const recorded = (
  state: TopologyState,
  agent: AgentState,
  { agent: name, node, cluster, at, spanMs }: Learn,
  edge: OpenEdge,
): EdgeRecord | null => {
  const known = agent.edges.get(edge.id);
  if (known !== undefined) {
    known.seen = Math.max(known.seen, at);
    known.told = false;
    return known;
  }
  if (state.edges >= MAX_EDGES) {
    state.droppedEdges++;
    return null;
  }
  const made: EdgeRecord = {
    ...edge,
    agent: name,
    node,
    cluster,
    since: at + (spanMs ?? 0),
    seen: at,
    peerService: null,
    told: false,
    paired: new Set(),
  };
  agent.edges.set(edge.id, made);
  state.edges++;
  index(state.byKey, dialled(made), made);
  index(state.byAddress, made.peer, made);
  return made;
};

const index = (by: Map<string, Set<EdgeRecord>>, key: string, edge: EdgeRecord): void => {
  const edges = by.get(key);
  if (edges === undefined) by.set(key, new Set([edge]));
  else edges.add(edge);
};

const unindex = (by: Map<string, Set<EdgeRecord>>, key: string, edge: EdgeRecord): void => {
  const edges = by.get(key);
  if (edges?.delete(edge) === true && edges.size === 0) by.delete(key);
};

const drop = (state: TopologyState, agent: AgentState, edge: EdgeRecord): void => {
  agent.edges.delete(edge.id);
  state.edges--;
  state.undecided.delete(edge);
  unindex(state.byKey, dialled(edge), edge);
  unindex(state.byAddress, edge.peer, edge);
};

/** Both ends of one connection belong together. */
const pair = (
  state: TopologyState,
  agent: AgentState,
  message: Learn,
  end: ConnectionEnd,
  touched: Set<EdgeRecord>,
): void => {
  const edge = agent.edges.get(end.edge);
  if (edge === undefined) return;
  edge.seen = Math.max(edge.seen, message.at);
  // Where a client comes from is an address that it has, although nobody listens there.
  if (edge.role === ROLE.client && !isLoopback(end.address)) {
    const key = `${end.address}|client:${edge.service}`;
    if (state.leases.hold(key, end.address, edge.service, `${message.agent}:client`, message.at))
      touch(state, key, touched);
  }
  const key = `${scopeOf(edge.node, edge.netns, end.address)}|${end.port}`;
  const seen = state.ends.get(key) ?? { client: null, server: null };
  state.ends.delete(key);
  if (edge.role === ROLE.client) seen.client = edge;
  else seen.server = edge;
  state.ends.set(key, seen);
  if (state.ends.size > MAX_ENDS) {
    const [oldest] = state.ends.keys();
    if (oldest !== undefined) state.ends.delete(oldest);
  }
  const { client, server } = seen;
  if (client === null || server === null) return;
  client.paired.add(server.service);
  server.paired.add(client.service);
  touched.add(client);
  touched.add(server);
};

/** A session's dictionary starts anew, or the agent is gone; then what it held ends, and its callers are told. */
const forget = (state: TopologyState, name: string, lost: boolean, now: number): ActorEffect[] => {
  const agent = state.agents.get(name);
  if (agent === undefined) return [];
  for (const edge of agent.edges.values()) drop(state, agent, edge);
  if (!lost) return [];
  state.agents.delete(name);
  const touched = new Set<EdgeRecord>();
  for (const holder of [name, `${name}:client`])
    for (const key of state.leases.release(holder, new Set(), now)) touch(state, key, touched);
  return [...settle(state, touched, now), { kind: "snapshot", value: [...state.agents.keys()] satisfies Snapshot }];
};

const everySecond = (state: TopologyState, now: number): ActorEffect[] => {
  const effects = settle(state, state.undecided, now);
  if (now - state.prunedAt < PRUNE_EVERY_MS) return effects;
  state.prunedAt = now;
  state.leases.prune(now);
  return [...effects, ...state.calls.expire(now)];
};
