import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { pageOf, parseCursor, stepsOf, traceIdOf, wholeMinutes } from "../../../runtime/telemetry/ask.ts";
import { selfTimes } from "../../../runtime/telemetry/selfTime.ts";

describe("steps over a range", () => {
  it("cover it, are no more than asked for, and lie at multiples of their length", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 4e12 }),
        fc.integer({ min: 1, max: 35 * 86_400_000 }),
        fc.integer({ min: 2, max: 600 }),
        (fromMs, length, most) => {
          const toMs = fromMs + length;
          const { stepMs, times } = stepsOf({ fromMs, toMs }, most);
          expect(times.length).toBeLessThanOrEqual(most);
          expect(times[0]).toBeLessThanOrEqual(fromMs);
          expect((times[0] ?? 0) + stepMs).toBeGreaterThan(fromMs);
          expect((times.at(-1) ?? 0) + stepMs).toBeGreaterThanOrEqual(toMs);
          expect(times.at(-1)).toBeLessThan(toMs);
          for (const [i, time] of times.entries()) expect(time).toBe((times[0] ?? 0) + i * stepMs);
          expect((times[0] ?? 0) % stepMs).toBe(0);
        },
      ),
    );
  });

  it("are of lengths that people use", () => {
    expect(stepsOf({ fromMs: 0, toMs: 3_600_000 }, 60)).toMatchObject({ stepMs: 60_000 });
    expect(stepsOf({ fromMs: 1, toMs: 3_600_001 }, 60)).toMatchObject({ stepMs: 120_000 });
    expect(stepsOf({ fromMs: 0, toMs: 86_400_000 }, 60)).toMatchObject({ stepMs: 1_800_000 });
    expect(wholeMinutes({ fromMs: 59_999, toMs: 60_001 })).toEqual({ fromMs: 0, toMs: 120_000 });
  });
});

describe("a place in a list", () => {
  const row = (key: string, tie: string, found: number) => ({ key, tie, found });

  it("is the last row's, and counts those that are the same", () => {
    const rows = [row("9", "1", 4), row("8", "7", 4), row("8", "7", 4), row("8", "7", 4)];
    const first = pageOf(rows, 3, null);
    expect(first).toEqual({ rows: rows.slice(0, 3), next: "8-7-2" });
    const second = pageOf([row("8", "7", 2), row("8", "7", 2)], 1, parseCursor("8-7-2"));
    expect(second.next).toBe("8-7-3");
    expect(
      pageOf(
        rows.slice(0, 3).map((one) => ({ ...one, found: 3 })),
        3,
        null,
      ).next,
    ).toBeNull();
    // rows that were left out for their size follow on the next page
    expect(pageOf([row("9", "1", 4)], 3, null).next).toBe("9-1-1");
    expect(pageOf([], 3, null)).toEqual({ rows: [], next: null });
  });

  it("is refused when it is none", () => {
    expect(parseCursor("8-7-2")).toEqual({ key: "8", tie: "7", same: 2 });
    for (const text of [
      "",
      "8",
      "8-7",
      "8-7-x",
      "-1-2-3",
      "8-7-2 OR 1",
      "9223372036854775808-1-1",
      "1-18446744073709551616-1",
    ])
      expect(parseCursor(text), text).toBeNull();
  });
});

describe("a trace id", () => {
  it("has 32 hex digits, or 16 as those of 64 bits", () => {
    expect(traceIdOf("0123456789ABCDEF0123456789abcdef")).toBe("0123456789abcdef0123456789abcdef");
    expect(traceIdOf("0123456789ABCDEF")).toBe("00000000000000000123456789abcdef");
    for (const text of ["", "0", "0".repeat(32), "0".repeat(16), "g".repeat(32), "a".repeat(31), `${"a".repeat(32)}\n`])
      expect(traceIdOf(text), text).toBeNull();
  });
});

describe("time of its own", () => {
  const span = (spanId: string, parentId: string, offset: number, duration: number) => ({
    spanId,
    parentId,
    offset,
    duration,
  });

  it("is what no child covers, however children overlap or outlast", () => {
    const spans = [
      span("root", "", 0, 100),
      span("a", "root", 10, 30),
      span("a1", "a", 15, 10),
      span("b", "root", 20, 40),
      span("late", "root", 90, 50),
      span("self", "self", 95, 5),
    ];
    // root: 0..10 and 60..90
    expect(selfTimes(spans)).toEqual([40, 20, 10, 40, 50, 5]);
  });

  it("is never negative", () => {
    const some = fc.record({
      spanId: fc.constantFrom("a", "b", "c", "d"),
      parentId: fc.constantFrom("", "a", "b", "c", "d"),
      offset: fc.nat(100),
      duration: fc.nat(100),
    });
    fc.assert(
      fc.property(fc.array(some, { maxLength: 12 }), (spans) => {
        const sorted = spans.toSorted((x, y) => x.offset - y.offset);
        for (const [i, self] of selfTimes(sorted).entries()) {
          expect(self).toBeGreaterThanOrEqual(0);
          expect(self).toBeLessThanOrEqual(sorted[i]?.duration ?? 0);
        }
      }),
    );
  });
});
