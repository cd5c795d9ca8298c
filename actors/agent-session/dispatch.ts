/**
 * From a window of an agent to one message for each service that it speaks of. Called by the session's `step` once every
 * edge of the window is resolved; rows whose edge or instance is not known are left out and counted.
 */
import { send, type ActorEffect } from "../../runtime/actor/Behavior.ts";
import type { ServiceId } from "../../schemas/service.ts";
import { ROLE, STATUS, type InstanceDefinition, type InstanceEvent } from "../../schemas/wire/observe.ts";
import type { EdgeWindow, InstanceWindow, Observe, RequestWindow, ServiceEvent, Side } from "../service/messages.ts";
import { servicePath } from "../service/messages.ts";
import type { Window } from "./messages.ts";
import type { SessionEdge, SessionState } from "./state.ts";

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

export const countActive = (state: SessionState, edge: SessionEdge, active: number): void => {
  for (const { service, side, peer } of groups(edge)) {
    const key = groupOf(service, side, peer);
    const sum = (state.active.get(key) ?? 0) + active - edge.active;
    if (sum > 0) state.active.set(key, sum);
    else state.active.delete(key);
  }
  edge.active = active;
};

export const dispatch = (state: SessionState, { at, body }: Window): ActorEffect[] => {
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
      unknown: status === STATUS.unknown ? count : 0,
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
  for (const id of body.goneEdges) {
    const edge = state.edges.get(id);
    if (edge === undefined) continue;
    countActive(state, edge, 0);
    state.edges.delete(id);
    state.inUse.delete(id);
  }
  const since = state.lastWindow < 0 ? 1 : Math.max(1, Math.min(60, body.window - state.lastWindow));
  const seconds = body.span ?? since;
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
      ...(body.span === undefined ? {} : { span: body.span }),
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
      // Who only counts restarts knows neither the process nor how it ended.
      const how = event.signal !== null ? `killed by signal ${event.signal}` : `exited with code ${event.code ?? 0}`;
      const text =
        event.pid === 0
          ? `${instance.name} ended and was started again`
          : `process ${event.pid} of ${instance.name} ${how}; ${event.left} left`;
      return { kind: event.left === 0 ? "exit" : "worker-exit", instance: who, at, text };
    }
    case "oom": {
      const size = event.rssBytes > 0 ? ` at ${Math.round(event.rssBytes / 1048576)} MiB` : "";
      return {
        kind: "oom",
        instance: who,
        at,
        text: `${event.pid === 0 ? "a process" : `process ${event.pid}`} of ${instance.name} was killed for lack of memory${size}`,
      };
    }
  }
};
