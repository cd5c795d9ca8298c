/**
 * The root-cause coordinator of one case: asks the breached service and then, level by level, whoever it calls for
 * their account of what changed, and concludes (conclude.ts). Only the anomalous frontier is expanded.
 *
 * Spawned by the incident desk with the case, told to investigate again when the case changes, stopped with it. An answer
 * that does not come within a second counts as unknown, never as healthy; the whole run is bounded at two seconds.
 */
import { send, type ActorEffect, type Behavior, type Message, type Reply } from "../../runtime/actor/Behavior.ts";
import type { RootCause } from "../../schemas/incident.ts";
import type { ServiceId } from "../../schemas/service.ts";
import type { AnomalyReport, EdgeChange } from "../service/anomaly.ts";
import { INCIDENT_DESK, servicePath } from "../service/messages.ts";
import { isDown, isErroneous, isSlow, SIGNIFICANT } from "./blame.ts";
import { conclude } from "./conclude.ts";

const ANSWER_WITHIN_MS = 1_000;
const RUN_WITHIN_MS = 2_000;
const MOST_SERVICES = 300;

export interface Investigate extends Message {
  readonly type: "investigate";
  readonly target: ServiceId;
  readonly members: readonly ServiceId[];
  readonly onset: number;
  /** what is said `done` to once the explanation was sent; null: the run may be lost */
  readonly durable: string | null;
}
export interface Overdue extends Message {
  readonly type: "overdue";
  readonly run: number;
}
export type RcaMessage = Investigate | Overdue | Reply;

/** To the incident desk. */
export interface Explanation extends Message {
  readonly type: "explained";
  readonly incident: string;
  readonly rca: RootCause;
}

interface Run {
  readonly durable: string | null;
  readonly number: number;
  readonly target: ServiceId;
  readonly onset: number;
  readonly startedAt: number;
  readonly reports: Map<ServiceId, AnomalyReport>;
  readonly open: Set<ServiceId>;
  readonly unanswered: ServiceId[];
}

interface RcaState {
  readonly incident: string;
  runs: number;
  run: Run | null;
  again: Investigate | null;
  last: RootCause | null;
}

export const rcaPath = (incident: string): string => `rca/${incident}`;

export const rcaCoordinator: Behavior<RcaState, RcaMessage, { readonly incident: string }> = {
  kind: "rca",
  mailbox: 1_000,
  messages: {
    investigate: "refuse",
    overdue: "refuse",
    reply: "refuse",
  },
  ticks: false,
  initial: (_path, { incident }) => [{ incident, runs: 0, run: null, again: null, last: null }, []],
  step: (state, message, now) => {
    switch (message.type) {
      case "investigate":
        if (state.run !== null) {
          const replaced = state.again;
          state.again = message;
          return [state, replaced === null ? [] : done(replaced.durable)];
        }
        return [state, start(state, message, now)];
      case "reply":
        return [state, answered(state, message, now)];
      case "overdue":
        if (state.run?.number !== message.run) return [state, []];
        state.run.unanswered.push(...state.run.open);
        state.run.open.clear();
        return [state, finish(state, state.run, now)];
    }
  },
  inspect: (state) => ({
    incident: state.incident,
    runs: state.runs,
    asking: state.run === null ? [] : [...state.run.open],
    reports: state.run === null ? {} : Object.fromEntries(state.run.reports),
    last: state.last,
  }),
};

const done = (key: string | null): ActorEffect[] => (key === null ? [] : [{ kind: "done", key }]);

const start = (state: RcaState, { target, members, onset, durable }: Investigate, now: number): ActorEffect[] => {
  const number = ++state.runs;
  const run: Run = {
    durable,
    number,
    target,
    onset,
    startedAt: now,
    reports: new Map(),
    open: new Set(),
    unanswered: [],
  };
  state.run = run;
  const overdue: Overdue = { type: "overdue", run: number };
  const timer: ActorEffect = { kind: "schedule", key: "overdue", afterMs: RUN_WITHIN_MS, message: overdue };
  return [timer, ...[target, ...members].flatMap((service) => ask(run, service))];
};

const ask = (run: Run, service: ServiceId): ActorEffect[] => {
  if (run.reports.has(service) || run.open.has(service) || run.unanswered.includes(service)) return [];
  if (run.reports.size + run.open.size >= MOST_SERVICES) return [];
  run.open.add(service);
  const message = { type: "anomaly", onset: run.onset };
  return [
    { kind: "ask", to: servicePath(service), message, tag: `${run.number}:${service}`, timeoutMs: ANSWER_WITHIN_MS },
  ];
};

const answered = (state: RcaState, { tag, result }: Reply, now: number): ActorEffect[] => {
  const { run } = state;
  const separator = tag.indexOf(":");
  if (run === null || Number(tag.slice(0, separator)) !== run.number) return [];
  const service = tag.slice(separator + 1) as ServiceId;
  if (!run.open.delete(service)) return [];
  const effects: ActorEffect[] = [];
  if (result.ok) {
    const report = result.value as AnomalyReport;
    run.reports.set(service, report);
    for (const edge of report.outbound) if (suspicious(edge, report)) effects.push(...ask(run, edge.peer));
  } else run.unanswered.push(service);
  return run.open.size > 0 ? effects : [...effects, ...finish(state, run, now)];
};

/** Worth asking: the edge changed, or the caller changed and this is what it calls. */
const suspicious = (edge: EdgeChange, caller: AnomalyReport): boolean =>
  edge.zLatency > SIGNIFICANT / 2 ||
  edge.dErrors > 0 ||
  edge.failedConnects > 0 ||
  edge.oldestMs > 1_000 ||
  isSlow(caller) ||
  isErroneous(caller) ||
  isDown(caller);

const finish = (state: RcaState, run: Run, now: number): ActorEffect[] => {
  const rca = conclude(run.target, run.reports, run.unanswered, run.startedAt, now);
  state.run = null;
  state.last = rca;
  const explanation: Explanation = { type: "explained", incident: state.incident, rca };
  const effects: ActorEffect[] = [
    { kind: "cancel", key: "overdue" },
    send(INCIDENT_DESK, explanation),
    ...done(run.durable),
  ];
  const { again } = state;
  state.again = null;
  return again === null ? effects : [...effects, ...start(state, again, now)];
};
