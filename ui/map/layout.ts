/**
 * Where services stand on the map: columns by the direction of calls, callers left of what they call. Pure.
 * `layOut` makes a whole new arrangement (same graph, same arrangement); `extend` adds what is new without moving
 * anything that has a place. Parts that no call joins stand apart. Lines over several columns get a bend in each column between; lines to one target share it.
 */
import { edgeKey, type Graph } from "./graph.ts";
import { addTo } from "./multimap.ts";
import { connectedParts, makePart, type Part } from "./part.ts";
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
  const parts = connectedParts(clean(input)).map(makePart);
  const most = (size: (part: Part) => number): number => parts.reduce((least, part) => Math.max(least, size(part)), 0);
  const tallest = most((part) => part.columns.reduce((least, items) => Math.max(least, items.length), 0));
  const column = CARD_W + (most((part) => part.columns.length) <= 6 ? GAP_WIDE : GAP_NARROW);
  const row = CARD_H + (tallest <= 5 ? 46 : tallest <= 9 ? 28 : 14);
  const boxes = parts.map((part) => boxOf(part, column, row));
  const spots = new Map<string, Spot>();
  const bends = new Map<string, readonly Spot[]>();
  for (const { box, x, y } of pack(boxes, column - CARD_W, row - CARD_H + 26)) {
    const at = (item: string): readonly Spot[] => {
      const spot = box.spots.get(item);
      return spot === undefined ? [] : [{ x: spot.x + x, y: spot.y + y }];
    };
    for (const items of box.part.columns)
      for (const item of items) for (const spot of box.part.bends.has(item) ? [] : at(item)) spots.set(item, spot);
    for (const [key, route] of box.part.routes) bends.set(key, route.flatMap(at));
  }
  return { spots, bends, row, column };
};

interface Box {
  readonly part: Part;
  /** from the box's upper left corner */
  readonly spots: ReadonlyMap<string, Spot>;
  readonly width: number;
  readonly height: number;
}

const boxOf = (part: Part, column: number, row: number): Box => {
  const heightOf = (item: string): number => (part.bends.has(item) ? BEND : row);
  const ys = spread(part.columns, part.links, heightOf);
  let [top, bottom] = [Infinity, -Infinity];
  for (const y of ys.values()) [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
  const spots = new Map<string, Spot>();
  for (const [index, items] of part.columns.entries())
    for (const item of items)
      spots.set(item, { x: index * column + CARD_W / 2, y: Math.round((ys.get(item) ?? 0) - top) + CARD_H / 2 });
  return { part, spots, width: (part.columns.length - 1) * column + CARD_W, height: Math.round(bottom - top) + CARD_H };
};

/** Parts side by side in shelves, about twice as wide as high all in all, never overlapping. */
const pack = (
  boxes: readonly Box[],
  gapX: number,
  gapY: number,
): readonly { readonly box: Box; readonly x: number; readonly y: number }[] => {
  const area = boxes.reduce((sum, box) => sum + (box.width + gapX) * (box.height + gapY), 0);
  const width = boxes.reduce((least, box) => Math.max(least, box.width), Math.sqrt(area * 2));
  let [x, y, high] = [0, 0, 0];
  return boxes.map((box) => {
    if (x > 0 && x + box.width > width) [x, y, high] = [0, y + high + gapY, 0];
    const place = { box, x, y };
    x += box.width + gapX;
    high = Math.max(high, box.height);
    return place;
  });
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
