/**
 * What is right for each fault, and how soon: the demo's own knowledge, which nothing that decides may import. Pure; what
 * the run saw goes in, a verdict comes out. Holds nothing to stop.
 */
import type { CauseKind } from "../../schemas/incident.ts";
import type { FaultName } from "./args.ts";
import { faults } from "./faults.ts";
import type { IncidentSeen } from "./server.ts";
import { LOAD, serviceNames, type Plan } from "./plan.ts";

const kinds: Readonly<Record<FaultName, CauseKind>> = {
  "redis-down": "dependency_down",
  "db-lock": "waiting_inside",
  "cpu-hog": "cpu_throttling",
  errors: "errors",
  oom: "memory",
};

/** Seconds: suspicion and open incident (with its webhook) from the first bad request, recovery from the fault's end. */
export interface Bars {
  readonly suspicion: number | null;
  readonly open: number;
  readonly recovery: number;
}

export const bars: Readonly<Record<FaultName, Bars>> = {
  "redis-down": { suspicion: 5, open: 20, recovery: 60 },
  "db-lock": { suspicion: null, open: 40, recovery: 60 },
  "cpu-hog": { suspicion: null, open: 40, recovery: 60 },
  errors: { suspicion: 5, open: 20, recovery: 60 },
  oom: { suspicion: null, open: 25, recovery: 60 },
};

export interface Truth {
  readonly service: string;
  readonly kind: CauseKind;
}

export const truthOf = (fault: FaultName, plan: Plan): Truth => ({
  service: plan.services[faults[fault].role(plan.shuffled)].name,
  kind: kinds[fault],
});

/** What one fault's run saw; times are milliseconds since the epoch. */
export interface Seen {
  readonly fault: FaultName;
  readonly truth: Truth;
  readonly injectedAt: number;
  readonly firstBadAt: number | null;
  readonly endedAt: number;
  /** arrival of the first "incident.opened" for the incident below */
  readonly webhookAt: number | null;
  /** the first incident that opened after the injection, as it was when its cause was first named */
  readonly incident: IncidentSeen | null;
  /** when it was closed; null when it was not within the time the run waited */
  readonly resolvedAt: number | null;
  /** every other incident that opened during the run, before the fault or beside it, in the shop or in Coroot itself */
  readonly others: readonly IncidentSeen[];
  /** the incident as it was at the end of the run */
  readonly last: IncidentSeen | null;
}

export interface Verdict {
  readonly fault: FaultName;
  readonly expected: Truth;
  readonly named: Truth | null;
  /** seconds, null where it did not happen */
  readonly suspicion: number | null;
  readonly open: number | null;
  readonly recovery: number | null;
  readonly right: boolean;
  /** which of the bars were missed */
  readonly late: readonly string[];
  readonly notes: readonly string[];
  /** what the incident says of itself, in seconds after the injection: why a verdict is what it is */
  readonly account: readonly string[];
}

/** The service's part of an id; units may be named with or without their suffix. */
const bareName = (service: string): string => service.slice(service.lastIndexOf("/") + 1).replace(/\.service$/, "");

/** Whether an incident is about the shop, its users or Coroot; the machine's own programs may have trouble of their own. */
export const concernsUs = (service: string, plan: Plan): boolean => {
  const name = bareName(service);
  if (!service.includes("/SystemdUnit/")) return name.startsWith("coroot");
  return name === LOAD || serviceNames(plan).includes(name);
};

const seconds = (from: number | null, to: number | null): number | null =>
  from === null || to === null ? null : (to - from) / 1000;

const missed = (value: number | null, limit: number | null): boolean =>
  limit !== null && (value === null || value > limit);

export const judge = (seen: Seen): Verdict => {
  const { incident, truth } = seen;
  const bar = bars[seen.fault];
  const suspicion = seconds(seen.firstBadAt, incident?.suspectedAt ?? null);
  const openedAt =
    incident === null || incident.openedAt === null || seen.webhookAt === null
      ? null
      : Math.max(incident.openedAt, seen.webhookAt);
  const open = seconds(seen.firstBadAt, openedAt);
  const recovery = seconds(seen.endedAt, seen.resolvedAt);
  const named: Truth | null =
    incident === null || incident.cause === null
      ? null
      : { service: bareName(incident.cause.service), kind: incident.cause.kind };
  const late = [
    ...(missed(suspicion, bar.suspicion) ? ["suspicion"] : []),
    ...(missed(open, bar.open) ? ["incident"] : []),
    ...(missed(recovery, bar.recovery) ? ["recovery"] : []),
  ];
  const notes = [
    ...(seen.firstBadAt === null ? ["no user saw the fault"] : []),
    ...(incident === null ? ["no incident opened"] : []),
    ...(incident !== null && seen.webhookAt === null ? ["no webhook came"] : []),
    ...(incident !== null && incident.cause === null ? ["the incident names no cause"] : []),
    ...seen.others.map((other) => `also opened: ${bareName(other.service)} (${other.headline})`),
  ];
  const right =
    named !== null && named.service === truth.service && named.kind === truth.kind && seen.others.length === 0;
  const account = (seen.last?.account ?? []).map(({ at, text }) =>
    at === null ? text : `${((at - seen.injectedAt) / 1000).toFixed(1)} s ${text}`,
  );
  return { fault: seen.fault, expected: truth, named, suspicion, open, recovery, right, late, notes, account };
};
