/** From reports to an answer for the person on call: at most three causes, what was ruled out and why, what is unknown. */
import type { Cause, RootCause, RuledOut } from "../../schemas/incident.ts";
import { serviceName, type ServiceId } from "../../schemas/service.ts";
import { formatPercent } from "../../schemas/units.ts";
import type { AnomalyReport } from "../service/anomaly.ts";
import { isErroneous, isSlow, ownEvidence, SIGNIFICANT, walk, type Blamed } from "./blame.ts";
import { ADVICE, diagnose } from "./kinds.ts";

const MOST_CAUSES = 3;
const MIN_SCORE = 0.15;
const STRONG = 8;
/** Ten-second slots below which a baseline is thin. */
const THIN_BASELINE = 6;

const log = (z: number): number => Math.log(1 + Math.max(0, z - SIGNIFICANT));

/** Absolute scale: a huge deviation of its own may overrule a weak path. 0 to about 1. */
const severity = (report: AnomalyReport, explained: number): number => {
  const symptom =
    Math.max(log(report.inbound.zLatency), log(report.inbound.zErrors)) * (1 - Math.min(1, 2 * explained));
  return Math.min(1, (symptom + 8 * ownEvidence(report)) / 8);
};

export const conclude = (
  target: ServiceId,
  reports: ReadonlyMap<ServiceId, AnomalyReport>,
  unanswered: readonly ServiceId[],
  startedAt: number,
  now: number,
): RootCause => {
  const scored = walk(target, reports).flatMap((blamed) => {
    const report = reports.get(blamed.service);
    if (report === undefined) return [];
    const explained = blamed.explained.reduce((n, e) => n + e.share, 0);
    const score = blamed.blame + 0.35 * severity(report, explained) * Math.min(1, 4 * blamed.reached);
    return [{ blamed, report, explained, score }];
  });
  scored.sort((a, b) => b.score - a.score);
  const top = scored[0]?.score ?? 0;
  const causes = scored
    .filter(
      ({ score, blamed }, i) => i < MOST_CAUSES && blamed.blame > 0.02 && score >= Math.max(MIN_SCORE, 0.35 * top),
    )
    .map(({ blamed, report, score }): Cause => causeOf(blamed, report, score))
    .filter((cause) => cause.kind !== "unknown");
  const named = new Set(causes.map((cause) => cause.service));
  const ruledOut = scored.flatMap(({ blamed, report, explained }): RuledOut[] => {
    if (named.has(blamed.service) || (!isSlow(report) && !isErroneous(report))) return [];
    const main = [...blamed.explained].sort((a, b) => b.share - a.share)[0];
    const by =
      main === undefined
        ? ""
        : `: ${formatPercent(Math.min(1, main.share))} of its change comes from ${serviceName(main.callee)}`;
    return [
      {
        service: blamed.service,
        reason:
          explained > 0
            ? `anomalous, but explained${by}`
            : "anomalous, but little of the target's change passes through it",
      },
    ];
  });
  const gaps: string[] = unanswered.map((service) => `${serviceName(service)} did not answer: unknown, not healthy`);
  for (const { report } of scored) {
    if (report.kind === "External")
      gaps.push(`${serviceName(report.service)} is outside: only its clients' view is known`);
    else if (report.inbound.samples < THIN_BASELINE)
      gaps.push(`${serviceName(report.service)} has only ${report.inbound.samples * 10} s of history to compare with`);
  }
  if (causes.length === 0) gaps.push("nothing that is observed deviates enough to be named as the cause");
  return { at: now, tookMs: now - startedAt, target, causes, ruledOut, gaps };
};

const causeOf = (blamed: Blamed, report: AnomalyReport, score: number): Cause => {
  const diagnosis = diagnose(report);
  const name = serviceName(report.service);
  const complete = blamed.path.every((hop) => hop.share >= 0.3);
  const strong = diagnosis.z > STRONG;
  return {
    service: report.service,
    kind: diagnosis.kind,
    confidence:
      diagnosis.kind === "unknown" ? "low" : strong && complete ? "high" : strong || complete ? "medium" : "low",
    score: Math.min(1, score / 1.35),
    headline: diagnosis.headline,
    path: blamed.path,
    evidence: diagnosis.evidence,
    nextStep: ADVICE[diagnosis.kind].next(name),
    refutedBy: ADVICE[diagnosis.kind].refuted(name),
  };
};
