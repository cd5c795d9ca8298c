import { describe, expect, it } from "vitest";
import { BadDemoArgument, demoMode, faultNames } from "../../../deploy/demo/args.ts";

const base = { check: false, shuffle: false, json: false };

describe("what the demo can be asked for", () => {
  it("runs the shop, alone or with a fault", () => {
    expect(demoMode(base)).toEqual({ kind: "shop", fault: null });
    expect(demoMode({ ...base, fault: "db-lock" })).toEqual({ kind: "shop", fault: "db-lock" });
  });

  it("checks all five, or those that are named once each", () => {
    expect(demoMode({ ...base, check: true })).toEqual({ kind: "check", faults: faultNames });
    expect(demoMode({ ...base, check: true, faults: ["oom", "errors", "oom"] })).toEqual({
      kind: "check",
      faults: ["oom", "errors"],
    });
    expect(demoMode({ ...base, check: true, fault: "oom" })).toEqual({ kind: "check", faults: ["oom"] });
  });

  it("names every fault when one is unknown", () => {
    expect(() => demoMode({ ...base, fault: "disk-full" })).toThrow(BadDemoArgument);
    for (const name of faultNames) expect(() => demoMode({ ...base, fault: "disk-full" })).toThrow(name);
    expect(() => demoMode({ ...base, check: true, faults: ["errors", "toString"] })).toThrow(
      'unknown fault "toString"',
    );
  });

  it.each([
    [{ seconds: 0 }, /seconds must be a number of seconds above 0, got 0/],
    [{ warmupSeconds: -1 }, /warmup must be/],
    [{ quietSeconds: Number.NaN }, /quiet must be/],
    [{ server: "localhost:8080" }, /server must be an http:\/\/ address/],
    [{ quietSeconds: 5, check: true }, /quiet runs without --check/],
    [{ faults: ["oom"] }, /faults is for --check/],
  ])("refuses %j", (wrong, message) => {
    expect(() => demoMode({ ...base, ...wrong })).toThrow(message);
  });
});
