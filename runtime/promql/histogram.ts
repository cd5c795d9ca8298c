/**
 * histogram_quantile over classic histograms: series with cumulative counts, apart by their `le`. Linear within a bucket,
 * as Prometheus. Pure.
 */
import { METRIC_NAME } from "./ast.ts";
import { emptySeries, LABELS_COST, type GridSeries } from "./grid.ts";
import { labelsKey, without } from "./labels.ts";
import { Pace, type Work } from "./work.ts";

interface Bucket {
  readonly bound: number;
  count: number;
}

/** Differences below this share of a count come from adding up in another order, and are no disorder. */
const TOLERANCE = 1e-12;

/** Counts must not fall from bucket to bucket, which they may when buckets were scraped at different moments. */
const ordered = (buckets: Bucket[]): readonly Bucket[] => {
  const out: Bucket[] = [];
  for (const { bound, count } of buckets.sort((a, b) => a.bound - b.bound)) {
    const last = out.at(-1);
    if (last !== undefined && last.bound === bound) last.count += count;
    else out.push({ bound, count });
  }
  let highest = out[0]?.count ?? 0;
  for (const bucket of out) {
    const close = Math.abs(bucket.count - highest) <= TOLERANCE * Math.min(Math.abs(bucket.count), Math.abs(highest));
    if (bucket.count < highest || close) bucket.count = highest;
    else highest = bucket.count;
  }
  return out;
};

export const bucketQuantile = (q: number, found: Bucket[]): number => {
  if (Number.isNaN(q)) return Number.NaN;
  if (q < 0) return -Infinity;
  if (q > 1) return Infinity;
  const buckets = ordered(found);
  const last = buckets.at(-1);
  const second = buckets.at(-2);
  if (last === undefined || second === undefined || last.bound !== Infinity) return Number.NaN;
  if (last.count === 0 || Number.isNaN(last.count)) return Number.NaN;
  const rank = q * last.count;
  const index = buckets.findIndex(({ count }) => count >= rank);
  const at = buckets[index];
  if (at === undefined || at === last) return second.bound;
  const before = buckets[index - 1];
  if (before === undefined && at.bound <= 0) return at.bound;
  const [low, below] = before === undefined ? [0, 0] : [before.bound, before.count];
  return low + (at.bound - low) * ((rank - below) / (at.count - below));
};

const boundOf = (le: string | undefined): number | null => {
  if (le === undefined) return null;
  if (/^\+?inf$/i.test(le)) return Infinity;
  const bound = le.trim() === "" ? Number.NaN : Number(le);
  return Number.isNaN(bound) ? null : bound;
};

export const histogramQuantile = function* (
  q: Float64Array,
  series: readonly GridSeries[],
): Work<readonly GridSeries[]> {
  const pace = new Pace();
  const groups = new Map<string, { out: GridSeries; members: { bound: number; series: GridSeries }[] }>();
  for (const one of series) {
    yield* pace.spend(LABELS_COST);
    const bound = boundOf(one.labels.get("le"));
    if (bound === null) continue;
    const labels = without(one.labels, ["le", METRIC_NAME]);
    const key = labelsKey(labels);
    const group = groups.get(key) ?? { out: emptySeries(labels, q.length), members: [] };
    groups.set(key, group);
    group.members.push({ bound, series: one });
  }
  for (const { out, members } of groups.values())
    for (let point = 0; point < q.length; point++) {
      yield* pace.spend(5 * members.length);
      const buckets = members.flatMap(({ bound, series: one }) =>
        one.present[point] === 1 ? [{ bound, count: one.values[point] ?? 0 }] : [],
      );
      if (buckets.length === 0) continue;
      out.present[point] = 1;
      out.values[point] = bucketQuantile(q[point] ?? Number.NaN, buckets);
    }
  return [...groups.values()].map(({ out }) => out);
};
