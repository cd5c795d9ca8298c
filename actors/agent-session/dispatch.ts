/**
 * From a window of an agent to one message for each service that it speaks of. Called by the session's `step` once every
 * edge of the window is resolved; rows whose edge or instance is not known are left out and counted.
 */
import { send, type ActorEffect } from "../../runtime/actor/Behavior.ts";
import type { ServiceId } from "../../schemas/service.ts";
import { ROLE, STATUS, type InstanceDefinition, type InstanceEvent } from "../../schemas/wire/observe.ts";
import type {
  AbsentName,
  EdgeWindow,
  InstanceWindow,
  MountWindow,
  Observe,
  RequestWindow,
  ServiceEvent,
  Side,
} from "../service/messages.ts";
import { servicePath } from "../service/messages.ts";
import type { Window } from "./messages.ts";
import type { Group, Mutable, SessionEdge, SessionState } from "./state.ts";

type Filling = Mutable<EdgeWindow>;
type Part = Mutable<Pick<Observe, "instances" | "edges" | "events">> & {
  absent: readonly AbsentName[];
  mounts: readonly MountWindow[];
};

/** Now that the peer is known: it counts with the service that sees it, and at a client also with the one that is called. */
export const join = (state: SessionState, edge: SessionEdge, peer: ServiceId | null): void => {
  const { active } = edge;
  leave(state, edge);
  edge.peer = peer;
  const { service, definition } = edge;
  if (definition.role !== ROLE.client) edge.groups = [groupOf(state, service, "inbound-server", peer)];
  else {
    const own = groupOf(state, service, "outbound", peer);
    edge.groups = peer === null ? [own] : [own, groupOf(state, peer, "inbound-client", service)];
  }
  for (const group of edge.groups) group.edges++;
  countActive(edge, active);
};

export const leave = (state: SessionState, edge: SessionEdge): void => {
  countActive(edge, 0);
  for (const group of edge.groups) if (--group.edges === 0) state.groups.delete(group.key);
  edge.groups = [];
};

const groupOf = (state: SessionState, service: ServiceId, side: Side, peer: ServiceId | null): Group => {
  const key = `${service}\n${side}\n${peer ?? ""}`;
  let group = state.groups.get(key);
  if (group === undefined) {
    group = { key, service, side, peer, edges: 0, active: 0, filling: null };
    state.groups.set(key, group);
  }
  return group;
};

const countActive = (edge: SessionEdge, active: number): void => {
  for (const group of edge.groups) group.active += active - edge.active;
  edge.active = active;
};

const NOBODY: readonly Group[] = [];

export const dispatch = (state: SessionState, { at, body }: Window): ActorEffect[] => {
  const parts = new Map<ServiceId, Part>();
  const partOf = (service: ServiceId): Part => {
    let part = parts.get(service);
    if (part === undefined) {
      part = { instances: NOTHING, edges: NOTHING, events: NOTHING, absent: NOTHING, mounts: NOTHING };
      parts.set(service, part);
    }
    return part;
  };
  const filled: Group[] = [];
  const groupsOf = (id: number): readonly Group[] => {
    const edge = state.edges.get(id);
    if (edge !== undefined) return edge.groups;
    state.unknownRows++;
    return NOBODY;
  };
  const fillingOf = (group: Group): Filling => {
    if (group.filling === null) {
      group.filling = emptyWindow(group);
      filled.push(group);
      const part = partOf(group.service);
      part.edges = and(part.edges, group.filling);
    }
    return group.filling;
  };
  const { tcp, troubles, l7, pending, usage } = body;
  for (let i = 0; i < tcp.rows; i++) {
    const edge = state.edges.get(tcp.edge[i] ?? 0);
    if (edge !== undefined) countActive(edge, tcp.active[i] ?? 0);
  }
  for (let i = 0; i < tcp.rows; i++)
    for (const group of groupsOf(tcp.edge[i] ?? 0)) {
      const w = fillingOf(group);
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
  for (let i = 0; i < troubles.rows; i++)
    for (const group of groupsOf(troubles.edge[i] ?? 0)) {
      const w = fillingOf(group);
      w.troubles = [...(w.troubles ?? NOTHING), troubles.kind[i] ?? 0, troubles.count[i] ?? 0];
    }
  const histograms = histogramsOf(body);
  for (let i = 0; i < l7.rows; i++) {
    const count = l7.count[i] ?? 0;
    const status = l7.status[i] ?? 0;
    const request: RequestWindow = {
      protocol: l7.protocol[i] ?? 0,
      ok: status === STATUS.ok ? count : 0,
      rejected: status === STATUS.rejected ? count : 0,
      failed: status === STATUS.failed ? count : 0,
      unanswered: status === STATUS.unanswered ? count : 0,
      unknown: status === STATUS.unknown ? count : 0,
      sumUs: l7.sumUs[i] ?? 0,
      histogram: histograms[i] ?? NOTHING,
    };
    for (const group of groupsOf(l7.edge[i] ?? 0)) {
      const w = fillingOf(group);
      w.protocols = and(w.protocols, request);
    }
  }
  for (let i = 0; i < pending.rows; i++)
    for (const group of groupsOf(pending.edge[i] ?? 0)) {
      const w = fillingOf(group);
      w.pending += pending.count[i] ?? 0;
      w.oldestMs = Math.max(w.oldestMs, pending.oldestMs[i] ?? 0);
    }
  for (let i = 0; i < usage.rows; i++) {
    const instance = state.instances.get(usage.instance[i] ?? 0);
    if (instance === undefined) {
      state.unknownRows++;
      continue;
    }
    const part = partOf(instance.service);
    part.instances = and<InstanceWindow>(part.instances, {
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
      ...timesOf(usage, i),
    });
  }
  for (const event of body.events) {
    const instance = state.instances.get(event.instance);
    const made = instance === undefined ? null : eventOf(event, instance.definition, at);
    if (instance === undefined || made === null) continue;
    const part = partOf(instance.service);
    part.events = and(part.events, made);
  }
  for (const { instance: id, name, type, count, known } of body.absent) {
    const instance = state.instances.get(id);
    if (instance === undefined) continue;
    const part = partOf(instance.service);
    part.absent = and<AbsentName>(part.absent, { name, type, count, known });
  }
  for (const { instance: id, path, device, usedBytes, availableBytes, inodesUsed } of body.mounts) {
    const instance = state.instances.get(id);
    if (instance === undefined) continue;
    const part = partOf(instance.service);
    const { instance: name } = instance.definition;
    part.mounts = and<MountWindow>(part.mounts, {
      instance: name,
      path,
      device,
      usedBytes,
      availableBytes,
      inodesUsed,
    });
  }
  for (const id of body.gone) {
    const instance = state.instances.get(id);
    if (instance === undefined) continue;
    const name = instance.definition.instance;
    const part = partOf(instance.service);
    part.events = and<ServiceEvent>(part.events, { kind: "gone", instance: name, at, text: `${name} is gone` });
    state.instances.delete(id);
  }
  for (const id of body.goneEdges) {
    const edge = state.edges.get(id);
    if (edge === undefined) continue;
    leave(state, edge);
    state.edges.delete(id);
    state.inUse.delete(id);
  }
  const since = state.lastWindow < 0 ? 1 : Math.max(1, Math.min(60, body.window - state.lastWindow));
  const seconds = body.span ?? since;
  state.lastWindow = body.window;
  for (const group of filled) group.filling = null;
  return [...parts].map(([service, part]) => {
    state.services.add(service);
    const observe: Observe = {
      type: "observe",
      agent: state.agent,
      epoch: state.epoch,
      window: body.window,
      at,
      seconds,
      ...(body.span === undefined ? {} : { span: body.span }),
      instances: part.instances,
      edges: part.edges,
      events: part.events,
      ...(part.absent.length > 0 ? { absent: part.absent } : {}),
      ...(part.mounts.length > 0 ? { mounts: part.mounts } : {}),
    };
    return send(servicePath(service), observe);
  });
};

/** Most windows of most instances have none. */
const timesOf = (
  usage: Window["body"]["usage"],
  i: number,
): Pick<InstanceWindow, "ios" | "ioUs" | "syncs" | "syncUs"> =>
  (usage.ios[i] ?? 0) + (usage.syncs[i] ?? 0) === 0
    ? {}
    : { ios: usage.ios[i] ?? 0, ioUs: usage.ioUs[i] ?? 0, syncs: usage.syncs[i] ?? 0, syncUs: usage.syncUs[i] ?? 0 };

const NOTHING: readonly never[] = [];

/** Most lists here have one entry, and an array that grows has room for seventeen. */
const and = <T>(list: readonly T[], one: T): readonly T[] => {
  if (list.length === 0) return [one];
  (list as T[]).push(one);
  return list;
};

/** Bucket and count in turn, of each row of `l7`. Rows of the histogram that belong together lie together. */
const histogramsOf = ({ l7, hist }: Window["body"]): readonly (readonly number[])[] => {
  const pairs: number[] = [];
  for (let i = 0; i < hist.rows; i++) pairs.push(hist.bucket[i] ?? 0, hist.count[i] ?? 0);
  const all: (readonly number[])[] = Array.from({ length: l7.rows }, () => NOTHING);
  for (let from = 0, to = 1; from < hist.rows; from = to++) {
    const row = hist.row[from] ?? 0;
    while (to < hist.rows && hist.row[to] === row) to++;
    const before = all[row];
    if (before === undefined) continue;
    const run = pairs.slice(2 * from, 2 * to);
    all[row] = before.length === 0 ? run : [...before, ...run];
  }
  return all;
};

const emptyWindow = ({ side, peer, active }: Group): Filling => ({
  side,
  peer,
  protocols: NOTHING,
  opens: 0,
  failedConnects: 0,
  closes: 0,
  active,
  bytesOut: 0,
  bytesIn: 0,
  retransmits: 0,
  connectUs: 0,
  rttUs: 0,
  rttCount: 0,
  pending: 0,
  oldestMs: 0,
});

const mebibytes = (bytes: number): string => `${Math.round(bytes / 1048576)} MiB`;

const eventOf = (event: InstanceEvent, instance: InstanceDefinition, at: number): ServiceEvent | null => {
  const who = instance.instance;
  switch (event.kind) {
    case "start":
      return { kind: "start", instance: who, at, text: `${instance.name} started` };
    case "exit": {
      // A worker that ends by itself is nobody's trouble; one that was killed, or the last one, is.
      if (event.left > 0 && event.signal === null) return null;
      // Who only counts restarts knows neither the process nor how it ended.
      const how = event.signal !== null ? `killed by signal ${event.signal}` : `exited with code ${event.code ?? 0}`;
      const text =
        event.pid === 0
          ? `${instance.name} ended and was started again`
          : `process ${event.pid} of ${instance.name} ${how}; ${event.left} left`;
      return { kind: event.left === 0 ? "exit" : "worker-exit", instance: who, at, text };
    }
    case "overflow":
      return {
        kind: "overflow",
        instance: who,
        at,
        text: `${event.count} connections to port ${event.port} of ${instance.name} were dropped: ${event.limit} may wait to be accepted`,
      };
    case "oom": {
      const { rssBytes, anonBytes, shmemBytes = 0 } = event;
      const parts =
        anonBytes === undefined ? "" : ` (${mebibytes(anonBytes)} anonymous, ${mebibytes(shmemBytes)} shared memory)`;
      const size = rssBytes > 0 ? ` at ${mebibytes(rssBytes)}${parts}` : "";
      return {
        kind: "oom",
        instance: who,
        at,
        text: `${event.pid === 0 ? "a process" : `process ${event.pid}`} of ${instance.name} was killed for lack of memory${size}`,
      };
    }
  }
};
