/**
 * The live page's socket (`/live`, JSON text). A topic is a map of entries; the server sends it whole once (`snapshot`)
 * and then numbered changes (`delta`: entries set and deleted). A gap in the numbers makes the page ask again.
 *
 * Topics: "overview" "services" "map" "incidents" "agents" "console", "service:<ServiceId>", "incident:<id>", "actor:<path>".
 */
import type { Inspection, Incident, RootCause } from "../incident.ts";
import type { HealthStatus, ServiceId } from "../service.ts";
import type { Capability } from "./link.ts";
import type { SelfFigures } from "./observe.ts";

export const PAGE_PROTOCOL = 1;

export type PageRequest =
  | { readonly type: "subscribe"; readonly topic: string }
  | { readonly type: "unsubscribe"; readonly topic: string };

export type PageMessage =
  | {
      readonly type: "hello";
      readonly protocol: number;
      readonly serverId: string;
      readonly version: string;
      readonly nowMs: number;
    }
  | {
      readonly type: "snapshot";
      readonly topic: string;
      readonly seq: number;
      readonly nowMs: number;
      readonly entries: Readonly<Record<string, unknown>>;
    }
  | {
      readonly type: "delta";
      readonly topic: string;
      readonly seq: number;
      readonly nowMs: number;
      readonly set: Readonly<Record<string, unknown>>;
      readonly del: readonly string[];
    }
  | { readonly type: "error"; readonly topic: string | null; readonly message: string };

/** topic "overview", single entry "overview" */
export interface Overview {
  readonly cluster: string;
  readonly version: string;
  readonly startedAt: number;
  readonly agents: { readonly connected: number; readonly known: number };
  readonly services: number;
  readonly openIncidents: number;
  readonly suspicions: number;
  readonly store: {
    readonly state: "up" | "starting" | "down";
    readonly message: string;
    readonly queuedRows: number;
    readonly dropped: number;
  };
  /** what the on-call must know about the system itself: drops, features off; empty when all is well */
  readonly notices: readonly string[];
}

/** Traffic in figures, over the last 10 s. Latencies in ms; null = no requests. */
export interface Traffic {
  readonly requestsPerSecond: number;
  /** failed + unanswered share of those whose outcome is known, 0..1 */
  readonly errorRatio: number;
  /** share of requests that were answered with a status that could not be read, 0..1 */
  readonly unknownRatio: number;
  readonly p50Ms: number | null;
  readonly p95Ms: number | null;
  readonly p99Ms: number | null;
  readonly pending: number;
  readonly oldestPendingMs: number;
}

/** topics "services" and "map" (key "node:<ServiceId>" on the map, plain ServiceId in the list) */
export interface ServiceCard {
  readonly id: ServiceId;
  readonly name: string;
  readonly kind: string;
  readonly namespace: string;
  readonly type: string;
  /** "application", "monitoring", "control-plane", or one of the configuration's own */
  readonly category: string;
  readonly status: HealthStatus;
  /** why the status is not ok, shortest form */
  readonly reason: string;
  readonly inbound: Traffic;
  readonly instances: number;
  readonly cpuCores: number | null;
  readonly memoryBytes: number | null;
  readonly hasSlo: boolean;
  readonly lastSeen: number;
  readonly incident: string | null;
}

/** topic "map", key "edge:<from>><to>" */
export interface MapEdge {
  readonly from: ServiceId;
  readonly to: ServiceId;
  readonly protocols: readonly string[];
  readonly traffic: Traffic;
  readonly failedConnectsPerSecond: number;
  /** as in EdgeView */
  readonly failedConnectsReason: string;
  readonly bytesPerSecond: number;
  readonly status: HealthStatus;
}

/** topic "service:<id>": entries "card" ServiceCard, "slo" SloView, "inbound:<peer>" / "outbound:<peer>" EdgeView,
 *  "inspection:<id>" Inspection, "instance:<instance>" InstanceView, "live" LiveWindows of the
 *  running minute, "live:past" LiveWindows of the whole minutes before it */
export interface SloView {
  readonly availabilityObjective: number;
  readonly latencyObjective: number;
  readonly latencyThresholdMs: number;
  /** over the last 30 days (or since the service is known): budget share left, may be negative */
  readonly budgetLeft: number | null;
  readonly good: number;
  readonly bad: number;
  readonly burn: readonly {
    readonly objective: "availability" | "latency";
    readonly long: string;
    readonly short: string;
    readonly threshold: number;
    readonly longBurn: number | null;
    readonly shortBurn: number | null;
    readonly severity: "critical" | "warning";
    readonly firing: boolean;
  }[];
  readonly state: "none" | "ok" | "suspicion" | "incident" | "recovering";
  readonly since: number | null;
}

export interface EdgeView {
  readonly peer: ServiceId;
  readonly peerName: string;
  readonly protocols: readonly string[];
  /** as the client measured it, and as the server did; null where that side is not observed */
  readonly client: Traffic | null;
  readonly server: Traffic | null;
  readonly connectsPerSecond: number;
  readonly failedConnectsPerSecond: number;
  /** why connects fail, for a person; "" where nobody knows */
  readonly failedConnectsReason: string;
  /** connections per second that the other end reset, or did not answer on any more */
  readonly brokenConnectionsPerSecond: number;
  readonly activeConnections: number;
  readonly retransmitsPerSecond: number;
  readonly rttMs: number | null;
  readonly bytesOutPerSecond: number;
  readonly bytesInPerSecond: number;
  readonly status: HealthStatus;
  readonly lastSeen: number;
}

export interface InstanceView {
  readonly instance: string;
  readonly node: string;
  readonly up: boolean;
  readonly startedAt: number;
  readonly processes: number;
  readonly cpuCores: number;
  readonly cpuLimit: number;
  readonly throttledRatio: number;
  readonly memoryBytes: number;
  readonly memoryLimit: number;
  readonly restarts: number;
  readonly oomKills: number;
}

/** Columns of equal length, oldest first, one element per second; the page appends what is newer than what it has. */
export interface LiveWindows {
  readonly time: readonly number[];
  readonly requests: readonly number[];
  readonly errors: readonly number[];
  readonly p50Ms: readonly (number | null)[];
  readonly p95Ms: readonly (number | null)[];
  readonly p99Ms: readonly (number | null)[];
  readonly cpuCores: readonly number[];
  readonly throttledRatio: readonly number[];
  readonly memoryBytes: readonly number[];
  readonly pending: readonly number[];
}

/** topic "incidents": key = incident id, value IncidentCard; topic "incident:<id>": single entry "incident" Incident */
export interface IncidentCard {
  readonly id: string;
  readonly status: Incident["status"];
  readonly severity: Incident["severity"];
  readonly service: ServiceId;
  readonly headline: string;
  readonly cause: { readonly service: ServiceId; readonly kind: string; readonly confidence: string } | null;
  readonly impact: number;
  readonly suspectedAt: number;
  readonly openedAt: number | null;
  readonly resolvedAt: number | null;
  readonly members: number;
}
export type { Incident, Inspection, RootCause };

/** What the server knows of an agent. */
export interface AgentView {
  readonly id: string;
  readonly node: string;
  readonly cluster: string;
  readonly version: string;
  readonly kernel: string;
  readonly state: "connected" | "disconnected";
  readonly connectedAt: number;
  readonly lastFrameAt: number;
  readonly clockOffsetMs: number;
  readonly window: number;
  readonly framesPerSecond: number;
  readonly bytesPerSecond: number;
  readonly instances: number;
  readonly edges: number;
  readonly capabilities: readonly Capability[];
  /** counters of what was lost, refused or skipped, by name */
  readonly losses: Readonly<Record<string, number>>;
  /** refused connections that claimed this id */
  readonly conflicts: number;
  /** what it said of itself last; empty: nothing */
  readonly self: SelfFigures;
}

/** A check of an agent. `info`: worth knowing, nobody's trouble. */
export interface AgentInspection {
  readonly id: "behind" | "losing" | "full" | "hooks" | "clock" | "unread" | "cost";
  readonly title: string;
  readonly status: HealthStatus;
  readonly message: string;
}

/** topic "agents": key = agent id */
export interface AgentEntry extends AgentView {
  readonly inspections: readonly AgentInspection[];
}

/** topic "console": key = actor path */
export interface ActorView {
  readonly path: string;
  readonly kind: string;
  readonly parent: string | null;
  /** name of the replica that it lives on */
  readonly node: string;
  readonly state: "idle" | "running" | "quarantined" | "paused" | "stopping";
  readonly startedAt: number;
  readonly mailbox: number;
  readonly mailboxBound: number;
  readonly mailboxWaitP95Ms: number;
  readonly handleP95Ms: number;
  readonly inPerSecond: number;
  readonly outPerSecond: number;
  readonly handled: number;
  readonly merged: number;
  readonly shed: number;
  readonly restarts: number;
  readonly stateBytes: number;
  readonly lastError: string | null;
  readonly deadLetters: number;
}

/**
 * topic "actor:<path>": "row" ActorView, "state" the state as JSON with secrets masked, "before" {at, state} of a minute
 * ago or null, "recent" ActorMessageView[]
 */
export interface ActorMessageView {
  readonly at: number;
  readonly type: string;
  readonly from: string | null;
  /** shared by all messages that one message from outside led to */
  readonly trace: number;
  readonly waitMs: number;
  readonly handleMs: number;
  readonly error: string | null;
}

/** topic "trace:<id>", by position: one stop of a message on its way through the actors, over all replicas */
export interface TraceHop extends ActorMessageView {
  readonly node: string;
  readonly path: string;
}

/** topic "dead-letters", by position, newest first */
export interface DeadLetterView {
  readonly at: number;
  readonly node: string;
  readonly to: string;
  readonly from: string | null;
  readonly type: string;
  readonly reason: string;
}
