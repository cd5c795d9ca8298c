/**
 * One connected part of the map before it gets its place: items in columns, in an order with few crossings. Items are
 * services, and one bend for all lines that pass a column towards the same target. Pure.
 */
import { columnsOf } from "./columns.ts";
import { edgeKey, type Graph } from "./graph.ts";
import { addTo } from "./multimap.ts";
import { orderColumns } from "./ordering.ts";

export interface Part {
  readonly columns: readonly (readonly string[])[];
  readonly links: readonly { readonly from: string; readonly to: string }[];
  readonly bends: ReadonlySet<string>;
  /** by "from>to": the bends that the line passes, in the direction of the call */
  readonly routes: ReadonlyMap<string, readonly string[]>;
}

/** Groups of services that are joined by calls, in whatever direction; the largest first. */
export const connectedParts = (graph: Graph): readonly Graph[] => {
  const near = new Map<string, string[]>();
  for (const { from, to } of graph.edges) {
    addTo(near, from, to);
    addTo(near, to, from);
  }
  const part = new Map<string, number>();
  const groups: string[][] = [];
  for (const start of graph.nodes) {
    if (part.has(start)) continue;
    const group = [start];
    part.set(start, groups.length);
    // grows while it is walked
    for (const node of group)
      for (const other of near.get(node) ?? []) {
        if (part.has(other)) continue;
        part.set(other, groups.length);
        group.push(other);
      }
    groups.push(group.sort());
  }
  const edges = new Map<number, Graph["edges"][number][]>();
  for (const edge of graph.edges) {
    const index = part.get(edge.from) ?? 0;
    const found = edges.get(index);
    if (found === undefined) edges.set(index, [edge]);
    else found.push(edge);
  }
  return groups
    .map((nodes, index) => ({ nodes, edges: edges.get(index) ?? [] }))
    .sort((a, b) => b.nodes.length - a.nodes.length || ((a.nodes[0] ?? "") < (b.nodes[0] ?? "") ? -1 : 1));
};

export const makePart = (graph: Graph): Part => {
  const column = columnsOf(graph);
  const columns: string[][] = [];
  const links: { from: string; to: string }[] = [];
  const routes = new Map<string, readonly string[]>();
  const bends = new Set<string>();
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
      if (!bends.has(name)) {
        bends.add(name);
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
  return { columns: orderColumns(filled, links), links, bends, routes };
};
