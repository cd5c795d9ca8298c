/**
 * Computation in pieces, so that a query over many series does not keep the rest of the server waiting. A generator that
 * yields now and then is pure and needs no runtime; `worked` runs one as an Effect that lets others run between pieces,
 * and ends with it when interrupted.
 */
import { Effect } from "effect";
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
  Effect.suspend(() => {
    const work = start();
    const next: Effect.Effect<A, QueryError> = Effect.suspend(() => {
      try {
        const piece = work.next();
        return piece.done === true ? Effect.succeed(piece.value) : Effect.zipRight(Effect.sleep(0), next);
      } catch (error) {
        return error instanceof QueryError ? Effect.fail(error) : Effect.die(error);
      }
    });
    return next;
  });
