import { describe, expect, it } from "vitest";
import type { IncidentSeen } from "../../../deploy/demo/server.ts";
import { plainPlan } from "../../../deploy/demo/plan.ts";
import { formatTable } from "../../../deploy/demo/table.ts";
import { concernsUs, judge, type Seen } from "../../../deploy/demo/truth.ts";

const T = 1_800_000_000_000;
const incident: IncidentSeen = {
  id: "i1",
  status: "open",
  service: "host/_/Unit/nginx",
  headline: "nginx fails",
  suspectedAt: T + 3_000,
  openedAt: T + 16_000,
  resolvedAt: null,
  cause: { service: "host/_/Unit/redis", kind: "dependency_down" },
  account: [],
};
const seen: Seen = {
  fault: "redis-down",
  truth: { service: "redis", kind: "dependency_down" },
  injectedAt: T - 100,
  firstBadAt: T,
  endedAt: T + 20_000,
  webhookAt: T + 17_500,
  incident,
  resolvedAt: T + 55_000,
  others: [],
  last: incident,
};

describe("judging a run", () => {
  it("takes times from the first bad request and the later of incident and webhook", () => {
    expect(judge(seen)).toMatchObject({ suspicion: 3, open: 17.5, recovery: 35, right: true, late: [], notes: [] });
  });

  it("accepts a unit named with its suffix", () => {
    const cause = { service: "host/_/Unit/redis.service", kind: "dependency_down" } as const;
    expect(judge({ ...seen, incident: { ...incident, cause } }).right).toBe(true);
  });

  it.each([
    ["another service", { service: "host/_/Unit/cart", kind: "dependency_down" } as const],
    ["another kind", { service: "host/_/Unit/redis", kind: "errors" } as const],
    ["a name that only contains it", { service: "host/_/Unit/redis-2", kind: "dependency_down" } as const],
    ["no cause", null],
  ])("is wrong with %s", (_, cause) => {
    expect(judge({ ...seen, incident: { ...incident, cause } }).right).toBe(false);
  });

  it("is wrong when a second incident opened, and names it", () => {
    const verdict = judge({
      ...seen,
      others: [{ ...incident, id: "i2", service: "host/_/Unit/load", headline: "load" }],
    });
    expect(verdict.right).toBe(false);
    expect(verdict.notes).toEqual(["also opened: load (load)"]);
  });

  it("is wrong and late when no incident opened", () => {
    const verdict = judge({ ...seen, incident: null, webhookAt: null, resolvedAt: null });
    expect(verdict).toMatchObject({ right: false, named: null, suspicion: null, open: null, recovery: null });
    expect(verdict.late).toEqual(["suspicion", "incident", "recovery"]);
    expect(verdict.notes).toContain("no incident opened");
  });

  it("is late, not wrong, when only the times are missed or no webhook came", () => {
    expect(judge({ ...seen, webhookAt: T + 20_001 })).toMatchObject({ right: true, late: ["incident"] });
    const silent = judge({ ...seen, webhookAt: null });
    expect(silent).toMatchObject({ right: true, open: null, late: ["incident"] });
    expect(silent.notes).toContain("no webhook came");
    expect(judge({ ...seen, resolvedAt: T + 80_001 }).late).toEqual(["recovery"]);
  });

  it("gives the incident's own account in seconds after the injection", () => {
    const account = [
      { at: T + 2_900, text: "suspicion: nginx fails" },
      { at: null, text: "cause 1: redis is down" },
    ];
    expect(judge({ ...seen, last: { ...incident, account } }).account).toEqual([
      "3.0 s suspicion: nginx fails",
      "cause 1: redis is down",
    ]);
  });

  it("holds each fault to its own bars", () => {
    const slow = { ...seen, webhookAt: T + 24_000, incident: { ...incident, suspectedAt: T + 9_000 } };
    expect(judge(slow).late).toEqual(["suspicion", "incident"]);
    expect(judge({ ...slow, fault: "oom" }).late).toEqual([]);
    expect(judge({ ...slow, fault: "db-lock", webhookAt: T + 41_000 }).late).toEqual(["incident"]);
  });
});

describe("whose incident it is", () => {
  it.each([
    ["c/host/SystemdUnit/cart", true],
    ["c/host/SystemdUnit/load", true],
    ["c/host/Process/coroot-start", true],
    ["c/host/Process/nginx", false],
    ["c/host/SystemdUnit/sshd", false],
  ])("%s: ours %s", (service, ours) => {
    expect(concernsUs(service, plainPlan())).toBe(ours);
  });
});

describe("the table", () => {
  it("shows every figure with its bar, the verdict, and the notes", () => {
    const wrong = judge({ ...seen, fault: "oom", truth: { service: "cart", kind: "memory" }, resolvedAt: null });
    const text = formatTable([judge(seen), wrong]);
    expect(text.split("\n")).toEqual([
      "fault       suspicion, s  incident and webhook, s  cause named             cause expected          verdict  recovery, s",
      "----------  ------------  -----------------------  ----------------------  ----------------------  -------  -------------",
      "redis-down  3.0 (<= 5)    17.5 (<= 20)             redis: dependency_down  redis: dependency_down  right    35.0 (<= 60)",
      "oom         3.0           17.5 (<= 25)             redis: dependency_down  cart: memory            wrong    - (not <= 60)",
      "",
      "1 of 2 right, 1 of 2 within every bar",
    ]);
  });
});
