/**
 * Where services stand on the map: columns by the direction of calls, callers left of what they call. Pure.
 * `layOut` makes a whole new arrangement (same graph, same arrangement); `extend` adds what is new without moving
 * anything that has a place. Lines over several columns get a bend in each column between; lines to one target share it.
 */
import { columnsOf } from "./columns.ts";
import type { Graph } from "./graph.ts";
import { addTo } from "./multimap.ts";
import { orderColumns } from "./ordering.ts";
import { spread } from "./spread.ts";

export interface Spot {
  /** centre of the card */
  readonly x: number;
  readonly y: number;
}

export interface Placement {
  readonly spots: ReadonlyMap<string, Spot>;
  /** by "from>to": the points that a line passes through, in the direction of the call */
  readonly bends: ReadonlyMap<string, readonly Spot[]>;
  /** distance of neighbours in a column: generous while there are few */
  readonly row: number;
  /** distance of columns */
  readonly column: number;
}

export const CARD_W = 176;
export const CARD_H = 50;
/** room between columns: for labels while there are few columns */
const GAP_WIDE = 116;
const GAP_NARROW = 84;
const ROW_NEAR = CARD_H + 14;
const BEND = 18;

export const EMPTY: Placement = { spots: new Map(), bends: new Map(), row: ROW_NEAR, column: CARD_W + GAP_WIDE };

export const edgeKey = (from: string, to: string): string => `${from}>${to}`;

const clean = (graph: Graph): Graph => {
  const nodes = [...new Set(graph.nodes)].sort();
  const known = new Set(nodes);
  const seen = new Set<string>();
  const edges = graph.edges
    .filter(({ from, to }) => {
      const key = edgeKey(from, to);
      if (from === to || !known.has(from) || !known.has(to) || seen.has(key)) return false;
      seen.add(key);
      return true;
    })
    .sort((a, b) => (a.from === b.from ? (a.to < b.to ? -1 : 1) : a.from < b.from ? -1 : 1));
  return { nodes, edges };
};

export const layOut = (input: Graph): Placement => {
  const graph = clean(input);
  const column = columnsOf(graph);
  // items of a column: services, and one bend for all lines that pass it towards the same target
  const columns: string[][] = [];
  const links: { from: string; to: string }[] = [];
  const routes = new Map<string, string[]>();
  const bendNames = new Set<string>();
  const into = (index: number, item: string): void => {
    (columns[index] ??= []).push(item);
  };
  for (const node of graph.nodes) into(column.get(node) ?? 0, node);
  const linked = new Set<string>();
  for (const { from, to } of graph.edges) {
    const start = column.get(from) ?? 0;
    const end = column.get(to) ?? 0;
    const route: string[] = [];
    // a line that goes back bundles on its source's side instead, so both directions stay apart
    const [left, right, owner] = start < end ? [start, end, to] : [end, start, from];
    for (let index = left + 1; index < right; index++) {
      const name = `bend ${index} ${owner}`;
      if (!bendNames.has(name)) {
        bendNames.add(name);
        into(index, name);
      }
      route.push(name);
    }
    if (start !== end) {
      const chain = start < end ? [from, ...route, to] : [to, ...route, from];
      for (let n = 1; n < chain.length; n++) {
        const [a, b] = [chain[n - 1] ?? "", chain[n] ?? ""];
        if (linked.has(edgeKey(a, b))) continue;
        linked.add(edgeKey(a, b));
        links.push({ from: a, to: b });
      }
    }
    routes.set(edgeKey(from, to), start < end ? route : route.reverse());
  }
  const filled = Array.from({ length: columns.length }, (_, index) => columns[index] ?? []);
  const ordered = orderColumns(filled, links);
  const tallest = Math.max(0, ...filled.map((items) => items.length));
  const pitch = CARD_W + (filled.length <= 6 ? GAP_WIDE : GAP_NARROW);
  const row = CARD_H + (tallest <= 5 ? 46 : tallest <= 9 ? 28 : 14);
  const heightOf = (item: string): number => (bendNames.has(item) ? BEND : row);
  const ys = spread(ordered, links, heightOf);
  const all = new Map<string, Spot>();
  for (const [index, items] of ordered.entries())
    for (const item of items) all.set(item, { x: index * pitch, y: ys.get(item) ?? 0 });
  const spots = new Map(
    graph.nodes.flatMap((node) => (all.has(node) ? [[node, all.get(node) ?? { x: 0, y: 0 }] as const] : [])),
  );
  const bends = new Map<string, readonly Spot[]>();
  for (const [key, route] of routes)
    bends.set(
      key,
      route.flatMap((name) => all.get(name) ?? []),
    );
  return { spots, bends, row, column: pitch };
};

/** Whether a card at this spot would touch another. */
const taken = (spots: ReadonlyMap<string, Spot>, x: number, y: number): boolean => {
  for (const spot of spots.values())
    if (Math.abs(spot.x - x) < CARD_W + 12 && Math.abs(spot.y - y) < ROW_NEAR - 1) return true;
  return false;
};

/** Nearest free place in a column, looking down and up in turn. */
const freeSpot = (spots: ReadonlyMap<string, Spot>, x: number, y: number, row: number): Spot => {
  for (let step = 0; ; step++) {
    if (!taken(spots, x, y + (step * row) / 2)) return { x, y: y + (step * row) / 2 };
    if (!taken(spots, x, y - (step * row) / 2)) return { x, y: y - (step * row) / 2 };
  }
};

/**
 * Adds services that have no place yet: right of their callers, else left of what they call, level with their
 * neighbours. Who went away keeps its place for when it returns.
 */
export const extend = (placed: Placement, input: Graph): Placement => {
  const graph = clean(input);
  const missing = graph.nodes.filter((node) => !placed.spots.has(node));
  if (missing.length === 0) return placed;
  if (placed.spots.size === 0) return layOut(graph);
  const spots = new Map(placed.spots);
  const callers = new Map<string, string[]>();
  const callees = new Map<string, string[]>();
  for (const { from, to } of graph.edges) {
    addTo(callers, to, from);
    addTo(callees, from, to);
  }
  // those next to something placed come first; a group of strangers starts below everything
  let waiting = missing;
  while (waiting.length > 0) {
    const later: string[] = [];
    for (const node of waiting) {
      const before = (callers.get(node) ?? []).flatMap((name) => spots.get(name) ?? []);
      const after = (callees.get(node) ?? []).flatMap((name) => spots.get(name) ?? []);
      const near = [...before, ...after];
      if (near.length === 0) {
        later.push(node);
        continue;
      }
      const x =
        before.length > 0
          ? Math.max(...before.map((spot) => spot.x)) + placed.column
          : Math.min(...after.map((spot) => spot.x)) - placed.column;
      const y = near.reduce((sum, spot) => sum + spot.y, 0) / near.length;
      spots.set(node, freeSpot(spots, x, y, placed.row));
    }
    if (later.length === waiting.length) {
      const all = [...spots.values()];
      const [stranger] = later.splice(0, 1);
      if (stranger !== undefined)
        spots.set(
          stranger,
          freeSpot(
            spots,
            Math.min(...all.map((spot) => spot.x)),
            Math.max(...all.map((spot) => spot.y)) + placed.row,
            placed.row,
          ),
        );
    }
    waiting = later;
  }
  return { ...placed, spots };
};
