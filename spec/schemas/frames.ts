/** One valid body of every frame kind, used by the golden frames, the codec's tests and the fuzzing. */
import { emptyTable, encodeTable } from "../../schemas/wire/columns.ts";
import type { Table, TableShape } from "../../schemas/wire/columns.ts";
import { FRAME } from "../../schemas/wire/frame.ts";
import type { FrameKind } from "../../schemas/wire/frame.ts";
import { SAMPLES_SHAPE } from "../../schemas/wire/link.ts";
import type {
  AckBody,
  CreditBody,
  GoawayBody,
  HelloBody,
  PolicyBody,
  ServerHelloBody,
  StoreBody,
} from "../../schemas/wire/link.ts";
import { HIST_SHAPE, L7_SHAPE, PAIR_SHAPE, PENDING_SHAPE, TCP_SHAPE, USAGE_SHAPE } from "../../schemas/wire/observe.ts";
import type { ObserveBody } from "../../schemas/wire/observe.ts";

/** A table from rows; columns that a row leaves out are 0. */
export const tableOf = <S extends TableShape>(
  shape: S,
  rows: readonly { readonly [K in keyof S]?: number }[],
): Table<S> => {
  const made = emptyTable(shape, rows.length);
  rows.forEach((row, i) => {
    for (const name in shape) (made[name] as Float64Array)[i] = row[name] ?? 0;
  });
  return made;
};

export const helloBody: HelloBody = {
  protocol: [1, 0],
  agentId: "machine-1",
  epoch: 1_700_000_000_123,
  cluster: "default",
  node: "node-1",
  key: "secret-key-of-the-agent",
  version: "0.1.0",
  monoMs: 12_345.5,
  wallMs: 1_700_000_000_456,
  kernel: "6.18.0",
  capabilities: [
    { feature: "tcp", state: "on", errno: 0, reason: "" },
    { feature: "uprobes", state: "off", errno: 1, reason: "operation not permitted" },
  ],
};

export const serverHelloBody: ServerHelloBody = { protocol: [1, 0], serverId: "server-1", serverMs: 1_700_000_000_500 };

export const observeBody: ObserveBody = {
  window: 42,
  monoMs: 42_000,
  wallMs: 1_700_000_042_000,
  instances: [
    {
      id: 1,
      namespace: "prod",
      kind: "SystemdUnit",
      name: "nginx",
      instance: "nginx.service",
      exe: "/usr/sbin/nginx",
      netns: 4_026_531_840,
      type: "nginx",
      startedAtMs: 1_699_999_999_000,
    },
  ],
  edges: [
    { id: 7, instance: 1, role: 1, peer: "10.0.0.2", port: 80, local: "10.0.0.1", netns: 4_026_531_840 },
    { id: 8, instance: 1, role: 0, peer: "::ffff:10.0.0.3", port: 5432, local: "", netns: 4_026_531_840 },
  ],
  listens: [{ instance: 1, address: "10.0.0.1", port: 80, netns: 4_026_531_840 }],
  gone: [3, 4],
  events: [
    { kind: "start", instance: 1, atMs: 1_699_999_999_000 },
    { kind: "exit", instance: 1, atMs: 1_700_000_041_000, pid: 77, code: null, signal: 9, left: 2 },
    { kind: "oom", instance: 1, atMs: 1_700_000_041_000, pid: 77, rssBytes: 1e9 },
  ],
  tcp: encodeTable(
    TCP_SHAPE,
    tableOf(TCP_SHAPE, [{ edge: 7, opens: 2, closes: 1, active: 3, bytesIn: 1e12, rttUs: 150, rttCount: 1 }]),
  ),
  l7: encodeTable(
    L7_SHAPE,
    tableOf(L7_SHAPE, [
      { edge: 7, protocol: 1, status: 0, count: 10, sumUs: 12_345 },
      { edge: 7, protocol: 1, status: 2, count: 1, sumUs: 5 },
    ]),
  ),
  hist: encodeTable(
    HIST_SHAPE,
    tableOf(HIST_SHAPE, [
      { row: 0, bucket: 40, count: 10 },
      { row: 1, bucket: 107, count: 1 },
    ]),
  ),
  pending: encodeTable(PENDING_SHAPE, tableOf(PENDING_SHAPE, [{ edge: 8, protocol: 2, count: 1, oldestMs: 1500 }])),
  pairs: encodeTable(PAIR_SHAPE, tableOf(PAIR_SHAPE, [{ edge: 8, port: 40_000 }])),
  pairIps: Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 1]),
  usage: encodeTable(USAGE_SHAPE, tableOf(USAGE_SHAPE, [{ instance: 1, cpuMs: 500, memory: 2 ** 33, processes: 5 }])),
};

export const storeBody: StoreBody = {
  epoch: 1_700_000_000_123,
  sequence: 5,
  monoMs: 42_001,
  series: [{ id: 1, name: "node_cpu_seconds", labels: { mode: "user", cpu: "0" } }],
  samples: encodeTable(SAMPLES_SHAPE, tableOf(SAMPLES_SHAPE, [{ series: 1, timeMs: 1_700_000_042_000, value: -1.5 }])),
  dropped: 0,
};

export const ackBody: AckBody = {
  lane: "observe",
  epoch: 1_700_000_000_123,
  upTo: 42,
  echoMonoMs: 42_000,
  serverMs: 1.7e12,
};
export const creditBody: CreditBody = { lane: "store", frames: 4 };
export const policyBody: PolicyBody = { slowMs: { "default/prod/SystemdUnit/nginx": 500 } };
export const goawayBody: GoawayBody = { code: "duplicate", message: "another agent has this id", retryAfterMs: 10_000 };

export const ALL: readonly (readonly [name: string, kind: FrameKind, body: object])[] = [
  ["hello", FRAME.hello, helloBody],
  ["server-hello", FRAME.hello, serverHelloBody],
  ["observe", FRAME.observe, observeBody],
  ["store", FRAME.store, storeBody],
  ["ack", FRAME.ack, ackBody],
  ["credit", FRAME.credit, creditBody],
  ["policy", FRAME.policy, policyBody],
  ["goaway", FRAME.goaway, goawayBody],
];
