/**
 * Rows of one request, cut by day (the store's partitions). Owned by one decoder. Bounded: when the rows of a request
 * take more than the limit, as a large resource on many small records would, the request is refused with TooLarge.
 */
import { LIMITS } from "./limits.ts";
import { RowWriter, type Repairs } from "./RowWriter.ts";

export class TooLarge extends Error {
  constructor(
    message = `the request's rows take more than ${LIMITS.rowsBytes} bytes in the store: send fewer records at once`,
  ) {
    super(message);
    this.name = "TooLarge";
  }
}

const DAY_MS = 86_400_000;
const DAY_NS = DAY_MS * 1e6;
const WORD = 2 ** 32;
const FIRST_BYTES = 4096;
/** Above the error of a time in nanoseconds as a double. */
const DOUBTFUL_NS = 1024;

/** Days since 1970 of a time in nanoseconds, given as two halves. */
export const dayOf = (low: number, high: number): number => {
  const near = high * WORD + low;
  const day = Math.floor(near / DAY_NS);
  const within = near - day * DAY_NS;
  if (within > DOUBTFUL_NS && within < DAY_NS - DOUBTFUL_NS) return day;
  return Number(((BigInt(high) << 32n) | BigInt(low)) / BigInt(DAY_NS));
};

export const msOf = (low: number, high: number): number => (high * WORD + low) / 1e6;

export class DayRows {
  private readonly repairs: Repairs;
  private readonly expected: number;
  private readonly writers = new Map<number, RowWriter>();
  private lastDay = -1;
  private last: RowWriter | null = null;
  private closedBytes = 0;
  private rowStart = 0;
  rows = 0;
  fromMs = Number.POSITIVE_INFINITY;
  toMs = 0;

  /** `requestBytes`: rows take more than their request, since each has its resource. Most requests are of one day. */
  constructor(repairs: Repairs, requestBytes: number) {
    this.repairs = repairs;
    this.expected = FIRST_BYTES + Math.ceil(requestBytes * 1.75);
  }

  /** Where the next row goes. `end` must follow. */
  begin(low: number, high: number): RowWriter {
    const ms = msOf(low, high);
    if (ms < this.fromMs) this.fromMs = ms;
    if (ms > this.toMs) this.toMs = ms;
    const day = dayOf(low, high);
    let writer = this.last;
    if (writer === null || day !== this.lastDay) {
      writer = this.writers.get(day) ?? null;
      if (writer === null) {
        writer = new RowWriter(this.repairs, this.writers.size === 0 ? this.expected : FIRST_BYTES);
        this.writers.set(day, writer);
      }
      this.lastDay = day;
      this.last = writer;
    }
    this.rowStart = writer.at;
    return writer;
  }

  end(writer: RowWriter): void {
    this.rows++;
    this.closedBytes += writer.at - this.rowStart;
    if (this.closedBytes > LIMITS.rowsBytes) throw new TooLarge();
  }

  days(): ReadonlyMap<number, Buffer> {
    return new Map([...this.writers].map(([day, writer]) => [day, writer.take()]));
  }
}
