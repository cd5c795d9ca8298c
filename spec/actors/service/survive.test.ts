/**
 * A service actor that dies anywhere and goes on from its last snapshot, with the windows of the last three minutes sent
 * again: what it counts in the end is what an undisturbed one counts, to the request.
 */
import fc from "fast-check";
import { Packr } from "msgpackr";
import { describe, expect, it } from "vitest";
import type { EdgeWindow, Observe, RequestWindow, ServiceArgument } from "../../../actors/service/messages.ts";
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

const windowAt = (agent: string, second: number, ok: number, failed: number, ms: number): Observe => {
  const request: RequestWindow = {
    protocol: 1,
    ok,
    rejected: 0,
    failed,
    unanswered: 0,
    sumUs: (ok + failed) * ms * 1000,
    histogram: [bucketOf(ms), ok + failed],
  };
  const edge: EdgeWindow = {
    side: "inbound-server",
    peer: caller,
    protocols: ok + failed > 0 ? [request] : [],
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
  };
  const at = START + second * 1000 + 500;
  return { type: "observe", agent, epoch: 1, window: second, at, seconds: 1, instances: [], edges: [edge], events: [] };
};

const actor = () => {
  let now = START;
  let [state] = serviceActor.initial("service/shop", argument, now, undefined);
  let snapshot: unknown;
  const rows = new Map<number, SliMinuteRow>();
  const step = (message: Parameters<typeof serviceActor.step>[1]): unknown => {
    let reply: unknown;
    const [next, effects] = serviceActor.step(state, message, now);
    state = next;
    for (const effect of effects) {
      if (effect.kind === "snapshot") snapshot = packr.unpack(packr.pack(effect.value));
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

  it("takes windows from clocks that are seconds apart, each of them once", () => {
    const one = actor();
    for (let i = 0; i < 130; i++) {
      one.at(START + (i + 1) * 1000 + (i % 7 < 3 ? 2_000 : -2_000));
      one.step({ type: "tick" });
      for (const window of [windowAt("a", i, 10, 0, 5), windowAt("a", i, 10, 0, 5)]) one.step(window);
    }
    expect(one.good()).toBe(1_300);
  });
});
