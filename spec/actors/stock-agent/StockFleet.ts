/**
 * What stock Coroot agents send, made from their public source and never recorded: names, labels and forms are those of
 * containers/{container,metrics,l7}.go and prom/remote_writer.go of coroot-node-agent and of kube-state-metrics 2.17. A node is a
 * set of counters that a spec moves; `scrape` gives all its series at a moment, as one call has them.
 */
import { compressSync } from "snappy";
import { Columns, type Watched } from "../../../runtime/remote-write/Columns.ts";
import { SeriesCache } from "../../../runtime/remote-write/SeriesCache.ts";
import { readVersion1 } from "../../../runtime/remote-write/version1.ts";
import { watcherOf } from "../../../actors/stock-agent/metrics.ts";
import { encode1, labelsOf, type PlainSeries } from "../../runtime/remote-write/proto.ts";

export type Labels = Readonly<Record<string, string>>;

/** client_golang's default buckets, as fmt.Sprint writes them. */
export const LES = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;

export class StockNode {
  readonly machineId: string;
  readonly #common: Labels;
  readonly #counters = new Map<string, { name: string; labels: Labels; value: number }>();
  readonly #gauges = new Map<string, { name: string; labels: Labels; value: number }>();

  constructor(hostname: string, machineId: string) {
    this.machineId = machineId;
    this.#common = { machine_id: machineId, system_uuid: machineId, instance: machineId, job: "coroot-node-agent" };
    this.gauge("up", {}, 1);
    this.gauge("node_info", { hostname, kernel_version: "6.8.0-45-generic" }, 1);
    this.gauge("node_agent_info", { version: "1.26.0" }, 1);
    this.gauge("node_uptime_seconds", {}, 86_400);
    this.add("node_resources_cpu_usage_seconds_total", { mode: "user" }, 1234.5);
    this.gauge("node_resources_memory_total_bytes", {}, 16e9);
  }

  gauge(name: string, labels: Labels, value: number): void {
    this.#gauges.set(name + JSON.stringify(labels), { name, labels, value });
  }

  /** Moves a counter on; it is there from its first move. */
  add(name: string, labels: Labels, by: number): void {
    const key = name + JSON.stringify(labels);
    const known = this.#counters.get(key);
    if (known === undefined) this.#counters.set(key, { name, labels, value: by });
    else known.value += by;
  }

  /** A container that runs, with what its cgroup says. */
  container(containerId: string, listens: readonly string[], type = ""): void {
    const of = { container_id: containerId, app_id: containerId };
    this.gauge("container_info", { ...of, image: "shop:1" }, 1);
    if (type !== "") this.gauge("container_application_type", { ...of, application_type: type }, 1);
    for (const listen of listens)
      this.gauge("container_net_tcp_listen_info", { ...of, listen_addr: listen, proxy: "" }, 1);
    this.gauge("container_resources_memory_rss_bytes", of, 50e6);
    this.gauge("container_resources_memory_limit_bytes", of, 128e6);
    this.gauge("container_resources_memory_cache_bytes", of, 10e6);
    this.add("container_resources_cpu_usage_seconds_total", of, 1_000);
    this.add("container_resources_cpu_throttled_seconds_total", of, 0);
    this.add("container_restarts_total", of, 0);
    this.add("container_oom_kills_total", of, 0);
    this.add("container_log_messages_total", { ...of, source: "stdout/stderr", level: "info" }, 10);
  }

  /** It ended: nothing is told of it any more. */
  remove(containerId: string): void {
    for (const all of [this.#gauges, this.#counters])
      for (const [key, { labels }] of all) if (labels["container_id"] === containerId) all.delete(key);
  }

  /** A mount is not in use any more. */
  unmount(path: string): void {
    for (const [key, { labels }] of this.#gauges) if (labels["mount_point"] === path) this.#gauges.delete(key);
  }

  /** The agent started anew: its counters begin again, those of cgroups do not. */
  restart(): void {
    for (const [key, { name }] of this.#counters)
      if (!name.startsWith("container_resources_")) this.#counters.delete(key);
  }

  cpu(containerId: string, seconds: number): void {
    this.add(
      "container_resources_cpu_usage_seconds_total",
      { container_id: containerId, app_id: containerId },
      seconds,
    );
  }

  connects(from: string, destination: string, actual: string, opens: number, active: number): void {
    const of = { container_id: from, app_id: from, destination, actual_destination: actual };
    this.add("container_net_tcp_successful_connects_total", of, opens);
    this.add("container_net_tcp_connection_time_seconds_total", of, opens * 0.001);
    this.add("container_net_tcp_bytes_sent_total", of, opens * 1_000);
    this.add("container_net_tcp_bytes_received_total", of, opens * 5_000);
    this.gauge("container_net_tcp_active_connections", of, active);
    const [ip = ""] = actual.split(":");
    this.gauge("container_net_latency_seconds", { container_id: from, app_id: from, destination_ip: ip }, 0.0005);
  }

  failedConnects(from: string, destination: string, n: number): void {
    this.add("container_net_tcp_failed_connects_total", { container_id: from, app_id: from, destination }, n);
  }

  /** `stem`: http_requests, postgres_queries, redis_queries, … */
  requests(
    from: string,
    stem: string,
    destination: string,
    actual: string,
    n: number,
    status: string,
    seconds: number,
  ): void {
    const of = { container_id: from, app_id: from, destination, actual_destination: actual };
    this.#requests(`container_${stem}`, of, n, status, seconds);
  }

  inbound(at: string, stem: string, n: number, status: string, seconds: number): void {
    const [protocol = "", what = ""] = stem.split("_");
    this.#requests(`container_${protocol}_inbound_${what}`, { container_id: at, app_id: at }, n, status, seconds);
  }

  #requests(name: string, of: Labels, n: number, status: string, seconds: number): void {
    this.add(`${name}_total`, { ...of, status }, n);
    for (const le of LES)
      this.add(`${name}_duration_seconds_total_bucket`, { ...of, le: String(le) }, seconds <= le ? n : 0);
    this.add(`${name}_duration_seconds_total_bucket`, { ...of, le: "+Inf" }, n);
    this.add(`${name}_duration_seconds_total_sum`, of, n * seconds);
    this.add(`${name}_duration_seconds_total_count`, of, n);
  }

  scrape(at: number): PlainSeries[] {
    return [...this.#gauges.values(), ...this.#counters.values()].map(({ name, labels, value }) => ({
      labels: labelsOf(name, { ...this.#common, ...labels }),
      samples: [{ value, timestamp: at }],
    }));
  }
}

/** What kube-state-metrics says; each call is one scrape of it. */
export const kubeScrape = (facts: readonly (readonly [name: string, labels: Labels])[], at: number): PlainSeries[] =>
  facts.map(([name, labels]) => ({
    labels: labelsOf(name, { job: "kube-state-metrics", instance: "127.0.0.1:10303", ...labels }),
    samples: [{ value: 1, timestamp: at }],
  }));

export const callOf = (series: readonly PlainSeries[]): Buffer => encode1({ timeseries: series });
export const snappyCallOf = (series: readonly PlainSeries[]): Buffer => compressSync(callOf(series));

/** Reads calls as the door does. */
export class Reader {
  readonly #cache = new SeriesCache(watcherOf);
  read(series: readonly PlainSeries[]): ReadonlyMap<string, Watched> {
    const out = new Columns({ fromMs: 0, toMs: Number.MAX_SAFE_INTEGER });
    for (const step of readVersion1(callOf(series), this.#cache, out)) void step;
    return out.watched();
  }
}
