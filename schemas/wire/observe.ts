/**
 * What a node agent reports each second: the body of an `observe` frame, and the vocabulary that probe, agent and
 * service actor share. Only changed rows are sent; every figure is an increase over the window unless it says gauge.
 */
import type { TableShape, WireTable } from "./columns.ts";

export const ROLE = { client: 0, server: 1 } as const;
export type Role = (typeof ROLE)[keyof typeof ROLE];

/** Protocols by wire number. 0 is traffic whose protocol is not known (yet). */
export const PROTOCOLS = [
  "tcp",
  "http",
  "postgres",
  "redis",
  "mysql",
  "memcached",
  "nats",
  "zookeeper",
  "mongodb",
  "kafka",
  "cassandra",
  "rabbitmq",
  "dubbo",
  "clickhouse",
  "foundationdb",
  "dns",
  "grpc",
] as const;
export type ProtocolName = (typeof PROTOCOLS)[number];

/**
 * Outcome of a request. `rejected` (HTTP 4xx) is the client's doing and counts as good for the SLO;
 * `unanswered` is a request whose connection closed before the reply; `unknown` one whose reply came with a status that
 * could not be read: a request, but neither good nor bad.
 */
export const STATUS = { ok: 0, rejected: 1, failed: 2, unanswered: 3, unknown: 4 } as const;
export type Status = (typeof STATUS)[keyof typeof STATUS];

/** TCP per edge. `active` is a gauge (open connections now); rttUs is a sum over rttCount sampled sockets. */
export const TCP_SHAPE = {
  edge: "u32",
  opens: "u32",
  failed: "u32",
  closes: "u32",
  active: "u32",
  bytesOut: "f64",
  bytesIn: "f64",
  retransmits: "u32",
  connectUs: "f64",
  rttUs: "f64",
  rttCount: "u32",
} as const satisfies TableShape;

/**
 * What went wrong with connections. The first three are parts of `failed` of TCP_SHAPE: a connect that was refused, that
 * nobody answered in time, that found no way to the address; what is left of `failed` was given up by the caller within a
 * second or has another reason. The others are connections: reset by the other end, resets sent, and ended since the
 * other end did not answer any more.
 */
export const TROUBLES = ["refused", "timed out", "unreachable", "reset by peer", "reset sent", "lost"] as const;
export const TROUBLE = { refused: 0, timedOut: 1, unreachable: 2, resetByPeer: 3, resetSent: 4, lost: 5 } as const;

/** Only what there is: most edges never have a row. `kind` is an index of TROUBLES. */
export const TROUBLE_SHAPE = { edge: "u32", kind: "u8", count: "u32" } as const satisfies TableShape;

/**
 * Finished requests per edge, protocol and status. `sumUs` is the sum of their latencies in microseconds. `count` is more
 * than the histogram's sum by the messages that nothing answers (NATS, RabbitMQ), which have no latency.
 */
export const L7_SHAPE = {
  edge: "u32",
  protocol: "u8",
  status: "u8",
  count: "u32",
  sumUs: "f64",
} as const satisfies TableShape;

/** Sparse latency histograms of the rows of `l7`: `row` is the index there, `bucket` as in histogram.ts. */
export const HIST_SHAPE = { row: "u32", bucket: "u8", count: "u32" } as const satisfies TableShape;

/** Gauges: requests sent and not answered yet, and the age of the oldest. Sent while there are any, and one zero row after. */
export const PENDING_SHAPE = {
  edge: "u32",
  protocol: "u8",
  count: "u32",
  oldestMs: "f64",
} as const satisfies TableShape;

/**
 * Connections opened in this window, at most a few per edge, for pairing both ends of one connection (NAT, virtual IPs).
 * `port` is the client's ephemeral port, `ip` the client's address as this side sees it (16 bytes each, IPv4 mapped).
 */
export const PAIR_SHAPE = { edge: "u32", port: "u16" } as const satisfies TableShape;

/** Resources per instance. Everything but the limits, memory and processes is an increase over the window. */
export const USAGE_SHAPE = {
  instance: "u32",
  /** CPU time used, ms */
  cpuMs: "f64",
  /** CPU limit in cores, 0 = none (gauge) */
  cpuLimit: "f64",
  /** time spent throttled, ms */
  throttledMs: "f64",
  throttledPeriods: "u32",
  periods: "u32",
  /** time runnable but waiting for a CPU, ms */
  waitMs: "f64",
  /** resident anonymous + mapped memory, bytes (gauge) */
  memory: "f64",
  /** memory limit, bytes, 0 = none (gauge) */
  memoryLimit: "f64",
  oomKills: "u32",
  /** read + written by block I/O, bytes */
  ioBytes: "f64",
  /** time blocked on block I/O, ms */
  ioWaitMs: "f64",
  restarts: "u32",
  processes: "u32",
  /** reads and writes that disks did for it, and the sum of their times from when they were made, μs */
  ios: "u32",
  ioUs: "f64",
  /** calls of fsync, and the sum of their times, μs */
  syncs: "u32",
  syncUs: "f64",
} as const satisfies TableShape;

/** Kinds of services, the third part of their ids. */
export const SERVICE_KINDS = [
  "SystemdUnit",
  "Container",
  "Pod",
  "Process",
  "External",
  "Custom",
  // owners of Pods
  "Deployment",
  "StatefulSet",
  "DaemonSet",
  "ReplicaSet",
  "CronJob",
  "Job",
] as const;
export type ServiceKind = (typeof SERVICE_KINDS)[number];

/** A new entry of the connection's dictionary: something that runs on the node. */
export interface InstanceDefinition {
  readonly id: number;
  /** namespace, kind and name make the ServiceId together with the agent's cluster */
  readonly namespace: string;
  readonly kind: ServiceKind;
  readonly name: string;
  /** what tells instances of one service apart on this node: container id, unit, or pid of the oldest process */
  readonly instance: string;
  /** executable path as seen in its own root, may be empty */
  readonly exe: string;
  /** network namespace inode of the oldest process */
  readonly netns: number;
  /** guessed from the executable: "postgres", "redis", "nginx", "nodejs", "python", "jvm", … or "" */
  readonly type: string;
  readonly startedAtMs: number;
}

/** A new entry of the connection's dictionary: traffic of one instance with one peer on one port. */
export interface EdgeDefinition {
  readonly id: number;
  readonly instance: number;
  readonly role: Role;
  /** the other side's address: what a client dialled, or who called a server */
  readonly peer: string;
  /** the port that the server listens on, as seen from here */
  readonly port: number;
  /** own address (server role: the address that was dialled); "" when it varies */
  readonly local: string;
  readonly netns: number;
  /** Host header or server name (SNI) of its requests, where all had the same */
  readonly host?: string;
}

export interface ListenDefinition {
  readonly instance: number;
  /** "0.0.0.0" and "::" are expanded by the agent to the addresses of the namespace */
  readonly address: string;
  readonly port: number;
  readonly netns: number;
}

/** Of a process that was killed for lack of memory; resident in all, and the parts of it where they are known. */
export interface OomSizes {
  readonly rssBytes: number;
  readonly anonBytes?: number;
  readonly shmemBytes?: number;
}

export type InstanceEvent =
  | { readonly kind: "start"; readonly instance: number; readonly atMs: number }
  | {
      readonly kind: "exit";
      readonly instance: number;
      readonly atMs: number;
      readonly pid: number;
      /** exit code, or null when a signal ended it */
      readonly code: number | null;
      readonly signal: number | null;
      /** processes of the instance that are left */
      readonly left: number;
    }
  | {
      /** connections to a port were dropped, as nobody accepted those before in time: how many may wait is `limit` */
      readonly kind: "overflow";
      readonly instance: number;
      readonly atMs: number;
      readonly port: number;
      readonly count: number;
      readonly limit: number;
    }
  | ({
      readonly kind: "oom";
      readonly instance: number;
      readonly atMs: number;
      readonly pid: number;
    } & OomSizes);

/** Body of an `observe` frame. Tables are WireTable of the shapes above. Times are milliseconds. */
/** A name that the node looked up, and an address that it got for it. */
export interface NameDefinition {
  readonly address: string;
  readonly name: string;
}
/** A name that does not exist, as an instance was told in this window, all tries of a search list being one. */
export interface AbsentDefinition {
  readonly instance: number;
  readonly name: string;
  /** "TypeA", "TypeAAAA", … */
  readonly type: string;
  readonly count: number;
  /** the instance has got an answer for that name before */
  readonly known: boolean;
}
/** How full the file system is that an instance writes to at `path`, as it sees it; told every 15 seconds. */
export interface MountDefinition {
  readonly instance: number;
  readonly path: string;
  /** "vda1", or what is mounted where it is no block device */
  readonly device: string;
  readonly sizeBytes: number;
  readonly usedBytes: number;
  /** for those who are not root */
  readonly availableBytes: number;
  /** share of the inodes that are taken, 0 where there is no limit */
  readonly inodesUsed: number;
}
/** Where connections to an address really went, as the node's translation has it. */
export interface NatDefinition {
  readonly address: string;
  readonly port: number;
  readonly actualAddress: string;
  readonly actualPort: number;
}
/** An address that stands for several others, such as that of a Kubernetes service or a load balancer. */
export interface VipDefinition {
  readonly address: string;
  readonly port: number;
  readonly name: string;
  readonly backends: readonly { readonly address: string; readonly port: number }[];
}

/**
 * What an agent says of itself every few seconds, by name; each may be missing. CPU in cores and bytes per second are means
 * of the last minute: `cpuCores`, `memoryBytes` (the agent), `probeCpuCores`, `probeMemoryBytes`, `kernelBytes` (maps),
 * `programsCores` (in the kernel, from the last second that was measured), `loopLateMs` (worst of the last minute),
 * `ticksSkipped` (of the last minute), `windowsWaiting`, `spoolBytes`, `spoolRecords`, `bytesPerSecond` (TCP, both ways),
 * and of these `unknownBytesPerSecond` and `tlsBlindBytesPerSecond`. `used.NAME` is how full a table is, 0..1;
 * `lost.NAME` what was lost or refused in the last minute.
 */
export type SelfFigures = Readonly<Record<string, number>>;
export const USED = "used.";
export const LOST = "lost.";

export interface ObserveBody {
  /** window number: seconds of the agent's monotonic clock since its epoch */
  readonly window: number;
  /** agent's monotonic clock at the window's end */
  readonly monoMs: number;
  /** agent's wall clock at the window's end: for the record only */
  readonly wallMs: number;
  /**
   * server time in the middle of the second that the window counts for. Set when the window is first sent and the same
   * whenever it is sent again, to whichever server: so it is counted into one minute only. Absent: the server maps monoMs.
   */
  readonly serverMs?: number;
  readonly instances?: readonly InstanceDefinition[];
  readonly edges?: readonly EdgeDefinition[];
  /** complete list of listening sockets, sent when it changed */
  readonly listens?: readonly ListenDefinition[];
  /** instances that are gone */
  readonly gone?: readonly number[];
  /** edges that are not spoken of any more, some minutes after their end */
  readonly goneEdges?: readonly number[];
  readonly events?: readonly InstanceEvent[];
  readonly names?: readonly NameDefinition[];
  readonly nat?: readonly NatDefinition[];
  readonly vips?: readonly VipDefinition[];
  readonly absent?: readonly AbsentDefinition[];
  readonly mounts?: readonly MountDefinition[];
  readonly self?: SelfFigures;
  readonly tcp?: WireTable;
  readonly troubles?: WireTable;
  readonly l7?: WireTable;
  readonly hist?: WireTable;
  readonly pending?: WireTable;
  readonly pairs?: WireTable;
  /** addresses of `pairs`, 16 bytes a row */
  readonly pairIps?: Uint8Array;
  readonly usage?: WireTable;
}
