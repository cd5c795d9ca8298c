/** When `coroot start` brings the node agent back, and when it leaves it. */
import { describe, expect, it } from "vitest";
import { afterEnd, HEALTHY_MS, none, type Restarts } from "../../../deploy/bin/cli/restart.ts";
import { changes, summary } from "../../../deploy/bin/cli/start.ts";

const waits = (runs: readonly number[]): readonly number[] => {
  let state: Restarts = none;
  return runs.map((ranMs) => {
    const decision = afterEnd(state, 1, ranMs);
    if (decision.kind === "give-up") return -1;
    state = decision.next;
    return decision.waitMs;
  });
};

describe("an agent that ends", () => {
  it("is started again after longer and longer waits, half a minute at most", () => {
    expect(waits([0, 0, 0, 0, 0, 0, 0])).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
  });

  it("begins anew after a minute of health", () => {
    expect(waits([0, 0, HEALTHY_MS, 0])).toEqual([1_000, 2_000, 1_000, 2_000]);
  });

  it("is left when it says that it cannot run here", () => {
    for (const code of [2, 3, 4]) expect(afterEnd(none, code, 0).kind).toBe("give-up");
    expect(afterEnd(none, null, 0).kind).toBe("restart");
  });
});

describe("the summary", () => {
  const agent = {
    id: "a",
    node: "vm-1",
    capabilities: [
      { feature: "traffic", state: "on", errno: 0, reason: "" },
      { feature: "tls", state: "off", errno: 0, reason: "no OpenSSL found" },
      { feature: "iterators", state: "degraded", errno: 22, reason: "" },
    ],
  };

  it("says how much is observed, and every feature that is not on with its reason", () => {
    expect(summary([agent], 3)).toEqual([
      "observed  3 services on vm-1",
      "off       tls: no OpenSSL found",
      "off       iterators: degraded",
    ]);
  });

  it("says so when no agent has reported", () => {
    expect(summary([], 0)).toEqual(["observed  nothing yet: no node agent has reported"]);
  });
});

describe("after the summary", () => {
  it("a feature that goes off, changes its reason or comes back is told once", () => {
    const before = new Map([["tls", "no OpenSSL"]]);
    expect(changes(before, before)).toEqual([]);
    expect(
      changes(
        before,
        new Map([
          ["tls", "no symbols"],
          ["oom", "no right"],
        ]),
      ),
    ).toEqual(["off       tls: no symbols", "off       oom: no right"]);
    expect(changes(before, new Map())).toEqual(["on        tls"]);
  });
});
