/**
 * What baselines outlive their actor by: each minute of a service and of its edges goes to the store (`edge_minutes`),
 * and the last quarter of an hour of them comes back when the actor starts anew. Owned by one service actor. Without the
 * store nothing is different but that baselines fill by themselves. A minute is written once, when no window changes it
 * any more; an actor that moves leaves out the one that it was in.
 */
import type { ActorEffect } from "../../runtime/actor/Behavior.ts";
import type { EdgeMinutes } from "../../runtime/store/History.ts";
import type { ServiceId } from "../../schemas/service.ts";
import { EDGE_FIGURES, type EdgeMinuteRow } from "../../schemas/tables.ts";
import { rows } from "../rows.ts";
import type { MinuteFigures, Series } from "./Series.ts";
import { edgeKey, isShown, type EdgeState, type Past, type ServiceState } from "./state.ts";
import type { Side } from "./messages.ts";

export const BASELINES_PORT = "baselines";
/** As far as a series reaches. */
export const BASELINE_MS = 15 * 60_000;

const OWN = "own";
const SIDES: ReadonlySet<string> = new Set<Side>(["inbound-server", "inbound-client", "outbound"]);
const MINUTE_S = 60;
/** A window that is later than this changes no series. */
const LATE_S = 12;

/** Rows of the last whole minute. Each service has a second of its own for it, so that not all write at once. */
export const edgeMinutes = (state: ServiceState, now: number): ActorEffect[] => {
  const late = LATE_S + (state.span > 1 ? state.span : 0);
  const number = Math.floor((Math.floor(now / 1000) - late - state.slot) / MINUTE_S) - 1;
  if (number <= state.edgeMinute) return [];
  state.edgeMinute = number;
  if (state.argument.kind === "External" || !isShown(state, now)) return [];
  const out: EdgeMinuteRow[] = [];
  const add = (side: string, peer: string, series: Series): void => {
    const minute = series.minute(number * MINUTE_S);
    if (minute !== null) out.push(rowOf(state.id, side, peer, minute));
  };
  add(OWN, "", state.series);
  for (const { side, peer, series } of state.edges.values()) add(side, peer ?? "", series);
  return out.length === 0 ? [] : [rows("edge_minutes", out)];
};

const rowOf = (service: string, side: string, peer: string, { second, seen, values }: MinuteFigures): EdgeMinuteRow => {
  const figures = Object.fromEntries(EDGE_FIGURES.map((name, i) => [name, values[i] ?? 0])) as Record<
    (typeof EDGE_FIGURES)[number],
    number
  >;
  return { service, side, peer, minute: second * 1000, version: seen, ...figures };
};

/** The port's answer. What belongs to edges that are not there yet waits for them. */
export const takeBaselines = (state: ServiceState, value: unknown): void => {
  if (!Array.isArray(value) || value.length === 0) return;
  const found = value as readonly EdgeMinutes[];
  const last = found.reduce((most, { minutes }) => minutes.reduce((a, b) => Math.max(a, b), most), 0);
  const past: Past = { seenTo: last / 1000 + MINUTE_S, series: new Map() };
  for (const { side, peer, minutes, figures } of found) {
    const list = minutes.map((at, i) => ({ second: at / 1000, seen: MINUTE_S, values: figures[i] ?? [] }));
    if (side === OWN) past.series.set(OWN, list);
    else if (SIDES.has(side)) past.series.set(edgeKey(side as Side, peer === "" ? null : (peer as ServiceId)), list);
  }
  state.past = past;
  recallOwn(state);
  for (const edge of state.edges.values()) recall(state, edge);
};

/** Gives an edge that was seen again the minutes that it had before. */
export const recall = ({ past }: ServiceState, { key, series }: EdgeState): void => take(past, key, series);
export const recallOwn = ({ past, series }: ServiceState): void => take(past, OWN, series);

const take = (past: Past | null, key: string, series: Series): void => {
  const minutes = past?.series.get(key);
  // what it saw itself must have begun: only what lies before is taken
  if (past === null || minutes === undefined || series.latest === 0) return;
  past.series.delete(key);
  series.takeBefore(minutes, past.seenTo);
};
