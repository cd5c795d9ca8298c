/**
 * The checks of one service: each a small pure function over the actor's windows. A condition must hold for its duration
 * before it is a warning; "no data" is not "ok" and not "down". Thresholds are the built-in ones.
 */
import type { Evidence, Inspection } from "../../../schemas/incident.ts";
import type { HealthStatus } from "../../../schemas/service.ts";
import { formatBytes, formatDuration } from "../../../schemas/units.ts";
import type { Fullness } from "../DiskSpace.ts";
import type { DnsWindow } from "../DnsWindow.ts";
import type { IoFigures } from "../IoWindow.ts";
import { describePhase } from "../phases.ts";
import type { ServiceEvent } from "../messages.ts";
import type { Field } from "../Series.ts";
import {
  hasSlo,
  instancesUp,
  isFresh,
  isWanted,
  latencyThreshold,
  toldTo,
  type InstanceState,
  type ServiceState,
} from "../state.ts";
import { addTroubles, describeFailed, whyFailed } from "../troubles.ts";

interface Finding {
  /** null: nothing to judge by */
  readonly value: number | null;
  readonly message: string;
  readonly evidence?: Omit<Evidence, "id" | "service" | "from" | "to" | "z">;
}

interface Check {
  readonly id: Inspection["id"];
  readonly category: Inspection["category"];
  readonly title: string;
  readonly unit: Inspection["unit"];
  readonly threshold: (state: ServiceState) => number;
  /** how long the condition must hold, ms */
  readonly holdMs: number;
  /** how far back the figures reach, s */
  readonly spanSeconds: number;
  /** whether the condition is there; asked each second, so it makes nothing */
  readonly exceeds: (state: ServiceState, threshold: number, now: number) => boolean;
  /** what is told to whoever looks */
  readonly find: (state: ServiceState, threshold: number, now: number) => Finding;
}

const noData = (message: string): Finding => ({ value: null, message });
const percent = (ratio: number): string => `${(ratio * 100).toFixed(ratio < 0.1 ? 1 : 0)} %`;
const within = (at: number, now: number, ms: number): boolean => at >= now - ms;
const TEN_MINUTES = 600_000;

/** Scrapes come late: what they have not told of yet is left out, and not taken for nothing. */
const recent = (state: ServiceState, field: Field, seconds: number): number =>
  state.series.total(field, toldTo(state) - seconds + 1, toldTo(state));

const exceedsShare = (state: ServiceState, field: "failed" | "slow", allowed: number): boolean => {
  const bad = recent(state, field, 60);
  return bad > 0 && hasSlo(state) && bad / recent(state, "count", 60) > allowed;
};

const throttled = (state: ServiceState): number => {
  const to = toldTo(state);
  const seconds = Math.max(1, state.series.span(to - 9, to));
  return recent(state, "throttledMs", 10) / 1000 / seconds;
};

/** Events of one kind in the last ten minutes. */
const eventsOf = (state: ServiceState, kind: ServiceEvent["kind"], now: number): number => {
  let n = 0;
  for (const event of state.events) if (event.kind === kind && within(event.at, now, TEN_MINUTES)) n++;
  return n;
};

const share = (state: ServiceState, of: (instance: InstanceState) => number): number => {
  let most = 0;
  for (const instance of state.instances.values()) if (instance.up) most = Math.max(most, of(instance));
  return most;
};
const cpuShare = ({ cpuCores, last }: InstanceState): number => (last.cpuLimit > 0 ? cpuCores / last.cpuLimit : 0);
const memoryShare = ({ last }: InstanceState): number => (last.memoryLimit > 0 ? last.memory / last.memoryLimit : 0);

const NO_LOOKUPS = "looks up no names";
const lookupsWithoutAnswer = (dns: DnsWindow, second: number): number =>
  dns.total("failed", second) + dns.total("unanswered", second);

/** A mean of few requests says little of a disk. */
const LEAST_IOS = 10;
const slowest = ({ ios, ioMs, syncs, syncMs }: IoFigures): number | null => {
  if (ios < LEAST_IOS && syncs < LEAST_IOS) return null;
  return Math.max(ios < LEAST_IOS ? 0 : (ioMs ?? 0), syncs < LEAST_IOS ? 0 : (syncMs ?? 0));
};

const DAY_MS = 86_400_000;
const sayFullness = ({ mount, used, byInodes, fullInMs }: Fullness): string =>
  byInodes
    ? `${percent(used)} of the inodes of ${mount.path} (${mount.device}) are taken`
    : `${mount.path} (${mount.device}) is ${percent(used)} full, ${formatBytes(mount.availableBytes)} left` +
      (fullInMs === null || fullInMs > DAY_MS ? "" : `; at this pace it is full in ${formatDuration(fullInMs)}`);

const sloFinding = (state: ServiceState, bad: number, total: number, allowed: number, what: string): Finding => {
  if (!hasSlo(state)) return noData("no callers, no objective");
  if (total === 0) return noData("no requests in the last minute");
  const ratio = bad / total;
  return {
    value: ratio,
    message: `${percent(ratio)} of requests ${what}; ${percent(allowed)} is allowed`,
    evidence: { series: what, normal: allowed, value: ratio, unit: "ratio", text: `${percent(ratio)} ${what}` },
  };
};

const CHECKS: readonly Check[] = [
  {
    id: "availability",
    category: "SLO",
    title: "Availability",
    unit: "ratio",
    threshold: (state) => 1 - state.argument.slo.availabilityObjective,
    holdMs: 0,
    spanSeconds: 60,
    exceeds: (state, allowed) => exceedsShare(state, "failed", allowed),
    find: (state, allowed) =>
      sloFinding(state, recent(state, "failed", 60), recent(state, "count", 60), allowed, "fail"),
  },
  {
    id: "latency",
    category: "SLO",
    title: "Latency",
    unit: "ratio",
    threshold: (state) => 1 - state.argument.slo.latencyObjective,
    holdMs: 0,
    spanSeconds: 60,
    exceeds: (state, allowed) => exceedsShare(state, "slow", allowed),
    find: (state, allowed) => {
      const what = `are slower than ${latencyThreshold(state)} ms`;
      return sloFinding(state, recent(state, "slow", 60), recent(state, "count", 60), allowed, what);
    },
  },
  {
    id: "failed_connects",
    category: "Network",
    title: "TCP connections",
    unit: "per_second",
    threshold: () => 0,
    holdMs: 2_000,
    spanSeconds: 10,
    exceeds: (state, threshold, now) => {
      for (const edge of state.edges.values())
        if (
          edge.failedConnects > threshold &&
          edge.side === "outbound" &&
          isFresh(edge.rateAt, edge.rateSpan, now, 5_000)
        )
          return true;
      return false;
    },
    find: (state, threshold, now) => {
      const outbound = [...state.edges.values()].filter((edge) => edge.side === "outbound");
      if (outbound.length === 0) return noData("no outbound connections");
      const failing = outbound.filter(
        (edge) => isFresh(edge.rateAt, edge.rateSpan, now, 5_000) && edge.failedConnects > threshold,
      );
      const total = failing.reduce((n, edge) => n + edge.failedConnects, 0);
      const names = failing.map((edge) => edge.peer ?? "unknown").join(", ");
      const why = whyFailed(addTroubles(failing.map((edge) => edge.troubles)), total);
      return {
        value: total,
        message:
          failing.length > 0
            ? describeFailed(
                failing.map(({ peer, failedConnects, troubles }) => ({
                  name: peer ?? "unknown",
                  failed: failedConnects,
                  troubles,
                })),
              )
            : "connects succeed",
        evidence: {
          series: "failed connects",
          normal: 0,
          value: total,
          unit: "per_second",
          text: `${total.toFixed(1)} failed connects/s to ${names}${why === "" ? "" : ` (${why})`}`,
        },
      };
    },
  },
  {
    id: "accept_queue",
    category: "Network",
    title: "Accept queue",
    unit: "count",
    threshold: () => 0,
    holdMs: 0,
    spanSeconds: 600,
    exceeds: (state, threshold, now) => state.instances.size > 0 && eventsOf(state, "overflow", now) > threshold,
    find: (state, _threshold, now) => {
      if (state.instances.size === 0) return noData("no instance is observed");
      const overflows = state.events.filter((event) => event.kind === "overflow" && within(event.at, now, TEN_MINUTES));
      const text = overflows.at(-1)?.text ?? "no connection was dropped in ten minutes";
      return {
        value: overflows.length,
        message: text,
        evidence: { series: "dropped connections", normal: 0, value: overflows.length, unit: "count", text },
      };
    },
  },
  {
    id: "dns_latency",
    category: "DNS",
    title: "DNS latency",
    unit: "ms",
    threshold: () => 100,
    holdMs: 10_000,
    spanSeconds: 60,
    exceeds: ({ dns, series }, threshold) => dns !== null && (dns.p95Ms(series.latest) ?? 0) > threshold,
    find: ({ dns, series }, threshold) => {
      const p95 = dns?.p95Ms(series.latest) ?? null;
      if (p95 === null) return noData(NO_LOOKUPS);
      const text = `95 % of look-ups take up to ${p95.toFixed(p95 < 10 ? 1 : 0)} ms`;
      return {
        value: p95,
        message: text,
        evidence: { series: "DNS latency, p95", normal: threshold, value: p95, unit: "ms", text },
      };
    },
  },
  {
    id: "dns_server_errors",
    category: "DNS",
    title: "DNS server errors",
    unit: "count",
    threshold: () => 0,
    holdMs: 0,
    spanSeconds: 60,
    exceeds: ({ dns, series }, threshold) => dns !== null && lookupsWithoutAnswer(dns, series.latest) > threshold,
    find: ({ dns, series }) => {
      if (dns === null || dns.total("requests", series.latest) === 0) return noData(NO_LOOKUPS);
      const n = lookupsWithoutAnswer(dns, series.latest);
      const [failed, unanswered] = [dns.total("failed", series.latest), dns.total("unanswered", series.latest)];
      const text = `of ${dns.total("requests", series.latest)} look-ups ${failed} failed and ${unanswered} had no answer`;
      return {
        value: n,
        message: n === 0 ? "name servers answer" : text,
        evidence: { series: "DNS errors", normal: 0, value: n, unit: "count", text },
      };
    },
  },
  {
    id: "dns_nxdomain",
    category: "DNS",
    title: "Names that are gone",
    unit: "count",
    threshold: () => 0,
    holdMs: 0,
    spanSeconds: 600,
    exceeds: ({ dns }, threshold, now) => dns !== null && dns.vanished(now) > threshold,
    find: ({ dns }, _threshold, now) => {
      if (dns === null) return noData(NO_LOOKUPS);
      const absent = dns.absentSince(now);
      const gone = absent.filter(({ known }) => known);
      const told = (gone.length > 0 ? gone : absent)
        .slice(0, 3)
        .map(({ name, type, count }) => `${name} (${type.replace(/^Type/, "")}) ${count} times`)
        .join(", ");
      const value = dns.vanished(now);
      // A name that never was is a mistake or a habit of the program, and not a change for the worse.
      const message =
        gone.length > 0
          ? `names that existed do not any more: ${told}`
          : absent.length > 0
            ? `asked for names that never existed: ${told}`
            : "all names that it asks for exist";
      return { value, message, evidence: { series: "NXDOMAIN", normal: 0, value, unit: "count", text: message } };
    },
  },
  {
    id: "restarts",
    category: "Instances",
    title: "Restarts",
    unit: "count",
    threshold: () => 1,
    holdMs: 0,
    spanSeconds: 600,
    exceeds: (state, threshold, now) => {
      if (state.instances.size === 0) return false;
      if (instancesUp(state) === 0) return state.argument.kind !== "Process" || isWanted(state, now);
      return eventsOf(state, "exit", now) > threshold;
    },
    find: (state, _threshold, now) => {
      if (state.instances.size === 0) return noData("no instance is observed");
      const up = [...state.instances.values()].filter((instance) => instance.up).length;
      // A program that a person started and that ended is not down, unless somebody still wants it.
      const wanted = state.argument.kind !== "Process" || isWanted(state, now);
      if (up === 0 && !wanted) return noData("it has ended, and nobody calls it");
      const exits = state.events.filter((event) => event.kind === "exit" && within(event.at, now, TEN_MINUTES));
      return {
        value: exits.length,
        message:
          up === 0
            ? "no instance is running"
            : exits.length === 0
              ? "no restart in ten minutes"
              : `${exits.length} exits in ten minutes`,
        evidence: {
          series: "exits",
          normal: 0,
          value: exits.length,
          unit: "count",
          text: exits.at(-1)?.text ?? `${up} of ${state.instances.size} instances are running`,
        },
      };
    },
  },
  {
    id: "cpu_near_limit",
    category: "CPU",
    title: "CPU near its limit",
    unit: "ratio",
    threshold: () => 0.8,
    holdMs: 10_000,
    spanSeconds: 10,
    exceeds: (state, threshold) => share(state, cpuShare) > threshold,
    find: (state, threshold) => {
      const limited = [...state.instances.values()].filter((i) => i.up && i.last.cpuLimit > 0);
      if (limited.length === 0) return noData("no CPU limit is set");
      const worst = Math.max(...limited.map((i) => i.cpuCores / i.last.cpuLimit));
      return {
        value: worst,
        message: `${percent(worst)} of the CPU limit is used`,
        evidence: {
          series: "CPU of limit",
          normal: threshold,
          value: worst,
          unit: "ratio",
          text: `${percent(worst)} of the limit`,
        },
      };
    },
  },
  {
    id: "cpu_throttling",
    category: "CPU",
    title: "CPU throttling",
    unit: "ratio",
    threshold: () => 0.1,
    holdMs: 5_000,
    spanSeconds: 10,
    exceeds: (state, threshold) => state.instances.size > 0 && throttled(state) > threshold,
    find: (state) => {
      if (state.instances.size === 0) return noData("no instance is observed");
      const ratio = throttled(state);
      return {
        value: ratio,
        message: ratio === 0 ? "not throttled" : `throttled ${percent(Math.min(1, ratio))} of the time`,
        evidence: {
          series: "throttled time",
          normal: 0,
          value: ratio,
          unit: "ratio",
          text: `throttled ${ratio.toFixed(2)} s per second`,
        },
      };
    },
  },
  {
    id: "memory_near_limit",
    category: "Memory",
    title: "Memory near its limit",
    unit: "ratio",
    threshold: () => 0.9,
    holdMs: 5_000,
    spanSeconds: 10,
    exceeds: (state, threshold) => share(state, memoryShare) > threshold,
    find: (state, threshold) => {
      const limited = [...state.instances.values()].filter((i) => i.up && i.last.memoryLimit > 0);
      if (limited.length === 0) return noData("no memory limit is set");
      const worst = Math.max(...limited.map((i) => i.last.memory / i.last.memoryLimit));
      return {
        value: worst,
        message: `${percent(worst)} of the memory limit is used`,
        evidence: {
          series: "memory of limit",
          normal: threshold,
          value: worst,
          unit: "ratio",
          text: `${percent(worst)} of the limit`,
        },
      };
    },
  },
  {
    id: "oom",
    category: "Memory",
    title: "Out-of-memory kills",
    unit: "count",
    threshold: () => 0,
    holdMs: 0,
    spanSeconds: 600,
    exceeds: (state, threshold, now) => state.instances.size > 0 && eventsOf(state, "oom", now) > threshold,
    find: (state, _threshold, now) => {
      if (state.instances.size === 0) return noData("no instance is observed");
      const kills = state.events.filter((event) => event.kind === "oom" && within(event.at, now, TEN_MINUTES));
      return {
        value: kills.length,
        message: kills.length === 0 ? "none in ten minutes" : `${kills.length} kills in ten minutes`,
        evidence: {
          series: "OOM kills",
          normal: 0,
          value: kills.length,
          unit: "count",
          text: kills.at(-1)?.text ?? "none",
        },
      };
    },
  },
  {
    id: "io_latency",
    category: "Storage",
    title: "Disk latency",
    unit: "ms",
    threshold: () => 100,
    holdMs: 10_000,
    spanSeconds: 60,
    exceeds: ({ io, series }, threshold) => io !== null && (slowest(io.figures(series.latest)) ?? 0) > threshold,
    find: ({ io, series }, threshold) => {
      const figures = io?.figures(series.latest) ?? null;
      const value = figures === null ? null : slowest(figures);
      if (figures === null || value === null) return noData("too few requests of disks in the last minute");
      const said = [
        figures.ioMs === null ? "" : `${figures.ios} requests of disks took ${figures.ioMs.toFixed(1)} ms each`,
        figures.syncMs === null ? "" : `${figures.syncs} calls of fsync took ${figures.syncMs.toFixed(1)} ms each`,
      ];
      const text = said.filter((one) => one !== "").join(", ");
      return {
        value,
        message: text,
        evidence: { series: "disk latency, mean", normal: threshold, value, unit: "ms", text },
      };
    },
  },
  {
    id: "disk_space",
    category: "Storage",
    title: "Disk space",
    unit: "ratio",
    threshold: () => 0.8,
    holdMs: 0,
    spanSeconds: 60,
    exceeds: ({ space }, threshold) => space !== null && space.most() > threshold,
    find: ({ space }, threshold) => {
      const all = space?.all() ?? [];
      const [fullest] = all;
      if (fullest === undefined) return noData("no disk is known that it writes to");
      const over = all.filter(({ used }) => used > threshold);
      const text = [...new Set((over.length > 0 ? over : [fullest]).map(sayFullness))].slice(0, 3).join("; ");
      return {
        value: fullest.used,
        message: text,
        evidence: { series: "disk space", normal: threshold, value: fullest.used, unit: "ratio", text },
      };
    },
  },
];

/** Each second: since when each condition is there. */
export const watch = (state: ServiceState, now: number): void => {
  for (const check of CHECKS) {
    if (!check.exceeds(state, check.threshold(state), now)) {
      if (state.checks.size > 0) state.checks.delete(check.id);
    } else if (!state.checks.has(check.id)) state.checks.set(check.id, { since: now });
  }
};

export const inspect = (state: ServiceState, now: number): Inspection[] => {
  watch(state, now);
  return CHECKS.map((check) => {
    const threshold = check.threshold(state);
    const finding = check.find(state, threshold, now);
    const held = state.checks.get(check.id);
    const lasting = held !== undefined && now - held.since >= check.holdMs;
    const from = now - check.spanSeconds * 1000;
    return {
      id: check.id,
      category: check.category,
      title: check.title,
      status: statusOf(state, check, finding, lasting),
      message: finding.message,
      threshold,
      value: finding.value,
      unit: check.unit,
      since: held?.since ?? null,
      evidence:
        finding.evidence === undefined || held === undefined
          ? []
          : [{ ...finding.evidence, id: `${check.id}`, service: state.id, z: null, from, to: now }],
    };
  });
};

const statusOf = (state: ServiceState, check: Check, finding: Finding, lasting: boolean): HealthStatus => {
  if (finding.value === null) return "unknown";
  if (!lasting) return "ok";
  if (check.category !== "SLO") return "warning";
  const phase = describePhase(state);
  return phase === "incident" ? "critical" : phase === "suspicion" ? "warning" : "info";
};
