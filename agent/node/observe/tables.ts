/**
 * Wire tables of a window, out of wire edges. Owned by the fold, which hands over the edges that changed; each table takes
 * what it tells, so that nothing is told twice. Plain functions; nothing here fails.
 */
import { emptyTable, encodeTable, type WireTable } from "../../../schemas/wire/columns.ts";
import { HIST_SHAPE, L7_SHAPE, TCP_SHAPE, TROUBLE_SHAPE } from "../../../schemas/wire/observe.ts";
import type { WireEdge } from "./WireEdge.ts";

/** TCP rows of the edges that changed; empties what it takes. */
export const tcpTable = (wires: readonly WireEdge[], used: Set<number>): WireTable | null => {
  const rows = wires.filter((wire) => wire.tcpDirty);
  if (rows.length === 0) return null;
  const table = emptyTable(TCP_SHAPE, rows.length);
  for (const [i, wire] of rows.entries()) {
    used.add(wire.definition.id);
    table.edge[i] = wire.definition.id;
    table.opens[i] = wire.opens;
    table.failed[i] = wire.failed;
    table.closes[i] = wire.closes;
    table.active[i] = Math.max(0, wire.active);
    table.bytesOut[i] = wire.bytesOut;
    table.bytesIn[i] = wire.bytesIn;
    table.retransmits[i] = wire.retransmits;
    table.connectUs[i] = wire.connectUs;
    table.rttUs[i] = wire.rttUs;
    table.rttCount[i] = wire.rttCount;
    wire.clearTcp();
  }
  return encodeTable(TCP_SHAPE, table);
};

/** What went wrong on the edges that changed; empties what it takes. */
export const troubleTable = (wires: readonly WireEdge[], used: Set<number>): WireTable | null => {
  let rows = 0;
  for (const { troubles } of wires) if (troubles !== null) for (const n of troubles.now) if (n > 0) rows++;
  if (rows === 0) return null;
  const table = emptyTable(TROUBLE_SHAPE, rows);
  let at = 0;
  for (const { definition, troubles } of wires) {
    if (troubles === null) continue;
    for (const [kind, count] of troubles.now.entries()) {
      if (count === 0) continue;
      used.add(definition.id);
      table.edge[at] = definition.id;
      table.kind[at] = kind;
      table.count[at] = count;
      at++;
    }
    troubles.now.fill(0);
  }
  return encodeTable(TROUBLE_SHAPE, table);
};

/** Finished requests with their histograms; empties what it takes. */
export const requestTables = (
  wires: readonly WireEdge[],
  used: Set<number>,
): { readonly l7: WireTable | null; readonly hist: WireTable | null } => {
  let rows = 0;
  let buckets = 0;
  for (const wire of wires)
    for (const cell of wire.cells) {
      if (cell === undefined || cell.count === 0) continue;
      rows++;
      for (let b = cell.low; b <= cell.high; b++) if (cell.histogram[b] !== 0) buckets++;
    }
  if (rows === 0) return { l7: null, hist: null };
  const l7 = emptyTable(L7_SHAPE, rows);
  const hist = emptyTable(HIST_SHAPE, buckets);
  let row = 0;
  let at = 0;
  for (const wire of wires)
    for (const cell of wire.cells) {
      if (cell === undefined || cell.count === 0) continue;
      used.add(wire.definition.id);
      l7.edge[row] = wire.definition.id;
      l7.protocol[row] = cell.protocol;
      l7.status[row] = cell.status;
      l7.count[row] = cell.count;
      l7.sumUs[row] = cell.sumUs;
      for (let b = cell.low; b <= cell.high; b++) {
        const count = cell.histogram[b] ?? 0;
        if (count === 0) continue;
        hist.row[at] = row;
        hist.bucket[at] = b;
        hist.count[at] = count;
        at++;
      }
      cell.clear();
      row++;
    }
  return { l7: encodeTable(L7_SHAPE, l7), hist: encodeTable(HIST_SHAPE, hist) };
};
