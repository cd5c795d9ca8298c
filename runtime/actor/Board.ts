/**
 * The read model of the process: what actors published, by board and key. Written by the kernel when it interprets
 * `publish`, read by page topics without asking anybody. Nothing here is state of record; it dies with the process.
 */
export class Board {
  readonly #boards = new Map<string, Map<string, unknown>>();
  readonly #listeners = new Set<(board: string) => void>();

  publish(board: string, key: string, value: unknown): void {
    let entries = this.#boards.get(board);
    if (entries === undefined) {
      entries = new Map();
      this.#boards.set(board, entries);
    }
    if (value === null) entries.delete(key);
    else entries.set(key, value);
    for (const listener of this.#listeners) listener(board);
  }

  read(board: string): ReadonlyMap<string, unknown> {
    return this.#boards.get(board) ?? new Map();
  }

  /** Called after each change with the board's name; returns how to stop. */
  onChange(listener: (board: string) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}
