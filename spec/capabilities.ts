/**
 * Tests that need something of the machine (the list is in machine.ts): `describeWith(["bpf", "redis"], …)` runs where
 * all of it is there, skips with the reason in the title where it is not, and fails instead of skipping where
 * COROOT_REQUIRE names what is missing.
 */
import { describe, it, type TestFunction } from "vitest";
import { capability, type CapabilityName, requiredCapabilities, type Verdict, verdict } from "./machine.ts";

export * from "./machine.ts";

const judge = (needs: readonly CapabilityName[]): Verdict =>
  verdict(needs, capability, requiredCapabilities(process.env["COROOT_REQUIRE"]));

const refuse = (why: string) => () => {
  throw new Error(`a capability that COROOT_REQUIRE names is missing: ${why}`);
};

/** `describe` that runs only where all of `needs` are there. */
export const describeWith = (needs: readonly CapabilityName[], title: string, body: () => void): void => {
  const judged = judge(needs);
  if (judged.kind === "run") describe(title, body);
  else if (judged.kind === "skip") describe.skip(`${title} [needs ${judged.why}]`, body);
  else describe(title, () => it("has what it needs", refuse(judged.why)));
};

/** `it` that runs only where all of `needs` are there. */
export const itWith = (
  needs: readonly CapabilityName[],
  title: string,
  body: TestFunction,
  timeoutMs?: number,
): void => {
  const judged = judge(needs);
  if (judged.kind === "run") it(title, body, timeoutMs);
  else if (judged.kind === "skip") it.skip(`${title} [needs ${judged.why}]`, body);
  else it(title, refuse(judged.why));
};
