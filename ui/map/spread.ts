/**
 * Heights of items, given their order in each column: as near as can be to the mean of their neighbours without
 * overlapping. Each column is solved exactly (least squares under minimum distances = isotonic regression by pooling).
 */
import { addTo } from "./multimap.ts";

type Links = readonly { readonly from: string; readonly to: string }[];
const ROUNDS = 24;
const PIPE = 12;

/** Positions nearest to `wanted` that keep the order and leave `gaps[i]` between i and i + 1. */
export const settle = (wanted: readonly number[], gaps: readonly number[]): readonly number[] => {
  const offsets = [0];
  for (let n = 1; n < wanted.length; n++) offsets.push((offsets[n - 1] ?? 0) + (gaps[n - 1] ?? 0));
  const blocks: { sum: number; size: number }[] = [];
  for (const [n, want] of wanted.entries()) {
    blocks.push({ sum: want - (offsets[n] ?? 0), size: 1 });
    for (;;) {
      const last = blocks[blocks.length - 1];
      const previous = blocks[blocks.length - 2];
      if (last === undefined || previous === undefined || previous.sum / previous.size <= last.sum / last.size) break;
      blocks.splice(blocks.length - 2, 2, { sum: previous.sum + last.sum, size: previous.size + last.size });
    }
  }
  return blocks
    .flatMap(({ sum, size }) => Array<number>(size).fill(sum / size))
    .map((base, n) => base + (offsets[n] ?? 0));
};

export const spread = (
  columns: readonly (readonly string[])[],
  links: Links,
  heightOf: (item: string) => number,
): ReadonlyMap<string, number> => {
  const outs = new Map<string, number>();
  const ins = new Map<string, number>();
  for (const { from, to } of links) {
    outs.set(from, (outs.get(from) ?? 0) + 1);
    ins.set(to, (ins.get(to) ?? 0) + 1);
  }
  const near = new Map<string, { readonly item: string; readonly weight: number }[]>();
  for (const { from, to } of links) {
    // the only way out of one and into the other: such a pipe should be level
    const weight = outs.get(from) === 1 && ins.get(to) === 1 ? PIPE : 1;
    addTo(near, from, { item: to, weight });
    addTo(near, to, { item: from, weight });
  }
  const gapsOf = (items: readonly string[]): readonly number[] =>
    items.slice(1).map((item, n) => (heightOf(item) + heightOf(items[n] ?? item)) / 2);
  const y = new Map<string, number>();
  for (const items of columns) {
    const gaps = gapsOf(items);
    let at = -gaps.reduce((sum, gap) => sum + gap, 0) / 2;
    for (const [n, item] of items.entries()) {
      y.set(item, at);
      at += gaps[n] ?? 0;
    }
  }
  for (let round = 0; round < ROUNDS; round++) {
    const order = round % 2 === 0 ? columns : columns.toReversed();
    for (const items of order) {
      const wanted = items.map((item) => {
        const around = near.get(item) ?? [];
        if (around.length === 0) return y.get(item) ?? 0;
        const weights = around.reduce((sum, { weight }) => sum + weight, 0);
        return around.reduce((sum, { item: name, weight }) => sum + weight * (y.get(name) ?? 0), 0) / weights;
      });
      for (const [n, at] of settle(wanted, gapsOf(items)).entries()) {
        const item = items[n];
        if (item !== undefined) y.set(item, at);
      }
    }
  }
  return y;
};
