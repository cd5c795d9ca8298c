/**
 * The store lane's memory on disk: numbered segments of checked records, sent in order and removed when acknowledged.
 * Owned by the node agent. A torn tail after a crash is cut off and counted; above the size limit the oldest segment goes
 * and its unsent records are counted; a disk that refuses is counted too, and the agent goes on. Each life and each
 * segment start their own dictionary. `close` flushes and closes the open segment.
 */
import {
  closeSync,
  fdatasync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  truncateSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { RECORD_HEAD, scanRecords, writeRecord, type RecordPlace } from "./record.ts";

export interface SpoolOptions {
  readonly folder: string;
  readonly maxBytes: number;
  /** a segment is closed at this size, or at this number of records */
  readonly segmentBytes: number;
  readonly segmentRecords: number;
}

export interface SpoolStats {
  bytes: number;
  /** records on disk that are not acknowledged */
  waiting: number;
  /** records that were dropped before they were acknowledged: limit, or a disk that refused */
  dropped: number;
  /** bytes cut off behind the last whole record at start */
  tornBytes: number;
  writeErrors: number;
  lastError: string;
}

interface Segment {
  readonly number: number;
  readonly path: string;
  bytes: number;
  records: RecordPlace[];
  acked: boolean[];
}

export interface SpoolEntry {
  readonly epoch: number;
  readonly sequence: number;
  readonly bytes: Uint8Array;
  /** earlier records of the same segment that were not handed out on this connection: they may hold definitions */
  readonly before: readonly Uint8Array[];
}

const NAME = /^(\d{12})\.seg$/;
const message = (error: unknown): string => (error instanceof Error ? error.message : String(error));

export class Spool {
  readonly stats: SpoolStats = { bytes: 0, waiting: 0, dropped: 0, tornBytes: 0, writeErrors: 0, lastError: "" };
  private readonly options: SpoolOptions;
  private readonly segments: Segment[] = [];
  private fd = -1;
  private open: Segment | null = null;
  private nextNumber = 1;
  /** where the next record to hand out is */
  private cursor = { segment: 0, record: 0 };
  /** the segment whose definitions this connection has heard */
  private heard = 0;
  /** handed out since the last rewind and not acknowledged */
  underWay = 0;
  private syncing = false;

  /** Reads what an earlier life left. Throws when the folder cannot be made or listed. */
  constructor(options: SpoolOptions) {
    this.options = options;
    mkdirSync(options.folder, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(options.folder).toSorted()) {
      const number = Number(NAME.exec(name)?.[1] ?? Number.NaN);
      if (!Number.isFinite(number)) continue;
      this.nextNumber = Math.max(this.nextNumber, number + 1);
      this.recover(number, join(options.folder, name));
    }
    this.rewind();
  }

  /**
   * Adds a record. `make` is told whether it is the first of its segment, and so must define all it names. False when it
   * could not be written, which is counted.
   */
  append(epoch: number, sequence: number, make: (firstOfSegment: boolean) => Uint8Array): boolean {
    try {
      const full =
        this.open === null ||
        this.open.bytes >= this.options.segmentBytes ||
        this.open.records.length >= this.options.segmentRecords;
      const segment = full || this.open === null ? this.rotate() : this.open;
      const record = writeRecord(epoch, sequence, make(segment.records.length === 0));
      writeAll(this.fd, record, segment.bytes);
      segment.records.push({ epoch, sequence, offset: segment.bytes, length: record.length });
      segment.acked.push(false);
      segment.bytes += record.length;
      this.stats.bytes += record.length;
      this.stats.waiting++;
      this.limit();
      return true;
    } catch (error) {
      this.refused(error);
      this.stats.dropped++;
      // Half a record may be on disk: what follows must not come behind it, nor lean on its definitions.
      this.seal();
      return false;
    }
  }

  /** Makes what was written durable, without blocking; one at a time. */
  sync(): void {
    if (this.fd < 0 || this.syncing) return;
    this.syncing = true;
    fdatasync(this.fd, (error) => {
      this.syncing = false;
      // The segment may have been closed meanwhile, after its own flush.
      if (error !== null && error.code !== "EBADF") this.refused(error);
    });
  }

  /** A new connection: everything that is not acknowledged is handed out again. */
  rewind(): void {
    this.cursor = { segment: this.segments[0]?.number ?? this.nextNumber, record: 0 };
    this.heard = 0;
    this.underWay = 0;
  }

  /** The next record to send, null when there is none. */
  next(): SpoolEntry | null {
    for (const segment of this.segments) {
      if (segment.number < this.cursor.segment) continue;
      if (segment.number > this.cursor.segment) this.cursor = { segment: segment.number, record: 0 };
      while (this.cursor.record < segment.records.length) {
        const at = this.cursor.record++;
        const place = segment.records[at];
        if (place === undefined || segment.acked[at] === true) continue;
        const before = this.heard === segment.number ? [] : segment.records.slice(0, at);
        const loaded = this.load(segment, [...before, place]);
        const bytes = loaded?.pop();
        if (loaded === null || bytes === undefined) {
          segment.acked[at] = true;
          this.stats.waiting--;
          this.stats.dropped++;
          continue;
        }
        this.heard = segment.number;
        this.underWay++;
        return { epoch: place.epoch, sequence: place.sequence, bytes, before: loaded };
      }
    }
    return null;
  }

  /** Everything up to `upTo` of that life is durable at the server. */
  ack(epoch: number, upTo: number): void {
    for (const segment of this.segments)
      for (const [i, record] of segment.records.entries())
        if (record.epoch === epoch && record.sequence <= upTo && segment.acked[i] === false) {
          segment.acked[i] = true;
          this.stats.waiting--;
          const handedOut =
            segment.number < this.cursor.segment || (segment.number === this.cursor.segment && i < this.cursor.record);
          if (handedOut) this.underWay = Math.max(0, this.underWay - 1);
        }
    for (const segment of this.segments.slice())
      if (segment !== this.open && segment.acked.every(Boolean)) this.removeSegment(segment);
  }

  close(): void {
    this.seal();
  }

  private recover(number: number, path: string): void {
    try {
      const bytes = readFileSync(path);
      const { records, valid } = scanRecords(bytes);
      if (valid < bytes.length) {
        this.stats.tornBytes += bytes.length - valid;
        truncateSync(path, valid);
      }
      if (records.length === 0) return rmSync(path);
      this.segments.push({
        number,
        path,
        bytes: valid,
        records: [...records],
        acked: records.map(() => false),
      });
      this.stats.bytes += valid;
      this.stats.waiting += records.length;
    } catch (error) {
      this.refused(error);
    }
  }

  private rotate(): Segment {
    this.seal();
    const number = this.nextNumber++;
    const path = join(this.options.folder, `${String(number).padStart(12, "0")}.seg`);
    this.fd = openSync(path, "wx", 0o600);
    const segment: Segment = { number, path, bytes: 0, records: [], acked: [] };
    this.segments.push(segment);
    this.open = segment;
    return segment;
  }

  private seal(): void {
    const { fd, open } = this;
    this.fd = -1;
    this.open = null;
    if (fd >= 0)
      try {
        fsyncSync(fd);
        closeSync(fd);
      } catch (error) {
        this.refused(error);
      }
    if (open !== null && open.acked.every(Boolean)) this.removeSegment(open);
  }

  private limit(): void {
    while (this.stats.bytes > this.options.maxBytes && this.segments.length > 0) {
      const oldest = this.segments[0];
      if (oldest === undefined) return;
      if (oldest === this.open) {
        // A single record above the limit stays: dropping it would leave nothing to send at all.
        if (oldest.records.length <= 1) return;
        this.seal();
        if (!this.segments.includes(oldest)) continue;
      }
      this.stats.dropped += oldest.acked.filter((acked) => !acked).length;
      this.removeSegment(oldest);
    }
  }

  private removeSegment(segment: Segment): void {
    const at = this.segments.indexOf(segment);
    if (at < 0) return;
    this.segments.splice(at, 1);
    this.stats.bytes -= segment.bytes;
    for (const [i, acked] of segment.acked.entries())
      if (!acked) {
        this.stats.waiting--;
        const handedOut =
          segment.number < this.cursor.segment || (segment.number === this.cursor.segment && i < this.cursor.record);
        if (handedOut) this.underWay = Math.max(0, this.underWay - 1);
      }
    try {
      rmSync(segment.path);
    } catch (error) {
      this.refused(error);
    }
  }

  private load(segment: Segment, places: readonly RecordPlace[]): Uint8Array[] | null {
    try {
      const fd = openSync(segment.path, "r");
      try {
        return places.map((place) => {
          const bytes = Buffer.alloc(place.length - RECORD_HEAD);
          readSync(fd, bytes, 0, bytes.length, place.offset + RECORD_HEAD);
          return bytes;
        });
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      this.refused(error);
      return null;
    }
  }

  private refused(error: unknown): void {
    this.stats.writeErrors++;
    this.stats.lastError = message(error);
  }
}

const writeAll = (fd: number, bytes: Buffer, position: number): void => {
  let written = 0;
  while (written < bytes.length) written += writeSync(fd, bytes, written, bytes.length - written, position + written);
};
