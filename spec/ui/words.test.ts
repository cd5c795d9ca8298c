/** Names, figures, search and order as people read them. */
import { describe, expect, it } from "vitest";
import type { ActorView } from "../../schemas/wire/page.ts";
import {
  formatChange,
  formatCores,
  formatCount,
  formatObjective,
  formatPercent,
  formatValue,
  formatWhen,
} from "../../ui/format.ts";
import { makeOrderKeeper } from "../../ui/kit/held-order.ts";
import { sortFrom, sortTo } from "../../ui/kit/sort-search.ts";
import { backOffMs } from "../../ui/live/back-off.ts";
import { fromSplat, nameOf, partsOf, toSplat } from "../../ui/names.ts";
import { columnsOf, isHistory } from "../../ui/services/history.ts";
import { rangeOf } from "../../ui/services/ranges.ts";
import { rank, type Goal } from "../../ui/shell/rank.ts";
import { pathsUnder, treeOf } from "../../ui/console/tree.ts";

const goal = (group: Goal["group"], title: string, detail = ""): Goal => ({
  key: `${group}${title}`,
  group,
  title,
  detail,
  path: "/",
});

const rows = (...keys: string[]): ReadonlyMap<string, unknown> => new Map(keys.map((key) => [key, null]));

const actor = (path: string, parent: string | null, over: Partial<ActorView> = {}): readonly [string, ActorView] => [
  path,
  {
    path,
    kind: "k",
    parent,
    node: "a",
    state: "idle",
    startedAt: 0,
    mailbox: 0,
    mailboxBound: 1,
    mailboxWaitP95Ms: 0,
    handleP95Ms: 0,
    inPerSecond: 0,
    outPerSecond: 0,
    handled: 0,
    merged: 0,
    shed: 0,
    restarts: 0,
    stateBytes: 0,
    lastError: null,
    deadLetters: 0,
    ...over,
  },
];

describe("figures", () => {
  it("tell a small share from none, and an objective in all its digits", () => {
    expect(formatPercent(0)).toBe("0 %");
    expect(formatPercent(0.0001)).toBe("<0.1 %");
    expect(formatPercent(0.123)).toBe("12 %");
    expect(formatObjective(0.9995)).toBe("99.95 %");
  });

  it("follow their unit, and say so when there is none", () => {
    expect(formatValue(176, "ms")).toBe("176 ms");
    expect(formatValue(71, "percent")).toBe("71 %");
    expect(formatValue(0.25, "cores")).toBe("0.25 cores");
    expect(formatValue(1536, "bytes")).toBe("1.5 KiB");
    expect(formatValue(null, "count")).toBe("–");
    expect(formatChange(-3, "per_second")).toBe("−3.0/s");
    expect(formatCount(1_234_567)).toBe("1,234,567");
    expect(formatCores(0.001)).toBe("<0.01");
  });

  it("give the day only when it is another", () => {
    const noon = new Date(2026, 4, 3, 12, 0, 0).getTime();
    expect(formatWhen(noon, noon + 60_000)).toBe("12:00:00");
    expect(formatWhen(noon, noon + 86_400_000)).toBe("2026-05-03 12:00:00");
  });
});

describe("names in the address", () => {
  it("come back as they were, also with a slash in front", () => {
    for (const path of ["/server/topology", "demo/shop/Container/front", "a"])
      expect(fromSplat(toSplat(path))).toBe(path);
    expect(toSplat("/server")).toBe("~/server");
  });

  it("show the parts of an id, and an odd id whole", () => {
    expect(partsOf("demo/_/External/api.example")).toEqual({
      cluster: "demo",
      namespace: "",
      kind: "External",
      name: "api.example",
    });
    expect(nameOf("strange")).toBe("strange");
  });

  it("keep the sort order", () => {
    const otherwise = { column: "name", down: false };
    expect(sortFrom(sortTo({ column: "p95", down: true }), otherwise)).toEqual({ column: "p95", down: true });
    expect(sortFrom(undefined, otherwise)).toBe(otherwise);
    expect(rangeOf("nonsense").id).toBe("5m");
  });
});

describe("go-to", () => {
  const goals = [
    goal("Views", "Incidents"),
    goal("Services", "catalog"),
    goal("Services", "old-catalog"),
    goal("Incidents", "catalog is slow", "open"),
    goal("Agents", "node-1"),
  ];

  it("puts the best fit first and needs every word", () => {
    expect(rank(goals, "cat", 10).map((each) => each.title)).toEqual(["catalog", "old-catalog", "catalog is slow"]);
    expect(rank(goals, "slow cat", 10).map((each) => each.title)).toEqual(["catalog is slow"]);
    expect(rank(goals, "nothing", 10)).toEqual([]);
  });

  it("offers the views, then what goes on, before anything is typed", () => {
    expect(rank(goals, "", 2).map((each) => each.title)).toEqual(["Incidents", "catalog is slow"]);
  });
});

describe("rows under the reader's eyes", () => {
  it("keep their order while held; new ones wait and are counted until released", () => {
    const keeper = makeOrderKeeper(() => 0);
    expect(keeper.next(rows("a", "b"), "x", false, () => ["a", "b"])).toEqual({ order: ["a", "b"], fresh: 0 });
    expect(keeper.next(rows("a", "b", "c"), "x", true, () => ["c", "b", "a"])).toEqual({ order: ["a", "b"], fresh: 1 });
    expect(keeper.next(rows("b", "c"), "x", true, () => ["c", "b"])).toEqual({ order: ["b"], fresh: 1 });
    keeper.release();
    expect(keeper.next(rows("b", "c"), "x", true, () => ["c", "b"])).toEqual({ order: ["c", "b"], fresh: 0 });
  });

  it("are sorted anew after three seconds, at once when asked or when rows come", () => {
    let now = 0;
    const keeper = makeOrderKeeper(() => now);
    keeper.next(rows("a", "b"), "x", false, () => ["a", "b"]);
    expect(keeper.next(rows("a", "b"), "x", false, () => ["b", "a"]).order).toEqual(["a", "b"]);
    expect(keeper.next(rows("a", "b"), "y", true, () => ["b", "a"]).order).toEqual(["b", "a"]);
    now = 3000;
    expect(keeper.next(rows("a", "b"), "y", false, () => ["a", "b"]).order).toEqual(["a", "b"]);
    expect(keeper.next(rows("a", "b", "c"), "y", false, () => ["c", "a", "b"]).order).toEqual(["c", "a", "b"]);
  });
});

describe("actor tree", () => {
  it("sums restarts and trouble up to the root, and shows orphans at the top", () => {
    const tree = treeOf(
      new Map([
        actor("/s", null),
        actor("/s/a", "/s", { restarts: 2 }),
        actor("/s/a/b", "/s/a", { state: "quarantined", restarts: 1 }),
        actor("/lost", "/gone"),
      ]),
    );
    expect(tree.map((branch) => [branch.actor.path, branch.size, branch.restarts, branch.troubled])).toEqual([
      ["/lost", 1, 0, 0],
      ["/s", 3, 3, 1],
    ]);
    expect([...pathsUnder(tree, "/s/a")]).toEqual(["/s/a", "/s/a/b"]);
    expect(pathsUnder(tree, "/gone").size).toBe(0);
  });
});

describe("coming back", () => {
  it("waits longer each time, up to ten seconds, never in step with others", () => {
    expect(backOffMs(1, 0)).toBe(125);
    expect(backOffMs(1, 1)).toBe(250);
    expect(backOffMs(50, 1)).toBe(10_000);
    expect(backOffMs(50, 0)).toBe(5_000);
  });
});

const point = (ts: number) => ({ ts, requests: 2, errors: 0, p50: 1, p95: null, p99: null, cpu: 0.5, memory: 10 });

describe("history", () => {
  it("becomes columns, with a hole where points are missing", () => {
    const columns = columnsOf([point(30_000), point(10_000), point(20_000), point(60_000)]);
    expect(columns.time).toEqual([10_000, 20_000, 30_000, 40_000, 60_000]);
    expect(columns.requests).toEqual([2, 2, 2, null, 2]);
    expect(columns.p95Ms).toEqual([null, null, null, null, null]);
    expect(columnsOf([]).time).toEqual([]);
    expect(columnsOf([point(5)]).memoryBytes).toEqual([10]);
  });

  it("is refused when it is something else", () => {
    expect(isHistory({ points: [point(1)] })).toBe(true);
    expect(isHistory({ points: [{ ts: 1 }] })).toBe(false);
    expect(isHistory({ message: "no store" })).toBe(false);
  });
});
