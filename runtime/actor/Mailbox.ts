/**
 * A bounded first-in-first-out queue of envelopes. Owned by one actor cell; never blocks. When it is full the caller
 * decides (merge or shed); the mailbox only says so. A ring that grows by doubling up to its bound, so that ten thousand
 * idle actors cost no array each.
 */
import type { ActorPath, Message } from "./Behavior.ts";

export interface Envelope {
  message: Message;
  readonly from: ActorPath | null;
  /** id of the ask that waits for an answer, 0 = none */
  readonly ask: number;
  /** shared by all messages that one message from outside led to */
  readonly trace: number;
  /** when it was put in, 0 while nobody measures */
  readonly at: number;
}

export class Mailbox {
  readonly bound: number;
  #ring: (Envelope | undefined)[] = [];
  #head = 0;
  #length = 0;

  constructor(bound: number) {
    this.bound = bound;
  }

  get length(): number {
    return this.#length;
  }

  /** False when full: nothing was put in. */
  push(envelope: Envelope): boolean {
    if (this.#length >= this.bound) return false;
    if (this.#length === this.#ring.length) this.#grow();
    this.#ring[(this.#head + this.#length) % this.#ring.length] = envelope;
    this.#length++;
    return true;
  }

  shift(): Envelope | undefined {
    if (this.#length === 0) return undefined;
    const envelope = this.#ring[this.#head];
    this.#ring[this.#head] = undefined;
    this.#head = (this.#head + 1) % this.#ring.length;
    this.#length--;
    if (this.#length === 0 && this.#ring.length > 16) {
      this.#ring = [];
      this.#head = 0;
    }
    return envelope;
  }

  /** The last waiting envelope that the test accepts, looking from the newest. */
  findLast(accepts: (envelope: Envelope) => boolean): Envelope | undefined {
    for (let i = this.#length - 1; i >= 0; i--) {
      const envelope = this.#ring[(this.#head + i) % this.#ring.length];
      if (envelope !== undefined && accepts(envelope)) return envelope;
    }
    return undefined;
  }

  /** Takes out the oldest waiting envelope that the test accepts; false when there is none. */
  dropFirst(accepts: (envelope: Envelope) => boolean): boolean {
    const at = (i: number): number => (this.#head + i) % this.#ring.length;
    for (let i = 0; i < this.#length; i++) {
      const envelope = this.#ring[at(i)];
      if (envelope === undefined || !accepts(envelope)) continue;
      for (let j = i; j + 1 < this.#length; j++) this.#ring[at(j)] = this.#ring[at(j + 1)];
      this.#ring[at(this.#length - 1)] = undefined;
      this.#length--;
      return true;
    }
    return false;
  }

  #grow(): void {
    const next: (Envelope | undefined)[] = Array.from({ length: Math.min(this.bound, Math.max(4, this.#length * 2)) });
    for (let i = 0; i < this.#length; i++) next[i] = this.#ring[(this.#head + i) % this.#ring.length];
    this.#ring = next;
    this.#head = 0;
  }
}
