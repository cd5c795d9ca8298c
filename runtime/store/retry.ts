/** Repeats a store operation until it succeeds: waits while the store is down, then backs off with jitter. Never gives up by itself. */
import { Cause, Effect, Random } from "effect";
import { StoreError, type StoreShape } from "./Store.ts";

const FIRST_MS = 200;
const LAST_MS = 10_000;

const delay = (attempt: number): Effect.Effect<number> =>
  Effect.map(Random.next, (random) => Math.min(LAST_MS, FIRST_MS * 2 ** Math.min(attempt, 12)) * (0.75 + random / 2));

/** `onFailure` counts the failure and says whether to try again; a defect counts as a failure of the store. */
export const untilStored = (
  store: StoreShape,
  operation: (attempt: number) => Effect.Effect<void, StoreError>,
  onFailure: (error: StoreError, attempt: number) => Effect.Effect<"again" | "stop">,
): Effect.Effect<void> => {
  const attempt = (number: number): Effect.Effect<void> =>
    store.whenUp.pipe(
      Effect.zipRight(operation(number)),
      Effect.catchAllDefect((defect) =>
        Effect.fail(new StoreError({ operation: "write", code: null, reason: Cause.pretty(Cause.die(defect)) })),
      ),
      Effect.matchEffect({
        onSuccess: () => Effect.void,
        onFailure: (error) =>
          Effect.flatMap(onFailure(error, number), (verdict) =>
            verdict === "stop"
              ? Effect.void
              : delay(number).pipe(
                  Effect.flatMap((ms) => Effect.sleep(ms)),
                  Effect.zipRight(Effect.suspend(() => attempt(number + 1))),
                ),
          ),
      }),
    );
  return attempt(0);
};
