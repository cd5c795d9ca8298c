/**
 * How the demo speaks: sentences with the time since its start, or one JSON object per line. Owned by the command; writes
 * to standard output and holds nothing to stop.
 */
import { now } from "./clock.ts";
import type { LoadSecond } from "./load.ts";

export interface Report {
  readonly tell: (text: string) => void;
  /** a text as it stands, such as a table; nothing in JSON, where `data` has said it */
  readonly print: (text: string) => void;
  readonly data: (type: string, value: object) => void;
}

export const makeReport = (json: boolean, write: (line: string) => void): Report => {
  const startedAt = now();
  const elapsed = (): string => `${((now() - startedAt) / 1000).toFixed(0).padStart(4)} s`;
  return json
    ? {
        tell: (text) => write(JSON.stringify({ type: "note", at: now(), text })),
        print: () => {},
        data: (type, value) => write(JSON.stringify({ type, at: now(), ...value })),
      }
    : {
        tell: (text) => write(`${elapsed()}  ${text}`),
        print: write,
        data: () => {},
      };
};

const ms = (value: number | null): string => (value === null ? "-" : `${value} ms`);

/** What the users saw in these seconds, in one line. */
export const usersLine = (seconds: readonly LoadSecond[]): string => {
  const sum = (pick: (second: LoadSecond) => number): number => seconds.reduce((total, one) => total + pick(one), 0);
  const worst = (pick: (second: LoadSecond) => number | null): number | null =>
    seconds.reduce<number | null>((found, one) => {
      const value = pick(one);
      return value === null ? found : Math.max(found ?? 0, value);
    }, null);
  const rate = seconds.length === 0 ? 0 : sum((second) => second.sent) / seconds.length;
  return (
    `users: ${rate.toFixed(0)} requests/s, ${sum((second) => second.ok)} ok, ${sum((second) => second.failed)} failed, ` +
    `${sum((second) => second.slow)} slow, worst p95 ${ms(worst((second) => second.p95))}`
  );
};
