/** What the actors of stock agents are told, by the metrics door and by each other. */
import type { Message } from "../../runtime/actor/Behavior.ts";
import type { Watched } from "../../runtime/remote-write/Columns.ts";
import type { Owner } from "./identity.ts";

/** Samples of one call that concern one agent, or a part of them. Told again when the call comes again. */
export interface Samples extends Message {
  readonly type: "samples";
  readonly samples: Watched;
  /** the message before was of the same call */
  readonly goesOn: boolean;
}

/** Series of one message: taking them in, also for the first time, holds up nobody. */
const AT_ONCE = 1_000;

/** A call in as many messages as it takes. */
export const partsOf = (whole: Watched): Samples[] => {
  const { series, starts, times, values } = whole;
  if (series.length <= AT_ONCE) return [{ type: "samples", samples: whole, goesOn: false }];
  const parts: Samples[] = [];
  for (let from = 0; from < series.length; from += AT_ONCE) {
    const to = Math.min(series.length, from + AT_ONCE);
    const [first, last] = [starts[from] ?? 0, starts[to] ?? 0];
    const samples: Watched = {
      series: series.slice(from, to),
      starts: starts.slice(from, to + 1).map((start) => start - first),
      times: times.subarray(first, last),
      values: values.subarray(first, last),
    };
    parts.push({ type: "samples", samples, goesOn: from > 0 });
  }
  return parts;
};

/** From a node: whom do these Pods belong to, and what do these addresses stand for? */
export interface Wanted extends Message {
  readonly type: "wanted";
  readonly agent: string;
  /** `NAMESPACE/POD` */
  readonly pods: readonly string[];
  readonly destinations: readonly { readonly address: string; readonly port: number }[];
}

/** The answer for Pods that are known, at once or when they become known, and whenever their owner changes. */
export interface Owners extends Message {
  readonly type: "owners";
  readonly pods: readonly (readonly [pod: string, owner: Owner])[];
}
