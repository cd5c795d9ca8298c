import { describe, expect, it } from "vitest";
import { changesOf, MOST_CHANGES } from "../../ui/console/changes.ts";

describe("what changed in a state", () => {
  it("is told by leaf, with what came and what went", () => {
    const before = { a: 1, b: { c: [1, 2], d: "x" }, gone: true };
    const after = { a: 1, b: { c: [1, 3, 4], d: "x" }, came: null };
    expect(changesOf(before, after)).toEqual([
      { path: "b.c.1", before: 2, after: 3 },
      { path: "b.c.2", before: undefined, after: 4 },
      { path: "gone", before: true, after: undefined },
      { path: "came", before: undefined, after: null },
    ]);
    expect(changesOf(before, before)).toEqual([]);
  });

  it("is bounded", () => {
    const many = Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`k${i}`, i]));
    expect(changesOf({}, many)).toHaveLength(MOST_CHANGES);
  });
});
