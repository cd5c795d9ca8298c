import { Effect } from "effect";
import { afterAll, beforeAll, expect } from "vitest";
import { describeWith, itWith } from "../../capabilities.ts";
import type { Incident } from "../../../schemas/incident.ts";
import { serviceId } from "../../../schemas/service.ts";
import { EDGE_FIGURES, TABLES, VIEWS, type EdgeMinuteRow, type SliPointRow } from "../../../schemas/tables.ts";
import { History } from "../../../runtime/store/History.ts";
import { Store } from "../../../runtime/store/Store.ts";
import { Writer } from "../../../runtime/store/Writer.ts";
import { freshFolder, makeStore, removeFolder, until, whenUp, type TestStore } from "./harness.ts";

const SERVICE = serviceId("shop", "default", "Deployment", "it's");
const OTHER = serviceId("shop", "default", "Deployment", "other");
const minute = 60_000;
const base = Math.floor(Date.now() / 3_600_000) * 3_600_000 - 3 * 3_600_000;
const HOSTILE = [
  "' OR '1'='1",
  "'; DROP TABLE coroot.events; --",
  "\\",
  "\\' OR 1=1 --",
  "{service:String}",
  "a\u0000b",
  "%",
];

const incident = (id: string, version: number, at: number): Incident => ({
  id,
  cluster: "shop",
  status: version > 1 ? "resolved" : "open",
  severity: "critical",
  service: SERVICE,
  members: [SERVICE],
  headline: `it's "slow" \\ ${version}`,
  impact: 0.5,
  onsetAt: at,
  suspectedAt: at,
  openedAt: at + 15_000,
  resolvedAt: version > 1 ? at + minute : null,
  rca: null,
  acknowledged: null,
  silencedUntil: null,
  timeline: [],
  version,
});

const point = (ts: number, requests: number, p50: number | null): SliPointRow => ({
  service: SERVICE,
  ts,
  requests,
  errors: 1,
  p50,
  p95: p50,
  p99: p50 === null ? null : p50 * 2,
  cpu: 0.5,
  memory: 2 ** 33 + requests,
});

const figures = (side: string, peer: string, at: number, count: number, version: number): EdgeMinuteRow => ({
  ...(Object.fromEntries(EDGE_FIGURES.map((name) => [name, 0])) as Record<(typeof EDGE_FIGURES)[number], number>),
  service: SERVICE,
  side,
  peer,
  minute: at,
  count,
  version,
});

describeWith(["chdb"], "history for page and ledgers", () => {
  const data = freshFolder();
  let runtime: TestStore;
  beforeAll(async () => {
    runtime = makeStore(data);
    await runtime.runPromise(
      Effect.gen(function* () {
        yield* whenUp;
        const writer = yield* Writer;
        const store = yield* Store;
        for (const service of [SERVICE, OTHER]) {
          const row = { service, bad: 1, slow: 2, buckets: [3, 107], counts: [9, 4_000_000_000], version: 1 };
          const rows = [0, 1, 2].map((n) => ({ ...row, minute: base + n * minute, total: 10 + n }));
          yield* writer.rows("sli_minutes", rows);
        }
        yield* writer.rows("sli_minutes", [
          { service: SERVICE, minute: base, total: 99, bad: 5, slow: 6, buckets: [], counts: [], version: 2 },
        ]);
        yield* writer.rows("sli_points", [
          ...Array.from({ length: 60 }, (_, n) => point(base + n * 10_000, n === 0 ? 30 : 10, n === 0 ? 40 : 10)),
          point(base + 600_000, 0, null),
        ]);
        const incidents = [incident("a", 1, base), incident("b", 1, base + minute), incident("a", 2, base)];
        yield* writer.rows(
          "incidents",
          incidents.map((one) => ({
            ...one,
            suspected: one.suspectedAt,
            opened: one.openedAt,
            resolved: one.resolvedAt,
            json: JSON.stringify(one),
          })),
        );
        yield* writer.rows(
          "events",
          [SERVICE, OTHER].flatMap((service) =>
            [0, 1, 2].map((n) => ({ ts: base + n, service, kind: "oom", text: `${n}'`, json: "{}" })),
          ),
        );
        yield* writer.rows("edge_minutes", [
          figures("own", "", base, 7, 60),
          figures("own", "", base, 3, 20),
          figures("own", "", base + minute, 9, 60),
          figures("outbound", "it's", base, 5, 60),
        ]);
        const call = { source: SERVICE, target: OTHER, first: base };
        yield* writer.rows("map_edges", [
          { ...call, last: base, version: 1 },
          { ...call, last: base + 30 * minute, version: 2 },
          { ...call, source: OTHER, target: SERVICE, last: base, version: 1 },
          { ...call, source: OTHER, target: SERVICE, last: base - 1, version: 2 },
        ]);
        yield* until(writer.stats, ({ rows }) => rows.queuedRows === 0);
        expect((yield* writer.stats).rows.retries).toBe(0);
        expect(yield* store.query("SELECT count() AS n FROM coroot.sli_minutes")).not.toEqual([{ n: 0 }]);
      }),
    );
  });
  afterAll(async () => {
    await runtime.dispose();
    removeFolder(data);
  });

  const run = <A, E>(read: (history: typeof History.Service) => Effect.Effect<A, E>): Promise<A> =>
    runtime.runPromise(Effect.flatMap(History, read));

  itWith(["chdb"], "gives minutes of a service and its edges, of each the one that saw most", async () => {
    const found = await run(({ edgeMinutes }) => edgeMinutes([SERVICE, "none"], base));
    expect([...found.keys()]).toEqual([SERVICE]);
    const [outbound, own] = [...(found.get(SERVICE) ?? [])].sort((a, b) => a.side.localeCompare(b.side));
    const values = (count: number) => EDGE_FIGURES.map((name) => (name === "count" ? count : 0));
    expect(outbound).toEqual({ side: "outbound", peer: "it's", minutes: [base], figures: [values(5)] });
    expect(own).toEqual({ side: "own", peer: "", minutes: [base, base + minute], figures: [values(7), values(9)] });
    const later = await run(({ edgeMinutes }) => edgeMinutes([SERVICE], base + minute));
    expect(later.get(SERVICE)?.map(({ minutes }) => minutes)).toEqual([[base + minute]]);
  });

  itWith(["chdb"], "gives minutes by service with the corrected version", async () => {
    const found = await run(({ sliMinutes }) => sliMinutes([SERVICE, OTHER, "none"], base));
    expect([...found.keys()].sort()).toEqual([SERVICE, OTHER].sort());
    expect(found.get(SERVICE)).toEqual({
      minutes: [base, base + minute, base + 2 * minute],
      total: [99, 11, 12],
      bad: [5, 1, 1],
      slow: [6, 2, 2],
    });
    const later = await run(({ sliMinutes }) => sliMinutes([OTHER], base + minute));
    expect(later.get(OTHER)?.total).toEqual([11, 12]);
  });

  itWith(["chdb"], "folds chart points into the steps asked for", async () => {
    const fine = await run(({ sliPoints }) => sliPoints(SERVICE, base, base + 60_000, 600));
    expect(fine.stepMs).toBe(10_000);
    expect(fine.points).toHaveLength(6);
    const coarse = await run(({ sliPoints }) => sliPoints(SERVICE, base, base + 1_200_000, 4));
    expect(coarse.stepMs).toBe(300_000);
    expect(coarse.points).toEqual([
      { at: base, requests: 320, errors: 30, p50: 4_100 / 320 - 0, p95: 40, p99: 80, cpu: 0.5, memory: 2 ** 33 + 30 },
      { at: base + 300_000, requests: 300, errors: 30, p50: 10, p95: 10, p99: 20, cpu: 0.5, memory: 2 ** 33 + 10 },
      { at: base + 600_000, requests: 0, errors: 1, p50: null, p95: null, p99: null, cpu: 0.5, memory: 2 ** 33 },
    ]);
  });

  itWith(["chdb"], "gives the latest version of each incident, newest first", async () => {
    expect(await run(({ recentIncidents }) => recentIncidents(10))).toEqual([
      incident("b", 1, base + minute),
      incident("a", 2, base),
    ]);
    expect(await run(({ recentIncidents }) => recentIncidents(1))).toHaveLength(1);
  });

  itWith(["chdb"], "gives the calls that went on at a moment, and none that was taken back", async () => {
    const calls = [{ source: SERVICE, target: OTHER, first: base, last: base + 30 * minute }];
    for (const at of [base, base + 20 * minute, base + 34 * minute])
      expect(await run(({ mapAt }) => mapAt(at))).toEqual(calls);
    for (const at of [base - 1, base + 36 * minute]) expect(await run(({ mapAt }) => mapAt(at))).toEqual([]);
  });

  itWith(["chdb"], "gives events of one service or all, within the time asked for", async () => {
    const ours = await run(({ events }) => events(SERVICE, base, base + 2));
    expect(ours).toEqual(
      [0, 1].map((n) => ({ at: base + n, service: SERVICE, kind: "oom", text: `${n}'`, json: "{}" })),
    );
    expect(await run(({ events }) => events(null, base, base + minute))).toHaveLength(6);
    expect((await run(({ events }) => events(null, base, base + minute, 2))).map(({ at }) => at)).toEqual([
      base + 2,
      base + 2,
    ]);
  });

  itWith(["chdb"], "takes hostile texts as texts in every query", async () => {
    for (const text of HOSTILE) {
      expect((await run(({ sliMinutes }) => sliMinutes([text, `['${text}']`], 0))).size).toBe(0);
      expect((await run(({ sliPoints }) => sliPoints(text, 0, Date.now(), 100))).points).toEqual([]);
      expect(await run(({ events }) => events(text, 0, Date.now()))).toEqual([]);
    }
    expect(await run(({ recentIncidents }) => recentIncidents(Number.NaN))).toHaveLength(1);
    const tables = await runtime.runPromise(
      Effect.flatMap(Store, ({ query }) =>
        query<{ name: string }>("SELECT name FROM system.tables WHERE database = 'coroot' ORDER BY name"),
      ),
    );
    expect(tables.map(({ name }) => name)).toEqual([...Object.keys(TABLES), ...VIEWS.map(({ name }) => name)].sort());
    expect(await run(({ events }) => events(null, base, base + minute))).toHaveLength(6);
  });
});
