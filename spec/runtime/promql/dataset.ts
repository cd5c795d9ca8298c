/**
 * The same metrics for Prometheus and for the own store: 100 minutes of counters with resets, gauges, histograms, series that
 * end, pause and come back, and values that are no numbers. Every 15 s, at times that lie on no whole second, so that none
 * lies on the edge of a window. Always the same but for its end.
 */
import { Effect } from "effect";
import { fingerprint } from "../../../runtime/store/fingerprint.ts";
import { Writer } from "../../../runtime/store/Writer.ts";
import { seriesList, type StoreBatch } from "../../../runtime/store/batch.ts";
import type { WrittenSeries } from "./remoteWrite.ts";

const STALE = new Float64Array(new BigUint64Array([0x7ff0000000000002n]).buffer);
const STEP_MS = 15_000;
const STEPS = 400;

/** Between 0 and 1, the same for the same arguments. */
const noise = (seed: number, i: number): number => {
  let x = Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(i + 1, 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d);
  x = Math.imul(x ^ (x >>> 12), 0x297a2d39);
  return ((x ^ (x >>> 15)) >>> 0) / 2 ** 32;
};

/** What a series has at a step: a value, "stale", or null for no sample. */
type At = (i: number) => number | "stale" | null;

const made = (startMs: number, labels: Record<string, string>, seed: number, at: At): WrittenSeries => {
  const times: number[] = [];
  const found: (number | "stale")[] = [];
  for (let i = 0; i < STEPS; i++) {
    const value = at(i);
    if (value === null) continue;
    times.push(startMs + i * STEP_MS + 137 + Math.floor(noise(seed, -7) * 700));
    found.push(value);
  }
  const values = new Float64Array(found.length);
  const bits = new BigUint64Array(values.buffer);
  const stale = new BigUint64Array(STALE.buffer);
  found.forEach((value, i) => {
    if (value === "stale") bits[i] = stale[0] ?? 0n;
    else values[i] = value;
  });
  return { labels, times: Float64Array.from(times), values };
};

const counter = (seed: number, rate: number, resetAt = -1): At => {
  const values: number[] = [];
  let total = Math.floor(noise(seed, -1) * 5_000);
  for (let i = 0; i < STEPS; i++) {
    if (i === resetAt) total = 0;
    total += Math.floor(rate * 15 * noise(seed, i) * 2);
    values.push(total);
  }
  return (i) => values[i] ?? null;
};

export interface Dataset {
  readonly startMs: number;
  readonly endMs: number;
  readonly series: readonly WrittenSeries[];
}

const LE = ["0.005", "0.05", "0.1", "0.5", "1", "2.5", "10", "+Inf"];

/** `endMs`: a whole second; the last sample lies before it. */
export const makeDataset = (endMs: number): Dataset => {
  const startMs = endMs - STEPS * STEP_MS;
  const series: WrittenSeries[] = [];
  let seed = 0;
  const add = (labels: Record<string, string>, at: (seed: number) => At): void => {
    seed++;
    series.push(made(startMs, labels, seed, at(seed)));
  };
  for (const job of ["api", "web"])
    for (const instance of ["10.0.0.1:80", "10.0.0.2:80"]) {
      for (const method of ["GET", "POST"])
        for (const code of ["200", "500"])
          add({ __name__: "http_requests_total", job, instance, method, code }, (s) =>
            counter(s, code === "200" ? 40 : 0.3, method === "POST" ? 260 + s : -1),
          );
      const buckets = LE.map((_, b) => counter(1_000 + seed * 10 + b, 4));
      LE.forEach((le, b) =>
        add(
          { __name__: "http_duration_seconds_bucket", job, instance, le },
          () => (i) => buckets.slice(0, b + 1).reduce((sum, one) => sum + Number(one(i) ?? 0), 0),
        ),
      );
      add(
        { __name__: "http_duration_seconds_count", job, instance },
        () => (i) => buckets.reduce((sum, one) => sum + Number(one(i) ?? 0), 0),
      );
      add({ __name__: "http_duration_seconds_sum", job, instance }, (s) => counter(s, 12.5));
      add({ __name__: "memory_bytes", job, instance }, (s) => (i) => 1e9 + Math.floor(1e7 * noise(s, i)) + i * 1e5);
      add({ __name__: "memory_limit_bytes", job, instance }, () => () => 2 ** 31);
      add({ __name__: "up", job, instance }, (s) => (i) => (noise(s, i) < 0.1 ? 0 : 1));
      add({ __name__: "build_info", job, instance, version: `v1.${seed % 3}`, commit: `c${seed}` }, () => () => 1);
    }
  for (const [n, room] of ["attic", "cellar", 'it\'s "odd" \\', "küche"].entries())
    add({ __name__: "temperature_celsius", room, floor: String(n - 1) }, (s) => (i) => {
      const value = Math.sin((i + s) / 20) * 15 + noise(s, i) * 4 - 3 + n;
      return Math.round(value * 100) / 100;
    });
  // comes and goes: with stale markers, and without
  add(
    { __name__: "flaky", kind: "stale" },
    (s) => (i) => (i % 60 < 40 ? noise(s, i) * 10 : i % 60 === 40 ? "stale" : null),
  );
  add({ __name__: "flaky", kind: "gap" }, (s) => (i) => (i % 60 < 30 ? noise(s, i) * 10 : null));
  add({ __name__: "flaky", kind: "sparse" }, (s) => (i) => (i % 13 === 0 ? noise(s, i) * 10 : null));
  add({ __name__: "flaky", kind: "blink" }, (s) => (i) => (i % 7 === 3 ? "stale" : noise(s, i) * 10));
  add({ __name__: "flaky_total", kind: "stale" }, (s) => {
    const values = counter(s, 3, 310);
    return (i) => (i % 60 < 40 ? values(i) : i % 60 === 40 ? "stale" : null);
  });
  add({ __name__: "odd_value", kind: "nan" }, (s) => (i) => (i % 5 === 2 ? Number.NaN : noise(s, i)));
  add({ __name__: "odd_value", kind: "inf" }, (s) => (i) => (i % 40 === 2 ? Infinity : noise(s, i)));
  add({ __name__: "odd_value", kind: "ninf" }, (s) => (i) => (i % 40 === 12 ? -Infinity : noise(s, i)));
  add({ __name__: "odd_value", kind: "tiny" }, (s) => (i) => noise(s, i) * 1e-300);
  add({ __name__: "odd_value", kind: "huge" }, (s) => (i) => noise(s, i) * 1e150);
  add({ __name__: "odd_value", kind: "negative" }, (s) => (i) => -noise(s, i) * 100);
  add({ __name__: "odd_value", kind: "steady" }, () => () => 42.5);
  add({ __name__: "level", size: "s" }, () => (i) => i % 4);
  add({ __name__: "level", size: "m" }, () => (i) => (i + 1) % 4);
  add({ __name__: "level", size: "l" }, () => (i) => (i >> 3) % 4);
  add({ __name__: "path_total", path: "/api/v1/users", service: "default/shop/Deployment/cart" }, (s) => counter(s, 5));
  add({ __name__: "path_total", path: "/api/v2/orders", service: "default/shop/Deployment/orders" }, (s) =>
    counter(s, 7),
  );
  add({ __name__: "path_total", path: "/health", service: "default/shop/DaemonSet/probe" }, (s) => counter(s, 1));
  return { startMs, endMs, series };
};

/** As an agent's batch. */
export const batchOf = ({ series }: Dataset): StoreBatch => {
  const described = series.map(({ labels: { __name__: name = "", ...labels } }) => ({
    name,
    labels,
    fingerprint: fingerprint(name, labels),
  }));
  const rows = series.reduce((sum, { times }) => sum + times.length, 0);
  const index = new Uint32Array(rows);
  const times = new Float64Array(rows);
  const values = new Float64Array(rows);
  let at = 0;
  series.forEach((one, i) => {
    index.fill(i, at, at + one.times.length);
    times.set(one.times, at);
    // by their bits: a stale marker is a NaN of its own
    new Uint8Array(values.buffer).set(new Uint8Array(one.values.buffer), at * 8);
    at += one.times.length;
  });
  return { agent: "oracle", epoch: 1, sequence: 0, connection: 1, series: seriesList(described), index, times, values };
};

export const writeToStore = (dataset: Dataset) =>
  Effect.flatMap(Writer, (writer) => writer.samples(batchOf(dataset))).pipe(Effect.timeout("30 seconds"));
