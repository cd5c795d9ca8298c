/**
 * The demo's only clock: when a fault was injected, what a user saw, and every wait go through here.
 * Owned by the demo alone; a wait ends early with an AbortError when the run is stopped, and `until` fails with the
 * name of what it waited for. Holds nothing to stop.
 */
import { setTimeout as wait } from "node:timers/promises";

export const now = (): number => Date.now();

export const sleep = async (ms: number, signal?: AbortSignal): Promise<void> => {
  await wait(Math.max(0, ms), undefined, signal === undefined ? {} : { signal });
};

export class TimedOut extends Error {
  constructor(what: string, ms: number) {
    super(`${what}: not within ${(ms / 1000).toFixed(1)} s`);
    this.name = "TimedOut";
  }
}

/** Asks `probe` every `everyMs` until it gives something other than undefined. */
export const until = async <A>(
  what: string,
  timeoutMs: number,
  probe: () => A | undefined | Promise<A | undefined>,
  options: { readonly signal?: AbortSignal | undefined; readonly everyMs?: number } = {},
): Promise<A> => {
  const deadline = now() + timeoutMs;
  for (;;) {
    const found = await probe();
    if (found !== undefined) return found;
    if (now() >= deadline) throw new TimedOut(what, timeoutMs);
    await sleep(options.everyMs ?? 100, options.signal);
  }
};
