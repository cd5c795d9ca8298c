/**
 * What the incident desk owns, and how it is kept: open cases, alerts that no sink has taken yet, silences. A snapshot
 * is written when a case changes in a way that must not be forgotten; alerts leave only after it is.
 */
import { partitionOf } from "../../runtime/cluster/places.ts";
import type { ActorEffect } from "../../runtime/actor/Behavior.ts";
import type { AlertPayload, Incident, Silence } from "../../schemas/incident.ts";
import type { ServiceId } from "../../schemas/service.ts";
import { CallGraph } from "./CallGraph.ts";
import type { Case, Member } from "./case.ts";

export const DESK_VERSION = 1;

export interface DeskArgument {
  /** paths of the alert sinks */
  readonly sinks: readonly string[];
  /** where the page is, for links in alerts */
  readonly url: string;
}

/** One transition on its way to one sink. */
export interface Outgoing {
  readonly sink: string;
  readonly payload: AlertPayload;
}

export interface DeskState {
  readonly argument: DeskArgument;
  readonly graph: CallGraph;
  readonly cases: Map<string, Case>;
  readonly closed: Map<string, Incident>;
  /** members of recovered incidents that have not answered yet, and since when */
  readonly resuming: Map<ServiceId, { readonly incident: string; readonly since: number }>;
  /** alerts that were not delivered yet, by their key and sink */
  readonly outbox: Map<string, Outgoing>;
  readonly silences: Map<string, Silence>;
  /** something changed that a snapshot must say */
  dirty: boolean;
  keptAt: number;
  /** what may happen only once the snapshot is written */
  readonly after: ActorEffect[];
  /** incidents in the store are news only to a desk that had no snapshot */
  readonly fresh: boolean;
}

export const newDesk = (argument: DeskArgument, now: number, fresh: boolean): DeskState => ({
  argument,
  graph: new CallGraph(),
  cases: new Map(),
  closed: new Map(),
  resuming: new Map(),
  outbox: new Map(),
  silences: new Map(),
  dirty: false,
  keptAt: now,
  after: [],
  fresh,
});

interface SavedCase extends Omit<Case, "members"> {
  readonly members: readonly (readonly [ServiceId, Member])[];
}

export interface Snapshot {
  readonly cases: readonly SavedCase[];
  /** the newest closed ones, so that a late report does not open them again */
  readonly closed: readonly Incident[];
  readonly outbox: readonly (readonly [string, Outgoing])[];
  readonly silences: readonly Silence[];
}

/** Closed incidents in a snapshot; the store has all of them. */
const CLOSED_KEPT = 10;

export const snapshotOf = (state: DeskState): Snapshot => ({
  cases: [...state.cases.values()].map((found) => ({
    ...found,
    incident: { ...found.incident },
    members: [...found.members],
  })),
  closed: [...state.closed.values()].slice(-CLOSED_KEPT),
  outbox: [...state.outbox],
  silences: [...state.silences.values()],
});

export const restoreDesk = (argument: DeskArgument, snapshot: Snapshot, now: number): DeskState => {
  const state = newDesk(argument, now, false);
  for (const saved of snapshot.cases)
    state.cases.set(saved.incident.id, {
      ...saved,
      incident: { ...saved.incident },
      members: new Map(saved.members),
      heardAt: now,
    });
  for (const incident of snapshot.closed) state.closed.set(incident.id, incident);
  for (const [key, outgoing] of snapshot.outbox) state.outbox.set(key, outgoing);
  for (const silence of snapshot.silences) state.silences.set(silence.id, silence);
  return state;
};

/** The same for every desk that hears of the same fault: one that took over must not give it another name. */
export const incidentId = (state: DeskState, service: ServiceId, onset: number): string => {
  const name = Number(partitionOf(service, 36 ** 4))
    .toString(36)
    .padStart(4, "0");
  let id = `${Math.floor(onset / 1000).toString(36)}${name}`;
  while (state.cases.has(id) || state.closed.has(id)) id += "x";
  return id;
};
