/**
 * Order of rows under the reader's eyes. While held (pointer or focus in the table) the rows shown keep their order,
 * rows that are gone leave, and new rows wait and are counted. Otherwise rows are sorted anew at most every three
 * seconds, at once when another order is asked for or when rows come or go. One keeper belongs to one table.
 */
export interface Held {
  readonly order: readonly string[];
  /** rows that wait to be shown */
  readonly fresh: number;
}

export interface OrderKeeper {
  /** `asked` names the sort order; `sorted` is called only when rows are sorted anew */
  readonly next: (
    rows: ReadonlyMap<string, unknown>,
    asked: string,
    hold: boolean,
    sorted: () => readonly string[],
  ) => Held;
  /** show what waits, now */
  readonly release: () => void;
}

const RESORT_MS = 3000;

export const makeOrderKeeper = (now: () => number): OrderKeeper => {
  let order: readonly string[] = [];
  let sortedAt = -Infinity;
  let sortedBy = "";
  return {
    next: (rows, asked, hold, sorted) => {
      const kept = order.filter((key) => rows.has(key));
      const fresh = rows.size - kept.length;
      const sameRows = fresh === 0 && kept.length === order.length;
      const keep = asked === sortedBy && order.length > 0 && (hold || (sameRows && now() - sortedAt < RESORT_MS));
      if (!keep) {
        order = sorted();
        sortedAt = now();
        sortedBy = asked;
        return { order, fresh: 0 };
      }
      order = kept;
      return { order, fresh };
    },
    release: () => {
      sortedAt = -Infinity;
      order = [];
    },
  };
};
