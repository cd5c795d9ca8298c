/**
 * Everything that the server writes to the store goes through here: agents' samples (nothing acknowledged is lost) and
 * the server's own rows (bounded, lossy with a count). Owned by the server's layers; its fibers live as long as the
 * layer. With the store down both lanes wait and detection goes on. See SamplesLane (own tables), RemoteLane (samples that
 * are kept elsewhere) and RowsLane for failure and stop.
 */
import { Context, Effect, Layer } from "effect";
import type { DerivedRow, DerivedTable, Retention } from "../../schemas/tables.ts";
import type { StoreBatch } from "./batch.ts";
import { makeRemoteLane, type RemoteConfig } from "./RemoteLane.ts";
import { makeRowsLane, newLife, type RowsStats } from "./RowsLane.ts";
import { makeSamplesLane, type SamplesStats } from "./SamplesLane.ts";
import { Store } from "./Store.ts";

export interface WriterStats {
  readonly queuedBytes: number;
  readonly queuedRows: number;
  readonly dropped: number;
  readonly inserts: number;
  readonly retries: number;
  readonly samples: SamplesStats;
  readonly rows: RowsStats;
}

export interface WriterShape {
  /** Completes when the batch is on disk. Waits while the queue is full. The same batch twice is stored once. */
  readonly samples: (batch: StoreBatch) => Effect.Effect<void>;
  /** Queues rows of the server's own; times in milliseconds. */
  readonly rows: <T extends DerivedTable>(table: T, rows: readonly DerivedRow[T][]) => Effect.Effect<void>;
  readonly stats: Effect.Effect<WriterStats>;
  /** false: withhold credit on the store lane */
  readonly ready: boolean;
}

export class Writer extends Context.Tag("runtime/store/Writer")<Writer, WriterShape>() {}

export interface WriterConfig {
  readonly samplesBytes?: number;
  readonly rowsBytes?: number;
  readonly retention?: Retention;
  /** where samples are kept instead of the own tables */
  readonly remote?: Pick<RemoteConfig, "url" | "headers">;
}

const MIB = 1024 * 1024;

export const make = (config: WriterConfig = {}) =>
  Effect.gen(function* () {
    const store = yield* Store;
    const maxBytes = config.samplesBytes ?? 64 * MIB;
    const samples =
      config.remote === undefined
        ? yield* makeSamplesLane(store, {
            maxBytes,
            ...(config.retention === undefined ? {} : { retention: config.retention }),
          })
        : yield* makeRemoteLane({ maxBytes, ...config.remote });
    const rows = yield* makeRowsLane(store, { maxBytes: config.rowsBytes ?? 16 * MIB, life: yield* newLife });
    return {
      samples: samples.write,
      rows: rows.write,
      get ready() {
        return samples.ready();
      },
      stats: Effect.sync(() => {
        const [one, two] = [samples.stats(), rows.stats()];
        return {
          queuedBytes: one.queuedBytes + two.queuedBytes,
          queuedRows: one.queuedRows + two.queuedRows,
          dropped: two.dropped + two.rejected,
          inserts: one.inserts + two.inserts,
          retries: one.retries + two.retries,
          samples: one,
          rows: two,
        };
      }),
    } satisfies WriterShape;
  });

export const layer = (config: WriterConfig = {}): Layer.Layer<Writer, never, Store> =>
  Layer.scoped(Writer, make(config));
