/**
 * Writes what actors own to the state database: the snapshots of all parts together, one write after the other, and each
 * part's only under the token of its claim. Owned by the cluster. While a claim is in doubt, or the database is away, the
 * newest snapshot of each actor waits here, and with it everything that was to follow it (`afterwards`).
 */
import { Cause, Effect, Metric, Queue, type Scope } from "effect";
import type { ActorPath } from "../actor/Behavior.ts";
import { describe } from "../actor/describe.ts";
import type { Keeper as ActorKeeper, Parcel } from "../actor/Outside.ts";
import { encodeState } from "./state/codec.ts";
import type { OwnedStateShape, StateRow } from "./state/OwnedState.ts";

const WRITE_AGAIN_AFTER = "1 second";
/** The database is away for all parts at once: it is said once in a while, and how many snapshots wait. */
const SAY_EVERY_MS = 30_000;
/** Of one write: the file's is made on the main thread. */
const MOST_ROWS = 500;
const MOST_BYTES = 512 * 1024;
/** What comes within this time of a write goes with the next: each costs a write to the disk. */
const GATHER_MS = 100;
/** So long waits what nobody waits for: the snapshots that actors give out each minute. */
const LAZY_MS = 1_000;

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

/** What one write has of a part. */
interface Taken {
  readonly name: string;
  readonly part: Part;
  readonly token: number;
  readonly waiting: [ActorPath, Waiting][];
  readonly rows: StateRow[];
  readonly drops: readonly ActorPath[];
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
    const wake = yield* Queue.sliding<void>(1);
    const hurry = yield* Effect.makeLatch(false);
    let urgent = false;
    /** parts of which something may wait */
    const waitingParts = new Set<string>();
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

    /** Takes what waits of the parts in turn, as much as one transaction may hold. */
    const take = (): Taken[] => {
      const all: Taken[] = [];
      let rows = 0;
      let bytes = 0;
      for (const name of waitingParts) {
        if (rows >= MOST_ROWS || bytes >= MOST_BYTES) break;
        waitingParts.delete(name);
        const part = parts.get(name);
        if (part === undefined || !part.confirmed) continue;
        const taken: Taken = { name, part, token: part.token, waiting: [], rows: [], drops: [...part.drops] };
        for (const [path, waiting] of part.rows) {
          if (rows >= MOST_ROWS || bytes >= MOST_BYTES) break;
          const row = rowOf(path, waiting);
          taken.waiting.push([path, waiting]);
          taken.rows.push(row);
          part.rows.delete(path);
          rows++;
          bytes += row.argument.byteLength + (row.bytes?.byteLength ?? 0);
        }
        part.drops.clear();
        rows += taken.drops.length;
        if (part.rows.size > 0) waitingParts.add(name);
        if (taken.rows.length + taken.drops.length === 0) continue;
        part.writing = true;
        all.push(taken);
      }
      return all;
    };

    const putBack = ({ name, part, waiting, drops }: Taken): void => {
      for (const [path, one] of waiting) {
        const newer = part.rows.get(path);
        if (newer === undefined) part.rows.set(path, one);
        else newer.kept = [...one.kept, ...newer.kept];
      }
      for (const path of drops) if (!part.rows.has(path)) part.drops.add(path);
      waitingParts.add(name);
    };

    const written = (all: readonly Taken[], fenced: ReadonlySet<string>): void => {
      for (const { name, waiting } of all) {
        if (fenced.has(name)) {
          options.fenced(name);
          continue;
        }
        writtenTotal.unsafeUpdate(waiting.length, []);
        for (const [, { kept }] of waiting) for (const follow of kept) follow();
      }
    };

    const round = Effect.gen(function* () {
      yield* Queue.take(wake);
      if (!urgent) yield* Effect.raceFirst(Effect.sleep(LAZY_MS), hurry.await);
      urgent = false;
      yield* hurry.close;
      const all = take();
      if (all.length === 0) return;
      yield* owned.save(all.map(({ name, token, rows, drops }) => ({ part: name, token, rows, drops }))).pipe(
        // A connection that is cut in the middle may fail in ways that are nobody's to expect.
        Effect.matchCauseEffect({
          onSuccess: (fenced) => Effect.sync(() => written(all, fenced)),
          onFailure: (cause) =>
            Effect.suspend(() => {
              all.forEach(putBack);
              failedTotal.unsafeUpdate(1, []);
              return Effect.zipRight(complain(describe(Cause.squash(cause))), Effect.sleep(WRITE_AGAIN_AFTER));
            }),
        }),
        Effect.ensuring(
          Effect.sync(() => {
            for (const { part } of all) part.writing = false;
          }),
        ),
      );
      yield* Effect.sleep(GATHER_MS);
      if (waitingParts.size > 0) yield* Queue.offer(wake, undefined);
    });
    yield* round.pipe(
      Effect.catchAllCause((cause) => Effect.logError("the writer of what actors own failed", cause)),
      Effect.forever,
      Effect.forkScoped,
    );

    /** With `now` somebody waits for it. */
    const start = (name: string, now: boolean): void => {
      waitingParts.add(name);
      if (now && !urgent) {
        urgent = true;
        hurry.unsafeOpen();
      }
      Queue.unsafeOffer(wake, undefined);
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
      start(name, kept !== null);
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
        start(name, false);
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
          start(name, true);
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
          start(name, true);
          return done;
        }),
      tokenOf: (name) => parts.get(name)?.token ?? null,
      waiting: count,
    };
  });
