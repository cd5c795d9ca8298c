/**
 * Computation in pieces, so that a query over many series does not keep the rest of the server waiting; see
 * runtime/steps.ts. Pure.
 */
import type { Effect } from "effect";
import { inSteps } from "../steps.ts";
import { QueryError } from "./QueryError.ts";

export type Work<A> = Generator<void, A, void>;

/** Values handled in one piece: a few milliseconds. */
const PIECE = 100_000;

/** Counts what was done, and yields when a piece is full: `yield* pace.spend(n)`. */
export class Pace {
  private done = 0;
  *spend(values: number): Work<void> {
    this.done += values;
    if (this.done < PIECE) return;
    this.done = 0;
    yield;
  }
}

/** What a QueryError is thrown as becomes a failure; all else is a defect. */
export const worked = <A>(start: () => Work<A>): Effect.Effect<A, QueryError> =>
  inSteps(start, (error) => (error instanceof QueryError ? error : null));
