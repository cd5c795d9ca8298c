/**
 * Supervision as data: what to do after a failure follows from the failures before it, nothing else. One-for-one:
 * restart from the last snapshot, at most 3 times in a minute; then quarantine with exponential back-off and jitter
 * (1 s to 5 min); after the 5th quarantine in a row the parent is told too. A healthy 10 minutes forgives everything.
 */
export const RESTARTS_PER_MINUTE = 3;
export const ESCALATE_AFTER_QUARANTINES = 5;
const MINUTE = 60_000;
const FORGIVE_AFTER = 10 * MINUTE;
const QUARANTINE_BASE = 1_000;
const QUARANTINE_MAX = 5 * MINUTE;

export interface FailureHistory {
  readonly recent: readonly number[];
  readonly quarantines: number;
  readonly lastFailure: number;
}

export const noFailures: FailureHistory = { recent: [], quarantines: 0, lastFailure: Number.NEGATIVE_INFINITY };

export type Directive =
  | { readonly kind: "restart" }
  | { readonly kind: "quarantine"; readonly forMs: number; readonly escalate: boolean };

/** `random` in [0, 1) spreads the quarantine by ±20 %. */
export const decide = (
  history: FailureHistory,
  now: number,
  random: number,
): { readonly directive: Directive; readonly history: FailureHistory } => {
  const quarantines = now - history.lastFailure > FORGIVE_AFTER ? 0 : history.quarantines;
  const recent = [...history.recent.filter((at) => now - at < MINUTE), now];
  if (recent.length <= RESTARTS_PER_MINUTE)
    return { directive: { kind: "restart" }, history: { recent, quarantines, lastFailure: now } };
  const spread = 0.8 + 0.4 * random;
  const forMs = Math.min(QUARANTINE_MAX, QUARANTINE_BASE * 2 ** quarantines) * spread;
  return {
    directive: { kind: "quarantine", forMs, escalate: quarantines + 1 >= ESCALATE_AFTER_QUARANTINES },
    history: { recent: [], quarantines: quarantines + 1, lastFailure: now },
  };
};
