/**
 * A clock that stands still until it is moved. Unlike TestClock it does not wait for fibers to settle in real time, so
 * minutes of a whole system pass in milliseconds; who moves it lets the fibers run in between.
 */
import { Clock, Duration, Effect } from "effect";

export interface ManualClock {
  readonly clock: Clock.Clock;
  /** moves on by `ms` in steps of at most `stepMs` (100), letting fibers run after each */
  readonly advance: (ms: number, stepMs?: number) => Effect.Effect<void>;
  readonly now: () => number;
}

const STEP_MS = 100;
const TURNS = 20;

export const manualClock = (startMs: number): ManualClock => {
  let now = startMs;
  const sleeping = new Set<{ readonly due: number; readonly wake: () => void }>();
  const clock: Clock.Clock = {
    ...Clock.make(),
    unsafeCurrentTimeMillis: () => now,
    unsafeCurrentTimeNanos: () => BigInt(now) * 1_000_000n,
    currentTimeMillis: Effect.sync(() => now),
    currentTimeNanos: Effect.sync(() => BigInt(now) * 1_000_000n),
    sleep: (duration) =>
      Effect.async<void>((resume) => {
        const entry = { due: now + Duration.toMillis(duration), wake: () => resume(Effect.void) };
        sleeping.add(entry);
        return Effect.sync(() => void sleeping.delete(entry));
      }),
  };
  const turns = Effect.repeatN(Effect.yieldNow(), TURNS);
  const advance = (ms: number, stepMs: number = STEP_MS): Effect.Effect<void> =>
    Effect.gen(function* () {
      for (let left = ms; left > 0; left -= stepMs) {
        now += Math.min(stepMs, left);
        for (const entry of [...sleeping].filter(({ due }) => due <= now).sort((a, b) => a.due - b.due)) {
          sleeping.delete(entry);
          entry.wake();
        }
        yield* turns;
      }
    });
  return { clock, advance, now: () => now };
};
