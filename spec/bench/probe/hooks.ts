/**
 * What the figures of this group share: the probe by either kind of hooks, and measurements in interleaved rounds of
 * "without", "by sockets" and "by system calls" whose order changes from round to round.
 */
import { ProbeBed, probePath, SYSCALLS } from "../../kernel/ProbeBed.ts";
import type { Figure, Measured, MeasureContext } from "../figure.ts";
import { median } from "../path/probe.ts";

export const HOOKS = ["sockets", "calls"] as const;
export type Hooks = (typeof HOOKS)[number];
export const HOOKS_SAID: Readonly<Record<Hooks, string>> = {
  sockets: "",
  calls: ", at the end of system calls (forced on this kernel)",
};

export const startProbe = (hooks: Hooks, ...args: readonly string[]): Promise<ProbeBed> =>
  ProbeBed.start(probePath, ...(hooks === "calls" ? [SYSCALLS] : []), ...args);

const ARMS = ["off", ...HOOKS] as const;
export type Costs = Readonly<Record<Hooks, Measured>>;

/** Cost of one operation, ns, with the probe over without; `once` gives it for whatever runs at that moment. */
export const compare = async (once: () => number, rounds: number, { log, signal }: MeasureContext): Promise<Costs> => {
  const costs: Record<(typeof ARMS)[number], number[]> = { off: [], sockets: [], calls: [] };
  const ratios: Record<Hooks, number[]> = { sockets: [], calls: [] };
  once();
  for (let round = 0; round < rounds; round++) {
    if (signal.aborted) throw new Error("out of time");
    const now = new Map<string, number>();
    for (let i = 0; i < ARMS.length; i++) {
      const arm = ARMS[(i + round) % ARMS.length] ?? "off";
      const bed = arm === "off" ? null : await startProbe(arm);
      try {
        const cost = once();
        now.set(arm, cost);
        costs[arm].push(cost);
      } finally {
        await bed?.stop();
      }
    }
    for (const hooks of HOOKS) ratios[hooks].push((now.get(hooks) ?? Number.NaN) / (now.get("off") ?? Number.NaN));
    log(`round ${round + 1}: ${HOOKS.map((hooks) => ratios[hooks].at(-1)?.toFixed(3)).join(" and ")}`);
  }
  const of = (hooks: Hooks): Measured => {
    const sorted = ratios[hooks].toSorted((a, b) => a - b);
    return {
      value: median(ratios[hooks]),
      detail:
        `${rounds} rounds, ratios ${sorted[0]?.toFixed(2)} to ${sorted.at(-1)?.toFixed(2)}; ` +
        `${median(costs.off).toFixed(0)} ns without, ${median(costs[hooks]).toFixed(0)} ns with`,
    };
  };
  return { sockets: of("sockets"), calls: of("calls") };
};

/** One measurement that serves the rows of both kinds of hooks. */
export const shared = <T>(measure: (context: MeasureContext) => Promise<T>): typeof measure => {
  const made = new Map<boolean, Promise<T>>();
  return (context) => {
    const one = made.get(context.long) ?? measure(context);
    made.set(context.long, one);
    return one;
  };
};

/** A row for each kind of hooks, the second with `.calls` behind its id. */
export const bothHooks = (
  row: Pick<Figure, "id" | "figure" | "unit">,
  bars: Readonly<Record<Hooks, number>>,
  measure: (context: MeasureContext, hooks: Hooks) => Promise<Measured>,
): readonly Figure[] =>
  HOOKS.map((hooks) => ({
    ...row,
    id: hooks === "sockets" ? row.id : `${row.id}.calls`,
    figure: `${row.figure}${HOOKS_SAID[hooks]}`,
    bar: `<= ${bars[hooks]}`,
    holds: (value) => value <= bars[hooks],
    measure: (context) => measure(context, hooks),
  }));
