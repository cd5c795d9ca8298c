/** What a person reads of a failure: every cause down to the root, where it was thrown, and nothing secret. */
import { Cause, Effect, Exit } from "effect";
import fc from "fast-check";
import { expect, it } from "vitest";
import { describe } from "../../../runtime/actor/describe.ts";

/** Without the places, which change with this file. */
const words = (thrown: unknown): string => describe(thrown).replace(/ at (?:(?!; caused by| and ).)*/g, "");

it("names each cause down to the root, and where each was thrown", () => {
  const root = new RangeError("histogram has 109 counters");
  const error = new Error("window was refused", { cause: new TypeError("fold", { cause: root }) });
  expect(words(error)).toBe(
    "Error: window was refused; caused by TypeError: fold; caused by RangeError: histogram has 109 counters",
  );
  expect(describe(error)).toMatch(/109 counters at .*\(?describe\.test\.ts:\d+:\d+\)?$/);
  expect(describe(error)).not.toContain(import.meta.dirname);
});

it("looks into Effect's causes and fiber failures", () => {
  const error = new Error("mailbox", { cause: Cause.parallel(Cause.fail("refused"), Cause.die(new Error("broken"))) });
  expect(words(error)).toBe("Error: mailbox; caused by refused and Error: broken");
  let thrown: unknown;
  try {
    Effect.runSync(Effect.fail({ _tag: "StateError", reason: "gone" }));
  } catch (caught) {
    thrown = caught;
  }
  expect(describe(thrown)).toBe('{"_tag":"StateError","reason":"gone"}');
  const interrupted = Effect.runSyncExit(Effect.interrupt);
  expect(Exit.isFailure(interrupted) && describe(interrupted.cause)).toBe("interrupted");
});

it("names all of several errors", () => {
  expect(words(new AggregateError([new Error("a"), "b"], "both failed"))).toBe(
    "AggregateError: both failed; caused by Error: a and b",
  );
});

it("masks the credentials of a URL, also in a cause", () => {
  const error = new Error("no database", { cause: new Error("connect postgres://coroot:hunter2@db:5432/state") });
  expect(describe(error)).toContain("postgres://•••@db:5432/state");
  expect(describe(error)).not.toContain("hunter2");
});

it("ends where causes go in a circle or are many, and when the text is long", () => {
  const a = new Error("a");
  a.cause = new Error("b", { cause: a });
  expect(words(a)).toBe("Error: a; caused by Error: b");
  let deep = new Error("0");
  for (let n = 1; n < 50; n++) deep = new Error(String(n), { cause: deep });
  expect(words(deep)).toBe(`${[49, 48, 47, 46, 45, 44].map((n) => `Error: ${n}`).join("; caused by ")}; caused by …`);
  expect(describe(new Error("x".repeat(5_000)))).toHaveLength(1_000);
});

it("says something in one line of whatever is thrown", () => {
  const circle: Record<string, unknown> = {};
  circle["self"] = circle;
  const nasty = Object.defineProperty(new Error("x"), "message", {
    get: () => {
      throw new Error("no");
    },
  });
  for (const value of [undefined, null, 0, Symbol("s"), circle, nasty, { a: 1n }]) expect(describe(value)).not.toBe("");
  fc.assert(
    fc.property(fc.anything(), (value) => {
      const line = describe(value);
      expect(line).not.toContain("\n");
      expect(line.length).toBeLessThanOrEqual(1_000);
    }),
  );
});
