/**
 * From windows to alerts, on the real actors under virtual time: five faults and what must never page anybody.
 */
import { Effect, type Scope } from "effect";
import { describe, expect, it } from "vitest";
import { make, type ActorSystemShape } from "../../runtime/actor/ActorSystem.ts";
import { type SessionArgument, type SessionMessage } from "../../actors/agent-session/messages.ts";
import { noGrouping } from "../../actors/topology/grouping.ts";
import type { HttpPost } from "../../actors/alert-sink/WebhookSink.ts";
import type { Recovered } from "../../actors/incident/IncidentDesk.ts";
import { INCIDENT_DESK } from "../../actors/service/messages.ts";
import { startActors } from "../../actors/guardian.ts";
import type { AlertPayload, Incident } from "../../schemas/incident.ts";
import { serviceName } from "../../schemas/service.ts";
import { manualClock, type ManualClock } from "./ManualClock.ts";
import { steady, windowAt, type Scenario, type Second } from "./shop.ts";

const FAULT_AT = 75;
const SLO = { availabilityObjective: 0.99, latencyObjective: 0.99, latencyThresholdMs: 500, holdMs: 15_000 };

interface Run {
  readonly system: ActorSystemShape;
  readonly alerts: AlertPayload[];
  readonly rows: { readonly table: string; readonly rows: readonly Record<string, unknown>[] }[];
  readonly incidents: () => Incident[];
}

const START = 1_700_000_000_000;

const simulated = (title: string, body: (time: ManualClock) => Effect.Effect<void, never, Scope.Scope>): void => {
  it(title, () => {
    const time = manualClock(START);
    return Effect.runPromise(Effect.withClock(Effect.scoped(body(time)), time.clock));
  });
};

const run = (time: ManualClock, scenario: Scenario, seconds: number, recovered: readonly Incident[] = []) =>
  Effect.gen(function* () {
    const system = yield* make;
    const alerts: AlertPayload[] = [];
    const rows: { table: string; rows: readonly Record<string, unknown>[] }[] = [];
    system.port("ledger", () => Effect.succeed([]));
    system.port("baselines", () => Effect.succeed([]));
    system.port("rows", (request) => Effect.sync(() => void rows.push(request as (typeof rows)[number])));
    system.port("http-post", (request) =>
      Effect.sync(() => {
        alerts.push(JSON.parse((request as HttpPost).body) as AlertPayload);
        return { status: 200 };
      }),
    );
    startActors(system, {
      slo: SLO,
      webhooks: [{ name: "hook", url: "http://127.0.0.1:1/hook", headers: {} }],
      grouping: noGrouping,
      url: "http://127.0.0.1:8080",
    });
    system.tell(INCIDENT_DESK, { type: "recovered", incidents: recovered } as Recovered);
    const argument: SessionArgument = { agent: "agent-1", grouping: noGrouping };
    system.spawn("agent/agent-1", "agent-session", argument);
    const tell = (message: SessionMessage): void => void system.tell("agent/agent-1", message);
    tell({ type: "connected", epoch: 1, node: "node-1", cluster: "default" });
    let seed = 1;
    const noise = (): number => {
      seed = (seed * 16807) % 2147483647;
      return seed / 2147483647;
    };
    const out: Run = {
      system,
      alerts,
      rows,
      incidents: () => [...system.board.read("incidents").values()] as Incident[],
    };
    for (let second = 1; second <= seconds; second++) {
      yield* time.advance(1000);
      tell({ type: "window", at: time.now(), body: windowAt(second, scenario, noise, second === 1) });
    }
    yield* time.advance(100);
    return out;
  });

const during =
  (from: number, to: number, second: (s: number) => Second): Scenario =>
  (s) =>
    s >= from && s < to ? second(s) : steady;

const faulty = (calls: Second["calls"], rest: Partial<Second> = {}): Second => ({ ...steady, calls, ...rest });

const redisDown = during(FAULT_AT, FAULT_AT + 40, (s) =>
  faulty(
    {
      "cart>redis": { ok: 0, failedConnects: 8, server: true },
      "front>cart": { ok: 0, failed: 20, ms: 3 },
      "nginx>front": { ok: 10, failed: 10 },
      "load>nginx": { ok: 10, failed: 10 },
    },
    {
      resources: { redis: { processes: 0, cpuMs: 0 } },
      events: s === FAULT_AT ? [{ kind: "exit", service: "redis" }] : [],
    },
  ),
);

const dbLock = during(FAULT_AT, FAULT_AT + 40, (s) => {
  const age = Math.min(3_000, (s - FAULT_AT + 1) * 1000);
  const stuck = {
    ok: 2,
    unanswered: s - FAULT_AT >= 3 ? 5 : 0,
    ms: 3_000,
    pending: Math.min(16, 5 * (s - FAULT_AT + 1)),
    oldestMs: age,
  };
  return faulty(
    {
      "catalog>postgres": { ok: 0, pending: Math.min(8, s - FAULT_AT + 1), oldestMs: (s - FAULT_AT + 1) * 1000 },
      "front>catalog": stuck,
      "nginx>front": {
        ok: 8,
        failed: s - FAULT_AT >= 3 ? 5 : 0,
        pending: 12,
        oldestMs: age,
        ms: s - FAULT_AT >= 3 ? 1_200 : 28,
      },
      "load>nginx": {
        ok: 8,
        failed: s - FAULT_AT >= 3 ? 5 : 0,
        pending: 12,
        oldestMs: age,
        ms: s - FAULT_AT >= 3 ? 1_200 : 30,
      },
    },
    { resources: { postgres: { cpuMs: 12 } } },
  );
});

const cpuHog = during(FAULT_AT, FAULT_AT + 40, (s) => {
  const ms = Math.min(3_000, 300 * (s - FAULT_AT + 1));
  return faulty(
    {
      "front>catalog": { ok: 9, ms, serverMs: ms * 0.7, pending: 9, oldestMs: ms },
      "catalog>postgres": { ok: 9, ms: 90, serverMs: 2 },
      "nginx>front": { ok: 9, ms: ms + 20, pending: 9, oldestMs: ms },
      "load>nginx": { ok: 9, ms: ms + 22, pending: 9, oldestMs: ms },
    },
    { resources: { catalog: { cpuMs: 60, throttledMs: 800 } } },
  );
});

const errors = during(FAULT_AT, FAULT_AT + 40, () =>
  faulty({
    "front>cart": { ok: 14, failed: 6 },
    "nginx>front": { ok: 17, failed: 3 },
    "load>nginx": { ok: 17, failed: 3 },
  }),
);

const oom: Scenario = (s) => {
  if (s < FAULT_AT || s > FAULT_AT + 50) return steady;
  const phase = (s - FAULT_AT) % 25;
  // Fifteen seconds of growing, then killed, ten seconds away.
  if (phase < 15)
    return faulty(
      {},
      {
        resources: { cart: { memory: 60e6 + 4.5e6 * phase } },
        events: phase === 0 && s > FAULT_AT ? [{ kind: "start", service: "cart" }] : [],
      },
    );
  return faulty(
    {
      "front>cart": { ok: 0, failedConnects: 20, server: false },
      "cart>redis": { ok: 0 },
      "nginx>front": { ok: 10, failed: 10 },
      "load>nginx": { ok: 10, failed: 10 },
    },
    {
      resources: { cart: { processes: 0, memory: 0, cpuMs: 0 } },
      events:
        phase === 15
          ? [
              { kind: "oom", service: "cart" },
              { kind: "exit", service: "cart" },
            ]
          : [],
    },
  );
};

const cases = [
  { fault: "redis-down", scenario: redisDown, service: "redis", kind: "dependency_down", first: 0, within: 8_000 },
  { fault: "db-lock", scenario: dbLock, service: "postgres", kind: "waiting_inside", first: 0, within: 20_000 },
  { fault: "cpu-hog", scenario: cpuHog, service: "catalog", kind: "cpu_throttling", first: 1, within: 20_000 },
  { fault: "errors", scenario: errors, service: "cart", kind: "errors", first: 0, within: 20_000 },
  { fault: "oom", scenario: oom, service: "cart", kind: "memory", first: 15, within: 8_000 },
] as const;

describe("five faults", () => {
  for (const { fault, scenario, service, kind, first, within } of cases)
    simulated(`${fault}: one incident in time, the cause is ${service} (${kind}), and it closes`, (time) =>
      Effect.gen(function* () {
        const { incidents, alerts } = yield* run(time, scenario, 190);
        const opened = incidents().filter((incident) => incident.openedAt !== null);
        expect(opened.map((incident) => incident.headline)).toHaveLength(1);
        const incident = opened[0];
        if (incident === undefined) return;
        const begin = START + (FAULT_AT + first) * 1000;
        expect(incident.suspectedAt - begin).toBeLessThanOrEqual(5_000);
        expect((incident.openedAt ?? 0) - begin).toBeLessThanOrEqual(within);
        expect(incident.service).toContain("nginx");
        const cause = incident.rca?.causes[0];
        expect(`${cause && serviceName(cause.service)} ${cause?.kind}`).toBe(`${service} ${kind}`);
        expect(cause?.evidence.length).toBeGreaterThan(0);
        expect(incident.status).toBe("resolved");
        const sent = alerts.map((alert) => alert.event);
        expect(sent[0]).toBe("incident.opened");
        expect(sent.at(-1)).toBe("incident.resolved");
        expect(new Set(alerts.map((alert) => alert.key)).size).toBe(alerts.length);
        expect(alerts[0]?.incident.rca?.causes.length).toBeGreaterThan(0);
      }),
    );
});

const alwaysFailing: Scenario = () =>
  faulty({ "front>cart": { ok: 99, failed: 1 }, "nginx>front": { ok: 99, failed: 0 } });

describe("what pages nobody", () => {
  simulated("five minutes of steady traffic", (time) =>
    Effect.gen(function* () {
      const { incidents } = yield* run(time, () => steady, 300);
      expect(incidents()).toEqual([]);
    }),
  );

  simulated("a blip shorter than the hold time stays a blip", (time) =>
    Effect.gen(function* () {
      const blip = during(FAULT_AT, FAULT_AT + 4, () =>
        faulty({
          "front>cart": { ok: 0, failed: 20 },
          "nginx>front": { ok: 10, failed: 10 },
          "load>nginx": { ok: 10, failed: 10 },
        }),
      );
      const { incidents, alerts } = yield* run(time, blip, 150);
      expect(incidents().map((incident) => incident.status)).toEqual(["blip"]);
      expect(alerts).toEqual([]);
    }),
  );

  simulated("a service that always fails a little is judged by what is usual for it", (time) =>
    Effect.gen(function* () {
      const { alerts } = yield* run(time, alwaysFailing, 200);
      expect(alerts).toEqual([]);
    }),
  );

  simulated("windows that are sent again, and windows older than ten seconds", (time) =>
    Effect.gen(function* () {
      const { system, incidents } = yield* run(time, () => steady, 100);
      const tell = (message: SessionMessage): void => void system.tell("agent/agent-1", message);
      for (let i = 0; i < 30; i++)
        tell({
          type: "window",
          at: 30_000 + i,
          body: windowAt(
            200 + i,
            () => redisDown(FAULT_AT),
            () => 0.5,
            false,
          ),
        });
      yield* time.advance(30_000);
      expect(incidents()).toEqual([]);
    }),
  );
});

describe("after a restart", () => {
  simulated("an open incident goes on, is not alerted twice and closes when the services are well", (time) =>
    Effect.gen(function* () {
      const first = yield* run(time, redisDown, FAULT_AT + 35);
      const open = first.incidents().filter((incident) => incident.status === "open");
      expect(open).toHaveLength(1);
      const again = yield* Effect.scoped(run(time, () => steady, 60, open));
      const [incident] = again.incidents();
      expect(incident?.id).toBe(open[0]?.id);
      expect(incident?.status).toBe("resolved");
      expect(again.alerts.map((alert) => alert.event)).toEqual(["incident.resolved"]);
    }),
  );
});
