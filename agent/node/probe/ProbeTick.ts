/**
 * What the probe reports each second, decoded. Edge ids are the probe's own and start anew with each life of the probe:
 * the first tick of a life has `reset` set, and everything known by id before it is void. Types and shapes.
 */
import type { Table, TableShape } from "../../../schemas/wire/columns.ts";
import {
  type HIST_SHAPE,
  L7_SHAPE,
  type PAIR_SHAPE,
  type PENDING_SHAPE,
  type Role,
  type TCP_SHAPE,
  type TROUBLE_SHAPE,
} from "../../../schemas/wire/observe.ts";

/**
 * One direction of traffic of one owner. Client: the process that dialled, the address and port it dialled; `local` is
 * empty. Server: the dialled address and port are `local` and `port`, the caller is `peer`; `tgid` is the last process
 * that received there (0 until one has), and the definition comes again when that changes. Where the kernel's table of
 * edges was full, `peer` of a server edge is empty (all further callers) and `port` of a client edge is 0 (all ports).
 */
export interface ProbeEdge {
  readonly id: number;
  readonly role: Role;
  readonly netns: number;
  readonly tgid: number;
  readonly peer: string;
  readonly port: number;
  readonly local: string;
}

export type ProbeEvent =
  | {
      readonly kind: "exec";
      readonly pid: number;
      readonly ppid: number;
      readonly comm: string;
      readonly filename: string;
      readonly monoMs: number;
      /** inode of the cgroup v2 directory */
      readonly cgroupId: number;
      /** inode of the directory that holds the memory controller: v1's, or v2's again */
      readonly memoryCgroupId: number;
    }
  | {
      readonly kind: "exit";
      readonly pid: number;
      readonly code: number | null;
      readonly signal: number | null;
      readonly monoMs: number;
    }
  | {
      readonly kind: "oom";
      readonly pid: number;
      /** resident: anonymous, shared and files' pages */
      readonly rssBytes: number;
      readonly anonBytes: number;
      readonly shmemBytes: number;
      readonly monoMs: number;
    };

/** Requests as on the wire. `detail` of DNS: type of the question (0: above 255) + 256 × code of the answer; else 0. */
export const PROBE_L7_SHAPE = { ...L7_SHAPE, detail: "u16" } as const satisfies TableShape;

/**
 * Requests that disks completed, and fsync: by owner (id of a cgroup, of an fsync the process; 0: not known), device
 * (major << 20 | minor) and what (TIMED). `ioHist` has their latencies, `row` being the index here.
 */
export const PROBE_IO_SHAPE = {
  owner: "f64",
  device: "u32",
  what: "u8",
  count: "u32",
  errors: "u32",
  bytes: "f64",
  sumUs: "f64",
} as const satisfies TableShape;
export const TIMED = ["read", "write", "flush", "discard", "fsync"] as const;
export const FSYNC = TIMED.indexOf("fsync");

/**
 * An answer that a client got, or its question where none came. `message` is the head of the DNS message (RFC 1035),
 * empty where it could not be read. Not all are told: `self.namesLost` counts those above the probe's budget.
 */
export interface ProbeAnswer {
  readonly edge: number;
  readonly monoMs: number;
  readonly latencyUs: number;
  readonly type: number;
  readonly status: number;
  /** code of the answer, 0 to 15 */
  readonly rcode: number;
  readonly message: Uint8Array;
}

/** Why a request was told, a bit each; `statement` is told for what later requests of its connection name. */
export const TOLD = { sampled: 1, slow: 2, failed: 4, statement: 8 } as const;

/**
 * A request with the beginning of what it was sent in and of its answer. `seq` and `initial` are TCP sequence numbers, the
 * same at both ends of a connection (of the first byte; of client and server at their start); all 0 within TLS.
 */
export interface ProbeSpan {
  readonly edge: number;
  readonly role: Role;
  readonly protocol: number;
  readonly status: number;
  /** bits of TOLD */
  readonly told: number;
  /** monotonic clock, ns */
  readonly startNs: number;
  readonly durationNs: number;
  /** names the connection in one life of the probe */
  readonly socket: number;
  readonly tgid: number;
  /** id of the thread that sent it (client) or read it (server) */
  readonly thread: number;
  /** client: `startNs` of the one request that its thread served then; 0: none, or several */
  readonly parentNs: number;
  readonly seq: number;
  readonly initial: readonly [client: number, server: number];
  /** requests among all that this one stands for; 0: it was not sampled */
  readonly weight: number;
  /** above 1: so many requests without a head */
  readonly count: number;
  /** HTTP/2: entries that the requests' table of headers (RFC 7541, 2.3.2) had had before the head */
  readonly inserted: number;
  /** at most 511 bytes; empty where it was not kept. HTTP/2: of a request from its HEADERS frame on */
  readonly head: Uint8Array;
  /** at most 127 bytes */
  readonly reply: Uint8Array;
}

export const TLS_STATES = ["waiting", "read", "unreadable", "opted-out", "over-budget"] as const;
export type TlsState = (typeof TLS_STATES)[number];

/**
 * A process that speaks TLS. `reason` names the library that is read, or says why its requests cannot be counted;
 * `connections` is how many of its connections began with TLS since it was first seen.
 */
export interface ProbeTls {
  readonly tgid: number;
  readonly state: TlsState;
  readonly reason: string;
  readonly connections: number;
}

/** Where connections of a client's edge really go, since that has changed: what was dialled, if nowhere else any more. */
export interface ProbeNat {
  readonly edge: number;
  readonly address: string;
  readonly port: number;
}

/** A port that is listened on in a namespace, all its sockets together. */
export interface ProbeListen {
  readonly netns: number;
  readonly port: number;
  /** connections that wait to be accepted, and how many may */
  readonly queue: number;
  readonly limit: number;
  /** connections that were dropped since the look before */
  readonly drops: number;
}

/** A process has a file open for writing on a mount, whose number is that of /proc/PID/mountinfo. */
export interface ProbeMount {
  readonly tgid: number;
  readonly mount: number;
}

/** Everything but the gauges (`tcp.active`, `pending`) is an increase since the tick before. */
export interface ProbeTick {
  /** second of the machine's monotonic clock; gaps mean that a tick was left out and its counts are in this one */
  readonly tick: number;
  readonly monoMs: number;
  readonly reset: boolean;
  readonly edges: readonly ProbeEdge[];
  readonly gone: readonly number[];
  readonly tcp: Table<typeof TCP_SHAPE>;
  readonly troubles: Table<typeof TROUBLE_SHAPE>;
  readonly l7: Table<typeof PROBE_L7_SHAPE>;
  readonly hist: Table<typeof HIST_SHAPE>;
  readonly pending: Table<typeof PENDING_SHAPE>;
  readonly pairs: Table<typeof PAIR_SHAPE>;
  /** 16 bytes for each row of `pairs` */
  readonly pairIps: Uint8Array;
  readonly nat: readonly ProbeNat[];
  /** all ports that are listened on, in the ticks in which they were looked at; null in others */
  readonly listens: readonly ProbeListen[] | null;
  /** all mounts that are written to, in the same ticks */
  readonly mounts: readonly ProbeMount[] | null;
  readonly events: readonly ProbeEvent[];
  /** all processes that speak TLS, only in ticks in which something about them has changed */
  readonly tls: readonly ProbeTls[] | null;
  readonly answers: readonly ProbeAnswer[];
  readonly spans: readonly ProbeSpan[];
  readonly io: Table<typeof PROBE_IO_SHAPE>;
  readonly ioHist: Table<typeof HIST_SHAPE>;
  readonly self: Readonly<Record<string, number>>;
}
