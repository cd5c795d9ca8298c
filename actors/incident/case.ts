/** One case on the desk: the incident as it will be shown, and what its member services last said. */
import type { Incident, RootCause } from "../../schemas/incident.ts";
import { serviceName, type ServiceId } from "../../schemas/service.ts";

export interface Member {
  readonly state: "suspect" | "confirmed" | "recovering" | "cleared";
  readonly onset: number;
  readonly text: string;
  readonly impact: number;
}

export type Draft = { -readonly [K in keyof Incident]: Incident[K] };

export interface Case {
  incident: Draft;
  readonly members: Map<ServiceId, Member>;
  alerted: boolean;
  updates: number;
  /** transitions sent so far, and root-cause runs asked for: both name messages that are sent once */
  transitions: number;
  runs: number;
  /** when a member last said that it is still in trouble */
  heardAt: number;
}

export const newCase = (id: string, service: ServiceId, onset: number, now: number): Case => ({
  incident: {
    id,
    cluster: "default",
    status: "suspicion",
    severity: "warning",
    service,
    members: [],
    headline: "",
    impact: 0,
    onsetAt: onset,
    suspectedAt: now,
    openedAt: null,
    resolvedAt: null,
    rca: null,
    acknowledged: null,
    silencedUntil: null,
    timeline: [],
    version: 0,
  },
  members: new Map(),
  alerted: false,
  updates: 0,
  transitions: 0,
  runs: 0,
  heardAt: now,
});

/** What breaks for whom, and why as far as it is known. */
export const headlineOf = ({ incident, members }: Case): string => {
  const symptom = `${serviceName(incident.service)}: ${members.get(incident.service)?.text ?? "in trouble"}`;
  const cause = incident.rca?.causes[0];
  return cause === undefined ? symptom : `${symptom} — ${cause.headline}`;
};

export const viewOf = (found: Case): Incident => ({ ...found.incident });

const CONFIDENCE = { high: 3, medium: 2, low: 1 } as const;
/** A finding this young may be replaced by any newer one: the evidence is still arriving. */
const SETTLING_MS = 12_000;

/** Whether the new answer replaces the old one: a better founded one, or any while evidence is still arriving. */
export const clearerThan = (next: RootCause, current: RootCause | null, now: number): boolean => {
  const a = next.causes[0];
  const b = current?.causes[0];
  if (b === undefined || current === null) return true;
  if (a === undefined) return false;
  if (now - current.at < SETTLING_MS && CONFIDENCE[a.confidence] >= CONFIDENCE[b.confidence]) return true;
  return CONFIDENCE[a.confidence] > CONFIDENCE[b.confidence] || (a.confidence === b.confidence && a.score >= b.score);
};
