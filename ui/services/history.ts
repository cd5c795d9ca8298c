/**
 * Stored figures of a service: one GET of /api/history per range, cancelled when the range changes. What was read stays
 * on screen while newer figures are under way; a failed read is shown with the server's own words.
 */
import { useEffect, useState } from "react";

/** A point of `HistoryAnswer` in schemas/api.ts: requests and errors per second, latencies in ms. */
export interface HistoryPoint {
  readonly ts: number;
  readonly requests: number;
  readonly errors: number;
  readonly p50: number | null;
  readonly p95: number | null;
  readonly p99: number | null;
  readonly cpu: number | null;
  readonly memory: number | null;
}

type Column = readonly (number | null)[];
export interface History {
  readonly time: readonly number[];
  readonly requests: Column;
  readonly errors: Column;
  readonly p50Ms: Column;
  readonly p95Ms: Column;
  readonly p99Ms: Column;
  readonly cpuCores: Column;
  readonly memoryBytes: Column;
}

const isPoint = (value: unknown): value is HistoryPoint => {
  if (typeof value !== "object" || value === null) return false;
  const { ts, requests, errors } = value as Record<string, unknown>;
  return typeof ts === "number" && typeof requests === "number" && typeof errors === "number";
};

export const isHistory = (value: unknown): value is { readonly points: readonly HistoryPoint[] } =>
  typeof value === "object" &&
  value !== null &&
  "points" in value &&
  Array.isArray(value.points) &&
  value.points.every(isPoint);

/** Columns for the charts. Where points are missing stands one without figures, so that no line bridges the hole. */
export const columnsOf = (points: readonly HistoryPoint[]): History => {
  const sorted = [...points].sort((a, b) => a.ts - b.ts);
  const steps = sorted.slice(1).map((point, n) => point.ts - (sorted[n]?.ts ?? 0));
  const step = Math.min(...steps.filter((each) => each > 0));
  const rows = sorted.flatMap((point, n) =>
    n > 0 && (steps[n - 1] ?? 0) > step * 1.5 ? [{ ts: (sorted[n - 1]?.ts ?? 0) + step }, point] : [point],
  );
  const column = (name: Exclude<keyof HistoryPoint, "ts">): Column =>
    rows.map((row: { readonly ts: number } & Partial<HistoryPoint>) => row[name] ?? null);
  return {
    time: rows.map((row) => row.ts),
    requests: column("requests"),
    errors: column("errors"),
    p50Ms: column("p50"),
    p95Ms: column("p95"),
    p99Ms: column("p99"),
    cpuCores: column("cpu"),
    memoryBytes: column("memory"),
  };
};

interface Reading {
  readonly key: string;
  readonly data: History | null;
  readonly error: string | null;
}

/** The sentence of an error answer, which is JSON with a message. */
const reasonOf = (status: number, body: string): string => {
  try {
    const value: unknown = JSON.parse(body);
    if (typeof value === "object" && value !== null && "message" in value && typeof value.message === "string")
      return value.message;
  } catch {
    return `${status} ${body.slice(0, 200)}`;
  }
  return `${status} ${body.slice(0, 200)}`;
};

export const useHistory = (service: string, from: number, to: number): Reading => {
  const key = `${service} ${to - from}`;
  const [reading, setReading] = useState<Reading>({ key, data: null, error: null });
  useEffect(() => {
    const stop = new AbortController();
    const query = new URLSearchParams({ service, from: String(from), to: String(to) });
    const read = async (): Promise<void> => {
      const answer = await fetch(`/api/history?${query.toString()}`, { signal: stop.signal });
      if (!answer.ok) throw new Error(reasonOf(answer.status, await answer.text()));
      const body: unknown = await answer.json();
      if (!isHistory(body)) throw new Error("the answer has no points with ts, requests and errors");
      setReading({ key, data: columnsOf(body.points), error: null });
    };
    read().catch((error: unknown) => {
      if (!stop.signal.aborted)
        setReading({ key, data: null, error: error instanceof Error ? error.message : String(error) });
    });
    return () => stop.abort();
  }, [service, from, to, key]);
  return reading.key === key ? reading : { key, data: null, error: null };
};
