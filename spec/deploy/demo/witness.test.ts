import { afterEach, describe, expect, it } from "vitest";
import { Cleanup } from "../../../deploy/demo/cleanup.ts";
import { LoadWitness } from "../../../deploy/demo/load.ts";
import { makeReport, usersLine } from "../../../deploy/demo/report.ts";
import { readIncident } from "../../../deploy/demo/server.ts";
import { startReceiver } from "../../../deploy/demo/webhook.ts";

describe("the users' witness", () => {
  it("adds up seconds and finds the first bad request after a moment", () => {
    const users = new LoadWitness();
    users.read('{"type":"slow","at":90,"route":"home"}');
    users.read('{"type":"failed","at":110,"route":"cart","problem":"502"}');
    users.read('{"type":"second","at":1000,"sent":50,"ok":48,"failed":1,"slow":1,"p50":8,"p95":20}');
    users.read('{"type":"second","at":2000,"sent":40,"ok":40,"failed":0,"slow":0,"p50":7,"p95":30}');
    users.read("not a line of ours");
    users.read("[]");
    expect(users.total).toEqual({ sent: 90, ok: 88, failed: 1, slow: 1 });
    expect(users.firstBad(100)).toEqual({ type: "failed", at: 110, route: "cart", problem: "502" });
    expect(users.firstBad(111)).toBeUndefined();
    expect(users.unread).toBe(2);
    expect(usersLine(users.seconds)).toBe("users: 45 requests/s, 88 ok, 1 failed, 1 slow, worst p95 30 ms");
  });
});

describe("reading an incident", () => {
  const card = {
    id: "i",
    status: "open",
    service: "c/n/Unit/nginx",
    headline: "h",
    suspectedAt: 1,
    openedAt: 2,
    resolvedAt: null,
  };
  const cause = { service: "c/n/Unit/redis", kind: "dependency_down", confidence: "high" };

  it("takes the best cause of a card and of a whole incident", () => {
    expect(readIncident({ ...card, cause }).cause).toEqual({ service: "c/n/Unit/redis", kind: "dependency_down" });
    expect(readIncident({ ...card, cause: null }).cause).toBeNull();
    const named = { ...cause, headline: "redis is down" };
    expect(readIncident({ ...card, rca: { causes: [named, { ...named, kind: "cpu" }] } }).cause?.kind).toBe(
      "dependency_down",
    );
    expect(readIncident({ ...card, rca: null }).cause).toBeNull();
  });

  it("tells its timeline, causes and what was ruled out", () => {
    const named = { ...cause, headline: "redis is down" };
    const rca = { causes: [named], ruledOut: [{ service: "c/n/Unit/cart", reason: "only passes it on" }] };
    const timeline = [{ at: 5, kind: "opened", service: null, text: "nginx fails" }];
    expect(readIncident({ ...card, rca, timeline }).account).toEqual([
      { at: 5, text: "opened: nginx fails" },
      { at: null, text: "cause 1: c/n/Unit/redis dependency_down (high): redis is down" },
      { at: null, text: "ruled out: c/n/Unit/cart: only passes it on" },
    ]);
  });

  it("names the field that is not as promised", () => {
    expect(() => readIncident({ ...card, openedAt: "now" })).toThrow(/openedAt: expected a number or null, got "now"/);
    expect(() => readIncident({ ...card, cause: { ...cause, kind: "gremlins" } })).toThrow(/kind: expected one of/);
    expect(() => readIncident([])).toThrow(/incident: expected an object/);
  });
});

describe("the webhook receiver", () => {
  const cleanup = new Cleanup();
  afterEach(async () => {
    await cleanup.run();
  });

  it("notes deliveries and refuses what is none", async () => {
    const receiver = await startReceiver(cleanup);
    const post = async (body: string): Promise<number> => (await fetch(receiver.url, { method: "POST", body })).status;
    expect(await post(JSON.stringify({ event: "incident.opened", incident: { id: "i1" } }))).toBe(200);
    expect(await post("{}")).toBe(400);
    expect(await post("<xml>")).toBe(400);
    expect(receiver.deliveries).toMatchObject([{ event: "incident.opened", incident: "i1" }]);
    expect(receiver.refused()).toBe(2);
  });
});

describe("undoing", () => {
  it("runs in reverse, goes on after a failure and reports it, and does nothing twice", async () => {
    const order: string[] = [];
    const cleanup = new Cleanup();
    cleanup.add("first", async () => void order.push("first"));
    cleanup.add("second", () => Promise.reject(new Error("stuck")));
    cleanup.add("third", async () => void order.push("third"));
    expect(await cleanup.run()).toEqual(["second: stuck"]);
    expect(order).toEqual(["third", "first"]);
    expect(await cleanup.run()).toEqual([]);
  });
});

describe("the report", () => {
  it("is one JSON object per line when asked for", () => {
    const lines: string[] = [];
    const report = makeReport(true, (line) => lines.push(line));
    report.tell("hello");
    report.print("a table");
    report.data("verdict", { right: true });
    expect(lines.map((line) => JSON.parse(line) as unknown)).toMatchObject([
      { type: "note", text: "hello" },
      { type: "verdict", right: true },
    ]);
  });
});
