/**
 * Asks that wait for their answer, in this process or from another one. Owned by the kernel. Every one ends: with its
 * answer, its time-out, the end of the actor that was asked, or the end of the system.
 */
import type { ActorPath, Reply } from "./Behavior.ts";
import type { Timers } from "./Timers.ts";

export type Answer = Reply["result"];

interface Open {
  readonly path: ActorPath;
  readonly resolve: (answer: Answer) => void;
}

export class Asks {
  readonly #open = new Map<number, Open>();
  readonly #timers: Timers<() => void>;
  #next = 1;

  constructor(timers: Timers<() => void>) {
    this.#timers = timers;
  }

  get size(): number {
    return this.#open.size;
  }

  open(path: ActorPath, due: number, timeoutMs: number, resolve: (answer: Answer) => void): number {
    const id = this.#next++;
    this.#open.set(id, { path, resolve });
    this.#timers.set(`ask:${id}`, due, () =>
      this.answer(id, { ok: false, error: `no answer from ${path} within ${timeoutMs} ms` }),
    );
    return id;
  }

  /** Ignored when it was answered already, or nobody waits any more. */
  answer(id: number, answer: Answer): void {
    const open = this.#open.get(id);
    if (open === undefined) return;
    this.forget(id);
    open.resolve(answer);
  }

  forget(id: number): void {
    if (this.#open.delete(id)) this.#timers.cancel(`ask:${id}`);
  }

  /** Fails every ask that the actor of that path has not answered; without a path, every ask. */
  fail(error: string, path?: ActorPath): void {
    if (this.#open.size === 0) return;
    for (const [id, open] of this.#open)
      if (path === undefined || open.path === path) this.answer(id, { ok: false, error });
  }
}
