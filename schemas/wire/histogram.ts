/**
 * The one histogram layout, shared by kernel (bpf/lib/histogram.h), wire, actor and store:
 * 4 buckets per octave from 1 µs to 2^27 µs (134 s), 108 counters, geometric bounds 2^(i/4) µs,
 * so a value read back from a bucket is within 9 % of the one that was put in.
 */
export const HISTOGRAM_BUCKETS = 108;

/** Upper bound of a bucket, in milliseconds. Anything slower than 134 s is in the last one. */
export const bucketUpperMs = (bucket: number): number => 2 ** ((bucket + 1) / 4) / 1000;

/** Geometric middle of a bucket, in milliseconds: the value that a bucket is read as. */
export const bucketMiddleMs = (bucket: number): number => 2 ** ((bucket + 0.5) / 4) / 1000;

/** Bucket of a duration in milliseconds; values outside the range go to the first or the last one. */
export const bucketOf = (ms: number): number => {
  const us = ms * 1000;
  if (!(us > 1)) return 0;
  return Math.min(HISTOGRAM_BUCKETS - 1, Math.floor(Math.log2(us) * 4));
};

/** The first bucket of which every value is slower than `thresholdMs`, up to the width of one bucket. */
export const firstSlowBucket = (thresholdMs: number): number => {
  const us = thresholdMs * 1000;
  if (!(us > 1)) return 0;
  return Math.min(HISTOGRAM_BUCKETS, Math.ceil(Math.log2(us) * 4 - 1e-9));
};

/** How many of the counted values are slower than the threshold (the bucket that holds it counts as fast). */
export const countSlower = (histogram: ArrayLike<number>, thresholdMs: number): number => {
  let n = 0;
  for (let i = firstSlowBucket(thresholdMs); i < HISTOGRAM_BUCKETS; i++) n += histogram[i] ?? 0;
  return n;
};

/** The same of a sparse histogram: bucket, count, bucket, count, … */
export const countSlowerOf = (sparse: readonly number[], thresholdMs: number): number => {
  const first = firstSlowBucket(thresholdMs);
  let n = 0;
  for (let i = 0; i + 1 < sparse.length; i += 2) if ((sparse[i] ?? 0) >= first) n += sparse[i + 1] ?? 0;
  return n;
};

/** The q-quantile (0..1) in milliseconds, or null where nothing was counted. */
export const quantileMs = (histogram: ArrayLike<number>, q: number): number | null => {
  let total = 0;
  for (let i = 0; i < HISTOGRAM_BUCKETS; i++) total += histogram[i] ?? 0;
  if (total === 0) return null;
  const rank = Math.max(1, Math.ceil(q * total));
  let seen = 0;
  for (let i = 0; i < HISTOGRAM_BUCKETS; i++) {
    seen += histogram[i] ?? 0;
    if (seen >= rank) return bucketMiddleMs(i);
  }
  return bucketMiddleMs(HISTOGRAM_BUCKETS - 1);
};
