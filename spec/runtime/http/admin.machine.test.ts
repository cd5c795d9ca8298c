/** An operator's hand over HTTP: the right first, then the audit log, then the deed, on actors that really run. */
import { Effect, Exit, Scope } from "effect";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { ActorSystem, make } from "../../../runtime/actor/ActorSystem.ts";
import type { Behavior, Message } from "../../../runtime/actor/Behavior.ts";
import { makeInsides } from "../../../runtime/cluster/Insides.ts";
import { REFUSALS_PER_MINUTE } from "../../../runtime/http/Refusals.ts";
import { CommandError, type CommandsPort } from "../../../runtime/http/Topics.ts";
import { until } from "../ingest/agent.ts";
import { ADMIN_KEY, makeWorld, startServer, type ServerUnderTest } from "./page.ts";

interface Add extends Message {
  readonly type: "add";
}
const counter: Behavior<{ count: number }, Add, null> = {
  kind: "counter",
  mailbox: 64,
  ticks: false,
  initial: () => [{ count: 0 }, []],
  step: (state) => [{ count: state.count + 1 }, []],
  messages: { add: "refuse" },
  inspect: ({ count }) => ({ count, apiKey: "hunter2" }),
};
const ADD: Add = { type: "add" };

interface Audited {
  readonly at: number;
  readonly who: string;
  readonly action: string;
  readonly target: string;
  readonly outcome: string;
}

let system: ActorSystem["Type"];
let under: ServerUnderTest;
let audits: Audited[] = [];
let auditFails = false;
const scope = Effect.runSync(Scope.make());

const count = (): unknown => system.inspect("counter/a")?.state;
const stateOf = (path: string): string | undefined => system.views().find((view) => view.path === path)?.state;

beforeAll(async () => {
  system = await Effect.runPromise(Scope.extend(make, scope));
  system.register(counter);
});
/** A server of its own, so that the refusals of one spec are not those of another. */
beforeEach(async () => {
  await under?.close();
  audits = [];
  auditFails = false;
  system.spawn("counter/a", "counter", null);
  const insides = makeInsides(system, {
    self: { id: "1", name: "n1", url: "" },
    peers: () => [],
    query: () => Effect.die("none"),
  });
  const audit: CommandsPort["audit"] = {
    add: (who, action, target, outcome) =>
      Effect.suspend(() => {
        if (auditFails) return Effect.fail(new CommandError({ message: "audit: the state database does not answer" }));
        audits.push({ at: 1, who, action, target, outcome });
        return Effect.void;
      }),
    recent: Effect.sync(() => [...audits].reverse()),
  };
  const world = makeWorld();
  under = await startServer({
    ...world,
    commands: { ...world.commands, act: insides.act, dump: insides.inspect, audit },
  });
});
afterAll(async () => {
  await under.close();
  await Effect.runPromise(Scope.close(scope, Exit.void));
});

interface Answer {
  readonly status: number;
  readonly body: unknown;
}
const ask = async (path: string, init: RequestInit = {}): Promise<Answer> => {
  const response = await fetch(`${under.server.url}/api${path}`, init);
  return { status: response.status, body: await response.json() };
};
const key = (text = ADMIN_KEY): HeadersInit => ({
  authorization: `Bearer ${text}`,
  "content-type": "application/json",
});
const act = (action: string, path: string, headers: HeadersInit = key()): Promise<Answer> =>
  ask("/actors/action", { method: "POST", headers, body: JSON.stringify({ action, path }) });
const refusedSoFar = async (): Promise<number> => {
  const metrics = await (await fetch(`${under.server.url}/metrics`)).text();
  return Number(/^coroot_admin_refused_total (\d+)$/m.exec(metrics)?.[1] ?? 0);
};

describe("without the admin key", () => {
  it("nothing is done, the answer says where the key is, and the attempt is audited", async () => {
    for (const headers of [{ "content-type": "application/json" }, key("not-the-key"), key(`${ADMIN_KEY}x`)]) {
      const { status, body } = await act("pause", "counter/a", headers);
      expect(status).toBe(403);
      expect(body).toMatchObject({
        message: expect.stringContaining("admin.key in the server's data directory") as string,
      });
    }
    expect(stateOf("counter/a")).toBe("idle");
    expect(audits).toEqual(
      Array.from({ length: 3 }, () => ({
        at: 1,
        who: "unknown",
        action: "pause",
        target: "counter/a",
        outcome: "refused: no admin key",
      })),
    );
    for (const path of ["/actors/dump?path=counter%2Fa", "/audit"]) expect((await ask(path)).status).toBe(403);
  });

  it("a flood of attempts does not push others out of the log, and is counted", async () => {
    const before = await refusedSoFar();
    const attempts = REFUSALS_PER_MINUTE + 15;
    for (let n = 0; n < attempts; n++) expect((await act("restart", `counter/${n}`, key("guess"))).status).toBe(403);
    expect(audits).toHaveLength(REFUSALS_PER_MINUTE);
    expect(await refusedSoFar()).toBe(before + attempts);
  });

  it("the answer is the same when the log cannot be written", async () => {
    auditFails = true;
    expect((await act("pause", "counter/a", key("guess"))).status).toBe(403);
  });
});

describe("with the admin key", () => {
  it("pauses and resumes an actor that runs, and says where", async () => {
    expect(await act("pause", "counter/a")).toEqual({ status: 200, body: { node: "n1" } });
    system.tell("counter/a", ADD);
    expect(stateOf("counter/a")).toBe("paused");
    expect(count()).toMatchObject({ count: 0 });
    expect((await act("resume", "counter/a")).status).toBe(200);
    await until("it goes on", () => JSON.stringify(count()).includes('"count":1'));
    expect(audits.map(({ who, action, outcome }) => `${who} ${action} ${outcome}`)).toEqual([
      "admin pause allowed",
      "admin resume allowed",
    ]);
  });

  it("restarts and drains it", async () => {
    const restarts = system.inspect("counter/a")?.row.restarts ?? 0;
    system.tell("counter/a", ADD);
    expect((await act("restart", "counter/a")).status).toBe(200);
    expect(system.inspect("counter/a")?.row.restarts).toBe(restarts + 1);
    expect((await act("drain", "counter/a")).status).toBe(200);
    await until("it is gone", () => !system.has("counter/a"));
  });

  it("dumps what the console knows of it, secrets masked", async () => {
    const { status, body } = await ask("/actors/dump?path=counter%2Fa", { headers: key() });
    expect(status).toBe(200);
    expect(body).toMatchObject({ row: { path: "counter/a", kind: "counter" }, state: { apiKey: "•••" }, recent: [] });
    expect(JSON.stringify(body)).not.toContain("hunter2");
  });

  it("gives the audit log, newest first, with this reading in it", async () => {
    await act("pause", "counter/a");
    await act("resume", "counter/a");
    const { body } = await ask("/audit", { headers: key() });
    expect((body as Audited[]).map(({ action }) => action)).toEqual(["read the audit log", "resume", "pause"]);
  });

  it("does nothing that cannot be audited", async () => {
    auditFails = true;
    const { status, body } = await act("pause", "counter/a");
    expect(status).toBe(503);
    expect(body).toMatchObject({ message: "audit: the state database does not answer" });
    expect(stateOf("counter/a")).toBe("idle");
  });

  it("names an actor that is not there, and a field that is wrong", async () => {
    const gone = await act("pause", "counter/gone");
    expect(gone).toMatchObject({ status: 404, body: { message: "there is no actor counter/gone" } });
    expect((await ask("/actors/dump?path=counter%2Fgone", { headers: key() })).status).toBe(404);
    const bad = await act("explode", "counter/a");
    expect(bad.status).toBe(400);
    expect(JSON.stringify(bad.body)).toContain('"action"');
    for (const path of ["", "x".repeat(3_000)]) {
      const odd = await act("pause", path);
      expect(odd.status).toBe(400);
      expect(JSON.stringify(odd.body)).toContain('"path"');
    }
    expect(audits.map(({ target }) => target)).toEqual(["counter/gone", "counter/gone"]);
  });
});
