/**
 * Column of every service: the longest way from a service nobody calls. Circles are cut where a depth-first walk meets
 * its own trail. A caller that nobody calls stands right before what it calls, so no line is longer than it needs to be.
 * Linear in services and calls, without recursion, so a long chain cannot overflow the stack.
 */
import type { Graph } from "./graph.ts";

export const columnsOf = (graph: Graph): ReadonlyMap<string, number> => {
  const out = new Map<string, string[]>(graph.nodes.map((node) => [node, []]));
  const callers = new Map<string, number>(graph.nodes.map((node) => [node, 0]));
  for (const { from, to } of graph.edges) {
    out.get(from)?.push(to);
    callers.set(to, (callers.get(to) ?? 0) + 1);
  }
  // starts: nobody calls them; then, for circles without an entrance, those who call the most
  const starts = [...graph.nodes].sort(
    (a, b) =>
      Number((callers.get(a) ?? 0) > 0) - Number((callers.get(b) ?? 0) > 0) ||
      (out.get(b)?.length ?? 0) - (callers.get(b) ?? 0) - ((out.get(a)?.length ?? 0) - (callers.get(a) ?? 0)) ||
      (a < b ? -1 : 1),
  );
  const state = new Map<string, "on trail" | "done">();
  const forward = new Map<string, string[]>();
  /** every service after all that it calls */
  const finished: string[] = [];
  for (const start of starts) {
    if (state.has(start)) continue;
    state.set(start, "on trail");
    const trail: { node: string; next: number }[] = [{ node: start, next: 0 }];
    for (let top = trail[trail.length - 1]; top !== undefined; top = trail[trail.length - 1]) {
      const callee = out.get(top.node)?.[top.next++];
      if (callee === undefined) {
        state.set(top.node, "done");
        finished.push(top.node);
        trail.pop();
        continue;
      }
      const seen = state.get(callee);
      if (seen === "on trail") continue;
      forward.set(top.node, [...(forward.get(top.node) ?? []), callee]);
      if (seen === "done") continue;
      state.set(callee, "on trail");
      trail.push({ node: callee, next: 0 });
    }
  }
  const column = new Map<string, number>(graph.nodes.map((node) => [node, 0]));
  for (const node of finished.toReversed())
    for (const callee of forward.get(node) ?? [])
      column.set(callee, Math.max(column.get(callee) ?? 0, (column.get(node) ?? 0) + 1));
  for (const node of graph.nodes) {
    const callees = forward.get(node) ?? [];
    if (column.get(node) !== 0 || callees.length === 0) continue;
    column.set(node, Math.max(0, Math.min(...callees.map((callee) => column.get(callee) ?? 1)) - 1));
  }
  return column;
};
