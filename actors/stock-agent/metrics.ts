/**
 * What stock Coroot agents call their metrics, and what each means here: one table for all protocols and resources. Pure.
 * What is not in it is kept in the store and not judged; names of containers that it does not know are counted.
 *
 * Sources: containers/metrics.go, containers/l7.go and prom/remote_writer.go of coroot-node-agent; docs of
 * kube-state-metrics 2.17, which coroot-cluster-agent has built in.
 */
import { PROTOCOLS, STATUS, type Status } from "../../schemas/wire/observe.ts";

/** Figures of a container in the terms of an instance's usage; `scale` turns the metric's unit into that of the figure. */
export type ContainerFigure =
  | "cpuMs"
  | "cpuLimit"
  | "throttledMs"
  | "waitMs"
  | "memory"
  | "memoryLimit"
  | "oomKills"
  | "ioBytes"
  | "ioWaitMs"
  | "restarts";

/**
 * How a series tells: `gauge` its value; `total` a counter that is older than the agent's knowledge of it, so that its first
 * value says nothing; `events` a counter that the agent makes with the first event, so that it began with zero.
 */
export type Mode = "gauge" | "total" | "events";

interface Figure {
  readonly figure: ContainerFigure;
  readonly mode: Mode;
  readonly scale: number;
}

export const CONTAINER_FIGURES: ReadonlyMap<string, Figure> = new Map<string, Figure>([
  ["container_resources_cpu_usage_seconds_total", { figure: "cpuMs", mode: "total", scale: 1_000 }],
  ["container_resources_cpu_limit_cores", { figure: "cpuLimit", mode: "gauge", scale: 1 }],
  ["container_resources_cpu_throttled_seconds_total", { figure: "throttledMs", mode: "total", scale: 1_000 }],
  ["container_resources_cpu_delay_seconds_total", { figure: "waitMs", mode: "total", scale: 1_000 }],
  ["container_resources_disk_delay_seconds_total", { figure: "ioWaitMs", mode: "total", scale: 1_000 }],
  ["container_resources_disk_read_bytes_total", { figure: "ioBytes", mode: "total", scale: 1 }],
  ["container_resources_disk_written_bytes_total", { figure: "ioBytes", mode: "total", scale: 1 }],
  ["container_resources_memory_rss_bytes", { figure: "memory", mode: "gauge", scale: 1 }],
  ["container_resources_memory_limit_bytes", { figure: "memoryLimit", mode: "gauge", scale: 1 }],
  ["container_oom_kills_total", { figure: "oomKills", mode: "events", scale: 1 }],
  ["container_restarts_total", { figure: "restarts", mode: "events", scale: 1 }],
]);

/** Of a mount of a container that is written to, bytes. */
export const MOUNT_FIGURES: ReadonlyMap<string, "size" | "used" | "reserved"> = new Map([
  ["container_resources_disk_size_bytes", "size"],
  ["container_resources_disk_used_bytes", "used"],
  ["container_resources_disk_reserved_bytes", "reserved"],
]);

/** Figures of an edge's connections. */
export type TcpFigure = "opens" | "failed" | "active" | "bytesOut" | "bytesIn" | "retransmits" | "connectUs";

export const TCP_FIGURES: ReadonlyMap<
  string,
  { readonly figure: TcpFigure; readonly mode: Mode; readonly scale: number }
> = new Map([
  ["container_net_tcp_successful_connects_total", { figure: "opens", mode: "events", scale: 1 }],
  ["container_net_tcp_failed_connects_total", { figure: "failed", mode: "events", scale: 1 }],
  ["container_net_tcp_active_connections", { figure: "active", mode: "gauge", scale: 1 }],
  ["container_net_tcp_bytes_sent_total", { figure: "bytesOut", mode: "events", scale: 1 }],
  ["container_net_tcp_bytes_received_total", { figure: "bytesIn", mode: "events", scale: 1 }],
  ["container_net_tcp_retransmits_total", { figure: "retransmits", mode: "events", scale: 1 }],
  ["container_net_tcp_connection_time_seconds_total", { figure: "connectUs", mode: "events", scale: 1e6 }],
]);

/** Known, kept in the store, and judged by nobody yet. */
const KEPT_ONLY =
  /^container_(info$|log_messages_total$|dns_|jvm_|dotnet_|python_|nodejs_|go_|gpu_|resources_(gpu|cpu_pressure|memory_pressure|io_pressure|memory_cache|disk_))/;

export const isKeptOnly = (name: string): boolean => KEPT_ONLY.test(name);

const REQUESTS =
  /^container_([a-z0-9]+)(_inbound)?_(?:requests?|queries|messages)(?:_(duration)_seconds_total_(bucket|sum|count)|_total)$/;

export interface RequestMetric {
  /** by wire number */
  readonly protocol: number;
  readonly inbound: boolean;
  readonly part: "count" | "bucket" | "sum" | "other";
}

/** What a metric of requests tells, by its name; null for other names and for protocols that nobody knows. */
export const requestMetric = (metric: string): RequestMetric | null => {
  const found = REQUESTS.exec(metric);
  if (found === null) return null;
  const name = found[1] === "mongo" ? "mongodb" : (found[1] ?? "");
  const protocol = PROTOCOLS.indexOf(name as (typeof PROTOCOLS)[number]);
  // look-ups have no destination: nobody's edge
  if (protocol <= 0 || name === "dns") return null;
  const part = found[3] === undefined ? "count" : found[4] === "bucket" || found[4] === "sum" ? found[4] : "other";
  return { protocol, inbound: found[2] !== undefined, part };
};

/** gRPC codes that are the server's doing; the others are the client's. As OpenTelemetry has it for spans of servers. */
const GRPC_FAILED: ReadonlySet<string> = new Set([
  "UNKNOWN",
  "DEADLINEEXCEEDED",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATALOSS",
]);

/** `status` of a request's counter: classes of HTTP, codes of gRPC, ok, failed or unknown of all others. */
export const statusOf = (status: string): Status => {
  if (status.startsWith("grpc:")) {
    const code = status.slice(5).replaceAll("_", "").toUpperCase();
    if (code === "OK") return STATUS.ok;
    return GRPC_FAILED.has(code) ? STATUS.failed : STATUS.rejected;
  }
  if (status === "failed" || /^5(xx|\d\d)$/.test(status)) return STATUS.failed;
  if (status === "unanswered") return STATUS.unanswered;
  return status === "rejected" || /^4(xx|\d\d)$/.test(status) ? STATUS.rejected : STATUS.ok;
};

/** Of the cluster agent: who owns Pods, and what addresses of services stand for. */
export const KUBE_METRICS: ReadonlySet<string> = new Set([
  "kube_pod_info",
  "kube_job_owner",
  "kube_service_info",
  "kube_endpoint_address",
]);

export const KUBE_AGENT = "stock:kube";
const NODES = "stock:";
export const isStock = (agent: string): boolean => agent.startsWith(NODES);
const NODE_METRICS: ReadonlySet<string> = new Set(["node_info", "node_agent_info", "ip_to_fqdn"]);
const PLAIN_ID = /^[A-Za-z0-9_.-]{1,128}$/;

/** `machine_id` and `system_uuid` together, since copied machines share the first. */
const nodeOf = (labels: Readonly<Record<string, string>>): string | null => {
  const machine = labels["machine_id"] ?? "";
  if (!PLAIN_ID.test(machine)) return null;
  const uuid = (labels["system_uuid"] ?? "").replaceAll("-", "");
  return uuid === "" || uuid === machine || !PLAIN_ID.test(uuid) ? machine : `${machine}.${uuid}`.slice(0, 128);
};

/**
 * The agent whose series this is: a node, or the cluster's; null: nobody here looks at it. cAdvisor and node_exporter,
 * whose names begin alike, have no `machine_id`; our own agents' `app_id` is a service id, those of stock agents begin with a slash.
 */
export const watcherOf = (name: string, labels: Readonly<Record<string, string>>): string | null => {
  if (KUBE_METRICS.has(name)) return KUBE_AGENT;
  const container = name.startsWith("container_");
  if (!container && !NODE_METRICS.has(name)) return null;
  if (container && labels["container_id"]?.startsWith("/") !== true) return null;
  const app = labels["app_id"];
  if (app !== undefined && !app.startsWith("/")) return null;
  const node = nodeOf(labels);
  return node === null ? null : NODES + node;
};
