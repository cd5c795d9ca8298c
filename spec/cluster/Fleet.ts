/**
 * A thousand agents in one process: real WebSockets, the agent's real link (its state machine, backoff and re-sends) and
 * real frames, which are encoded once and patched, so that the agents cost less than the server that they load. Each node
 * runs `instances` pods of `services` services that all nodes share, and `edges` active edges, half of them seen as the
 * client and half as the server: whoever calls is on another node. What was sent follows from agent and window alone.
 * The store lane keeps numbers instead of a spool. Owned by its maker; a refusal or a loss is a counter in `status`.
 */
import { WebSocket, type RawData } from "ws";
import { stepLink, initialLink, type LinkInput, type LinkOutput, type LinkState } from "../../agent/node/link/step.ts";
import { emptyTable, encodeTable, type TableShape, type WireTable } from "../../schemas/wire/columns.ts";
import {
  checkAck,
  checkCredit,
  checkGoaway,
  checkServerHello,
  decodeFrame,
  encodeFrame,
} from "../../schemas/wire/codec.ts";
import { FRAME, MAX_FRAME_BYTES, PROTOCOL } from "../../schemas/wire/frame.ts";
import { bucketOf } from "../../schemas/wire/histogram.ts";
import { SAMPLES_SHAPE, type HelloBody, type StoreBody } from "../../schemas/wire/link.ts";
import {
  HIST_SHAPE,
  L7_SHAPE,
  ROLE,
  STATUS,
  TCP_SHAPE,
  USAGE_SHAPE,
  type EdgeDefinition,
  type InstanceDefinition,
  type ListenDefinition,
  type ObserveBody,
} from "../../schemas/wire/observe.ts";

export interface FleetShape {
  readonly agents: number;
  /** pods of each agent */
  readonly instances: number;
  /** of the whole fleet */
  readonly services: number;
  /** active edges of each agent in each window, both roles together; even */
  readonly edges: number;
  /** metric series of each agent */
  readonly series: number;
  /** between two store frames of an agent, ms */
  readonly samplesEveryMs: number;
}

export interface FleetOptions extends FleetShape {
  readonly key: string;
  /** of the servers, ws://…/agent */
  readonly urls: readonly string[];
}

export interface FleetStatus {
  readonly connected: number;
  /** paused, and the last window of every agent is over */
  readonly ended: boolean;
  readonly windows: number;
  readonly acknowledged: number;
  readonly dropped: number;
  readonly resent: number;
  readonly connects: number;
  readonly failures: number;
  readonly storeSent: number;
  readonly storeAcknowledged: number;
  /** requests that the servers' agents saw, in all windows so far */
  readonly requests: number;
  /** samples of the batches that were acknowledged, and their sum */
  readonly samples: number;
  readonly unacknowledged: number;
  /** why the server sent somebody away, and why connecting failed, with how often */
  readonly away: Readonly<Record<string, number>>;
  readonly errors: Readonly<Record<string, number>>;
  /** from a window's end to its acknowledgement, since the last status, ms */
  readonly ackP50: number;
  readonly ackP99: number;
  /** this process, s */
  readonly cpu: number;
}

interface Window {
  readonly window: number;
  readonly monoMs: number;
  readonly serverMs?: number;
}

const LATENCY_MS = 5;
const PATTERNS = 5;
const PORT = 8080;
const TICK_MS = 250;
const LOOP_MS = 10;
const STORE_KEPT = 512;

/** Requests of an edge in a window. */
export const requestsOf = (relation: number, window: number): number => 8 + ((window + relation) % PATTERNS);

const wire = <S extends TableShape>(shape: S, rows: readonly Partial<Record<keyof S, number>>[]): WireTable => {
  const table = emptyTable(shape, rows.length);
  rows.forEach((row, i) => {
    for (const column of Object.keys(shape) as (keyof S)[])
      (table[column] as unknown as { [index: number]: number })[i] = row[column] ?? 0;
  });
  return encodeTable(shape, table);
};

const address = (agent: number, instance: number): string => `10.${agent >> 8}.${agent & 255}.${instance + 1}`;

/** Numbers that msgpack writes in their widest form, so that others fit in their place. */
const WINDOW_PLACE = 0x7fffffff;
const TIME_PLACE = 1_234_567_890.125;

/** A frame of which the window's number and times are written anew for each sending. */
class Template {
  readonly #bytes: Buffer;
  readonly #window: number;
  readonly #times: readonly number[];

  constructor(body: Omit<ObserveBody, "window" | "monoMs" | "wallMs" | "serverMs">) {
    const places = { window: WINDOW_PLACE, monoMs: TIME_PLACE, wallMs: TIME_PLACE, serverMs: TIME_PLACE };
    this.#bytes = Buffer.from(encodeFrame(FRAME.observe, { ...places, ...body }));
    const after = (name: string, head: number): number => {
      const at = this.#bytes.indexOf(Buffer.from([0xa0 + name.length, ...Buffer.from(name), head]));
      if (at < 0) throw new Error(`no place for ${name} in the frame`);
      return at + name.length + 2;
    };
    this.#window = after("window", 0xce);
    this.#times = ["monoMs", "wallMs", "serverMs"].map((name) => after(name, 0xcb));
  }

  /** Good until the next call: the WebSocket copies it while it masks. */
  at({ window, monoMs, serverMs = monoMs }: Window): Buffer {
    this.#bytes.writeUInt32BE(window, this.#window);
    const values = [monoMs, monoMs, serverMs];
    this.#times.forEach((at, i) => this.#bytes.writeDoubleBE(values[i] ?? 0, at));
    return this.#bytes;
  }
}

const percentile = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;

const bytesOf = (data: RawData): Uint8Array =>
  Array.isArray(data) ? Buffer.concat(data) : data instanceof ArrayBuffer ? new Uint8Array(data) : data;

class Member {
  readonly #number: number;
  readonly #fleet: Fleet;
  readonly #epoch = 1 + Math.floor(Math.random() * 2 ** 40);
  readonly #pending: LinkInput<Window>[] = [];
  /** acknowledged by the server as durable, and sent on this connection: batches below have been */
  stored = 0;
  made = 0;
  #underWay = 0;
  #defined = false;
  #seriesDefined = false;
  /** ms of the store batches that are not acknowledged, the first is `stored` */
  readonly #batchMs: number[] = [];
  #stepping = false;
  #socket: WebSocket | null = null;
  state: LinkState<Window>;
  nextTickMs: number;
  /** when in a second its windows end */
  readonly phaseMs: number;
  windows = 0;

  constructor(fleet: Fleet, number: number) {
    const { agents } = fleet.options;
    this.#number = number;
    this.#fleet = fleet;
    this.state = initialLink<Window>(this.#epoch, fleet.options.urls.length);
    this.phaseMs = 100 + (800 * number) / agents;
    this.nextTickMs = (TICK_MS * number) / agents;
  }

  tick(nowMs: number): void {
    this.nextTickMs = nowMs + TICK_MS;
    this.#feed({ type: "tick", random: 0 });
  }

  window(monoMs: number): void {
    this.#feed({ type: "window", window: { window: this.windows++, monoMs } });
  }

  /** False: as many wait as a spool would take. */
  samples(wallMs: number): boolean {
    if (this.made - this.stored >= STORE_KEPT) return false;
    this.made++;
    this.#batchMs.push(wallMs);
    this.#pumpStore();
    return true;
  }

  close(): void {
    this.#feed({ type: "stop" });
  }

  #feed(input: LinkInput<Window>): void {
    this.#pending.push(input);
    if (this.#stepping) return;
    this.#stepping = true;
    for (let next = this.#pending.shift(); next !== undefined; next = this.#pending.shift()) {
      const [after, outputs] = stepLink(this.state, next, this.#fleet.monoMs());
      this.state = after;
      for (const output of outputs) this.#perform(output);
    }
    this.#stepping = false;
  }

  #perform(output: LinkOutput<Window>): void {
    switch (output.type) {
      case "dial":
        return this.#dial(output.server);
      case "greet":
        return this.#send(encodeFrame(FRAME.hello, this.#fleet.hello(this.#number, this.#epoch)));
      case "observe": {
        const frame = this.#defined
          ? this.#fleet.template(output.window.window).at(output.window)
          : this.#fleet.first(this.#number, output.window);
        this.#defined = true;
        return this.#send(frame);
      }
      case "store":
        if (output.rewind) this.#underWay = 0;
        return this.#pumpStore();
      case "stored": {
        if (output.epoch !== this.#epoch) return;
        const n = output.upTo + 1 - this.stored;
        if (n <= 0) return;
        this.#batchMs.splice(0, n);
        this.stored += n;
        this.#underWay = Math.max(0, this.#underWay - n);
        return;
      }
      case "close":
        return this.#hangUp(output.reason);
      case "say":
        return;
    }
  }

  #pumpStore(): void {
    while (this.state.phase === "ready" && this.#underWay < this.state.storeCredit) {
      const timeMs = this.#batchMs[this.#underWay];
      if (timeMs === undefined) return;
      const sequence = this.stored + this.#underWay++;
      const define = !this.#seriesDefined;
      this.#seriesDefined = true;
      this.#send(this.#fleet.batch(this.#number, this.#epoch, sequence, timeMs, define));
    }
  }

  #send(bytes: Uint8Array): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(bytes);
  }

  #hangUp(reason: string): void {
    const ending = this.#socket;
    if (ending === null) return;
    this.#socket = null;
    if (ending.readyState === WebSocket.OPEN) ending.close(1000);
    else ending.terminate();
    this.#closed(reason);
  }

  #closed(reason: string): void {
    if (this.state.phase !== "ready" && this.state.phase !== "stopped") this.#fleet.failed(reason);
    this.#feed({ type: "closed", reason, random: Math.random() });
  }

  #dial(server: number): void {
    this.#defined = false;
    this.#seriesDefined = false;
    const opening = new WebSocket(this.#fleet.options.urls[server] ?? "", {
      handshakeTimeout: 5_000,
      maxPayload: MAX_FRAME_BYTES,
      perMessageDeflate: false,
    });
    this.#socket = opening;
    let said = "connection closed by the server";
    opening.on("open", () => {
      if (this.#socket === opening) this.#feed({ type: "opened" });
    });
    opening.on("message", (data) => {
      if (this.#socket === opening) this.#receive(bytesOf(data));
    });
    opening.on("error", (error) => {
      said = error.message;
    });
    opening.on("close", () => {
      if (this.#socket !== opening) return;
      this.#socket = null;
      this.#closed(said);
    });
  }

  #receive(bytes: Uint8Array): void {
    const { header, body } = decodeFrame(bytes);
    switch (header.kind) {
      case FRAME.hello:
        return this.#feed({ type: "greeted", ...checkServerHello(body) });
      case FRAME.ack: {
        const ack = checkAck(body);
        if (ack.lane === "observe") this.#fleet.acknowledged(ack.echoMonoMs);
        return this.#feed({ type: "ack", ack });
      }
      case FRAME.credit:
        return this.#feed({ type: "credit", credit: checkCredit(body) });
      case FRAME.goaway: {
        const goaway = checkGoaway(body);
        this.#fleet.sentAway(goaway.code);
        return this.#feed({ type: "goaway", goaway });
      }
      default:
        return this.#feed({ type: "skipped" });
    }
  }
}

export class Fleet {
  readonly options: FleetOptions;
  readonly #began = performance.now();
  readonly #agents: readonly Member[];
  readonly #templates: readonly Template[];
  readonly #tables: readonly Pick<ObserveBody, "tcp" | "l7" | "hist" | "usage">[];
  readonly #timer: NodeJS.Timeout;
  readonly #away = new Map<string, number>();
  readonly #errors = new Map<string, number>();
  readonly #ackMs: number[] = [];
  #beginMs: number | null = null;
  #endMs = Number.POSITIVE_INFINITY;

  constructor(options: FleetOptions) {
    this.options = options;
    this.#tables = Array.from({ length: PATTERNS }, (_, window) => this.#rows(window));
    this.#templates = this.#tables.map((tables) => new Template(tables));
    this.#agents = Array.from({ length: options.agents }, (_, i) => new Member(this, i));
    this.#timer = setInterval(() => this.#turn(), LOOP_MS);
  }

  monoMs(): number {
    return performance.now() - this.#began;
  }

  /** From the next whole second on each agent has a window a second, all of them the same number in the same second. */
  begin(): void {
    const wall = Date.now();
    this.#beginMs = this.monoMs() + (1_000 - (wall % 1_000));
  }

  /** No new windows after those of this second: what is there is still sent. */
  pause(): void {
    const begin = this.#beginMs ?? 0;
    this.#endMs = begin + Math.ceil((this.monoMs() - begin) / 1_000) * 1_000;
  }

  close(): void {
    clearInterval(this.#timer);
    for (const agent of this.#agents) agent.close();
  }

  #turn(): void {
    const now = this.monoMs();
    const begin = this.#beginMs;
    for (const agent of this.#agents) {
      if (now >= agent.nextTickMs) agent.tick(now);
      if (begin === null) continue;
      for (;;) {
        const due = begin + agent.windows * 1_000 + agent.phaseMs;
        if (now < due || due >= this.#endMs) break;
        agent.window(due);
      }
      if (this.options.series === 0 || now >= this.#endMs) continue;
      const due = begin + (agent.made + (agent.phaseMs - 100) / 800) * this.options.samplesEveryMs;
      if (now >= due) agent.samples(Date.now());
    }
  }

  acknowledged(monoMs: number): void {
    this.#ackMs.push(this.monoMs() - monoMs);
  }

  sentAway(code: string): void {
    this.#away.set(code, (this.#away.get(code) ?? 0) + 1);
  }

  failed(reason: string): void {
    this.#errors.set(reason, (this.#errors.get(reason) ?? 0) + 1);
  }

  status(): FleetStatus {
    const sum = (of: (agent: Member) => number): number => this.#agents.reduce((n, agent) => n + of(agent), 0);
    const ackMs = this.#ackMs.splice(0).sort((a, b) => a - b);
    const { user, system } = process.cpuUsage();
    const stored = sum(({ stored }) => stored);
    return {
      // those of the last second have their windows by then
      ended: this.monoMs() > this.#endMs + 500,
      connected: sum(({ state }) => (state.phase === "ready" ? 1 : 0)),
      windows: sum(({ windows }) => windows),
      acknowledged: sum(({ windows, state }) => windows - state.ring.length - state.counters.windowsDropped),
      dropped: sum(({ state }) => state.counters.windowsDropped),
      resent: sum(({ state }) => state.counters.windowsResent),
      connects: sum(({ state }) => state.counters.connects),
      failures: sum(({ state }) => state.counters.failures),
      storeSent: sum(({ made }) => made),
      storeAcknowledged: stored,
      requests: sum(({ windows }) => this.#requests(windows)),
      samples: stored * this.options.series,
      unacknowledged: sum(({ state }) => state.ring.length),
      away: Object.fromEntries(this.#away),
      errors: Object.fromEntries(this.#errors),
      ackP50: percentile(ackMs, 0.5),
      ackP99: percentile(ackMs, 0.99),
      cpu: (user + system) / 1e6,
    };
  }

  hello(agent: number, epoch: number): HelloBody {
    return {
      protocol: [PROTOCOL.major, PROTOCOL.minor],
      agentId: `fleet-${agent}`,
      epoch,
      cluster: "default",
      node: `node-${agent}`,
      key: this.options.key,
      version: "0",
      monoMs: this.monoMs(),
      wallMs: Date.now(),
      kernel: "6",
      capabilities: [],
    };
  }

  template(window: number): Template {
    const template = this.#templates[window % PATTERNS];
    if (template === undefined) throw new Error(`no template for window ${window}`);
    return template;
  }

  /** First frame of a connection, with its dictionary. */
  first(agent: number, { window, monoMs, serverMs = monoMs }: Window): Uint8Array {
    const body: ObserveBody = {
      window,
      monoMs,
      wallMs: monoMs,
      serverMs,
      instances: this.#instances(agent),
      edges: this.#edges(agent),
      listens: this.#listens(agent),
      ...this.#tables[window % PATTERNS],
    };
    return encodeFrame(FRAME.observe, body);
  }

  batch(agent: number, epoch: number, sequence: number, timeMs: number, define: boolean): Uint8Array {
    const { series } = this.options;
    const samples = emptyTable(SAMPLES_SHAPE, series);
    for (let i = 0; i < series; i++) {
      samples.series[i] = i + 1;
      samples.timeMs[i] = timeMs;
      samples.value[i] = sequence * (1 + (i % 7)) + i;
    }
    const body: StoreBody = {
      epoch,
      sequence,
      monoMs: this.monoMs(),
      dropped: 0,
      samples: encodeTable(SAMPLES_SHAPE, samples),
      ...(define ? { series: Array.from({ length: series }, (_, i) => this.#series(agent, i)) } : {}),
    };
    return encodeFrame(FRAME.store, body);
  }

  #series(agent: number, i: number) {
    const instance = i % this.options.instances;
    return {
      id: i + 1,
      name: `container_net_figure_${Math.floor(i / this.options.instances) % 25}_total`,
      labels: {
        container_id: `/k8s/load/svc-${this.#service(agent, instance)}-${agent}-${instance}/main`,
        app_id: `default/load/Pod/svc-${this.#service(agent, instance)}`,
        machine_id: `machine-${agent}`,
        destination: `${address((agent + i + 1) % this.options.agents, instance)}:${PORT}`,
      },
    };
  }

  #service(agent: number, instance: number): number {
    return (agent * this.options.instances + instance) % this.options.services;
  }

  #instances(agent: number): InstanceDefinition[] {
    return Array.from({ length: this.options.instances }, (_, i) => ({
      id: i + 1,
      namespace: "load",
      kind: "Pod",
      name: `svc-${this.#service(agent, i)}`,
      instance: `svc-${this.#service(agent, i)}-${agent}-${i}`,
      exe: "/usr/bin/service",
      netns: 1_000 + i,
      type: "",
      startedAtMs: 0,
    }));
  }

  #listens(agent: number): ListenDefinition[] {
    return Array.from({ length: this.options.instances }, (_, i) => ({
      instance: i + 1,
      address: address(agent, i),
      port: PORT,
      netns: 1_000 + i,
    }));
  }

  #callee(relation: number): number {
    return (relation * 7 + 3) % this.options.instances;
  }

  /** Relation r: pod r of agent a calls pod 7r+3 of agent a+r+1. Edge 2r+1 is its client's side, 2r+2 a server's. */
  #edges(agent: number): EdgeDefinition[] {
    const { agents, instances, edges } = this.options;
    return Array.from({ length: edges / 2 }, (_, r): EdgeDefinition[] => {
      const caller = r % instances;
      const callee = this.#callee(r);
      const to = (agent + r + 1) % agents;
      const from = (agent + agents * edges - r - 1) % agents;
      return [
        {
          id: 2 * r + 1,
          instance: caller + 1,
          role: ROLE.client,
          peer: address(to, callee),
          port: PORT,
          local: address(agent, caller),
          netns: 1_000 + caller,
        },
        {
          id: 2 * r + 2,
          instance: callee + 1,
          role: ROLE.server,
          peer: address(from, caller),
          port: PORT,
          local: address(agent, callee),
          netns: 1_000 + callee,
        },
      ];
    }).flat();
  }

  #rows(window: number): Pick<ObserveBody, "tcp" | "l7" | "hist" | "usage"> {
    const { instances, edges } = this.options;
    const tcp: Partial<Record<keyof typeof TCP_SHAPE, number>>[] = [];
    const l7: Partial<Record<keyof typeof L7_SHAPE, number>>[] = [];
    const hist: Partial<Record<keyof typeof HIST_SHAPE, number>>[] = [];
    for (let edge = 1; edge <= edges; edge++) {
      const count = requestsOf((edge - 1) >> 1, window);
      tcp.push({ edge, active: 2, bytesIn: 900 * count, bytesOut: 300 * count, rttUs: 400, rttCount: 1 });
      // three neighbouring buckets, as latencies are
      for (const [spread, n] of [
        [0.7, 2],
        [1, count - 4],
        [1.5, 2],
      ] as const)
        hist.push({ row: l7.length, bucket: bucketOf(LATENCY_MS * spread), count: n });
      l7.push({ edge, protocol: 1, status: STATUS.ok, count, sumUs: LATENCY_MS * 1000 * count });
    }
    const usage = Array.from({ length: instances }, (_, i) => ({
      instance: i + 1,
      cpuMs: 20 + i,
      memory: 50e6 + i,
      processes: 1,
    }));
    return {
      tcp: wire(TCP_SHAPE, tcp),
      l7: wire(L7_SHAPE, l7),
      hist: wire(HIST_SHAPE, hist),
      usage: wire(USAGE_SHAPE, usage),
    };
  }

  /** Requests that one agent's servers took in its first windows. */
  #requests(windows: number): number {
    const relations = this.options.edges / 2;
    const rounds = Math.floor(windows / PATTERNS);
    let sum = 0;
    for (let r = 0; r < relations; r++)
      for (let w = 0; w < PATTERNS; w++) sum += requestsOf(r, w) * (rounds + (w < windows % PATTERNS ? 1 : 0));
    return sum;
  }
}
