/**
 * Writes what actors own to the state database: each part's snapshots together, as soon as the write before is done, and
 * only under the token of its claim. Owned by the cluster. While a claim is in doubt, or the database is away, the
 * newest snapshot of each actor waits here, and with it everything that was to follow it (`afterwards`).
 */
import { Effect, Metric, Runtime, type Scope } from "effect";
import type { ActorPath } from "../actor/Behavior.ts";
import type { Keeper as ActorKeeper, Parcel } from "../actor/Outside.ts";
import { encodeState } from "./state/codec.ts";
import type { OwnedStateShape, StateRow } from "./state/OwnedState.ts";

const WRITE_AGAIN_AFTER = "1 second";
/** The database is away for all parts at once: it is said once in a while, and how many snapshots wait. */
const SAY_EVERY_MS = 30_000;
/** Rows of one write: a part of ten thousand services has some forty. */
const MOST_ROWS = 1_000;

const writtenTotal = Metric.counter("coroot_state_snapshots_written_total", { incremental: true });
const failedTotal = Metric.counter("coroot_state_writes_failed_total", { incremental: true });
const waitingGauge = Metric.gauge("coroot_state_snapshots_waiting");

interface Waiting {
  readonly kind: string;
  readonly argument: unknown;
  readonly parent: ActorPath | null;
  version: number;
  /** undefined: there is an actor, without a snapshot so far */
  value: unknown;
  at: number;
  kept: (() => void)[];
}

interface Part {
  token: number;
  /** false: in doubt, nothing is written */
  confirmed: boolean;
  writing: boolean;
  readonly rows: Map<ActorPath, Waiting>;
  readonly drops: Set<ActorPath>;
}

export interface KeeperOptions {
  readonly partOf: (path: ActorPath) => string | null;
  readonly now: () => number;
  readonly owned: OwnedStateShape;
  /** another owner has claimed the part since: what is written here is refused */
  readonly fenced: (part: string) => void;
  readonly send: (part: string, key: string, parcel: Parcel) => void;
}

export interface Keeper extends ActorKeeper {
  /** an actor that came with the part */
  readonly restored: (path: ActorPath, kind: string, argument: unknown, parent: ActorPath | null) => void;
  readonly confirmed: (part: string, token: number) => void;
  readonly doubted: (part: string) => void;
  /** forgets the part, and what waits for it */
  readonly left: (part: string) => void;
  /** writes what waits for the part; fails nothing: what cannot be written stays */
  readonly flush: (part: string) => Effect.Effect<void>;
  readonly tokenOf: (part: string) => number | null;
  readonly waiting: () => number;
}

export const makeKeeper = (options: KeeperOptions): Effect.Effect<Keeper, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { owned, now } = options;
    const scope = yield* Effect.scope;
    const fork = Runtime.runFork(yield* Effect.runtime<never>());
    const parts = new Map<string, Part>();
    /** kind, argument and parent of the actors here, for the rows of their snapshots */
    const known = new Map<ActorPath, Pick<Waiting, "kind" | "argument" | "parent">>();

    const partFor = (path: ActorPath): readonly [string, Part] | null => {
      const name = options.partOf(path);
      const part = name === null ? undefined : parts.get(name);
      return name === null || part === undefined ? null : [name, part];
    };

    const count = (): number => {
      let n = 0;
      for (const part of parts.values()) n += part.rows.size;
      return n;
    };

    let saidAt = Number.NEGATIVE_INFINITY;
    const complain = (message: string): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (now() - saidAt < SAY_EVERY_MS) return Effect.void;
        saidAt = now();
        return Effect.logWarning(`what actors own cannot be written, ${count()} snapshots wait: ${message}`);
      });

    const rowOf = (path: ActorPath, { kind, argument, parent, version, value, at }: Waiting): StateRow => ({
      path,
      kind,
      version,
      at,
      argument: encodeState({ argument, parent }),
      bytes: value === undefined ? null : encodeState(value),
    });

    const write = (name: string, part: Part): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (!part.confirmed || (part.rows.size === 0 && part.drops.size === 0)) return Effect.void;
        const taken = [...part.rows].slice(0, MOST_ROWS);
        const drops = [...part.drops];
        for (const [path] of taken) part.rows.delete(path);
        part.drops.clear();
        const again = (): void => {
          for (const [path, waiting] of taken) {
            const newer = part.rows.get(path);
            if (newer === undefined) part.rows.set(path, waiting);
            else newer.kept = [...waiting.kept, ...newer.kept];
          }
          for (const path of drops) part.drops.add(path);
        };
        return owned
          .save(
            name,
            part.token,
            taken.map(([path, waiting]) => rowOf(path, waiting)),
            drops,
          )
          .pipe(
            Effect.matchEffect({
              onSuccess: (how) =>
                Effect.suspend(() => {
                  if (how === "fenced") {
                    options.fenced(name);
                    return Effect.void;
                  }
                  writtenTotal.unsafeUpdate(taken.length, []);
                  for (const [, { kept }] of taken) for (const follow of kept) follow();
                  return write(name, part);
                }),
              onFailure: (error) =>
                Effect.zipRight(
                  Effect.sync(() => {
                    again();
                    failedTotal.unsafeUpdate(1, []);
                  }),
                  Effect.zipRight(complain(error.message), Effect.sleep(WRITE_AGAIN_AFTER)),
                ).pipe(Effect.zipRight(write(name, part))),
            }),
          );
      });

    /** One write of a part at a time; what comes meanwhile goes with the next. */
    const start = (name: string, part: Part): void => {
      if (part.writing || !part.confirmed) return;
      part.writing = true;
      fork(
        Effect.yieldNow().pipe(
          Effect.zipRight(write(name, part)),
          Effect.ensuring(
            Effect.sync(() => {
              part.writing = false;
              if (part.rows.size > 0 || part.drops.size > 0) start(name, part);
            }),
          ),
        ),
        { scope },
      );
    };

    yield* Effect.sync(() => waitingGauge.unsafeUpdate(count(), [])).pipe(
      Effect.zipRight(Effect.sleep("1 second")),
      Effect.forever,
      Effect.forkScoped,
    );

    const put = (path: ActorPath, version: number, value: unknown, kept: (() => void) | null): void => {
      const found = partFor(path);
      const about = known.get(path);
      // Without a part it is nobody's here any more, and another owner decides.
      if (found === null || about === undefined) return;
      const [name, part] = found;
      const waiting = part.rows.get(path);
      if (waiting === undefined)
        part.rows.set(path, { ...about, version, value, at: now(), kept: kept === null ? [] : [kept] });
      else {
        waiting.version = version;
        waiting.value = value;
        waiting.at = now();
        if (kept !== null) waiting.kept.push(kept);
      }
      part.drops.delete(path);
      start(name, part);
    };

    return {
      spawned: (path, kind, argument, parent) => {
        known.set(path, { kind, argument, parent });
        put(path, 0, undefined, null);
      },
      restored: (path, kind, argument, parent) => void known.set(path, { kind, argument, parent }),
      snapshot: (path, version, value, kept) => put(path, version, value, kept),
      stopped: (path) => {
        known.delete(path);
        const found = partFor(path);
        if (found === null) return;
        const [name, part] = found;
        const waiting = part.rows.get(path);
        part.rows.delete(path);
        part.drops.add(path);
        // What was to follow its last words still follows them.
        for (const follow of waiting?.kept ?? []) follow();
        start(name, part);
      },
      send: (key, parcel) => {
        const part = options.partOf(parcel.to);
        if (part !== null) options.send(part, key, parcel);
      },
      confirmed: (name, token) => {
        const part = parts.get(name);
        if (part === undefined)
          parts.set(name, { token, confirmed: true, writing: false, rows: new Map(), drops: new Set() });
        else {
          part.token = token;
          part.confirmed = true;
          start(name, part);
        }
      },
      doubted: (name) => {
        const part = parts.get(name);
        if (part !== undefined) part.confirmed = false;
      },
      left: (name) => {
        parts.delete(name);
        for (const path of known.keys()) if (options.partOf(path) === name) known.delete(path);
      },
      flush: (name) =>
        Effect.suspend(() => {
          const part = parts.get(name);
          if (part === undefined) return Effect.void;
          const done: Effect.Effect<void> = Effect.suspend(() =>
            !part.confirmed || (!part.writing && part.rows.size === 0 && part.drops.size === 0)
              ? Effect.void
              : Effect.zipRight(Effect.sleep("5 millis"), done),
          );
          start(name, part);
          return done;
        }),
      tokenOf: (name) => parts.get(name)?.token ?? null,
      waiting: count,
    };
  });
