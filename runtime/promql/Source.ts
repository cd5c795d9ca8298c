/**
 * Where samples come from, as the evaluation sees it: the leaves of an expression. Stale markers end a series and are
 * never handed over as values. Whoever makes one says what fails it, as QueryError.
 */
import type { Effect } from "effect";
import type { Matcher } from "./ast.ts";
import type { Grid, GridSeries, RawSeries } from "./grid.ts";
import type { QueryError } from "./QueryError.ts";

/** A sample this old still counts as the current one, in ms. */
export const LOOK_BACK_MS = 300_000;

export interface Source {
  /** At each point the last sample of the look-back before it; "time": when that was, in seconds, as the value. */
  readonly instant: (
    matchers: readonly Matcher[],
    grid: Grid,
    what: "value" | "time",
  ) => Effect.Effect<readonly GridSeries[], QueryError>;
  /**
   * A range function computed where the samples are: the grid's points are the ends of its windows. Null where this
   * source cannot do it exactly, for this function or these samples; then the samples are asked for.
   */
  readonly over: (
    name: string,
    matchers: readonly Matcher[],
    grid: Grid,
    rangeMs: number,
    param: number | null,
  ) => Effect.Effect<readonly GridSeries[] | null, QueryError>;
  /** Samples after the first time, up to and with the second. */
  readonly raw: (
    matchers: readonly Matcher[],
    afterMs: number,
    untilMs: number,
  ) => Effect.Effect<readonly RawSeries[], QueryError>;
  /** What the groups of a pattern match in each text, group 0 first; null where it does not match the whole text. */
  readonly groups: (
    pattern: string,
    texts: readonly string[],
  ) => Effect.Effect<readonly (readonly string[] | null)[], QueryError>;
}
