/**
 * The server's side of one node agent, from frame to service: keeps the connection's dictionary, has edges resolved by
 * the topology actor, and hands each service its part of a window as one message, so a service never sees a sample.
 *
 * Spawned by the link when an agent first connects; survives its connections. Windows wait (bounded) until their new
 * edges are resolved. What it could not pass on, the agent sends again: it is asked to come again, and then told which
 * window was the last. After 30 s without a connection the agent counts as lost and its services are told.
 */
import { send, type ActorEffect, type Behavior, type Message, type Reply } from "../../runtime/actor/Behavior.ts";
import { serviceId } from "../../schemas/service.ts";
import { addressText, ADDRESS_BYTES } from "../../schemas/wire/address.ts";
import type { DecodedObserve } from "../../schemas/wire/codec.ts";
import type { PolicyBody } from "../../schemas/wire/link.ts";
import { ROLE } from "../../schemas/wire/observe.ts";
import { servicePath } from "../service/messages.ts";
import { grouped } from "../topology/grouping.ts";
import {
  TOPOLOGY,
  type Forget,
  type KnownInstance,
  type Learn,
  type Missing,
  type Resolved,
} from "../topology/messages.ts";
import { dispatch, join, leave } from "./dispatch.ts";
import type {
  ComeAgain,
  Connected,
  RewindNow,
  SessionArgument,
  SessionMessage,
  TellPolicy,
  Window,
} from "./messages.ts";
import type { SessionState } from "./state.ts";

const LOST_AFTER_MS = 30_000;
/** Windows that wait for the topology. The link brings no more while some wait, unless they do so for long. */
const MAX_WAITING = 30;
const MISSED_EVERY_MS = 3_000;
const IN_USE_EVERY_MS = 10_000;
/** Parts of one replica are taken over one after the other: the agent comes again once for all of them. */
const REWIND_AFTER_MS = 1_500;
/** The link had no connection of the agent to end, or is not done with it: it is asked again. */
const ASK_AGAIN_MS = 500;
const AGAIN = "again";
const POLICY_EVERY_MS = 5_000;
const MOST_POLICY_EDGES = 20_000;
const NO_POLICY = '{"slowMs":{},"edges":{}}';
const rewindNow: RewindNow = { type: "rewind-now" };

export const agentSession: Behavior<SessionState, SessionMessage, SessionArgument> = {
  kind: "agent-session",
  mailbox: 256,
  messages: {
    connected: "refuse",
    disconnected: "refuse",
    window: "refuse",
    resolved: "refuse",
    rewind: "refuse",
    "rewind-now": "refuse",
    relearn: "refuse",
    threshold: "refuse",
    undelivered: "refuse",
    reply: "refuse",
    tick: "refuse",
  },
  ticks: true,
  turn: "last",
  keeps: ({ waiting }) => waiting.length,
  initial: (_path, { agent, grouping }, now) => [
    {
      agent,
      grouping: grouped(grouping),
      epoch: 0,
      node: "",
      cluster: "default",
      connected: false,
      disconnectedAt: now,
      lastWindow: -1,
      instances: new Map(),
      edges: new Map(),
      unresolved: 0,
      listens: null,
      vips: [],
      nat: new Map(),
      toldWindow: -1,
      inUse: new Set(),
      inUseToldAt: 0,
      missed: new Map(),
      complete: false,
      behind: false,
      waiting: [],
      groups: new Map(),
      services: new Set(),
      lost: true,
      deferred: 0,
      unknownRows: 0,
      thresholds: new Map(),
      policyTold: NO_POLICY,
      policyAt: 0,
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
      case "rewind":
        return [state, rewind(state, REWIND_AFTER_MS)];
      case "rewind-now":
        // It may have come by itself in between.
        return [state, lacking(state) ? [comeAgain(state)] : []];
      case "relearn":
        return [state, [send(TOPOLOGY, everything(state, now))]];
      case "undelivered":
        return [state, missing(state, message.to, now)];
      case "reply":
        return [state, askedAgain(state, message)];
      case "tick":
        return [state, [...lostIfSilent(state, now), ...policy(state, now)]];
      case "threshold":
        state.thresholds.set(message.service, message.slowMs);
        return [state, []];
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
    deferred: state.deferred,
    unknownRows: state.unknownRows,
  }),
};

const connected = (state: SessionState, message: Connected): ActorEffect[] => {
  // What comes next is all that the agent keeps, unless it is told what it need not send.
  if (!state.complete || state.epoch !== message.epoch) state.lastWindow = -1;
  const have = state.lastWindow < 0 ? null : { epoch: message.epoch, window: state.lastWindow };
  state.epoch = message.epoch;
  state.node = message.node;
  state.cluster = message.cluster;
  state.connected = true;
  state.complete = true;
  state.behind = false;
  state.lost = false;
  state.instances.clear();
  state.edges.clear();
  state.groups.clear();
  state.toldWindow = -1;
  state.policyTold = NO_POLICY;
  state.waiting.length = 0;
  state.unresolved = 0;
  const forget: Forget = { type: "forget", agent: state.agent, lost: false };
  return [{ kind: "reply", value: have }, send(TOPOLOGY, forget)];
};

/** Which requests are slow, told when it has changed: on the agent's services, and on its edges to those of others. */
const policy = (state: SessionState, now: number): ActorEffect[] => {
  if (!state.connected || state.thresholds.size === 0 || now - state.policyAt < POLICY_EVERY_MS) return [];
  state.policyAt = now;
  const slowMs: Record<string, number> = {};
  for (const { service } of state.instances.values()) {
    const limit = state.thresholds.get(service);
    if (limit !== undefined) slowMs[service] = limit;
  }
  const edges: Record<string, number> = {};
  let known = 0;
  for (const [id, { definition, peer }] of state.edges) {
    const limit = definition.role === ROLE.client && peer ? state.thresholds.get(peer) : undefined;
    if (limit !== undefined && known++ < MOST_POLICY_EDGES) edges[id] = limit;
  }
  const body: PolicyBody = { slowMs, edges };
  const text = JSON.stringify(body);
  if (text === state.policyTold) return [];
  state.policyTold = text;
  const request: TellPolicy = { agent: state.agent, policy: body };
  return [{ kind: "perform", port: "agent-policy", request, tag: "policy" }];
};

const comeAgain = (state: SessionState): ActorEffect => {
  const request: ComeAgain = { agent: state.agent };
  return { kind: "perform", port: "agent-link", request, tag: AGAIN };
};

const lacking = (state: SessionState): boolean => !state.complete || state.behind;

const rewind = (state: SessionState, afterMs: number): ActorEffect[] => {
  state.complete = false;
  return [{ kind: "schedule", key: "rewind", afterMs, message: rewindNow }];
};

/** The link may not have taken the connection over yet, and then there was nothing to end. */
const askedAgain = (state: SessionState, { tag, result }: Reply): ActorEffect[] => {
  if (tag !== AGAIN || !state.connected || !lacking(state) || (result.ok && result.value === true)) return [];
  return [{ kind: "schedule", key: "rewind", afterMs: ASK_AGAIN_MS, message: rewindNow }];
};

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
  gone: [],
  names: [],
  nat: [...state.nat.values()],
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
  // A session that started anew in the middle of a connection knows nothing of its dictionary.
  if (!state.connected) return rewind(state, ASK_AGAIN_MS);
  if (state.behind || state.waiting.length >= MAX_WAITING) {
    state.behind = true;
    state.deferred++;
    return [];
  }
  const { body } = message;
  const effects: ActorEffect[] = [];
  const learn = define(state, body, message.at, now);
  if (learn !== null) effects.push(send(TOPOLOGY, learn));
  state.waiting.push(message);
  return [...effects, ...release(state)];
};

const resolved = (state: SessionState, message: Resolved): ActorEffect[] => {
  for (const { id, peer } of message.edges) {
    const edge = state.edges.get(id);
    if (edge === undefined) continue;
    if (edge.peer === undefined) state.unresolved--;
    join(state, edge, peer);
  }
  return release(state);
};

const release = (state: SessionState): ActorEffect[] => {
  if (state.unresolved > 0) return [];
  const effects = state.waiting.flatMap((waiting) => dispatch(state, waiting));
  state.waiting.length = 0;
  return state.behind ? [...effects, comeAgain(state)] : effects;
};

/** Takes the new entries of the dictionary; what of it the topology must know, or null. */
const define = (state: SessionState, body: DecodedObserve, at: number, now: number): Learn | null => {
  const instances = body.instances.map((definition) => {
    const { namespace, kind, name } = definition;
    const grouping = state.grouping.of(serviceId(state.cluster, namespace, kind, name), kind);
    const known = { instance: definition.id, ...grouping, serviceType: definition.type };
    state.instances.set(definition.id, { ...known, definition });
    return known;
  });
  const edges = body.edges.flatMap((definition) => {
    const instance = state.instances.get(definition.instance);
    if (instance === undefined) return [];
    const known = state.edges.get(definition.id);
    if (known === undefined || known.peer !== undefined) state.unresolved++;
    if (known !== undefined) leave(state, known);
    const { service } = instance;
    state.edges.set(definition.id, { definition, service, peer: undefined, groups: [], active: 0 });
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
  for (const one of body.nat) remember(state.nat, `${one.address} ${one.port}`, one);
  state.toldWindow = Math.max(state.toldWindow, body.window);
  const active = inUse(state, body, now);
  const { names, nat, vips, goneEdges: gone } = body;
  const nothing = [instances, edges, ends, active, gone, names, nat, vips].every((list) => list.length === 0);
  if (nothing && listens === null) return null;
  const span = body.span === undefined ? {} : { spanMs: body.span * 1_000 };
  return {
    ...about(state, at),
    ...span,
    window: body.window,
    instances,
    listens,
    edges,
    ends,
    active,
    gone,
    names,
    nat,
    vips,
  };
};

const MOST_TRANSLATIONS = 10_000;

/** The oldest give way: they are told again when their connections are. */
const remember = <T>(known: Map<string, T>, key: string, one: T): void => {
  known.delete(key);
  known.set(key, one);
  if (known.size <= MOST_TRANSLATIONS) return;
  const [oldest] = known.keys();
  if (oldest !== undefined) known.delete(oldest);
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
