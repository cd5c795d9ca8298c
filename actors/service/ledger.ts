/**
 * The error-budget ledger: good, bad and slow requests by minute for six hours, by hour for four days and by day for
 * thirty, and the burn rules that read it. Owned by one service actor; rebuilt from `sli_minutes` after a restart.
 */
const MINUTE = 60_000;
const MINUTES = 6 * 60;
const HOURS = 4 * 24;
const DAYS = 30;

/** One minute of judgement as the store keeps it; the answer of port "ledger" has the same columns. */
export interface LedgerMinute {
  readonly minuteMs: number;
  readonly total: number;
  readonly bad: number;
  readonly slow: number;
}

interface Ring {
  readonly span: number;
  readonly slots: number;
  /** number of the slot's span, so that stale slots are told apart without clearing */
  readonly stamp: Float64Array;
  readonly total: Float64Array;
  readonly bad: Float64Array;
  readonly slow: Float64Array;
}

const ring = (span: number, slots: number): Ring => ({
  span,
  slots,
  stamp: new Float64Array(slots).fill(-1),
  total: new Float64Array(slots),
  bad: new Float64Array(slots),
  slow: new Float64Array(slots),
});

export interface Spent {
  readonly total: number;
  readonly bad: number;
  readonly slow: number;
  /** share of the window's span that has data, 0..1 */
  readonly coverage: number;
}

export class Ledger {
  readonly #rings = [ring(MINUTE, MINUTES), ring(60 * MINUTE, HOURS), ring(24 * 60 * MINUTE, DAYS)] as const;
  // Of one minute, and in no ring yet: windows come many to a second, and mostly of the same minute.
  #minute = 0;
  #total = 0;
  #bad = 0;
  #slow = 0;

  add(atMs: number, total: number, bad: number, slow: number): void {
    if (total === 0) return;
    const minute = Math.floor(atMs / MINUTE);
    if (minute !== this.#minute) {
      this.#settle();
      this.#minute = minute;
    }
    this.#total += total;
    this.#bad += bad;
    this.#slow += slow;
  }

  #settle(): void {
    const [atMs, total, bad, slow] = [this.#minute * MINUTE, this.#total, this.#bad, this.#slow];
    if (total === 0) return;
    this.#total = this.#bad = this.#slow = 0;
    for (const r of this.#rings) {
      const number = Math.floor(atMs / r.span);
      const slot = number % r.slots;
      const stamp = r.stamp[slot] ?? -1;
      if (stamp > number) continue;
      if (stamp < number) {
        r.stamp[slot] = number;
        r.total[slot] = 0;
        r.bad[slot] = 0;
        r.slow[slot] = 0;
      }
      r.total[slot] = (r.total[slot] ?? 0) + total;
      r.bad[slot] = (r.bad[slot] ?? 0) + bad;
      r.slow[slot] = (r.slow[slot] ?? 0) + slow;
    }
  }

  /** Adds or takes out what was counted wrongly, as far back as each ring reaches. */
  correct(atMs: number, total: number, bad: number, slow: number): void {
    this.#settle();
    for (const r of this.#rings) {
      const number = Math.floor(atMs / r.span);
      const slot = number % r.slots;
      if (r.stamp[slot] !== number) continue;
      r.total[slot] = (r.total[slot] ?? 0) + total;
      r.bad[slot] = (r.bad[slot] ?? 0) + bad;
      r.slow[slot] = (r.slow[slot] ?? 0) + slow;
    }
  }

  /** What happened in the minute of `atMs`, as far back as minutes are kept. */
  minute(atMs: number): Omit<LedgerMinute, "minuteMs"> {
    this.#settle();
    const [{ span, slots, stamp, total, bad, slow }] = this.#rings;
    const number = Math.floor(atMs / span);
    const slot = number % slots;
    return stamp[slot] === number
      ? { total: total[slot] ?? 0, bad: bad[slot] ?? 0, slow: slow[slot] ?? 0 }
      : { total: 0, bad: 0, slow: 0 };
  }

  /** What happened in the last `windowMs`, from the finest ring that reaches that far. */
  spent(nowMs: number, windowMs: number): Spent {
    this.#settle();
    const r =
      this.#rings.find((candidate) => candidate.span * candidate.slots >= windowMs) ??
      this.#rings[this.#rings.length - 1];
    if (r === undefined) return { total: 0, bad: 0, slow: 0, coverage: 0 };
    const last = Math.floor(nowMs / r.span);
    const first = last - Math.max(1, Math.round(windowMs / r.span)) + 1;
    let total = 0;
    let bad = 0;
    let slow = 0;
    let filled = 0;
    for (let number = first; number <= last; number++) {
      const slot = ((number % r.slots) + r.slots) % r.slots;
      if (r.stamp[slot] !== number) continue;
      filled++;
      total += r.total[slot] ?? 0;
      bad += r.bad[slot] ?? 0;
      slow += r.slow[slot] ?? 0;
    }
    return { total, bad, slow, coverage: filled / (last - first + 1) };
  }
}

export interface BurnRule {
  readonly longMs: number;
  readonly shortMs: number;
  readonly threshold: number;
  readonly severity: "critical" | "warning";
  readonly long: string;
  readonly short: string;
}

const H = 60 * MINUTE;
export const BURN_RULES: readonly BurnRule[] = [
  { longMs: H, shortMs: 5 * MINUTE, threshold: 14.4, severity: "critical", long: "1 h", short: "5 min" },
  { longMs: 6 * H, shortMs: 30 * MINUTE, threshold: 6, severity: "critical", long: "6 h", short: "30 min" },
  { longMs: 72 * H, shortMs: 6 * H, threshold: 1, severity: "warning", long: "3 d", short: "6 h" },
];

/** Share of bad over what the objective allows; null while less than half of the window has data. */
export const burn = (spent: Spent, bad: number, objective: number): number | null =>
  spent.coverage < 0.5 || spent.total === 0 || objective >= 1 ? null : bad / spent.total / (1 - objective);
