/**
 * Durable messages that were handed to an actor here and have not had their effect yet. Owned by the kernel. When the
 * actor restarts they are told again, except the one that killed it; when it stops, whoever keeps them hands them over
 * again later.
 */
import type { ActorPath, Message } from "./Behavior.ts";
import type { Settled } from "./Outside.ts";

interface Receipt {
  readonly path: ActorPath;
  readonly message: Message;
  readonly settle: (how: Settled) => void;
}

export class Receipts {
  readonly #open = new Map<string, Receipt>();

  get size(): number {
    return this.#open.size;
  }

  has(key: string): boolean {
    return this.#open.has(key);
  }

  open(key: string, receipt: Receipt): void {
    this.#open.set(key, receipt);
  }

  settle(key: string, how: Settled): void {
    const receipt = this.#open.get(key);
    if (receipt === undefined) return;
    this.#open.delete(key);
    receipt.settle(how);
  }

  /** The message that killed its actor, if it was a durable one, is not kept any longer. */
  poisoned(message: Message): void {
    for (const [key, receipt] of this.#open) if (receipt.message === message) this.settle(key, "poison");
  }

  of(path: ActorPath): readonly { readonly key: string; readonly message: Message }[] {
    if (this.#open.size === 0) return [];
    return [...this.#open].filter(([, r]) => r.path === path).map(([key, { message }]) => ({ key, message }));
  }

  stopped(path: ActorPath): void {
    for (const { key } of this.of(path)) this.settle(key, "again");
  }
}
