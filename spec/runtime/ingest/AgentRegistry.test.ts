/** Who may take an agent's id, how long an agent is listed, and how its clock is mapped: the link's pure parts. */
import { Effect } from "effect";
import { describe, expect, it } from "vitest";
import { makeAgentRegistry } from "../../../runtime/ingest/AgentRegistry.ts";
import { makeClockOffset } from "../../../runtime/ingest/ClockOffset.ts";
import { hello } from "./agent.ts";

describe("an agent's id", () => {
  it("is taken over by another life when the first has been silent for more than ten seconds", () => {
    const registry = makeAgentRegistry();
    const ended: string[] = [];
    const connection = (epoch: number) => ({
      epoch,
      end: (why: string) => void ended.push(`${epoch} ${why}`),
      done: Effect.void,
    });
    expect(registry.claim(hello({ epoch: 1 }), 0, connection(1))).not.toBe("duplicate");
    expect(registry.claim(hello({ epoch: 2 }), 10_000, connection(2))).toBe("duplicate");
    const taken = registry.claim(hello({ epoch: 2 }), 10_001, connection(2));
    expect(taken === "duplicate" ? null : taken.replaced?.epoch).toBe(1);
  });
});

describe("the list of agents", () => {
  it("keeps one that left for 24 hours", () => {
    const registry = makeAgentRegistry();
    const connection = { epoch: 1, end: () => undefined, done: Effect.void };
    const claim = registry.claim(hello(), 0, connection);
    if (claim === "duplicate") throw new Error("refused");
    registry.tick(48 * 3_600_000);
    expect(registry.views()).toHaveLength(1);
    claim.record.lastFrameAt = 48 * 3_600_000;
    registry.release(claim.record, connection);
    registry.tick(72 * 3_600_000);
    expect(registry.views()[0]?.state).toBe("disconnected");
    registry.tick(72 * 3_600_000 + 1);
    expect(registry.views()).toEqual([]);
  });
});

describe("how many agents are connected", () => {
  it("counts an agent once, also when it comes again before its last connection is released", () => {
    const registry = makeAgentRegistry();
    const connections = [1, 2].map(() => ({ epoch: hello().epoch, end: () => undefined, done: Effect.void }));
    const claims = connections.map((connection) => registry.claim(hello(), 0, connection));
    expect(registry.connected()).toBe(1);
    for (const [i, claim] of claims.entries())
      if (claim !== "duplicate" && connections[i] !== undefined) {
        registry.release(claim.record, connections[i]);
        expect(registry.connected()).toBe(1 - i);
      }
  });
});

describe("clock offset", () => {
  it("takes the least delayed of the last frames, and follows a corrected clock", () => {
    const clock = makeClockOffset(10);
    for (const delay of [40, 3, 900_000, 12]) clock.add(1000, 5000 + delay);
    expect(clock.offsetMs()).toBe(4003);
    for (let i = 0; i < 10; i++) clock.add(2000 + i, 9000 + i);
    expect(clock.offsetMs()).toBe(7000);
  });
});
