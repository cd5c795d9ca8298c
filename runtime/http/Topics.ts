/**
 * The ports behind page and API: what there is to see. `Topics` is implemented by the actors' read side, `HistoryPort`
 * and `QueryPort` by the store, `HealthPort` by the entry point; `Watchers` is ours. Page and API read the same topics, so they cannot
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

/** What a person typed: refused when the text may not run. */
export class QueryError extends Data.TaggedError("QueryError")<{
  readonly refused: boolean;
  readonly message: string;
}> {}

export interface QueryPort {
  readonly query: (
    sql: string,
    params: Readonly<Record<string, string>>,
    rows: number,
  ) => Effect.Effect<
    {
      readonly columns: readonly { readonly name: string; readonly type: string }[];
      readonly rows: readonly (readonly unknown[])[];
      readonly truncated: boolean;
    },
    QueryError
  >;
}
export const QueryPort = Context.GenericTag<QueryPort>("runtime/http/QueryPort");

/** Null: it was done; else what is wrong with the request. */
export type Verdict = string | null;

export class CommandError extends Data.TaggedError("CommandError")<{ readonly message: string }> {}

/** What may be told to the actors from outside. `who` is for timelines and the audit log. */
export interface CommandsPort {
  readonly acknowledge: (incident: string, note: string, who: string) => Effect.Effect<Verdict, CommandError>;
  readonly unacknowledge: (incident: string) => Effect.Effect<Verdict, CommandError>;
  readonly silence: (
    match: string,
    minutes: number,
    reason: string,
    who: string,
  ) => Effect.Effect<{ readonly id: string; readonly until: number }, CommandError>;
  readonly unsilence: (id: string) => Effect.Effect<Verdict, CommandError>;
  /** name of the replica that did it; null: nobody has that path */
  readonly act: (action: "pause" | "resume" | "drain" | "restart", path: string) => Effect.Effect<string | null>;
  /** everything that the console knows of an actor, secrets masked */
  readonly dump: (path: string) => Effect.Effect<unknown>;
  readonly audit: {
    readonly add: (who: string, action: string, target: string, outcome: string) => Effect.Effect<void, CommandError>;
    readonly recent: Effect.Effect<
      readonly { at: number; who: string; action: string; target: string; outcome: string }[],
      CommandError
    >;
  };
  readonly isAdmin: (key: string) => boolean;
}
export const CommandsPort = Context.GenericTag<CommandsPort>("runtime/http/CommandsPort");

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
