/** Flame graphs out of stacks: sums, order, bounds, and what the values of a type mean. */
import { array, assert, integer, property, record } from "fast-check";
import { describe, expect, it } from "vitest";
import { flameNodes, type FlameNodes, type ResolvedStacks } from "../../../runtime/telemetry/FlameGraph.ts";
import { meaningOf, scaleOf } from "../../../runtime/telemetry/profileType.ts";
import { StackCache } from "../../../runtime/telemetry/StackCache.ts";
import { finish } from "../otlp/rowBinary.ts";

const FUNCTIONS = ["main\tmain.go", "work\twork.go", "read\tio.go", "write"];

const graph = (
  stacks: readonly (readonly number[] | null)[],
  value: readonly number[],
  most = 1_000,
  more: Partial<ResolvedStacks> = {},
): FlameNodes =>
  finish(
    flameNodes(
      {
        functions: FUNCTIONS,
        stacks: stacks.map((one) => (one === null ? null : Int32Array.from(one))),
        value,
        base: value.map(() => 0),
        restValue: 0,
        restBase: 0,
        ...more,
      },
      most,
    ),
  );

/** "main;work self/total", as a reader of the answer puts it together. */
const lines = ({ names, depth, frame, self, total }: FlameNodes): readonly string[] => {
  const path: string[] = [];
  return depth.map((level, i) => {
    path.length = level;
    path.push(names[frame[i] ?? 0] ?? "");
    return `${path.join(";")} ${self[i]}/${total[i]}`;
  });
};

describe("a flame graph", () => {
  it("adds stacks up to a tree in the order of names", () => {
    const nodes = graph(
      [
        [0, 1, 2],
        [0, 1],
        [0, 3],
        [0, 1, 2],
      ],
      [1, 2, 4, 8],
    );
    expect(lines(nodes)).toEqual([
      "total 0/15",
      "total;main 0/15",
      "total;main;work 2/11",
      "total;main;work;read 9/9",
      "total;main;write 4/4",
    ]);
    expect(nodes.files[nodes.frame[2] ?? 0]).toBe("work.go");
    expect(nodes.merged).toBe(0);
  });

  it("has both ranges at each node", () => {
    const { baseSelf, baseTotal, self } = graph(
      [
        [0, 1],
        [0, 2],
      ],
      [5, 0],
      100,
      { base: [1, 7] },
    );
    expect([self, baseSelf, baseTotal]).toEqual([
      [0, 0, 0, 5],
      [0, 0, 7, 1],
      [8, 8, 7, 1],
    ]);
  });

  it("shows stacks that are not known, and what was left out, as what they are", () => {
    expect(lines(graph([null, [0]], [3, 4], 100, { restValue: 5 }))).toEqual([
      "total 0/12",
      "total;[unknown stack] 3/3",
      "total;main 4/4",
      "total;(other) 5/5",
    ]);
  });

  it("is empty without stacks", () => {
    expect(lines(graph([], []))).toEqual(["total 0/0"]);
  });

  it("keeps its sums whatever is merged, and never has more nodes than asked for", () => {
    const stack = array(integer({ min: 0, max: 3 }), { maxLength: 8 });
    assert(
      property(
        array(record({ stack, value: integer({ min: 0, max: 1_000 }) }), { maxLength: 60 }),
        integer({ min: 4, max: 40 }),
        (all, most) => {
          const nodes = graph(
            all.map((one) => one.stack),
            all.map(({ value }) => value),
            most,
          );
          const { depth, self, total, frame } = nodes;
          expect(depth.length).toBeLessThanOrEqual(most);
          expect(total[0]).toBe(all.reduce((sum, { value }) => sum + value, 0));
          for (let i = 0; i < depth.length; i++) {
            let below = 0;
            for (let j = i + 1; j < depth.length && (depth[j] ?? 0) > (depth[i] ?? 0); j++)
              if (depth[j] === (depth[i] ?? 0) + 1) below += total[j] ?? 0;
            expect(total[i]).toBe((self[i] ?? 0) + below);
          }
          const whole = graph(
            all.map((one) => one.stack),
            all.map(({ value }) => value),
          );
          expect(nodes.merged).toBe(whole.depth.length - frame.filter((one) => one !== 1).length);
        },
      ),
    );
  });

  it("keeps the largest nodes", () => {
    const wide = Array.from({ length: 4 }, (_, i) => [i]);
    expect(lines(graph(wide, [1, 100, 2, 50], 4)).filter((line) => line.includes("other"))).toEqual([
      "total;(other) 53/53",
    ]);
    expect(lines(graph(wide, [1, 100, 2, 50], 4))).toContain("total;work 100/100");
  });

  it("of a million nodes is made in small steps, in bounded memory", () => {
    const stacks = Array.from({ length: 20_000 }, (_, i) =>
      Int32Array.from({ length: 64 }, (_, j) => (i * 64 + j) % 1_999),
    );
    const functions = Array.from({ length: 2_000 }, (_, i) => `f${i}`);
    const value = stacks.map((_, i) => i + 1);
    const work = flameNodes({ functions, stacks, value, base: value.map(() => 0), restValue: 0, restBase: 0 }, 10_000);
    let longest = 0;
    for (;;) {
      const before = process.cpuUsage();
      const step = work.next();
      const { user, system } = process.cpuUsage(before);
      longest = Math.max(longest, (user + system) / 1_000);
      if (step.done !== true) continue;
      expect(step.value.depth.length).toBeLessThanOrEqual(10_000);
      expect(step.value.total[0]).toBe((20_000 * 20_001) / 2);
      break;
    }
    // generous: the collector's threads count too
    expect(longest).toBeLessThan(200);
  });
});

describe("a profile type", () => {
  it.each([
    ["cpu:nanoseconds", "rate", "cores"],
    ["ebpf:cpu:nanoseconds", "rate", "cores"],
    ["go:profile_cpu:nanoseconds", "rate", "cores"],
    ["java:cpu:nanoseconds", "rate", "cores"],
    ["samples:count", "sum", "count"],
    ["go:heap_alloc_space:bytes", "sum", "bytes"],
    ["go:heap_inuse_space:bytes", "average", "bytes"],
    ["inuse_objects:count", "average", "count"],
    ["go:goroutine_goroutine:count", "average", "count"],
    ["go:mutex_delay:nanoseconds", "sum", "nanoseconds"],
    ["java:lock_contentions:count", "sum", "count"],
    ["odd", "sum", ""],
  ])("%s is a %s of %s", (type, kind, unit) => {
    expect(meaningOf(type)).toEqual({ kind, unit });
  });

  it("is shown per second, per profile, or as it is", () => {
    expect(4e9 * scaleOf("cpu:nanoseconds", 2, 20)).toBeCloseTo(0.2, 12);
    expect(100 * scaleOf("inuse_space:bytes", 4, 0)).toBe(25);
    expect(7 * scaleOf("alloc_space:bytes", 4, 10)).toBe(7);
    expect(scaleOf("cpu:nanoseconds", 0, 0)).toBe(0);
  });
});

describe("the cache of stacks", () => {
  it("takes lines off and gives equal functions one number", () => {
    const stacks = new StackCache(1e6).of("cart");
    stacks.add("1", ["main\tmain.go:7", "main\tmain.go:9", "odd:12", "x\ta:b"]);
    expect(stacks.functions).toEqual(["main\tmain.go", "odd:12", "x\ta:b"]);
    expect([...(stacks.get("1") ?? [])]).toEqual([0, 0, 1, 2]);
    expect(stacks.get("2")).toBeNull();
  });

  it("forgets the services that were not looked at for longest", () => {
    const cache = new StackCache(1_000);
    for (const service of ["a", "b", "c"]) cache.of(service).add("1", ["main"]);
    expect(cache.of("a").get("1")).not.toBeNull();
    for (let i = 0; i < 4; i++) cache.of("a").add(`more ${i}`, ["main"]);
    cache.trim();
    expect(cache.bytes).toBeLessThanOrEqual(1_000);
    expect(cache.of("b").get("1")).toBeNull();
    expect(cache.of("a").get("1")).not.toBeNull();
  });
});
