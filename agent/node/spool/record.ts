/**
 * One record of a spool segment: a fixed little-endian head, then the bytes.
 *
 *   0  u32  length of the bytes
 *   4  u32  CRC-32 of everything after this field
 *   8  f64  epoch of the agent's life that made it
 *   16 f64  sequence in that epoch
 *
 * Pure; owned by the spool. A head or body that does not fit, or a wrong sum, ends what can be read of the segment.
 */
import { crc32 } from "node:zlib";

export const RECORD_HEAD = 24;
const MAX_RECORD = 16 * 1024 * 1024;

export interface RecordPlace {
  readonly epoch: number;
  readonly sequence: number;
  /** of the whole record in its segment */
  readonly offset: number;
  readonly length: number;
}

export const writeRecord = (epoch: number, sequence: number, bytes: Uint8Array): Buffer => {
  const record = Buffer.alloc(RECORD_HEAD + bytes.byteLength);
  record.writeUInt32LE(bytes.byteLength, 0);
  record.writeDoubleLE(epoch, 8);
  record.writeDoubleLE(sequence, 16);
  record.set(bytes, RECORD_HEAD);
  record.writeUInt32LE(crc32(record.subarray(8)), 4);
  return record;
};

/** All whole records from the beginning, and how many bytes they take; what follows is torn or damaged. */
export const scanRecords = (segment: Buffer): { readonly records: readonly RecordPlace[]; readonly valid: number } => {
  const records: RecordPlace[] = [];
  let offset = 0;
  while (offset + RECORD_HEAD <= segment.length) {
    const length = segment.readUInt32LE(offset) + RECORD_HEAD;
    if (length > MAX_RECORD || offset + length > segment.length) break;
    if (crc32(segment.subarray(offset + 8, offset + length)) !== segment.readUInt32LE(offset + 4)) break;
    records.push({
      epoch: segment.readDoubleLE(offset + 8),
      sequence: segment.readDoubleLE(offset + 16),
      offset,
      length,
    });
    offset += length;
  }
  return { records, valid: offset };
};
