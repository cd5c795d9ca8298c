/**
 * Keeps the disk of the store from filling up: above a threshold the oldest day of telemetry is dropped, a day at each
 * look, never today's, and it is said. Minutes of judgement, incidents and the map's history stay: they are small, and
 * error budgets need them. Owned by the server's layers, one fiber. A look that fails is repeated at the next. On a
 * ClickHouse server of the user it touches only tables of ours; on a cluster the fullest node decides.
 */
import { Clock, Context, Effect, Layer, Metric } from "effect";
import { TABLES, type TableDefinition, type TableName } from "../../schemas/tables.ts";
import { Store, type StoreError } from "./Store.ts";

const LOOK_EVERY = "1 minute";
const SAID_FOR_MS = 24 * 3_600_000;
const KEPT: ReadonlySet<string> = new Set(["sli_minutes", "edge_minutes", "incidents", "events", "map_edges"]);

const usedGauge = Metric.gauge("coroot_store_disk_used_ratio");
const droppedTotal = Metric.counter("coroot_store_days_dropped_total", {
  description: "days of a table that were dropped because the store's disk was too full",
  incremental: true,
});

export interface DiskGuardShape {
  /** sentences for the page; empty while all is well */
  readonly notices: () => readonly string[];
  /** one look, and at most one day dropped */
  readonly look: Effect.Effect<void, StoreError>;
}
export class DiskGuard extends Context.Tag("runtime/store/DiskGuard")<DiskGuard, DiskGuardShape>() {}

/** Percent of a disk that may be used; 0: days are never dropped. */
export interface DiskGuardConfig {
  readonly threshold: number;
}

const guarded = (Object.entries(TABLES) as [TableName, TableDefinition][])
  .filter(([name, { day }]) => day !== null && !KEPT.has(name))
  .map(([name]) => name);

/** 20261126 as 2026-11-26. */
const dayText = (id: string): string => `${id.slice(0, 4)}-${id.slice(4, 6)}-${id.slice(6)}`;

const make = ({ threshold }: DiskGuardConfig) =>
  Effect.gen(function* () {
    const store = yield* Store;
    let used = 0;
    let stuck = false;
    let dropped: { readonly day: string; readonly at: number } | null = null;
    let now = 0;

    const look = Effect.gen(function* () {
      now = yield* Clock.currentTimeMillis;
      used = yield* store.diskUsed;
      usedGauge.unsafeUpdate(used, []);
      stuck = false;
      if (threshold === 0 || used * 100 <= threshold) return;
      const today = new Date(now).toISOString().slice(0, 10).replaceAll("-", "");
      const days = yield* store.daysBefore(guarded, today);
      const day = days[0]?.day;
      if (day === undefined) {
        stuck = true;
        return;
      }
      for (const stored of days.filter((one) => one.day === day)) {
        yield* store.dropDay(stored);
        droppedTotal.pipe(Metric.tagged("table", stored.table)).unsafeUpdate(1, []);
      }
      dropped = { day: dayText(day), at: now };
      yield* Effect.logWarning(
        `the store's disk is ${Math.round(used * 100)} % full: telemetry of ${dropped.day} was dropped`,
      );
    });

    yield* store.whenUp.pipe(
      Effect.zipRight(look),
      Effect.catchAll((error) => Effect.logDebug(`the store's disk cannot be looked at: ${error.message}`)),
      Effect.zipRight(Effect.sleep(LOOK_EVERY)),
      Effect.forever,
      Effect.forkScoped,
    );

    return DiskGuard.of({
      look,
      notices: () => {
        const percent = Math.round(used * 100);
        if (stuck) return [`The store's disk is ${percent} % full, and nothing older than today is left to drop.`];
        if (dropped === null || now - dropped.at > SAID_FOR_MS) return [];
        return [
          `The store's disk was more than ${threshold} % full (now ${percent} %): telemetry up to ${dropped.day} was dropped.`,
        ];
      },
    });
  });

export const layer = (config: DiskGuardConfig): Layer.Layer<DiskGuard, never, Store> =>
  Layer.scoped(DiskGuard, make(config));
