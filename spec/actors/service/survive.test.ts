/**
 * A service actor that dies anywhere and goes on from its last snapshot, with the windows of the last three minutes sent
 * again: what it counts in the end is what an undisturbed one counts, to the request.
 */
import fc from "fast-check";
import { Packr } from "msgpackr";
import { describe, expect, it } from "vitest";
import {
  MOST_TOGETHER,
  together,
  type EdgeWindow,
  type InstanceWindow,
  type Observe,
  type RequestWindow,
  type ServiceArgument,
} from "../../../actors/service/messages.ts";
import { serviceActor } from "../../../actors/service/ServiceActor.ts";
import type { RowsRequest } from "../../../actors/rows.ts";
import { serviceId } from "../../../schemas/service.ts";
import type { SliMinuteRow } from "../../../schemas/tables.ts";
import { bucketOf } from "../../../schemas/wire/histogram.ts";
import type { SloView } from "../../../schemas/wire/page.ts";

const START = 1_700_000_040_000;
const KEPT = 180;
const caller = serviceId("default", "n", "SystemdUnit", "web");
const argument: ServiceArgument = {
  id: serviceId("default", "n", "SystemdUnit", "shop"),
  kind: "SystemdUnit",
  serviceType: "",
  category: "application",
  slo: { availabilityObjective: 0.99, latencyObjective: 0.99, latencyThresholdMs: 500, holdMs: 15_000 },
};
const packr = new Packr({ useRecords: false, moreTypes: true });

const request = (ok: number, failed: number, ms: number): RequestWindow => ({
  protocol: 1,
  ok,
  rejected: 0,
  failed,
  unanswered: 0,
  unknown: 0,
  sumUs: (ok + failed) * ms * 1000,
  histogram: [bucketOf(ms), ok + failed],
});
const edgeOf = (side: EdgeWindow["side"], what: Partial<EdgeWindow>): EdgeWindow => ({
  side,
  peer: caller,
  protocols: [],
  opens: 0,
  failedConnects: 0,
  closes: 0,
  active: 1,
  bytesOut: 9,
  bytesIn: 9,
  retransmits: 0,
  connectUs: 0,
  rttUs: 0,
  rttCount: 0,
  pending: 0,
  oldestMs: 0,
  ...what,
});
const observe = (agent: string, second: number, edges: readonly EdgeWindow[]): Observe => {
  const at = START + second * 1000 + 500;
  return { type: "observe", agent, epoch: 1, window: second, at, seconds: 1, instances: [], edges, events: [] };
};
const windowAt = (agent: string, second: number, ok: number, failed: number, ms: number): Observe =>
  observe(agent, second, [edgeOf("inbound-server", { protocols: ok + failed > 0 ? [request(ok, failed, ms)] : [] })]);

const actor = () => {
  let now = START;
  let [state] = serviceActor.initial("service/shop", argument, now, undefined);
  let snapshot: unknown;
  let snapshots = 0;
  const told: string[] = [];
  const rows = new Map<number, SliMinuteRow>();
  const step = (message: Parameters<typeof serviceActor.step>[1]): unknown => {
    let reply: unknown;
    const [next, effects] = serviceActor.step(state, message, now);
    state = next;
    for (const effect of effects) {
      if (effect.kind === "snapshot") {
        snapshot = packr.unpack(packr.pack(effect.value));
        snapshots++;
      }
      if (effect.kind === "send") told.push(effect.message.type);
      if (effect.kind === "reply") reply = effect.value;
      if (effect.kind !== "perform" || effect.port !== "rows") continue;
      const request = effect.request as RowsRequest;
      if (request.table !== "sli_minutes") continue;
      // As the store keeps them: the newest version of a row wins.
      for (const row of request.rows as readonly SliMinuteRow[])
        if ((rows.get(row.minute)?.version ?? -1) <= row.version) rows.set(row.minute, row);
    }
    return reply;
  };
  return {
    step,
    at: (ms: number) => void (now = ms),
    kill: () => {
      [state] = serviceActor.initial("service/shop", argument, now, snapshot);
      const value = [...rows.values()].map(({ minute, ...sums }) => ({ minuteMs: minute, ...sums }));
      step({ type: "reply", tag: "ledger", from: "port/ledger", result: { ok: true, value } });
    },
    usual: () => {
      const { tests } = serviceActor.inspect(state) as {
        tests: Record<string, { usualBad: number; usualTotal: number }>;
      };
      return Object.values(tests).map(({ usualBad, usualTotal }) => [usualBad, usualTotal]);
    },
    snapshot: () => snapshot,
    snapshots: () => snapshots,
    told: () => told,
    bad: () => ((step({ type: "page" }) as Record<string, unknown>)["slo"] as SloView).bad,
    inspect: () => serviceActor.inspect(state) as Record<string, unknown>,
    good: () => ((step({ type: "page" }) as Record<string, unknown>)["slo"] as SloView).good,
    rows,
  };
};

const second = fc.record({
  ok: fc.integer({ min: 0, max: 40 }),
  failed: fc.integer({ min: 0, max: 3 }),
  ms: fc.constantFrom(5, 80, 900),
  agents: fc.constantFrom(["a"], ["a", "b"], ["b"]),
});
/** What three agents see of a second: two servers, of which requests may wait, and a client, which sees all of it. */
const shared = fc.record({
  silent: fc.integer({ min: 0, max: 60 }).map((n) => n === 0),
  servers: fc.array(
    fc.record({
      ok: fc.integer({ min: 0, max: 20 }),
      failed: fc.integer({ min: 0, max: 2 }),
      ms: fc.constantFrom(5, 900),
      pending: fc.integer({ min: 0, max: 6 }),
      oldestMs: fc.constantFrom(10, 700, 2_500),
    }),
    { minLength: 2, maxLength: 2 },
  ),
  failedConnects: fc.integer({ min: 0, max: 2 }),
});
const comeback = fc.record({
  after: fc.integer({ min: 0, max: 25 }),
  orphan: fc.boolean(),
});
const edgesOf = ({ servers, failedConnects }: SharedSecond, agent: number, silent: boolean): EdgeWindow[] => {
  const server = servers[agent];
  if (server === undefined) {
    const protocols = servers.map(({ ok, failed, ms }) => request(ok + 1, failed, ms));
    return [edgeOf("inbound-client", { protocols, failedConnects: silent ? failedConnects : 0 })];
  }
  if (silent) return [];
  const { ok, failed, ms, pending, oldestMs } = server;
  return [edgeOf("inbound-server", { protocols: [request(ok + 1, failed, ms)], pending, oldestMs })];
};
type SharedSecond = typeof shared extends fc.Arbitrary<infer T> ? T : never;
const plain = (rows: ReadonlyMap<number, SliMinuteRow>) => Object.fromEntries(rows);

describe("a service actor", () => {
  it("counts what an undisturbed one counts, wherever it dies and whatever is sent again", () => {
    fc.assert(
      fc.property(
        fc.array(second, { minLength: 200, maxLength: 400 }),
        fc.array(fc.integer({ min: 1, max: 190 }), { maxLength: 5 }),
        // how many seconds later the windows come again: another death may come first
        fc.integer({ min: 0, max: 20 }),
        (seconds, kills, later) => {
          const still = actor();
          const shaken = actor();
          const sent: Observe[] = [];
          const tick = (of: ReturnType<typeof actor>, i: number): void => {
            of.at(START + (i + 1) * 1000);
            of.step({ type: "tick" });
          };
          seconds.forEach(({ ok, failed, ms, agents }, i) => {
            const windows = agents.map((agent) => windowAt(agent, i, ok, failed, ms));
            tick(still, i);
            for (const window of windows) still.step(window);
            tick(shaken, i);
            if (kills.includes(i)) shaken.kill();
            // New windows may overtake those that are sent again.
            if (later > 0) for (const window of windows) shaken.step(window);
            if (kills.includes(i - later))
              for (const window of sent.filter((one) => i - one.window <= KEPT)) shaken.step(window);
            if (later === 0) for (const window of windows) shaken.step(window);
            sent.push(...windows);
          });
          for (const window of sent.filter((one) => seconds.length - one.window <= KEPT)) shaken.step(window);
          for (let i = seconds.length; i < seconds.length + 90; i++) for (const one of [still, shaken]) tick(one, i);
          expect(plain(shaken.rows)).toEqual(plain(still.rows));
          expect(shaken.good()).toBe(still.good());
        },
      ),
      { numRuns: 40, endOnFailure: true },
    );
  });

  it("counts the same also when several agents see it, each from its end, and none comes back in order", () => {
    fc.assert(
      fc.property(
        fc.array(shared, { minLength: 240, maxLength: 360 }),
        fc.array(fc.tuple(fc.integer({ min: 61, max: 230 }), fc.array(comeback, { minLength: 3, maxLength: 3 })), {
          maxLength: 3,
        }),
        (seconds, kills) => {
          const still = actor();
          const shaken = actor();
          const agents = ["server-1", "server-2", "client"];
          const sent: Observe[][] = agents.map(() => []);
          const back = agents.map(() => ({ from: 0, due: Number.POSITIVE_INFINITY, orphan: false }));
          const again = (a: number, i: number): void => {
            for (const one of sent[a] ?? []) if (i - one.window <= KEPT) shaken.step(one);
          };
          const tick = (i: number): void => {
            for (const one of [still, shaken]) {
              one.at(START + (i + 1) * 1000);
              one.step({ type: "tick" });
            }
          };
          let silent = 0;
          seconds.forEach((second, i) => {
            tick(i);
            for (const [at, comebacks] of kills) {
              if (at !== i) continue;
              shaken.kill();
              comebacks.forEach(({ after, orphan }, a) => {
                back[a] = { from: i, due: i + after, orphan };
              });
            }
            if (second.silent) silent = i + 12;
            agents.forEach((agent, a) => {
              const one = observe(agent, i, edgesOf(second, a, i < silent && i > 5));
              still.step(one);
              const of = back[a] ?? { due: Number.POSITIVE_INFINITY, orphan: false };
              if (i === of.due) again(a, i);
              // An agent of the dead replica says nothing until it is connected again; the others go on.
              if (!of.orphan || i >= of.due) shaken.step(one);
              sent[a]?.push(one);
            });
          });
          agents.forEach((_, a) => again(a, seconds.length));
          for (let i = seconds.length; i < seconds.length + 90; i++) tick(i);
          expect(plain(shaken.rows)).toEqual(plain(still.rows));
          expect(shaken.good()).toBe(still.good());
        },
      ),
      { numRuns: 40, endOnFailure: true },
    );
  });

  it("takes windows from clocks that are seconds apart, each of them once", () => {
    const one = actor();
    for (let i = 0; i < 130; i++) {
      one.at(START + (i + 1) * 1000 + (i % 7 < 3 ? 2_000 : -2_000));
      one.step({ type: "tick" });
      for (const window of [windowAt("a", i, 10, 0, 5), windowAt("a", i, 10, 0, 5)]) one.step(window);
    }
    expect(one.good()).toBe(1_300);
  });

  it("follows an agent's clock that drifts, and counts each window once on the way", () => {
    const one = actor();
    for (let i = 0; i < 1_200; i++) {
      one.at(START + (i + 1) * 1000 + i * 10);
      one.step({ type: "tick" });
      const window = windowAt("a", i, 10, 0, 5);
      one.step({ ...window, at: window.at + i * 10 });
      // Every death is followed by what came since the snapshot, and more.
      if (i % 250 === 249) {
        one.kill();
        for (let j = i - 170; j <= i; j++) {
          const again = windowAt("a", j, 10, 0, 5);
          one.step({ ...again, at: again.at + j * 10 });
        }
      }
    }
    for (let i = 1_200; i < 1_300; i++) {
      one.at(START + (i + 1) * 1000 + 12_000);
      one.step({ type: "tick" });
    }
    expect([...one.rows.values()].reduce((n, row) => n + row.total, 0)).toBe(12_000);
    expect(one.good()).toBe(12_000);
    const last = Math.max(...one.rows.keys());
    // Twelve seconds late in the end, and counted so.
    expect(one.rows.get(last)?.total).toBeGreaterThanOrEqual(10 * 9);
  });

  it("learns what is usual from whole minutes, also those that it was moved in", () => {
    const still = actor();
    const shaken = actor();
    const sent: Observe[] = [];
    for (let i = 0; i < 600; i++) {
      const window = windowAt("a", i, 50, i % 60 < 20 && i % 4 === 0 ? 1 : 0, 5);
      for (const one of [still, shaken]) {
        one.at(START + (i + 1) * 1000);
        one.step({ type: "tick" });
      }
      still.step(window);
      if (i === 170) shaken.kill();
      // Its agent is away while a minute ends.
      if (i < 170 || i > 200) shaken.step(window);
      sent.push(window);
      if (i === 200) for (const one of sent.filter((old) => i - old.window <= KEPT)) shaken.step(one);
    }
    expect(still.usual()[0]?.[1]).toBeGreaterThan(10_000);
    expect(shaken.usual()).toEqual(still.usual());
  });

  it("writes a small snapshot a minute at most, and none when there is nothing new", () => {
    const one = actor();
    for (let i = 0; i < 900; i++) {
      one.at(START + (i + 1) * 1000);
      one.step({ type: "tick" });
      if (i < 600) for (const agent of ["a", "b", "c"]) one.step(windowAt(agent, i, 40, 0, 5 + (i % 90)));
      if (i === 599) {
        expect(one.snapshots()).toBeGreaterThanOrEqual(9);
        expect(one.snapshots()).toBeLessThanOrEqual(11);
        expect(packr.pack(one.snapshot()).byteLength).toBeLessThan(2_048);
      }
    }
    expect(one.snapshots()).toBeLessThanOrEqual(12);
  });

  it("stays small when only its clients see it, however many they are", () => {
    const one = actor();
    for (let i = 0; i < 1_200; i++) {
      one.at(START + (i + 1) * 1000);
      one.step({ type: "tick" });
      for (let agent = 0; agent < 20; agent++)
        one.step(observe(`a${agent}`, i, [edgeOf("inbound-client", { protocols: [request(3, 0, 5 + (i % 9))] })]));
    }
    expect(one.good()).toBe(72_000);
    expect(packr.pack(one.snapshot()).byteLength).toBeLessThan(12_000);
  });

  it("does not miss its minute when a tick is late", () => {
    const one = actor();
    for (let i = 0; i < 300; i += 7) {
      one.at(START + (i + 1) * 1000);
      one.step({ type: "tick" });
      one.step(windowAt("a", i, 40, 0, 5));
    }
    expect(one.snapshots()).toBeGreaterThanOrEqual(4);
  });

  it("opens no incident for what is late, but its budget is charged", () => {
    const one = actor();
    for (let i = 0; i < 60; i++) {
      one.at(START + (i + 1) * 1000);
      one.step({ type: "tick" });
      one.step(windowAt("a", i, 20, 0, 5));
    }
    for (let i = 0; i < 45; i++) one.step(windowAt("b", i, 0, 20, 5));
    for (let i = 60; i < 90; i++) {
      one.at(START + (i + 1) * 1000);
      one.step({ type: "tick" });
    }
    expect(one.told().filter((type) => type === "suspect" || type === "confirm")).toEqual([]);
    expect(one.bad()).toBe(900);
  });

  it("goes on with an incident where it moves to, and sees its end", () => {
    const one = actor();
    const run = (from: number, to: number, failed: number): void => {
      for (let i = from; i < to; i++) {
        one.at(START + (i + 1) * 1000);
        one.step({ type: "tick" });
        one.step(windowAt("a", i, 20 - failed, failed, 5));
      }
    };
    run(0, 60, 0);
    run(60, 90, 10);
    expect(one.told()).toContain("confirm");
    one.kill();
    one.told().length = 0;
    run(90, 100, 10);
    expect(one.told()).not.toContain("cleared");
    run(100, 160, 0);
    expect(one.told()).toContain("recovering");
    expect(one.told()).toContain("cleared");
    expect(one.told()).not.toContain("suspect");
  });

  it("takes from the store what no agent can send again, once nobody can", () => {
    const one = actor();
    const run = (from: number, to: number, ok: number): void => {
      for (let i = from; i < to; i++) {
        one.at(START + (i + 1) * 1000);
        one.step({ type: "tick" });
        if (ok > 0) one.step(windowAt("a", i, ok, 1, 900));
      }
    };
    // The snapshot falls in the middle of a minute whose row is written before the end.
    run(0, 130, 39);
    const before = one.good() + one.bad();
    one.kill();
    expect(one.good() + one.bad()).toBeLessThan(before);
    run(130, 600, 0);
    // Only what was in no row of the store is gone with the agent.
    const stored = [...one.rows.values()].reduce((n, row) => n + row.total, 0);
    expect(one.good() + one.bad()).toBe(stored);
    expect(one.bad()).toBe(stored / 40);
  });

  it("counts a window that is older than any minute that is still open to the ledger only, and says so", () => {
    const one = actor();
    one.at(START + 1_200_000);
    one.step({ type: "tick" });
    one.step(windowAt("a", 1_199, 20, 0, 5));
    one.step(windowAt("a", 600, 20, 0, 5));
    one.step(windowAt("b", 600, 20, 0, 5));
    for (let i = 1_200; i < 1_300; i++) {
      one.at(START + (i + 1) * 1000);
      one.step({ type: "tick" });
    }
    // The first agent's is older than anything that it can still send.
    expect([one.good(), one.inspect()["tooOld"], one.inspect()["duplicates"]]).toEqual([40, 1, 1]);
    expect([...one.rows.values()].reduce((n, row) => n + row.total, 0)).toBe(20);
  });

  it("drops what an earlier life of an agent left behind", () => {
    const one = actor();
    one.at(START + 10_000);
    one.step(windowAt("a", 5, 10, 0, 5));
    one.step({ ...windowAt("a", 1, 10, 0, 5), epoch: 2 });
    one.step(windowAt("a", 6, 10, 0, 5));
    one.step({ ...windowAt("a", 1, 10, 0, 5), epoch: 2 });
    expect([one.good(), one.inspect()["duplicates"]]).toEqual([20, 2]);
  });

  it("knows instances whose only news came late", () => {
    const one = actor();
    const usage = { instance: "shop-1", processes: 1, restarts: 0, oomKills: 0, memory: 5 } as InstanceWindow;
    one.at(START + 60_000);
    one.step({ ...observe("a", 20, []), instances: [usage] });
    expect(Object.keys(one.inspect()["instances"] as object)).toEqual(["a/shop-1"]);
  });
});

describe("windows that find the mailbox full", () => {
  it("share a place, and count as if each had come by itself, duplicates too (property)", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom("a", "b"), fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 9 })), {
          minLength: 1,
          maxLength: 80,
        }),
        (list) => {
          const windows = list.map(([agent, i, failed]) => windowAt(agent, i, 10, failed, 5));
          const apart = actor();
          const packed = actor();
          for (const one of [apart, packed]) one.at(START + 41_000);
          for (const window of windows) apart.step(window);
          let [waiting, ...rest] = windows;
          for (const window of rest) {
            if (waiting === undefined) return;
            const both = together(waiting, window);
            if (both === null) packed.step(waiting);
            waiting = both ?? window;
          }
          if (waiting !== undefined) packed.step(waiting);
          expect([packed.good(), packed.bad(), packed.inspect()["duplicates"]]).toEqual([
            apart.good(),
            apart.bad(),
            apart.inspect()["duplicates"],
          ]);
          expect(packed.inspect()["highWaterMarks"]).toEqual(apart.inspect()["highWaterMarks"]);
        },
      ),
    );
  });

  it("share it up to a bound", () => {
    let waiting: Observe | null = windowAt("a", 0, 1, 0, 5);
    let n = 0;
    for (; waiting !== null; n++) waiting = together(waiting, windowAt("a", n + 1, 1, 0, 5));
    expect(n).toBe(MOST_TOGETHER);
  });
});
