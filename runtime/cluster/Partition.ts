/**
 * The cluster entity of one part. The engine places it, keeps the messages that must not be lost, and hands each of them
 * over once per key to whoever owns the part; the actors under it are the kernel's. An interrupted hand-over is not
 * processed: the engine repeats it, here or elsewhere.
 */
import { ClientTracingEnabled, Persisted } from "@effect/cluster/ClusterSchema";
import * as Entity from "@effect/cluster/Entity";
import * as Rpc from "@effect/rpc/Rpc";
import { Effect, Metric, Schedule, Schema, type Layer } from "effect";
import type { Sharding } from "@effect/cluster/Sharding";
import type { Message } from "../actor/Behavior.ts";
import type { Settled } from "../actor/Outside.ts";

const AGAIN_AFTER = "500 millis";

const handedTotal = Metric.counter("coroot_cluster_durable_handed_total", {
  description: "durable messages handed to an actor, by how that ended",
  incremental: true,
});

/** Message as JSON: what is kept for later must be plain data. */
export const Hand = Rpc.make("Hand", {
  payload: { key: Schema.String, to: Schema.String, message: Schema.Unknown },
  success: Schema.Literal("done", "poison"),
  primaryKey: ({ key }) => key,
}).annotate(Persisted, true);

export const Partition = Entity.make("Partition", [Hand]).annotateRpcs(ClientTracingEnabled, false);

export interface PartitionOptions {
  /** completes when the actor said that it is done with it, or fell over it */
  readonly deliver: (part: string, to: string, message: Message, key: string) => Effect.Effect<Settled>;
}

export const partitionLayer = (options: PartitionOptions): Layer.Layer<never, never, Sharding> =>
  Partition.toLayer(
    Effect.gen(function* () {
      const address = yield* Entity.CurrentAddress;
      return {
        Hand: ({ payload: { key, to, message } }) =>
          options.deliver(address.entityId, to, message as Message, key).pipe(
            Effect.tap((how) => Metric.increment(Metric.tagged(handedTotal, "how", how))),
            Effect.flatMap((how) => (how === "again" ? Effect.fail("again" as const) : Effect.succeed(how))),
            Effect.retry(Schedule.spaced(AGAIN_AFTER)),
            Effect.orDie,
          ),
      };
    }),
    { concurrency: "unbounded", disableFatalDefects: true, maxIdleTime: "5 minutes" },
  );
