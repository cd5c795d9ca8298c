/**
 * Resource and scope of the records that follow, as the columns that are the same for all of them: encoded once and
 * copied into each row. Owned by one decoder. The columns are those of `origin` in schemas/tables.ts.
 */
import { LIMITS } from "./limits.ts";
import { RowWriter, type Repairs } from "./RowWriter.ts";
import { keyValue, Places, valueText, writeValue } from "./values.ts";
import type { Cursor } from "../doors/Protobuf.ts";

const UNKNOWN_SERVICE = "unknown_service";
/** Attributes that become columns, in the columns' order. */
const LIFTED = ["service.name", "k8s.namespace.name", "k8s.pod.name", "host.name"] as const;

export class Origin {
  private readonly row: RowWriter;
  private readonly repairs: Repairs;
  private readonly places = new Places(LIMITS.attributes);
  private resourceEnd = 0;

  constructor(repairs: Repairs) {
    this.repairs = repairs;
    this.row = new RowWriter(repairs, 1024);
  }

  /** The Resource message from `start` up to `end`; an absent one is an empty one. */
  resource(reader: Cursor, start: number, end: number): void {
    const { row, places } = this;
    places.count = 0;
    reader.at = start;
    while (reader.at < end) {
      const field = reader.field(end);
      if (reader.isSpan(end) && field === 1) places.add(reader.start, reader.at, this.repairs);
    }
    const lifted = new Map<string, string>();
    const others: number[] = [];
    for (let i = 0; i < places.count; i++) {
      const pair = keyValue(reader, places.starts[i] ?? 0, places.ends[i] ?? 0);
      const { valueStart, valueEnd } = pair;
      const name = reader.bytes.toString("latin1", pair.keyStart, Math.min(pair.keyEnd, pair.keyStart + 32));
      const known = LIFTED.find((one) => one === name);
      if (known === undefined || lifted.has(known)) others.push(i);
      else lifted.set(known, valueText(reader, valueStart, valueEnd));
    }
    row.at = 0;
    for (const name of LIFTED) {
      const text = lifted.get(name) ?? "";
      row.string(text === "" && name === "service.name" ? UNKNOWN_SERVICE : text, LIMITS.nameBytes);
    }
    row.length(others.length);
    for (const i of others) {
      const { keyStart, keyEnd, valueStart, valueEnd } = keyValue(reader, places.starts[i] ?? 0, places.ends[i] ?? 0);
      row.text(reader.bytes, keyStart, keyEnd, LIMITS.nameBytes);
      writeValue(reader, valueStart, valueEnd, row, LIMITS.valueBytes);
    }
    this.resourceEnd = row.at;
  }

  /** The InstrumentationScope from `start` up to `end`, of which the name is kept. */
  scope(reader: Cursor, start: number, end: number): void {
    let from = start;
    let to = start;
    reader.at = start;
    while (reader.at < end) {
      const field = reader.field(end);
      if (!reader.isSpan(end) || field !== 1) continue;
      from = reader.start;
      to = reader.at;
    }
    this.row.at = this.resourceEnd;
    this.row.text(reader.bytes, from, to, LIMITS.nameBytes);
  }

  copyInto(out: RowWriter): void {
    out.raw(this.row.bytes, 0, this.row.at);
  }
}
