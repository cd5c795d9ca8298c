import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BURN_RULES, burn, Ledger } from "../../../actors/service/ledger.ts";

const MINUTE = 60_000;
const START = 1_700_000_000_000 - (1_700_000_000_000 % (24 * 60 * MINUTE));

describe("the error-budget ledger", () => {
  it("adds up to what was put in, whatever the order, as far as a window reaches", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat({ max: 299 }), fc.nat({ max: 50 }), fc.nat({ max: 5 })), { maxLength: 80 }),
        (list) => {
          const ledger = new Ledger();
          for (const [minute, good, bad] of list) ledger.add(START + minute * MINUTE, good + bad, bad, 0);
          const spent = ledger.spent(START + 299 * MINUTE, 300 * MINUTE);
          expect(spent.total).toBe(list.reduce((n, [, good, bad]) => n + good + bad, 0));
          expect(spent.bad).toBe(list.reduce((n, [, , bad]) => n + bad, 0));
        },
      ),
    );
  });

  it("forgets what is older than its window and does not mix it with what follows", () => {
    const ledger = new Ledger();
    ledger.add(START, 100, 100, 0);
    ledger.add(START + 7 * 60 * MINUTE, 10, 0, 0);
    expect(ledger.spent(START + 7 * 60 * MINUTE, 60 * MINUTE)).toMatchObject({ total: 10, bad: 0 });
    expect(ledger.spent(START + 7 * 60 * MINUTE, 30 * 24 * 60 * MINUTE)).toMatchObject({ total: 110, bad: 100 });
  });

  it("gives no burn rate while less than half of the window has data", () => {
    const ledger = new Ledger();
    for (let minute = 0; minute < 29; minute++) ledger.add(START + minute * MINUTE, 100, 50, 0);
    const hour = ledger.spent(START + 28 * MINUTE, 60 * MINUTE);
    expect(burn(hour, hour.bad, 0.99)).toBeNull();
    ledger.add(START + 29 * MINUTE, 100, 50, 0);
    const later = ledger.spent(START + 29 * MINUTE, 60 * MINUTE);
    expect(burn(later, later.bad, 0.99)).toBeCloseTo(50);
  });

  it("has the burn rules that the objective is judged by", () => {
    expect(BURN_RULES.map((rule) => [rule.long, rule.short, rule.threshold, rule.severity])).toEqual([
      ["1 h", "5 min", 14.4, "critical"],
      ["6 h", "30 min", 6, "critical"],
      ["3 d", "6 h", 1, "warning"],
    ]);
  });
});
