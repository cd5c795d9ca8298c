/** The map's arrangement: readable (nobody covers anybody, calls run rightwards) and above all steady. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CARD_H, CARD_W, EMPTY, extend, layOut, type Placement } from "../../ui/map/layout.ts";
import type { Graph } from "../../ui/map/graph.ts";
import { crossings, orderColumns } from "../../ui/map/ordering.ts";
import { settle } from "../../ui/map/spread.ts";

const graphs = (most: number): fc.Arbitrary<Graph> =>
  fc.integer({ min: 1, max: most }).chain((size) => {
    const name = fc.integer({ min: 0, max: size - 1 }).map((n) => `s${n}`);
    return fc
      .array(fc.record({ from: name, to: name }), { maxLength: size * 3 })
      .map((edges) => ({ nodes: Array.from({ length: size }, (_, n) => `s${n}`), edges }));
  });

const order = (name: string): number => Number(name.slice(1));

const overlaps = (placed: Placement): readonly string[] => {
  const all = [...placed.spots];
  return all.flatMap(([a, one], n) =>
    all
      .slice(n + 1)
      .filter(([, two]) => Math.abs(one.x - two.x) < CARD_W && Math.abs(one.y - two.y) < CARD_H - 0.001)
      .map(([b]) => `${a} ${b}`),
  );
};

describe("layOut", () => {
  it("places every service once, with no card over another, whatever the calls", () => {
    fc.assert(
      fc.property(graphs(24), (graph) => {
        const placed = layOut(graph);
        expect([...placed.spots.keys()].sort()).toEqual([...graph.nodes].sort());
        expect(overlaps(placed)).toEqual([]);
      }),
    );
  });

  it("puts callers left of what they call, where no circle forbids it", () => {
    fc.assert(
      fc.property(graphs(24), ({ nodes, edges }) => {
        const acyclic = edges.filter(({ from, to }) => order(from) < order(to));
        const { spots } = layOut({ nodes, edges: acyclic });
        for (const { from, to } of acyclic) expect(spots.get(from)?.x).toBeLessThan(spots.get(to)?.x ?? 0);
      }),
    );
  });

  it("arranges the same services and calls the same way, in whatever order they arrive", () => {
    fc.assert(
      fc.property(graphs(16), (graph) => {
        const shuffled = { nodes: graph.nodes.toReversed(), edges: graph.edges.toReversed() };
        expect(layOut(shuffled)).toEqual(layOut(graph));
      }),
    );
  });

  it("leads a line that passes a column between the cards of that column", () => {
    const { spots, bends } = layOut({
      nodes: ["a", "b", "c"],
      edges: [
        { from: "a", to: "b" },
        { from: "b", to: "c" },
        { from: "a", to: "c" },
      ],
    });
    const [bend] = bends.get("a>c") ?? [];
    expect(bend?.x).toBe(spots.get("b")?.x);
    expect(Math.abs((bend?.y ?? 0) - (spots.get("b")?.y ?? 0))).toBeGreaterThanOrEqual(CARD_H / 2);
  });

  it("survives circles, self-calls and a chain of 20,000 services", () => {
    const circle = layOut({
      nodes: ["a", "b"],
      edges: [
        { from: "a", to: "b" },
        { from: "b", to: "a" },
        { from: "a", to: "a" },
      ],
    });
    expect(circle.spots.size).toBe(2);
    const nodes = Array.from({ length: 20_000 }, (_, n) => `n${String(n).padStart(5, "0")}`);
    const edges = nodes.slice(1).map((to, n) => ({ from: nodes[n] ?? "", to }));
    expect(layOut({ nodes, edges }).spots.get("n19999")?.x).toBeGreaterThan(19_000 * CARD_W);
  });
});

describe("extend", () => {
  it("never moves a service that has a place, and covers nobody with a new one", () => {
    fc.assert(
      fc.property(graphs(20), fc.integer({ min: 0, max: 20 }), (graph, known) => {
        const before = graph.nodes.slice(0, known);
        const first = extend(EMPTY, { nodes: before, edges: graph.edges });
        const after = extend(first, graph);
        for (const [name, spot] of first.spots) expect(after.spots.get(name)).toEqual(spot);
        expect([...after.spots.keys()].sort()).toEqual([...graph.nodes].sort());
        expect(overlaps(after)).toEqual([]);
      }),
    );
  });

  it("puts a new callee right of its caller, and gives a service that returns its old place", () => {
    const first = layOut({ nodes: ["a", "b"], edges: [{ from: "a", to: "b" }] });
    const grown = extend(first, { nodes: ["a", "b", "new"], edges: [{ from: "b", to: "new" }] });
    expect(grown.spots.get("new")?.x).toBeGreaterThan((grown.spots.get("b")?.x ?? 0) + CARD_W);
    const without = extend(grown, { nodes: ["a", "b"], edges: [] });
    expect(extend(without, { nodes: ["a", "b", "new"], edges: [] }).spots.get("new")).toEqual(grown.spots.get("new"));
  });
});

describe("order and heights", () => {
  it("counts crossings and removes those that need not be", () => {
    const columns = [
      ["a", "b", "c"],
      ["x", "y", "z"],
    ];
    const links = [
      { from: "a", to: "z" },
      { from: "b", to: "y" },
      { from: "c", to: "x" },
    ];
    expect(crossings(columns, links)).toBe(3);
    expect(crossings(orderColumns(columns, links), links)).toBe(0);
  });

  it("keeps order and distances, and gives everybody the wished height when there is room", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -500, max: 500 }), { minLength: 1, maxLength: 30 }), (wanted) => {
        const at = settle(wanted, Array<number>(wanted.length - 1).fill(10));
        for (let n = 1; n < at.length; n++) expect((at[n] ?? 0) - (at[n - 1] ?? 0)).toBeGreaterThanOrEqual(10 - 1e-6);
      }),
    );
    expect(settle([0, 40, 90], [10, 10])).toEqual([0, 40, 90]);
  });
});
