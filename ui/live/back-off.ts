/**
 * How long to wait before the next attempt to connect: doubles from 250 ms to 10 s, with full jitter in its upper half,
 * so that a thousand open pages do not come back to a restarted server in the same instant.
 */
const FIRST_MS = 250;
const LONGEST_MS = 10_000;

export const backOffMs = (attempt: number, random: number): number => {
  const ceiling = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.max(0, attempt - 1));
  return Math.round(ceiling / 2 + (ceiling / 2) * random);
};
