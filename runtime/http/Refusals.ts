/**
 * Which refusals are written to the audit log. Whoever has no key must not be able to push the deeds of those who have
 * one out of the log: a few a minute are written, the rest are counted and told with the next. Owned by the API's
 * handlers; what was not told yet is lost with the process, while the metric has counted it.
 */
export const REFUSALS_PER_MINUTE = 10;
const MINUTE_MS = 60_000;

export interface Refusals {
  /** null: not to be written; else how many were left out since the last that was */
  readonly take: (nowMs: number) => number | null;
}

export const makeRefusals = (): Refusals => {
  const written: number[] = [];
  let left = 0;
  return {
    take: (nowMs) => {
      while ((written[0] ?? nowMs) <= nowMs - MINUTE_MS) written.shift();
      if (written.length >= REFUSALS_PER_MINUTE) {
        left++;
        return null;
      }
      written.push(nowMs);
      const untold = left;
      left = 0;
      return untold;
    },
  };
};
