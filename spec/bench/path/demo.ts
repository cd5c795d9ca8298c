/**
 * path.demo, path.demo.shuffle and path.quiet: the demo's own check and quiet run, with the server, agent and shop that
 * `npm run demo -- --check` would start. A fault counts when its cause is right, no other incident opened, and every
 * time is within its bar. Whole only with --long: all faults twice and 300 s of quiet; else one fault each and 60 s.
 */
import { faultNames, type FaultName } from "../../../deploy/demo/args.ts";
import { runCheck, runQuiet, type RunOptions } from "../../../deploy/demo/check.ts";
import { missingPrograms } from "../../../deploy/demo/packages.ts";
import type { Verdict } from "../../../deploy/demo/truth.ts";
import type { Figure, Measured, MeasureContext } from "../figure.ts";

const options = (context: MeasureContext, shuffle: boolean): RunOptions => ({
  shuffle,
  warmupMs: 60_000,
  tell: context.log,
  signal: context.signal,
});

const unable = (): string | null => {
  if (process.getuid?.() !== 0) return "needs root: without it no traffic is seen";
  const missing = missingPrograms();
  return missing.length === 0 ? null : `not installed: ${missing.join(", ")}`;
};

const seconds = (value: number | null): string => (value === null ? "-" : value.toFixed(1));

const line = (verdict: Verdict): string => {
  const named = verdict.named === null ? "none" : `${verdict.named.service} ${verdict.named.kind}`;
  const late = verdict.late.length === 0 ? "" : `, late: ${verdict.late.join(" ")}`;
  const times = [verdict.suspicion, verdict.open, verdict.recovery].map(seconds).join("/");
  return `${verdict.fault} ${verdict.right ? "right" : `wrong (${[named, ...verdict.notes].join("; ")})`} ${times} s${late}`;
};

const check = async (context: MeasureContext, shuffle: boolean, short: readonly FaultName[]): Promise<Measured> => {
  const reason = unable();
  if (reason !== null) return { value: null, reason };
  const faults = context.long ? faultNames : short;
  const verdicts = await runCheck(faults, options(context, shuffle), (verdict) => context.log(line(verdict)));
  const held = verdicts.filter((verdict) => verdict.right && verdict.late.length === 0).length;
  return {
    value: held / verdicts.length,
    detail: `suspicion/incident/recovery: ${verdicts.map(line).join("; ")}`,
  };
};

const whole = (value: number): boolean => value === 1;

export const figures: readonly Figure[] = [
  {
    id: "path.demo",
    figure: "faults with the right cause, in time",
    unit: "share",
    bar: "= 1",
    holds: whole,
    measure: (context) => check(context, false, ["redis-down"]),
  },
  {
    id: "path.demo.shuffle",
    figure: "the same under random names and ports",
    unit: "share",
    bar: "= 1",
    holds: whole,
    measure: (context) => check(context, true, ["errors"]),
  },
  {
    id: "path.quiet",
    figure: "incidents on a healthy shop",
    unit: "count",
    bar: "= 0",
    holds: (value) => value === 0,
    measure: async (context) => {
      const reason = unable();
      if (reason !== null) return { value: null, reason };
      const quiet = await runQuiet(context.long ? 300 : 60, options(context, false));
      const names = quiet.incidents.map((incident) => incident.headline).join("; ");
      return {
        value: quiet.incidents.length,
        detail:
          `${quiet.seconds} s after 60 s of warm-up, ${quiet.requests} requests, ${quiet.failed} failed, ` +
          `${quiet.slow} slow, ${quiet.blips.length} blips${names === "" ? "" : `: ${names}`}`,
      };
    },
  },
];
