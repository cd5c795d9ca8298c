/**
 * The evaluation over samples in memory, where the oracle cannot look: exact edges of windows (Prometheus 3: open to the
 * left), staleness, matching errors, names of results, bounds. Values at whole seconds, worked out by hand.
 */
import { describe, expect, it } from "vitest";
import { LIMITS } from "../../../runtime/promql/QueryError.ts";
import { MemorySource, type Samples } from "./MemorySource.ts";

const every = (step: number, values: readonly (number | null)[]): Samples =>
  Object.fromEntries(values.map((value, i) => [i * step, value]));

const steady = new MemorySource()
  .add("c_total", { job: "a" }, every(10, [0, 10, 20, 30, 5, 15, 25]))
  .add("g", { job: "a" }, every(10, [1, 3, 2, 4, 4, 0, 8]))
  .add("g", { job: "b" }, every(10, [2, 2, 2, 2, 2, 2, 2]));

describe("windows", () => {
  it("are open to the left and closed to the right", async () => {
    expect(await steady.range('count_over_time(g{job="a"}[20s])', 20, 40, 10)).toEqual({ '{job="a"}': [2, 2, 2] });
    expect(await steady.range('count_over_time(g{job="a"}[21s])', 20, 40, 10)).toEqual({ '{job="a"}': [3, 3, 3] });
    expect(await steady.at('sum_over_time(g{job="a"}[10s])', 20)).toEqual([['{job="a"}', 2]]);
    expect(await steady.at('sum_over_time(g{job="a"}[10s] offset 10s)', 20)).toEqual([['{job="a"}', 3]]);
  });

  it("of a selector reach back five minutes, without the far end", async () => {
    const one = new MemorySource().add("x", {}, { 100: 7 });
    expect(await one.range("x", 90, 420, 110)).toEqual({ "x{}": [null, 7, 7, null] });
    expect(await one.at("x", 399.999)).toEqual([["x{}", 7]]);
    expect(await one.at("x", 400)).toEqual([]);
  });

  it("of a subquery hold its steps that are multiples, without the far end", async () => {
    expect(await steady.at('count_over_time(g{job="a"}[30s:10s])', 60)).toEqual([['{job="a"}', 3]]);
    expect(await steady.at('count_over_time(g{job="a"}[30s:10s])', 65)).toEqual([['{job="a"}', 3]]);
    expect(await steady.at("max_over_time(sum(g)[1m:10s])", 60)).toEqual([["{}", 10]]);
  });
});

describe("a stale marker", () => {
  const ended = new MemorySource().add("x", { a: "1" }, { 0: 1, 10: 2, 20: null, 40: 4, 50: null });

  it("ends a series at once, until there is a new sample", async () => {
    expect(await ended.range("x", 0, 60, 10)).toEqual({ 'x{a="1"}': [1, 2, null, null, 4, null, null] });
    expect(await ended.range("absent(x{a='1'})", 0, 60, 20)).toEqual({ '{a="1"}': [null, 1, null, 1] });
    expect(await ended.range("timestamp(x)", 0, 60, 20)).toEqual({ '{a="1"}': [0, null, 40, null] });
  });

  it("is no sample of a range", async () => {
    expect(await ended.at("count_over_time(x[1m])", 50)).toEqual([['{a="1"}', 3]]);
    expect(await ended.at("last_over_time(x[1m])", 60)).toEqual([['x{a="1"}', 4]]);
  });
});

describe("range functions", () => {
  it("see a counter through its reset, and carry it on to the window's ends", async () => {
    // (0 s, 60 s]: 10 20 30 5 15 25 grew by 15 + 30 in 50 s; half a step from the start to 10 s would be 10 s, less than 11
    expect(await steady.at("increase(c_total[1m])", 60)).toEqual([['{job="a"}', 45 * (60 / 50)]]);
    expect(await steady.at("rate(c_total[1m])", 60)).toEqual([['{job="a"}', (45 * (60 / 50)) / 60]]);
    expect(await steady.at("irate(c_total[1m])", 45)).toEqual([['{job="a"}', 0.5]]);
    expect(await steady.at("delta(g{job='a'}[1m])", 60)).toEqual([['{job="a"}', 5 * (60 / 50)]]);
    expect(await steady.at("idelta(g[1m])", 60)).toEqual([
      ['{job="a"}', 8],
      ['{job="b"}', 0],
    ]);
    expect(await steady.at("resets(c_total[1m])", 60)).toEqual([['{job="a"}', 1]]);
    expect(await steady.at("changes(g[1m])", 60)).toEqual([
      ['{job="a"}', 4],
      ['{job="b"}', 0],
    ]);
  });

  it("carry a counter on by half a step at most where its samples begin well within the window", async () => {
    const young = new MemorySource().add("c", {}, { 100: 3, 110: 4, 120: 5 });
    expect(await young.at("increase(c[1m])", 120)).toEqual([["{}", 2 * (25 / 20)]]);
    const fresh = new MemorySource().add("c", {}, { 100: 0, 110: 10, 120: 20 });
    expect(await fresh.at("increase(c[1m])", 120)).toEqual([["{}", 20]]);
  });

  it("need two samples for a slope", async () => {
    for (const fn of ["rate", "increase", "delta", "irate", "idelta", "deriv"])
      expect(await steady.at(`${fn}(g{job="a"}[10s])`, 60)).toEqual([]);
    expect(await steady.at('predict_linear(g{job="a"}[10s], 60)', 60)).toEqual([]);
    expect(await steady.at('changes(g{job="a"}[10s])', 60)).toEqual([['{job="a"}', 0]]);
  });

  it("fit a line", async () => {
    const line = new MemorySource().add("x", {}, every(10, [3, 5, 7, 9]));
    expect((await line.at("deriv(x[1m])", 30))[0]?.[1]).toBeCloseTo(0.2, 12);
    expect((await line.at("predict_linear(x[1m], 50)", 40))[0]?.[1]).toBeCloseTo(3 + 0.2 * 90, 10);
    expect((await line.at("predict_linear(x[1m] offset 10s, 50)", 40))[0]?.[1]).toBeCloseTo(3 + 0.2 * 90, 10);
    const flat = new MemorySource().add("x", {}, every(10, [Infinity, Infinity]));
    expect(await flat.at("deriv(x[1m])", 30)).toEqual([["{}", Number.NaN]]);
  });

  it("fold a window's values", async () => {
    const odd = new MemorySource().add("x", {}, every(10, [4, Number.NaN, 1, 3]));
    const value = async (query: string): Promise<number | undefined> => (await odd.at(query, 30))[0]?.[1];
    expect(await value("min_over_time(x[1m])")).toBe(1);
    expect(await value("max_over_time(x[1m])")).toBe(4);
    expect(await value("sum_over_time(x[1m])")).toBeNaN();
    expect(await value("count_over_time(x[1m])")).toBe(4);
    expect(await value("avg_over_time(x[15s])")).toBe(2);
    expect(await value("stdvar_over_time(x[15s])")).toBe(1);
    expect(await value("stddev_over_time(x[15s])")).toBe(1);
    expect(await value("quantile_over_time(0.5, x[15s])")).toBe(2);
    expect(await value("present_over_time(x[15s])")).toBe(1);
    expect(await value("last_over_time(x[1m])")).toBe(3);
    expect(await value("absent_over_time(x[1m])")).toBeUndefined();
    expect(await odd.at('absent_over_time(y{a="b"}[1m])', 30)).toEqual([['{a="b"}', 1]]);
    const huge = new MemorySource().add("x", {}, every(10, [1e308, 1.5e308]));
    expect(await huge.at("avg_over_time(x[1m])", 30)).toEqual([["{}", 1.25e308]]);
  });
});

describe("names and labels", () => {
  it("lose the metric's name where the value is another", async () => {
    for (const query of ["g + 1", "-g", "abs(g)", "g == bool 2", "g atan2 1", "round(g)", "rate(g[1m])", "g * g"])
      expect((await steady.at(query, 60)).map(([labels]) => labels)).toEqual(['{job="a"}', '{job="b"}']);
    for (const query of ["g", "g > -1", "+g", "sort(g)", "topk(2, g)", "last_over_time(g[1m])", "g and g", "-1 < g"])
      expect((await steady.at(query, 60)).map(([labels]) => labels).toSorted()).toEqual(['g{job="a"}', 'g{job="b"}']);
  });

  it("are rewritten", async () => {
    const at = async (query: string) => (await steady.at(query, 60)).map(([labels]) => labels);
    expect(await at('label_replace(g{job="a"}, "x", "$1-${1}$$$2", "job", "(.*)")')).toEqual(['g{job="a", x="a-a$"}']);
    expect(await at('label_replace(g{job="a"}, "x", "<$name>", "job", "(?P<name>.)")')).toEqual([
      'g{job="a", x="<a>"}',
    ]);
    expect(await at('label_replace(g{job="a"}, "job", "", "job", ".*")')).toEqual(["g{}"]);
    expect(await at('label_join(g{job="a"}, "x", "/", "job", "none", "job")')).toEqual(['g{job="a", x="a//a"}']);
    expect(await at("count_values('v', g)")).toEqual(['{v="8"}', '{v="2"}']);
    await expect(at('label_replace(g, "job", "x", "job", ".*")')).rejects.toThrow(/same labelset: g\{job="x"\}/);
    await expect(at('label_replace(g, "a-b", "x", "job", ".*")')).rejects.toThrow(/invalid label name "a-b"/);
  });

  it("make one series of two that take turns, and an error of two at once", async () => {
    const turns = new MemorySource().add("x", { a: "1" }, { 0: 1, 10: null }).add("y", { a: "1" }, { 10: 2 });
    expect(await turns.range('{__name__=~"x|y"} * 1', 0, 10, 10)).toEqual({ '{a="1"}': [1, 2] });
    const both = new MemorySource().add("x", { a: "1" }, { 0: 1 }).add("y", { a: "1" }, { 0: 2 });
    await expect(both.at('{__name__=~"x|y"} * 1')).rejects.toThrow(/same labelset/);
  });
});

describe("operators between vectors", () => {
  const matched = new MemorySource()
    .add("req", { job: "a", code: "200" }, { 0: 6 })
    .add("req", { job: "a", code: "500" }, { 0: 2 })
    .add("req", { job: "b", code: "200" }, { 0: 9 })
    .add("limit", { job: "a", team: "x" }, { 0: 2 })
    .add("limit", { job: "b", team: "y" }, { 0: 3 });

  it("match one to one, and many to one where it is said", async () => {
    expect(await matched.at('req{code="200"} / on(job) limit')).toEqual([
      ['{job="a"}', 3],
      ['{job="b"}', 3],
    ]);
    const many = [
      ['{code="200", job="a", team="x"}', 3],
      ['{code="500", job="a", team="x"}', 1],
      ['{code="200", job="b", team="y"}', 3],
    ];
    expect(await matched.at("req / on(job) group_left(team) limit")).toEqual(many);
    expect((await matched.at("limit * on(job) group_right(team) req")).map(([labels]) => labels)).toEqual(
      many.map(([labels]) => labels),
    );
    expect(await matched.at("limit < on(job) group_right() req")).toEqual([
      ['req{code="200", job="a"}', 2],
      ['req{code="200", job="b"}', 3],
    ]);
  });

  it("refuse what is not unique, in Prometheus' words", async () => {
    await expect(matched.at("limit / on(job) req")).rejects.toThrow(
      /duplicate series for the match group \{job="a"\} on the right hand-side.*many-to-many matching not allowed/,
    );
    await expect(matched.at("req / on(job) limit")).rejects.toThrow(
      "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
    );
    await expect(matched.at("req * on(job) group_right() req")).rejects.toThrow(/on the left hand-side/);
    await expect(matched.at("req / on(job) group_left(code) limit")).rejects.toThrow(
      /grouping labels must ensure unique matches/,
    );
    // a comparison that keeps one of them only is no conflict
    expect(await matched.at("req > on(job) limit + 3")).toEqual([
      ['{job="a"}', 6],
      ['{job="b"}', 9],
    ]);
    expect(await matched.at("req{job='a'} > on(job) (limit + 1)")).toEqual([['{job="a"}', 6]]);
  });

  it("are sets", async () => {
    const labels = async (query: string) => (await matched.at(query)).map(([one]) => one);
    expect(await labels('req and on(job) limit{team="x"}')).toHaveLength(2);
    expect(await labels('req unless on(job) limit{team="x"}')).toEqual(['req{code="200", job="b"}']);
    expect(await labels('limit{team="x"} or on(job) req')).toEqual([
      'limit{job="a", team="x"}',
      'req{code="200", job="b"}',
    ]);
    expect(await labels("limit or vector(1)")).toContain("{}");
  });

  it("compare and compute as IEEE 754 says", async () => {
    const scalar = async (query: string): Promise<number | undefined> => (await matched.at(query))[0]?.[1];
    expect(await scalar("7 % -4")).toBe(3);
    expect(await scalar("-7 % 4")).toBe(-3);
    expect(await scalar("1 ^ NaN")).toBe(1);
    expect(await scalar("-(1) ^ Inf")).toBe(-1);
    expect(await scalar("0 / 0 == bool 0 / 0")).toBe(0);
    expect(await scalar("1h30m")).toBe(5400);
    expect(await scalar("2 > bool 1")).toBe(1);
  });
});

describe("aggregations", () => {
  const some = new MemorySource();
  [3, 1, Number.NaN, 2, 5].forEach((value, i) => some.add("x", { i: String(i), half: String(i % 2) }, { 0: value }));

  it("choose the k first of each group, NaN last", async () => {
    expect((await some.at("topk(2, x)")).map(([, value]) => value)).toEqual([5, 3]);
    expect((await some.at("bottomk(9, x)")).map(([, value]) => value)).toEqual([1, 2, 3, 5, Number.NaN]);
    expect((await some.at("topk by (half) (1, x)")).map(([, value]) => value)).toEqual([5, 2]);
    expect(await some.at("topk(0, x)")).toEqual([]);
    await expect(some.at("topk(NaN, x)")).rejects.toThrow(/NaN/);
    const many = new MemorySource();
    for (let i = 0; i < 200; i++) many.add("x", { i: String(i) }, { 0: (i * 37) % 200 });
    for (const k of [3, 64, 65, 150])
      expect((await many.at(`topk(${k}, x)`)).map(([, value]) => value)).toEqual(
        Array.from({ length: k }, (_, i) => 199 - i),
      );
  });

  it("fold groups", async () => {
    expect(await some.at("sum by (half) (x > 0)")).toEqual([
      ['{half="0"}', 8],
      ['{half="1"}', 3],
    ]);
    expect(await some.at("min(x)")).toEqual([["{}", 1]]);
    expect(await some.at("max without (i) (x)")).toEqual([
      ['{half="0"}', 5],
      ['{half="1"}', 2],
    ]);
    expect(await some.at("count(x)")).toEqual([["{}", 5]]);
    expect(await some.at("group(x)")).toEqual([["{}", 1]]);
    expect(await some.at("quantile(0.5, x > 0)")).toEqual([["{}", 2.5]]);
    expect(await some.at("stdvar(x > 1)")).toEqual([["{}", expect.closeTo(14 / 9, 12)]]);
    expect(await some.at('count_values("half", x > 2)')).toEqual([
      ['{half="3"}', 1],
      ['{half="5"}', 1],
    ]);
  });
});

describe("histogram_quantile", () => {
  const buckets = (counts: Readonly<Record<string, number>>): MemorySource => {
    const out = new MemorySource();
    for (const [le, count] of Object.entries(counts)) out.add("b", { le }, { 0: count });
    return out;
  };
  const quantile = async (source: MemorySource, q: string): Promise<number | undefined> =>
    (await source.at(`histogram_quantile(${q}, b)`))[0]?.[1];

  it("goes linearly through a bucket", async () => {
    const plain = buckets({ "1": 10, "2": 20, "4": 40, "+Inf": 40 });
    expect(await quantile(plain, "0.25")).toBe(1);
    expect(await quantile(plain, "0.5")).toBe(2);
    expect(await quantile(plain, "0.75")).toBe(3);
    expect(await quantile(plain, "-0.1")).toBe(-Infinity);
    expect(await quantile(plain, "1.1")).toBe(Infinity);
    expect(await quantile(buckets({ "1": 10, "+Inf": 20 }), "0.99")).toBe(1);
    expect(await quantile(buckets({ "-1": 10, "+Inf": 20 }), "0.1")).toBe(-1);
  });

  it("has no value without observations, or without the last bucket", async () => {
    expect(await quantile(buckets({ "1": 0, "+Inf": 0 }), "0.5")).toBeNaN();
    expect(await quantile(buckets({ "1": 1, "2": 2 }), "0.5")).toBeNaN();
    expect(await quantile(buckets({ "+Inf": 2 }), "0.5")).toBeNaN();
    expect(await quantile(buckets({ x: 2 }), "0.5")).toBeUndefined();
  });

  it("mends counts that fall, and adds up a bound that is written in two ways", async () => {
    expect(await quantile(buckets({ "1": 10, "2": 9, "4": 20, "+Inf": 20 }), "0.5")).toBe(1);
    expect(await quantile(buckets({ "1": 5, "1.0": 5, "2": 20, "+Inf": 20 }), "0.5")).toBe(1);
  });
});

describe("@", () => {
  it("pins what it stands behind, and nothing else", async () => {
    expect(await steady.range("g{job='a'} @ 30 + time() * 0", 0, 60, 30)).toEqual({ '{job="a"}': [4, 4, 4] });
    expect(await steady.range("g{job='a'} @ start()", 10, 30, 10)).toEqual({ 'g{job="a"}': [3, 3, 3] });
    expect(await steady.range("g{job='a'} @ end()", 10, 34, 10)).toEqual({ 'g{job="a"}': [4, 4, 4] });
    expect(await steady.range("timestamp(g{job='a'} @ 25)", 0, 30, 30)).toEqual({ '{job="a"}': [20, 20] });
    const line = new MemorySource().add("x", {}, every(10, [0, 1, 2, 3]));
    const values = (await line.range("predict_linear(x[1m] @ 30, 0)", 30, 60, 30))["{}"];
    expect(values?.[0]).toBeCloseTo(3, 10);
    expect(values?.[1]).toBeCloseTo(6, 10);
  });
});

describe("dates", () => {
  it("are read in UTC", async () => {
    const at = async (query: string): Promise<number | undefined> => (await steady.at(query, 60))[0]?.[1];
    const leap = Date.UTC(2024, 1, 29, 23, 59, 58) / 1000;
    const parts = {
      minute: 59,
      hour: 23,
      month: 2,
      year: 2024,
      day_of_week: 4,
      day_of_month: 29,
      day_of_year: 60,
      days_in_month: 29,
    };
    for (const [name, value] of Object.entries(parts))
      expect([name, await at(`${name}(vector(${leap}))`)]).toEqual([name, value]);
    expect(await at("year(vector(-1))")).toBe(1969);
    expect(await at("month(vector(NaN))")).toBeNaN();
    expect(await at("minute()")).toBe(1);
  });
});

describe("a query", () => {
  it("that takes too much is refused, and says by which limit", async () => {
    await expect(steady.at("max_over_time(g[1d:1s])", 60)).rejects.toThrow(
      `the limit of ${LIMITS.subqueryPoints} steps of a subquery is exceeded (86400)`,
    );
    const source = new MemorySource();
    for (let i = 0; i < 500; i++) source.add("x", { i: String(i) }, { 0: 1 });
    for (const query of ["x @ end()", "x @ start() * 2", 'count_values("v", x * scalar(vector(time())))'])
      await expect(source.range(query, 0, 10_000, 1)).rejects.toThrow(
        `the limit of ${LIMITS.samples} samples of a query`,
      );
    await expect(source.range('count_values("v", vector(time()))', 0, 10_000, 1)).rejects.toThrow(/4000000 samples/);
    await expect(source.range("x", 0, 10_000, 1)).rejects.toThrow(`the limit of ${LIMITS.samples} samples of a query`);
  });

  it("that asks for samples as a value is refused", async () => {
    await expect(steady.at("g[1m]", 60)).rejects.toThrow(/range vector/);
  });
});
