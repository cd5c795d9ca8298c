/**
 * What one stock agent's scrapes say, turned into the windows that an agent of ours would send. Owned by its actor
 * (StockAgent.ts), and derived: after a restart the first scrape is only what the next one is compared with.
 *
 * A window is the difference of two scrapes and says over how many seconds it reaches (`span`). Of a series only what is
 * newer than its last sample counts, so a call that comes again counts once; a counter that fell was reset and counts from
 * zero. A counter's first value counts only where the agent makes it with its first event and the scrape before was seen.
 * Over a gap of more than a minute nothing is counted: how much of it belongs to which minute is not known.
 *
 * Bounded in series, containers and edges; what does not fit or is not known is counted in `losses`, which people see.
 */
import type { Watched } from "../../runtime/remote-write/Columns.ts";
import type { Series } from "../../runtime/store/batch.ts";
import type { DecodedObserve } from "../../schemas/wire/codec.ts";
import { emptyTable, type Column, type Table, type TableShape } from "../../schemas/wire/columns.ts";
import {
  HIST_SHAPE,
  L7_SHAPE,
  PAIR_SHAPE,
  PENDING_SHAPE,
  ROLE,
  TCP_SHAPE,
  TROUBLE_SHAPE,
  USAGE_SHAPE,
  type EdgeDefinition,
  type InstanceDefinition,
  type InstanceEvent,
  type ListenDefinition,
  type MountDefinition,
  type NameDefinition,
} from "../../schemas/wire/observe.ts";
import { Durations } from "./durations.ts";
import { addressOf, identityOf, podOf, type ContainerIdentity, type Owner } from "./identity.ts";
import {
  CONTAINER_FIGURES,
  isKeptOnly,
  MOUNT_FIGURES,
  requestMetric,
  statusOf,
  TCP_FIGURES,
  type Mode,
} from "./metrics.ts";

export const LIMITS = {
  series: 50_000,
  samples: 100_000,
  containers: 2_000,
  edges: 20_000,
  /** of one container */
  mounts: 64,
  names: 2_000,
  losses: 32,
} as const;
/** A longer gap between two samples is not counted over. */
export const GAP_MS = 60_000;
/** What a first window is taken to reach over: the agents' own interval. */
const USUAL_SPAN_S = 15;
/** Series and edges that are not told of for so long are forgotten. */
const FORGOTTEN_AFTER_MS = 10 * 60_000;
const PRUNE_EVERY_MS = 60_000;
/** As many may pass before a node that does not tell its name is called by its id. */
const UNNAMED_SCRAPES = 2;
const U32 = 0xffffffff;
/** Events of one kind that one window tells singly. */
const MOST_EVENTS = 16;

interface Known {
  readonly mode: Mode;
  /** time and value of the last sample, ms */
  at: number;
  value: number;
  /** what it is of: lives as long as somebody tells of it */
  readonly of: Container | Edge | null;
  /** takes what is new: a gauge's value, a counter's increase */
  readonly put: (value: number, at: number) => void;
}

interface Requests {
  /** by status */
  readonly counts: number[];
  readonly durations: Durations;
}

interface Edge {
  readonly container: Container;
  readonly id: number;
  readonly role: 0 | 1;
  readonly peer: string;
  readonly port: number;
  readonly host: string | null;
  /** only what was dialled is known, and not where that went */
  readonly dialled: boolean;
  told: boolean;
  seenAt: number;
  active: number;
  activeAt: number;
  /** of the window before */
  wasActive: number;
  opens: number;
  failed: number;
  bytesOut: number;
  bytesIn: number;
  retransmits: number;
  connectUs: number;
  readonly requests: Map<number, Requests>;
}

interface Container {
  readonly containerId: string;
  readonly pod: string | null;
  id: number;
  identity: ContainerIdentity | null;
  told: boolean;
  type: string;
  readonly firstAt: number;
  /** last sample of its memory: what has none does not run; and up to which one its usage was told */
  runsAt: number;
  usageAt: number;
  seenAt: number;
  cpuMs: number;
  cpuLimit: number;
  cpuLimitAt: number;
  throttledMs: number;
  waitMs: number;
  memory: number;
  memoryLimit: number;
  memoryLimitAt: number;
  oomKills: number;
  ioBytes: number;
  ioWaitMs: number;
  restarts: number;
  readonly edges: Map<string, Edge>;
  /** by listen address */
  readonly listens: Map<string, { value: number; at: number }>;
  /** round-trip times by address, seconds */
  readonly rtt: Map<string, { value: number; at: number }>;
  /** by mount point, bytes */
  readonly mounts: Map<string, Mounted>;
}

interface Mounted {
  readonly device: string;
  size: number;
  used: number;
  reserved: number;
  at: number;
}

const NOTHING: Known["put"] = () => undefined;

export class StockNode {
  node: string;
  kernel = "";
  version = "";
  readonly losses = new Map<string, number>();
  /** samples that were not newer than what is known: calls that came again */
  again = 0;
  /** of the scrape that is open or was closed last, by the node's clock; 0 before the first */
  scrapeAt = 0;
  /** something of the scrape has not been told yet */
  isOpen = false;
  #before = 0;
  #closedWindow = -1;
  /** each scrape came in one call so far: what is not in it is gone */
  #whole = true;
  #calls = 0;
  /** services are named after it, so the first windows wait for it */
  #named = false;
  #unnamed = 0;
  #prunedAt = 0;
  /** until then series were refused: one that is new may have counted for long */
  #refusedAt = Number.NEGATIVE_INFINITY;
  #nextId = 1;
  #listensTold: string | null = null;
  #edges = 0;
  readonly #series = new Map<string, Known>();
  readonly #containers = new Map<string, Container>();
  readonly #touched = new Set<Edge>();
  readonly #goneEdges: number[] = [];
  readonly #gone: number[] = [];
  readonly #names = new Map<string, { name: string; told: boolean }>();
  readonly #nat = new Map<string, { actual: string; told: boolean }>();
  readonly #owners = new Map<string, Owner>();
  readonly #asked = new Set<string>();

  constructor(node: string) {
    this.node = node;
  }

  get figures(): { readonly series: number; readonly instances: number; readonly edges: number } {
    let instances = 0;
    for (const { told } of this.#containers.values()) if (told) instances++;
    return { series: this.#series.size, instances, edges: this.#edges };
  }

  /**
   * Takes what is new in a call, oldest first, and gives the windows that it closes on the way. `goesOn`: these are of the
   * same call as the ones before.
   */
  take({ series, starts, times, values }: Watched, goesOn = false): DecodedObserve[] {
    const closed: DecodedObserve[] = [];
    const rows = Math.min(times.length, LIMITS.samples);
    if (times.length > rows) this.lose(`samples beyond ${LIMITS.samples} in a call`, times.length - rows);
    const seriesOf = new Uint32Array(rows);
    for (let s = 0; s < series.length; s++) seriesOf.fill(s, starts[s] ?? 0, starts[s + 1] ?? 0);
    let brought = goesOn ? 1 : 0;
    const order = inTime(times, rows);
    // Several scrapes in one call: their series may be spread over more of them.
    if (rows > 0 && times[order[0] ?? 0] !== times[order[rows - 1] ?? 0]) this.#whole = false;
    for (const row of order) {
      const moment = times[row] ?? 0;
      const one = series[seriesOf[row] ?? 0];
      if (one === undefined) continue;
      if (moment > this.scrapeAt) {
        if (this.isOpen) closed.push(...this.close());
        this.#open(moment);
        if (!goesOn) brought = 0;
      }
      if (!this.#sample(one, moment, values[row] ?? Number.NaN)) continue;
      // A call that comes again brings nothing; another one with the same time says that scrapes come in parts.
      if (brought++ === 0 && ++this.#calls > 1) this.#whole = false;
    }
    return closed;
  }

  /** The window of the open scrape; nothing when none is open. */
  close(): DecodedObserve[] {
    if (!this.isOpen) return [];
    const window = Math.floor(this.scrapeAt / 1000);
    // Two scrapes within a second are one window.
    if (window <= this.#closedWindow) return [];
    this.isOpen = false;
    if (!this.#named && this.#unnamed++ < UNNAMED_SCRAPES) return [];
    this.#closedWindow = window;
    this.#identify();
    const body = this.#body(window);
    if (this.scrapeAt - this.#prunedAt > PRUNE_EVERY_MS) this.#prune();
    return [body];
  }

  /** The session's dictionary starts anew. */
  untell(): void {
    this.#listensTold = null;
    for (const container of this.#containers.values()) {
      container.told = false;
      for (const edge of container.edges.values()) edge.told = false;
    }
    for (const name of this.#names.values()) name.told = false;
    for (const nat of this.#nat.values()) nat.told = false;
    this.#gone.length = 0;
    this.#goneEdges.length = 0;
  }

  /** Pods whose owner and destinations whose other end only the cluster agent can tell, since the last time it was asked. */
  wanted(again: boolean): {
    readonly pods: readonly string[];
    readonly destinations: readonly { readonly address: string; readonly port: number }[];
  } {
    if (again) this.#asked.clear();
    const pods: string[] = [];
    const destinations: { address: string; port: number }[] = [];
    const inKubernetes = [...this.#containers.values()].some(({ pod }) => pod !== null);
    const isNew = (key: string): boolean => !this.#asked.has(key) && this.#asked.add(key).size > 0;
    for (const { pod, edges } of this.#containers.values()) {
      if (pod !== null && !this.#owners.has(pod) && isNew(pod)) pods.push(pod);
      for (const { dialled, peer, port } of edges.values())
        if (dialled && inKubernetes && isNew(`${peer}|${port}`)) destinations.push({ address: peer, port });
    }
    return { pods, destinations };
  }

  /** What the cluster agent knows of Pods: containers that were told as somebody else's are told anew. */
  learn(pods: readonly (readonly [pod: string, owner: Owner])[]): void {
    for (const [pod, owner] of pods) {
      this.#owners.set(pod, owner);
      for (const container of this.#containers.values()) {
        if (container.pod !== pod || container.identity === null) continue;
        const now = identityOf(container.containerId, this.node, owner);
        if (now === null || (now.kind === container.identity.kind && now.name === container.identity.name)) continue;
        this.#forget(container);
        container.identity = now;
        container.id = this.#nextId++;
      }
    }
  }

  lose(what: string, n = 1): void {
    const key = this.losses.has(what) || this.losses.size < LIMITS.losses ? what : "other";
    this.losses.set(key, (this.losses.get(key) ?? 0) + n);
  }

  // ——— samples ———

  #open(moment: number): void {
    this.#before = this.scrapeAt;
    this.scrapeAt = moment;
    this.isOpen = true;
    this.#calls = 0;
  }

  /** False: nothing new. */
  #sample(series: Series, at: number, value: number): boolean {
    const key = series.key ?? series.name + JSON.stringify(series.labels);
    let known = this.#series.get(key);
    const isNew = known === undefined;
    if (known === undefined) {
      if (this.#series.size >= LIMITS.series) {
        this.#refusedAt = this.scrapeAt;
        this.lose(`series beyond ${LIMITS.series}`);
        return false;
      }
      known = this.#define(series, at);
      this.#series.set(key, known);
    } else if (at <= known.at) {
      this.again++;
      return false;
    }
    const { at: before, value: last, of } = known;
    known.at = at;
    // A stale marker: the series ended.
    if (Number.isNaN(value)) return true;
    if (!(value >= 0 && value < Infinity)) {
      this.lose("values that are no figure");
      return true;
    }
    if (of !== null) {
      of.seenAt = Math.max(of.seenAt, at);
      if ("container" in of) of.container.seenAt = Math.max(of.container.seenAt, at);
    }
    if (known.mode === "gauge") known.put(value, at);
    else {
      known.value = value;
      const increase = this.#increase(known.mode, isNew, before, last, at, value);
      if (increase > 0) known.put(increase, at);
    }
    return true;
  }

  #increase(mode: Mode, isNew: boolean, before: number, last: number, at: number, value: number): number {
    const gap = isNew || at - before > GAP_MS;
    if (!gap) return value < last ? value : value - last;
    const seenWithoutIt = this.#before > 0 && at - this.#before <= GAP_MS && at > this.#before;
    const sure = at - this.#refusedAt > FORGOTTEN_AFTER_MS;
    return mode === "events" && seenWithoutIt && sure ? value : 0;
  }

  #define({ name, labels }: Series, at: number): Known {
    const of = (mode: Mode, put: Known["put"]): Known => ({ mode, put, at, value: 0, of: null });
    if (name === "node_info") {
      return of("gauge", () => {
        this.node = labels["hostname"] || this.node;
        this.#named = true;
        this.kernel = labels["kernel_version"] ?? "";
      });
    }
    if (name === "node_agent_info") return of("gauge", () => (this.version = labels["version"] ?? ""));
    if (name === "ip_to_fqdn") return of("gauge", this.#nameOf(labels["ip"] ?? "", labels["fqdn"] ?? ""));
    return this.#defineContainer(name, labels, at);
  }

  #nameOf(ip: string, fqdn: string): Known["put"] {
    if (ip === "" || fqdn === "" || ip.length > 64 || fqdn.length > 255) return NOTHING;
    return () => {
      const known = this.#names.get(ip);
      if (known?.name === fqdn) return;
      makeRoom(this.#names);
      this.#names.set(ip, { name: fqdn, told: false });
    };
  }

  #defineContainer(name: string, labels: Readonly<Record<string, string>>, at: number): Known {
    const container = this.#container(labels["container_id"] ?? "", at);
    let whose: Container | Edge | null = container;
    const of = (mode: Mode, put: Known["put"]): Known => ({ mode, put, at, value: 0, of: whose });
    if (container === null) return of("gauge", NOTHING);
    const resource = CONTAINER_FIGURES.get(name);
    if (resource !== undefined) {
      const { figure, mode, scale } = resource;
      return of(mode, (value, when) => {
        if (mode !== "gauge") container[figure] += value * scale;
        else container[figure] = value * scale;
        if (figure === "memory") container.runsAt = when;
        else if (figure === "cpuLimit") container.cpuLimitAt = when;
        else if (figure === "memoryLimit") container.memoryLimitAt = when;
      });
    }
    const tcp = TCP_FIGURES.get(name);
    if (tcp !== undefined) {
      const edge = this.#client(container, labels, at);
      if (edge === null) return of("gauge", NOTHING);
      whose = edge;
      const { figure, mode, scale } = tcp;
      return of(mode, (value, when) => {
        this.#touched.add(edge);
        if (mode !== "gauge") edge[figure] += value * scale;
        else {
          edge.active = value;
          edge.activeAt = when;
        }
      });
    }
    const requests = requestMetric(name);
    if (requests !== null) {
      const edge = requests.inbound ? this.#server(container, at) : this.#client(container, labels, at);
      if (edge === null || requests.part === "other") return of("gauge", NOTHING);
      whose = edge;
      let row = edge.requests.get(requests.protocol);
      if (row === undefined) {
        row = { counts: [0, 0, 0, 0], durations: new Durations() };
        edge.requests.set(requests.protocol, row);
      }
      const { counts, durations } = row;
      if (requests.part === "count") {
        const status = statusOf(labels["status"] ?? "");
        return of("events", (value) => {
          this.#touched.add(edge);
          counts[status] = (counts[status] ?? 0) + value;
        });
      }
      if (requests.part === "sum")
        return of("events", (value) => {
          this.#touched.add(edge);
          durations.sumMs += value * 1_000;
        });
      const le = Number(labels["le"] === "+Inf" ? "Infinity" : (labels["le"] ?? ""));
      return of("events", (value) => {
        this.#touched.add(edge);
        if (!durations.add(le, value)) this.lose("buckets of durations without a bound");
      });
    }
    if (name === "container_net_tcp_listen_info") {
      const listens = container.listens;
      const address = labels["listen_addr"] ?? "";
      if (addressOf(address) === null) return of("gauge", NOTHING);
      return of("gauge", (value, when) => void listens.set(address, { value, at: when }));
    }
    if (name === "container_net_latency_seconds") {
      const ip = labels["destination_ip"] ?? "";
      return of("gauge", (value, when) => void container.rtt.set(ip, { value, at: when }));
    }
    const space = MOUNT_FIGURES.get(name);
    if (space !== undefined) {
      const path = labels["mount_point"] ?? "";
      let mount = container.mounts.get(path);
      if (mount === undefined) {
        if (path === "" || path.length > 4_096) return of("gauge", NOTHING);
        if (container.mounts.size >= LIMITS.mounts) {
          this.lose(`mounts beyond ${LIMITS.mounts} of a container`);
          return of("gauge", NOTHING);
        }
        mount = { device: labels["device"] ?? "", size: 0, used: 0, reserved: 0, at };
        container.mounts.set(path, mount);
      }
      const told = mount;
      return of("gauge", (value, when) => {
        told[space] = value;
        told.at = when;
      });
    }
    if (name === "container_application_type")
      return of("gauge", () => (container.type = (labels["application_type"] ?? "").slice(0, 64)));
    if (!isKeptOnly(name)) this.lose("series of containers that are not known");
    return of("gauge", NOTHING);
  }

  #container(containerId: string, at: number): Container | null {
    const known = this.#containers.get(containerId);
    if (known !== undefined) return known;
    if (this.#containers.size >= LIMITS.containers) {
      this.lose(`series of containers beyond ${LIMITS.containers}`);
      return null;
    }
    const made: Container = {
      containerId,
      pod: podOf(containerId),
      id: this.#nextId++,
      identity: null,
      told: false,
      type: "",
      firstAt: at,
      runsAt: 0,
      usageAt: 0,
      seenAt: at,
      cpuMs: 0,
      cpuLimit: 0,
      cpuLimitAt: 0,
      throttledMs: 0,
      waitMs: 0,
      memory: 0,
      memoryLimit: 0,
      memoryLimitAt: 0,
      oomKills: 0,
      ioBytes: 0,
      ioWaitMs: 0,
      restarts: 0,
      edges: new Map(),
      listens: new Map(),
      rtt: new Map(),
      mounts: new Map(),
    };
    this.#containers.set(containerId, made);
    return made;
  }

  /** The call by where its packets went; a connect that failed went nowhere, and has only what was dialled. */
  #client(container: Container, labels: Readonly<Record<string, string>>, at: number): Edge | null {
    const dialled = labels["destination"] ?? "";
    const actual = labels["actual_destination"] ?? "";
    const target = addressOf(actual === "" ? dialled : actual);
    if (target === null) {
      this.lose("destinations that are no address");
      return null;
    }
    if (actual !== "" && actual !== dialled) this.#translated(dialled, actual);
    const isName = !/^[0-9.]+$/.test(target.address) && !target.address.includes(":");
    return this.#edge(container, at, {
      role: ROLE.client,
      peer: target.address,
      port: target.port,
      host: isName ? target.address : null,
      dialled: actual === "" && !isName,
    });
  }

  /** Whoever calls is not told: all callers are one. */
  #server(container: Container, at: number): Edge | null {
    return this.#edge(container, at, { role: ROLE.server, peer: "", port: 0, host: null, dialled: false });
  }

  #edge(
    container: Container,
    at: number,
    what: Pick<Edge, "role" | "peer" | "port" | "host" | "dialled">,
  ): Edge | null {
    const key = what.role === ROLE.server ? "" : `${what.peer}|${what.port}`;
    const known = container.edges.get(key);
    if (known !== undefined) return known;
    if (this.#edges >= LIMITS.edges) {
      this.lose(`series of edges beyond ${LIMITS.edges}`);
      return null;
    }
    const made: Edge = {
      container,
      id: this.#nextId++,
      ...what,
      told: false,
      seenAt: at,
      active: 0,
      activeAt: 0,
      wasActive: 0,
      opens: 0,
      failed: 0,
      bytesOut: 0,
      bytesIn: 0,
      retransmits: 0,
      connectUs: 0,
      requests: new Map(),
    };
    container.edges.set(key, made);
    this.#edges++;
    return made;
  }

  /** Where connections to an address went when they did: so those that fail now are known by it. */
  #translated(dialled: string, actual: string): void {
    if (addressOf(dialled) === null || this.#nat.get(dialled)?.actual === actual) return;
    makeRoom(this.#nat);
    this.#nat.set(dialled, { actual, told: false });
  }

  // ——— windows ———

  #identify(): void {
    for (const container of this.#containers.values()) {
      if (container.identity !== null) continue;
      const owner = container.pod === null ? null : (this.#owners.get(container.pod) ?? null);
      container.identity = identityOf(container.containerId, this.node, owner);
      if (container.identity === null) this.lose("containers whose id has an unknown form");
    }
  }

  /** Seconds that the window reaches over. */
  get #span(): number {
    const ms = this.scrapeAt - this.#before;
    return this.#before === 0 || ms > GAP_MS ? USUAL_SPAN_S : Math.max(1, Math.round(ms / 1000));
  }

  /** What is not in this scrape, nor (where scrapes come in several calls) in the one before it. */
  #isMissing(at: number): boolean {
    return at < (this.#whole ? this.scrapeAt : this.#before);
  }

  #body(window: number): DecodedObserve {
    const instances: InstanceDefinition[] = [];
    const events: InstanceEvent[] = [];
    const running: Container[] = [];
    for (const container of this.#containers.values()) {
      if (container.identity === null) continue;
      if (container.runsAt > 0 && this.#isMissing(container.runsAt)) {
        this.#stop(container);
        continue;
      }
      if (this.#isMissing(container.seenAt)) continue;
      if (!container.told) instances.push(this.#definition(container, container.identity));
      this.#tellEvents(container, events);
      if (container.runsAt > container.usageAt) running.push(container);
    }
    const edges: EdgeDefinition[] = [];
    for (const edge of this.#touched) if (edge.container.told && !edge.told) edges.push(this.#edgeDefinition(edge));
    const told = [...this.#touched].filter((edge) => edge.told);
    this.#touched.clear();
    const { l7, hist } = requestTables(told);
    const names: NameDefinition[] = [];
    for (const [address, one] of this.#names) {
      if (one.told) continue;
      one.told = true;
      names.push({ address, name: one.name });
    }
    return {
      window,
      monoMs: this.scrapeAt,
      wallMs: this.scrapeAt,
      serverMs: this.scrapeAt,
      span: this.#span,
      instances,
      edges,
      listens: this.#listens(),
      gone: this.#gone.splice(0),
      goneEdges: this.#goneEdges.splice(0),
      events,
      names,
      nat: this.#translations(),
      vips: [],
      absent: [],
      mounts: running.flatMap((container) => this.#mounts(container)),
      self: null,
      tcp: table(TCP_SHAPE, told, (edge) => this.#tcp(edge)),
      troubles: emptyTable(TROUBLE_SHAPE, 0),
      l7,
      hist,
      pending: emptyTable(PENDING_SHAPE, 0),
      pairs: emptyTable(PAIR_SHAPE, 0),
      pairIps: new Uint8Array(0),
      usage: table(USAGE_SHAPE, running, usage),
      skipped: { columns: 0, fields: 0, protocols: 0, kinds: 0 },
    };
  }

  #definition(container: Container, identity: ContainerIdentity): InstanceDefinition {
    container.told = true;
    const { namespace, kind, name, instance } = identity;
    const startedAtMs = container.firstAt;
    return { id: container.id, namespace, kind, name, instance, exe: "", netns: 0, type: container.type, startedAtMs };
  }

  #mounts({ id: instance, mounts }: Container): readonly MountDefinition[] {
    return [...mounts].flatMap(([path, { device, size, used, reserved, at }]) =>
      this.#isMissing(at) || size === 0
        ? []
        : [
            {
              instance,
              path,
              device,
              sizeBytes: size,
              usedBytes: used,
              availableBytes: Math.max(0, size - used - reserved),
              inodesUsed: 0,
            },
          ],
    );
  }

  #edgeDefinition(edge: Edge): EdgeDefinition {
    edge.told = true;
    const { id, role, peer, port, host, container } = edge;
    const instance = container.id;
    return { id, instance, role, peer, port, local: "", netns: 0, ...(host === null ? {} : { host }) };
  }

  #tellEvents(container: Container, events: InstanceEvent[]): void {
    const { id: instance } = container;
    const atMs = this.scrapeAt;
    for (let i = 0; i < Math.min(MOST_EVENTS, container.oomKills); i++)
      events.push({ kind: "oom", instance, atMs, pid: 0, rssBytes: 0 });
    for (let i = 0; i < Math.min(MOST_EVENTS, container.restarts); i++)
      events.push(
        { kind: "exit", instance, atMs, pid: 0, code: null, signal: null, left: 0 },
        { kind: "start", instance, atMs },
      );
  }

  /** It ran, and does not any more. What it had is told once more as new should it come back. */
  #stop(container: Container): void {
    this.#forget(container);
    container.runsAt = 0;
    container.id = this.#nextId++;
    container.listens.clear();
  }

  #forget(container: Container): void {
    if (container.told) this.#gone.push(container.id);
    container.told = false;
    for (const [key, edge] of container.edges) {
      if (!edge.told) continue;
      this.#goneEdges.push(edge.id);
      container.edges.set(key, Object.assign(edge, { id: this.#nextId++, told: false }));
    }
  }

  #listens(): readonly ListenDefinition[] | null {
    const listens: ListenDefinition[] = [];
    for (const { id, told, listens: all } of this.#containers.values()) {
      if (!told) continue;
      for (const [text, { value, at }] of all) {
        const found = addressOf(text);
        if (found === null || value <= 0 || this.#isMissing(at)) continue;
        listens.push({ instance: id, address: found.address, port: found.port, netns: 0 });
      }
    }
    const text = JSON.stringify(listens.map(({ instance, address, port }) => [instance, address, port]));
    if (text === this.#listensTold) return null;
    this.#listensTold = text;
    return listens;
  }

  #translations(): DecodedObserve["nat"] {
    return [...this.#nat].flatMap(([dialled, one]) => {
      const from = addressOf(dialled);
      const to = addressOf(one.actual);
      if (one.told || from === null || to === null) return [];
      one.told = true;
      return [{ ...from, actualAddress: to.address, actualPort: to.port }];
    });
  }

  #tcp(edge: Edge): Row<typeof TCP_SHAPE> {
    const active = this.#isMissing(edge.activeAt) ? 0 : edge.active;
    const rtt = edge.container.rtt.get(edge.peer);
    const measured = rtt !== undefined && rtt.at === this.scrapeAt;
    const row = {
      edge: edge.id,
      opens: edge.opens,
      failed: edge.failed,
      // Connections that are neither new nor open any more have been closed.
      closes: Math.max(0, edge.wasActive + edge.opens - active),
      active,
      bytesOut: edge.bytesOut,
      bytesIn: edge.bytesIn,
      retransmits: edge.retransmits,
      connectUs: edge.connectUs,
      rttUs: measured ? rtt.value * 1e6 : 0,
      rttCount: measured ? 1 : 0,
    };
    edge.wasActive = active;
    edge.opens = 0;
    edge.failed = 0;
    edge.bytesOut = 0;
    edge.bytesIn = 0;
    edge.retransmits = 0;
    edge.connectUs = 0;
    return row;
  }

  #prune(): void {
    this.#prunedAt = this.scrapeAt;
    const old = this.scrapeAt - FORGOTTEN_AFTER_MS;
    for (const [key, { at }] of this.#series) if (at < old) this.#series.delete(key);
    for (const [id, container] of this.#containers) {
      for (const [key, edge] of container.edges) {
        if (edge.seenAt >= old) continue;
        if (edge.told) this.#goneEdges.push(edge.id);
        container.edges.delete(key);
        this.#edges--;
      }
      for (const [text, { at }] of container.listens) if (at < old) container.listens.delete(text);
      for (const [ip, { at }] of container.rtt) if (at < old) container.rtt.delete(ip);
      if (container.seenAt >= old || container.edges.size > 0 || container.listens.size > 0) continue;
      if (container.told) this.#gone.push(container.id);
      this.#containers.delete(id);
    }
    const pods = new Set([...this.#containers.values()].map(({ pod }) => pod));
    for (const pod of this.#owners.keys()) if (!pods.has(pod)) this.#owners.delete(pod);
  }
}

/** The oldest entry gives way. */
const makeRoom = (entries: Map<string, unknown>): void => {
  const [oldest] = entries.keys();
  if (entries.size >= LIMITS.names && oldest !== undefined) entries.delete(oldest);
};

/** Rows by their time; those of one time as they came. */
const inTime = (times: Float64Array, rows: number): Uint32Array => {
  const order = Uint32Array.from({ length: rows }, (_, i) => i);
  const first = times[0] ?? 0;
  for (let i = 1; i < rows; i++)
    if (times[i] !== first) return order.sort((a, b) => (times[a] ?? 0) - (times[b] ?? 0) || a - b);
  return order;
};

type Row<S extends TableShape> = Partial<Record<keyof S, number>>;

const table = <S extends TableShape, A>(shape: S, all: readonly A[], rowOf: (one: A) => Row<S>): Table<S> => {
  const out = emptyTable(shape, all.length);
  all.forEach((one, i) => {
    const row = rowOf(one);
    for (const name in shape) {
      const value = row[name] ?? 0;
      (out[name] as Column)[i] = shape[name] === "f64" ? value : Math.min(U32, Math.round(value));
    }
  });
  return out;
};

const usage = (container: Container): Row<typeof USAGE_SHAPE> => {
  const { runsAt, cpuLimitAt, memoryLimitAt } = container;
  container.usageAt = runsAt;
  const row = {
    instance: container.id,
    cpuMs: container.cpuMs,
    cpuLimit: cpuLimitAt === runsAt ? container.cpuLimit : 0,
    throttledMs: container.throttledMs,
    waitMs: container.waitMs,
    memory: container.memory,
    memoryLimit: memoryLimitAt === runsAt ? container.memoryLimit : 0,
    oomKills: container.oomKills,
    ioBytes: container.ioBytes,
    ioWaitMs: container.ioWaitMs,
    restarts: container.restarts,
    processes: 1,
  };
  container.cpuMs = 0;
  container.throttledMs = 0;
  container.waitMs = 0;
  container.oomKills = 0;
  container.ioBytes = 0;
  container.ioWaitMs = 0;
  container.restarts = 0;
  return row;
};

/** Durations are told without their status: they stand with the status that has the most requests. */
const requestTables = (
  edges: readonly Edge[],
): { readonly l7: Table<typeof L7_SHAPE>; readonly hist: Table<typeof HIST_SHAPE> } => {
  const l7: Row<typeof L7_SHAPE>[] = [];
  const hist: Row<typeof HIST_SHAPE>[] = [];
  for (const edge of edges)
    for (const [protocol, { counts, durations }] of edge.requests) {
      const most = counts.indexOf(Math.max(...counts));
      counts.forEach((count, status) => {
        if (count > 0) {
          const sumUs = status === most ? durations.sumMs * 1_000 : 0;
          if (status === most) durations.take((bucket, n) => hist.push({ row: l7.length, bucket, count: n }));
          l7.push({ edge: edge.id, protocol, status, count, sumUs });
        }
        counts[status] = 0;
      });
    }
  return { l7: table(L7_SHAPE, l7, (row) => row), hist: table(HIST_SHAPE, hist, (row) => row) };
};
