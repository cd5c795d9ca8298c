/**
 * Counters of one wire edge: what one instance and one peer did on one port, summed over the processes and sockets of the
 * instance. Owned by the fold, which adds rows during a window and empties it at the end; totals since the agent's start
 * stay for the store lane. Plain data.
 */
import { bucketUpperMs, HISTOGRAM_BUCKETS } from "../../../schemas/wire/histogram.ts";
import { TROUBLES, type EdgeDefinition } from "../../../schemas/wire/observe.ts";

/** Coroot's latency buckets in seconds; the last counter of a cell's `le` is +Inf. */
export const LE_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;

/** For each bucket of ours the first of these (upper bounds in seconds, ascending) that is sure to hold all of it. */
export const bucketsInto = (bounds: readonly number[]): Uint8Array =>
  Uint8Array.from({ length: HISTOGRAM_BUCKETS }, (_, bucket) => {
    // The last of ours is open above.
    const upper = bucket === HISTOGRAM_BUCKETS - 1 ? Number.POSITIVE_INFINITY : bucketUpperMs(bucket) / 1000;
    const at = bounds.findIndex((le) => upper <= le * 1.0001);
    return at < 0 ? bounds.length : at;
  });
const LE_OF = bucketsInto(LE_SECONDS);

/** Requests of one protocol and status. */
export class RequestCell {
  readonly protocol: number;
  readonly status: number;
  count = 0;
  sumUs = 0;
  readonly histogram = new Uint32Array(HISTOGRAM_BUCKETS);
  low = HISTOGRAM_BUCKETS;
  high = -1;
  totalCount = 0;
  totalSumUs = 0;
  readonly totalLe = new Float64Array(LE_SECONDS.length + 1);

  constructor(protocol: number, status: number) {
    this.protocol = protocol;
    this.status = status;
  }

  add(count: number, sumUs: number): void {
    this.count += count;
    this.sumUs += sumUs;
    this.totalCount += count;
    this.totalSumUs += sumUs;
  }

  addBucket(bucket: number, count: number): void {
    this.histogram[bucket] = (this.histogram[bucket] ?? 0) + count;
    if (bucket < this.low) this.low = bucket;
    if (bucket > this.high) this.high = bucket;
    const le = LE_OF[bucket] ?? LE_SECONDS.length;
    this.totalLe[le] = (this.totalLe[le] ?? 0) + count;
  }

  clear(): void {
    this.count = 0;
    this.sumUs = 0;
    if (this.high >= 0) this.histogram.fill(0, this.low, this.high + 1);
    this.low = HISTOGRAM_BUCKETS;
    this.high = -1;
  }
}

export const TCP_SUMS = [
  "opens",
  "failed",
  "closes",
  "bytesOut",
  "bytesIn",
  "retransmits",
  "connectUs",
  "rttUs",
  "rttCount",
] as const;
export type TcpSum = (typeof TCP_SUMS)[number];

export class WireEdge {
  readonly definition: EdgeDefinition;
  readonly key: string;
  /** probe edges that feed this one */
  sources = 0;
  lastUsedMs = 0;
  /** open connections now, over all sources */
  active = 0;
  tcpDirty = false;
  opens = 0;
  failed = 0;
  closes = 0;
  bytesOut = 0;
  bytesIn = 0;
  retransmits = 0;
  connectUs = 0;
  rttUs = 0;
  rttCount = 0;
  readonly totals: Record<TcpSum, number> = {
    opens: 0,
    failed: 0,
    closes: 0,
    bytesOut: 0,
    bytesIn: 0,
    retransmits: 0,
    connectUs: 0,
    rttUs: 0,
    rttCount: 0,
  };
  /** where its connections went last, when that is not what was dialled */
  actual: { readonly address: string; readonly port: number } | null = null;
  /** how many such places there were */
  places = 0;
  /** by kind, in this window and since the agent's start; null: there were none */
  troubles: { readonly now: Uint32Array; readonly totals: Float64Array } | null = null;
  /** by protocol × 8 + status */
  readonly cells: (RequestCell | undefined)[] = [];
  queued = false;

  constructor(definition: EdgeDefinition, key: string) {
    this.definition = definition;
    this.key = key;
  }

  cell(protocol: number, status: number): RequestCell {
    return (this.cells[protocol * 8 + status] ??= new RequestCell(protocol, status));
  }

  addTrouble(kind: number, count: number): void {
    this.troubles ??= { now: new Uint32Array(TROUBLES.length), totals: new Float64Array(TROUBLES.length) };
    this.troubles.now[kind] = (this.troubles.now[kind] ?? 0) + count;
    this.troubles.totals[kind] = (this.troubles.totals[kind] ?? 0) + count;
  }

  clearTcp(): void {
    for (const name of TCP_SUMS) {
      this.totals[name] += this[name];
      this[name] = 0;
    }
    this.tcpDirty = false;
  }
}
