/**
 * The rolling one-second columns of a service. The server sends what is new; the page keeps up to KEEP seconds, and what
 * arrives replaces what it had from that second on (late data corrects the last seconds). Pure; columns of unequal
 * length are cut to the shortest, so a faulty server cannot shift one line against another.
 */
import type { LiveWindows } from "../../schemas/wire/page.ts";

/** 15 minutes and a margin, so that a full 15-minute chart has no hole at its left end */
export const KEEP = 960;

const COLUMNS = [
  "requests",
  "errors",
  "p50Ms",
  "p95Ms",
  "p99Ms",
  "cpuCores",
  "throttledRatio",
  "memoryBytes",
  "pending",
] as const;

export const mergeLive = (had: LiveWindows | null, next: LiveWindows): LiveWindows => {
  const length = COLUMNS.reduce((least, name) => Math.min(least, next[name].length), next.time.length);
  const first = next.time[0];
  if (length === 0 || first === undefined) return had ?? next;
  // time is ascending, so the kept part of the old columns is a prefix
  const before = had?.time ?? [];
  let prefix = before.length;
  while (prefix > 0 && (before[prefix - 1] ?? 0) >= first) prefix--;
  const drop = Math.max(0, prefix + length - KEEP);
  const join = <T>(old: readonly T[] | undefined, fresh: readonly T[]): readonly T[] =>
    (old === undefined ? [] : old.slice(Math.min(drop, prefix), prefix)).concat(
      fresh.slice(Math.max(0, drop - prefix), length),
    );
  return {
    time: join(had?.time, next.time),
    requests: join(had?.requests, next.requests),
    errors: join(had?.errors, next.errors),
    p50Ms: join(had?.p50Ms, next.p50Ms),
    p95Ms: join(had?.p95Ms, next.p95Ms),
    p99Ms: join(had?.p99Ms, next.p99Ms),
    cpuCores: join(had?.cpuCores, next.cpuCores),
    throttledRatio: join(had?.throttledRatio, next.throttledRatio),
    memoryBytes: join(had?.memoryBytes, next.memoryBytes),
    pending: join(had?.pending, next.pending),
  };
};
