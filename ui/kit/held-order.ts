/**
 * Order of rows under the reader's eyes. While held (pointer or focus in the table) the rows shown keep their order,
 * rows that are gone leave, and new rows wait and are counted. Pure: the table keeps what it returned.
 */
export interface Held {
  readonly order: readonly string[];
  /** rows that wait to be shown */
  readonly fresh: number;
}

/** `sorted` is what the order would be now. */
export const nextOrder = (shown: readonly string[], sorted: readonly string[], hold: boolean): Held => {
  if (!hold) return { order: sorted, fresh: 0 };
  const now = new Set(sorted);
  const order = shown.filter((key) => now.has(key));
  return { order, fresh: sorted.length - order.length };
};
