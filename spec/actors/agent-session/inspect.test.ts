import { describe, expect, it } from "vitest";
import { inspectAgent } from "../../../actors/agent-session/inspect.ts";
import type { AgentView } from "../../../schemas/wire/page.ts";

const NOW = 1_000_000;
const well: AgentView = {
  id: "a",
  node: "n",
  cluster: "c",
  version: "1",
  kernel: "6.18",
  state: "connected",
  connectedAt: 0,
  lastFrameAt: NOW - 300,
  clockOffsetMs: -12,
  window: 100,
  framesPerSecond: 1,
  bytesPerSecond: 1000,
  instances: 3,
  edges: 4,
  capabilities: [{ feature: "probe", state: "on", errno: 0, reason: "" }],
  losses: {},
  conflicts: 0,
  self: {
    cpuCores: 0.01,
    memoryBytes: 1e8,
    loopLateMs: 4,
    windowsWaiting: 0,
    bytesPerSecond: 1e6,
    unknownBytesPerSecond: 0,
    tlsBlindBytesPerSecond: 0,
    "used.edges": 0.01,
  },
};
const check = (id: string, change: Partial<AgentView>, self: AgentView["self"] = {}) =>
  inspectAgent({ ...well, ...change, self: { ...(change.self ?? well.self), ...self } }, NOW).find(
    (one) => one.id === id,
  );

describe("inspections of an agent", () => {
  it("are all fine for one that is well, and unknown where it does not say", () => {
    expect(inspectAgent(well, NOW).map(({ status }) => status)).toEqual(Array.from({ length: 7 }, () => "ok"));
    const silent = inspectAgent({ ...well, self: {}, capabilities: [] }, NOW);
    expect(Object.fromEntries(silent.map(({ id, status }) => [id, status]))).toEqual({
      behind: "unknown",
      losing: "unknown",
      full: "unknown",
      hooks: "unknown",
      clock: "ok",
      unread: "unknown",
      cost: "unknown",
    });
  });

  it.each([
    [
      "behind",
      { state: "disconnected", lastFrameAt: NOW - 70_000 },
      {},
      "critical",
      "disconnected, last heard 1 min 10 s ago",
    ],
    ["behind", { lastFrameAt: NOW - 12_000 }, {}, "warning", "nothing heard for 12 s"],
    [
      "behind",
      {},
      { loopLateMs: 2_500, windowsWaiting: 30 },
      "warning",
      "2.5 s late in the last minute; 30 seconds wait",
    ],
    [
      "losing",
      {},
      { "lost.events": 3, "lost.requestsWithoutOwner": 9 },
      "warning",
      "9 requests without owner, 3 events",
    ],
    ["losing", { losses: { "windows shed": 2 } }, {}, "warning", "2 windows shed"],
    ["full", {}, { "used.rows": 0.95, "used.edges": 1.1 }, "warning", "edges 100 % full, rows 95 % full"],
    ["clock", { clockOffsetMs: 5_400 }, {}, "warning", "5.4 s ahead of the server's"],
    ["unread", {}, { tlsBlindBytesPerSecond: 6e5 }, "info", "60 % of 977 KiB/s within TLS that is not read"],
    ["unread", {}, { unknownBytesPerSecond: 5e4 }, "ok", "5.0 % of"],
    ["cost", {}, { probeCpuCores: 0.6 }, "warning", "0.610 cores"],
  ] as const)("%s: %j %j is %s", (id, change, self, status, message) => {
    expect(check(id, change, self)).toMatchObject({ status, message: expect.stringContaining(message) as string });
  });

  it("name what the kernel refused, and leave out what is not missed", () => {
    const docker = { feature: "docker", state: "off", errno: 2, reason: "no socket" } as const;
    const nat = { feature: "connections.nat", state: "off", errno: 1, reason: "needs CAP_NET_ADMIN" } as const;
    const tls = { feature: "tls", state: "degraded", errno: 0, reason: "java (its own TLS)" } as const;
    expect(check("hooks", { capabilities: [docker] })).toMatchObject({ status: "ok" });
    expect(check("hooks", { capabilities: [docker, tls] })).toMatchObject({
      status: "info",
      message: "tls: java (its own TLS)",
    });
    expect(check("hooks", { capabilities: [docker, tls, nat] })).toMatchObject({
      status: "warning",
      message: "connections.nat off (needs CAP_NET_ADMIN)",
    });
  });
});
