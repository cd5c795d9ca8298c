/**
 * A running probe for specs and benchmarks: builds it if need be, starts it as a plain child, adds up what its ticks say
 * per edge, and waits for a state of those sums. Ends the child on `stop`.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  makeProbeDecoder,
  type ProbeEdge,
  type ProbeEvent,
  type ProbeTick,
  type ProbeTls,
  type ProbeAnswer,
  type ProbeSpan,
} from "../../agent/node/probe/frames.ts";
import { TIMED } from "../../agent/node/probe/ProbeTick.ts";
import type { Capability } from "../../schemas/wire/link.ts";
import { HISTOGRAM_BUCKETS } from "../../schemas/wire/histogram.ts";
import {
  PROTOCOLS,
  type ProtocolName,
  ROLE,
  type Role,
  STATUS,
  type Status,
  TROUBLES,
} from "../../schemas/wire/observe.ts";

const repository = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
export const probePath = join(repository, "dist", "probe");

/** Makes the probe see sends and receives at the end of system calls, as on kernels before 6.3. */
export const SYSCALLS = "--hooks=syscalls";

/** Builds dist/probe; does nothing when it is up to date. */
export const buildProbe = (): void => {
  const done = spawnSync(process.execPath, [join(repository, "bpf", "build.mjs"), "--out", probePath], {
    encoding: "utf8",
  });
  if (done.status !== 0) throw new Error(`bpf/build.mjs: ${done.stderr}`);
};

export interface EdgeSum {
  edge: ProbeEdge;
  opens: number;
  failed: number;
  closes: number;
  active: number;
  bytesOut: number;
  bytesIn: number;
  rttCount: number;
  /** by index of TROUBLES */
  readonly troubles: number[];
  /** finished requests by "protocol.status" */
  readonly requests: Map<string, number>;
  readonly sumUs: Map<string, number>;
  /** finished requests by "protocol.status" and detail */
  readonly details: Map<string, number>;
  readonly histograms: Map<string, Float64Array>;
  pendingCount: number;
  pendingOldestMs: number;
  /** every pending row in order, zero rows too */
  readonly pendings: { count: number; oldestMs: number }[];
  readonly pairs: number[];
}

export interface TimedSum {
  count: number;
  errors: number;
  bytes: number;
  sumUs: number;
  readonly histogram: Float64Array;
}

export interface Sought {
  readonly role?: Role;
  readonly port?: number;
  readonly netns?: number;
}

const STATUS_NAMES = Object.entries(STATUS);
export const rowName = (protocol: number, status: number): string =>
  `${PROTOCOLS[protocol] ?? "?"}.${STATUS_NAMES.find(([, n]) => n === status)?.[0] ?? "?"}`;

const bump = (map: Map<string, number>, key: string, by: number): void => void map.set(key, (map.get(key) ?? 0) + by);

export class ProbeBed {
  readonly sums = new Map<number, EdgeSum>();
  readonly events: ProbeEvent[] = [];
  readonly answers: ProbeAnswer[] = [];
  readonly spans: ProbeSpan[] = [];
  /** requests of disks and fsync by "device what owner" */
  readonly timed = new Map<string, TimedSum>();
  /** edges that the probe forgot; their sums stay */
  readonly gone: number[] = [];
  readonly capabilities: Capability[] = [];
  readonly child: ChildProcess;
  /** processes that speak TLS, by process id */
  readonly tls = new Map<number, ProbeTls>();
  last: ProbeTick | null = null;
  ticks = 0;
  ended = false;
  exitCode: number | null = null;
  stderr = "";
  /** hears each tick too, as an agent does */
  tap: ((tick: ProbeTick) => void) | null = null;
  private readonly waiters = new Set<() => void>();

  private constructor(path: string, args: readonly string[]) {
    this.child = spawn(path, args, { stdio: ["pipe", "pipe", "pipe"] });
    const decoder = makeProbeDecoder();
    this.child.stdout?.on("data", (chunk: Buffer) => {
      for (const message of decoder.push(chunk)) {
        if (message.kind === "capability") this.capabilities.push(message.capability);
        else if (message.kind === "tick") this.add(message.tick);
        else if (message.kind === "end") this.ended = true;
      }
      this.wake();
    });
    this.child.stderr?.on("data", (chunk: Buffer) => (this.stderr += chunk.toString()));
    this.child.on("exit", (code) => {
      this.exitCode = code;
      this.wake();
    });
  }

  /**
   * Starts the probe and waits for its first tick. With COROOT_SPEC_HOOKS=syscalls in the environment it has those hooks,
   * so that any spec can be run with them.
   */
  static async start(path = probePath, ...args: readonly string[]): Promise<ProbeBed> {
    const bed = new ProbeBed(path, process.env["COROOT_SPEC_HOOKS"] === "syscalls" ? [...args, SYSCALLS] : args);
    await bed.until("the first tick", () => bed.ticks > 0 || bed.ended || bed.exitCode !== null, 20_000);
    return bed;
  }

  /** Stops reading, as a busy agent does; the probe must keep counting. */
  pause(): void {
    this.child.stdout?.pause();
  }
  resume(): void {
    this.child.stdout?.resume();
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exited = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.stdin?.end();
    await exited;
  }

  find(sought: Sought): readonly EdgeSum[] {
    return [...this.sums.values()].filter(
      ({ edge }) =>
        (sought.role === undefined || edge.role === sought.role) &&
        (sought.port === undefined || edge.port === sought.port) &&
        (sought.netns === undefined || edge.netns === sought.netns),
    );
  }

  /** Finished requests on edges of one role and port, of one protocol, optionally of one status. */
  count(role: Role, port: number, protocol: ProtocolName, status?: Status): number {
    let n = 0;
    for (const sum of this.find({ role, port }))
      for (const s of status === undefined ? Object.values(STATUS) : [status])
        n += sum.requests.get(rowName(PROTOCOLS.indexOf(protocol), s)) ?? 0;
    return n;
  }
  both(port: number, protocol: ProtocolName, status?: Status): readonly [client: number, server: number] {
    return [this.count(ROLE.client, port, protocol, status), this.count(ROLE.server, port, protocol, status)];
  }

  /** Counts by status on one port and protocol from now on: what was counted at the client and at the server. */
  async since(
    port: number,
    protocol: ProtocolName,
  ): Promise<() => Promise<Readonly<Record<string, readonly number[]>>>> {
    await this.settled();
    const look = (): Record<string, readonly [number, number]> =>
      Object.fromEntries(Object.entries(STATUS).map(([name, status]) => [name, this.both(port, protocol, status)]));
    const before = look();
    return async () => {
      await this.settled();
      const rows = Object.entries(look()).map(
        ([name, now]) => [name, now.map((n, i) => n - (before[name]?.[i] ?? 0))] as const,
      );
      return Object.fromEntries(rows.filter(([, counts]) => counts.some((n) => n !== 0)));
    };
  }

  self(name: string): number {
    return this.last?.self[name] ?? 0;
  }

  /** Waits for a tick that was read from the kernel after this moment. */
  async settled(): Promise<void> {
    const now = Number(process.hrtime.bigint()) / 1e6;
    await this.until("a tick", () => this.last !== null && this.last.monoMs > now);
  }

  async until(what: string, holds: () => boolean, timeoutMs = 10_000): Promise<void> {
    if (holds()) return;
    await new Promise<void>((resolve, reject) => {
      const look = (): void => {
        if (!holds()) return;
        clearTimeout(timer);
        this.waiters.delete(look);
        resolve();
      };
      const timer = setTimeout(() => {
        this.waiters.delete(look);
        reject(new Error(`no ${what} within ${timeoutMs} ms; ${this.describe()}`));
      }, timeoutMs);
      this.waiters.add(look);
    });
  }

  describe(): string {
    const lines = [...this.sums.values()].map(
      (s) =>
        `#${s.edge.id} ${s.edge.role === ROLE.client ? "client" : "server"} pid ${s.edge.tgid} ${s.edge.local}->${s.edge.peer} :${s.edge.port}` +
        ` opens ${s.opens} failed ${s.failed} closes ${s.closes} active ${s.active} out ${s.bytesOut} in ${s.bytesIn} pending ${s.pendingCount} ` +
        [...s.requests].map(([k, n]) => `${k}=${n}`).join(" "),
    );
    for (const one of this.tls.values()) lines.push(`tls ${one.tgid} ${one.state} ${one.reason} ${one.connections}`);
    return `${lines.join("\n")}\n${JSON.stringify(this.last?.self)} ${this.stderr}`;
  }

  private wake(): void {
    for (const look of this.waiters) look();
  }

  private sum(id: number): EdgeSum {
    const sum = this.sums.get(id);
    if (sum === undefined) throw new Error(`tick names edge ${id}, which was never defined`);
    return sum;
  }

  private add(tick: ProbeTick): void {
    if (tick.reset) {
      this.sums.clear();
      this.timed.clear();
    }
    this.ticks++;
    this.last = tick;
    this.tap?.(tick);
    this.events.push(...tick.events);
    if (tick.tls !== null) {
      this.tls.clear();
      for (const one of tick.tls) this.tls.set(one.tgid, one);
    }
    this.answers.push(...tick.answers);
    this.spans.push(...tick.spans);
    this.gone.push(...tick.gone);
    for (const edge of tick.edges) {
      const known = this.sums.get(edge.id);
      if (known !== undefined) known.edge = edge;
      else
        this.sums.set(edge.id, {
          edge,
          opens: 0,
          failed: 0,
          closes: 0,
          active: 0,
          bytesOut: 0,
          bytesIn: 0,
          rttCount: 0,
          troubles: Array.from({ length: TROUBLES.length }, () => 0),
          requests: new Map(),
          sumUs: new Map(),
          details: new Map(),
          histograms: new Map(),
          pendingCount: 0,
          pendingOldestMs: 0,
          pendings: [],
          pairs: [],
        });
    }
    const { tcp, troubles, l7, hist, pending, pairs, io, ioHist } = tick;
    const timedOf = (i: number): TimedSum => {
      const key = `${io.device[i] ?? 0} ${TIMED[io.what[i] ?? 0] ?? "?"} ${io.owner[i] ?? 0}`;
      const known = this.timed.get(key);
      if (known !== undefined) return known;
      const made = { count: 0, errors: 0, bytes: 0, sumUs: 0, histogram: new Float64Array(HISTOGRAM_BUCKETS) };
      this.timed.set(key, made);
      return made;
    };
    for (let i = 0; i < io.rows; i++) {
      const sum = timedOf(i);
      sum.count += io.count[i] ?? 0;
      sum.errors += io.errors[i] ?? 0;
      sum.bytes += io.bytes[i] ?? 0;
      sum.sumUs += io.sumUs[i] ?? 0;
    }
    for (let i = 0; i < ioHist.rows; i++) {
      const { histogram } = timedOf(ioHist.row[i] ?? 0);
      const bucket = ioHist.bucket[i] ?? 0;
      histogram[bucket] = (histogram[bucket] ?? 0) + (ioHist.count[i] ?? 0);
    }
    for (let i = 0; i < tcp.rows; i++) {
      const s = this.sum(tcp.edge[i] ?? 0);
      s.opens += tcp.opens[i] ?? 0;
      s.failed += tcp.failed[i] ?? 0;
      s.closes += tcp.closes[i] ?? 0;
      s.active = tcp.active[i] ?? 0;
      s.bytesOut += tcp.bytesOut[i] ?? 0;
      s.bytesIn += tcp.bytesIn[i] ?? 0;
      s.rttCount += tcp.rttCount[i] ?? 0;
    }
    for (let i = 0; i < troubles.rows; i++) {
      const kinds = this.sum(troubles.edge[i] ?? 0).troubles;
      const kind = troubles.kind[i] ?? 0;
      kinds[kind] = (kinds[kind] ?? 0) + (troubles.count[i] ?? 0);
    }
    for (let i = 0; i < l7.rows; i++) {
      const name = rowName(l7.protocol[i] ?? 0, l7.status[i] ?? 0);
      const s = this.sum(l7.edge[i] ?? 0);
      bump(s.requests, name, l7.count[i] ?? 0);
      bump(s.details, `${name} ${l7.detail[i] ?? 0}`, l7.count[i] ?? 0);
      bump(s.sumUs, name, l7.sumUs[i] ?? 0);
    }
    for (let i = 0; i < hist.rows; i++) {
      const row = hist.row[i] ?? 0;
      const s = this.sum(l7.edge[row] ?? 0);
      const name = rowName(l7.protocol[row] ?? 0, l7.status[row] ?? 0);
      const histogram = s.histograms.get(name) ?? new Float64Array(HISTOGRAM_BUCKETS);
      const bucket = hist.bucket[i] ?? 0;
      histogram[bucket] = (histogram[bucket] ?? 0) + (hist.count[i] ?? 0);
      s.histograms.set(name, histogram);
    }
    for (let i = 0; i < pending.rows; i++) {
      const s = this.sum(pending.edge[i] ?? 0);
      s.pendingCount = pending.count[i] ?? 0;
      s.pendingOldestMs = pending.oldestMs[i] ?? 0;
      s.pendings.push({ count: s.pendingCount, oldestMs: s.pendingOldestMs });
    }
    for (let i = 0; i < pairs.rows; i++) this.sum(pairs.edge[i] ?? 0).pairs.push(pairs.port[i] ?? 0);
  }
}
