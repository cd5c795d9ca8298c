import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Fold } from "../../../../agent/node/observe/Fold.ts";
import { Instances, type Instance } from "../../../../agent/node/observe/Instances.ts";
import { Catalog, Dictionary, type Window } from "../../../../agent/node/observe/Window.ts";
import {
  PROBE_IO_SHAPE,
  PROBE_L7_SHAPE,
  type ProbeEdge,
  type ProbeTick,
} from "../../../../agent/node/probe/ProbeTick.ts";
import { checkObserve, decodeFrame } from "../../../../schemas/wire/codec.ts";
import { emptyTable } from "../../../../schemas/wire/columns.ts";
import {
  HIST_SHAPE,
  PAIR_SHAPE,
  PENDING_SHAPE,
  ROLE,
  TCP_SHAPE,
  TROUBLE,
  TROUBLE_SHAPE,
} from "../../../../schemas/wire/observe.ts";
import { member } from "./members.ts";

interface Rows {
  readonly edges?: readonly ProbeEdge[];
  readonly gone?: readonly number[];
  readonly reset?: boolean;
  readonly tcp?: readonly { edge: number; opens?: number; active?: number; bytesOut?: number }[];
  readonly troubles?: readonly { edge: number; kind: number; count: number }[];
  readonly l7?: readonly {
    edge: number;
    protocol: number;
    status: number;
    count: number;
    sumUs: number;
    bucket?: number;
  }[];
  readonly pending?: readonly { edge: number; protocol: number; count: number; oldestMs: number }[];
}

const tick = (rows: Rows): ProbeTick => {
  const tcp = emptyTable(TCP_SHAPE, rows.tcp?.length ?? 0);
  for (const [i, row] of (rows.tcp ?? []).entries()) {
    tcp.edge[i] = row.edge;
    tcp.opens[i] = row.opens ?? 0;
    tcp.active[i] = row.active ?? 0;
    tcp.bytesOut[i] = row.bytesOut ?? 0;
  }
  const troubles = emptyTable(TROUBLE_SHAPE, rows.troubles?.length ?? 0);
  for (const [i, row] of (rows.troubles ?? []).entries()) {
    troubles.edge[i] = row.edge;
    troubles.kind[i] = row.kind;
    troubles.count[i] = row.count;
  }
  const l7 = emptyTable(PROBE_L7_SHAPE, rows.l7?.length ?? 0);
  const hist = emptyTable(HIST_SHAPE, rows.l7?.length ?? 0);
  for (const [i, row] of (rows.l7 ?? []).entries()) {
    l7.edge[i] = row.edge;
    l7.protocol[i] = row.protocol;
    l7.status[i] = row.status;
    l7.count[i] = row.count;
    l7.sumUs[i] = row.sumUs;
    hist.row[i] = i;
    hist.bucket[i] = row.bucket ?? 0;
    hist.count[i] = row.count;
  }
  const pending = emptyTable(PENDING_SHAPE, rows.pending?.length ?? 0);
  for (const [i, row] of (rows.pending ?? []).entries()) {
    pending.edge[i] = row.edge;
    pending.protocol[i] = row.protocol;
    pending.count[i] = row.count;
    pending.oldestMs[i] = row.oldestMs;
  }
  return {
    tick: 1,
    monoMs: 1000,
    reset: rows.reset ?? false,
    edges: rows.edges ?? [],
    gone: rows.gone ?? [],
    tcp,
    troubles,
    l7,
    hist,
    pending,
    pairs: emptyTable(PAIR_SHAPE, 0),
    pairIps: new Uint8Array(),
    events: [],
    tls: null,
    nat: [],
    listens: null,
    mounts: null,
    answers: [],
    spans: [],
    io: emptyTable(PROBE_IO_SHAPE, 0),
    ioHist: emptyTable(HIST_SHAPE, 0),
    self: {},
  };
};

const server = (id: number, tgid: number, peer = "10.0.0.9"): ProbeEdge => ({
  id,
  role: ROLE.server,
  netns: 1,
  tgid,
  peer,
  port: 80,
  local: "10.0.0.1",
});

const bed = () => {
  const instances = new Instances();
  const listening = new Map<string, Instance>();
  const fold = new Fold({
    ofProcess: (tgid) => instances.ofRecentPid(tgid),
    ofListening: (netns, address, port) => listening.get(`${netns}|${address}|${port}`) ?? null,
  });
  const catalog = new Catalog();
  const dictionary = new Dictionary(catalog);
  let number = 0;
  const window = (): ReturnType<typeof checkObserve> => {
    const now = ++number * 1000;
    instances.settle(now, now);
    for (const instance of instances.all.values())
      if (instance.reported)
        catalog.addInstance({
          id: instance.id,
          namespace: "n",
          kind: instance.identity.kind,
          name: instance.name ?? "",
          instance: instance.slot,
          exe: "",
          netns: 1,
          type: "",
          startedAtMs: 0,
        });
    const folded = fold.flush(now, (id) => {
      const instance = instances.all.get(id);
      return instance === undefined ? "gone" : instance.reported ? "shown" : "waiting";
    });
    for (const id of folded.edgeIds) {
      const edge = fold.edges.get(id);
      if (edge !== undefined) catalog.addEdge(edge.definition);
    }
    const body: Window = {
      window: number,
      monoMs: now,
      wallMs: now,
      gone: instances.gone.splice(0),
      events: instances.events.splice(0),
      listens: { version: 0, list: [] },
      usage: null,
      ...folded,
    };
    return checkObserve(decodeFrame(dictionary.encode(body)).body);
  };
  return { instances, fold, listening, window, catalog };
};

describe("fold", () => {
  it("makes one edge of the processes of one instance, with exact counts, sums and buckets", () => {
    const { instances, fold, window } = bed();
    instances.join(member(10, { instance: "pg.service", name: "pg" }), 0);
    instances.join(member(11, { instance: "pg.service", name: "pg", ppid: 10 }), 0);
    fold.absorb(
      tick({
        edges: [server(1, 10), server(2, 11), server(3, 11, "10.0.0.8")],
        l7: [
          { edge: 1, protocol: 2, status: 0, count: 5, sumUs: 500, bucket: 20 },
          { edge: 2, protocol: 2, status: 0, count: 7, sumUs: 900, bucket: 20 },
          { edge: 2, protocol: 2, status: 2, count: 1, sumUs: 10, bucket: 3 },
          { edge: 3, protocol: 2, status: 0, count: 2, sumUs: 20, bucket: 9 },
        ],
        tcp: [
          { edge: 1, opens: 1, active: 1, bytesOut: 10 },
          { edge: 2, opens: 2, active: 2, bytesOut: 30 },
        ],
      }),
      0,
    );
    const body = window();
    expect(body.edges).toHaveLength(2);
    expect([...body.l7.count]).toEqual([12, 1, 2]);
    expect([...body.l7.sumUs]).toEqual([1400, 10, 20]);
    expect([...body.hist.bucket]).toEqual([20, 3, 9]);
    expect([...body.hist.count]).toEqual([12, 1, 2]);
    expect([...body.tcp.active]).toEqual([3]);
    expect([...body.tcp.bytesOut]).toEqual([40]);
    // A later window sends only what changed, and no definition twice.
    fold.absorb(tick({ tcp: [{ edge: 2, active: 1 }] }), 0);
    const next = window();
    expect(next.edges).toHaveLength(0);
    expect(next.l7.rows).toBe(0);
    expect([...next.tcp.active]).toEqual([2]);
    // When a source ends, its open connections end with it.
    fold.absorb(tick({ gone: [1] }), 0);
    expect([...window().tcp.active]).toEqual([1]);
    expect(window().tcp.rows).toBe(0);
  });

  it("loses nothing whatever the mix of processes, protocols and ticks (property)", () => {
    const row = fc.record({
      edge: fc.integer({ min: 1, max: 6 }),
      protocol: fc.integer({ min: 0, max: 3 }),
      status: fc.integer({ min: 0, max: 3 }),
      count: fc.integer({ min: 1, max: 1000 }),
      sumUs: fc.integer({ min: 0, max: 1_000_000 }),
      bucket: fc.integer({ min: 0, max: 107 }),
    });
    fc.assert(
      fc.property(fc.array(fc.array(row, { maxLength: 12 }), { maxLength: 5 }), fc.boolean(), (ticks, split) => {
        const { instances, fold, window } = bed();
        for (const pid of [10, 11, 12])
          instances.join(member(pid, { instance: `u${pid % 2}.service`, name: `u${pid % 2}` }), 0);
        // Edge 6 belongs to a process that nobody knows.
        const edges = [10, 11, 12, 10, 11, 99].map((tgid, i) => ({
          ...server(i + 1, tgid, `10.0.0.${i % 3}`),
          port: tgid === 99 ? 99 : 80,
        }));
        const seen = new Map<string, { count: number; sumUs: number; buckets: number }>();
        const definitions = new Map<number, string>();
        const collect = () => {
          const body = window();
          for (const edge of body.edges) definitions.set(edge.id, `${edge.instance}|${edge.peer}`);
          for (let i = 0; i < body.l7.rows; i++) {
            const key = `${definitions.get(body.l7.edge[i] ?? 0)}|${body.l7.protocol[i]}|${body.l7.status[i]}`;
            const sum = seen.get(key) ?? { count: 0, sumUs: 0, buckets: 0 };
            sum.count += body.l7.count[i] ?? 0;
            sum.sumUs += body.l7.sumUs[i] ?? 0;
            for (let h = 0; h < body.hist.rows; h++)
              if (body.hist.row[h] === i) sum.buckets += (body.hist.count[h] ?? 0) * ((body.hist.bucket[h] ?? 0) + 1);
            seen.set(key, sum);
          }
        };
        const expected = new Map<string, { count: number; sumUs: number; buckets: number }>();
        let lost = 0;
        for (const [i, l7] of ticks.entries()) {
          fold.absorb(tick({ edges: i === 0 ? edges : [], l7 }), 0);
          for (const one of l7) {
            if (one.edge === 6) {
              lost += one.count;
              continue;
            }
            const tgid = edges[one.edge - 1]?.tgid ?? 0;
            const key = `${instances.ofPid(tgid)?.id}|10.0.0.${(one.edge - 1) % 3}|${one.protocol}|${one.status}`;
            const sum = expected.get(key) ?? { count: 0, sumUs: 0, buckets: 0 };
            sum.count += one.count;
            sum.sumUs += one.sumUs;
            sum.buckets += one.count * (one.bucket + 1);
            expected.set(key, sum);
          }
          if (split) collect();
        }
        collect();
        expect(seen).toEqual(expected);
        expect(fold.losses.unattributedRequests).toBe(lost);
      }),
      { numRuns: 100 },
    );
  });

  it("shows requests that wait while there are any, and once that there are none", () => {
    const { instances, fold, window } = bed();
    instances.join(member(10, { instance: "a.service", name: "a" }), 0);
    fold.absorb(
      tick({
        edges: [server(1, 10), server(2, 10)],
        pending: [
          { edge: 1, protocol: 1, count: 2, oldestMs: 100 },
          { edge: 2, protocol: 1, count: 3, oldestMs: 900 },
        ],
      }),
      0,
    );
    const first = window().pending;
    expect([first.count[0], first.oldestMs[0], first.rows]).toEqual([5, 900, 1]);
    fold.absorb(tick({}), 0);
    expect([...window().pending.count]).toEqual([0]);
    expect(window().pending.rows).toBe(0);
  });

  it("gives a dead server's rows to who listens there, else counts them, and never guesses", () => {
    const { instances, fold, listening, window } = bed();
    const owner = instances.join(member(10, { instance: "a.service", name: "a" }), 0);
    listening.set("1|10.0.0.1|80", owner);
    const client = { ...server(2, 0), role: ROLE.client, port: 5432 };
    fold.absorb(
      tick({
        edges: [server(1, 777), client],
        l7: [
          { edge: 1, protocol: 1, status: 0, count: 4, sumUs: 4 },
          { edge: 2, protocol: 1, status: 0, count: 9, sumUs: 9 },
        ],
      }),
      0,
    );
    const body = window();
    expect([...body.l7.count]).toEqual([4]);
    expect(body.edges[0]?.instance).toBe(owner.id);
    expect(fold.losses.unattributedRequests).toBe(9);
  });

  it("keeps rows of a container until its name is known, then sends all of them", () => {
    const { instances, fold, window } = bed();
    const container = instances.join(
      member(10, { kind: "Container", instance: "c".repeat(64), name: "cccc", container: "c" }),
      0,
    );
    fold.absorb(tick({ edges: [server(1, 10)], l7: [{ edge: 1, protocol: 1, status: 0, count: 3, sumUs: 3 }] }), 0);
    expect(window().l7.rows).toBe(0);
    fold.absorb(tick({ l7: [{ edge: 1, protocol: 1, status: 0, count: 2, sumUs: 2 }] }), 0);
    instances.named(container, "cart", "shop");
    const body = window();
    expect([...body.l7.count]).toEqual([5]);
    expect(body.instances[0]?.name).toBe("cart");
  });

  it("moves edges with a process that became another program, and starts over with a new probe", () => {
    const { instances, fold, window } = bed();
    const before = member(10, { instance: "a.service", name: "a" });
    instances.join(before, 0);
    fold.absorb(tick({ edges: [server(1, 10)], tcp: [{ edge: 1, active: 2 }] }), 0);
    window();
    instances.replace(before, member(10, { instance: "b.service", name: "b" }), 1500);
    fold.invalidate(10, 1500);
    const moved = window();
    expect([...moved.tcp.active]).toEqual([0, 2]);
    fold.absorb(tick({ reset: true, edges: [server(1, 10)], tcp: [{ edge: 1, active: 1 }] }), 0);
    expect([...window().tcp.active]).toEqual([1]);
  });
});

describe("dictionary", () => {
  it("tells what went wrong with connections once, by kind and over all processes of an instance", () => {
    const { instances, fold, window } = bed();
    instances.join(member(10, { instance: "a.service", name: "a" }), 0);
    instances.join(member(11, { instance: "a.service", name: "a" }), 0);
    const troubles = [
      { edge: 1, kind: TROUBLE.refused, count: 2 },
      { edge: 2, kind: TROUBLE.refused, count: 3 },
      { edge: 2, kind: TROUBLE.lost, count: 1 },
      { edge: 9, kind: TROUBLE.lost, count: 1 },
    ];
    fold.absorb(tick({ edges: [server(1, 10), server(2, 11)], troubles }), 0);
    const told = window().troubles;
    expect([told.rows, [...told.kind], [...told.count]]).toEqual([2, [TROUBLE.refused, TROUBLE.lost], [5, 1]]);
    expect(window().troubles.rows).toBe(0);
    const [wire] = fold.edges.values();
    expect([...(wire?.troubles?.totals ?? [])]).toEqual([5, 0, 0, 0, 0, 1]);
  });

  it("defines everything anew on another connection, also for a window that was made before", () => {
    const { instances, fold, window, catalog } = bed();
    instances.join(member(10, { instance: "a.service", name: "a" }), 0);
    fold.absorb(tick({ edges: [server(1, 10)], l7: [{ edge: 1, protocol: 1, status: 0, count: 1, sumUs: 1 }] }), 0);
    expect(window().edges).toHaveLength(1);
    const another = new Dictionary(catalog);
    const edge = [...fold.edges.keys()];
    const old: Window = {
      window: 1,
      monoMs: 1000,
      wallMs: 0,
      gone: [],
      events: [],
      listens: { version: 4, list: [] },
      edgeIds: edge,
      tcp: null,
      l7: null,
      hist: null,
      pending: null,
      pairs: null,
      pairIps: null,
      usage: null,
    };
    const first = checkObserve(decodeFrame(another.encode(old)).body);
    expect([first.instances.length, first.edges.length, first.listens]).toEqual([1, 1, []]);
    const second = checkObserve(decodeFrame(another.encode({ ...old, window: 2 })).body);
    expect([second.instances.length, second.edges.length, second.listens]).toEqual([0, 0, null]);
  });
});
