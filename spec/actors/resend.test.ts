/**
 * Services that die under the real kernel, and an agent that answers the session's wish to come again as the real link
 * does: by a new connection with a dictionary of its own, and all windows that the session does not have.
 */
import { Effect } from "effect";
import { expect, it } from "vitest";
import type { ComeAgain, SessionArgument, SessionMessage } from "../../actors/agent-session/messages.ts";
import { startActors } from "../../actors/guardian.ts";
import type { RowsRequest } from "../../actors/rows.ts";
import { noGrouping } from "../../actors/topology/grouping.ts";
import { make } from "../../runtime/actor/ActorSystem.ts";
import { serviceName, type ServiceId } from "../../schemas/service.ts";
import type { SliMinuteRow } from "../../schemas/tables.ts";
import type { ServerHelloBody } from "../../schemas/wire/link.ts";
import { manualClock, type ManualClock } from "./ManualClock.ts";
import { steady, windowAt } from "./shop.ts";

const START = 1_700_000_040_000;
const SECONDS = 200;
const KEPT = 180;
const SESSION = "agent/agent-1";

/** Runs the shop; at the given seconds these services lose what they hold, and the session is told to rewind. */
const run = (time: ManualClock, deaths: ReadonlyMap<number, readonly string[]>) =>
  Effect.gen(function* () {
    const system = yield* make;
    const rows = new Map<string, SliMinuteRow>();
    let connections = 0;
    let second = 0;
    const noise = (): number => 0.5;
    const window = (number: number, first: boolean): void => {
      const body = windowAt(number, () => steady, noise, first);
      const message: SessionMessage = { type: "window", at: START + number * 1000 + 100, body };
      system.tell(SESSION, message);
    };
    /** as the link does it: the agent keeps the next window while others wait here */
    const send = (number: number, first: boolean): Effect.Effect<void> =>
      Effect.zipRight(
        system.room(SESSION, 1),
        Effect.sync(() => window(number, first)),
      );
    const connect = Effect.gen(function* () {
      connections++;
      const connected: SessionMessage = { type: "connected", epoch: 1, node: "node-1", cluster: "default" };
      const have = (yield* Effect.orDie(system.ask(SESSION, connected, 500))) as ServerHelloBody["have"];
      const from = Math.max(1, second - KEPT, (have?.window ?? 0) + 1);
      for (let i = from; i <= second; i++) yield* send(i, i === from);
    });
    system.port("ledger", () => Effect.succeed([]));
    system.port("baselines", () => Effect.succeed([]));
    system.port("rows", (request) =>
      Effect.sync(() => {
        const { table, rows: list } = request as RowsRequest;
        if (table !== "sli_minutes") return;
        for (const row of list as readonly SliMinuteRow[]) {
          const key = `${serviceName(row.service as ServiceId)} ${row.minute}`;
          if ((rows.get(key)?.version ?? -1) <= row.version) rows.set(key, row);
        }
      }),
    );
    let wanted = false;
    system.port("agent-link", (request) =>
      Effect.sync(() => {
        wanted = (request as ComeAgain).agent === "agent-1";
        return true;
      }),
    );
    const slo = { availabilityObjective: 0.99, latencyObjective: 0.99, latencyThresholdMs: 500, holdMs: 15_000 };
    startActors(system, { slo, webhooks: [], grouping: noGrouping, url: "http://127.0.0.1:8080" });
    const argument: SessionArgument = { agent: "agent-1", grouping: noGrouping };
    system.spawn(SESSION, "agent-session", argument);
    yield* connect;
    for (second = 1; second <= SECONDS; second++) {
      yield* time.advance(1000);
      window(second, second === 1);
      if (wanted) {
        wanted = false;
        system.tell(SESSION, { type: "disconnected" } satisfies SessionMessage);
        yield* connect;
      }
      const dying = deaths.get(second) ?? [];
      for (const path of system.paths()) if (dying.some((name) => path.endsWith(`/${name}`))) system.restart(path);
      // A session's own death is nobody else's news.
      if (dying.length > 0 && !dying.includes("agent-1"))
        system.tell(SESSION, { type: "rewind" } satisfies SessionMessage);
    }
    yield* time.advance(70_000);
    return { rows: Object.fromEntries([...rows].toSorted(([a], [b]) => (a < b ? -1 : 1))), connections };
  });

const outcome = (deaths: ReadonlyMap<number, readonly string[]>) => {
  const time = manualClock(START);
  return Effect.runPromise(Effect.withClock(Effect.scoped(run(time, deaths)), time.clock));
};

it("services that die count what they missed and nothing twice, nor do those that went on", async () => {
  const still = await outcome(new Map());
  const shaken = await outcome(
    new Map([
      [75, ["nginx", "cart"]],
      [76, ["front"]],
      [140, ["nginx", "postgres"]],
    ]),
  );
  expect([still.connections, shaken.connections]).toEqual([1, 3]);
  expect(Object.keys(still.rows)).toHaveLength(24);
  expect(shaken.rows).toEqual(still.rows);
}, 30_000);

it("a session that dies in the middle of a connection has its agent come again, and nothing is missing", async () => {
  const still = await outcome(new Map());
  const shaken = await outcome(new Map([[90, ["agent-1"]]]));
  expect(shaken.connections).toBe(2);
  expect(shaken.rows).toEqual(still.rows);
}, 30_000);
