/**
 * Stored figures of a service: one GET per range, cancelled when the range changes. What was read stays on screen while
 * newer figures are under way; a failed read is shown with the server's own words.
 */
import { useEffect, useState } from "react";

/** Answer of GET /api/history: columns of equal length, one element per stored point; requests and errors are counts per second. */
export interface History {
  readonly time: readonly number[];
  readonly requests: readonly number[];
  readonly errors: readonly number[];
  readonly p50Ms: readonly (number | null)[];
  readonly p95Ms: readonly (number | null)[];
  readonly p99Ms: readonly (number | null)[];
}

const COLUMNS = ["time", "requests", "errors", "p50Ms", "p95Ms", "p99Ms"] as const;

export const isHistory = (value: unknown): value is History => {
  if (typeof value !== "object" || value === null) return false;
  const record = value as Record<string, unknown>;
  const { time } = record;
  return (
    Array.isArray(time) && COLUMNS.every((name) => Array.isArray(record[name]) && record[name].length === time.length)
  );
};

interface Reading {
  readonly key: string;
  readonly data: History | null;
  readonly error: string | null;
}

export const useHistory = (service: string, from: number, to: number): Reading => {
  const key = `${service} ${to - from}`;
  const [reading, setReading] = useState<Reading>({ key, data: null, error: null });
  useEffect(() => {
    const stop = new AbortController();
    const query = new URLSearchParams({ service, from: String(from), to: String(to) });
    const read = async (): Promise<void> => {
      const answer = await fetch(`/api/history?${query.toString()}`, { signal: stop.signal });
      if (!answer.ok) throw new Error(`${answer.status} ${(await answer.text()).slice(0, 200)}`);
      const body: unknown = await answer.json();
      if (!isHistory(body))
        throw new Error("the answer has no equal columns time, requests, errors, p50Ms, p95Ms, p99Ms");
      setReading({ key, data: body, error: null });
    };
    read().catch((error: unknown) => {
      if (!stop.signal.aborted)
        setReading({ key, data: null, error: error instanceof Error ? error.message : String(error) });
    });
    return () => stop.abort();
  }, [service, from, to, key]);
  return reading.key === key ? reading : { key, data: null, error: null };
};
