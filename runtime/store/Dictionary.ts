/**
 * Turns the store frames of one connection into batches for the writer. Owned by the session that holds the connection:
 * series ids mean something only within it, so a new connection starts with a new dictionary. Bounded; an id without a
 * definition, or one beyond the bound, loses its samples, which is counted. Pure state, nothing to stop.
 */
import type { SAMPLES_SHAPE, SeriesDefinition } from "../../schemas/wire/link.ts";
import type { Table } from "../../schemas/wire/columns.ts";
import { fingerprint } from "./fingerprint.ts";
import type { Series, StoreBatch } from "./batch.ts";

export interface BatchHeader {
  readonly agent: string;
  readonly epoch: number;
  readonly sequence: number;
  readonly connection: number;
}

export interface Dictionary {
  readonly define: (definitions: readonly SeriesDefinition[]) => void;
  readonly batch: (header: BatchHeader, samples: Table<typeof SAMPLES_SHAPE>) => StoreBatch;
  readonly size: () => number;
  /** samples without a series, since the connection's start */
  readonly unknown: () => number;
}

export const MAX_SERIES = 200_000;

export const makeDictionary = (): Dictionary => {
  const known = new Map<number, Series>();
  let unknown = 0;
  return {
    define: (definitions) => {
      for (const { id, name, labels } of definitions) {
        if (known.size >= MAX_SERIES && !known.has(id)) continue;
        known.set(id, { fingerprint: fingerprint(name, labels), name, labels });
      }
    },
    batch: (header, samples) => {
      const series: Series[] = [];
      const places = new Map<number, number>();
      const index = new Uint32Array(samples.rows);
      const times = new Float64Array(samples.rows);
      const values = new Float64Array(samples.rows);
      let rows = 0;
      for (let i = 0; i < samples.rows; i++) {
        const id = samples.series[i] ?? 0;
        let place = places.get(id);
        if (place === undefined) {
          const found = known.get(id);
          if (found === undefined) {
            unknown++;
            continue;
          }
          place = series.push(found) - 1;
          places.set(id, place);
        }
        index[rows] = place;
        times[rows] = samples.timeMs[i] ?? 0;
        values[rows] = samples.value[i] ?? 0;
        rows++;
      }
      return {
        ...header,
        series,
        index: index.subarray(0, rows),
        times: times.subarray(0, rows),
        values: values.subarray(0, rows),
      };
    },
    size: () => known.size,
    unknown: () => unknown,
  };
};
