/**
 * The read model of the process: what actors published, and what they show when asked (`shows`), by board and key.
 * Written by the kernel, read by page topics without asking anybody. Nothing here is state of record; it dies with the
 * process.
 */
export class Board {
  readonly #boards = new Map<string, Map<string, unknown>>();
  readonly #listeners = new Set<(board: string) => void>();
  readonly #shown: (board: string) => Iterable<readonly [string, unknown]>;

  constructor(shown: (board: string) => Iterable<readonly [string, unknown]>) {
    this.#shown = shown;
  }

  publish(board: string, key: string, value: unknown): void {
    let entries = this.#boards.get(board);
    if (entries === undefined) {
      entries = new Map();
      this.#boards.set(board, entries);
    }
    if (value === null) entries.delete(key);
    else entries.set(key, value);
    this.#tell(board);
  }

  /** What was published, by key, and what actors show now, by path. */
  read(board: string): ReadonlyMap<string, unknown> {
    const out = new Map(this.#boards.get(board));
    for (const [path, value] of this.#shown(board)) out.set(path, value);
    return out;
  }

  /** Once a second: what actors show may have changed. */
  beat(): void {
    this.#tell("");
  }

  /** Called after each change with the board's name; returns how to stop. */
  onChange(listener: (board: string) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  #tell(board: string): void {
    for (const listener of this.#listeners) listener(board);
  }
}
