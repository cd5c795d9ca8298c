/**
 * Order of items within their columns, for few crossing lines: sweeps to and fro, each item at the mean of its
 * neighbours in the column before, the best order seen is kept. Deterministic.
 */
import { addTo } from "./multimap.ts";

type Links = readonly { readonly from: string; readonly to: string }[];
const SWEEPS = 10;

const neighboursOf = (
  links: Links,
): { readonly left: Map<string, string[]>; readonly right: Map<string, string[]> } => {
  const left = new Map<string, string[]>();
  const right = new Map<string, string[]>();
  for (const { from, to } of links) {
    addTo(left, to, from);
    addTo(right, from, to);
  }
  return { left, right };
};

/** Crossings between all neighbouring columns, by counting inversions with a Fenwick tree. */
export const crossings = (columns: readonly (readonly string[])[], links: Links): number => {
  const place = new Map<string, number>();
  for (const items of columns) for (const [index, item] of items.entries()) place.set(item, index);
  const { right } = neighboursOf(links);
  let count = 0;
  for (const [index, items] of columns.entries()) {
    const size = columns[index + 1]?.length ?? 0;
    const tree = new Int32Array(size + 1);
    let seen = 0;
    for (const item of items) {
      const ends = (right.get(item) ?? []).map((to) => place.get(to) ?? 0);
      for (const end of ends) {
        let before = 0;
        for (let n = end + 1; n > 0; n -= n & -n) before += tree[n] ?? 0;
        count += seen - before;
      }
      for (const end of ends) {
        seen++;
        for (let n = end + 1; n <= size; n += n & -n) tree[n] = (tree[n] ?? 0) + 1;
      }
    }
  }
  return count;
};

export const orderColumns = (columns: readonly (readonly string[])[], links: Links): readonly (readonly string[])[] => {
  const { left, right } = neighboursOf(links);
  let current = columns.map((items) => [...items]);
  let best = current;
  let fewest = crossings(current, links);
  for (let sweep = 0; sweep < SWEEPS && fewest > 0; sweep++) {
    const rightwards = sweep % 2 === 0;
    const next = current.map((items) => [...items]);
    for (let step = 1; step < next.length; step++) {
      const index = rightwards ? step : next.length - 1 - step;
      const fixed = next[rightwards ? index - 1 : index + 1] ?? [];
      const place = new Map(fixed.map((item, at) => [item, at / Math.max(1, fixed.length)]));
      const items = next[index] ?? [];
      const own = new Map(items.map((item, at) => [item, at / Math.max(1, items.length)]));
      const weight = new Map(
        items.map((item) => {
          const near = ((rightwards ? left : right).get(item) ?? []).flatMap((name) => place.get(name) ?? []);
          return [item, near.length === 0 ? (own.get(item) ?? 0) : near.reduce((sum, at) => sum + at, 0) / near.length];
        }),
      );
      items.sort((a, b) => (weight.get(a) ?? 0) - (weight.get(b) ?? 0) || (own.get(a) ?? 0) - (own.get(b) ?? 0));
    }
    const count = crossings(next, links);
    if (count < fewest) {
      fewest = count;
      best = next;
    }
    current = next;
  }
  return best;
};
