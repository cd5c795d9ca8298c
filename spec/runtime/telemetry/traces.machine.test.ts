/** Spans on the real engine: every answer is what a plain reading of the spans gives. */
import { createHash } from "node:crypto";
import { Effect } from "effect";
import { afterAll, beforeAll, expect } from "vitest";
import { describeWith, itWith } from "../../capabilities.ts";
import { parseCursor } from "../../../runtime/telemetry/ask.ts";
import { MAX_TRACE_SPANS, Traces, type SpanFilter, type SpanOrder } from "../../../runtime/telemetry/Traces.ts";
import type { SpanRow } from "../../../schemas/telemetry.ts";
import { bucketOf, HISTOGRAM_BUCKETS, quantileMs } from "../../../schemas/wire/histogram.ts";
import { makeRandom } from "../otlp/load.ts";
import { freshFolder, removeFolder, whenUp } from "../store/harness.ts";
import { makeTelemetry, sendSpans, spanFilter, type SentSpan, type TestTelemetry } from "./harness.ts";

const HOUR = 3_600_000;
const MINUTE = 60_000;
const START = Math.floor(Date.now() / (24 * HOUR)) * 24 * HOUR - 12 * HOUR;

const random = makeRandom(11);
const pick = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)] as T;
const hex = (text: string, digits: number): string => createHash("sha256").update(text).digest("hex").slice(0, digits);
const KINDS = ["unspecified", "internal", "server", "client"] as const;

const SPANS: readonly SentSpan[] = Array.from({ length: 600 }, (_, i) => {
  const failed = random() < 0.2;
  const kind = pick([1, 2, 2, 3, 3]);
  return {
    service: pick(["web", "cart", "it's \\ odd"]),
    name: pick(["GET /", "put", "it's"]),
    // many at the same time, and of the same duration
    at: START + Math.floor(random() * 300) * 1_000,
    ms: pick([1.5, 20, 20, 300, 4_000]),
    traceId: hex(`trace ${Math.floor(i / 6)}`, 32),
    spanId: hex(`span ${i}`, 16),
    ...(i % 6 === 0 ? {} : { parentId: hex(`span ${i - 1}`, 16) }),
    kind,
    attributes: {
      version: failed ? pick(["2", "2", "1"]) : "1",
      ...(kind === 3 ? { "server.address": pick(["cart", "db"]) } : {}),
    },
    resource: { zone: pick(["eu", "us"]) },
    ...(failed ? { error: pick([`user ${i} is gone`, "timeout after 30 s"]) } : {}),
    ...(failed && random() < 0.5 ? { exception: "java.io.IOException" } : {}),
  };
});

const valueOf = (span: SentSpan, key: string): string => span.attributes?.[key] ?? span.resource?.[key] ?? "";
const wanted = (filter: SpanFilter): readonly SentSpan[] =>
  SPANS.filter(
    (span) =>
      span.at >= filter.fromMs &&
      span.at < filter.toMs &&
      (filter.services.length === 0 || filter.services.includes(span.service)) &&
      (filter.name === null || span.name === filter.name) &&
      (filter.kind === null || KINDS[span.kind ?? 0] === filter.kind) &&
      (filter.status === null || (span.error === undefined ? "unset" : "error") === filter.status) &&
      (filter.leastMs === null || span.ms >= filter.leastMs) &&
      (filter.mostMs === null || span.ms < filter.mostMs) &&
      (!filter.roots || span.parentId === undefined) &&
      filter.attributes.every(({ key, value, not }) => (valueOf(span, key) === value) !== not),
  );

const FILTERS: readonly Partial<SpanFilter>[] = [
  {},
  { services: ["cart"] },
  { services: ["it's \\ odd", "web"], name: "it's", kind: "server" },
  { kind: "client" },
  { status: "error" },
  { status: "unset", leastMs: 20, mostMs: 300 },
  { leastMs: 300 },
  { roots: true },
  { fromMs: START + 60_000, toMs: START + 120_000 },
  {
    attributes: [
      { key: "version", value: "2", not: false },
      { key: "zone", value: "eu", not: true },
    ],
  },
];

describeWith(["chdb"], "questions about spans", () => {
  let folder: string;
  let runtime: TestTelemetry;
  const ask = <A, E>(question: (traces: Traces["Type"]) => Effect.Effect<A, E>) =>
    runtime.runPromise(Effect.flatMap(Traces, question));

  beforeAll(async () => {
    folder = freshFolder();
    runtime = makeTelemetry(folder);
    await runtime.runPromise(whenUp);
    await runtime.runPromise(sendSpans(SPANS));
  }, 60_000);
  afterAll(async () => {
    await runtime.dispose();
    removeFolder(folder);
  });

  const pages = async (filter: SpanFilter, order: SpanOrder, limit: number) => {
    const found: SpanRow[] = [];
    for (let next: string | null = ""; next !== null; ) {
      const after: string = next;
      const page = await ask((traces) => traces.list(filter, order, limit, after === "" ? null : parseCursor(after)));
      found.push(...page.rows);
      next = page.next;
    }
    return found;
  };

  itWith(
    ["chdb"],
    "lists what was sent, newest or slowest first, page by page without gaps or repeats",
    async () => {
      for (const more of FILTERS)
        for (const order of ["newest", "slowest"] as const) {
          const filter = spanFilter(more);
          const found = await pages(filter, order, 97);
          const expected = wanted(filter);
          expect(found.map(({ spanId }) => spanId).sort()).toEqual(expected.map(({ spanId }) => spanId).sort());
          const keys = found.map(({ at, durationMs }) => (order === "newest" ? at : durationMs));
          expect(keys).toEqual(keys.toSorted((a, b) => b - a));
        }
      const [span] = await ask((traces) => traces.list(spanFilter({ status: "error" }), "slowest", 1, null)).then(
        ({ rows }) => rows,
      );
      const sent = SPANS.find(({ spanId }) => spanId === span?.spanId);
      expect(span).toEqual({
        traceId: sent?.traceId,
        spanId: sent?.spanId,
        parentId: sent?.parentId ?? "",
        at: sent?.at,
        durationMs: 4_000,
        service: sent?.service,
        name: sent?.name,
        kind: KINDS[sent?.kind ?? 0],
        status: "error",
        statusMessage: sent?.error,
      });
    },
    120_000,
  );

  itWith(["chdb"], "gives a trace whole, with what each span did itself", async () => {
    const traceId = hex("whole", 32);
    const at = START + HOUR;
    const child = (number: number, offset: number, ms: number, more: Partial<SentSpan> = {}): SentSpan => ({
      service: "web",
      name: `child ${number}`,
      at: at + offset,
      ms,
      traceId,
      spanId: hex(`whole ${number}`, 16),
      parentId: hex("whole 0", 16),
      ...more,
    });
    await runtime.runPromise(
      sendSpans([
        child(1, 10, 30, { kind: 3, attributes: { "server.address": "db", "it's": "x" } }),
        child(2, 20, 40, { error: "lost", exception: "Gone", service: "db", resource: { "k8s.pod.name": "db-0" } }),
        { ...child(0, 0, 100), parentId: "" },
      ]),
    );
    const trace = await ask((traces) => traces.trace(traceId));
    expect(trace).toMatchObject({ traceId, at, durationMs: 100, truncated: false });
    expect(trace?.spans.map(({ name, offsetMs, durationMs, selfMs }) => [name, offsetMs, durationMs, selfMs])).toEqual([
      ["child 0", 0, 100, 50],
      ["child 1", 10, 30, 30],
      ["child 2", 20, 40, 40],
    ]);
    expect(trace?.spans[1]).toMatchObject({ kind: "client", peer: "db", attributes: { "it's": "x" } });
    expect(trace?.spans[2]).toMatchObject({
      status: "error",
      statusMessage: "lost",
      pod: "db-0",
      parentId: hex("whole 0", 16),
      events: [{ name: "exception", at: at + 20, attributes: { "exception.type": "Gone" } }],
    });
    expect(await ask((traces) => traces.trace(hex("nobody", 32)))).toBeNull();
  });

  itWith(
    ["chdb"],
    "gives the first spans of a trace that is too large, and says so",
    async () => {
      const traceId = hex("large", 32);
      const span = (i: number, ms = 1): SentSpan => ({
        service: "web",
        name: `${i}`,
        at: START + HOUR + i,
        ms,
        traceId,
        spanId: hex(`large ${i}`, 16),
      });
      for (let from = 0; from < MAX_TRACE_SPANS + 100; from += 1_700)
        await runtime.runPromise(
          sendSpans(Array.from({ length: Math.min(1_700, MAX_TRACE_SPANS + 100 - from) }, (_, i) => span(from + i))),
        );
      const trace = await ask((traces) => traces.trace(traceId));
      expect(trace?.truncated).toBe(true);
      expect(trace?.spans.map(({ name }) => name)).toEqual(Array.from({ length: MAX_TRACE_SPANS }, (_, i) => `${i}`));
      const wide = hex("wide", 32);
      const value = { text: "x".repeat(8_000) };
      for (let from = 0; from < 900; from += 300)
        await runtime.runPromise(
          sendSpans(Array.from({ length: 300 }, (_, i) => ({ ...span(from + i), traceId: wide, attributes: value }))),
        );
      const few = await ask((traces) => traces.trace(wide));
      expect(few?.truncated).toBe(true);
      expect(few?.spans.length).toBeGreaterThan(300);
      expect(few?.spans.length).toBeLessThan(500);
      expect(few?.spans.map(({ name }) => name)).toEqual(few?.spans.map((_, i) => `${i}`));
    },
    120_000,
  );

  itWith(["chdb"], "draws a heat map of time and duration, the same from spans and from their counts", async () => {
    const base = { fromMs: START, toMs: START + 5 * MINUTE };
    for (const more of [
      {},
      { services: ["cart"] },
      { name: "it's", kind: "client" as const },
      { status: "error" as const },
      { leastMs: 20 },
    ]) {
      const all = [{ key: "nothing", value: "x", not: true }];
      const filters = [spanFilter({ ...base, ...more }), spanFilter({ ...base, ...more, attributes: all })];
      for (const filter of filters) {
        const { stepMs, times, at, bucket, total, failed } = await ask((traces) => traces.heatMap(filter, 5));
        expect({ stepMs, times }).toEqual({ stepMs: MINUTE, times: [0, 1, 2, 3, 4].map((i) => START + i * MINUTE) });
        const cells = new Map<string, [number, number]>();
        for (const { at: when, ms, error } of wanted(filter)) {
          const key = `${Math.floor(when / MINUTE) * MINUTE} ${bucketOf(ms)}`;
          const [n, f] = cells.get(key) ?? [0, 0];
          cells.set(key, [n + 1, f + (error === undefined ? 0 : 1)]);
        }
        expect(new Map(at.map((time, i) => [`${time} ${bucket[i]}`, [total[i], failed[i]]]))).toEqual(cells);
      }
    }
    // steps shorter than a minute are not counted at intake
    const short = await ask((traces) => traces.heatMap(spanFilter({ fromMs: START, toMs: START + MINUTE }), 6));
    expect(short.stepMs).toBe(10_000);
    expect(short.total.reduce((sum, n) => sum + n, 0)).toBe(
      wanted(spanFilter({ fromMs: START, toMs: START + MINUTE })).length,
    );
  });

  itWith(["chdb"], "groups failed spans by what they say", async () => {
    const range = { fromMs: START, toMs: START + 10 * MINUTE };
    const failed = wanted(spanFilter({ ...range, status: "error" }));
    const { failed: count, causes } = await ask((traces) => traces.errors(spanFilter(range), 50));
    expect(count).toBe(failed.length);
    const expected = new Map<string, SentSpan[]>();
    for (const span of failed) {
      const key = [span.service, span.exception ?? "", (span.error ?? "").replace(/\d+/g, "*")].join("|");
      expected.set(key, [...(expected.get(key) ?? []), span]);
    }
    expect(new Set(causes.map(({ service, exception, message }) => [service, exception, message].join("|")))).toEqual(
      new Set(expected.keys()),
    );
    for (const cause of causes) {
      const spans = expected.get([cause.service, cause.exception, cause.message].join("|")) ?? [];
      expect(cause.count).toBe(spans.length);
      expect(cause.share).toBeCloseTo(spans.length / failed.length);
      expect(cause.first).toBe(Math.min(...spans.map(({ at }) => at)));
      expect(cause.last).toBe(Math.max(...spans.map(({ at }) => at)));
      expect(cause.names).toEqual([...new Set(spans.map(({ name }) => name))].sort());
      expect(cause.traceIds.length).toBeGreaterThan(0);
      for (const id of cause.traceIds) expect(spans.map(({ traceId }) => traceId)).toContain(id);
    }
    const counts = causes.map(({ count: n }) => n);
    expect(counts).toEqual(counts.toSorted((a, b) => b - a));
  });

  itWith(["chdb"], "says what sets the selected spans apart", async () => {
    const filter = spanFilter({ fromMs: START, toMs: START + 10 * MINUTE });
    const none = { fromMs: null, toMs: null, leastMs: null, mostMs: null, status: null };
    const all = wanted(filter);
    for (const [selection, chosen] of [
      [{ ...none, status: "error" as const }, (span: SentSpan) => span.error !== undefined],
      [
        { ...none, leastMs: 300, fromMs: START + MINUTE, toMs: START + 2 * MINUTE },
        ({ ms, at }: SentSpan) => ms >= 300 && at >= START + MINUTE && at < START + 2 * MINUTE,
      ],
    ] as const) {
      const answer = await ask((traces) => traces.compare(filter, selection));
      const inside = all.filter(chosen);
      const outside = all.filter((span) => !chosen(span));
      expect(answer).toMatchObject({ selected: inside.length, rest: outside.length });
      for (const key of ["version", "zone"]) {
        const found = answer.attributes.find((one) => one.key === key);
        for (const { value, selected, rest } of found?.values ?? []) {
          expect(selected).toBeCloseTo(inside.filter((span) => valueOf(span, key) === value).length / inside.length);
          expect(rest).toBeCloseTo(outside.filter((span) => valueOf(span, key) === value).length / outside.length);
        }
        expect(found?.values.map(({ value }) => value).sort()).toEqual(
          [...new Set(all.map((span) => valueOf(span, key)))].sort(),
        );
      }
      const differences = answer.attributes.map(({ difference }) => difference);
      expect(differences).toEqual(differences.toSorted((a, b) => b - a));
    }
    const errors = await ask((traces) => traces.compare(filter, { ...none, status: "error" }));
    const keys = errors.attributes.map(({ key }) => key);
    expect(keys.indexOf("version")).toBeLessThan(keys.indexOf("zone"));
    expect((await ask((traces) => traces.compare(filter, { ...none, leastMs: 1e6 }))).selected).toBe(0);
  });

  itWith(["chdb"], "tells who calls whom, how often, with what latency", async () => {
    const range = { fromMs: START + MINUTE, toMs: START + 4 * MINUTE };
    const expected = new Map<string, SentSpan[]>();
    for (const span of wanted(spanFilter({ ...range, kind: "client" }))) {
      const key = `${span.service}>${span.attributes?.["server.address"]}`;
      expected.set(key, [...(expected.get(key) ?? []), span]);
    }
    const edges = await ask((traces) => traces.edges(range, []));
    expect(new Set(edges.map(({ service, peer }) => `${service}>${peer}`))).toEqual(new Set(expected.keys()));
    for (const { service, peer, kind, total, failed, p50, p95, p99 } of edges) {
      const calls = expected.get(`${service}>${peer}`) ?? [];
      const histogram = new Uint32Array(HISTOGRAM_BUCKETS);
      for (const { ms } of calls) histogram[bucketOf(ms)] = (histogram[bucketOf(ms)] ?? 0) + 1;
      expect({ kind, total, failed }).toEqual({
        kind: "client",
        total: calls.length,
        failed: calls.filter(({ error }) => error !== undefined).length,
      });
      expect([p50, p95, p99]).toEqual([0.5, 0.95, 0.99].map((q) => quantileMs(histogram, q)));
    }
    const ofDb = await ask((traces) => traces.edges(range, ["db"]));
    expect(new Set(ofDb.map(({ peer }) => peer))).toEqual(new Set(["db"]));
  });
});
