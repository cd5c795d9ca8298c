/** Bodies of the agent link's frames other than `observe`. All times are milliseconds. */
import type { TableShape, WireTable } from "./columns.ts";

/** One feature of an agent: whether it works on this machine, and if not, why. */
export interface Capability {
  readonly feature: string;
  readonly state: "on" | "off" | "degraded";
  /** errno of the refusal, 0 when there is none */
  readonly errno: number;
  /** for a person; empty when on */
  readonly reason: string;
}

/** First frame in both directions. The server's carries no key. */
export interface HelloBody {
  readonly protocol: readonly [major: number, minor: number];
  readonly agentId: string;
  /** number of the agent's life: differs at every start */
  readonly epoch: number;
  readonly cluster: string;
  readonly node: string;
  readonly key: string;
  readonly version: string;
  readonly monoMs: number;
  readonly wallMs: number;
  readonly kernel: string;
  readonly capabilities: readonly Capability[];
}
export interface ServerHelloBody {
  readonly protocol: readonly [major: number, minor: number];
  readonly serverId: string;
  readonly serverMs: number;
  /**
   * the last window of that epoch that was counted and will not be lost; null: none that the server is sure of, so
   * everything that the agent still keeps is to be sent again. Absent from older servers.
   */
  readonly have?: { readonly epoch: number; readonly window: number } | null;
}

export type Lane = "observe" | "store";

/** Acknowledges everything up to and including `upTo` (window number or store sequence) of that epoch. */
export interface AckBody {
  readonly lane: Lane;
  readonly epoch: number;
  readonly upTo: number;
  /** the agent's monotonic clock from the acknowledged frame, echoed, with the server's time: gives the offset */
  readonly echoMonoMs: number;
  readonly serverMs: number;
}

/** How many unacknowledged frames the agent may have under way on a lane. 0 withholds it. */
export interface CreditBody {
  readonly lane: Lane;
  readonly frames: number;
}

export interface GoawayBody {
  /** "again": come back at once and send again what the server then says that it does not have */
  readonly code: "key" | "version" | "duplicate" | "bad-frame" | "shutdown" | "timeout" | "oversized" | "again";
  readonly message: string;
  /** 0: do not come back before the configuration changed */
  readonly retryAfterMs: number;
}

/**
 * Latency above which a request is slow, ms, as the services' actors say: on the agent's own services, and on its edges to
 * others, by the edge's id. Complete each time: what is not named has no threshold of its own.
 */
export interface PolicyBody {
  readonly slowMs: Readonly<Record<string, number>>;
  readonly edges?: Readonly<Record<string, number>>;
}

/** Samples of the store lane: `series` points into `define` of this segment or an earlier frame of the same dictionary. */
export const SAMPLES_SHAPE = { series: "u32", timeMs: "f64", value: "f64" } as const satisfies TableShape;

export interface SeriesDefinition {
  readonly id: number;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** Body of a `store` frame. (agent id, epoch, sequence) is the batch id that makes a re-send harmless. */
export interface StoreBody {
  readonly epoch: number;
  readonly sequence: number;
  readonly monoMs: number;
  readonly series?: readonly SeriesDefinition[];
  readonly samples?: WireTable;
  /** requests of which the probe told, as an OTLP ExportTraceServiceRequest */
  readonly spans?: Uint8Array;
  /** agent-side drops of this lane since its start (spool limit) */
  readonly dropped: number;
}
