/**
 * Why a query has no answer, in the kinds that Prometheus' HTTP API knows, and the bounds whose crossing is one of them.
 * Every refusal of a bound names it. Pure.
 */
import { Schema } from "effect";

export class QueryError extends Schema.TaggedError<QueryError>()("QueryError", {
  /** bad_data: the query itself · execution: this data does not allow it, or a bound · unavailable: no store · internal: its fault */
  kind: Schema.Literal("bad_data", "execution", "timeout", "unavailable", "internal"),
  reason: Schema.String,
}) {
  override get message(): string {
    return this.reason;
  }
}

export const LIMITS = {
  /** of a range query, per series */
  points: 11_000,
  /** steps of one subquery */
  subqueryPoints: 50_000,
  /** that one selector finds; elsewhere: of an answer */
  series: 20_000,
  /** samples and grid points of all selectors and subqueries of a query together, 8 or 16 bytes each */
  samples: 4_000_000,
  /** samples looked at by range functions: windows that overlap count their samples again */
  visits: 100_000_000,
  /** rows that the store may read for one selector */
  rows: 200_000_000,
  /** of an answer of a metrics store elsewhere */
  bytes: 32 * 1024 * 1024,
  /** including the wait for a turn */
  seconds: 30,
  /** under way at once; others wait */
  queries: 4,
  /** characters of a query */
  length: 65_536,
  depth: 500,
} as const;

export type LimitName = keyof typeof LIMITS;

const WORDS: Readonly<Record<LimitName, string>> = {
  points: "points per series",
  subqueryPoints: "steps of a subquery",
  series: "series of a selector",
  samples: "samples of a query",
  visits: "samples in all windows of a query",
  rows: "rows that the store reads for a selector",
  bytes: "bytes of an answer of the metrics store",
  seconds: "seconds of a query",
  queries: "queries at once",
  length: "characters of a query",
  depth: "levels of a query",
};

export const overLimit = (name: LimitName, found?: number): QueryError =>
  new QueryError({
    kind: name === "seconds" ? "timeout" : name === "points" || name === "length" ? "bad_data" : "execution",
    reason: `the limit of ${LIMITS[name]} ${WORDS[name]} is exceeded${found === undefined ? "" : ` (${found})`}`,
  });

export const execution = (reason: string): QueryError => new QueryError({ kind: "execution", reason });
