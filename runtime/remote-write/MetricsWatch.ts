/**
 * Who is told of samples of remote_write as they come in, beside the store: the port behind which the server judges them.
 * Implemented where the actors are; without it nobody is told. Called from the door's fibers, before the samples are on
 * disk: a call that comes again because it was not answered is told again, so whoever is told must know what he has.
 */
import { Context } from "effect";
import type { Watched } from "./Columns.ts";
import type { WatcherOf } from "./SeriesCache.ts";

export interface MetricsWatchShape {
  readonly watcherOf: WatcherOf;
  readonly tell: (watcher: string, samples: Watched) => void;
}

export class MetricsWatch extends Context.Tag("runtime/remote-write/MetricsWatch")<MetricsWatch, MetricsWatchShape>() {}
