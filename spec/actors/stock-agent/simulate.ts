/** Stock agents beside the real actors under virtual time: a spec moves their counters, each scrape goes the way of the door. */
import { Effect, type Scope } from "effect";
import { it } from "vitest";
import { startActors } from "../../../actors/guardian.ts";
import type { HttpPost } from "../../../actors/alert-sink/WebhookSink.ts";
import type { Recovered } from "../../../actors/incident/IncidentDesk.ts";
import { INCIDENT_DESK } from "../../../actors/service/messages.ts";
import { noGrouping } from "../../../actors/topology/grouping.ts";
import { stockWatch } from "../../../deploy/bin/stock.ts";
import { make, type ActorSystemShape } from "../../../runtime/actor/ActorSystem.ts";
import type { AlertPayload, Incident } from "../../../schemas/incident.ts";
import type { AgentView, MapEdge, ServiceCard } from "../../../schemas/wire/page.ts";
import type { PlainSeries } from "../../runtime/remote-write/proto.ts";
import { manualClock, type ManualClock } from "../ManualClock.ts";
import { Reader } from "./StockFleet.ts";

export const START = 1_700_000_000_000;
const SLO = { availabilityObjective: 0.99, latencyObjective: 0.99, latencyThresholdMs: 500, holdMs: 15_000 };

export interface Bed {
  readonly time: ManualClock;
  readonly system: ActorSystemShape;
  readonly alerts: AlertPayload[];
  readonly rows: { readonly table: string; readonly rows: readonly Record<string, unknown>[] }[];
  /** one call at the door */
  readonly send: (series: readonly PlainSeries[]) => void;
  readonly services: () => ReadonlyMap<string, ServiceCard>;
  readonly edges: () => readonly MapEdge[];
  readonly agents: () => readonly AgentView[];
  readonly incidents: () => readonly Incident[];
}

export const simulated = (title: string, body: (bed: Bed) => Effect.Effect<void, never, Scope.Scope>): void => {
  it(title, () => {
    const time = manualClock(START);
    const run = Effect.gen(function* () {
      const system = yield* make;
      const alerts: AlertPayload[] = [];
      const rows: { table: string; rows: readonly Record<string, unknown>[] }[] = [];
      system.port("ledger", () => Effect.succeed([]));
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
      system.tell(INCIDENT_DESK, { type: "recovered", incidents: [] } as Recovered);
      const alone = { sessionHere: () => undefined, sessionElsewhere: () => false };
      const watch = stockWatch(system, alone, "default", noGrouping);
      const reader = new Reader();
      yield* body({
        time,
        system,
        alerts,
        rows,
        send: (series) => {
          for (const [watcher, samples] of reader.read(series)) watch.tell(watcher, samples);
        },
        services: () =>
          new Map(
            [...system.board.read("services").values()].map((card) => [(card as ServiceCard).id, card as ServiceCard]),
          ),
        edges: () => ([...system.board.read("edges").values()] as MapEdge[][]).flat(),
        agents: () => [...system.board.read("agents").values()] as AgentView[],
        incidents: () => [...system.board.read("incidents").values()] as Incident[],
      });
    });
    return Effect.runPromise(Effect.withClock(Effect.scoped(run), time.clock));
  });
};
