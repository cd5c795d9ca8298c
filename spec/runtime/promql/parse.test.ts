/** Texts of queries: what they mean, and where and how they are wrong. */
import { describe, expect, it } from "vitest";
import fc from "fast-check";
import type { Expr } from "../../../runtime/promql/ast.ts";
import { duration, number, unquote } from "../../../runtime/promql/literals.ts";
import { parse, parseSelector } from "../../../runtime/promql/parse.ts";
import { LIMITS, QueryError } from "../../../runtime/promql/QueryError.ts";

/** The expression with all brackets, so that what binds to what can be seen. */
const shown = (node: Expr): string => {
  const moment = (one: { offsetMs: number; at: number | string | null }): string =>
    `${one.offsetMs === 0 ? "" : `-${one.offsetMs}`}${one.at === null ? "" : `@${one.at}`}`;
  switch (node.kind) {
    case "number":
      return String(node.value);
    case "text":
      return JSON.stringify(node.value);
    case "selector":
      return `${node.matchers[0]?.value ?? ""}${moment(node)}`;
    case "range":
      return `${node.matchers[0]?.value ?? ""}[${node.rangeMs}]${moment(node)}`;
    case "subquery":
      return `${shown(node.body)}[${node.rangeMs}:${node.stepMs ?? ""}]${moment(node)}`;
    case "negate":
      return `-(${shown(node.body)})`;
    case "binary":
      return `(${shown(node.left)} ${node.operator}${node.bool ? " bool" : ""} ${shown(node.right)})`;
    case "aggregate":
      return `${node.operator}(${[...(node.param === null ? [] : [node.param]), node.body].map(shown).join(", ")})`;
    case "call":
      return `${node.name}(${node.args.map(shown).join(", ")})`;
  }
};
const read = (text: string): string => shown(parse(text));
const refusal = (text: string): string => {
  try {
    parse(text);
  } catch (error) {
    if (error instanceof QueryError) return error.reason;
    throw error;
  }
  return "no error";
};

describe("a query's text", () => {
  it("binds operators by precedence, powers to the right, the others to the left", () => {
    expect(read("1 + 2 * 3 ^ 2 ^ 2 - 4")).toBe("((1 + (2 * (3 ^ (2 ^ 2)))) - 4)");
    expect(read("a or b and c unless d == e")).toBe("(a or ((b and c) unless (d == e)))");
    expect(read("a - b - c")).toBe("((a - b) - c)");
    expect(read("a - (b - c)")).toBe("(a - (b - c))");
    expect(read("a atan2 b * c % d")).toBe("(((a atan2 b) * c) % d)");
    expect(read("a < bool b + 1")).toBe("(a < bool (b + 1))");
  });

  it("binds signs weaker than powers", () => {
    expect(read("-1 ^ 2")).toBe("-((1 ^ 2))");
    expect(read("-a * b")).toBe("(-(a) * b)");
    expect(read("2 ^ -1 * 3")).toBe("((2 ^ -1) * 3)");
    expect(read("2 -1")).toBe("(2 - 1)");
    expect(read("- - 1")).toBe("1");
    expect(read("+a")).toBe("a");
  });

  it("binds what stands behind a selector to it alone", () => {
    expect(read("a + b offset 5m * c")).toBe("(a + (b-300000 * c))");
    expect(read("-a offset 1m")).toBe("-(a-60000)");
    expect(read("a + sum(b) / c @ 10.5")).toBe("(a + (sum(b) / c@10500))");
    expect(read("a + rate(b[5m] offset -1m @ end())")).toBe("(a + rate(b[300000]--60000@end))");
    expect(read("a + max_over_time(b[1h:] @ start() offset 2m)")).toContain("b[3600000:]-120000@start");
  });

  it("reads modifiers, matching and comments", () => {
    expect(parse("a * on(x, y) group_left(z) b # why")).toMatchObject({
      matching: { on: true, labels: ["x", "y"], many: "left", include: ["z"] },
    });
    expect(parse("a * ignoring(x) group_right b")).toMatchObject({ matching: { on: false, many: "right" } });
    expect(parse("sum without (a, b,) (x)")).toMatchObject({ without: true, labels: ["a", "b"] });
    expect(parse('SUM(x) BY ("odd label")')).toMatchObject({ without: false, labels: ["odd label"] });
    expect(parse('{"my.metric", a=~"b|c", "d.e"!="f"}')).toMatchObject({
      matchers: [
        { name: "__name__", operator: "=", value: "my.metric" },
        { name: "a", operator: "=~", value: "b|c" },
        { name: "d.e", operator: "!=", value: "f" },
      ],
    });
    expect(parse("x[90] offset 1m30s")).toMatchObject({ rangeMs: 90_000, offsetMs: 90_000 });
    expect(read("sum + rate + by")).toBe("((sum + rate) + by)");
  });

  it("says where it is wrong and what was expected", () => {
    const wrong: Readonly<Record<string, string>> = {
      "": "parse error at character 1: no expression found",
      "sum(": 'parse error at character 5: unexpected end of input, expected an expression, "," or ")"',
      "rate(x[5m]": 'parse error at character 11: unexpected end of input, expected an expression, "," or ")"',
      'x{a="b"': 'parse error at character 8: unexpected end of input, expected a label matcher, "," or "}"',
      "x{a=}": 'parse error at character 5: unexpected "}", expected a matching operator and a quoted value',
      "x[5m": 'parse error at character 5: unexpected end of input, expected a duration and "]"',
      "a b": 'parse error at character 3: unexpected "b", expected an operator or the end',
      "1 + ": "parse error at character 5: unexpected end of input, expected an expression",
      "foo(x)": 'parse error at character 1: unknown function "foo"',
      "info(x)":
        "parse error at character 1: function info is not supported: it needs joins with info metrics, which are not kept apart",
      "histogram_avg(x)":
        "parse error at character 1: function histogram_avg is not supported: it works on native histograms, which are not kept",
      "limitk(1, x)": "parse error at character 1: limitk is not supported: it is experimental in Prometheus",
      "holt_winters(x[5m], 1, 1)":
        "parse error at character 1: function holt_winters is not supported: Prometheus has taken it out",
      "rate(x)": "parse error at character 6: argument 1 of rate must be a range vector, this is an instant vector",
      "rate(x[1m], 2)": "parse error at character 1: rate takes 1 arguments, 2 are given",
      "round()": "parse error at character 1: round takes at least 1 arguments, 0 are given",
      "topk(x)": "parse error at character 1: topk takes 2 arguments, 1 are given",
      "a + 'b'": "parse error at character 5: + joins scalars and instant vectors, this is a string",
      "1 == 2": "parse error at character 3: a comparison of scalars needs bool",
      "a + bool b": "parse error at character 3: bool is only allowed with a comparison",
      "a or 1": "parse error at character 3: or is not allowed with a scalar",
      "a and on(x) group_left() b": "parse error at character 3: no grouping is allowed for and",
      "a * on(x) group_left(x) b":
        'parse error at character 5: label "x" must not be both in on and in a group modifier',
      "2 * on(x) b": "parse error at character 3: labels are matched only between instant vectors",
      "(a + b)[5m]": "parse error at character 9: a range is only allowed for a selector",
      "sum(a) offset 5m": "parse error at character 8: offset must stand behind a selector or a subquery",
      "a offset 1m offset 2m": "parse error at character 13: offset is given twice",
      "a[5m] offset 1m [1m]": "parse error at character 18: a range is only allowed for a selector",
      "a offset 5m [5m]": "parse error at character 14: offset and @ stand behind the range, not before it",
      "a[0s]": "parse error at character 3: a duration must be greater than 0",
      "a[5m + 1m]": 'parse error at character 3: "5m + 1m" is no duration that is supported here',
      "a[5m:] + 1": "parse error at character 1: + joins scalars and instant vectors, this is a range vector",
      '{a=~".*"}':
        "parse error at character 1: a selector must contain at least one matcher that does not match the empty text",
      'a{__name__="b"}': "parse error at character 3: the metric's name is given twice",
      "'open": "parse error at character 1: this quoted text is not closed, or has an escape that there is not",
      '"\\q"': "parse error at character 1: this quoted text is not closed, or has an escape that there is not",
    };
    for (const [text, reason] of Object.entries(wrong)) expect([text, refusal(text)]).toEqual([text, reason]);
  });

  it("is bounded in length and depth", () => {
    expect(refusal("a".repeat(LIMITS.length + 1))).toMatch(/limit of 65536 characters/);
    for (const deep of ["(".repeat(1_000) + "1" + ")".repeat(1_000), "1" + "+1".repeat(1_000), "-".repeat(1_000) + "1"])
      expect(refusal(deep)).toMatch(/limit of 500 levels/);
    expect(read("1" + "+1".repeat(200))).toContain("+ 1)");
  });

  it("never fails but with a QueryError, whatever it says", () => {
    const words = fc.constantFrom(
      ..."a b rate sum by without on offset bool @ ( ) [ ] { } , : = =~ != + - * / ^ % == < 5m 1 .5 \"x\" 'y' inf and or start() topk #".split(
        " ",
      ),
    );
    fc.assert(
      fc.property(fc.array(words, { maxLength: 12 }), (parts) => {
        expect(typeof refusal(parts.join(" "))).toBe("string");
      }),
      { numRuns: 500 },
    );
  });

  it("may not ask for everything", () => {
    for (const text of ["{a=~'.*'}", "{a=~'b|.*?'}", "{a=~'x*[ab]?'}", "{a!~'.+'}", "{a=~''}", "{a!='x'}", "{}"])
      expect([text, refusal(text)]).toEqual([text, expect.stringMatching(/at least one matcher/) as string]);
    for (const text of ["{a=~'.+'}", "{a!~'.*'}", "{a=~'b.*'}", "{a!~'x|'}", `{a=~'${"(|)".repeat(50)}b'}`])
      expect([text, refusal(text)]).toEqual([text, "no error"]);
    expect(refusal(`{a=~"${"a*?".repeat(5_000)}+"}`)).toBe("no error");
  });

  it("is one selector where only that is wanted", () => {
    expect(parseSelector("up{a='b'}")).toHaveLength(2);
    for (const text of ["up[5m]", "up offset 1m", "sum(up)", "1"])
      expect(() => parseSelector(text)).toThrow(QueryError);
  });
});

describe("literals", () => {
  it("are numbers", () => {
    expect(["1", ".5", "1e3", "0x1F", "1_000", "Inf", "+inf", "-Inf"].map(number)).toEqual([
      1,
      0.5,
      1000,
      31,
      1000,
      Infinity,
      Infinity,
      -Infinity,
    ]);
    expect(number("nan")).toBeNaN();
    expect(["", "1x", "e5", "--1"].map(number)).toEqual([null, null, null, null]);
  });

  it("are durations, largest unit first", () => {
    expect(["1h30m", "1y", "2w3d", "500ms", "1m1ms"].map(duration)).toEqual([
      5_400_000, 31_536_000_000, 1_468_800_000, 500, 60_001,
    ]);
    expect(["", "5", "1m1h", "m", "1.5h"].map(duration)).toEqual([null, null, null, null, null]);
  });

  it("are texts with Go's escapes", () => {
    expect(unquote('"a\\"b\\\\\\n\\x41\\101\\u00e9\\U0001F600"')).toBe('a"b\\\nAAé😀');
    expect(unquote("'it\\'s'")).toBe("it's");
    expect(unquote("`a\\n`")).toBe("a\\n");
    expect(unquote('"\\xc3\\xa9"')).toBe("é");
    for (const text of ['"', '"a', '"a\\"', '"\\z"', '"\\400"', "a", '"\\U99999999"']) expect(unquote(text)).toBeNull();
  });
});
