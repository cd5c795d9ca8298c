/** The audit log under a flood of refused requests. */
import { expect, it } from "vitest";
import { makeRefusals, REFUSALS_PER_MINUTE } from "../../../runtime/http/Refusals.ts";

it("writes a few refusals a minute, and tells with the next how many were left out", () => {
  const refusals = makeRefusals();
  const first = Array.from({ length: 5_000 }, (_, n) => refusals.take(n)).filter((told) => told !== null);
  expect(first).toEqual(Array.from({ length: REFUSALS_PER_MINUTE }, () => 0));
  expect(refusals.take(59_999)).toBeNull();
  expect(refusals.take(60_000)).toBe(5_000 - REFUSALS_PER_MINUTE + 1);
  // the second of the minute before is still within the last 60 seconds of the third
  expect(refusals.take(60_001)).toBe(0);
});
