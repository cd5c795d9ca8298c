/**
 * The sampling loop's inside: processes, cgroups, listeners and the probe's ticks become one window per second. Owned by
 * the node agent, which calls `absorb` for each probe tick and `observe` once a second; synchronous, all state in here.
 * Without a probe it goes on from /proc alone. `close` frees the descriptors.
 */
import type { ListenDefinition } from "../../../schemas/wire/observe.ts";
import type { CgroupMounts } from "../host/cgroups.ts";
import { Listeners, type Listener } from "../host/Listeners.ts";
import { ProcessTable, type Process } from "../host/ProcessTable.ts";
import { Reader } from "../host/Reader.ts";
import { Briefs } from "./Briefs.ts";
import { Disks, nameByLink } from "./Disks.ts";
import { Fold } from "./Fold.ts";
import { definitionOf, Instances, type Instance } from "./Instances.ts";
import { Lookups } from "./Lookups.ts";
import { Mounts } from "./Mounts.ts";
import type { ProbeEvent, ProbeListen, ProbeTick, ProbeTls } from "../probe/ProbeTick.ts";
import { Usage } from "./Usage.ts";
import { Catalog, type Listens, type Window } from "./Window.ts";

const SCAN_EVERY_MS = 5_000;
/** without the probe nobody tells of starts and ends */
const SCAN_ALONE_MS = 1_000;
const PROBE_SILENT_MS = 3_000;

export interface ObserverOptions {
  readonly node: string;
  readonly bootMs: number;
  readonly mounts: CgroupMounts;
  readonly proc?: string;
  readonly onContainer?: (instance: Instance<Process>) => void;
}

export interface Clocks {
  /** monotonic, ms since the agent's start */
  readonly monoMs: number;
  readonly wallMs: number;
}

export interface ListenQueue {
  readonly queue: number;
  readonly limit: number;
  readonly drops: number;
}

/** A reason without changing figures, which may follow a colon. */
export const tlsReason = ({ state, reason }: ProbeTls): string =>
  state === "over-budget" ? (reason.split(":")[0] ?? reason) : reason;

export class Observer {
  readonly reader = new Reader();
  readonly table: ProcessTable;
  readonly instances: Instances<Process>;
  readonly listeners: Listeners;
  readonly usage: Usage;
  readonly fold: Fold;
  readonly lookups: Lookups;
  readonly disks: Disks;
  readonly mounts: Mounts;
  readonly catalog = new Catalog();
  /** what the probe said about itself last */
  probeSelf: Readonly<Record<string, number>> = {};
  /** lives of the probe that were heard of */
  probeLives = 0;
  /** processes that speak TLS, as the probe said last */
  private tls: readonly ProbeTls[] = [];
  /** queues of what listens, by `netns|port`, as the probe found them last; drops since the start */
  readonly queues = new Map<string, ListenQueue>();
  private readonly briefs: Briefs;
  private listens: Listens = { version: 0, list: [] };
  private listensText = "";
  private readonly byListening = new Map<string, Listener>();
  private lastTickMs = Number.NEGATIVE_INFINITY;
  private lastScanMs = Number.NEGATIVE_INFINITY;
  private nowMs = 0;
  private wallMs = 0;

  constructor(options: ObserverOptions) {
    const proc = options.proc ?? "/proc";
    this.table = new ProcessTable({ reader: this.reader, node: options.node, bootMs: options.bootMs, proc });
    this.instances = new Instances<Process>(
      options.onContainer === undefined ? {} : { onContainer: options.onContainer },
    );
    this.listeners = new Listeners(this.reader, this.table, proc);
    this.usage = new Usage(this.reader, options.mounts, proc);
    this.briefs = new Briefs(options.mounts);
    const ofProcess = (tgid: number): Instance<Process> | null => {
      this.table.lookup(tgid);
      this.applyChanges(this.nowMs);
      return this.instances.ofRecentPid(tgid) ?? this.briefs.ownerOf(tgid);
    };
    this.fold = new Fold({
      ofProcess,
      ofListening: (netns, address, port) => {
        const listener = this.byListening.get(`${netns}|${address}|${port}`);
        return listener === undefined ? null : this.instances.ofPid(listener.pid);
      },
    });
    this.lookups = new Lookups({
      clientOf: (edge) => this.fold.clientOf(edge),
      resolvConf: (tgid) => this.reader.text(`${proc}/${tgid}/root/etc/resolv.conf`),
    });
    this.catalog.names = this.lookups.addresses;
    this.catalog.translations = () => this.fold.translations();
    this.disks = new Disks({
      ofCgroup: (id) => this.briefs.ownerOfBlocks(id),
      ofProcess,
      used: (id, sync, count, us) => {
        const instance = this.instances.all.get(id);
        if (instance !== undefined) this.usage.timed(instance, sync, count, us);
      },
    });
    this.mounts = new Mounts({
      reader: this.reader,
      proc,
      ownerOf: (tgid) => this.instances.ofPid(tgid),
      processOf: (id) => this.instances.all.get(id)?.members.keys().next().value ?? null,
      nameOf: nameByLink,
    });
  }

  get probeAlive(): boolean {
    return this.nowMs - this.lastTickMs < PROBE_SILENT_MS;
  }

  /** Takes a tick of the probe: its events first, since its edges may belong to processes that they announce. */
  absorb(tick: ProbeTick, clocks: Clocks): void {
    this.nowMs = clocks.monoMs;
    this.wallMs = clocks.wallMs;
    this.lastTickMs = clocks.monoMs;
    this.probeSelf = tick.self;
    if (tick.reset) this.probeLives++;
    if (tick.tls !== null) this.tls = tick.tls;
    else if (tick.reset) this.tls = [];
    const wallOf = (event: ProbeEvent): number => clocks.wallMs - Math.max(0, tick.monoMs - event.monoMs);
    for (const event of tick.events)
      if (event.kind === "exec") {
        this.table.executed(event.pid);
        this.briefs.executed(event, clocks.monoMs);
      }
    this.applyChanges(clocks.monoMs);
    // Edges before exits: the owner of a socket may have ended in the same second.
    this.fold.absorb(tick, clocks.monoMs);
    this.lookups.absorb(tick, clocks.monoMs);
    this.disks.absorb(tick);
    if (tick.listens !== null) this.takeQueues(tick.listens);
    if (tick.mounts !== null) this.mounts.absorb(tick.mounts);
    for (const event of tick.events) {
      if (event.kind === "exec") continue;
      if (event.kind === "oom") {
        const instance = this.instances.ofRecentPid(event.pid);
        if (instance !== null) {
          this.usage.oom(instance);
          const { rssBytes, anonBytes, shmemBytes } = event;
          this.instances.oom(instance, event.pid, { rssBytes, anonBytes, shmemBytes }, wallOf(event));
        }
      } else {
        this.table.exited(event.pid);
        this.applyChanges(clocks.monoMs);
        this.instances.exited(event.pid, { code: event.code, signal: event.signal, atMs: wallOf(event) });
      }
    }
  }

  /** The probe is gone: its gauges are void. */
  probeLost(): void {
    this.lastTickMs = Number.NEGATIVE_INFINITY;
    this.fold.forgetProbe();
    this.tls = [];
    this.probeSelf = {};
  }

  /** Processes that speak TLS and what they belong to; those of unknown owners are left out. */
  *tlsOwners(): Iterable<{ readonly one: ProbeTls; readonly owner: Instance<Process> }> {
    for (const one of this.tls) {
      const owner = this.instances.ofPid(one.tgid);
      if (owner !== null) yield { one, owner };
    }
  }

  /** Programs whose TLS is not read, with the reason, each once and in order. */
  unreadTls(): readonly string[] {
    const said = new Set<string>();
    for (const { one, owner } of this.tlsOwners())
      if (owner.reported && one.state !== "read" && one.state !== "waiting")
        said.add(`${owner.name ?? owner.identity.name} (${tlsReason(one)})`);
    return [...said].toSorted();
  }

  /** Reads the host and ends the window. */
  observe(window: number, clocks: Clocks): Window {
    const { monoMs, wallMs } = clocks;
    this.nowMs = monoMs;
    this.wallMs = wallMs;
    this.table.measure(monoMs);
    if (monoMs - this.lastScanMs >= (this.probeAlive ? SCAN_EVERY_MS : SCAN_ALONE_MS) - 50) {
      this.lastScanMs = monoMs;
      this.table.scan();
    }
    this.applyChanges(monoMs);
    if (this.listeners.refresh(monoMs)) this.takeListeners();
    const counted = this.usage.measure(this.instances.all.values());
    if (!this.probeAlive) for (const instance of counted) this.instances.oom(instance, 0, { rssBytes: 0 }, wallMs);
    this.instances.settle(monoMs, wallMs);
    for (const instance of this.instances.all.values())
      if (instance.reported) this.catalog.addInstance(definitionOf(instance));
    this.publishListens();
    const folded = this.fold.flush(monoMs, (id) => {
      const instance = this.instances.all.get(id);
      return instance === undefined ? "gone" : instance.reported ? "shown" : "waiting";
    });
    for (const id of folded.edgeIds) {
      const edge = this.fold.edges.get(id);
      if (edge !== undefined) this.catalog.addEdge(edge.definition);
    }
    const looked = this.lookups.flush(monoMs, (id) => this.instances.all.get(id)?.reported === true);
    this.mounts.measure(monoMs);
    const mounts = this.mounts.flush((id) => this.instances.all.get(id)?.reported === true);
    for (const part of [this.lookups, this.disks, this.mounts]) part.forget((id) => this.instances.all.has(id));
    const usage = this.usage.table(this.instances.all.values());
    this.briefs.forget(monoMs, (id) => this.instances.all.has(id));
    this.usage.forget(
      (id) => this.instances.all.has(id),
      (pid) => this.table.processes.has(pid),
    );
    this.catalog.sweep(
      monoMs,
      (id) => this.instances.all.has(id),
      (id) => this.fold.edges.has(id),
    );
    return {
      window,
      monoMs,
      wallMs,
      gone: this.instances.gone.splice(0),
      events: this.instances.events.splice(0),
      listens: this.listens,
      ...folded,
      ...looked,
      mounts,
      usage,
    };
  }

  close(): void {
    this.table.close();
    this.usage.close();
  }

  private applyChanges(nowMs: number): void {
    const { joined, left, replaced } = this.table.takeChanges();
    if (joined.length + left.length + replaced.length === 0) return;
    // Ends before starts, so that a restart between two looks is seen as one; parents before their children.
    for (const process of left) {
      const owner = this.instances.ofPid(process.pid);
      if (owner !== null) this.usage.ended(owner, process);
      this.listeners.changed(process.netns, nowMs);
      this.instances.leave(process.pid, nowMs, this.wallMs, this.probeAlive);
    }
    for (const { before, after } of replaced) {
      this.briefs.known(this.instances.replace(before, after, nowMs));
      this.fold.invalidate(after.pid, nowMs);
      this.listeners.changed(after.netns, nowMs);
    }
    for (const process of joined.toSorted((a, b) => a.startTicks - b.startTicks || a.pid - b.pid))
      if (this.table.processes.get(process.pid) === process) {
        this.briefs.known(this.instances.join(process, nowMs));
        this.listeners.changed(process.netns, nowMs);
      }
  }

  private takeListeners(): void {
    this.byListening.clear();
    for (const listener of this.listeners.all()) {
      this.byListening.set(`${listener.netns}|${listener.address}|${listener.port}`, listener);
      const instance = this.instances.ofPid(listener.pid);
      if (instance !== null) instance.listens = true;
    }
  }

  private listensOn(netns: number, port: number): Instance<Process> | null {
    for (const listener of this.listeners.all())
      if (listener.netns === netns && listener.port === port) return this.instances.ofPid(listener.pid);
    return null;
  }

  private takeQueues(listens: readonly ProbeListen[]): void {
    const seen = new Set<string>();
    for (const { netns, port, queue, limit, drops } of listens) {
      const key = `${netns}|${port}`;
      seen.add(key);
      this.queues.set(key, { queue, limit, drops: (this.queues.get(key)?.drops ?? 0) + drops });
      if (drops === 0) continue;
      const instance = this.listensOn(netns, port);
      if (instance !== null) this.instances.overflowed(instance, { port, count: drops, limit }, this.wallMs);
    }
    for (const key of this.queues.keys()) if (!seen.has(key)) this.queues.delete(key);
  }

  /** The complete list, with a new version only when something in it changed. */
  private publishListens(): void {
    const list: ListenDefinition[] = [];
    for (const { pid, netns, address, port } of this.listeners.all()) {
      const instance = this.instances.ofPid(pid);
      if (instance?.reported === true) list.push({ instance: instance.id, address, port, netns });
    }
    const text = list.map((one) => `${one.instance} ${one.netns} ${one.address} ${one.port}`).join("\n");
    if (text === this.listensText) return;
    this.listensText = text;
    this.listens = { version: this.listens.version + 1, list };
  }
}
