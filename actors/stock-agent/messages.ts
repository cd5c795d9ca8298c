/** What the actors of stock agents are told, by the metrics door and by each other. */
import type { Message } from "../../runtime/actor/Behavior.ts";
import type { Watched } from "../../runtime/remote-write/Columns.ts";
import type { Owner } from "./identity.ts";

/** Samples of one call that concern one agent. Told again when the call comes again. */
export interface Samples extends Message {
  readonly type: "samples";
  readonly samples: Watched;
}

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
