/**
 * Folds the probe's rows into wire edges: rows of all processes and sockets of one instance with one peer on one port
 * become one. Owned by the observer; free of I/O. What cannot be given to an instance for sure is counted in `losses`
 * and never guessed. Rows of instances that may not be shown yet (a container whose name is being asked) wait here.
 */
import { emptyTable, encodeTable, type WireTable } from "../../../schemas/wire/columns.ts";
import { PAIR_SHAPE, PENDING_SHAPE, ROLE, type NatDefinition } from "../../../schemas/wire/observe.ts";
import type { Instance } from "./Instances.ts";
import type { ProbeEdge, ProbeTick } from "../probe/ProbeTick.ts";
import { requestTables, tcpTable, troubleTable } from "./tables.ts";
import { WireEdge } from "./WireEdge.ts";

export interface FoldOwners {
  /** the instance of a process, reading it now if need be; null when it is gone */
  readonly ofProcess: (tgid: number) => Instance | null;
  /** the instance that listens there now; null when nobody is known to */
  readonly ofListening: (netns: number, address: string, port: number) => Instance | null;
}

export interface FoldLosses {
  /** probe rows (and the requests in them) of processes that could not be named */
  unattributedRows: number;
  unattributedRequests: number;
  /** connection pairs above the bound of one window */
  pairs: number;
}

export interface FoldedTables {
  readonly edgeIds: readonly number[];
  readonly tcp: WireTable | null;
  readonly troubles: WireTable | null;
  readonly l7: WireTable | null;
  readonly hist: WireTable | null;
  readonly pending: WireTable | null;
  readonly pairs: WireTable | null;
  readonly pairIps: Uint8Array | null;
  readonly nat: readonly NatDefinition[];
}

interface Source {
  readonly edge: ProbeEdge;
  wire: WireEdge | null;
  /** last gauge of open connections from this source */
  active: number;
}

interface PendingCell {
  readonly wire: WireEdge;
  readonly protocol: number;
  count: number;
  oldestMs: number;
  shown: boolean;
}

const IDLE_EDGE_MS = 10 * 60_000;
const MAX_PAIRS = 4_096;
const MAX_OWNERS = 10_000;

const natOf = ({ definition: { peer: address, port }, actual }: WireEdge): NatDefinition => ({
  address,
  port,
  actualAddress: actual?.address ?? address,
  actualPort: actual?.port ?? port,
});

export class Fold {
  readonly edges = new Map<number, WireEdge>();
  /** of all connections, both ways, since the start */
  tcpBytes = 0;
  readonly losses: FoldLosses = { unattributedRows: 0, unattributedRequests: 0, pairs: 0 };
  private readonly byKey = new Map<string, WireEdge>();
  private readonly sources = new Map<number, Source>();
  private readonly owners: FoldOwners;
  private readonly lastOwner = new Map<string, Instance>();
  private readonly pending = new Map<number, PendingCell>();
  private dirty: WireEdge[] = [];
  private nat: NatDefinition[] = [];
  private pairs: { readonly wire: WireEdge; readonly port: number; readonly ip: Uint8Array }[] = [];
  private nextId = 1;

  constructor(owners: FoldOwners) {
    this.owners = owners;
  }

  absorb(tick: ProbeTick, nowMs: number): void {
    if (tick.reset === true) this.forgetProbe();
    for (const edge of tick.edges) this.define(edge, nowMs);
    this.absorbTcp(tick, nowMs);
    this.absorbTroubles(tick, nowMs);
    this.absorbRequests(tick, nowMs);
    this.absorbPending(tick);
    for (let i = 0; i < tick.pairs.rows; i++) {
      const wire = this.wireOf(tick.pairs.edge[i] ?? 0);
      if (wire === null) continue;
      if (this.pairs.length >= MAX_PAIRS) this.losses.pairs++;
      else this.pairs.push({ wire, port: tick.pairs.port[i] ?? 0, ip: tick.pairIps.slice(i * 16, i * 16 + 16) });
    }
    this.absorbNat(tick);
    for (const id of tick.gone) this.removeSource(id);
  }

  /** The probe ended: its gauges are void, its counts were added already. */
  forgetProbe(): void {
    for (const id of this.sources.keys()) this.removeSource(id);
    for (const cell of this.pending.values()) cell.count = cell.oldestMs = 0;
  }

  /** A process runs another program now: its edges belong elsewhere. */
  invalidate(tgid: number, nowMs: number): void {
    for (const source of this.sources.values())
      if (source.edge.tgid === tgid) this.attach(source, this.resolve(source.edge), nowMs);
  }

  /** Who sent on a client's edge; null where that cannot be told, and for servers. */
  clientOf(id: number): { readonly instance: number; readonly tgid: number } | null {
    const edge = this.sources.get(id)?.edge;
    if (edge === undefined || edge.role !== ROLE.client) return null;
    const wire = this.wireOf(id);
    return wire === null ? null : { instance: wire.definition.instance, tgid: edge.tgid };
  }

  /** Whose an edge of the probe is; null where that cannot be told. */
  ownerOf(id: number): { readonly edge: ProbeEdge; readonly instance: number } | null {
    const edge = this.sources.get(id)?.edge;
    const wire = this.wireOf(id);
    return edge === undefined || wire === null ? null : { edge, instance: wire.definition.instance };
  }

  /** All edges of the probe, with what each is part of. */
  *allSources(): Iterable<{
    readonly edge: ProbeEdge;
    readonly wire: { readonly id: number; readonly instance: number } | null;
  }> {
    for (const { edge, wire } of this.sources.values()) yield { edge, wire: wire === null ? null : wire.definition };
  }

  /** Ends the window: rows of instances that `shown` accepts, the others wait; those of the gone are counted as lost. */
  flush(nowMs: number, state: (instance: number) => "shown" | "waiting" | "gone"): FoldedTables {
    const ready: WireEdge[] = [];
    const waiting: WireEdge[] = [];
    for (const wire of this.dirty) {
      const judged = state(wire.definition.instance);
      if (judged === "waiting") waiting.push(wire);
      else {
        wire.queued = false;
        if (judged === "shown") ready.push(wire);
        else this.lose(wire);
      }
    }
    this.dirty = waiting;
    const used = new Set<number>();
    const shown = (wire: WireEdge): boolean => state(wire.definition.instance) === "shown";
    const tables = {
      tcp: tcpTable(ready, used),
      troubles: troubleTable(ready, used),
      ...requestTables(ready, used),
      pending: this.pendingTable(shown, used),
      ...this.pairTables(shown, used),
    };
    this.evict(nowMs, state);
    return { ...tables, nat: this.nat.splice(0), edgeIds: [...used] };
  }

  private define(edge: ProbeEdge, nowMs: number): void {
    const known = this.sources.get(edge.id);
    const source: Source = { edge, wire: null, active: 0 };
    if (known !== undefined) {
      source.wire = known.wire;
      source.active = known.active;
    }
    this.sources.set(edge.id, source);
    this.attach(source, this.resolve(edge), nowMs);
  }

  private resolve(edge: ProbeEdge): Instance | null {
    const known = edge.tgid > 0 ? this.owners.ofProcess(edge.tgid) : null;
    if (edge.role !== ROLE.server) return known;
    const place = `${edge.netns}|${edge.local}|${edge.port}`;
    if (known !== null) {
      if (this.lastOwner.size >= MAX_OWNERS) this.lastOwner.clear();
      this.lastOwner.set(place, known);
      return known;
    }
    const listening = this.owners.ofListening(edge.netns, edge.local, edge.port);
    if (listening !== null) return listening;
    return this.lastOwner.get(place) ?? null;
  }

  private attach(source: Source, instance: Instance | null, nowMs: number): void {
    const { edge } = source;
    const key =
      instance === null ? null : `${instance.id}|${edge.role}|${edge.peer}|${edge.port}|${edge.local}|${edge.netns}`;
    if (source.wire?.key === key) return;
    // Open connections move with the owner.
    if (source.wire !== null) {
      source.wire.sources--;
      source.wire.active -= source.active;
      this.touchTcp(source.wire, nowMs);
      source.wire = null;
    }
    if (instance === null || key === null) return;
    instance.talks = true;
    let wire = this.byKey.get(key);
    if (wire === undefined) {
      wire = new WireEdge(
        {
          id: this.nextId++,
          instance: instance.id,
          role: edge.role,
          peer: edge.peer,
          port: edge.port,
          local: edge.local,
          netns: edge.netns,
        },
        key,
      );
      this.byKey.set(key, wire);
      this.edges.set(wire.definition.id, wire);
    }
    wire.sources++;
    wire.lastUsedMs = nowMs;
    source.wire = wire;
    if (source.active > 0) {
      wire.active += source.active;
      this.touchTcp(wire, nowMs);
    }
  }

  /** The wire edge of a probe edge; an owner that was unknown is sought again. */
  private wireOf(id: number): WireEdge | null {
    const source = this.sources.get(id);
    if (source === undefined) return null;
    if (source.wire === null) this.attach(source, this.resolve(source.edge), 0);
    return source.wire;
  }

  private absorbTcp(tick: ProbeTick, nowMs: number): void {
    const { tcp } = tick;
    for (let i = 0; i < tcp.rows; i++) {
      const id = tcp.edge[i] ?? 0;
      this.tcpBytes += (tcp.bytesOut[i] ?? 0) + (tcp.bytesIn[i] ?? 0);
      const wire = this.wireOf(id);
      if (wire === null) {
        this.losses.unattributedRows++;
        continue;
      }
      const source = this.sources.get(id);
      if (source !== undefined) {
        const active = tcp.active[i] ?? 0;
        wire.active += active - source.active;
        source.active = active;
      }
      wire.opens += tcp.opens[i] ?? 0;
      wire.failed += tcp.failed[i] ?? 0;
      wire.closes += tcp.closes[i] ?? 0;
      wire.bytesOut += tcp.bytesOut[i] ?? 0;
      wire.bytesIn += tcp.bytesIn[i] ?? 0;
      wire.retransmits += tcp.retransmits[i] ?? 0;
      wire.connectUs += tcp.connectUs[i] ?? 0;
      wire.rttUs += tcp.rttUs[i] ?? 0;
      wire.rttCount += tcp.rttCount[i] ?? 0;
      this.touchTcp(wire, nowMs);
    }
  }

  private absorbTroubles({ troubles }: ProbeTick, nowMs: number): void {
    for (let i = 0; i < troubles.rows; i++) {
      const wire = this.wireOf(troubles.edge[i] ?? 0);
      if (wire === null) {
        this.losses.unattributedRows++;
        continue;
      }
      wire.addTrouble(troubles.kind[i] ?? 0, troubles.count[i] ?? 0);
      this.touch(wire, nowMs);
    }
  }

  private absorbNat({ nat }: ProbeTick): void {
    for (const { edge, address, port } of nat) {
      const wire = this.wireOf(edge);
      if (wire === null) continue;
      const { definition } = wire;
      const plain = address === definition.peer && port === definition.port;
      wire.actual = plain ? null : { address, port };
      wire.places++;
      this.nat.push(natOf(wire));
    }
  }

  /** What is translated, or was, for a connection that has heard of nothing. */
  *translations(): Iterable<NatDefinition> {
    for (const wire of this.edges.values()) if (wire.places > 0) yield natOf(wire);
  }

  private absorbRequests(tick: ProbeTick, nowMs: number): void {
    const { l7, hist } = tick;
    for (let i = 0; i < l7.rows; i++) {
      const wire = this.wireOf(l7.edge[i] ?? 0);
      const count = l7.count[i] ?? 0;
      if (wire === null) {
        this.losses.unattributedRows++;
        this.losses.unattributedRequests += count;
        continue;
      }
      wire.cell(l7.protocol[i] ?? 0, l7.status[i] ?? 0).add(count, l7.sumUs[i] ?? 0);
      this.touch(wire, nowMs);
    }
    for (let i = 0; i < hist.rows; i++) {
      const row = hist.row[i] ?? 0;
      const wire = this.sources.get(l7.edge[row] ?? 0)?.wire;
      if (wire === null || wire === undefined) continue;
      wire.cell(l7.protocol[row] ?? 0, l7.status[row] ?? 0).addBucket(hist.bucket[i] ?? 0, hist.count[i] ?? 0);
    }
  }

  private absorbPending(tick: ProbeTick): void {
    const { pending } = tick;
    for (const cell of this.pending.values()) cell.count = cell.oldestMs = 0;
    for (let i = 0; i < pending.rows; i++) {
      const wire = this.wireOf(pending.edge[i] ?? 0);
      if (wire === null) continue;
      const protocol = pending.protocol[i] ?? 0;
      const key = wire.definition.id * 256 + protocol;
      let cell = this.pending.get(key);
      if (cell === undefined) {
        cell = { wire, protocol, count: 0, oldestMs: 0, shown: false };
        this.pending.set(key, cell);
      }
      cell.count += pending.count[i] ?? 0;
      cell.oldestMs = Math.max(cell.oldestMs, pending.oldestMs[i] ?? 0);
    }
  }

  private pendingTable(shown: (wire: WireEdge) => boolean, used: Set<number>): WireTable | null {
    const rows: PendingCell[] = [];
    for (const [key, cell] of this.pending) {
      if (cell.count === 0 && !cell.shown) this.pending.delete(key);
      else if (shown(cell.wire)) rows.push(cell);
      else if (cell.count === 0) this.pending.delete(key);
    }
    if (rows.length === 0) return null;
    const table = emptyTable(PENDING_SHAPE, rows.length);
    for (const [i, cell] of rows.entries()) {
      used.add(cell.wire.definition.id);
      table.edge[i] = cell.wire.definition.id;
      table.protocol[i] = cell.protocol;
      table.count[i] = cell.count;
      table.oldestMs[i] = cell.oldestMs;
      cell.shown = cell.count > 0;
    }
    return encodeTable(PENDING_SHAPE, table);
  }

  private pairTables(
    shown: (wire: WireEdge) => boolean,
    used: Set<number>,
  ): { readonly pairs: WireTable | null; readonly pairIps: Uint8Array | null } {
    if (this.pairs.length === 0) return { pairs: null, pairIps: null };
    const ready = this.pairs.filter((pair) => shown(pair.wire));
    this.pairs = [];
    const table = emptyTable(PAIR_SHAPE, ready.length);
    const ips = new Uint8Array(ready.length * 16);
    for (const [i, pair] of ready.entries()) {
      used.add(pair.wire.definition.id);
      table.edge[i] = pair.wire.definition.id;
      table.port[i] = pair.port;
      ips.set(pair.ip, i * 16);
    }
    return { pairs: encodeTable(PAIR_SHAPE, table), pairIps: ips };
  }

  private removeSource(id: number): void {
    const source = this.sources.get(id);
    if (source === undefined) return;
    this.sources.delete(id);
    const { wire } = source;
    if (wire === null) return;
    wire.sources--;
    if (source.active > 0) {
      wire.active -= source.active;
      this.touchTcp(wire, wire.lastUsedMs);
    }
  }

  private lose(wire: WireEdge): void {
    this.losses.unattributedRows++;
    for (const cell of wire.cells)
      if (cell !== undefined && cell.count > 0) {
        this.losses.unattributedRequests += cell.count;
        cell.clear();
      }
    wire.troubles?.now.fill(0);
    wire.clearTcp();
  }

  private evict(nowMs: number, state: (instance: number) => "shown" | "waiting" | "gone"): void {
    for (const [id, wire] of this.edges) {
      const gone = state(wire.definition.instance) === "gone";
      if (!gone && (wire.sources > 0 || wire.queued || nowMs - wire.lastUsedMs < IDLE_EDGE_MS)) continue;
      if (gone)
        for (const source of this.sources.values())
          if (source.wire === wire) {
            source.wire = null;
            wire.sources--;
          }
      this.edges.delete(id);
      this.byKey.delete(wire.key);
      for (const [key, cell] of this.pending) if (cell.wire === wire) this.pending.delete(key);
    }
    for (const [place, instance] of this.lastOwner) if (state(instance.id) === "gone") this.lastOwner.delete(place);
  }

  private touch(wire: WireEdge, nowMs: number): void {
    wire.lastUsedMs = nowMs;
    if (wire.queued) return;
    wire.queued = true;
    this.dirty.push(wire);
  }

  private touchTcp(wire: WireEdge, nowMs: number): void {
    wire.tcpDirty = true;
    this.touch(wire, nowMs);
  }
}
