/**
 * One observed second, and its encoding for one connection. A window holds ids of the agent's life, so it can be sent
 * again on another connection; the dictionary adds the definitions that this connection has not heard yet. The catalog is
 * owned by the observer; a dictionary by one connection, and is thrown away with it.
 */
import type { WireTable } from "../../../schemas/wire/columns.ts";
import { encodeFrame } from "../../../schemas/wire/codec.ts";
import { FRAME } from "../../../schemas/wire/frame.ts";
import type {
  AbsentDefinition,
  EdgeDefinition,
  InstanceDefinition,
  InstanceEvent,
  ListenDefinition,
  MountDefinition,
  NameDefinition,
  NatDefinition,
  ObserveBody,
  SelfFigures,
} from "../../../schemas/wire/observe.ts";

export interface Listens {
  readonly version: number;
  readonly list: readonly ListenDefinition[];
}

export interface Window {
  readonly window: number;
  readonly monoMs: number;
  readonly wallMs: number;
  /** set by the link when it is first sent, see ObserveBody */
  readonly serverMs?: number;
  readonly gone: readonly number[];
  readonly events: readonly InstanceEvent[];
  readonly listens: Listens;
  readonly edgeIds: readonly number[];
  readonly tcp: WireTable | null;
  readonly troubles?: WireTable | null;
  readonly l7: WireTable | null;
  readonly hist: WireTable | null;
  readonly pending: WireTable | null;
  readonly pairs: WireTable | null;
  readonly pairIps: Uint8Array | null;
  readonly usage: WireTable | null;
  /** of addresses, new in this window */
  readonly names?: readonly NameDefinition[];
  readonly absent?: readonly AbsentDefinition[];
  readonly mounts?: readonly MountDefinition[];
  /** of translated addresses, what has changed in this window */
  readonly nat?: readonly NatDefinition[];
  /** what the agent says of itself, not with each window */
  readonly self?: SelfFigures;
}

/** Definitions are kept this long after their end, since windows that are sent again may still need them. */
const KEEP_MS = 300_000;

interface Known<D> {
  readonly definition: D;
  /** monotonic time of the end, null while alive */
  endedMs: number | null;
}

export class Catalog {
  readonly instances = new Map<number, Known<InstanceDefinition>>();
  readonly edges = new Map<number, Known<EdgeDefinition>>();
  /** names of addresses that are known now */
  names: ReadonlyMap<string, { readonly name: string }> = new Map();
  /** what is translated now */
  translations: () => Iterable<NatDefinition> = () => [];
  /** how many edges were forgotten so far */
  forgottenEdges = 0;

  addInstance(definition: InstanceDefinition): void {
    if (!this.instances.has(definition.id)) this.instances.set(definition.id, { definition, endedMs: null });
  }

  addEdge(definition: EdgeDefinition): void {
    if (!this.edges.has(definition.id)) this.edges.set(definition.id, { definition, endedMs: null });
  }

  /** Marks what `alive` no longer has and forgets what ended long ago. */
  sweep(nowMs: number, instanceAlive: (id: number) => boolean, edgeAlive: (id: number) => boolean): void {
    sweepMap(this.instances, nowMs, instanceAlive);
    this.forgottenEdges += sweepMap(this.edges, nowMs, edgeAlive);
  }
}

const sweepMap = <D>(known: Map<number, Known<D>>, nowMs: number, alive: (id: number) => boolean): number => {
  const before = known.size;
  for (const [id, entry] of known) {
    if (alive(id)) entry.endedMs = null;
    else if (entry.endedMs === null) entry.endedMs = nowMs;
    else if (nowMs - entry.endedMs > KEEP_MS) known.delete(id);
  }
  return before - known.size;
};

export class Dictionary {
  private readonly instances = new Set<number>();
  private readonly edges = new Set<number>();
  private listensVersion = -1;
  private namesTold = false;
  private forgottenEdges: number;
  private readonly catalog: Catalog;

  constructor(catalog: Catalog) {
    this.catalog = catalog;
    this.forgottenEdges = catalog.forgottenEdges;
  }

  /** The window as a frame of this connection. Call it once per window and in order. */
  encode(window: Window): Uint8Array {
    return encodeFrame(FRAME.observe, this.body(window));
  }

  body(window: Window): ObserveBody {
    const instances: InstanceDefinition[] = [];
    const edges: EdgeDefinition[] = [];
    const edgeInstances = new Set<number>();
    for (const id of window.edgeIds) {
      if (this.edges.has(id)) continue;
      const definition = this.catalog.edges.get(id)?.definition;
      if (definition === undefined) continue;
      this.edges.add(id);
      edges.push(definition);
      edgeInstances.add(definition.instance);
    }
    // All that lived when the window ended; of the ended ones those that it speaks of.
    const spoken = new Set([...edgeInstances, ...window.gone, ...window.events.map((event) => event.instance)]);
    for (const [id, entry] of this.catalog.instances) {
      if (this.instances.has(id)) continue;
      if (entry.endedMs !== null && entry.endedMs < window.monoMs && !spoken.has(id)) continue;
      this.instances.add(id);
      instances.push(entry.definition);
    }
    const names = this.namesTold
      ? (window.names ?? [])
      : [...this.catalog.names].map(([address, { name }]): NameDefinition => ({ address, name }));
    const nat = this.namesTold ? (window.nat ?? []) : [...this.catalog.translations()];
    this.namesTold = true;
    const absent = (window.absent ?? []).filter(({ instance }) => this.instances.has(instance));
    const mounts = (window.mounts ?? []).filter(({ instance }) => this.instances.has(instance));
    const goneEdges = this.goneEdges();
    const gone = window.gone.filter((id) => this.instances.has(id));
    const listens = window.listens.version !== this.listensVersion;
    this.listensVersion = window.listens.version;
    return {
      window: window.window,
      monoMs: window.monoMs,
      wallMs: window.wallMs,
      ...(window.serverMs === undefined ? {} : { serverMs: window.serverMs }),
      ...(instances.length > 0 ? { instances } : {}),
      ...(edges.length > 0 ? { edges } : {}),
      ...(listens ? { listens: window.listens.list.filter((one) => this.instances.has(one.instance)) } : {}),
      ...(gone.length > 0 ? { gone } : {}),
      ...(goneEdges.length > 0 ? { goneEdges } : {}),
      ...(window.events.length > 0 ? { events: window.events } : {}),
      ...(names.length > 0 ? { names } : {}),
      ...(absent.length > 0 ? { absent } : {}),
      ...(mounts.length > 0 ? { mounts } : {}),
      ...(nat.length > 0 ? { nat } : {}),
      ...(window.tcp === null ? {} : { tcp: window.tcp }),
      ...(window.self === undefined ? {} : { self: window.self }),
      ...(window.troubles === undefined || window.troubles === null ? {} : { troubles: window.troubles }),
      ...(window.l7 === null ? {} : { l7: window.l7 }),
      ...(window.hist === null ? {} : { hist: window.hist }),
      ...(window.pending === null ? {} : { pending: window.pending }),
      ...(window.pairs === null ? {} : { pairs: window.pairs }),
      ...(window.pairIps === null ? {} : { pairIps: window.pairIps }),
      ...(window.usage === null ? {} : { usage: window.usage }),
    };
  }

  /** What this connection heard of and the catalog has forgotten: a busy server has a new client every moment. */
  private goneEdges(): number[] {
    if (this.forgottenEdges === this.catalog.forgottenEdges) return [];
    this.forgottenEdges = this.catalog.forgottenEdges;
    const gone = [...this.edges].filter((id) => !this.catalog.edges.has(id));
    for (const id of gone) this.edges.delete(id);
    return gone;
  }
}
