/** Rows of the server's own tables as an effect: queued by the store's writer, nobody waits for them. */
import type { ActorEffect } from "../runtime/actor/Behavior.ts";
import type { DerivedRow, DerivedTable } from "../schemas/tables.ts";

export const ROWS_PORT = "rows";

/** Request of the port "rows". */
export interface RowsRequest<T extends DerivedTable = DerivedTable> {
  readonly table: T;
  readonly rows: readonly DerivedRow[T][];
}

export const rows = <T extends DerivedTable>(table: T, list: readonly DerivedRow[T][]): ActorEffect => {
  const request: RowsRequest<T> = { table, rows: list };
  return { kind: "perform", port: ROWS_PORT, request, tag: null };
};
