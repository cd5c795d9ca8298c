/** What the topology actor is told by agent sessions, and what it tells them. */
import type { Message, Tick } from "../../runtime/actor/Behavior.ts";
import type { ServiceId } from "../../schemas/service.ts";
import type { NameDefinition, NatDefinition, Role, ServiceKind, VipDefinition } from "../../schemas/wire/observe.ts";

export const TOPOLOGY = "topology";

export interface KnownInstance {
  /** of the agent's dictionary */
  readonly instance: number;
  readonly service: ServiceId;
  readonly kind: ServiceKind;
  readonly serviceType: string;
}

export interface KnownListen {
  readonly service: ServiceId;
  readonly address: string;
  readonly port: number;
  readonly netns: number;
}

export interface OpenEdge {
  readonly id: number;
  readonly service: ServiceId;
  readonly role: Role;
  readonly peer: string;
  readonly port: number;
  readonly local: string;
  readonly netns: number;
  /** Host header or server name (SNI) of its requests, where all had the same */
  readonly host?: string;
}

/** A connection as one end saw it: the client's address and ephemeral port. */
export interface ConnectionEnd {
  readonly edge: number;
  readonly address: string;
  readonly port: number;
}

export interface Learn extends Message {
  readonly type: "learn";
  readonly agent: string;
  readonly node: string;
  readonly cluster: string;
  /** life of the agent and number of the window that this follows from, and its end by server time */
  readonly epoch: number;
  readonly window: number;
  readonly at: number;
  /** the window reaches back so far: what is new in it began since then, and others tell of theirs as seldom */
  readonly spanMs?: number;
  readonly instances: readonly KnownInstance[];
  /** the agent's complete list, or null when it did not change */
  readonly listens: readonly KnownListen[] | null;
  readonly edges: readonly OpenEdge[];
  readonly ends: readonly ConnectionEnd[];
  /** edges that were in use since the last one told of them */
  readonly active: readonly number[];
  /** edges that nobody speaks of any more */
  readonly gone: readonly number[];
  /** names that the node looked up */
  readonly names: readonly NameDefinition[];
  /** where connections to an address really went */
  readonly nat: readonly NatDefinition[];
  /** addresses that stand for several others */
  readonly vips: readonly VipDefinition[];
}

/** The session's dictionary starts anew: its edges are forgotten. */
export interface Forget extends Message {
  readonly type: "forget";
  readonly agent: string;
  /** true when the agent itself is gone, so that its leases end */
  readonly lost: boolean;
}

/** A service actor has stopped, since nobody has seen its service for long: whoever sees it again makes a new one. */
export interface Retired extends Message {
  readonly type: "retired";
  readonly service: ServiceId;
}

export type TopologyMessage = Learn | Forget | Retired | Missing | CallsWanted | ListensWanted | Tick;

/** Answer to every Learn that carries edges, and whenever one turns out to be somebody else. */
export interface Resolved extends Message {
  readonly type: "resolved";
  readonly edges: readonly { readonly id: number; readonly peer: ServiceId | null }[];
}

/** To the incident desk, once per pair: `from` calls `to`. */
export interface GraphEdge extends Message {
  readonly type: "graph";
  readonly from: ServiceId;
  readonly to: ServiceId;
  /** the call has not been seen for so long that it is over */
  readonly gone?: boolean;
}

/** A service is observed and has no actor where it should live. */
export interface Missing extends Message {
  readonly type: "missing";
  readonly service: ServiceId;
  readonly kind: ServiceKind;
  readonly serviceType: string;
}

/** From a desk that started anew. */
export interface CallsWanted extends Message {
  readonly type: "calls-wanted";
}

/** Asked: where these services listen now. Answered with a Listen for each address and port. */
export interface ListensWanted extends Message {
  readonly type: "listens-wanted";
  readonly services: readonly ServiceId[];
}
export interface Listen {
  readonly service: ServiceId;
  readonly address: string;
  readonly port: number;
}

/** The answer: every call that is known. */
export interface CallsTold extends Message {
  readonly type: "calls";
  readonly calls: readonly (readonly [from: ServiceId, to: ServiceId])[];
}
