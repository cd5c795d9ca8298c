/** What is usual outlives an actor: a service that starts anew on its stored minutes knows its normal at once. */
import { describe, expect, it } from "vitest";
import type { AnomalyReport, Change } from "../../../actors/service/anomaly.ts";
import { BASELINES_PORT } from "../../../actors/service/baselines.ts";
import type { EdgeWindow, Observe, RequestWindow, ServiceArgument } from "../../../actors/service/messages.ts";
import { FIELDS, Series } from "../../../actors/service/Series.ts";
import { serviceActor } from "../../../actors/service/ServiceActor.ts";
import type { RowsRequest } from "../../../actors/rows.ts";
import type { EdgeMinutes } from "../../../runtime/store/History.ts";
import { serviceId } from "../../../schemas/service.ts";
import { EDGE_FIGURES, type EdgeMinuteRow } from "../../../schemas/tables.ts";
import { bucketOf } from "../../../schemas/wire/histogram.ts";

const START = 1_700_000_040_000;
const caller = serviceId("default", "n", "SystemdUnit", "web");
const callee = serviceId("default", "n", "SystemdUnit", "db");
const argument: ServiceArgument = {
  id: serviceId("default", "n", "SystemdUnit", "shop"),
  kind: "SystemdUnit",
  serviceType: "",
  category: "application",
  slo: { availabilityObjective: 0.99, latencyObjective: 0.99, latencyThresholdMs: 500, holdMs: 15_000 },
};

const requests = (ok: number, ms: number): RequestWindow => ({
  protocol: 1,
  ok,
  rejected: 0,
  failed: 0,
  unanswered: 0,
  unknown: 0,
  sumUs: ok * ms * 1000,
  histogram: [bucketOf(ms), ok],
});
const edge = (side: EdgeWindow["side"], peer: EdgeWindow["peer"], protocols: RequestWindow[]): EdgeWindow => ({
  side,
  peer,
  protocols,
  opens: 0,
  failedConnects: 0,
  closes: 0,
  active: 1,
  bytesOut: 0,
  bytesIn: 0,
  retransmits: 0,
  connectUs: 0,
  rttUs: 0,
  rttCount: 0,
  pending: 0,
  oldestMs: 0,
});
const observe = (second: number, ms: number): Observe => ({
  type: "observe",
  agent: "a",
  epoch: 1,
  window: second,
  at: START + second * 1000 + 500,
  seconds: 1,
  instances: [],
  edges: [
    edge("inbound-server", caller, [requests(20, ms)]),
    edge("outbound", callee, second % 2 === 0 ? [requests(6, ms / 2)] : []),
  ],
  events: [],
});

/** What the store keeps of these rows, as History gives it back. */
const stored = (rows: readonly EdgeMinuteRow[]): EdgeMinutes[] => {
  const found = new Map<string, { side: string; peer: string; minutes: number[]; figures: number[][] }>();
  for (const row of rows) {
    const key = `${row.side} ${row.peer}`;
    const one = found.get(key) ?? { side: row.side, peer: row.peer, minutes: [], figures: [] };
    one.minutes.push(row.minute);
    one.figures.push(EDGE_FIGURES.map((name) => row[name]));
    found.set(key, one);
  }
  return [...found.values()];
};

const life = () => {
  const written: EdgeMinuteRow[] = [];
  const [initial] = serviceActor.initial("service/shop", argument, START, undefined);
  let state = initial;
  let now = START;
  const step = (message: Parameters<typeof serviceActor.step>[1]): unknown => {
    let reply: unknown;
    const [next, effects] = serviceActor.step(state, message, now);
    state = next;
    for (const effect of effects) {
      if (effect.kind === "reply") reply = effect.value;
      if (effect.kind !== "perform" || effect.port !== "rows") continue;
      const { table, rows } = effect.request as RowsRequest;
      if (table === "edge_minutes") written.push(...(rows as readonly EdgeMinuteRow[]));
    }
    return reply;
  };
  return {
    written,
    run: (from: number, to: number, ms: number) => {
      for (let second = from; second < to; second++) {
        now = START + second * 1000 + 600;
        step(observe(second, ms));
        step({ type: "tick" });
      }
    },
    know: (rows: readonly EdgeMinuteRow[]) =>
      step({
        type: "reply",
        tag: BASELINES_PORT,
        from: `port/${BASELINES_PORT}`,
        result: { ok: true, value: stored(rows) },
      }),
    changes: (onset: number): readonly Change[] => {
      const report = step({ type: "anomaly", onset: START + onset * 1000 }) as AnomalyReport;
      return [report.inbound, ...report.inboundServer, ...report.outbound];
    },
  };
};

describe("minutes of baselines", () => {
  it("have the figures of a series, under the names of its fields", () => {
    expect(EDGE_FIGURES.map((name) => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase()))).toEqual(
      FIELDS,
    );
  });

  it("let a service that starts anew say what changed as one that never stopped", () => {
    const [undisturbed, first] = [life(), life()];
    undisturbed.run(0, 700, 10);
    first.run(0, 600, 10);
    for (const rows of [first.written.filter(({ side }) => side === "own"), first.written])
      expect(new Set(rows.map(({ minute }) => minute)).size).toBeGreaterThanOrEqual(8);
    // 70 seconds in which nobody looked, 30 of its own, then everything takes five times as long
    const [second, unknowing] = [life(), life()];
    second.know(first.written);
    for (const one of [second, unknowing]) {
      one.run(670, 700, 10);
      one.run(700, 720, 50);
    }
    undisturbed.run(700, 720, 50);
    const expected = undisturbed.changes(700);
    for (const [i, change] of second.changes(700).entries()) {
      expect(change.samples).toBeGreaterThanOrEqual(45);
      expect(change.rpsNormal).toBeCloseTo(expected[i]?.rpsNormal ?? 0, 1);
      expect(change.meanNormalMs).toBeCloseTo(expected[i]?.meanNormalMs ?? 0, 1);
      expect(change.inFlightNormal).toBeCloseTo(expected[i]?.inFlightNormal ?? 0, 2);
      expect(change.zLatency).toBeGreaterThan(10);
    }
    for (const change of unknowing.changes(700)) expect(change.samples).toBeLessThanOrEqual(2);
  });

  it("are written once each, whole, with the requests that were seen", () => {
    const one = life();
    one.run(0, 400, 10);
    const own = one.written.filter(({ side }) => side === "inbound-server");
    const keys = one.written.map(({ side, peer, minute }) => `${side} ${peer} ${minute}`);
    expect(new Set(keys).size).toBe(keys.length);
    for (const row of own.slice(1)) expect(row).toMatchObject({ count: 1200, sum_ms: 12_000, version: 60 });
  });
});

describe("a series", () => {
  it("leaves out of a baseline what no life saw, and takes nothing over what it saw itself", () => {
    const series = new Series();
    const minute = (second: number, count: number) => ({
      second,
      seen: 60,
      values: FIELDS.map((field) => (field === "count" ? count : field === "pending" ? 3 : 0)),
    });
    for (let second = 1200; second < 1260; second++) {
      series.advance(second);
      series.add(second, "count", 1);
    }
    series.takeBefore([minute(960, 60), minute(1020, 120), minute(1200, 9999)], 1080);
    const counts = series.baseline(1260, ({ count }) => count);
    expect(counts).toEqual([...Array<number>(6).fill(10), ...Array<number>(6).fill(20), ...Array<number>(6).fill(10)]);
    expect(series.baseline(1080, ({ pending }) => pending)).toEqual(Array<number>(12).fill(3));
    expect(series.total("count", 1100, 1300)).toBe(60);
    expect(series.span(1100, 1300)).toBe(60);
  });
});
