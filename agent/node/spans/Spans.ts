/**
 * Requests that the probe told become spans: described, given to their instance, joined into traces, and handed out as
 * OTLP for the store lane. Owned by the node agent; synchronous, no I/O. Bounded: what waits for its relatives is at most
 * MAX_HELD spans, and endpoints per instance MAX_ENDPOINTS.
 *
 * Which trace a span is in: that of the `traceparent` header of its request. Else that of its relatives: a client's of the
 * server's request that its thread served alone, a server's of its client, told here or on another node. What belongs to
 * nobody begins a trace whose id follows from the TCP sequence numbers, which both ends of a connection see.
 */
import { createHash } from "node:crypto";
import { PROTOCOLS, ROLE } from "../../../schemas/wire/observe.ts";
import type { Instance } from "../observe/Instances.ts";
import type { ProbeEdge, ProbeSpan, ProbeTick } from "../probe/ProbeTick.ts";
import { TOLD } from "../probe/ProbeTick.ts";
import { describe, Statements, type Described } from "./describe.ts";
import { encodeTraces, SPAN_KIND, type Attributes, type OtlpResource, type OtlpSpan } from "./otlp.ts";

export interface SpanOwners {
  /** whose edge of the probe it is; null where that cannot be told */
  readonly ownerOf: (edge: number) => { readonly edge: ProbeEdge; readonly instance: number } | null;
  readonly instance: (id: number) => Instance | undefined;
  /** attributes of the machine */
  readonly host: string;
  readonly cluster: string;
  /** makes ids of what no sequence number tells apart */
  readonly agentId: string;
}

export interface SpanFigures {
  spans: number;
  /** of processes that could not be named, or that are nobody's service */
  unattributed: number;
  /** told without relatives, since too many waited for theirs */
  hurried: number;
  /** named for their kind alone, since the instance has more endpoints than are told apart */
  endpointsFolded: number;
  /** in the trace of a header, of a relative, or alone */
  byHeader: number;
  byRelative: number;
  alone: number;
}

const MAX_HELD = 4_000;
const MAX_ENDPOINTS = 200;
/** Both ends of a request are told within this time of each other. */
const PAIR_MS = 1_900;
/** So long a call waits for the request that it was made for; and that is kept for it. */
const FAMILY_MS = 12_000;
const OFFSETS = 60;
/** Within a cluster, where an agent is likely to see the other end as well. */
const PRIVATE =
  /^(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|169\.254\.|f[cd]|fe80:)/i;

interface Held {
  readonly span: ProbeSpan;
  readonly described: Described;
  readonly edge: ProbeEdge;
  readonly instance: number;
  readonly atMs: number;
  readonly startNs: bigint;
  /** the connection's bytes, as both ends see them; null where unknown */
  readonly key: string | null;
  readonly spanId: Buffer;
  trace: Buffer | null;
  parent: Buffer | null;
  resolving: boolean;
  sent: boolean;
}

const digest = (...parts: readonly (string | number)[]): Buffer =>
  createHash("sha256").update(parts.join("\0")).digest();
const traceOf = (key: string): Buffer => digest("trace", key).subarray(0, 16);
const clientOf = (key: string): Buffer => digest("client", key).subarray(0, 8);
const serverOf = (key: string): Buffer => digest("server", key).subarray(0, 8);
const isClient = ({ span }: Held): boolean => span.role === ROLE.client;

export class Spans {
  readonly figures: SpanFigures = {
    spans: 0,
    unattributed: 0,
    hurried: 0,
    endpointsFolded: 0,
    byHeader: 0,
    byRelative: 0,
    alone: 0,
  };
  private readonly owners: SpanOwners;
  private readonly statements = new Statements();
  private held: Held[] = [];
  /** clients by the bytes of their request, servers by thread and start */
  private readonly clients = new Map<string, Held>();
  private readonly servers = new Map<string, Held>();
  private readonly endpoints = new Map<number, Set<string>>();
  private offsets: number[] = [];

  constructor(owners: SpanOwners) {
    this.owners = owners;
  }

  /** Takes the requests of a tick. The observer has absorbed it before. */
  absorb(tick: ProbeTick, clocks: { readonly monoMs: number; readonly wallMs: number }): void {
    if (tick.reset) {
      this.statements.clear();
      this.clients.clear();
      this.servers.clear();
    }
    const offset = this.offset(clocks.wallMs - tick.monoMs);
    for (const span of tick.spans) {
      const described = describe(span, this.statements);
      if (described === null) continue;
      const owner = this.owners.ownerOf(span.edge);
      if (owner === null) {
        this.figures.unattributed++;
        continue;
      }
      this.hold(span, described, owner, clocks.monoMs, offset);
    }
  }

  /** Spans whose relatives are known or will not come any more, as one request; null: none. `all`: at the end. */
  take(nowMs: number, all = false): Buffer | null {
    const ready: Held[] = [];
    const waiting: Held[] = [];
    for (const one of this.held) (all || this.isReady(one, nowMs) ? ready : waiting).push(one);
    const excess = waiting.length - MAX_HELD;
    if (excess > 0) {
      this.figures.hurried += excess;
      ready.push(...waiting.splice(0, excess));
    }
    this.held = waiting;
    const byInstance = new Map<number, OtlpSpan[]>();
    for (const one of ready) {
      if (!this.isShown(one)) {
        this.figures.unattributed++;
        continue;
      }
      const spans = byInstance.get(one.instance) ?? [];
      spans.push(this.spanOf(one));
      byInstance.set(one.instance, spans);
    }
    this.forget(nowMs);
    const resources: OtlpResource[] = [];
    for (const [id, spans] of byInstance) {
      const instance = this.owners.instance(id);
      if (instance !== undefined) resources.push({ attributes: this.resourceOf(instance), spans });
    }
    return resources.length === 0 ? null : encodeTraces(resources);
  }

  /** Spans that wait for their relatives. */
  get waiting(): number {
    return this.held.length;
  }

  /** The monotonic clock's distance from the wall clock: the least seen lately, since a late reading only adds to it. */
  private offset(seen: number): number {
    const before = this.offsets[0];
    if (before !== undefined && Math.abs(seen - before) > 2_000) this.offsets = [];
    this.offsets.push(seen);
    if (this.offsets.length > OFFSETS) this.offsets.shift();
    return Math.min(...this.offsets);
  }

  private hold(
    span: ProbeSpan,
    described: Described,
    owner: { readonly edge: ProbeEdge; readonly instance: number },
    atMs: number,
    offsetMs: number,
  ): void {
    const { initial, seq, role } = span;
    const known = span.head.length > 0 && initial[0] !== 0 && initial[1] !== 0;
    const key = known ? `${initial[0]}.${initial[1]}.${seq}` : null;
    const unique = `${this.owners.agentId} ${span.edge} ${span.socket} ${span.startNs} ${span.thread}`;
    const spanId =
      key === null ? digest(unique, role).subarray(0, 8) : role === ROLE.client ? clientOf(key) : serverOf(key);
    const held: Held = {
      span,
      described: this.bounded(owner.instance, described),
      ...owner,
      atMs,
      startNs: BigInt(Math.round(offsetMs * 1e6)) + BigInt(span.startNs),
      key,
      spanId,
      trace: null,
      parent: null,
      resolving: false,
      sent: false,
    };
    this.held.push(held);
    if (role === ROLE.client) {
      if (key !== null) this.clients.set(key, held);
    } else if (span.head.length > 0) this.servers.set(`${span.thread} ${span.startNs}`, held);
  }

  private isShown({ instance }: Held): boolean {
    return this.owners.instance(instance)?.reported === true;
  }

  private clientFor({ key }: Held): Held | undefined {
    return key === null ? undefined : this.clients.get(key);
  }
  private serverFor({ span }: Held): Held | undefined {
    return span.parentNs === 0 ? undefined : this.servers.get(`${span.thread} ${span.parentNs}`);
  }

  private isReady(one: Held, nowMs: number): boolean {
    const age = nowMs - one.atMs;
    if (age < PAIR_MS) return false;
    if (age >= FAMILY_MS || one.described.parent !== null) return true;
    if (isClient(one)) return one.span.parentNs === 0 || this.serverFor(one) !== undefined;
    const client = this.clientFor(one);
    return client === undefined || client.sent || this.isReady(client, nowMs);
  }

  /** Finds trace and parent, of its relatives first. */
  private resolve(one: Held): Buffer {
    if (one.trace !== null) return one.trace;
    const { parent } = one.described;
    if (parent !== null) {
      one.parent = Buffer.from(parent.spanId, "hex");
      one.trace = Buffer.from(parent.traceId, "hex");
      this.figures.byHeader++;
      return one.trace;
    }
    const relative = isClient(one) ? this.serverFor(one) : this.clientFor(one);
    if (relative !== undefined && !relative.resolving && this.isShown(relative)) {
      one.resolving = true;
      one.trace = this.resolve(relative);
      one.parent = relative.spanId;
      one.resolving = false;
      this.figures.byRelative++;
      return one.trace;
    }
    this.figures.alone++;
    one.trace = one.key === null ? digest("alone", one.spanId.toString("hex")).subarray(0, 16) : traceOf(one.key);
    // the client's end is another agent's to tell
    if (!isClient(one) && one.key !== null && PRIVATE.test(one.edge.peer)) one.parent = clientOf(one.key);
    return one.trace;
  }

  private spanOf(one: Held): OtlpSpan {
    const { span, described, edge, startNs } = one;
    const trace = this.resolve(one);
    one.sent = true;
    this.figures.spans++;
    const client = isClient(one);
    const protocol = PROTOCOLS[span.protocol];
    const publishes =
      client && (protocol === "rabbitmq" || protocol === "kafka") && "messaging.operation.type" in described.attributes;
    const own = one.key === null ? null : traceOf(one.key);
    const attributes: Record<string, string | number> = { ...described.attributes };
    if (protocol === "http" && !client && "url.template" in attributes) {
      attributes["http.route"] = attributes["url.template"] ?? "";
      delete attributes["url.template"];
    }
    attributes["network.peer.address"] = edge.peer;
    if (client) attributes["network.peer.port"] = edge.port;
    else attributes["server.port"] = edge.port;
    if (client && attributes["server.address"] === undefined) attributes["server.address"] = edge.peer;
    if (client) attributes["server.port"] = edge.port;
    attributes["thread.id"] = span.thread;
    attributes["process.pid"] = span.tgid;
    attributes["coroot.told"] = Object.entries(TOLD)
      .filter(([name, bit]) => name !== "statement" && (span.told & bit) !== 0)
      .map(([name]) => name)
      .join(",");
    if (described.endpoint !== "") attributes["coroot.endpoint"] = described.endpoint;
    if (span.weight > 0) attributes["coroot.weight"] = span.weight;
    if (span.count > 1) attributes["coroot.requests"] = span.count;
    return {
      traceId: trace,
      spanId: one.spanId,
      parentId: one.parent,
      link:
        client && own !== null && !own.equals(trace) && described.parent === null
          ? { traceId: own, spanId: one.spanId }
          : null,
      name: described.name,
      kind: publishes ? SPAN_KIND.producer : client ? SPAN_KIND.client : SPAN_KIND.server,
      startNs,
      endNs: startNs + BigInt(Math.max(1, Math.round(span.durationNs))),
      attributes,
      problem: described.problem,
    };
  }

  private resourceOf(instance: Instance): Attributes {
    const { identity, slot } = instance;
    const attributes: Record<string, string> = {
      "service.name": instance.name ?? identity.name,
      "service.namespace": instance.namespace,
      "service.instance.id": slot,
      "host.name": this.owners.host,
      "telemetry.sdk.name": "coroot-ebpf",
      "telemetry.sdk.language": identity.type,
      "coroot.cluster": this.owners.cluster,
    };
    if (identity.exe !== "") attributes["process.executable.path"] = identity.exe;
    if (/^[0-9a-f]{64}$/.test(slot)) attributes["container.id"] = slot;
    if (identity.kind === "SystemdUnit") attributes["systemd.unit"] = slot;
    return attributes;
  }

  /** Beyond a number of endpoints an instance's further ones are one of each operation. */
  private bounded(instance: number, described: Described): Described {
    if (described.endpoint === "") return described;
    const known = this.endpoints.get(instance) ?? new Set<string>();
    this.endpoints.set(instance, known);
    if (known.has(described.endpoint)) return described;
    if (known.size < MAX_ENDPOINTS) {
      known.add(described.endpoint);
      return described;
    }
    this.figures.endpointsFolded++;
    const name = `${described.endpoint.split(" ")[0] ?? ""} *`;
    const attributes = { ...described.attributes };
    if ("url.template" in attributes) attributes["url.template"] = "*";
    return { ...described, name, endpoint: name, attributes };
  }

  private forget(nowMs: number): void {
    for (const map of [this.clients, this.servers])
      for (const [key, one] of map) {
        // in the order of their coming
        if (nowMs - one.atMs < FAMILY_MS + PAIR_MS && map.size < 2 * MAX_HELD) break;
        map.delete(key);
      }
    for (const id of this.endpoints.keys()) if (this.owners.instance(id) === undefined) this.endpoints.delete(id);
  }
}
