/**
 * What the page and the service actors read back: chart points, incidents, events, and the minutes from which error
 * budgets are rebuilt. Each is one query with a constant text, bound parameters and its own bounds. Owned by the server's
 * layers, holds no state; fails with StoreError while the store is down.
 */
import { Context, Effect, Layer } from "effect";
import type { Incident } from "../../schemas/incident.ts";
import { EDGE_FIGURES } from "../../schemas/tables.ts";
import { Store, StoreError } from "./Store.ts";

/** Counts of one step, latencies in ms (median weighted by requests, the others the worst), cores, bytes. */
export interface SliPoint {
  readonly at: number;
  readonly requests: number;
  readonly errors: number;
  readonly p50: number | null;
  readonly p95: number | null;
  readonly p99: number | null;
  readonly cpu: number | null;
  readonly memory: number | null;
}

export interface SliPoints {
  readonly stepMs: number;
  readonly points: readonly SliPoint[];
}

/** Minutes of one service, oldest first, as equally long columns; `minutes` are ms since the epoch. */
export interface SliMinutes {
  readonly minutes: readonly number[];
  readonly total: readonly number[];
  readonly bad: readonly number[];
  readonly slow: readonly number[];
}

/** Minutes of one service itself (side "own") or of one of its edges, oldest first. */
export interface EdgeMinutes {
  readonly side: string;
  /** empty: own, or the other end could not be told */
  readonly peer: string;
  /** ms since the epoch */
  readonly minutes: readonly number[];
  /** for each minute the figures in the order of EDGE_FIGURES */
  readonly figures: readonly (readonly number[])[];
}

export interface StoredEvent {
  readonly at: number;
  readonly service: string;
  readonly kind: string;
  readonly text: string;
  readonly json: string;
}

export interface StoredCall {
  readonly source: string;
  readonly target: string;
  readonly first: number;
  readonly last: number;
}

export interface HistoryShape {
  readonly sliPoints: (
    service: string,
    fromMs: number,
    toMs: number,
    maxPoints: number,
  ) => Effect.Effect<SliPoints, StoreError>;
  /** Latest version of each, newest first. */
  readonly recentIncidents: (limit: number) => Effect.Effect<readonly Incident[], StoreError>;
  /** Services without a stored minute are absent. */
  readonly sliMinutes: (
    services: readonly string[],
    sinceMs: number,
  ) => Effect.Effect<ReadonlyMap<string, SliMinutes>, StoreError>;
  /** Services without a stored minute are absent. */
  readonly edgeMinutes: (
    services: readonly string[],
    sinceMs: number,
  ) => Effect.Effect<ReadonlyMap<string, readonly EdgeMinutes[]>, StoreError>;
  /** Calls between services that went on at that moment. */
  readonly mapAt: (atMs: number) => Effect.Effect<readonly StoredCall[], StoreError>;
  /** Oldest first, at most `limit` of the newest. `service` null: all. */
  readonly events: (
    service: string | null,
    fromMs: number,
    toMs: number,
    limit?: number,
  ) => Effect.Effect<readonly StoredEvent[], StoreError>;
}

export class History extends Context.Tag("runtime/store/History")<History, HistoryShape>() {}

const RESOLUTION_S = 10;
const MAX_POINTS = 5_000;
const MAX_INCIDENTS = 1_000;
const MAX_EVENTS = 10_000;
const MAX_SERVICES = 5_000;
const MAX_EDGES = 50_000;
const MAX_CALLS = 50_000;
/** A call that goes on is written down at least this often, by the topology actor. */
const CALL_WRITTEN_MS = 5 * 60_000 + 30_000;
const MIB = 1024 * 1024;

const seconds = (ms: number): number => Math.floor(ms / 1000);
const between = (value: number, least: number, most: number): number =>
  Math.min(most, Math.max(least, Number.isFinite(value) ? Math.floor(value) : least));

/** Step of a chart in seconds: a multiple of the stored resolution that gives no more than `maxPoints`. */
export const chartStep = (fromMs: number, toMs: number, maxPoints: number): number => {
  const wanted = Math.max(0, toMs - fromMs) / 1000 / between(maxPoints, 1, MAX_POINTS);
  return Math.max(1, Math.ceil(wanted / RESOLUTION_S)) * RESOLUTION_S;
};

const parseIncident = (json: string): Effect.Effect<Incident, StoreError> =>
  Effect.try({
    try: () => {
      const value: unknown = JSON.parse(json);
      if (typeof value !== "object" || value === null || !("id" in value) || !("timeline" in value))
        throw new Error("it has no id or no timeline");
      return value as Incident;
    },
    catch: (error) =>
      new StoreError({
        operation: "recentIncidents",
        code: null,
        reason: `a stored incident cannot be read: ${error instanceof Error ? error.message : String(error)}`,
      }),
  });

export const make = Effect.gen(function* () {
  const store = yield* Store;
  const table = (name: string): string => `${store.database}.${name}`;

  const sliPoints: HistoryShape["sliPoints"] = (service, fromMs, toMs, maxPoints) => {
    const step = chartStep(fromMs, toMs, maxPoints);
    return store
      .query<SliPoint>(
        `SELECT toUnixTimestamp(bucket) * 1000 AS at, sum(n) AS requests, sum(e) AS errors,
           if(sumIf(n, median IS NOT NULL) > 0, sumIf(median * n, median IS NOT NULL) / sumIf(n, median IS NOT NULL),
              max(median)) AS p50,
           max(high) AS p95, max(highest) AS p99, avg(cores) AS cpu, max(bytes) AS memory
         FROM (
           SELECT toDateTime(intDiv(toUnixTimestamp(ts), {step:UInt32}) * {step:UInt32}, 'UTC') AS bucket, requests AS n,
             errors AS e, p50 AS median, p95 AS high, p99 AS highest, cpu AS cores, memory AS bytes
           FROM ${table("sli_points")} FINAL
           WHERE service = {service:String} AND ts >= toDateTime({from:UInt32}, 'UTC') AND ts < toDateTime({to:UInt32}, 'UTC'))
         GROUP BY bucket ORDER BY bucket`,
        {
          service,
          step,
          from: between(seconds(fromMs), 0, 4_294_967_295),
          to: between(seconds(toMs), 0, 4_294_967_295),
        },
        { rows: MAX_POINTS + 2, seconds: 10 },
      )
      .pipe(Effect.map((points) => ({ stepMs: step * 1000, points })));
  };

  const recentIncidents: HistoryShape["recentIncidents"] = (limit) =>
    store
      .query<{
        json: string;
      }>(
        `SELECT json FROM ${table("incidents")} FINAL ORDER BY suspected DESC, id LIMIT {limit:UInt32}`,
        { limit: between(limit, 1, MAX_INCIDENTS) },
        { rows: MAX_INCIDENTS, seconds: 10 },
      )
      .pipe(Effect.flatMap((rows) => Effect.forEach(rows, ({ json }) => parseIncident(json))));

  const sliMinutes: HistoryShape["sliMinutes"] = (services, sinceMs) => {
    if (services.length === 0) return Effect.succeed(new Map());
    if (services.length > MAX_SERVICES)
      return Effect.fail(
        new StoreError({
          operation: "sliMinutes",
          code: null,
          reason: `${services.length} services asked for at once, at most ${MAX_SERVICES} are taken`,
        }),
      );
    return store
      .query<{ service: string; m: number[]; t: number[]; b: number[]; s: number[] }>(
        `SELECT service, groupArray(toUnixTimestamp(minute)) AS m, groupArray(totals.1) AS t, groupArray(totals.2) AS b,
           groupArray(totals.3) AS s
         FROM (
           SELECT service, minute, argMax((total, bad, slow), version) AS totals FROM ${table("sli_minutes")}
           WHERE service IN ({services:Array(String)}) AND minute >= toDateTime({since:UInt32}, 'UTC')
           GROUP BY service, minute ORDER BY service, minute)
         GROUP BY service`,
        { services, since: between(seconds(sinceMs), 0, 4_294_967_295) },
        { rows: MAX_SERVICES, bytes: 128 * MIB, seconds: 60 },
      )
      .pipe(
        Effect.map(
          (rows) =>
            new Map(
              rows.map(({ service, m, t, b, s }) => [
                service,
                { minutes: m.map((at) => at * 1000), total: t, bad: b, slow: s },
              ]),
            ),
        ),
      );
  };

  const edgeMinutes: HistoryShape["edgeMinutes"] = (services, sinceMs) =>
    store
      .query<{ service: string; side: string; peer: string; m: number[]; f: number[][] }>(
        `SELECT service, side, peer, groupArray(toUnixTimestamp(minute)) AS m, groupArray(figures) AS f
         FROM (
           SELECT service, side, peer, minute, argMax([${EDGE_FIGURES.join(", ")}], version) AS figures
           FROM ${table("edge_minutes")}
           WHERE service IN ({services:Array(String)}) AND minute >= toDateTime({since:UInt32}, 'UTC')
           GROUP BY service, side, peer, minute ORDER BY service, side, peer, minute)
         GROUP BY service, side, peer`,
        { services, since: between(seconds(sinceMs), 0, 4_294_967_295) },
        { rows: MAX_EDGES, seconds: 30 },
      )
      .pipe(
        Effect.map((rows) => {
          const found = new Map<string, EdgeMinutes[]>();
          for (const { service, side, peer, m, f } of rows) {
            const edges = found.get(service) ?? [];
            edges.push({ side, peer, minutes: m.map((at) => at * 1000), figures: f });
            found.set(service, edges);
          }
          return found;
        }),
      );

  const events: HistoryShape["events"] = (service, fromMs, toMs, limit = 1_000) =>
    store.query<StoredEvent>(
      `SELECT * FROM (
         SELECT toUnixTimestamp64Milli(ts) AS at, service, kind, text, json FROM ${table("events")}
         WHERE ({service:Nullable(String)} IS NULL OR service = {service:Nullable(String)})
           AND ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
         ORDER BY ts DESC LIMIT {limit:UInt32})
       ORDER BY at`,
      { service, from: Math.floor(fromMs), to: Math.floor(toMs), limit: between(limit, 1, MAX_EVENTS) },
      { rows: MAX_EVENTS, seconds: 10 },
    );

  const mapAt: HistoryShape["mapAt"] = (atMs) =>
    store.query<StoredCall>(
      `SELECT source, target, toUnixTimestamp64Milli(min(began)) AS first, toUnixTimestamp64Milli(max(seen)) AS last
       FROM (SELECT source, target, first AS began, last AS seen FROM ${table("map_edges")} FINAL)
       WHERE began <= fromUnixTimestamp64Milli({at:Int64}, 'UTC')
         AND seen >= fromUnixTimestamp64Milli({since:Int64}, 'UTC') AND seen >= began
       GROUP BY source, target ORDER BY source, target LIMIT {limit:UInt32}`,
      { at: Math.floor(atMs), since: Math.floor(atMs - CALL_WRITTEN_MS), limit: MAX_CALLS },
      { rows: MAX_CALLS, seconds: 10 },
    );

  return { sliPoints, recentIncidents, sliMinutes, edgeMinutes, events, mapAt } satisfies HistoryShape;
});

export const layer: Layer.Layer<History, never, Store> = Layer.effect(History, make);
