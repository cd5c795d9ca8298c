/**
 * What a cluster agent's (or any) kube-state-metrics say about a cluster: who owns which Pod, and which addresses are those
 * of services. Asked by the actors of nodes (StockAgent.ts): answers at once what it knows, and later what it learns.
 * Destinations that are addresses of services it tells to the topology as virtual ones, with the Pods behind them.
 *
 * Started by the metrics door with the first such series. Derived: a failure loses what the next scrape brings again, and
 * nodes ask once a minute. Bounded in everything; what does not fit is counted.
 */
import { send, type ActorEffect, type Behavior, type Tick } from "../../runtime/actor/Behavior.ts";
import type { Watched } from "../../runtime/remote-write/Columns.ts";
import type { VipDefinition } from "../../schemas/wire/observe.ts";
import { sessionPath, type Relearn, type Rewind } from "../agent-session/messages.ts";
import { TOPOLOGY, type Learn, type Resolved } from "../topology/messages.ts";
import { ownerByKube, type Owner } from "./identity.ts";
import type { Owners, Samples, Wanted } from "./messages.ts";

export interface KubeArgument {
  readonly agent: string;
  readonly cluster: string;
}

export const KUBE_LIMITS = { entries: 100_000, backends: 500, wanted: 100_000 } as const;
/** What no scrape tells of any more. */
const FORGOTTEN_AFTER_MS = 10 * 60_000;
const TELL_EVERY_MS = 5_000;

type Labels = Readonly<Record<string, string>>;

interface Fact {
  readonly name: string;
  readonly labels: Labels;
  seenAt: number;
}

interface KubeState {
  readonly agent: string;
  readonly cluster: string;
  readonly epoch: number;
  window: number;
  /** by series: what is told now */
  readonly facts: Map<string, Fact>;
  readonly pods: Map<string, { readonly node: string; readonly kind: string; readonly name: string }>;
  /** CronJob of a Job */
  readonly jobs: Map<string, string>;
  /** `NAMESPACE/SERVICE` by address */
  readonly services: Map<string, string>;
  readonly endpoints: Map<string, Map<string, VipDefinition["backends"][number]>>;
  /** who asked for a Pod, and what he was told */
  readonly askers: Map<string, Map<string, string>>;
  readonly destinations: Map<string, { readonly address: string; readonly port: number; told: string }>;
  changed: boolean;
  toldAt: number;
  refused: number;
}

export const stockKube: Behavior<KubeState, Samples | Wanted | Resolved | Relearn | Rewind | Tick, KubeArgument> = {
  kind: "stock-kube",
  mailbox: 1_024,
  messages: {
    samples: "refuse",
    wanted: "refuse",
    resolved: "refuse",
    relearn: "refuse",
    rewind: "refuse",
    tick: "refuse",
  },
  ticks: true,
  initial: (_path, { agent, cluster }, now) => [
    {
      agent,
      cluster,
      epoch: now,
      window: 0,
      facts: new Map(),
      pods: new Map(),
      jobs: new Map(),
      services: new Map(),
      endpoints: new Map(),
      askers: new Map(),
      destinations: new Map(),
      changed: false,
      toldAt: now,
      refused: 0,
    },
    [],
  ],
  step: (state, message, now) => {
    switch (message.type) {
      case "samples":
        take(state, message.samples, now);
        return [state, []];
      case "wanted":
        ask(state, message);
        return [state, tell(state, now, message.agent)];
      case "relearn":
        for (const one of state.destinations.values()) one.told = "";
        return [state, tell(state, now, null)];
      case "tick":
        if (now - state.toldAt < TELL_EVERY_MS) return [state, []];
        state.toldAt = now;
        forget(state, now);
        return [state, state.changed ? tell(state, now, null) : []];
      case "resolved":
      case "rewind":
        return [state, []];
    }
  },
  inspect: (state) => ({
    cluster: state.cluster,
    pods: state.pods.size,
    services: state.services.size,
    endpoints: state.endpoints.size,
    askedFor: state.askers.size,
    destinations: state.destinations.size,
    refused: state.refused,
  }),
};

const take = (state: KubeState, { series, starts, values }: Watched, now: number): void => {
  series.forEach(({ key, name, labels }, s) => {
    const id = key ?? name + JSON.stringify(labels);
    const last = values[(starts[s + 1] ?? 0) - 1] ?? Number.NaN;
    const known = state.facts.get(id);
    // A stale marker, or 0: it is so no more.
    if (!(last > 0)) {
      if (known !== undefined) drop(state, id, known);
      return;
    }
    if (known !== undefined) {
      known.seenAt = now;
      return;
    }
    if (state.facts.size >= KUBE_LIMITS.entries) {
      state.refused++;
      return;
    }
    state.facts.set(id, { name, labels, seenAt: now });
    state.changed = put(state, name, labels) || state.changed;
  });
};

const at = (labels: Labels, name: string): string => labels[name] ?? "";
const nameIn = (labels: Labels, name: string): string => `${at(labels, "namespace")}/${at(labels, name)}`;
const backendOf = (labels: Labels): VipDefinition["backends"][number] => ({
  address: at(labels, "ip"),
  port: Number(at(labels, "port_number")),
});

const put = (state: KubeState, name: string, labels: Labels): boolean => {
  switch (name) {
    case "kube_pod_info": {
      const [node, kind, owner] = ["node", "created_by_kind", "created_by_name"].map((label) => at(labels, label));
      state.pods.set(nameIn(labels, "pod"), { node: node ?? "", kind: kind ?? "", name: owner ?? "" });
      return true;
    }
    case "kube_job_owner":
      if (at(labels, "owner_kind") !== "CronJob") return false;
      state.jobs.set(nameIn(labels, "job_name"), at(labels, "owner_name"));
      return true;
    case "kube_service_info": {
      const ip = at(labels, "cluster_ip");
      if (ip === "" || ip === "None") return false;
      state.services.set(ip, nameIn(labels, "service"));
      return true;
    }
    case "kube_endpoint_address": {
      const backend = backendOf(labels);
      const service = nameIn(labels, "endpoint");
      const all = state.endpoints.get(service) ?? new Map<string, VipDefinition["backends"][number]>();
      if (!(backend.port > 0) || all.size >= KUBE_LIMITS.backends) return false;
      all.set(`${backend.address}|${backend.port}`, backend);
      state.endpoints.set(service, all);
      return true;
    }
    default:
      return false;
  }
};

const drop = (state: KubeState, id: string, { name, labels }: Fact): void => {
  state.facts.delete(id);
  state.changed = true;
  if (name === "kube_pod_info") state.pods.delete(nameIn(labels, "pod"));
  else if (name === "kube_job_owner") state.jobs.delete(nameIn(labels, "job_name"));
  else if (name === "kube_service_info") state.services.delete(at(labels, "cluster_ip"));
  else if (name === "kube_endpoint_address") {
    const { address, port } = backendOf(labels);
    const all = state.endpoints.get(nameIn(labels, "endpoint"));
    all?.delete(`${address}|${port}`);
    if (all?.size === 0) state.endpoints.delete(nameIn(labels, "endpoint"));
  }
};

const forget = (state: KubeState, now: number): void => {
  for (const [id, fact] of state.facts) if (now - fact.seenAt > FORGOTTEN_AFTER_MS) drop(state, id, fact);
};

const ask = (state: KubeState, { agent, pods, destinations }: Wanted): void => {
  for (const pod of pods) {
    if (state.askers.size >= KUBE_LIMITS.wanted && !state.askers.has(pod)) {
      state.refused++;
      continue;
    }
    const askers = state.askers.get(pod) ?? new Map<string, string>();
    // Whoever asks again has forgotten.
    askers.set(agent, "");
    state.askers.set(pod, askers);
  }
  for (const { address, port } of destinations) {
    const key = `${address}|${port}`;
    if (state.destinations.has(key)) continue;
    if (state.destinations.size >= KUBE_LIMITS.wanted) state.refused++;
    else state.destinations.set(key, { address, port, told: "" });
  }
};

const ownerOf = (state: KubeState, pod: string): Owner | null => {
  const known = state.pods.get(pod);
  if (known === undefined) return null;
  const at = pod.indexOf("/");
  const cron = state.jobs.get(`${pod.slice(0, at)}/${known.name}`) ?? null;
  return ownerByKube(pod.slice(at + 1), known.node, known.kind, known.name, cron);
};

/** What those who asked do not know yet; `only`: one of them, whatever has changed. */
const tell = (state: KubeState, now: number, only: string | null): ActorEffect[] => {
  if (only === null) state.changed = false;
  const news = new Map<string, (readonly [string, Owner])[]>();
  for (const [pod, askers] of state.askers) {
    const owner = ownerOf(state, pod);
    if (owner === null) continue;
    const text = `${owner.kind}/${owner.name}`;
    for (const [agent, told] of askers) {
      if (told === text || (only !== null && agent !== only)) continue;
      askers.set(agent, text);
      const list = news.get(agent);
      if (list === undefined) news.set(agent, [[pod, owner]]);
      else list.push([pod, owner]);
    }
  }
  const answers = [...news].map(([agent, pods]): ActorEffect => {
    const owners: Owners = { type: "owners", pods };
    return send(sessionPath(agent), owners);
  });
  const vips = virtual(state);
  return vips.length === 0 ? answers : [...answers, send(TOPOLOGY, learn(state, vips, now))];
};

/** Destinations that are a service's address, with what is behind it now. */
const virtual = (state: KubeState): VipDefinition[] => {
  const vips: VipDefinition[] = [];
  for (const one of state.destinations.values()) {
    const service = state.services.get(one.address);
    if (service === undefined) continue;
    const backends = [...(state.endpoints.get(service)?.values() ?? [])];
    const text = JSON.stringify([service, backends]);
    if (one.told === text) continue;
    one.told = text;
    const [namespace = "", name = ""] = service.split("/");
    vips.push({ address: one.address, port: one.port, name: `${name}.${namespace}`, backends });
  }
  return vips;
};

const learn = (state: KubeState, vips: readonly VipDefinition[], now: number): Learn => ({
  type: "learn",
  agent: state.agent,
  node: "",
  cluster: state.cluster,
  epoch: state.epoch,
  window: ++state.window,
  at: now,
  instances: [],
  listens: null,
  edges: [],
  ends: [],
  active: [],
  gone: [],
  names: [],
  nat: [],
  vips,
});
