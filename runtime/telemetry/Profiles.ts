/**
 * Questions about profiles: which types a service has, and a flame graph of one type over a range of time, also compared
 * with another range. The store adds up values by stack; stacks themselves come from a cache. A profile counts for the
 * range that it began in. Owned by the server's layers. Fails with ProfilesError, also when a bound is crossed; whoever
 * interrupts a question ends its work in the store.
 */
import { Context, Data, Effect, Layer, Metric } from "effect";
import type { FlameAnswer, ProfileTypeAnswer } from "../../schemas/api.ts";
import { worked } from "../promql/work.ts";
import { Store, type StoreError, type StoreShape } from "../store/Store.ts";
import { flameNodes, type ResolvedStacks } from "./FlameGraph.ts";
import { meaningOf, scaleOf } from "./profileType.ts";
import { StackCache, type ServiceStacks } from "./StackCache.ts";

/** Milliseconds since the epoch, `from` within and `to` not. */
export interface TimeRange {
  readonly from: number;
  readonly to: number;
}

export interface FlameRequest extends TimeRange {
  readonly service: string;
  readonly type: string;
  /** absent: not compared */
  readonly base?: TimeRange;
  /** only profiles of this pod, of this host */
  readonly pod?: string;
  readonly host?: string;
}

export class ProfilesError extends Data.TaggedError("ProfilesError")<{
  /** limit: the question is too large; unavailable: the store does not answer */
  readonly kind: "limit" | "unavailable";
  readonly message: string;
}> {}

export interface ProfilesShape {
  /** Newest first. */
  readonly types: (service: string) => Effect.Effect<readonly ProfileTypeAnswer[], ProfilesError>;
  readonly flame: (request: FlameRequest) => Effect.Effect<FlameAnswer, ProfilesError>;
}

export class Profiles extends Context.Tag("runtime/telemetry/Profiles")<Profiles, ProfilesShape>() {}

export const LIMITS = {
  types: 1_000,
  /** of one graph, those with the largest values */
  stacks: 50_000,
  nodes: 10_000,
  /** rows that the store may read for one graph */
  rows: 500_000_000,
  seconds: 20,
  /** under way at once; others wait */
  queries: 4,
  cacheBytes: 64 * 1024 * 1024,
  /** stacks that are asked for at once */
  hashes: 1_000,
} as const;

const cacheGauge = Metric.gauge("coroot_flame_stacks_bytes", { description: "stacks that are kept for flame graphs" });
const unknownTotal = Metric.counter("coroot_flame_unknown_stacks_total", {
  description: "stacks of flame graphs that the store did not have",
  incremental: true,
});

/** ClickHouse's codes for a bound that was crossed: rows, time, memory, bytes, rows of the result. */
const BOUNDS_CROSSED: ReadonlySet<number> = new Set([158, 159, 241, 307, 396]);

const fromStore = (error: StoreError): ProfilesError =>
  error.code !== null && BOUNDS_CROSSED.has(error.code)
    ? new ProfilesError({
        kind: "limit",
        message: `too many profiles for one graph, choose a shorter range: ${error.reason}`,
      })
    : new ProfilesError({ kind: "unavailable", message: error.message });

const typesSql = (database: string): string =>
  `SELECT type, toUnixTimestamp(max(last_seen)) * 1000 AS lastSeen FROM ${database}.profile_types
   WHERE service = {service:String} GROUP BY type ORDER BY lastSeen DESC, type LIMIT {limit:UInt32}`;

const WITHIN = `service = {service:String} AND type = {type:String}
  AND ((ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({to:Int64}, 'UTC'))
    OR (ts >= fromUnixTimestamp64Milli({baseFrom:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({baseTo:Int64}, 'UTC')))
  AND ({pod:String} = '' OR pod = {pod:String}) AND ({host:String} = '' OR host = {host:String})`;
const IN_RANGE = `ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({to:Int64}, 'UTC')`;
const IN_BASE = `ts >= fromUnixTimestamp64Milli({baseFrom:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({baseTo:Int64}, 'UTC')`;

const stacksSql = (database: string): string =>
  `SELECT groupArray(stack) AS stacks, groupArray(here) AS values, groupArray(there) AS bases
   FROM (
     SELECT stack, toFloat64(sumIf(value, ${IN_RANGE})) AS here, toFloat64(sumIf(value, ${IN_BASE})) AS there
     FROM ${database}.profile_samples WHERE ${WITHIN}
     GROUP BY stack ORDER BY abs(here) + abs(there) DESC LIMIT {limit:UInt32}
   )`;

const profilesSql = (database: string): string =>
  `SELECT countIf(inRange) AS profiles, sumIf(lasted, inRange) / 1e9 AS seconds, sumIf(total, inRange) AS value,
     countIf(inBase) AS baseProfiles, sumIf(lasted, inBase) / 1e9 AS baseSeconds, sumIf(total, inBase) AS baseValue
   FROM (
     SELECT any(duration) AS lasted, toFloat64(sum(value)) AS total, any(${IN_RANGE}) AS inRange, any(${IN_BASE}) AS inBase
     FROM ${database}.profile_samples WHERE ${WITHIN}
     GROUP BY batch
   )`;

const framesSql = (database: string): string =>
  `SELECT hash, stack FROM ${database}.profile_stacks
   WHERE service = {service:String} AND hash IN ({hashes:Array(UInt64)}) LIMIT 1 BY hash`;

interface StackValues {
  readonly stacks: readonly string[];
  readonly values: readonly number[];
  readonly bases: readonly number[];
}

interface ProfileCounts {
  readonly profiles: number;
  readonly seconds: number;
  readonly value: number;
  readonly baseProfiles: number;
  readonly baseSeconds: number;
  readonly baseValue: number;
}

const BOUNDS = {
  rows: 2,
  bytes: 64 * 1024 * 1024,
  seconds: LIMITS.seconds,
  settings: { max_rows_to_read: LIMITS.rows },
};

const sumOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);

/** Six digits are more than a flame graph shows. */
const scaled = (values: readonly number[], scale: number): number[] =>
  values.map((value) => (scale === 1 || value === 0 ? value : Number((value * scale).toPrecision(6))));

const loadStacks = (store: StoreShape, known: ServiceStacks, service: string, hashes: readonly string[]) =>
  Effect.gen(function* () {
    const missing = hashes.filter((hash) => known.get(hash) === null);
    for (let at = 0; at < missing.length; at += LIMITS.hashes) {
      const asked = missing.slice(at, at + LIMITS.hashes);
      const rows = yield* store.query<{ hash: string; stack: readonly string[] }>(
        framesSql(store.database),
        { service, hashes: asked.map(BigInt) },
        { ...BOUNDS, rows: LIMITS.hashes, exact: true },
      );
      yield* worked(function* () {
        for (const [i, { hash, stack }] of rows.entries()) {
          known.add(hash, stack);
          if (i % 1_000 === 999) yield;
        }
      }).pipe(Effect.orDie);
    }
  });

export const make = Effect.gen(function* () {
  const store = yield* Store;
  const cache = new StackCache(LIMITS.cacheBytes);
  const turns = yield* Effect.makeSemaphore(LIMITS.queries);

  /** Waiting for a turn counts. */
  const bounded = <A>(question: Effect.Effect<A, ProfilesError>): Effect.Effect<A, ProfilesError> =>
    turns
      .withPermits(1)(question)
      .pipe(
        Effect.timeoutFail({
          duration: `${LIMITS.seconds} seconds`,
          onTimeout: () =>
            new ProfilesError({ kind: "unavailable", message: `no answer within ${LIMITS.seconds} seconds` }),
        }),
      );

  const types: ProfilesShape["types"] = (service) =>
    store
      .query<{
        type: string;
        lastSeen: number;
      }>(typesSql(store.database), { service, limit: LIMITS.types }, { ...BOUNDS, rows: LIMITS.types })
      .pipe(
        Effect.mapError(fromStore),
        Effect.map((rows) => rows.map(({ type, lastSeen }) => ({ type, lastSeen, ...meaningOf(type) }))),
        bounded,
      );

  const flame: ProfilesShape["flame"] = ({ service, type, from, to, base, pod = "", host = "" }) =>
    Effect.gen(function* () {
      const params = { service, type, from, to, baseFrom: base?.from ?? 0, baseTo: base?.to ?? 0, pod, host };
      const [[found], [counts]] = yield* Effect.all(
        [
          store.query<StackValues>(
            stacksSql(store.database),
            { ...params, limit: LIMITS.stacks },
            { ...BOUNDS, exact: true },
          ),
          store.query<ProfileCounts>(profilesSql(store.database), params, BOUNDS),
        ],
        { concurrency: 2 },
      ).pipe(Effect.mapError(fromStore));
      const { stacks: hashes, values, bases } = found ?? { stacks: [], values: [], bases: [] };
      const { profiles = 0, seconds = 0, value = 0, baseProfiles = 0, baseSeconds = 0, baseValue = 0 } = counts ?? {};
      const known = cache.of(service);
      yield* loadStacks(store, known, service, hashes).pipe(Effect.mapError(fromStore));
      const resolved: ResolvedStacks = {
        functions: known.functions,
        stacks: hashes.map((hash) => known.get(hash)),
        value: values,
        base: bases,
        restValue: hashes.length < LIMITS.stacks ? 0 : value - sumOf(values),
        restBase: hashes.length < LIMITS.stacks ? 0 : baseValue - sumOf(bases),
      };
      const unknown = resolved.stacks.filter((one) => one === null).length;
      const nodes = yield* worked(() => flameNodes(resolved, LIMITS.nodes)).pipe(Effect.orDie);
      cache.trim();
      yield* Metric.set(cacheGauge, cache.bytes);
      yield* Metric.incrementBy(unknownTotal, unknown);
      const scale = scaleOf(type, profiles, seconds);
      const baseScale = scaleOf(type, baseProfiles, baseSeconds);
      const { names, files, depth, frame, merged } = nodes;
      return {
        service,
        type,
        ...meaningOf(type),
        from,
        to,
        profiles,
        seconds,
        names,
        files,
        depth,
        frame,
        self: scaled(nodes.self, scale),
        total: scaled(nodes.total, scale),
        base:
          base === undefined
            ? null
            : {
                ...base,
                profiles: baseProfiles,
                seconds: baseSeconds,
                self: scaled(nodes.baseSelf, baseScale),
                total: scaled(nodes.baseTotal, baseScale),
              },
        merged,
        unknown,
      };
    }).pipe(bounded);

  return Profiles.of({ types, flame });
});

export const layer: Layer.Layer<Profiles, never, Store> = Layer.effect(Profiles, make);
