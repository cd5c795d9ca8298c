/**
 * A long computation in steps: a generator that yields now and then is pure and needs no runtime; `inSteps` runs one as an
 * Effect that lets sockets, timers and other fibers have the thread between two steps, and ends with it when interrupted.
 * What `refusal` knows is a failure, all else that is thrown a defect. Nothing to stop.
 */
import { Effect } from "effect";

const nextTurn = Effect.async<void>((resume) => {
  const turn = setImmediate(() => resume(Effect.void));
  return Effect.sync(() => clearImmediate(turn));
});

/** `refusal` gives null for what is no failure of this work. */
export const inSteps = <A, E>(
  start: () => Generator<void, A, void>,
  refusal: (error: unknown) => E | null,
): Effect.Effect<A, E> =>
  Effect.suspend(() => {
    const work = start();
    const step: Effect.Effect<A, E> = Effect.suspend(() => {
      try {
        const { done, value } = work.next();
        return done === true ? Effect.succeed(value) : Effect.zipRight(nextTurn, step);
      } catch (error) {
        const refused = refusal(error);
        return refused === null ? Effect.die(error) : Effect.fail(refused);
      }
    });
    return step;
  });
