/**
 * A shop of six services as one agent would report it, second by second: load → nginx → front → catalog → postgres and
 * front → cart → redis. Both ends of every call; a scenario says what each call looks like in a second. Used to drive
 * the real actors (session, topology, services, desk, coordinator) under virtual time.
 */
import { bucketOf } from "../../schemas/wire/histogram.ts";
import { emptyTable, type TableShape } from "../../schemas/wire/columns.ts";
import type { DecodedObserve } from "../../schemas/wire/codec.ts";
import {
  HIST_SHAPE,
  L7_SHAPE,
  PAIR_SHAPE,
  PENDING_SHAPE,
  ROLE,
  STATUS,
  TCP_SHAPE,
  TROUBLE_SHAPE,
  USAGE_SHAPE,
  type EdgeDefinition,
  type InstanceEvent,
} from "../../schemas/wire/observe.ts";

export const SERVICES = ["load", "nginx", "front", "catalog", "postgres", "cart", "redis"] as const;
export type Name = (typeof SERVICES)[number];

const CALLS: readonly { from: Name; to: Name; port: number; protocol: number }[] = [
  { from: "load", to: "nginx", port: 80, protocol: 1 },
  { from: "nginx", to: "front", port: 3000, protocol: 1 },
  { from: "front", to: "catalog", port: 5000, protocol: 1 },
  { from: "catalog", to: "postgres", port: 5432, protocol: 2 },
  { from: "front", to: "cart", port: 4000, protocol: 1 },
  { from: "cart", to: "redis", port: 6379, protocol: 3 },
];
export type Call = `${Name}>${Name}`;

/** One second of one call. */
export interface Traffic {
  readonly ok: number;
  readonly failed: number;
  readonly unanswered: number;
  readonly ms: number;
  readonly pending: number;
  readonly oldestMs: number;
  readonly failedConnects: number;
  /** what the server saw: false when it is dead or has not read the requests */
  readonly server: boolean;
  /** latency as the server saw it, when it differs */
  readonly serverMs?: number;
}
export interface Resources {
  readonly cpuMs: number;
  readonly throttledMs: number;
  readonly memory: number;
  readonly processes: number;
}
export interface Second {
  readonly calls: Partial<Record<Call, Partial<Traffic>>>;
  readonly resources: Partial<Record<Name, Partial<Resources>>>;
  readonly events: readonly { kind: "exit" | "oom" | "start"; service: Name }[];
}
export type Scenario = (second: number) => Second;

export const steady: Second = { calls: {}, resources: {}, events: [] };

const NORMAL_MS: Record<Name, number> = {
  load: 0,
  nginx: 30,
  front: 28,
  catalog: 12,
  postgres: 2,
  cart: 4,
  redis: 0.4,
};
const RPS = 20;
const address = (service: Name): string => `10.77.0.${SERVICES.indexOf(service) + 2}`;

const fill = <S extends TableShape>(shape: S, rows: readonly Partial<Record<keyof S, number>>[]) => {
  const table = emptyTable(shape, rows.length);
  rows.forEach((row, i) => {
    for (const column of Object.keys(shape) as (keyof S)[]) {
      const cells = table[column] as unknown as { [index: number]: number };
      cells[i] = row[column] ?? 0;
    }
  });
  return table;
};

/** The window of one second; the first carries the dictionary. `noise` in [0, 1) varies latencies by ±20 %. */
export const windowAt = (second: number, scenario: Scenario, noise: () => number, first: boolean): DecodedObserve => {
  const what = scenario(second);
  const edges: EdgeDefinition[] = [];
  const tcp: Partial<Record<keyof typeof TCP_SHAPE, number>>[] = [];
  const l7: Partial<Record<keyof typeof L7_SHAPE, number>>[] = [];
  const hist: Partial<Record<keyof typeof HIST_SHAPE, number>>[] = [];
  const pending: Partial<Record<keyof typeof PENDING_SHAPE, number>>[] = [];
  CALLS.forEach(({ from, to, port, protocol }, i) => {
    const call: Traffic = {
      ok: RPS,
      failed: 0,
      unanswered: 0,
      ms: NORMAL_MS[to] * (0.8 + 0.4 * noise()),
      pending: 0,
      oldestMs: 0,
      failedConnects: 0,
      server: true,
      ...what.calls[`${from}>${to}`],
    };
    for (const role of [ROLE.client, ROLE.server]) {
      const id = i * 2 + role + 1;
      if (role === ROLE.server && !call.server) continue;
      edges.push({
        id,
        instance: SERVICES.indexOf(role === ROLE.client ? from : to) + 1,
        role,
        peer: address(role === ROLE.client ? to : from),
        port,
        local: role === ROLE.client ? "" : address(to),
        netns: SERVICES.indexOf(role === ROLE.client ? from : to) + 100,
      });
      tcp.push({
        edge: id,
        active: 4,
        bytesOut: 1000,
        bytesIn: 1000,
        failed: role === ROLE.client ? call.failedConnects : 0,
      });
      const ms = role === ROLE.client ? call.ms * 1.02 : (call.serverMs ?? call.ms);
      const add = (status: number, count: number): void => {
        if (count === 0) return;
        hist.push({ row: l7.length, bucket: bucketOf(ms), count });
        l7.push({ edge: id, protocol, status, count, sumUs: ms * 1000 * count });
      };
      add(STATUS.ok, call.ok);
      add(STATUS.failed, call.failed);
      add(STATUS.unanswered, call.unanswered);
      pending.push({ edge: id, protocol, count: call.pending, oldestMs: call.oldestMs });
    }
  });
  const usage = SERVICES.map((service, i) => ({
    instance: i + 1,
    cpuMs: 40 + 4 * noise(),
    cpuLimit: service === "catalog" ? 1 : 0,
    memory: 60e6,
    memoryLimit: service === "cart" ? 128e6 : 0,
    processes: 1,
    ...what.resources[service],
  }));
  return {
    window: second,
    monoMs: second * 1000,
    wallMs: second * 1000,
    serverMs: null,
    goneEdges: [],
    instances: first
      ? SERVICES.map((name, i) => ({
          id: i + 1,
          namespace: "node-1",
          kind: "SystemdUnit",
          name,
          instance: name,
          exe: `/usr/bin/${name}`,
          netns: i + 100,
          type: "",
          startedAtMs: 0,
        }))
      : [],
    edges: first ? edges : [],
    listens: first
      ? CALLS.map(({ to, port }) => ({
          instance: SERVICES.indexOf(to) + 1,
          address: address(to),
          port,
          netns: SERVICES.indexOf(to) + 100,
        }))
      : null,
    gone: [],
    names: [],
    nat: [],
    vips: [],
    absent: [],
    mounts: [],
    self: null,
    events: what.events.map(({ kind, service }): InstanceEvent => {
      const instance = SERVICES.indexOf(service) + 1;
      if (kind === "oom") return { kind, instance, atMs: 0, pid: 7, rssBytes: 128e6 };
      return kind === "exit"
        ? { kind, instance, atMs: 0, pid: 7, code: null, signal: 9, left: 0 }
        : { kind, instance, atMs: 0 };
    }),
    tcp: fill(TCP_SHAPE, tcp),
    troubles: emptyTable(TROUBLE_SHAPE, 0),
    l7: fill(L7_SHAPE, l7),
    hist: fill(HIST_SHAPE, hist),
    pending: fill(PENDING_SHAPE, pending),
    pairs: fill(PAIR_SHAPE, []),
    pairIps: new Uint8Array(0),
    usage: fill(USAGE_SHAPE, usage),
    skipped: { columns: 0, fields: 0, protocols: 0, kinds: 0 },
  };
};
