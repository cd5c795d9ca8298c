/**
 * Messages due later, by owner and key: a binary heap ordered by time, cancelled lazily. Owned by the actor system,
 * whose metronome asks it what is due; it has no clock and no fiber of its own.
 */
interface Entry<T> {
  readonly due: number;
  readonly id: string;
  readonly value: T;
  live: boolean;
}

export class Timers<T> {
  readonly #heap: Entry<T>[] = [];
  readonly #byId = new Map<string, Entry<T>>();

  get size(): number {
    return this.#byId.size;
  }

  set(id: string, due: number, value: T): void {
    this.cancel(id);
    const entry: Entry<T> = { due, id, value, live: true };
    this.#byId.set(id, entry);
    this.#heap.push(entry);
    let i = this.#heap.length - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!this.#swapIfEarlier(i, parent)) break;
      i = parent;
    }
  }

  cancel(id: string): void {
    const entry = this.#byId.get(id);
    if (entry === undefined) return;
    entry.live = false;
    this.#byId.delete(id);
  }

  /** Takes out everything due at or before `now`, earliest first. */
  due(now: number): T[] {
    const out: T[] = [];
    for (let first = this.#heap[0]; first !== undefined && first.due <= now; first = this.#heap[0]) {
      this.#pop();
      if (!first.live) continue;
      this.#byId.delete(first.id);
      out.push(first.value);
    }
    return out;
  }

  #pop(): void {
    const last = this.#heap.pop();
    if (last === undefined || this.#heap.length === 0) return;
    this.#heap[0] = last;
    let i = 0;
    for (;;) {
      const left = 2 * i + 1;
      const right = left + 1;
      let child = left;
      const l = this.#heap[left];
      const r = this.#heap[right];
      if (l === undefined) break;
      if (r !== undefined && r.due < l.due) child = right;
      if (!this.#swapIfEarlier(child, i)) break;
      i = child;
    }
  }

  #swapIfEarlier(child: number, parent: number): boolean {
    const c = this.#heap[child];
    const p = this.#heap[parent];
    if (c === undefined || p === undefined || c.due >= p.due) return false;
    this.#heap[child] = p;
    this.#heap[parent] = c;
    return true;
  }
}
