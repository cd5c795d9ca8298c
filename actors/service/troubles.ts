/**
 * What goes wrong with the connections of an edge, as rates by kind, and in words. Plain functions over what the last
 * window told; agents that do not tell kinds leave only the sum of failed connects.
 */
import { TROUBLE, TROUBLES } from "../../schemas/wire/observe.ts";
import type { EdgeWindow } from "./messages.ts";

/** Per second, by index of TROUBLES; empty where there was nothing. */
export type Troubles = readonly number[];
export const NO_TROUBLES: Troubles = [];

export const troublesOf = ({ troubles }: EdgeWindow, seconds: number): Troubles => {
  if (troubles === undefined) return NO_TROUBLES;
  const rates = Array.from({ length: TROUBLES.length }, () => 0);
  for (let i = 0; i + 1 < troubles.length; i += 2) {
    const kind = troubles[i] ?? 0;
    // Kinds of a newer agent are not known here.
    if (kind < rates.length) rates[kind] = (rates[kind] ?? 0) + (troubles[i + 1] ?? 0) / seconds;
  }
  return rates;
};

export const addTroubles = (all: readonly Troubles[]): Troubles =>
  all.every((one) => one.length === 0)
    ? NO_TROUBLES
    : TROUBLES.map((_, kind) => all.reduce((sum, one) => sum + (one[kind] ?? 0), 0));

const REASONS = [
  [TROUBLE.refused, "refused"],
  [TROUBLE.timedOut, "not answered in time"],
  [TROUBLE.unreachable, "found unreachable"],
] as const;

/** Why connects fail: "refused", "3.0/s refused, 1.0/s not answered in time"; "" where nobody told. `failed`: their rate. */
export const whyFailed = (troubles: Troubles, failed = 0): string => {
  const known = REASONS.map(([kind, text]) => ({ text, rate: troubles[kind] ?? 0 })).filter(({ rate }) => rate > 0);
  const [first, ...more] = known;
  if (first === undefined) return "";
  const rest = failed - known.reduce((sum, { rate }) => sum + rate, 0);
  if (more.length === 0 && rest < 0.05 * failed) return first.text;
  return known.map(({ text, rate }) => `${rate.toFixed(1)}/s ${text}`).join(", ");
};

/** "connects to a are refused, to b not answered in time" */
export const describeFailed = (edges: readonly { name: string; failed: number; troubles: Troubles }[]): string => {
  const byReason = new Map<string, string[]>();
  for (const { name, failed, troubles } of edges) {
    const why = whyFailed(troubles, failed);
    const reason = why === "" ? "fail" : why.includes("/s") ? `fail (${why})` : `are ${why}`;
    const names = byReason.get(reason);
    if (names === undefined) byReason.set(reason, [name]);
    else names.push(name);
  }
  return `connects ${[...byReason].map(([reason, names]) => `to ${names.join(", ")} ${reason}`).join("; ")}`;
};
