/**
 * Metrics of a fleet as one Prometheus sends them: integer counters with noise, every series once per scrape, seven labels.
 * The same numbers on each run.
 */
import { compressSync } from "snappy";
import { seriesList, type StoreBatch } from "../../../runtime/store/batch.ts";
import { fingerprint } from "../../../runtime/store/fingerprint.ts";
import { encodeRequest } from "../../../runtime/store/writeRequest.ts";

export const LOAD_SERIES = 20_000;
export const SCRAPE_MS = 15_000;
export const SAMPLES_PER_CALL = 5_000;

const NAMES = ["http_requests_total", "http_response_size_bytes_total"];

const seriesOf = (i: number) => {
  const name = NAMES[i % 2] ?? "";
  const app = Math.floor(i / 2) % 100;
  const labels = {
    instance: `10.${app}.${Math.floor(i / 200) % 10}.7:9100`,
    job: "applications",
    namespace: "production",
    service: `app-${app}`,
    pod: `app-${app}-7d9c5b86f4-${Math.floor(i / 200)}`,
    method: i % 4 < 2 ? "GET" : "POST",
    status: "200",
  };
  return { name, labels, fingerprint: fingerprint(name, labels) };
};

/** xorshift, so that runs are alike */
const noise = (): (() => number) => {
  let state = 2_463_534_242;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
};

export interface Load {
  /** bodies of the next scrape, snappy, and their size before */
  readonly scrape: () => { readonly bodies: readonly Buffer[]; readonly rawBytes: number };
}

export const makeLoad = (startMs: number): Load => {
  const random = noise();
  const series = Array.from({ length: LOAD_SERIES }, (_, i) => seriesOf(i));
  const values = Float64Array.from(series, () => Math.floor(random() * 1e6));
  const rates = Float64Array.from(series, () => 1 + Math.floor(random() * 200));
  let tick = -1;
  return {
    scrape: () => {
      tick++;
      let rawBytes = 0;
      const bodies: Buffer[] = [];
      for (let from = 0; from < LOAD_SERIES; from += SAMPLES_PER_CALL) {
        const rows = Uint32Array.from({ length: SAMPLES_PER_CALL }, (_, i) => i);
        for (let i = from; i < from + SAMPLES_PER_CALL; i++)
          values[i] = (values[i] ?? 0) + Math.floor((rates[i] ?? 0) * (0.8 + 0.4 * random()));
        const batch: StoreBatch = {
          agent: "load",
          epoch: 1,
          sequence: 0,
          connection: 1,
          series: seriesList(series.slice(from, from + SAMPLES_PER_CALL)),
          index: rows,
          times: Float64Array.from(rows, () => startMs + tick * SCRAPE_MS),
          values: values.slice(from, from + SAMPLES_PER_CALL),
        };
        const raw = encodeRequest([{ batch, rows }]);
        rawBytes += raw.length;
        bodies.push(compressSync(raw));
      }
      return { bodies, rawBytes };
    },
  };
};
