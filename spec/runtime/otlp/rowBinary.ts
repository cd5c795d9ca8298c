/** Reads RowBinary back by the types of a table's columns: numbers of 64 bits as bigint, fixed strings as hex, maps as pairs. */
import { TABLES, type TableName } from "../../../schemas/tables.ts";

export type Row = Readonly<Record<string, unknown>>;

class Cursor {
  at = 0;
  readonly bytes: Buffer;
  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }
  length(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.bytes.readUInt8(this.at++);
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  }
  take(length: number): Buffer {
    if (this.at + length > this.bytes.length) throw new Error("the rows end within a value");
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }
}

const inner = (type: string): string => type.slice(type.indexOf("(") + 1, -1);

const read = (cursor: Cursor, type: string): unknown => {
  if (type === "String" || type === "LowCardinality(String)") {
    const bytes = cursor.take(cursor.length());
    const text = bytes.toString("utf8");
    if (!Buffer.from(text).equals(bytes)) throw new Error("a string that is not UTF-8");
    return text;
  }
  if (type === "UInt8") return cursor.take(1).readUInt8();
  if (type === "UInt64") return cursor.take(8).readBigUInt64LE();
  if (type === "Int64") return cursor.take(8).readBigInt64LE();
  if (type === "DateTime('UTC')") return cursor.take(4).readUInt32LE();
  if (type.startsWith("DateTime64")) return cursor.take(8).readBigInt64LE();
  if (type.startsWith("Enum8")) return cursor.take(1).readInt8();
  if (type.startsWith("FixedString")) return cursor.take(Number(inner(type))).toString("hex");
  if (type.startsWith("Array")) return Array.from({ length: cursor.length() }, () => read(cursor, inner(type)));
  if (type.startsWith("Map"))
    return Array.from({ length: cursor.length() }, () => [read(cursor, "String"), read(cursor, "String")]);
  throw new Error(`no reader for ${type}`);
};

export const readRows = (table: TableName, bytes: Buffer): Row[] => {
  const cursor = new Cursor(bytes);
  const rows: Row[] = [];
  while (cursor.at < bytes.length)
    rows.push(Object.fromEntries(TABLES[table].columns.map(({ name, type }) => [name, read(cursor, type)])));
  return rows;
};

/** Runs what is cut into steps to its end. */
export const finish = <A>(work: Generator<void, A>): A => {
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
  }
};
