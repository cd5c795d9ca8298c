/**
 * The server's side of one node agent, from frame to service: keeps the connection's dictionary, has edges resolved by
 * the topology actor, and hands each service its part of a window as one message, so a service never sees a sample.
 *
 * Spawned by the link when an agent first connects; survives its connections. Windows wait (bounded) until their new
 * edges are resolved. After 30 s without a connection the agent counts as lost and its services are told.
 */
import {
  send,
  type ActorEffect,
  type Behavior,
  type Message,
  type Reply,
  type Tick,
  type Undelivered,
} from "../../runtime/actor/Behavior.ts";
import { serviceId, type ServiceId } from "../../schemas/service.ts";
import { addressText, ADDRESS_BYTES } from "../../schemas/wire/address.ts";
import {
  ROLE,
  STATUS,
  type EdgeDefinition,
  type InstanceDefinition,
  type InstanceEvent,
  type VipDefinition,
} from "../../schemas/wire/observe.ts";
import type { DecodedObserve } from "../../schemas/wire/codec.ts";
import type { EdgeWindow, InstanceWindow, Observe, RequestWindow, ServiceEvent, Side } from "../service/messages.ts";
import { servicePath } from "../service/messages.ts";
import { grouped, type Grouped, type Grouping } from "../topology/grouping.ts";
import {
  TOPOLOGY,
  type Forget,
  type KnownInstance,
  type KnownListen,
  type Learn,
  type Missing,
  type Resolved,
} from "../topology/messages.ts";

const LOST_AFTER_MS = 30_000;
/** More than an agent keeps and sends again at once: its edges may be resolved only after all of it has come. */
const MAX_WAITING = 400;
const MISSED_EVERY_MS = 3_000;
const IN_USE_EVERY_MS = 10_000;
/** Parts of one replica are taken over one after the other: the agent comes again once for all of them. */
const REWIND_AFTER_MS = 1_500;
const rewindNow: RewindNow = { type: "rewind-now" };

export interface SessionArgument {
  readonly agent: string;
  readonly grouping: Grouping;
}

/** A connection was accepted: its dictionary starts anew. */
export interface Connected extends Message {
  readonly type: "connected";
  readonly epoch: number;
  readonly node: string;
  readonly cluster: string;
}
export interface Disconnected extends Message {
  readonly type: "disconnected";
}
/** One `observe` frame, checked; `at` is server time of the window's end. */
export interface Window extends Message {
  readonly type: "window";
  readonly at: number;
  readonly body: DecodedObserve;
}
/** Asked when its agent connects; answered with the last window that need not be sent again, or null. */
export interface Have extends Message {
  readonly type: "have";
}
/** Services moved to another replica: windows that were on their way are lost, and must be sent again. */
export interface Rewind extends Message {
  readonly type: "rewind";
}
interface RewindNow extends Message {
  readonly type: "rewind-now";
}
/** The topology started anew: it is told everything again. */
export interface Relearn extends Message {
  readonly type: "relearn";
}
export type SessionMessage =
  | Connected
  | Disconnected
  | Window
  | Resolved
  | Have
  | Rewind
  | RewindNow
  | Relearn
  | Undelivered
  | Reply
  | Tick;

/** Request of the port "agent-link": end the agent's connection, so that it comes again. */
export interface ComeAgain {
  readonly agent: string;
}

interface SessionEdge {
  readonly definition: EdgeDefinition;
  readonly service: ServiceId;
  peer: ServiceId | null | undefined;
  active: number;
}

interface SessionState {
  readonly agent: string;
  readonly groups: Grouped;
  epoch: number;
  node: string;
  cluster: string;
  connected: boolean;
  disconnectedAt: number;
  lastWindow: number;
  /** server second of window 0, so that a window's second follows from its number and not from the jitter of its end */
  base: number | null;
  readonly instances: Map<number, KnownInstance & { readonly definition: InstanceDefinition }>;
  readonly edges: Map<number, SessionEdge>;
  unresolved: number;
  /** the agent's complete list of listening sockets, as it was last told */
  listens: readonly KnownListen[] | null;
  vips: readonly VipDefinition[];
  /** newest window whose dictionary was taken */
  toldWindow: number;
  /** edges in use that the topology was not told of yet, and when it was told last */
  readonly inUse: Set<number>;
  inUseToldAt: number;
  /** services that nobody had, and when that was said */
  readonly missed: Map<ServiceId, number>;
  /** everything that the agent keeps has been sent to this session since it started or was told to rewind */
  complete: boolean;
  readonly waiting: Window[];
  /** open connections per service, side and peer, over all edges that fold into it */
  readonly active: Map<string, number>;
  readonly services: Set<ServiceId>;
  lost: boolean;
  dropped: number;
  unknownRows: number;
}

export const agentSession: Behavior<SessionState, SessionMessage, SessionArgument> = {
  kind: "agent-session",
  mailbox: 256,
  messages: {
    connected: "refuse",
    disconnected: "refuse",
    window: "refuse",
    resolved: "refuse",
    have: "refuse",
    rewind: "refuse",
    "rewind-now": "refuse",
    relearn: "refuse",
    undelivered: "refuse",
    reply: "refuse",
    tick: "refuse",
  },
  ticks: true,
  initial: (_path, { agent, grouping }, now) => [
    {
      agent,
      groups: grouped(grouping),
      epoch: 0,
      node: "",
      cluster: "default",
      connected: false,
      disconnectedAt: now,
      lastWindow: -1,
      base: null,
      instances: new Map(),
      edges: new Map(),
      unresolved: 0,
      listens: null,
      vips: [],
      toldWindow: -1,
      inUse: new Set(),
      inUseToldAt: 0,
      missed: new Map(),
      complete: false,
      waiting: [],
      active: new Map(),
      services: new Set(),
      lost: true,
      dropped: 0,
      unknownRows: 0,
    },
    [],
  ],
  step: (state, message, now) => {
    switch (message.type) {
      case "connected":
        return [state, connected(state, message)];
      case "disconnected":
        state.connected = false;
        state.disconnectedAt = now;
        return [state, []];
      case "window":
        return [state, window(state, message, now)];
      case "resolved":
        return [state, resolved(state, message)];
      case "have":
        return [state, [{ kind: "reply", value: have(state) }]];
      case "rewind":
        return [state, [{ kind: "schedule", key: "rewind", afterMs: REWIND_AFTER_MS, message: rewindNow }]];
      case "rewind-now": {
        state.complete = false;
        const request: ComeAgain = { agent: state.agent };
        return [state, state.connected ? [{ kind: "perform", port: "agent-link", request, tag: null }] : []];
      }
      case "relearn":
        return [state, [send(TOPOLOGY, everything(state, now))]];
      case "undelivered":
        return [state, missing(state, message.to, now)];
      case "reply":
        return [state, []];
      case "tick":
        return [state, lostIfSilent(state, now)];
    }
  },
  inspect: (state) => ({
    agent: state.agent,
    node: state.node,
    cluster: state.cluster,
    epoch: state.epoch,
    connected: state.connected,
    lastWindow: state.lastWindow,
    instances: [...state.instances.values()].map(({ definition, service }) => ({ ...definition, service })),
    edges: [...state.edges.values()]
      .slice(0, 500)
      .map(({ definition, service, peer }) => ({ ...definition, service, peer })),
    waiting: state.waiting.length,
    dropped: state.dropped,
    unknownRows: state.unknownRows,
  }),
};

const connected = (state: SessionState, message: Connected): ActorEffect[] => {
  // What comes next is all that the agent keeps, unless it was told what it need not send.
  if (!state.complete || state.epoch !== message.epoch) state.lastWindow = -1;
  state.epoch = message.epoch;
  state.node = message.node;
  state.cluster = message.cluster;
  state.connected = true;
  state.complete = true;
  state.base = null;
  state.lost = false;
  state.instances.clear();
  state.edges.clear();
  state.active.clear();
  state.toldWindow = -1;
  state.waiting.length = 0;
  state.unresolved = 0;
  const forget: Forget = { type: "forget", agent: state.agent, lost: false };
  return [send(TOPOLOGY, forget)];
};

const have = (state: SessionState): { epoch: number; window: number } | null =>
  state.complete && state.lastWindow >= 0 ? { epoch: state.epoch, window: state.lastWindow } : null;

/** Nobody has a service that is observed here: the topology starts it. Said once in a while, not with each window. */
const missing = (state: SessionState, path: string, now: number): ActorEffect[] => {
  for (const { service, kind, serviceType } of state.instances.values()) {
    if (servicePath(service) !== path) continue;
    if (now - (state.missed.get(service) ?? Number.NEGATIVE_INFINITY) < MISSED_EVERY_MS) return [];
    state.missed.set(service, now);
    const message: Missing = { type: "missing", service, kind, serviceType };
    return [send(TOPOLOGY, message)];
  }
  return [];
};

/** What a Learn says beside what it is about. */
const about = (state: SessionState, at: number) => ({
  type: "learn" as const,
  agent: state.agent,
  node: state.node,
  cluster: state.cluster,
  epoch: state.epoch,
  window: Math.max(0, state.toldWindow),
  at,
});

const everything = (state: SessionState, now: number): Learn => ({
  ...about(state, now),
  instances: [...state.instances.values()].map(told),
  listens: state.listens,
  edges: [...state.edges.values()].map(({ definition, service }) => ({ ...definition, service })),
  ends: [],
  active: [],
  names: [],
  nat: [],
  vips: state.vips,
});

const told = ({ instance, service, kind, serviceType }: KnownInstance): KnownInstance => ({
  instance,
  service,
  kind,
  serviceType,
});

const lostIfSilent = (state: SessionState, now: number): ActorEffect[] => {
  if (state.connected || state.lost || now - state.disconnectedAt < LOST_AFTER_MS) return [];
  state.lost = true;
  const forget: Forget = { type: "forget", agent: state.agent, lost: true };
  const effects = [...state.services].map((service) =>
    send(servicePath(service), { type: "agent-lost", agent: state.agent } as Message),
  );
  state.services.clear();
  return [send(TOPOLOGY, forget), ...effects];
};

const window = (state: SessionState, message: Window, now: number): ActorEffect[] => {
  const { body } = message;
  const effects: ActorEffect[] = [];
  const learn = define(state, body, message.at, now);
  if (learn !== null) effects.push(send(TOPOLOGY, learn));
  if (state.waiting.length >= MAX_WAITING) {
    state.waiting.shift();
    state.dropped++;
  }
  state.waiting.push(message);
  return [...effects, ...release(state)];
};

const resolved = (state: SessionState, message: Resolved): ActorEffect[] => {
  for (const { id, peer } of message.edges) {
    const edge = state.edges.get(id);
    if (edge === undefined) continue;
    if (edge.peer === undefined) state.unresolved--;
    else countActive(state, edge, 0);
    edge.peer = peer;
  }
  return release(state);
};

const release = (state: SessionState): ActorEffect[] => {
  if (state.unresolved > 0) return [];
  const effects = state.waiting.flatMap((waiting) => dispatch(state, waiting));
  state.waiting.length = 0;
  return effects;
};

/** Takes the new entries of the dictionary; what of it the topology must know, or null. */
const define = (state: SessionState, body: DecodedObserve, at: number, now: number): Learn | null => {
  const instances = body.instances.map((definition) => {
    const { namespace, kind, name } = definition;
    const grouping = state.groups.of(serviceId(state.cluster, namespace, kind, name), kind);
    const known = { instance: definition.id, ...grouping, serviceType: definition.type };
    state.instances.set(definition.id, { ...known, definition });
    return known;
  });
  const edges = body.edges.flatMap((definition) => {
    const instance = state.instances.get(definition.instance);
    if (instance === undefined) return [];
    if (!state.edges.has(definition.id)) state.unresolved++;
    state.edges.set(definition.id, { definition, service: instance.service, peer: undefined, active: 0 });
    return [{ ...definition, service: instance.service }];
  });
  const ends: { edge: number; address: string; port: number }[] = [];
  for (let i = 0; i < body.pairs.rows; i++) {
    const edge = body.pairs.edge[i] ?? 0;
    if (state.edges.has(edge))
      ends.push({ edge, address: addressText(body.pairIps, i * ADDRESS_BYTES), port: body.pairs.port[i] ?? 0 });
  }
  const listens =
    body.listens === null
      ? null
      : body.listens.flatMap((listen) => {
          const service = state.instances.get(listen.instance)?.service;
          return service === undefined ? [] : [{ ...listen, service }];
        });
  if (listens !== null) state.listens = listens;
  if (body.vips.length > 0) state.vips = body.vips;
  state.toldWindow = Math.max(state.toldWindow, body.window);
  const active = inUse(state, body, now);
  const { names, nat, vips } = body;
  const nothing = [instances, edges, ends, active, names, nat, vips].every((list) => list.length === 0);
  if (nothing && listens === null) return null;
  return { ...about(state, at), window: body.window, instances, listens, edges, ends, active, names, nat, vips };
};

/** Edges in use, every ten seconds: what the map says must rest on evidence that is not older. */
const inUse = (state: SessionState, body: DecodedObserve, now: number): readonly number[] => {
  const { tcp, l7 } = body;
  for (let i = 0; i < tcp.rows; i++)
    if ((tcp.active[i] ?? 0) + (tcp.opens[i] ?? 0) + (tcp.failed[i] ?? 0) > 0) state.inUse.add(tcp.edge[i] ?? 0);
  for (let i = 0; i < l7.rows; i++) state.inUse.add(l7.edge[i] ?? 0);
  if (state.inUse.size === 0 || now - state.inUseToldAt < IN_USE_EVERY_MS) return [];
  state.inUseToldAt = now;
  const active = [...state.inUse];
  state.inUse.clear();
  return active;
};

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
interface Part {
  readonly instances: InstanceWindow[];
  readonly edges: Map<string, Mutable<EdgeWindow> & { protocols: RequestWindow[] }>;
  readonly events: ServiceEvent[];
}

const sideOf = (edge: SessionEdge): Side => (edge.definition.role === ROLE.client ? "outbound" : "inbound-server");
const groupOf = (service: ServiceId, side: Side, peer: ServiceId | null): string =>
  `${service}\n${side}\n${peer ?? ""}`;

/** The service that sees the edge, and for a client's edge also the service that is called. */
const groups = (edge: SessionEdge): { service: ServiceId; side: Side; peer: ServiceId | null }[] => {
  const peer = edge.peer ?? null;
  const own = { service: edge.service, side: sideOf(edge), peer };
  return edge.definition.role === ROLE.client && peer !== null
    ? [own, { service: peer, side: "inbound-client", peer: edge.service }]
    : [own];
};

const countActive = (state: SessionState, edge: SessionEdge, active: number): void => {
  for (const { service, side, peer } of groups(edge)) {
    const key = groupOf(service, side, peer);
    state.active.set(key, Math.max(0, (state.active.get(key) ?? 0) + active - edge.active));
  }
  edge.active = active;
};

/** The middle of the window's second. Clocks drift: a base that is more than a second off is taken anew. */
const placed = (state: SessionState, window: number, at: number): number => {
  const middle = (base: number): number => (base + window) * 1000 + 500;
  if (state.base === null || Math.abs(middle(state.base) - at) > 1_000) state.base = Math.floor(at / 1000) - window;
  return middle(state.base);
};

const dispatch = (state: SessionState, { at: endedAt, body }: Window): ActorEffect[] => {
  const at = placed(state, body.window, endedAt);
  const parts = new Map<ServiceId, Part>();
  const partOf = (service: ServiceId): Part => {
    let part = parts.get(service);
    if (part === undefined) {
      part = { instances: [], edges: new Map(), events: [] };
      parts.set(service, part);
    }
    return part;
  };
  const windowsOf = (id: number): (Mutable<EdgeWindow> & { protocols: RequestWindow[] })[] => {
    const edge = state.edges.get(id);
    if (edge === undefined) {
      state.unknownRows++;
      return [];
    }
    return groups(edge).map(({ service, side, peer }) => {
      const { edges } = partOf(service);
      const key = `${side}\n${peer ?? ""}`;
      let found = edges.get(key);
      if (found === undefined) {
        found = {
          ...emptyWindow(side, peer),
          active: state.active.get(groupOf(service, side, peer)) ?? 0,
          protocols: [],
        };
        edges.set(key, found);
      }
      return found;
    });
  };
  const { tcp, l7, hist, pending, usage } = body;
  for (let i = 0; i < tcp.rows; i++) {
    const edge = state.edges.get(tcp.edge[i] ?? 0);
    if (edge !== undefined) countActive(state, edge, tcp.active[i] ?? 0);
  }
  for (let i = 0; i < tcp.rows; i++)
    for (const w of windowsOf(tcp.edge[i] ?? 0)) {
      w.opens += tcp.opens[i] ?? 0;
      w.failedConnects += tcp.failed[i] ?? 0;
      w.closes += tcp.closes[i] ?? 0;
      w.bytesOut += tcp.bytesOut[i] ?? 0;
      w.bytesIn += tcp.bytesIn[i] ?? 0;
      w.retransmits += tcp.retransmits[i] ?? 0;
      w.connectUs += tcp.connectUs[i] ?? 0;
      w.rttUs += tcp.rttUs[i] ?? 0;
      w.rttCount += tcp.rttCount[i] ?? 0;
    }
  const histograms = Array.from({ length: l7.rows }, (): number[] => []);
  for (let i = 0; i < hist.rows; i++) histograms[hist.row[i] ?? 0]?.push(hist.bucket[i] ?? 0, hist.count[i] ?? 0);
  for (let i = 0; i < l7.rows; i++) {
    const count = l7.count[i] ?? 0;
    const status = l7.status[i] ?? 0;
    const request: RequestWindow = {
      protocol: l7.protocol[i] ?? 0,
      ok: status === STATUS.ok ? count : 0,
      rejected: status === STATUS.rejected ? count : 0,
      failed: status === STATUS.failed ? count : 0,
      unanswered: status === STATUS.unanswered ? count : 0,
      sumUs: l7.sumUs[i] ?? 0,
      histogram: histograms[i] ?? [],
    };
    for (const w of windowsOf(l7.edge[i] ?? 0)) w.protocols.push(request);
  }
  for (let i = 0; i < pending.rows; i++)
    for (const w of windowsOf(pending.edge[i] ?? 0)) {
      w.pending += pending.count[i] ?? 0;
      w.oldestMs = Math.max(w.oldestMs, pending.oldestMs[i] ?? 0);
    }
  for (let i = 0; i < usage.rows; i++) {
    const instance = state.instances.get(usage.instance[i] ?? 0);
    if (instance === undefined) {
      state.unknownRows++;
      continue;
    }
    partOf(instance.service).instances.push({
      instance: instance.definition.instance,
      node: state.node,
      startedAt: instance.definition.startedAtMs,
      processes: usage.processes[i] ?? 0,
      cpuMs: usage.cpuMs[i] ?? 0,
      cpuLimit: usage.cpuLimit[i] ?? 0,
      throttledMs: usage.throttledMs[i] ?? 0,
      throttledPeriods: usage.throttledPeriods[i] ?? 0,
      periods: usage.periods[i] ?? 0,
      waitMs: usage.waitMs[i] ?? 0,
      memory: usage.memory[i] ?? 0,
      memoryLimit: usage.memoryLimit[i] ?? 0,
      oomKills: usage.oomKills[i] ?? 0,
      ioBytes: usage.ioBytes[i] ?? 0,
      ioWaitMs: usage.ioWaitMs[i] ?? 0,
      restarts: usage.restarts[i] ?? 0,
    });
  }
  for (const event of body.events) {
    const instance = state.instances.get(event.instance);
    const made = instance === undefined ? null : eventOf(event, instance.definition, at);
    if (instance !== undefined && made !== null) partOf(instance.service).events.push(made);
  }
  for (const id of body.gone) {
    const instance = state.instances.get(id);
    if (instance === undefined) continue;
    const name = instance.definition.instance;
    partOf(instance.service).events.push({ kind: "gone", instance: name, at, text: `${name} is gone` });
    state.instances.delete(id);
  }
  const seconds = state.lastWindow < 0 ? 1 : Math.max(1, Math.min(60, body.window - state.lastWindow));
  state.lastWindow = body.window;
  return [...parts].map(([service, part]) => {
    state.services.add(service);
    const observe: Observe = {
      type: "observe",
      agent: state.agent,
      epoch: state.epoch,
      window: body.window,
      at,
      seconds,
      instances: part.instances,
      edges: [...part.edges.values()],
      events: part.events,
    };
    return send(servicePath(service), observe);
  });
};

const emptyWindow = (side: Side, peer: ServiceId | null): Mutable<EdgeWindow> => ({
  side,
  peer,
  protocols: [],
  opens: 0,
  failedConnects: 0,
  closes: 0,
  active: 0,
  bytesOut: 0,
  bytesIn: 0,
  retransmits: 0,
  connectUs: 0,
  rttUs: 0,
  rttCount: 0,
  pending: 0,
  oldestMs: 0,
});

const eventOf = (event: InstanceEvent, instance: InstanceDefinition, at: number): ServiceEvent | null => {
  const who = instance.instance;
  switch (event.kind) {
    case "start":
      return { kind: "start", instance: who, at, text: `${instance.name} started` };
    case "exit": {
      // A worker that ends by itself is nobody's trouble; one that was killed, or the last one, is.
      if (event.left > 0 && event.signal === null) return null;
      const how = event.signal !== null ? `killed by signal ${event.signal}` : `exited with code ${event.code ?? 0}`;
      const text = `process ${event.pid} of ${instance.name} ${how}; ${event.left} left`;
      return { kind: event.left === 0 ? "exit" : "worker-exit", instance: who, at, text };
    }
    case "oom": {
      const size = event.rssBytes > 0 ? ` at ${Math.round(event.rssBytes / 1048576)} MiB` : "";
      return {
        kind: "oom",
        instance: who,
        at,
        text: `process ${event.pid} of ${instance.name} was killed for lack of memory${size}`,
      };
    }
  }
};
