/**
 * The ports behind page and API: what there is to see. `Topics` is implemented by the actors' read side, `HistoryPort`
 * by the store, `HealthPort` by the entry point; `Watchers` is ours. Page and API read the same topics, so they cannot
 * disagree. An unknown topic is null, not an error; a failing one costs nobody else anything.
 */
import { Context, Data, Layer } from "effect";
import type { Effect, Stream } from "effect";
import type { SliPointRow } from "../../schemas/tables.ts";

/** Entries by key; values are plain JSON. */
export type TopicEntries = ReadonlyMap<string, unknown> | Readonly<Record<string, unknown>>;

export interface Topics {
  /** null: there is no such topic */
  readonly read: (topic: string) => Effect.Effect<TopicEntries | null>;
  /** something changed; what, the reader finds out */
  readonly changed: Stream.Stream<void>;
}
export const Topics = Context.GenericTag<Topics>("runtime/http/Topics");

export class HistoryError extends Data.TaggedError("HistoryError")<{ readonly message: string }> {}

export interface HistoryPort {
  /** oldest first; times in milliseconds */
  readonly sliPoints: (
    service: string,
    from: number,
    to: number,
  ) => Effect.Effect<readonly SliPointRow[], HistoryError>;
}
export const HistoryPort = Context.GenericTag<HistoryPort>("runtime/http/HistoryPort");

export interface PartHealth {
  readonly state: "up" | "starting" | "degraded" | "down";
  readonly message: string;
}
export interface HealthPort {
  /** by name of the part: "store", "actors", … */
  readonly parts: Effect.Effect<Readonly<Record<string, PartHealth>>>;
}
export const HealthPort = Context.GenericTag<HealthPort>("runtime/http/HealthPort");

/** Who looks at what. Apart from the hub, so that what makes a topic can ask whether anybody looks. */
export interface Watchers {
  readonly watching: (topic: string) => boolean;
  readonly add: (topic: string) => void;
  readonly remove: (topic: string) => void;
  readonly topics: () => readonly string[];
}
export const Watchers = Context.GenericTag<Watchers>("runtime/http/Watchers");

export const makeWatchers = (): Watchers => {
  const counts = new Map<string, number>();
  return {
    watching: (topic) => counts.has(topic),
    add: (topic) => void counts.set(topic, (counts.get(topic) ?? 0) + 1),
    remove: (topic) => {
      const left = (counts.get(topic) ?? 0) - 1;
      if (left > 0) counts.set(topic, left);
      else counts.delete(topic);
    },
    topics: () => [...counts.keys()],
  };
};
export const WatchersLive: Layer.Layer<Watchers> = Layer.sync(Watchers, makeWatchers);

export const entriesOf = (entries: TopicEntries): Iterable<readonly [string, unknown]> =>
  entries instanceof Map ? entries.entries() : Object.entries(entries);
