/** A missing capability skips with its reason, and fails where COROOT_REQUIRE names it. */
import { describe, expect, it } from "vitest";
import { capability, type Capability, type CapabilityName, requiredCapabilities, verdict } from "./machine.ts";

const machine =
  (there: readonly CapabilityName[]) =>
  (name: CapabilityName): Capability =>
    there.includes(name) ? { available: true, reason: "here" } : { available: false, reason: `no ${name}` };

describe("verdict", () => {
  it("runs where all is there", () => {
    expect(verdict(["root", "redis"], machine(["root", "redis"]), ["redis"])).toEqual({ kind: "run" });
  });

  it("skips with every reason", () => {
    expect(verdict(["root", "redis", "wrk"], machine(["root"]), ["root"])).toEqual({
      kind: "skip",
      why: "redis: no redis; wrk: no wrk",
    });
  });

  it("fails instead where a missing one is required", () => {
    expect(verdict(["redis"], machine([]), ["redis"])).toEqual({ kind: "fail", why: "redis: no redis" });
  });
});

describe("COROOT_REQUIRE", () => {
  it("is a comma list", () => {
    expect(requiredCapabilities(" root, bpf ,")).toEqual(["root", "bpf"]);
    expect(requiredCapabilities(undefined)).toEqual([]);
  });

  it("with a name that is none is an error, so that a slip of the pen hides no skip", () => {
    expect(() => requiredCapabilities("root,postgress")).toThrow(/postgress; known are .*postgres/);
  });
});

describe("detection", () => {
  it("agrees with the process's own user id", () => {
    expect(capability("root").available).toBe(process.getuid?.() === 0);
  });
});
