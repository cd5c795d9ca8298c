/**
 * A failure as one line that a person reads: what was thrown, where, and what caused it, down to the root. Errors,
 * Effect's causes and fiber failures, and whatever else can be thrown. Bounded in causes and length; credentials inside
 * URLs are masked, since drivers like to quote their address. Pure; never throws, as the kernel calls it while it handles
 * a failure.
 */
import { Cause, Runtime } from "effect";
import { maskSecrets } from "./mask.ts";

const MOST_ERRORS = 6;
const MOST_CHARACTERS = 1_000;

/** "fold (observe.ts:44:11)" of the first line of a stack that names a place. */
const placeOf = (stack: string | undefined): string => {
  const line = stack?.split("\n").find((one) => /^\s+at /.test(one));
  if (line === undefined) return "";
  return ` at ${line
    .trim()
    .replace(/^at /, "")
    .replace(/(?:[a-z]+:\/\/|\/)[^\s():]*\//, "")}`;
};

const causesOf = (error: Error): readonly unknown[] => [
  ...(error.cause === undefined || error.cause === null ? [] : [error.cause]),
  ...(error instanceof AggregateError ? error.errors : []),
];

/** Effect wraps what failed; what counts is inside. */
const unwrapped = (value: unknown): readonly unknown[] => {
  const cause = Runtime.isFiberFailure(value) ? value[Runtime.FiberFailureCauseId] : value;
  if (!Cause.isCause(cause)) return [value];
  const thrown = [...Cause.failures(cause), ...Cause.defects(cause)];
  return thrown.length > 0 ? thrown : [Cause.isInterrupted(cause) ? "interrupted" : "no cause was given"];
};

const lineOf = (thrown: unknown, seen: Set<unknown>): string =>
  unwrapped(thrown)
    .filter((value) => !(value instanceof Error && seen.has(value)))
    .map((value) => {
      if (!(value instanceof Error))
        return typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);
      if (seen.size >= MOST_ERRORS) return "…";
      seen.add(value);
      const behind = causesOf(value).map((cause) => lineOf(cause, seen));
      const known = behind.filter((line) => line !== "");
      const own = `${value.name}: ${value.message}${placeOf(value.stack)}`;
      return known.length === 0 ? own : `${own}; caused by ${known.join(" and ")}`;
    })
    .join(" and ");

export const describe = (thrown: unknown): string => {
  try {
    const line = String(maskSecrets(lineOf(thrown, new Set()).replace(/\s+/g, " ")));
    return line.length > MOST_CHARACTERS ? `${line.slice(0, MOST_CHARACTERS - 1)}…` : line;
  } catch {
    // a circle of plain objects, or a member that throws when it is read
    return `something of type ${typeof thrown} was thrown that cannot be read`;
  }
};
