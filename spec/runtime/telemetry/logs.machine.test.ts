/** Log lines on the real engine: every answer is what a plain reading of the lines gives. */
import { Effect } from "effect";
import { afterAll, beforeAll, expect } from "vitest";
import { describeWith, itWith } from "../../capabilities.ts";
import { Logs, type LogFilter } from "../../../runtime/telemetry/Logs.ts";
import { parseCursor } from "../../../runtime/telemetry/ask.ts";
import { SEVERITIES, type LogLine } from "../../../schemas/telemetry.ts";
import { makeRandom } from "../otlp/load.ts";
import { patternOf } from "../otlp/messages.ts";
import { freshFolder, removeFolder, whenUp } from "../store/harness.ts";
import { logFilter, makeTelemetry, sendLines, textOf, type SentLine, type TestTelemetry } from "./harness.ts";

const HOUR = 3_600_000;
// not at the border of a minute, and within one day
const START = Math.floor(Date.now() / (24 * HOUR)) * 24 * HOUR - 12 * HOUR + 12_345;

const random = makeRandom(7);
const pick = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)] as T;
const BODIES: readonly (() => string)[] = [
  () => `Order ${Math.floor(random() * 50)} placed by user_${Math.floor(random() * 5)}`,
  () => `connection to 10.0.0.${Math.floor(random() * 3)} refused: 100% of the pool's "slots" are taken`,
  () => `Verbindung zum Speicher für Übungen verloren \\ path=/var/lib/${Math.floor(random() * 3)}`,
  () => "healthz",
  () => "",
];
const traces = ["0123456789abcdef0123456789abcdef", "00000000000000000123456789abcdef"];
const LINES: readonly SentLine[] = Array.from({ length: 400 }, () => ({
  service: pick(["cart", "web", "it's \\ odd"]),
  // many at the same time
  at: START + Math.floor(random() * 60) * 2_000,
  severity: pick([0, 5, 9, 9, 12, 13, 17, 21, 24]),
  body: pick(BODIES)(),
  attributes: { code: pick(["200", "500"]), ...(random() < 0.5 ? { "it's": "a=b'\\" } : {}) },
  resource: { "host.name": pick(["n1", "n2"]), zone: pick(["eu", "us"]) },
  ...(random() < 0.3 ? { traceId: pick(traces) } : {}),
}));

const classOf = (severity: number): string => SEVERITIES[Math.floor((severity + 3) / 4)] ?? "?";
const tokens = (body: string): readonly string[] => small(body).split(/[\0-\x2f:-@[-`{-\x7f]+/);
const small = (text: string): string => text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
const valueOf = (line: SentLine, key: string): string =>
  key === "service.name" ? line.service : (line.attributes?.[key] ?? line.resource?.[key] ?? "");

/** What a person would say: the same question of the lines as they were sent. */
const wanted = (filter: LogFilter, has: (body: string) => boolean): readonly SentLine[] =>
  LINES.filter(
    (line) =>
      line.at >= filter.fromMs &&
      line.at < filter.toMs &&
      (filter.services.length === 0 || filter.services.includes(line.service)) &&
      line.severity >= filter.severity &&
      (filter.traceId === null || line.traceId === filter.traceId) &&
      (filter.pattern === null || String(patternOf(line.body)) === filter.pattern) &&
      filter.attributes.every(({ key, value, not }) => (valueOf(line, key) === value) !== not) &&
      has(line.body),
  );

const QUESTIONS: readonly (readonly [q: string, has: (body: string) => boolean])[] = [
  ["", () => true],
  ["order", (body) => tokens(body).includes("order")],
  ["ORDER placed", (body) => ["order", "placed"].every((word) => tokens(body).includes(word))],
  ["plac", () => false],
  ["plac*", (body) => body.includes("plac")],
  ["con*refused", (body) => body.startsWith("connection")],
  ['"placed by USER_3"', (body) => body.endsWith("placed by user_3")],
  ["user_3", (body) => body.endsWith("user_3")],
  ["10.0.0.1", (body) => body.includes("10.0.0.1")],
  ["100%", (body) => body.includes("100%")],
  ["1%0", () => false],
  ["userx3", () => false],
  ["für Übungen", (body) => body.includes("für Übungen")],
  ['"\\\\ path="', (body) => body.includes("\\ path=")],
  ['"\\"slots\\""', (body) => body.includes("slots")],
  ["pool's", (body) => body.includes("slots")],
  ["-order -healthz", (body) => !["order", "healthz"].some((word) => tokens(body).includes(word))],
  ['-"placed by" to', (body) => body.startsWith("connection")],
];

const FILTERS: readonly Partial<LogFilter>[] = [
  {},
  { services: ["cart"] },
  { services: ["it's \\ odd", "web"], severity: 13 },
  { fromMs: START + 20_000, toMs: START + 60_000 },
  { attributes: [{ key: "code", value: "500", not: false }] },
  {
    attributes: [
      { key: "it's", value: "a=b'\\", not: false },
      { key: "zone", value: "eu", not: true },
      { key: "service.name", value: "web", not: true },
    ],
  },
  { attributes: [{ key: "host.name", value: "n1", not: false }], severity: 9 },
  { traceId: traces[1] ?? null },
  { pattern: String(patternOf("Order 1 placed by user_2")) },
];

const sentOf = ({ at, service, body, severity, attributes }: LogLine): string =>
  JSON.stringify([at, service, body, severity, attributes]);
const textOfSent = (line: SentLine): string =>
  JSON.stringify([line.at, line.service, line.body, classOf(line.severity), line.attributes]);

describeWith(["chdb"], "questions about log lines", () => {
  let folder: string;
  let runtime: TestTelemetry;
  const ask = <A, E>(question: (logs: Logs["Type"]) => Effect.Effect<A, E>) =>
    runtime.runPromise(Effect.flatMap(Logs, question));
  const cases = FILTERS.flatMap((more) =>
    QUESTIONS.map(([q, has]) => ({
      filter: logFilter({ ...more, text: textOf(q) }),
      has,
      name: `${JSON.stringify(more)} ${q}`,
    })),
  );

  beforeAll(async () => {
    folder = freshFolder();
    runtime = makeTelemetry(folder);
    await runtime.runPromise(whenUp);
    for (let at = 0; at < LINES.length; at += 100) await runtime.runPromise(sendLines(LINES.slice(at, at + 100)));
  }, 60_000);
  afterAll(async () => {
    await runtime.dispose();
    removeFolder(folder);
  });

  itWith(
    ["chdb"],
    "finds what was sent, newest first",
    async () => {
      for (const { filter, has, name } of cases) {
        const { rows, next } = await ask((logs) => logs.search(filter, 1_000, null));
        expect(rows.map(sentOf).sort(), name).toEqual(wanted(filter, has).map(textOfSent).sort());
        expect(
          rows.map(({ at }) => at),
          name,
        ).toEqual(rows.map(({ at }) => at).toSorted((a, b) => b - a));
        expect(next).toBeNull();
      }
      const [line] = (await ask((logs) => logs.search(logFilter({ traceId: traces[1] ?? null }), 1, null))).rows;
      expect(line).toMatchObject({
        traceId: traces[1],
        spanId: "",
        resource: { zone: expect.stringMatching(/eu|us/) },
      });
      expect(line?.host).toMatch(/^n[12]$/);
      expect(line?.pattern).toBe(String(patternOf(line?.body ?? "")));
    },
    120_000,
  );

  itWith(["chdb"], "counts them by step and class", async () => {
    for (const { filter, has, name } of cases.filter((_, i) => i % 5 === 0)) {
      const range = { fromMs: Math.max(filter.fromMs, START - 5_000), toMs: Math.min(filter.toMs, START + 200_000) };
      const { stepMs, times, counts } = await ask((logs) => logs.histogram({ ...filter, ...range }, 40));
      const expected = Object.fromEntries(SEVERITIES.map((name) => [name, times.map(() => 0)]));
      for (const { at, severity } of wanted({ ...filter, ...range }, has)) {
        const list = expected[classOf(severity)] ?? [];
        const step = Math.floor((at - (times[0] ?? 0)) / stepMs);
        list[step] = (list[step] ?? 0) + 1;
      }
      expect(counts, name).toEqual(expected);
    }
  });

  itWith(["chdb"], "gives facets of what is found", async () => {
    const count = (lines: readonly SentLine[], of: (line: SentLine) => string) => {
      const counts = new Map<string, number>();
      for (const line of lines) counts.set(of(line), (counts.get(of(line)) ?? 0) + 1);
      return [...counts]
        .map(([value, n]) => ({ value, count: n }))
        .toSorted((a, b) => b.count - a.count || (a.value < b.value ? -1 : 1));
    };
    const sorted = (list: readonly { value: string; count: number }[]) =>
      list.toSorted((a, b) => b.count - a.count || (a.value < b.value ? -1 : 1));
    for (const { filter, has, name } of cases.filter((_, i) => i % 7 === 0)) {
      const lines = wanted(filter, has);
      const facets = await ask((logs) => logs.facets(filter));
      expect(facets.total, name).toBe(lines.length);
      expect(facets.sampled, name).toBe(lines.length);
      expect(sorted(facets.services), name).toEqual(count(lines, ({ service }) => service));
      expect(sorted(facets.severities), name).toEqual(count(lines, ({ severity }) => classOf(severity)));
      expect(sorted(facets.hosts), name).toEqual(count(lines, (line) => valueOf(line, "host.name")));
      for (const key of ["code", "zone"]) {
        const found = facets.attributes.find((one) => one.key === key);
        expect(sorted(found?.values ?? []), name).toEqual(count(lines, (line) => valueOf(line, key)));
        expect(found?.count ?? 0, name).toBe(lines.length);
      }
    }
  });

  itWith(["chdb"], "groups them by pattern, the same from the lines and from what was counted at intake", async () => {
    const minute = 60_000;
    const range = { fromMs: Math.floor(START / minute) * minute, toMs: (Math.floor(START / minute) + 3) * minute };
    for (const more of [{}, { services: ["cart"] }, { severity: 13 }, { pattern: String(patternOf("healthz")) }]) {
      const filter = logFilter({ ...range, ...more });
      const expected = new Map<string, SentLine[]>();
      for (const line of wanted(filter, () => true)) {
        const pattern = String(patternOf(line.body));
        expected.set(pattern, [...(expected.get(pattern) ?? []), line]);
      }
      // a step of a minute is counted at intake; an attribute that all lines differ from needs the lines
      const all = [{ key: "nothing", value: "x", not: true }];
      const counted = await ask((logs) => logs.patterns(filter, 3, 50));
      const lines = await ask((logs) => logs.patterns({ ...filter, attributes: all }, 3, 50));
      for (const answer of [counted, lines]) {
        expect(answer).toMatchObject({
          from: range.fromMs,
          to: range.toMs,
          stepMs: minute,
          found: expected.size,
        });
        expect(answer.total).toBe([...expected.values()].flat().length);
        for (const { pattern, count, first, last, sample, severity, services, trend } of answer.patterns) {
          const group = expected.get(pattern) ?? [];
          const times = group.map(({ at }) => at);
          expect({ count, first, last, severity, services }).toEqual({
            count: group.length,
            first: Math.min(...times),
            last: Math.max(...times),
            severity: classOf(Math.max(...group.map((line) => line.severity))),
            services: [...new Set(group.map(({ service }) => service))].sort(),
          });
          expect(group.map(({ body }) => body)).toContain(sample);
          expect(trend).toEqual(
            answer.times.map((time) => times.filter((at) => at >= time && at < time + answer.stepMs).length),
          );
        }
        expect(answer.patterns.map(({ count }) => count)).toEqual(
          [...expected.values()].map(({ length }) => length).toSorted((a, b) => b - a),
        );
      }
    }
    const few = await ask((logs) => logs.patterns(logFilter(range), 3, 2));
    expect(few.patterns).toHaveLength(2);
    expect(few.found).toBe(new Set(LINES.map(({ body }) => patternOf(body))).size);
  });

  const pages = async (filter: LogFilter, limit: number, between: () => Promise<unknown> = () => Promise.resolve()) => {
    const found: LogLine[] = [];
    let next: string | null = "";
    let count = 0;
    while (next !== null) {
      const after: string = next;
      const page = await ask((logs) => logs.search(filter, limit, after === "" ? null : parseCursor(after)));
      expect(page.rows.length).toBeLessThanOrEqual(limit);
      if (page.next !== null) expect(page.rows.length).toBeGreaterThan(0);
      found.push(...page.rows);
      next = page.next;
      count++;
      await between();
    }
    return { found, count };
  };

  itWith(
    ["chdb"],
    "is read page by page without gaps or repeats, though lines share their time and some are the same",
    async () => {
      const at = START - HOUR;
      const same = Array.from({ length: 25 }, () => ({ service: "twins", at, severity: 9, body: "the same" }));
      const others = Array.from({ length: 40 }, (_, i) => ({
        service: "twins",
        at: at + (i % 3),
        severity: 9,
        body: `line ${i}`,
      }));
      await runtime.runPromise(sendLines([...same, ...others]));
      const filter = logFilter({ services: ["twins"] });
      for (const limit of [1, 7, 64, 65, 66]) {
        const { found, count } = await pages(filter, limit);
        expect(found.map(({ body }) => body).sort(), `${limit}`).toEqual(
          [...same, ...others].map(({ body }) => body).sort(),
        );
        expect(count).toBe(Math.ceil(65 / limit));
      }
      // lines that arrive meanwhile, newer ones and ones of the same time, move nothing
      let arrived = 0;
      const { found } = await pages(filter, 9, () => {
        arrived++;
        const late = (when: number) => ({ service: "twins", at: when, severity: 9, body: `late ${arrived}` });
        return runtime.runPromise(sendLines([late(at + 2), late(at + 1), late(START)]));
      });
      const old = found.map(({ body }) => body).filter((body) => !body.startsWith("late"));
      expect(old.sort()).toEqual([...same, ...others].map(({ body }) => body).sort());
      const seen = found.map(({ body, at: when }) => `${body} ${when}`).filter((text) => text.startsWith("late"));
      expect(new Set(seen).size).toBe(seen.length);
    },
    120_000,
  );

  itWith(["chdb"], "has shorter pages when lines are long, and they are all there", async () => {
    const lines = Array.from({ length: 120 }, (_, i) => ({
      service: "long",
      at: START - 2 * HOUR + i,
      severity: 9,
      body: `${i} ${"x".repeat(60_000)}`,
    }));
    for (let i = 0; i < lines.length; i += 40) await runtime.runPromise(sendLines(lines.slice(i, i + 40)));
    const { found, count } = await pages(logFilter({ services: ["long"] }), 100);
    expect(found.map(({ body }) => Number.parseInt(body, 10))).toEqual(lines.map((_, i) => 119 - i));
    expect(count).toBeGreaterThan(2);
  });
});
