/**
 * What the API tells of logs and traces, row by row. Types and bounds only; runtime/telemetry makes the rows. Times are
 * milliseconds since the epoch, with fractions where the source has them; ids are hex digits in small letters, empty
 * where there is none.
 */

/** OpenTelemetry's severities in classes, from low to high. */
export const SEVERITIES = ["unknown", "trace", "debug", "info", "warning", "error", "fatal"] as const;
export type Severity = (typeof SEVERITIES)[number];

export const SPAN_KINDS = ["unspecified", "internal", "server", "client", "producer", "consumer"] as const;
export type SpanKind = (typeof SPAN_KINDS)[number];
export const SPAN_STATUSES = ["unset", "ok", "error"] as const;
export type SpanStatus = (typeof SPAN_STATUSES)[number];

/** Most rows of one page of logs or spans. */
export const MAX_PAGE_ROWS = 1_000;
/** Most steps of a histogram, trend or heat map. */
export const MAX_STEPS = 500;
/** A question may go over so much time. */
export const MAX_SPAN_MS = 35 * 86_400_000;

export type Attributes = Readonly<Record<string, string>>;

export interface LogLine {
  readonly at: number;
  readonly severity: Severity;
  readonly severityText: string;
  readonly service: string;
  readonly namespace: string;
  readonly pod: string;
  readonly host: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly scope: string;
  readonly event: string;
  readonly body: string;
  /** in decimal digits, since it has 64 bits */
  readonly pattern: string;
  readonly attributes: Attributes;
  readonly resource: Attributes;
}

/** `next`: where the following page begins; null at the end. */
export interface Page<Row> {
  readonly rows: readonly Row[];
  readonly next: string | null;
}

export interface Counted {
  readonly value: string;
  readonly count: number;
}

export interface LogFacets {
  readonly total: number;
  /** most frequent first, as all lists here */
  readonly services: readonly Counted[];
  readonly severities: readonly Counted[];
  readonly namespaces: readonly Counted[];
  readonly pods: readonly Counted[];
  readonly hosts: readonly Counted[];
  /** of `sampled` lines, with those of the resource */
  readonly attributes: readonly { readonly key: string; readonly count: number; readonly values: readonly Counted[] }[];
  readonly sampled: number;
}

/** Lines by step and class; each list is as long as `times`, which are the steps' beginnings. */
export interface LogHistogram {
  readonly stepMs: number;
  readonly times: readonly number[];
  readonly counts: Readonly<Record<Severity, readonly number[]>>;
}

export interface LogPattern {
  /** in decimal digits */
  readonly pattern: string;
  readonly count: number;
  /** the highest */
  readonly severity: Severity;
  /** at most ten */
  readonly services: readonly string[];
  readonly first: number;
  readonly last: number;
  /** one of the lines, cut to 500 characters */
  readonly sample: string;
  /** lines by step */
  readonly trend: readonly number[];
}

export interface LogPatterns {
  /** minutes, when they were counted at intake: then the range is made of whole ones */
  readonly from: number;
  readonly to: number;
  readonly stepMs: number;
  readonly times: readonly number[];
  readonly total: number;
  /** patterns that there are; the most frequent are listed */
  readonly found: number;
  readonly patterns: readonly LogPattern[];
}

export interface SpanRow {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentId: string;
  readonly at: number;
  readonly durationMs: number;
  readonly service: string;
  readonly name: string;
  readonly kind: SpanKind;
  readonly status: SpanStatus;
  readonly statusMessage: string;
}

export interface SpanEvent {
  readonly at: number;
  readonly name: string;
  readonly attributes: Attributes;
}

export interface TraceSpan extends SpanRow {
  /** since the beginning of the trace's first span */
  readonly offsetMs: number;
  /** time that no child span covers */
  readonly selfMs: number;
  readonly namespace: string;
  readonly pod: string;
  readonly host: string;
  readonly scope: string;
  readonly peer: string;
  readonly attributes: Attributes;
  readonly resource: Attributes;
  readonly events: readonly SpanEvent[];
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
}

export interface Trace {
  readonly traceId: string;
  readonly at: number;
  readonly durationMs: number;
  /** in the order of their beginning */
  readonly spans: readonly TraceSpan[];
  /** there are more spans than an answer holds: the first are given */
  readonly truncated: boolean;
}

/** One row per cell that has spans; lists of the same length. Buckets are those of schemas/wire/histogram.ts. */
export interface HeatMap {
  readonly stepMs: number;
  /** beginnings of all steps */
  readonly times: readonly number[];
  readonly at: readonly number[];
  readonly bucket: readonly number[];
  readonly total: readonly number[];
  readonly failed: readonly number[];
}

export interface ErrorCause {
  readonly service: string;
  /** type of the exception that the span has as an event; empty when it has none */
  readonly exception: string;
  /** what the span says is wrong, with its numbers and ids as * */
  readonly message: string;
  readonly count: number;
  /** of all failed spans that were looked at */
  readonly share: number;
  readonly first: number;
  readonly last: number;
  /** names of spans, at most five */
  readonly names: readonly string[];
  /** at most three */
  readonly traceIds: readonly string[];
}

export interface ErrorCauses {
  /** failed spans */
  readonly failed: number;
  readonly causes: readonly ErrorCause[];
}

/**
 * What a service's requests were to, estimated from those that the node agents sampled. Each sampled request stands for
 * `weight` others; `error` is half of the 95 % interval of what sampling alone makes uncertain.
 */
export interface EndpointEstimate {
  readonly endpoint: string;
  readonly kind: SpanKind;
  /** the database, queue ... as its spans name it; "http", or "" */
  readonly system: string;
  /** sampled spans behind the figures */
  readonly samples: number;
  readonly perSecond: number;
  readonly perSecondError: number;
  /** share of 1 */
  readonly failed: number;
  readonly failedError: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

export interface Endpoints {
  /** most requests first */
  readonly endpoints: readonly EndpointEstimate[];
  /** an endpoint that is not among them had fewer requests a second than this, with 95 % */
  readonly unseenPerSecond: number;
}

/** How often a value occurs in the selected spans and in the rest, as shares of 1. */
export interface StandOut {
  readonly key: string;
  /** the greatest difference among its values */
  readonly difference: number;
  readonly values: readonly { readonly value: string; readonly selected: number; readonly rest: number }[];
}

export interface AttributeComparison {
  /** spans that were compared, of each at most as many as MAX_COMPARED */
  readonly selected: number;
  readonly rest: number;
  /** greatest difference first */
  readonly attributes: readonly StandOut[];
}
export const MAX_COMPARED = 5_000;

/** Calls of one service to another as the client's spans saw them; latencies in ms. */
export interface SpanEdge {
  readonly service: string;
  readonly peer: string;
  readonly kind: SpanKind;
  readonly total: number;
  readonly failed: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}
