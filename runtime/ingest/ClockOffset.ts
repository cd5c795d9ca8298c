/**
 * Maps an agent's monotonic clock to the server's time. A frame that left at monoMs and arrived at serverMs gives
 * serverMs - monoMs = offset + its delay; the delay is never negative, so the least of the last samples is the best
 * estimate. Frames that waited in a queue only give larger values and do no harm; a bounded window follows drift and
 * a corrected server clock. The agent's wall clock plays no part, so one that is an hour off changes nothing.
 * Pure state of one session; nothing to stop.
 */
const SAMPLES = 120;

export interface ClockOffset {
  readonly add: (monoMs: number, serverMs: number) => void;
  /** server time at the agent's monotonic zero, in milliseconds */
  readonly offsetMs: () => number;
}

export const makeClockOffset = (samples: number = SAMPLES): ClockOffset => {
  const ring = new Float64Array(samples).fill(Infinity);
  let next = 0;
  let least = 0;
  return {
    add: (monoMs, serverMs) => {
      ring[next] = serverMs - monoMs;
      next = (next + 1) % samples;
      least = Math.min(...ring);
    },
    offsetMs: () => least,
  };
};
