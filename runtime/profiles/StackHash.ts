/**
 * The name of a stack: 64 bits over the texts of its frames, root first. Pure and stable: stored rows depend on it, so it
 * must never change. A frame's bytes (UTF-8) go through two 32-bit lanes, xor and multiplication by an odd constant for
 * each byte; the frames' two lanes go one after the other through two lanes of the stack, rotated before each so that
 * their order counts; murmur's finaliser mixes both, as in runtime/store/fingerprint.ts. Not against forgery: who makes
 * two stacks with one hash spoils a profile of his own.
 */
export class StackHash {
  low = 0;
  high = 0;

  /** The hash of one frame, for `add`. */
  frame(bytes: Uint8Array, start: number, end: number): void {
    let a = 0xdeadbeef;
    let b = 0x41c6ce57;
    for (let i = start; i < end; i++) {
      const byte = bytes[i] ?? 0;
      a = Math.imul(a ^ byte, 2654435761);
      b = Math.imul(b ^ byte, 1597334677);
    }
    this.finish(a, b);
  }

  clear(): void {
    this.low = 0x9e3779b9;
    this.high = 0x7f4a7c15;
  }

  /** The next frame of a stack, after `clear`; `end` follows the last one. */
  add(frameLow: number, frameHigh: number): void {
    const { low, high } = this;
    this.low = Math.imul(((low << 13) | (low >>> 19)) ^ frameLow, 2246822519);
    this.high = Math.imul(((high << 17) | (high >>> 15)) ^ frameHigh, 3266489917);
  }

  end(): void {
    this.finish(this.low, this.high);
  }

  private finish(first: number, second: number): void {
    let a = first;
    let b = second;
    a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909);
    b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909);
    this.low = a >>> 0;
    this.high = b >>> 0;
  }
}
