/**
 * Heights of items, given their order in each column: as near as can be to the mean of their neighbours without
 * overlapping. Each column is solved exactly (least squares under minimum distances = isotonic regression by pooling).
 */
type Links = readonly { readonly from: string; readonly to: string }[];
const ROUNDS = 30;

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
  const near = new Map<string, string[]>();
  for (const { from, to } of links) {
    near.set(from, [...(near.get(from) ?? []), to]);
    near.set(to, [...(near.get(to) ?? []), from]);
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
        return around.reduce((sum, name) => sum + (y.get(name) ?? 0), 0) / around.length;
      });
      for (const [n, at] of settle(wanted, gapsOf(items)).entries()) {
        const item = items[n];
        if (item !== undefined) y.set(item, at);
      }
    }
  }
  return y;
};
