/**
 * What kind of cause a service is, told from its own report, with the figures that say so. Order matters: a kill for
 * memory looks like a dead dependency a second later, and a throttled service like a slow one.
 */
import type { CauseKind, Evidence } from "../../schemas/incident.ts";
import { serviceName } from "../../schemas/service.ts";
import { formatMs, formatPercent } from "../../schemas/units.ts";
import type { AnomalyReport } from "../service/anomaly.ts";
import { addTroubles, NO_TROUBLES, whyFailed } from "../service/troubles.ts";
import { isDown, isErroneous, isSlow, refused, SIGNIFICANT } from "./blame.ts";

export interface Diagnosis {
  readonly kind: CauseKind;
  readonly headline: string;
  readonly evidence: readonly Evidence[];
  /** deviation of the figure that decided */
  readonly z: number;
}

type Draft = Omit<Evidence, "id" | "service" | "from" | "to">;

export const diagnose = (report: AnomalyReport): Diagnosis => {
  const name = serviceName(report.service);
  const { inbound } = report;
  const make = (kind: CauseKind, headline: string, z: number, drafts: readonly (Draft | null)[]): Diagnosis => ({
    kind,
    headline,
    z,
    evidence: drafts
      .filter((draft) => draft !== null)
      .map((draft, i) => ({
        ...draft,
        id: `${name}-${i + 1}`,
        service: report.service,
        from: report.from,
        to: report.to,
      })),
  });
  const events = (kind: string): Draft | null => {
    const last = report.events.filter((event) => event.kind === kind).at(-1);
    return last === undefined
      ? null
      : { series: kind, normal: null, value: null, unit: "count", z: null, text: last.text };
  };
  const failing: Draft = {
    series: "failed requests",
    normal: inbound.failedNormal,
    value: inbound.failed,
    unit: "per_second",
    z: inbound.zErrors,
    text: `${inbound.failed.toFixed(1)} requests/s fail (normally ${inbound.failedNormal.toFixed(1)}/s)`,
  };
  const slow: Draft = {
    series: "latency",
    normal: inbound.meanNormalMs,
    value: inbound.meanMs,
    unit: "ms",
    z: inbound.zLatency,
    text: `requests take ${formatMs(inbound.meanMs)} on average (normally ${formatMs(inbound.meanNormalMs)}), waiting ones included`,
  };
  const symptoms = [isErroneous(report) ? failing : null, isSlow(report) ? slow : null];

  if (report.oomKills > 0 || (report.memoryRatio.value > 0.9 && report.memoryRatio.z > SIGNIFICANT)) {
    const killed = report.oomKills > 0;
    return make(
      "memory",
      killed ? `${name} is killed for lack of memory` : `${name} runs out of memory`,
      killed ? 20 : report.memoryRatio.z,
      [
        events("oom"),
        {
          series: "memory of limit",
          normal: report.memoryRatio.normal,
          value: report.memoryRatio.value,
          unit: "ratio",
          z: report.memoryRatio.z,
          text: `memory reached ${formatPercent(report.memoryRatio.value)} of its limit (normally ${formatPercent(report.memoryRatio.normal)})`,
        },
        ...symptoms,
      ],
    );
  }
  if (isDown(report)) {
    const share = refused(report);
    const connects = report.inboundClient.reduce((n, edge) => n + edge.failedConnects, 0);
    const troubles = addTroubles(report.inboundClient.map((edge) => edge.troubles ?? NO_TROUBLES));
    const why = whyFailed(troubles);
    return make("dependency_down", `${name} is down`, 20, [
      {
        series: "instances running",
        normal: report.instances.known,
        value: report.instances.up,
        unit: "count",
        z: null,
        text:
          report.instances.known > 0
            ? `${report.instances.up} of ${report.instances.known} instances are running`
            : "nobody observes its inside; its clients cannot connect",
      },
      events("exit"),
      connects > 0
        ? {
            series: "failed connects",
            normal: 0,
            value: connects,
            unit: "per_second",
            z: null,
            text: `${connects.toFixed(1)} connects/s to it fail${why === "" ? "" : ` (${why})`}, ${formatPercent(share)} of what its clients try`,
          }
        : null,
      isErroneous(report) ? failing : null,
    ]);
  }
  if (report.throttled.value > 0.1 && report.throttled.z > SIGNIFICANT)
    return make("cpu_throttling", `${name} is throttled by its CPU limit`, report.throttled.z, [
      {
        series: "throttled time",
        normal: report.throttled.normal,
        value: report.throttled.value,
        unit: "ratio",
        z: report.throttled.z,
        text: `throttled ${report.throttled.value.toFixed(2)} s per second (normally ${report.throttled.normal.toFixed(2)})`,
      },
      cpu(report),
      ...symptoms,
    ]);
  if (report.exits >= 2)
    return make("restarts", `${name} restarts again and again`, 12, [
      events("exit"),
      {
        series: "exits",
        normal: 0,
        value: report.exits,
        unit: "count",
        z: null,
        text: `${report.exits} exits since the onset`,
      },
      ...symptoms,
    ]);
  if (isErroneous(report) && !(isSlow(report) && inbound.failed < 0.5 * inbound.pending))
    return make("errors", `${name} answers with errors`, inbound.zErrors, [
      failing,
      cleanCallees(report),
      isSlow(report) ? slow : null,
    ]);
  if (isSlow(report) || inbound.oldestMs > 1_000) {
    const busy = report.cpuCores.z > SIGNIFICANT && report.cpuCores.value > 1.5 * report.cpuCores.normal;
    if (busy) return make("cpu", `${name} is slow and uses more CPU than usual`, inbound.zLatency, [slow, cpu(report)]);
    const disk = report.ioWait.z > SIGNIFICANT && report.ioWait.value > 0.1;
    if (disk)
      return make("latency", `${name} is slow and waits for the disk`, inbound.zLatency, [
        slow,
        {
          series: "time blocked on disk",
          normal: report.ioWait.normal,
          value: report.ioWait.value,
          unit: "ratio",
          z: report.ioWait.z,
          text: `blocked on the disk ${report.ioWait.value.toFixed(2)} s per second`,
        },
      ]);
    return make("waiting_inside", `requests wait inside ${name}: no CPU, no disk, no callee`, inbound.zLatency, [
      slow,
      {
        series: "requests waiting",
        normal: 0,
        value: inbound.pending,
        unit: "count",
        z: null,
        text: `${inbound.pending} requests wait, the oldest for ${formatMs(inbound.oldestMs)}`,
      },
      cpu(report),
      {
        series: "time blocked on disk",
        normal: report.ioWait.normal,
        value: report.ioWait.value,
        unit: "ratio",
        z: report.ioWait.z,
        text: `the disk does not hold it up (${report.ioWait.value.toFixed(2)} s per second)`,
      },
    ]);
  }
  return make("unknown", `${name} changed, and nothing observed says why`, 0, symptoms);
};

const cpu = (report: AnomalyReport): Draft => ({
  series: "CPU",
  normal: report.cpuCores.normal,
  value: report.cpuCores.value,
  unit: "cores",
  z: report.cpuCores.z,
  text: `uses ${report.cpuCores.value.toFixed(2)} cores (normally ${report.cpuCores.normal.toFixed(2)}${
    report.cpuLimit > 0 ? `, limit ${report.cpuLimit.toFixed(2)}` : ""
  })`,
});

const cleanCallees = (report: AnomalyReport): Draft | null =>
  report.outbound.length === 0
    ? null
    : {
        series: "failures of callees",
        normal: 0,
        value: report.outbound.reduce((n, edge) => n + Math.max(0, edge.dErrors), 0),
        unit: "per_second",
        z: null,
        text: `what it calls (${report.outbound.map((edge) => serviceName(edge.peer)).join(", ")}) does not explain them`,
      };

/** What to check first, what helps for now, and what would prove the diagnosis wrong. One safe step each. */
export const ADVICE: Readonly<
  Record<CauseKind, { readonly next: (name: string) => string; readonly refuted: (name: string) => string }>
> = {
  dependency_down: {
    next: (name) => `Read why ${name} ended (its last log lines, exit code), then start it again.`,
    refuted: (name) => `${name} accepts connections from another client.`,
  },
  waiting_inside: {
    next: (name) =>
      `List what ${name} is waiting for (in PostgreSQL: pg_stat_activity, pg_locks) and end the session that holds the lock.`,
    refuted: (name) => `No lock, pool or queue of ${name} is waited for.`,
  },
  cpu_throttling: {
    next: (name) => `Raise the CPU limit of ${name} or add an instance; then look for what uses the CPU.`,
    refuted: (name) => `Latency stays after ${name} is no longer throttled.`,
  },
  memory: {
    next: (name) =>
      `Raise the memory limit of ${name} or roll back to the version before memory grew; keep a heap profile.`,
    refuted: (name) => `${name} was below its limit when it ended.`,
  },
  errors: {
    next: (name) => `Read the error lines of ${name} since the onset; roll back if it was changed just before.`,
    refuted: (name) => `A callee of ${name} fails at the same time and as often.`,
  },
  cpu: {
    next: (name) => `Take a CPU profile of ${name}; compare with before the onset.`,
    refuted: (name) => `CPU use of ${name} falls and latency stays.`,
  },
  latency: {
    next: (name) => `Look at the slowest requests of ${name} and what they do.`,
    refuted: (name) => `${name} is as fast as before for the same requests.`,
  },
  network: {
    next: (name) => `Check the path to ${name} for loss: interface errors, retransmits on other services of the node.`,
    refuted: () => "Both ends measure the same latency.",
  },
  restarts: {
    next: (name) => `Read the last log lines of ${name} before each exit.`,
    refuted: (name) => `${name} ran through without a restart.`,
  },
  unknown: {
    next: (name) => `Compare requests of ${name} before and after the onset.`,
    refuted: () => "Any figure that changed before the onset.",
  },
};
