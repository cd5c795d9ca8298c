/** store.promql: the oracle's queries, asked of Debian's Prometheus and of the own store; and what ours cost. */
import { capability } from "../../machine.ts";
import { difference, openBed, type Bed } from "../../runtime/promql/compare.ts";
import { DEVIATIONS, QUERIES } from "../../runtime/promql/queries.ts";
import { cpuMs } from "../path/launch.ts";
import type { Figure, MeasureContext, Measured } from "../figure.ts";

const LEAST_QUERIES = 300;
const MOST_LISTED = 5;

const needs = (): string | null => {
  for (const name of ["chdb", "prometheus"] as const) {
    const found = capability(name);
    if (!found.available) return found.reason;
  }
  return null;
};

const cpuOf = (pid: number | null): number => (pid === null ? Number.NaN : cpuMs(pid));

const different = async (bed: Bed, query: string): Promise<string | null> =>
  difference(...(await bed.range(query))) ?? difference(...(await bed.instant(query)));

/** Own CPU and the engine's, in ms a query. */
const costs = async (bed: Bed): Promise<readonly [own: number, engine: number]> => {
  const [own, engine] = [process.cpuUsage(), cpuOf(bed.storePid)];
  for (const query of QUERIES) await bed.own(query);
  const { user, system } = process.cpuUsage(own);
  return [(user + system) / 1000 / QUERIES.length, (cpuOf(bed.storePid) - engine) / QUERIES.length];
};

const measure = async (context: MeasureContext): Promise<Measured> => {
  const missing = needs();
  if (missing !== null) return { value: null, reason: missing };
  const bed = await openBed();
  try {
    const listed = new Map(DEVIATIONS.map(({ query, why }) => [query, why]));
    let equal = 0;
    const explained: string[] = [];
    for (const query of QUERIES) {
      if (context.signal.aborted) throw new Error("there was no time for all queries");
      const found = await different(bed, query);
      const why = listed.get(query);
      if (found === null) equal++;
      else if (why === undefined) context.log(`${query}: ${found}`);
      else explained.push(`${query} (${why})`);
    }
    const [own, engine] = await costs(bed);
    return {
      value: (equal + explained.length) / QUERIES.length,
      detail: `${equal} of ${QUERIES.length} equal over time and at a moment; listed: ${explained.join(", ")}; CPU a query over time ${own.toFixed(1)} ms here, ${engine.toFixed(1)} ms in the engine`,
    };
  } finally {
    await bed.close();
  }
};

export const figures: readonly Figure[] = [
  {
    id: "store.promql",
    figure: "PromQL queries equal to Prometheus' answer to 1e-9, or listed with the reason",
    unit: "of all",
    bar: `1, ≥ ${LEAST_QUERIES} queries, ≤ ${MOST_LISTED} listed`,
    holds: (value) => value === 1 && QUERIES.length >= LEAST_QUERIES && DEVIATIONS.length <= MOST_LISTED,
    measure,
  },
];
