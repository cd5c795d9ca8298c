/** What a service actor is told and asked. Everything here is plain data: it crosses processes and is recorded for replay. */
import type { Message, Reply, Tick } from "../../runtime/actor/Behavior.ts";
import type { ServiceId } from "../../schemas/service.ts";
import type { ServiceKind } from "../../schemas/wire/observe.ts";

/** Where an edge was seen from: by the service as server, by its clients, or by the service as client of others. */
export type Side = "inbound-server" | "inbound-client" | "outbound";

/** Requests and connections of one edge, as one side saw them in one window. Empty where it saw nothing. */
export interface EdgeWindow {
  readonly side: Side;
  /** null: the other end could not be told (an address shared by several services) */
  readonly peer: ServiceId | null;
  readonly protocols: readonly RequestWindow[];
  readonly opens: number;
  readonly failedConnects: number;
  /** what went wrong with connections, by kind: kind (index of TROUBLES), count, kind, count, …; absent: nothing */
  readonly troubles?: readonly number[];
  readonly closes: number;
  readonly active: number;
  readonly bytesOut: number;
  readonly bytesIn: number;
  readonly retransmits: number;
  readonly connectUs: number;
  readonly rttUs: number;
  readonly rttCount: number;
  /** gauges: requests waiting for their answer at the window's end */
  readonly pending: number;
  readonly oldestMs: number;
}

export interface RequestWindow {
  readonly protocol: number;
  readonly ok: number;
  readonly rejected: number;
  readonly failed: number;
  readonly unanswered: number;
  /** answered with a status that could not be read: neither good nor bad */
  readonly unknown: number;
  readonly sumUs: number;
  /** sparse histogram: bucket, count, bucket, count, … */
  readonly histogram: readonly number[];
}

export interface InstanceWindow {
  readonly instance: string;
  readonly node: string;
  readonly startedAt: number;
  readonly processes: number;
  readonly cpuMs: number;
  readonly cpuLimit: number;
  readonly throttledMs: number;
  readonly throttledPeriods: number;
  readonly periods: number;
  readonly waitMs: number;
  readonly memory: number;
  readonly memoryLimit: number;
  readonly oomKills: number;
  readonly ioBytes: number;
  readonly ioWaitMs: number;
  readonly restarts: number;
  /** requests of disks and calls of fsync, and the sums of their times; absent: none */
  readonly ios?: number;
  readonly ioUs?: number;
  readonly syncs?: number;
  readonly syncUs?: number;
}

export interface ServiceEvent {
  /** "exit": the last process of the instance ended; "worker-exit": others go on */
  readonly kind: "start" | "exit" | "worker-exit" | "oom" | "gone" | "overflow";
  readonly instance: string;
  readonly at: number;
  readonly text: string;
}

/** A name that does not exist, as told in one window. */
export interface AbsentName {
  readonly name: string;
  /** "TypeA", "TypeAAAA", … */
  readonly type: string;
  readonly count: number;
  /** there was an answer for it before */
  readonly known: boolean;
}

/** How full a file system is that an instance writes to. */
export interface MountWindow {
  readonly instance: string;
  readonly path: string;
  readonly device: string;
  readonly usedBytes: number;
  readonly availableBytes: number;
  /** share of the inodes that are taken */
  readonly inodesUsed: number;
}

/** One window of one agent. Windows not newer than that agent's high-water mark are dropped. */
export interface Observe extends Message {
  readonly type: "observe";
  readonly agent: string;
  readonly epoch: number;
  readonly window: number;
  /** server time of the window's end, ms */
  readonly at: number;
  readonly seconds: number;
  /** set where the window is the difference of two scrapes, so many seconds apart; absent: it is about a second */
  readonly span?: number;
  readonly instances: readonly InstanceWindow[];
  readonly edges: readonly EdgeWindow[];
  readonly events: readonly ServiceEvent[];
  readonly absent?: readonly AbsentName[];
  readonly mounts?: readonly MountWindow[];
  /** windows that came when the mailbox was full, in order */
  readonly more?: readonly Observe[];
}

/** Most windows that take one place in the mailbox. */
export const MOST_TOGETHER = 64;

/**
 * Windows take one place in a full mailbox together. They are not added up: some of them may be counted already, by a
 * mark or before a move, and only the actor knows which.
 */
export const together = (waiting: Observe, incoming: Observe): Observe | null => {
  const more = [...(waiting.more ?? []), incoming, ...(incoming.more ?? [])];
  return more.length < MOST_TOGETHER ? { ...waiting, more } : null;
};

/** An agent went away: what it reported is no longer known. */
export interface AgentLost extends Message {
  readonly type: "agent-lost";
  readonly agent: string;
}

/** Asked by the root-cause coordinator; answered with an AnomalyReport. */
export interface DescribeAnomaly extends Message {
  readonly type: "anomaly";
  readonly onset: number;
}

/** Asked by the page; answered with the entries of topic `service:<id>`. */
export interface DescribePage extends Message {
  readonly type: "page";
}

/** An incident that was open before a restart goes on: the actor takes up watching for its end. */
export interface Resume extends Message {
  readonly type: "resume";
  readonly incident: string;
}

export type ServiceMessage = Observe | AgentLost | DescribeAnomaly | DescribePage | Resume | Tick | Reply;

export interface ServiceArgument {
  readonly id: ServiceId;
  readonly kind: ServiceKind;
  readonly serviceType: string;
  /** "application", or what the configuration or the built-in globs say: "monitoring", "control-plane", … */
  readonly category: string;
  readonly slo: SloSettings;
}

export interface SloSettings {
  /** 0..1 */
  readonly availabilityObjective: number;
  readonly latencyObjective: number;
  readonly latencyThresholdMs: number;
  /** a suspicion that lives this long from its onset becomes an incident */
  readonly holdMs: number;
}

/** To the incident desk. */
export interface Suspect extends Message {
  readonly type: "suspect";
  readonly service: ServiceId;
  readonly onset: number;
  readonly text: string;
}
export interface Confirm extends Message {
  readonly type: "confirm";
  readonly service: ServiceId;
  readonly onset: number;
  readonly severity: "warning" | "critical";
  readonly text: string;
}
export interface Recovering extends Message {
  readonly type: "recovering";
  readonly service: ServiceId;
  /** of the incident that ends; absent from replicas of before */
  readonly onset?: number;
  readonly text: string;
}
export interface Cleared extends Message {
  readonly type: "cleared";
  readonly service: ServiceId;
  readonly text: string;
}
/** A part of how bad it is, for the incident's figures. */
export interface Impact extends Message {
  readonly type: "impact";
  readonly service: ServiceId;
  /** share of requests that were bad since the onset, 0..1 */
  readonly ratio: number;
}
export interface Noticed extends Message {
  readonly type: "noticed";
  readonly service: ServiceId;
  readonly at: number;
  readonly text: string;
}
/** The actor (re)started and knows of no incident: the desk says if there is one. */
export interface Started extends Message {
  readonly type: "started";
  readonly service: ServiceId;
}
export type DeskReport = Suspect | Confirm | Recovering | Cleared | Impact | Noticed | Started;

export const INCIDENT_DESK = "incident-desk";
export const SERVICES = "service/";
export const servicePath = (id: ServiceId): string => `${SERVICES}${id}`;
