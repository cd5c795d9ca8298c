/**
 * What a service actor must not lose: which windows it has counted, the minutes that are not done yet, what is usual for
 * the service, and the decision that it is in the middle of. Some hundred bytes, written at most once a minute and when
 * a decision falls; everything else fills again by itself.
 */
import type { ServiceId } from "../../schemas/service.ts";
import type { SavedMark } from "./marks.ts";
import { MINUTE_MS, type SavedMinute } from "./minutes.ts";
import { countStuck, edgeOf, hasSlo, type Phase, type ServiceState } from "./state.ts";
import type { Side } from "./messages.ts";
import type { SavedViews } from "./views.ts";
import { Waits, type SavedRun } from "./waits.ts";

export const SNAPSHOT_VERSION = 1;

type Usual = readonly [bad: number, total: number];

export interface Snapshot {
  readonly at: number;
  readonly marks: readonly SavedMark[];
  readonly minutes: readonly SavedMinute[];
  readonly views: SavedViews;
  /** requests under way that were counted as slow, by edge and agent */
  readonly waits: readonly (readonly [side: Side, peer: ServiceId | null, agent: string, runs: readonly SavedRun[]])[];
  readonly hasSlo: boolean;
  readonly usual: readonly [availability: Usual, latency: Usual];
  readonly settling: ServiceState["settling"];
  readonly decision: {
    readonly phase: Phase;
    readonly since: number;
    readonly onset: number;
    readonly text: string;
    readonly severity: "warning" | "critical";
    readonly byBurn: boolean;
    readonly sinceOnset: { readonly total: number; readonly bad: number };
  } | null;
}

export const snapshotOf = (state: ServiceState, now: number): Snapshot => ({
  at: now,
  marks: state.marks.saved(),
  minutes: state.minutes.saved(),
  views: state.views.saved(now),
  waits: [...state.edges.values()].flatMap(({ side, peer, waits }) =>
    [...waits].map(([agent, of]) => [side, peer, agent, of.saved()] as const),
  ),
  hasSlo: hasSlo(state),
  usual: [
    [state.availability.usualBad, state.availability.usualTotal],
    [state.latency.usualBad, state.latency.usualTotal],
  ],
  settling: [...state.settling],
  decision:
    state.phase === "ok"
      ? null
      : {
          phase: state.phase,
          since: state.phaseSince,
          onset: state.onset,
          text: state.suspectText,
          severity: state.severity,
          byBurn: state.byBurn,
          sinceOnset: { ...state.sinceOnset },
        },
});

export const restore = (state: ServiceState, snapshot: Snapshot, now: number): void => {
  state.marks.restore(snapshot.marks);
  state.minutes.restore(snapshot.minutes, snapshot.at);
  for (const [number = 0, total = 0, bad = 0, slow = 0] of snapshot.minutes)
    state.ledger.add(number * MINUTE_MS, total, bad, slow);
  state.views.restore(snapshot.views);
  for (const [side, peer, agent, runs] of snapshot.waits) {
    const edge = edgeOf(state, side, peer, now);
    const waits = new Waits(runs);
    edge.waits.set(agent, waits);
    countStuck(state, edge, waits.now);
  }
  state.hadSlo = snapshot.hasSlo;
  const [[bad, total], [slow, all]] = snapshot.usual;
  state.availability = { ...state.availability, usualBad: bad, usualTotal: total };
  state.latency = { ...state.latency, usualBad: slow, usualTotal: all };
  state.settling = [...snapshot.settling];
  state.learnt = true;
  const { decision } = snapshot;
  if (decision === null) return;
  state.phase = decision.phase;
  state.phaseSince = decision.since;
  state.onset = decision.onset;
  state.suspectText = decision.text;
  state.severity = decision.severity;
  state.byBurn = decision.byBurn;
  state.sinceOnset = { ...decision.sinceOnset };
  state.lastRequestAt = now;
};
