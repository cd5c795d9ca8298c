/** What the server concludes: inspections, root causes, incidents. Times are milliseconds since the epoch. */
import type { HealthStatus, ServiceId } from "./service.ts";

/** A figure that supports a claim. `z` is the deviation in robust standard deviations, null where it has none. */
export interface Evidence {
  readonly id: string;
  readonly service: ServiceId;
  readonly series: string;
  readonly normal: number | null;
  readonly value: number | null;
  readonly unit: "ms" | "ratio" | "count" | "per_second" | "bytes" | "cores" | "percent";
  readonly z: number | null;
  readonly from: number;
  readonly to: number;
  readonly text: string;
}

export interface Inspection {
  readonly id:
    | "availability"
    | "latency"
    | "failed_connects"
    | "accept_queue"
    | "dns_latency"
    | "dns_server_errors"
    | "dns_nxdomain"
    | "restarts"
    | "cpu_near_limit"
    | "cpu_throttling"
    | "memory_near_limit"
    | "oom"
    | "io_latency"
    | "disk_space";
  readonly category: "SLO" | "Network" | "DNS" | "Instances" | "CPU" | "Memory" | "Storage";
  readonly title: string;
  readonly status: HealthStatus;
  /** "no data" is not "ok" and not "down" */
  readonly message: string;
  readonly threshold: number;
  readonly value: number | null;
  readonly unit: Evidence["unit"];
  readonly since: number | null;
  readonly evidence: readonly Evidence[];
}

export type CauseKind =
  | "dependency_down"
  | "waiting_inside"
  | "cpu_throttling"
  | "memory"
  | "errors"
  | "cpu"
  | "latency"
  | "network"
  | "restarts"
  | "unknown";

/** One step of the way from the service that breached to the cause. */
export interface Hop {
  readonly from: ServiceId;
  readonly to: ServiceId;
  readonly measure: "latency" | "errors";
  /** change of the caller and of the callee: ms per request, or failed requests per second */
  readonly callerChange: number;
  readonly calleeChange: number;
  /** share of the caller's change that the callee explains, 0..1 */
  readonly share: number;
  /** requests per second on the edge */
  readonly requests: number;
  readonly failedConnects: number;
}

export interface Cause {
  readonly service: ServiceId;
  readonly kind: CauseKind;
  readonly confidence: "high" | "medium" | "low";
  /** 0..1 */
  readonly score: number;
  readonly headline: string;
  readonly path: readonly Hop[];
  readonly evidence: readonly Evidence[];
  readonly nextStep: string;
  readonly refutedBy: string;
}

export interface RuledOut {
  readonly service: ServiceId;
  readonly reason: string;
}

export interface RootCause {
  readonly at: number;
  readonly tookMs: number;
  readonly target: ServiceId;
  /** at most three, best first */
  readonly causes: readonly Cause[];
  readonly ruledOut: readonly RuledOut[];
  readonly gaps: readonly string[];
}

export interface TimelineEntry {
  readonly at: number;
  readonly kind: "onset" | "suspicion" | "opened" | "joined" | "cause" | "event" | "alert" | "recovering" | "resolved";
  readonly service: ServiceId | null;
  readonly text: string;
}

/** `suspicion` is shown and explained, `open` alerts, `blip` is a suspicion that went away before the hold time. */
export type IncidentStatus = "suspicion" | "open" | "resolved" | "blip";

export interface Incident {
  readonly id: string;
  readonly cluster: string;
  readonly status: IncidentStatus;
  readonly severity: "warning" | "critical";
  /** the service that breached; nearest to the users when several did */
  readonly service: ServiceId;
  readonly members: readonly ServiceId[];
  readonly headline: string;
  /** share of requests affected since the onset, 0..1, of `service` */
  readonly impact: number;
  readonly onsetAt: number;
  readonly suspectedAt: number;
  readonly openedAt: number | null;
  readonly resolvedAt: number | null;
  readonly rca: RootCause | null;
  /** somebody has it in hand: no more updates are sent, only its end */
  readonly acknowledged: Acknowledgement | null;
  /** a silence keeps its alerts back until then */
  readonly silencedUntil: number | null;
  readonly timeline: readonly TimelineEntry[];
  readonly version: number;
}

export interface Acknowledgement {
  readonly at: number;
  readonly by: string;
  readonly note: string;
}

/** Keeps alerts back. Incidents of what matches are opened, explained and shown all the same. */
export interface Silence {
  readonly id: string;
  // a service id in which * stands for anything (default/shop/Deployment/web-*), or the id of an incident
  readonly match: string;
  readonly from: number;
  readonly until: number;
  readonly reason: string;
  readonly by: string;
}

/** Body that the webhook sink posts. `key` is equal for every delivery of one transition, so a receiver can de-duplicate. */
export interface AlertPayload {
  readonly key: string;
  /** of its incident's transitions, from 1: a receiver can tell an old one that comes late */
  readonly sequence: number;
  readonly event: "incident.opened" | "incident.updated" | "incident.resolved";
  readonly at: number;
  readonly url: string;
  readonly incident: Incident;
}
