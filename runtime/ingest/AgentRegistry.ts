/**
 * Every agent that was seen in the last 24 hours, connected or not: who may take an id, and the figures that the page
 * shows. Plain state of the agent link, touched only from its fibers and socket callbacks. Bounded: beyond
 * `MAX_RECORDS` the one that has been away longest is forgotten, and counted.
 */
import { Metric } from "effect";
import type { Effect } from "effect";
import type { HelloBody } from "../../schemas/wire/link.ts";
import type { SelfFigures } from "../../schemas/wire/observe.ts";
import type { AgentView } from "../../schemas/wire/page.ts";

/** An agent counts as alive while its last frame is no older than this. */
export const ALIVE_MS = 10_000;
const KEEP_MS = 24 * 3_600_000;
const MAX_RECORDS = 10_000;
/** Kinds of loss shown per agent; more would be an attack on memory. */
const MAX_LOSSES = 64;

const forgotten = Metric.counter("coroot_agent_records_forgotten", {
  description: "agents that were dropped from the list because it was full",
});

/** The live connection of an agent, as far as the registry needs it. */
export interface Connection {
  readonly epoch: number;
  /** ends it */
  readonly end: (reason: string) => void;
  /** its handler has been told that it is over */
  readonly done: Effect.Effect<void>;
}

export interface AgentRecord {
  readonly id: string;
  hello: HelloBody;
  connection: Connection | null;
  connectedAt: number;
  lastFrameAt: number;
  wallOffsetMs: number;
  window: number;
  frames: number;
  bytes: number;
  framesPerSecond: number;
  bytesPerSecond: number;
  /** counters at the last `tick` */
  ticked: { at: number; frames: number; bytes: number };
  instances: number;
  edges: number;
  conflicts: number;
  self: SelfFigures;
  readonly losses: Map<string, number>;
}

export interface AgentRegistry {
  /** how many are connected */
  readonly connected: () => number;
  /** Takes the id for a new connection; "duplicate" while another life of the agent is alive. */
  readonly claim: (
    hello: HelloBody,
    now: number,
    connection: Connection,
  ) => { readonly record: AgentRecord; readonly replaced: Connection | null } | "duplicate";
  readonly release: (record: AgentRecord, connection: Connection) => void;
  /** Once a second: rates, and forgetting. */
  readonly tick: (now: number) => void;
  readonly views: () => readonly AgentView[];
}

export const countLoss = (record: AgentRecord, name: string, n: number): void => {
  if (n === 0) return;
  const key = record.losses.has(name) || record.losses.size < MAX_LOSSES ? name : "other";
  record.losses.set(key, (record.losses.get(key) ?? 0) + n);
};

const view = (r: AgentRecord): AgentView => ({
  id: r.id,
  node: r.hello.node,
  cluster: r.hello.cluster,
  version: r.hello.version,
  kernel: r.hello.kernel,
  state: r.connection === null ? "disconnected" : "connected",
  connectedAt: r.connectedAt,
  lastFrameAt: r.lastFrameAt,
  clockOffsetMs: Math.round(r.wallOffsetMs),
  window: r.window,
  framesPerSecond: r.framesPerSecond,
  bytesPerSecond: r.bytesPerSecond,
  instances: r.instances,
  edges: r.edges,
  capabilities: r.hello.capabilities,
  losses: Object.fromEntries(r.losses),
  conflicts: r.conflicts,
  self: r.self,
});

/** Weight of the newest second in the rates: they settle within about ten seconds. */
const NEWEST = 0.25;

export const makeAgentRegistry = (): AgentRegistry => {
  const records = new Map<string, AgentRecord>();
  let connected = 0;

  const makeRoom = (): void => {
    if (records.size < MAX_RECORDS) return;
    let oldest: AgentRecord | null = null;
    for (const record of records.values())
      if (record.connection === null && (oldest === null || record.lastFrameAt < oldest.lastFrameAt)) oldest = record;
    if (oldest === null) return;
    records.delete(oldest.id);
    forgotten.unsafeUpdate(1, []);
  };

  return {
    connected: () => connected,

    claim: (hello, now, connection) => {
      const known = records.get(hello.agentId);
      const live = known?.connection ?? null;
      if (known !== undefined && live !== null && live.epoch !== hello.epoch && now - known.lastFrameAt <= ALIVE_MS) {
        known.conflicts++;
        return "duplicate";
      }
      if (known === undefined) makeRoom();
      const record: AgentRecord = known ?? {
        id: hello.agentId,
        hello,
        connection: null,
        connectedAt: now,
        lastFrameAt: now,
        wallOffsetMs: 0,
        window: 0,
        frames: 0,
        bytes: 0,
        framesPerSecond: 0,
        bytesPerSecond: 0,
        ticked: { at: now, frames: 0, bytes: 0 },
        instances: 0,
        edges: 0,
        conflicts: 0,
        self: {},
        losses: new Map(),
      };
      record.hello = hello;
      if (record.connection === null) connected++;
      record.connection = connection;
      record.connectedAt = now;
      record.lastFrameAt = now;
      records.set(record.id, record);
      return { record, replaced: live };
    },

    release: (record, connection) => {
      if (record.connection !== connection) return;
      record.connection = null;
      connected--;
    },

    tick: (now) => {
      for (const record of records.values()) {
        if (record.connection === null && now - record.lastFrameAt > KEEP_MS) {
          records.delete(record.id);
          continue;
        }
        const seconds = (now - record.ticked.at) / 1000;
        if (seconds <= 0) continue;
        const mix = (old: number, total: number, before: number): number =>
          old * (1 - NEWEST) + ((total - before) / seconds) * NEWEST;
        record.framesPerSecond = mix(record.framesPerSecond, record.frames, record.ticked.frames);
        record.bytesPerSecond = mix(record.bytesPerSecond, record.bytes, record.ticked.bytes);
        record.ticked = { at: now, frames: record.frames, bytes: record.bytes };
      }
    },

    views: () => [...records.values()].map(view),
  };
};
