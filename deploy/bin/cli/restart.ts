/**
 * Whether and when an ended node agent is started again: exponential waits from 1 s to 30 s that begin anew after a
 * minute of health; an exit that says "cannot run here" or "wrong usage" is final. Pure.
 */
import { EXIT } from "./command.ts";

export interface Restarts {
  /** ends in a row without a minute of health between them */
  readonly inARow: number;
}

export type Decision =
  | { readonly kind: "restart"; readonly waitMs: number; readonly next: Restarts }
  | { readonly kind: "give-up"; readonly why: string };

export const HEALTHY_MS = 60_000;
const FIRST_MS = 1_000;
const LONGEST_MS = 30_000;

export const none: Restarts = { inARow: 0 };

export const afterEnd = (before: Restarts, exitCode: number | null, ranMs: number): Decision => {
  if (exitCode === EXIT.capability) return { kind: "give-up", why: "this machine lacks what it needs" };
  if (exitCode === EXIT.usage) return { kind: "give-up", why: "it was started with wrong arguments" };
  if (exitCode === EXIT.conflict) return { kind: "give-up", why: "its data folder is in use" };
  const inARow = ranMs >= HEALTHY_MS ? 0 : before.inARow;
  return { kind: "restart", waitMs: Math.min(LONGEST_MS, FIRST_MS * 2 ** inARow), next: { inARow: inARow + 1 } };
};
