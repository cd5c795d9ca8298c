/**
 * The read model of the process: what actors published, and what they show when asked (`shows`), by board and key; and
 * the same of other processes, as far as it was fetched. Written by the kernel, read by page topics without asking
 * anybody. Nothing here is state of record; it dies with the process.
 */
export class Board {
  readonly #boards = new Map<string, Map<string, unknown>>();
  readonly #others = new Map<string, Map<string, Map<string, unknown>>>();
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

  /** What was published, by key, and what actors show now, by path: of all processes, ours last. */
  read(board: string): ReadonlyMap<string, unknown> {
    const out = new Map<string, unknown>();
    for (const boards of this.#others.values()) for (const [key, value] of boards.get(board) ?? []) out.set(key, value);
    for (const [key, value] of this.local(board)) out.set(key, value);
    return out;
  }

  *local(board: string): Iterable<readonly [string, unknown]> {
    yield* this.#boards.get(board) ?? [];
    yield* this.#shown(board);
  }

  /** An entry of another process; null removes it. The latest to be fetched wins over others of the same key. */
  mirror(process: string, board: string, key: string, value: unknown): void {
    let boards = this.#others.get(process);
    if (boards === undefined) {
      boards = new Map();
      this.#others.set(process, boards);
    }
    let entries = boards.get(board);
    if (entries === undefined) {
      entries = new Map();
      boards.set(board, entries);
    }
    if (value === null) entries.delete(key);
    else entries.set(key, value);
  }

  forget(process: string): void {
    this.#others.delete(process);
  }

  get mirrored(): readonly string[] {
    return [...this.#others.keys()];
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
