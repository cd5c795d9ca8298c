/**
 * Numbers by 64-bit keys: an open-addressed table in typed arrays, for ids and hashes of which there are many. Owned by
 * whoever fills it. Slots are chosen by a seed of this process, so that nobody can send keys that all fall on one slot.
 * Values are not negative. Nothing to stop.
 */
import { randomBytes } from "node:crypto";

const SEED = randomBytes(4).readInt32LE(0);
const FIRST_SLOTS = 64;
export const ABSENT = -1;

export class Keys64 {
  size = 0;
  private lows = new Uint32Array(FIRST_SLOTS);
  private highs = new Uint32Array(FIRST_SLOTS);
  private values = new Int32Array(FIRST_SLOTS).fill(ABSENT);
  private mask = FIRST_SLOTS - 1;

  get(low: number, high: number): number {
    return this.values[this.slot(low, high)] ?? ABSENT;
  }

  set(low: number, high: number, value: number): void {
    let slot = this.slot(low, high);
    if (this.values[slot] === ABSENT) {
      if (++this.size * 2 > this.mask) {
        this.resize(this.values.length * 2);
        slot = this.slot(low, high);
      }
      this.lows[slot] = low;
      this.highs[slot] = high;
    }
    this.values[slot] = value;
  }

  /** Room for so many keys, so that it need not grow on the way. */
  reserve(keys: number): void {
    let slots = this.values.length;
    while (slots < 2 * keys) slots *= 2;
    if (slots > this.values.length) this.resize(slots);
  }

  private slot(low: number, high: number): number {
    const { lows, highs, values, mask } = this;
    let mixed = Math.imul(low ^ SEED, 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 15) ^ high, 0xc2b2ae35);
    for (let slot = (mixed ^ (mixed >>> 16)) & mask; ; slot = (slot + 1) & mask)
      if (values[slot] === ABSENT || (lows[slot] === low && highs[slot] === high)) return slot;
  }

  private resize(slots: number): void {
    const { lows, highs, values } = this;
    this.lows = new Uint32Array(slots);
    this.highs = new Uint32Array(slots);
    this.values = new Int32Array(slots).fill(ABSENT);
    this.mask = slots - 1;
    for (let i = 0; i < values.length; i++) {
      const value = values[i] ?? ABSENT;
      if (value === ABSENT) continue;
      const [low, high] = [lows[i] ?? 0, highs[i] ?? 0];
      const slot = this.slot(low, high);
      this.lows[slot] = low;
      this.highs[slot] = high;
      this.values[slot] = value;
    }
  }
}

/** Whole numbers of 32 bits, as many as come; who fills it bounds it. */
export class Ints {
  values: Int32Array;
  length = 0;
  constructor(capacity = 64) {
    this.values = new Int32Array(capacity);
  }
  reserve(capacity: number): void {
    if (capacity <= this.values.length) return;
    const grown = new Int32Array(capacity);
    grown.set(this.values);
    this.values = grown;
  }
  push(value: number): void {
    if (this.length === this.values.length) this.reserve(this.length * 2);
    this.values[this.length++] = value;
  }
  at(index: number): number {
    return this.values[index] ?? 0;
  }
}
