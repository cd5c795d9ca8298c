/** What an agent session owns. Changed only by its `step`; lost with it, and then told again by its agent. */
import type { ServiceId } from "../../schemas/service.ts";
import type { EdgeDefinition, InstanceDefinition, NatDefinition, VipDefinition } from "../../schemas/wire/observe.ts";
import type { Grouped } from "../topology/grouping.ts";
import type { EdgeWindow, Side } from "../service/messages.ts";
import type { KnownInstance, KnownListen } from "../topology/messages.ts";
import type { Window } from "./messages.ts";

export type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** What a service is told of as one edge: all edges of this agent on the same side of it, with the same peer. */
export interface Group {
  readonly key: string;
  readonly service: ServiceId;
  readonly side: Side;
  readonly peer: ServiceId | null;
  /** edges in it, and their open connections */
  edges: number;
  active: number;
  /** its part of the window that is being taken apart */
  filling: Mutable<EdgeWindow> | null;
}

export interface SessionEdge {
  readonly definition: EdgeDefinition;
  readonly service: ServiceId;
  peer: ServiceId | null | undefined;
  /** whose windows it is part of, once the peer is known */
  groups: readonly Group[];
  active: number;
}

export interface SessionState {
  readonly agent: string;
  readonly grouping: Grouped;
  epoch: number;
  node: string;
  cluster: string;
  connected: boolean;
  disconnectedAt: number;
  lastWindow: number;
  readonly instances: Map<number, KnownInstance & { readonly definition: InstanceDefinition }>;
  readonly edges: Map<number, SessionEdge>;
  unresolved: number;
  /** the agent's complete list of listening sockets, as it was last told */
  listens: readonly KnownListen[] | null;
  vips: readonly VipDefinition[];
  /** what is translated, by what was dialled */
  readonly nat: Map<string, NatDefinition>;
  /** newest window whose dictionary was taken */
  toldWindow: number;
  /** edges in use that the topology was not told of yet, and when it was told last */
  readonly inUse: Set<number>;
  inUseToldAt: number;
  /** services that nobody had, and when that was said */
  readonly missed: Map<ServiceId, number>;
  /** everything that the agent keeps has been sent to this session since it started or was told to rewind */
  complete: boolean;
  /** more windows waited than fit: what comes now is left to the agent, which sends it again after those that wait */
  behind: boolean;
  readonly waiting: Window[];
  /** by service, side and peer */
  readonly groups: Map<string, Group>;
  readonly services: Set<ServiceId>;
  lost: boolean;
  /** windows that were left to be sent again */
  deferred: number;
  unknownRows: number;
  /** by service: latency above which its requests are slow, as its actor said */
  readonly thresholds: Map<ServiceId, number>;
  /** what the agent was told of them, and when it was looked at last */
  policyTold: string;
  policyAt: number;
}
