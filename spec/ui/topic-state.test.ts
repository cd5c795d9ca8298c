/** A topic through snapshots, deltas, losses and bad entries. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { LiveWindows, PageMessage } from "../../schemas/wire/page.ts";
import { KEEP, mergeLive } from "../../ui/live/live-windows.ts";
import { applyDelta, applySnapshot, awaitSnapshot, emptyTopic, type TopicState } from "../../ui/live/topic-state.ts";

type Snapshot = Extract<PageMessage, { type: "snapshot" }>;
type Delta = Extract<PageMessage, { type: "delta" }>;
// "actor:" topics take any value for "state" and other keys, which keeps the test about the numbers
const topic = "actor:/a";
const snapshot = (seq: number, entries: Record<string, unknown>): Snapshot => ({
  type: "snapshot",
  topic,
  seq,
  nowMs: seq,
  entries,
});
const delta = (seq: number, set: Record<string, unknown>, del: readonly string[] = []): Delta => ({
  type: "delta",
  topic,
  seq,
  nowMs: seq,
  set,
  del,
});
const plain = (state: TopicState): Record<string, unknown> => Object.fromEntries(state.entries);

describe("a topic", () => {
  it("holds after any row of deltas what the server holds", () => {
    const change = fc.record({
      set: fc.dictionary(fc.constantFrom("a", "b", "c", "d"), fc.integer(), { noNullPrototype: true }),
      del: fc.subarray(["a", "b", "c", "d"]),
    });
    fc.assert(
      fc.property(fc.array(change), (changes) => {
        const truth: Record<string, unknown> = { a: 0 };
        let state = applySnapshot(emptyTopic(topic), snapshot(7, truth));
        for (const [n, { set, del }] of changes.entries()) {
          for (const key of del) delete truth[key];
          Object.assign(truth, set);
          const applied = applyDelta(state, delta(8 + n, set, del));
          expect(applied.gap).toBe(false);
          state = applied.state;
        }
        expect(plain(state)).toEqual(truth);
      }),
    );
  });

  it("reports a gap, keeps what it had, and ignores deltas until the next snapshot", () => {
    const first = applySnapshot(emptyTopic(topic), snapshot(1, { a: 1 }));
    const lost = applyDelta(first, delta(3, { a: 3 }));
    expect(lost.gap).toBe(true);
    expect(plain(lost.state)).toEqual({ a: 1 });
    const waiting = applyDelta(lost.state, delta(4, { a: 4 }));
    expect(waiting).toEqual({ state: lost.state, gap: false });
    expect(plain(applySnapshot(waiting.state, snapshot(9, { a: 9 })))).toEqual({ a: 9 });
  });

  it("ignores what it has already seen, and everything before its first snapshot", () => {
    const first = applySnapshot(emptyTopic(topic), snapshot(5, { a: 5 }));
    expect(applyDelta(first, delta(5, { a: 0 })).state).toBe(first);
    const asked = awaitSnapshot(first);
    expect(applyDelta(asked, delta(6, { a: 6 })).state).toBe(asked);
  });

  it("refuses entries that no view could draw, counts them, and takes the rest", () => {
    const state = applySnapshot(emptyTopic("overview"), {
      type: "snapshot",
      topic: "overview",
      seq: 1,
      nowMs: 1,
      entries: { overview: { cluster: 7 } },
    });
    expect(state.ready).toBe(true);
    expect(state.rejected).toBe(1);
    expect(state.entries.size).toBe(0);
  });
});

const live = (from: number, to: number, value: number): LiveWindows => {
  const time = Array.from({ length: to - from + 1 }, (_, n) => (from + n) * 1000);
  const column = time.map(() => value);
  return {
    time,
    requests: column,
    errors: column,
    p50Ms: column,
    p95Ms: column,
    p99Ms: column,
    cpuCores: column,
    throttledRatio: column,
    memoryBytes: column,
    pending: column,
  };
};

describe("live columns", () => {
  it("append what is newer, and take the server's newer word for seconds they had", () => {
    const merged = mergeLive(live(1, 5, 1), live(4, 7, 2));
    expect(merged.time).toEqual([1, 2, 3, 4, 5, 6, 7].map((second) => second * 1000));
    expect(merged.requests).toEqual([1, 1, 1, 2, 2, 2, 2]);
  });

  it("keep the last 16 minutes, in all columns alike", () => {
    const merged = mergeLive(live(1, KEEP, 1), live(KEEP + 1, KEEP + 40, 2));
    expect(merged.time).toHaveLength(KEEP);
    expect(merged.time[0]).toBe(41_000);
    for (const column of Object.values(merged)) expect(column).toHaveLength(KEEP);
    expect(mergeLive(null, live(1, KEEP + 500, 1)).time).toHaveLength(KEEP);
  });

  it("cut columns of unequal length to the shortest, so that no line shifts against another", () => {
    const merged = mergeLive(null, { ...live(1, 5, 1), errors: [0, 0, 0] });
    expect(merged.time).toHaveLength(3);
    expect(merged.memoryBytes).toHaveLength(3);
  });

  it("arrive through a topic's deltas", () => {
    const name = "service:demo/shop/Container/front";
    const first = applySnapshot(emptyTopic(name), {
      type: "snapshot",
      topic: name,
      seq: 1,
      nowMs: 1,
      entries: { live: live(1, 5, 1) },
    });
    const { state } = applyDelta(first, {
      type: "delta",
      topic: name,
      seq: 2,
      nowMs: 2,
      set: { live: live(6, 6, 2) },
      del: [],
    });
    expect(state.entries.get("live")).toMatchObject({ requests: [1, 1, 1, 1, 1, 2] });
  });

  it("of whole minutes and of the running one are one, whichever comes first in the message", () => {
    const name = "service:demo/shop/Container/front";
    const message = { type: "snapshot", topic: name, seq: 1, nowMs: 1 } as const;
    const { entries } = applySnapshot(emptyTopic(name), {
      ...message,
      entries: { live: live(6, 8, 2), "live:past": live(1, 5, 1) },
    });
    expect(entries.get("live")).toMatchObject({ requests: [1, 1, 1, 1, 1, 2, 2, 2] });
  });
});
