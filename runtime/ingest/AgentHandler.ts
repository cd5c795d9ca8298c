/**
 * The port behind the agent link: what the server does with what agents say. Implemented by actors/agent-session;
 * called from one fiber per connection, so calls for one peer never overlap, except `store`, which runs beside.
 * A defect in a handler ends that connection (the agent returns and sends again), never another.
 */
import { Context } from "effect";
import type { Effect } from "effect";
import type { DecodedObserve, DecodedStore } from "../../schemas/wire/codec.ts";
import type { Capability, ServerHelloBody } from "../../schemas/wire/link.ts";

export interface AgentPeer {
  readonly agentId: string;
  /** number of the agent's life; (agentId, epoch, window) never repeats */
  readonly epoch: number;
  readonly cluster: string;
  readonly node: string;
  readonly version: string;
  readonly kernel: string;
  readonly capabilities: readonly Capability[];
  /** server time */
  readonly connectedAt: number;
  /** server time at the agent's monotonic zero: serverMs = monoMs + offsetMs() */
  readonly offsetMs: () => number;
  /** counts what the handler had to leave out, by name; shown with the agent */
  readonly count: (loss: string, n: number) => void;
  /** size of the connection's dictionary, shown with the agent */
  readonly report: (figures: { readonly instances: number; readonly edges: number }) => void;
}

export interface AgentHandler {
  /** gives the last window that it has counted for good; null: everything that the agent keeps is to be sent again */
  readonly connected: (peer: AgentPeer) => Effect.Effect<ServerHelloBody["have"]>;
  /** acknowledged when it returns */
  readonly observe: (peer: AgentPeer, body: DecodedObserve) => Effect.Effect<void>;
  /**
   * Completes when durable, and is acknowledged then. What the frame holds is taken at once, not when the effect runs: it
   * would be kept with each of the thousands that wait.
   */
  readonly store: (peer: AgentPeer, body: DecodedStore) => Effect.Effect<void>;
  readonly disconnected: (peer: AgentPeer, reason: string) => Effect.Effect<void>;
  /** false while the writer is behind: agents keep the store lane's frames to themselves */
  readonly storeReady: Effect.Effect<boolean>;
}

export const AgentHandler = Context.GenericTag<AgentHandler>("runtime/ingest/AgentHandler");
