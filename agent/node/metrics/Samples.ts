/**
 * Metric samples for the store lane, every 15 s, under Coroot's names: containers, edges, requests, node and the agent's
 * own figures. Owned by the node agent. Series ids are of the agent's life; a segment of the spool defines anew what it
 * names, so that it can be replayed alone. Holds nothing to stop.
 */
import { emptyTable, encodeTable } from "../../../schemas/wire/columns.ts";
import { encodeFrame } from "../../../schemas/wire/codec.ts";
import { FRAME } from "../../../schemas/wire/frame.ts";
import { SAMPLES_SHAPE, type SeriesDefinition, type StoreBody } from "../../../schemas/wire/link.ts";
import { PROTOCOLS, ROLE, STATUS, TROUBLE } from "../../../schemas/wire/observe.ts";
import { serviceId } from "../../../schemas/service.ts";
import type { Emit } from "../host/nodeFigures.ts";
import type { Process } from "../host/ProcessTable.ts";
import type { Instance } from "../observe/Instances.ts";
import { type Observer, tlsReason } from "../observe/Observer.ts";
import { DNS_PROTOCOL } from "../observe/Lookups.ts";
import { LE_SECONDS, type RequestCell, TCP_SUMS, type WireEdge } from "../observe/WireEdge.ts";

type Labels = Readonly<Record<string, string>>;

/** Series that were not seen for so many rounds are forgotten; should they come back they get a new id. */
const KEEP_ROUNDS = 40;

interface Series {
  readonly definition: SeriesDefinition;
  value: number;
  round: number;
}

const escapeLabel = (text: string): string =>
  text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"');

/** Samples of one round as columns, with the definitions that the current segment lacks. */
export class SampleSet {
  private readonly series = new Map<string, Series>();
  private defined = new Set<number>();
  private nextId = 1;
  private round = 0;

  begin(): void {
    this.round++;
    for (const [key, series] of this.series) if (this.round - series.round > KEEP_ROUNDS) this.series.delete(key);
  }

  /** What was defined is in another segment. */
  renew(): void {
    this.defined = new Set();
  }

  /** The same series put twice in a round adds up: several edges may share a destination. */
  readonly put = (name: string, labels: Labels, value: number): void => {
    let key = name;
    for (const label in labels) key += `\0${label}\0${labels[label] ?? ""}`;
    const known = this.series.get(key);
    if (known === undefined) {
      const definition = { id: this.nextId++, name, labels };
      this.series.set(key, { definition, value, round: this.round });
    } else if (known.round === this.round) known.value += value;
    else {
      known.value = value;
      known.round = this.round;
    }
  };

  get size(): number {
    return this.series.size;
  }

  /** The round as Prometheus text. */
  text(): string {
    const lines: string[] = [];
    for (const { definition, value, round } of this.series.values()) {
      if (round !== this.round) continue;
      const labels = Object.entries(definition.labels).map(([name, text]) => `${name}="${escapeLabel(text)}"`);
      lines.push(`${definition.name}${labels.length > 0 ? `{${labels.join(",")}}` : ""} ${value}`);
    }
    // Lines of one name belong together.
    return `${lines.toSorted().join("\n")}\n`;
  }

  body(
    head: { epoch: number; sequence: number; monoMs: number; dropped: number },
    timeMs: number,
    fresh: boolean,
  ): StoreBody {
    if (fresh) this.renew();
    const now: Series[] = [];
    const series: SeriesDefinition[] = [];
    for (const one of this.series.values()) {
      if (one.round !== this.round) continue;
      now.push(one);
      if (this.defined.has(one.definition.id)) continue;
      this.defined.add(one.definition.id);
      series.push(one.definition);
    }
    const table = emptyTable(SAMPLES_SHAPE, now.length);
    for (const [i, one] of now.entries()) {
      table.series[i] = one.definition.id;
      table.timeMs[i] = timeMs;
      table.value[i] = one.value;
    }
    return { ...head, ...(series.length > 0 ? { series } : {}), samples: encodeTable(SAMPLES_SHAPE, table) };
  }

  encode(
    head: { epoch: number; sequence: number; monoMs: number; dropped: number },
    timeMs: number,
    fresh: boolean,
  ): Uint8Array {
    return encodeFrame(FRAME.store, this.body(head, timeMs, fresh));
  }
}

const containerId = (instance: Instance<Process>): string => {
  const { kind, folders } = instance.identity;
  const name = instance.name ?? instance.identity.name;
  if (kind === "SystemdUnit")
    return folders.unified ?? folders.cpu ?? folders.memory ?? `/system.slice/${instance.slot}`;
  return kind === "Container" ? `/docker/${name}` : `/process/${name}/${instance.slot}`;
};

/** How a protocol's metrics are named. */
const STEMS: Readonly<Record<string, readonly [protocol: string, unit: string]>> = {
  http: ["http", "requests"],
  postgres: ["postgres", "queries"],
  redis: ["redis", "queries"],
  mysql: ["mysql", "queries"],
  memcached: ["memcached", "queries"],
  zookeeper: ["zookeeper", "requests"],
  mongodb: ["mongo", "queries"],
  kafka: ["kafka", "requests"],
  cassandra: ["cassandra", "queries"],
  nats: ["nats", "messages"],
  rabbitmq: ["rabbitmq", "messages"],
  dubbo: ["dubbo", "requests"],
  clickhouse: ["clickhouse", "queries"],
  foundationdb: ["foundationdb", "requests"],
  dns: ["dns", "requests"],
  grpc: ["http", "requests"],
};

const statusLabel = (protocol: string, status: number): string => {
  if (status === STATUS.unanswered) return "unanswered";
  if (status === STATUS.unknown) return "unknown";
  if (protocol === "grpc")
    return status === STATUS.ok ? "grpc:OK" : status === STATUS.rejected ? "grpc:rejected" : "grpc:failed";
  if (protocol !== "http") return status === STATUS.ok ? "ok" : status === STATUS.rejected ? "rejected" : "failed";
  return status === STATUS.ok ? "2xx" : status === STATUS.rejected ? "4xx" : "5xx";
};

const putRequests = (put: Emit, direction: string, base: Labels, cell: RequestCell): void => {
  const protocol = PROTOCOLS[cell.protocol];
  const stem = protocol === undefined ? undefined : STEMS[protocol];
  if (protocol === undefined || stem === undefined) return;
  const name = `container_${stem[0]}${direction}_${stem[1]}`;
  // a client's look-ups are told by name, see Lookups
  if (protocol !== "dns" || direction !== "")
    put(`${name}_total`, { ...base, status: statusLabel(protocol, cell.status) }, cell.totalCount);
  const histogram = `${name}_duration_seconds_total`;
  let sum = 0;
  for (const [i, le] of LE_SECONDS.entries()) {
    sum += cell.totalLe[i] ?? 0;
    put(`${histogram}_bucket`, { ...base, le: String(le) }, sum);
  }
  // messages that nothing answers are in the total only
  sum += cell.totalLe[LE_SECONDS.length] ?? 0;
  put(`${histogram}_bucket`, { ...base, le: "+Inf" }, sum);
  put(`${histogram}_sum`, base, cell.totalSumUs / 1e6);
  put(`${histogram}_count`, base, sum);
};

const FAILED_REASONS = [
  [TROUBLE.refused, "refused"],
  [TROUBLE.timedOut, "timeout"],
  [TROUBLE.unreachable, "unreachable"],
] as const;

/** Connections that ended otherwise than by a close, only where there were any. */
const putBroken = (put: Emit, stem: string, labels: Labels, { troubles }: WireEdge): void => {
  if (troubles === null) return;
  const { totals } = troubles;
  const [received, sent, lost] = [TROUBLE.resetByPeer, TROUBLE.resetSent, TROUBLE.lost].map(
    (kind) => totals[kind] ?? 0,
  );
  if (received) put(`${stem}_resets_total`, { ...labels, direction: "received" }, received);
  if (sent) put(`${stem}_resets_total`, { ...labels, direction: "sent" }, sent);
  if (lost) put(`${stem}_lost_connections_total`, labels, lost);
};

const endpointText = (address: string, port: number): string =>
  `${address.includes(":") ? `[${address}]` : address}:${port}`;

const putEdge = (put: Emit, base: Labels, edge: WireEdge): void => {
  const { totals, definition } = edge;
  if (definition.role === ROLE.server) {
    putBroken(put, "container_net_tcp_inbound", base, edge);
    for (const cell of edge.cells) if (cell !== undefined) putRequests(put, "_inbound", base, cell);
    return;
  }
  for (const cell of edge.cells) if (cell?.protocol === DNS_PROTOCOL) putRequests(put, "", base, cell);
  const destination = endpointText(definition.peer, definition.port);
  // Of several places none can be named: what was counted before went elsewhere.
  const actual = edge.places === 1 ? edge.actual : null;
  const labels = {
    ...base,
    destination,
    actual_destination: actual === null ? destination : endpointText(actual.address, actual.port),
  };
  // over UDP nothing connects
  if (TCP_SUMS.every((name) => totals[name] === 0) && edge.active <= 0) return;
  put("container_net_tcp_successful_connects_total", labels, totals.opens);
  if (totals.failed > 0) {
    put("container_net_tcp_failed_connects_total", { ...base, destination }, totals.failed);
    const name = "container_net_tcp_failed_connects_by_reason_total";
    let rest = totals.failed;
    for (const [kind, reason] of FAILED_REASONS) {
      const n = edge.troubles?.totals[kind] ?? 0;
      if (n > 0) put(name, { ...base, destination, reason }, n);
      rest -= n;
    }
    if (rest > 0) put(name, { ...base, destination, reason: "other" }, rest);
  }
  putBroken(put, "container_net_tcp", labels, edge);
  if (totals.rttCount > 0) {
    put("container_net_tcp_round_trip_seconds_sum", labels, totals.rttUs / 1e6);
    put("container_net_tcp_round_trip_seconds_count", labels, totals.rttCount);
  }
  put("container_net_tcp_connection_time_seconds_total", labels, totals.connectUs / 1e6);
  put("container_net_tcp_active_connections", labels, Math.max(0, edge.active));
  put("container_net_tcp_retransmits_total", labels, totals.retransmits);
  put("container_net_tcp_bytes_sent_total", labels, totals.bytesOut);
  put("container_net_tcp_bytes_received_total", labels, totals.bytesIn);
  for (const cell of edge.cells)
    if (cell !== undefined && cell.protocol !== DNS_PROTOCOL) putRequests(put, "", labels, cell);
};

/** All series about what runs on the node. */
export const putObserved = (put: Emit, observer: Observer, common: { cluster: string; machineId: string }): void => {
  const bases = new Map<number, Labels & { readonly app_id: string; readonly machine_id: string }>();
  for (const instance of observer.instances.all.values()) {
    if (!instance.reported || instance.diedMs !== null) continue;
    const { kind } = instance.identity;
    const base = {
      container_id: containerId(instance),
      app_id: serviceId(common.cluster, instance.namespace, kind, instance.name ?? instance.identity.name),
      machine_id: common.machineId,
    };
    bases.set(instance.id, base);
    put("container_info", { ...base, image: "", exe: instance.identity.exe }, 1);
    if (instance.identity.type !== "")
      put("container_application_type", { ...base, application_type: instance.identity.type }, 1);
    put("container_restarts_total", base, instance.restartsTotal);
    const usage = observer.usage.all.get(instance.id);
    if (usage === undefined) continue;
    const { totals } = usage;
    put("container_resources_cpu_usage_seconds_total", base, totals.cpuMs / 1000);
    put("container_resources_cpu_delay_seconds_total", base, totals.waitMs / 1000);
    put("container_resources_cpu_throttled_seconds_total", base, totals.throttledMs / 1000);
    put("container_resources_disk_delay_seconds_total", base, totals.ioWaitMs / 1000);
    put("container_resources_memory_rss_bytes", base, usage.memory);
    if (usage.cgroup !== null) put("container_resources_memory_cache_bytes", base, usage.cache);
    if (usage.cpuLimit > 0) put("container_resources_cpu_limit_cores", base, usage.cpuLimit);
    if (usage.memoryLimit > 0) put("container_resources_memory_limit_bytes", base, usage.memoryLimit);
    put("container_oom_kills_total", base, totals.oomKills);
  }
  for (const [instance, base] of bases) {
    observer.lookups.put(put, base, instance);
    observer.disks.put(put, base, instance);
    observer.mounts.put(put, base, instance);
  }
  const named = new Set<string>();
  for (const edge of observer.fold.edges.values()) {
    const { instance, peer, role } = edge.definition;
    const base = bases.get(instance);
    if (base === undefined) continue;
    putEdge(put, base, edge);
    const name = role === ROLE.client ? observer.lookups.addresses.get(peer)?.name : undefined;
    if (name === undefined || named.has(`${base.app_id} ${peer}`)) continue;
    named.add(`${base.app_id} ${peer}`);
    put("ip_to_fqdn", { machine_id: base.machine_id, app_id: base.app_id, ip: peer, fqdn: name }, 1);
  }
  for (const { one, owner } of observer.tlsOwners()) {
    const base = bases.get(owner.id);
    if (base !== undefined)
      put("container_tls_connections", { ...base, state: one.state, reason: tlsReason(one) }, one.connections);
  }
  // The sockets of one port are told together, at the first of its addresses.
  const queues = new Set<string>();
  for (const listener of observer.listeners.all()) {
    const base = bases.get(observer.instances.ofPid(listener.pid)?.id ?? 0);
    if (base === undefined) continue;
    const key = `${listener.netns}|${listener.port}`;
    const queue = queues.has(key) ? undefined : observer.queues.get(key);
    if (queue !== undefined) {
      queues.add(key);
      const at = { ...base, listen_addr: endpointText(listener.address, listener.port) };
      put("container_net_tcp_listen_queue", at, queue.queue);
      put("container_net_tcp_listen_queue_limit", at, queue.limit);
      put("container_net_tcp_listen_drops_total", at, queue.drops);
    }
    // Several processes may share one socket; the information is there or not.
    put(
      "container_net_tcp_listen_info",
      { ...base, listen_addr: endpointText(listener.address, listener.port), proxy: "" },
      1,
    );
  }
};
