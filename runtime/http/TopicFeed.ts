/**
 * One watched topic as texts: what was sent last, its number, and what changed since. Pure state of the page hub.
 * Entries are compared by their JSON, so a topic may be rebuilt from nothing each time.
 */
import type { PageMessage } from "../../schemas/wire/page.ts";
import { entriesOf } from "./Topics.ts";
import type { TopicEntries } from "./Topics.ts";

export interface TopicFeed {
  /** Takes the topic as it is now; the text of a `delta` when something changed, else null. */
  readonly update: (entries: TopicEntries, nowMs: number) => string | null;
  readonly snapshot: (nowMs: number) => string;
}

type Snapshot = Extract<PageMessage, { readonly type: "snapshot" }>;
type Delta = Extract<PageMessage, { readonly type: "delta" }>;

/** `{"a":1}` from texts that are JSON already. */
const join = (texts: Iterable<readonly [string, string]>): string => {
  const parts: string[] = [];
  for (const [key, text] of texts) parts.push(`${JSON.stringify(key)}:${text}`);
  return `{${parts.join(",")}}`;
};

export const makeTopicFeed = (topic: string): TopicFeed => {
  let texts = new Map<string, string>();
  let seq = 0;
  const head = (type: Snapshot["type"] | Delta["type"], nowMs: number): string =>
    `{"type":"${type}","topic":${JSON.stringify(topic)},"seq":${seq},"nowMs":${nowMs}`;
  return {
    update: (entries, nowMs) => {
      const next = new Map<string, string>();
      const set: (readonly [string, string])[] = [];
      for (const [key, value] of entriesOf(entries)) {
        const text = JSON.stringify(value) ?? "null";
        next.set(key, text);
        if (texts.get(key) !== text) set.push([key, text]);
      }
      const del = [...texts.keys()].filter((key) => !next.has(key));
      texts = next;
      if (set.length === 0 && del.length === 0) return null;
      seq++;
      return `${head("delta", nowMs)},"set":${join(set)},"del":${JSON.stringify(del)}}`;
    },
    snapshot: (nowMs) => `${head("snapshot", nowMs)},"entries":${join(texts)}}`,
  };
};
