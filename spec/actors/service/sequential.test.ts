import { describe, expect, it } from "vitest";
import { ALARM, observe, observeRecovery, quiet, rates, RECOVERED } from "../../../actors/service/sequential.ts";

/** A reproducible stream of numbers in [0, 1). */
const random = (seed: number) => () => {
  seed = (seed * 48271) % 2147483647;
  return seed / 2147483647;
};

const alarmAfter = (share: number, perSecond: number, seconds: number, seed: number, usual = 0): number | null => {
  const next = random(seed);
  const pair = rates(0.99, usual);
  let state = quiet(0);
  for (let second = 0; second < seconds; second++) {
    let bad = 0;
    for (let i = 0; i < perSecond; i++) if (next() < share) bad++;
    state = observe(state, pair, perSecond, bad, second * 1000);
    if (state.sum > ALARM) return second + 1;
  }
  return null;
};

describe("the fast rule", () => {
  it("sees a total outage at five requests a second within two seconds", () => {
    expect(alarmAfter(1, 5, 10, 1)).toBeLessThanOrEqual(2);
  });

  it("sees 30 % errors at ten requests a second within five seconds, nearly always", () => {
    const late = Array.from({ length: 200 }, (_, i) => alarmAfter(0.3, 10, 60, i + 1) ?? 60).filter((s) => s > 5);
    expect(late.length).toBeLessThan(20);
  });

  it("keeps its promise at the objective: no alarm in a million requests that fail as often as allowed", () => {
    const alarms = Array.from({ length: 10 }, (_, i) => alarmAfter(0.01, 100, 1_000, i + 1)).filter((s) => s !== null);
    expect(alarms).toEqual([]);
  });

  it("judges a service that always fails by what is usual for it", () => {
    expect(alarmAfter(0.05, 50, 600, 3, 0.05)).toBeNull();
    expect(alarmAfter(0.05, 50, 600, 3, 0)).not.toBeNull();
  });

  it("estimates the onset within a second", () => {
    const pair = rates(0.99, 0);
    let state = quiet(0);
    for (let second = 0; second < 30; second++) state = observe(state, pair, 20, second < 25 ? 0 : 10, second * 1000);
    expect(state.zeroAt).toBe(25_000);
  });

  it("counts good requests as recovery and is thrown back by bad ones", () => {
    const pair = rates(0.99, 0);
    let sum = 0;
    for (let i = 0; i < 2; i++) sum = observeRecovery(sum, pair, 20, 0);
    expect(sum).toBeGreaterThan(RECOVERED);
    expect(observeRecovery(sum, pair, 20, 5)).toBe(0);
  });
});
