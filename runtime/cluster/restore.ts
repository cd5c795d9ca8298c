/**
 * Sets a part's actors going from what the state database has of them. A snapshot that cannot be read (corrupt, or of a
 * version that this server does not know) is put aside, and its actor starts from what it can learn again; nothing that
 * one row holds keeps the others from starting.
 */
import { Effect, Metric } from "effect";
import type { ActorSystemShape } from "../actor/ActorSystem.ts";
import type { ActorPath } from "../actor/Behavior.ts";
import type { Keeper } from "./Keeper.ts";
import { decodeState } from "./state/codec.ts";
import type { OwnedStateShape, SavedState } from "./state/OwnedState.ts";
import type { StateError } from "./state/StateDatabase.ts";

const restoredTotal = Metric.counter("coroot_state_actors_restored_total", { incremental: true });
const asideTotal = Metric.counter("coroot_state_snapshots_aside_total", {
  description: "snapshots that could not be read and were put aside",
  incremental: true,
});

type Read = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly reason: string };

const readSnapshot = (system: ActorSystemShape, saved: SavedState): Read => {
  if (saved.bytes === null || saved.bytes.byteLength === 0) return { ok: true, value: undefined };
  const owned = system.behavior(saved.kind)?.owned;
  if (owned === undefined) return { ok: false, reason: `actors of kind ${saved.kind} keep no state` };
  const decoded = decodeState(saved.bytes);
  if (!decoded.ok || saved.version === owned.version) return decoded;
  try {
    return { ok: true, value: owned.migrate(saved.version, decoded.value) };
  } catch (error) {
    return { ok: false, reason: error instanceof Error ? error.message : String(error) };
  }
};

export const restorePart = (
  system: ActorSystemShape,
  owned: OwnedStateShape,
  keeper: Keeper,
  part: string,
  /** what the configuration says now counts, not what it said when the actor was first started */
  argumentOf: (path: ActorPath, saved: unknown) => unknown,
): Effect.Effect<void, StateError> =>
  Effect.gen(function* () {
    for (const saved of yield* owned.load(part)) {
      const { path, kind } = saved;
      const about = decodeState(saved.argument);
      if (!about.ok || system.behavior(kind) === undefined) {
        asideTotal.unsafeUpdate(1, []);
        const reason = about.ok ? `no actors of kind ${kind} are known here` : about.reason;
        yield* owned.setAside(saved, reason);
        yield* Effect.logError(`${path} cannot be taken up again: ${reason}; its bytes are kept aside`);
        continue;
      }
      const { argument: then, parent } = about.value as {
        readonly argument: unknown;
        readonly parent: ActorPath | null;
      };
      const argument = argumentOf(path, then);
      const read = readSnapshot(system, saved);
      if (!read.ok) {
        asideTotal.unsafeUpdate(1, []);
        yield* owned.setAside(saved, read.reason);
        yield* Effect.logError(`${path} starts without its snapshot: ${read.reason}; the bytes are kept aside`);
      }
      keeper.restored(path, kind, argument, parent);
      if (system.restore(path, kind, argument, parent, read.ok ? read.value : undefined))
        restoredTotal.unsafeUpdate(1, []);
    }
  });
