/**
 * Turns OTLP's data points into Prometheus samples, one after the other as a reader meets them. Owned by the call. A point
 * that cannot become samples (delta temporality, exponential histograms, a time far off) is rejected alone, counted by its
 * reason, and told to the sender as a partial success. Nothing to stop.
 */
import type { Series } from "../../store/batch.ts";
import { TooMany, type Columns } from "../Columns.ts";
import { LABEL_LIMITS, type SeriesCache } from "../SeriesCache.ts";
import { labelPairs, metricName, numberText, type MetricKind } from "./names.ts";

export interface MetricHead {
  readonly name: string;
  readonly unit: string;
  readonly data: "gauge" | "sum" | "histogram" | "exponential" | "summary";
  /** of sums and histograms: 1 delta, 2 cumulative */
  readonly temporality: number;
  readonly monotonic: boolean;
}

export interface PointHead {
  /** keys and values in turn */
  readonly attributes: readonly string[];
  readonly timeMs: number;
  /** the sender says that there is no value: its series end here */
  readonly ended: boolean;
}

const DELTA =
  "delta temporality, which is not taken: set OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=cumulative in the sender";
/** Labels of all samples that one call may become: a histogram repeats its own in each bucket. */
const MAX_LABELS = 2_000_000;
/** Prometheus' stale marker. */
const STALE = { low: 2, high: 0x7ff00000 };

const kindOf = ({ data, monotonic }: MetricHead): MetricKind => {
  if (data === "sum") return monotonic ? "counter" : "up-down";
  return data === "exponential" ? "histogram" : data;
};

export class Translator {
  /** points that a reader met, for its steps */
  seen = 0;
  readonly rejected = new Map<string, number>();
  private readonly out: Columns;
  private readonly cache: SeriesCache;
  private identity: string[] = [];
  private about: string[] = [];
  private scoped: string[] = [];
  private name = "";
  private made = 0;
  private latest = Number.NEGATIVE_INFINITY;

  constructor(out: Columns, cache: SeriesCache) {
    this.out = out;
    this.cache = cache;
  }

  /** What follows is of this resource, until `endResource`. */
  resource(attributes: readonly string[]): void {
    const rest: string[] = [];
    let [service, namespace, instance] = ["", "", ""];
    for (let i = 0; i < attributes.length; i += 2) {
      const [key = "", value = ""] = [attributes[i], attributes[i + 1]];
      if (key === "service.name") service = value;
      else if (key === "service.namespace") namespace = value;
      else if (key === "service.instance.id") instance = value;
      else rest.push(key, value);
    }
    const job = namespace === "" || service === "" ? service : `${namespace}/${service}`;
    this.identity = [...(job === "" ? [] : ["job", job]), ...(instance === "" ? [] : ["instance", instance])];
    this.about = rest;
    this.latest = Number.NEGATIVE_INFINITY;
  }

  /** The resource's other attributes, as a series to join with. */
  endResource(): void {
    if (this.identity.length === 0 || this.about.length === 0 || !Number.isFinite(this.latest)) return;
    const series = this.cache.pairs(named("target_info", this.identity, labelPairs(this.about)));
    if (typeof series === "string") return;
    this.out.addValue(this.latest, 1);
    this.out.close(series);
  }

  scope(name: string, version: string): void {
    this.scoped = [
      ...(name === "" ? [] : ["otel_scope_name", name]),
      ...(version === "" ? [] : ["otel_scope_version", version]),
    ];
  }

  /** False: the metric's points are to be given to `reject` with the reason. */
  metric(head: MetricHead): true | string {
    if (head.data === "exponential") return "exponential histograms, which are not taken";
    if ((head.data === "sum" || head.data === "histogram") && head.temporality !== 2)
      return head.temporality === 1 ? DELTA : "no temporality";
    this.name = metricName(head.name, head.unit, kindOf(head));
    return this.name === "" ? "no name" : true;
  }

  reject(reason: string, points = 1): void {
    if (points > 0) this.rejected.set(reason, (this.rejected.get(reason) ?? 0) + points);
  }

  number(point: PointHead, value: number): void {
    if (!this.takes(point)) return;
    this.sample(this.name, labelPairs(point.attributes), point, value);
  }

  histogram(
    point: PointHead,
    count: number,
    sum: number | null,
    counts: readonly number[],
    bounds: readonly number[],
  ): void {
    if (counts.length !== bounds.length + 1 && (counts.length > 0 || bounds.length > 0))
      return this.reject("bucket counts that do not fit their bounds");
    if (!this.takes(point)) return;
    const labels = labelPairs(point.attributes);
    let total = 0;
    bounds.forEach((bound, i) => {
      total += counts[i] ?? 0;
      this.sample(`${this.name}_bucket`, labels, point, total, "le", numberText(bound));
    });
    this.sample(`${this.name}_bucket`, labels, point, count, "le", "+Inf");
    if (sum !== null) this.sample(`${this.name}_sum`, labels, point, sum);
    this.sample(`${this.name}_count`, labels, point, count);
  }

  /** `quantiles`: quantile and value in turn. */
  summary(point: PointHead, count: number, sum: number, quantiles: readonly number[]): void {
    if (!this.takes(point)) return;
    const labels = labelPairs(point.attributes);
    for (let i = 0; i < quantiles.length; i += 2)
      this.sample(this.name, labels, point, quantiles[i + 1] ?? 0, "quantile", numberText(quantiles[i] ?? 0));
    this.sample(`${this.name}_sum`, labels, point, sum);
    this.sample(`${this.name}_count`, labels, point, count);
  }

  /** Checked for the point as a whole, so that it is stored whole or not at all. */
  private takes({ timeMs, attributes }: PointHead): boolean {
    const reason = this.wrong(timeMs, attributes);
    if (reason === null) {
      this.latest = Math.max(this.latest, timeMs);
      return true;
    }
    this.reject(reason);
    return false;
  }

  private wrong(timeMs: number, attributes: readonly string[]): string | null {
    if (!this.out.takes(timeMs)) return "a time outside of what is kept";
    // name, le or quantile, job, instance and the scope come on top
    if (attributes.length > 2 * (LABEL_LIMITS.labels - 6)) return "too many attributes";
    for (let i = 0; i < attributes.length; i++)
      if ((attributes[i] ?? "").length > (i % 2 === 0 ? LABEL_LIMITS.nameBytes : LABEL_LIMITS.valueBytes) / 4)
        return "an attribute that is too long";
    return null;
  }

  /** What the resource, the scope and the protocol say stands above an attribute of the same name. */
  private sample(name: string, labels: readonly string[], point: PointHead, value: number, ...extra: string[]): void {
    const fixed = [...this.identity, ...this.scoped, ...extra];
    const series: Series | string = this.cache.pairs(named(name, fixed, labels));
    if (typeof series === "string") return this.reject(series);
    this.made += (fixed.length + labels.length) / 2;
    if (this.made > MAX_LABELS) throw new TooMany(`more than ${MAX_LABELS} labels in one call`);
    if (point.ended) this.out.add(point.timeMs, STALE.low, STALE.high);
    else this.out.addValue(point.timeMs, value);
    this.out.close(series);
  }
}

const named = (name: string, fixed: readonly string[], labels: readonly string[]): readonly string[] => {
  const pairs = ["__name__", name, ...fixed];
  for (let i = 0; i < labels.length; i += 2) {
    const label = labels[i] ?? "";
    let taken = false;
    for (let j = 0; j < fixed.length; j += 2) taken ||= fixed[j] === label;
    if (!taken) pairs.push(label, labels[i + 1] ?? "");
  }
  return pairs;
};
