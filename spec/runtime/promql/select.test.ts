/** The SQL of selectors: its text follows from their form alone. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Matcher, MatchOperator } from "../../../runtime/promql/ast.ts";
import { groupNames } from "../../../runtime/promql/replace.ts";
import {
  instantSql,
  labelNamesSql,
  labelValuesSql,
  overSql,
  rawSql,
  seriesSql,
  type Statement,
} from "../../../runtime/promql/select.ts";
import { plainText, valueText } from "../../../runtime/promql/numbers.ts";

const OPERATORS: readonly MatchOperator[] = ["=", "!=", "=~", "!~"];
const grid = { startMs: 1_000_500, stepMs: 15_000, points: 4 };

const statements = (matchers: readonly Matcher[], label: string): readonly Statement[] => [
  instantSql("db", matchers, grid, 300_000, "value"),
  instantSql("db", matchers, grid, 300_000, "time"),
  overSql("db", "rate", matchers, grid, 60_000, null),
  overSql("db", "predict_linear", matchers, grid, 60_000, 1.5),
  rawSql("db", matchers, 0, 1),
  seriesSql("db", [matchers, matchers], 0),
  labelNamesSql("db", [matchers], 0),
  labelValuesSql("db", label, [matchers], 0),
];

describe("the SQL of a selector", () => {
  it("never holds what the matchers say", () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ name: fc.string(), operator: fc.constantFrom(...OPERATORS), value: fc.string() })),
        fc.string(),
        (matchers, label) => {
          const named = matchers.map((one) => (one.name === "__name__" ? { ...one, name: "x" } : one));
          const plain = named.map(({ operator }) => ({ name: "a", operator, value: "b" }));
          const safe = label === "__name__" ? "x" : label;
          expect(statements(named, safe).map(({ sql }) => sql)).toEqual(statements(plain, "a").map(({ sql }) => sql));
        },
      ),
      { numRuns: 200 },
    );
  });

  it("binds every place that it has, and times to the millisecond", () => {
    const matchers: readonly Matcher[] = [
      { name: "__name__", operator: "=", value: "up" },
      { name: "job", operator: "!~", value: "a|b" },
    ];
    for (const { sql, params } of statements(matchers, "job")) {
      const places = new Set([...sql.matchAll(/\{(\w+):/g)].map(([, name]) => name));
      places.delete("limit");
      expect([...places].sort()).toEqual(Object.keys(params).sort());
    }
    expect(overSql("db", "rate", matchers, grid, 60_000, null).params).toMatchObject({
      start: "1000.500",
      end: "1045.500",
      step: "15.000",
      window: "60.000",
      after: 940_500,
      until: 1_045_500,
      m0v: "up",
      m1n: "job",
      m1v: "^(?s:a|b)$",
    });
  });
});

describe("names of a pattern's groups", () => {
  it("are those that count", () => {
    expect(groupNames("(a)(?:b)(?P<x>c)(?<y>d)")).toEqual(["", "", "x", "y"]);
    expect(groupNames("\\((a)[(](b)[^](](c)[]()]")).toEqual(["", "", "", ""]);
    expect(groupNames("(?i)(a)\\Q((\\E(b)")).toEqual(["", "", ""]);
    expect(groupNames("\\Q(")).toEqual([""]);
  });
});

describe("values as texts", () => {
  it("have no exponent as a label, and one in JSON", () => {
    const values = [0, -0, 1.5, 1e21, 1.25e-7, -1e300, Number.NaN, Infinity, -Infinity];
    expect(values.map(plainText)).toEqual([
      "0",
      "-0",
      "1.5",
      "1000000000000000000000",
      "0.000000125",
      `-1${"0".repeat(300)}`,
      "NaN",
      "+Inf",
      "-Inf",
    ]);
    expect(values.map(valueText)).toEqual(["0", "-0", "1.5", "1e+21", "1.25e-07", "-1e+300", "NaN", "+Inf", "-Inf"]);
  });
});
