/** Texts of others for a terminal, and times as people write them. Pure. */
import { CommandError, EXIT } from "./command.ts";

/** Without line ends and what a terminal would obey. */
export const oneLine = (text: string): string =>
  text
    .replace(/\s*[\r\n\u2028\u2029]\s*/g, " ")
    // oxlint-disable-next-line no-control-regex -- these are what it is about
    .replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]+/g, (found) => (found === "\t" ? " " : "\ufffd"));

/** 2026-11-27 02:14:34.123, UTC. */
export const instant = (ms: number): string => new Date(ms).toISOString().slice(0, 23).replace("T", " ");

const UNITS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds since the epoch of "30m" (that long ago) or of a time as ISO 8601 writes it, UTC unless it says otherwise. */
export const since = (flag: string, text: string, nowMs: number): number => {
  const [, count, unit = ""] = /^(\d+)([smhd])$/.exec(text) ?? [];
  if (count !== undefined) return nowMs - Number(count) * (UNITS[unit] ?? 0);
  const zoned = /(Z|[+-]\d\d:?\d\d)$/i.test(text) || !text.includes(":") ? text : `${text.replace(" ", "T")}Z`;
  const at = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(zoned) : Number.NaN;
  if (Number.isFinite(at)) return at;
  throw new CommandError(
    EXIT.usage,
    `--${flag} takes a duration such as 30m, 6h or 2d, or a time such as 2026-11-27T02:14Z, not "${text}"`,
    "see: coroot logs --help",
  );
};
