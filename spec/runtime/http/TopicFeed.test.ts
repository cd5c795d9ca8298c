/** A topic as texts: numbered changes, and nothing when nothing changed. */
import { describe, expect, it } from "vitest";
import { makeTopicFeed } from "../../../runtime/http/TopicFeed.ts";
import type { PageMessage } from "../../../schemas/wire/page.ts";

describe("a topic as texts", () => {
  it("gives back any keys and values as JSON", () => {
    const feed = makeTopicFeed('service:a"b\n');
    const entries = { 'x"y': { a: [1, null, "ü"] }, empty: undefined, __proto__x: 1 };
    const delta = JSON.parse(feed.update(entries, 5) ?? "") as PageMessage;
    expect(delta).toEqual({
      type: "delta",
      topic: 'service:a"b\n',
      seq: 1,
      nowMs: 5,
      set: { 'x"y': { a: [1, null, "ü"] }, empty: null, __proto__x: 1 },
      del: [],
    });
    expect(feed.update(new Map(Object.entries(entries)), 6)).toBeNull();
    expect(JSON.parse(feed.snapshot(7))).toMatchObject({ type: "snapshot", seq: 1, entries: { __proto__x: 1 } });
  });
});
