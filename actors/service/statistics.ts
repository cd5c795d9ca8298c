/** Robust statistics of small samples. Formulas: root-cause method, "scale" and "binomial errors". */
export interface Normal {
  readonly median: number;
  readonly scale: number;
  readonly samples: number;
}

const quantile = (sorted: readonly number[], q: number): number => {
  if (sorted.length === 0) return 0;
  const at = (sorted.length - 1) * q;
  const low = Math.floor(at);
  const a = sorted[low] ?? 0;
  const b = sorted[Math.min(low + 1, sorted.length - 1)] ?? a;
  return a + (b - a) * (at - low);
};

/** Median and robust scale max(IQR/1.349, (q98-q02)/4.1, 3 % of the median, floor). */
export const normal = (values: readonly number[], floor: number): Normal => {
  const sorted = [...values].sort((a, b) => a - b);
  const median = quantile(sorted, 0.5);
  const scale = Math.max(
    (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / 1.349,
    (quantile(sorted, 0.98) - quantile(sorted, 0.02)) / 4.1,
    0.03 * Math.abs(median),
    floor,
  );
  return { median, scale, samples: values.length };
};

export const deviation = (value: number, baseline: Normal): number => (value - baseline.median) / baseline.scale;

/** Deviation of a failure count from a normal failure rate: (E - n p0) / sqrt(n p0 (1 - p0) + 0.5). */
export const binomialDeviation = (failures: number, requests: number, p0: number): number =>
  (failures - requests * p0) / Math.sqrt(requests * p0 * (1 - p0) + 0.5);
