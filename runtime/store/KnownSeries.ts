/**
 * Series that the store was told of, and when: by the halves of their fingerprint, in typed arrays, since there may be millions. Owned by the
 * samples lane. Two generations: what is asked for stays, of the rest the oldest is forgotten and only told again. Pure
 * state, nothing to stop.
 */
import { ABSENT, Keys64 } from "../Keys64.ts";

/** Of each generation; 24 MB when full. */
const MOST = 1_000_000;

export class KnownSeries {
  private young = new Keys64();
  private old = new Keys64();

  /** Second at which it was told, 0 when it was not. */
  at(low: number, high: number): number {
    const young = this.young.get(low, high);
    if (young !== ABSENT) return young;
    const old = this.old.get(low, high);
    if (old === ABSENT) return 0;
    this.set(low, high, old);
    return old;
  }

  add(low: number, high: number, second: number): void {
    this.set(low, high, second);
  }

  forget(): void {
    this.young = new Keys64();
    this.old = new Keys64();
  }

  private set(low: number, high: number, second: number): void {
    if (this.young.size >= MOST) {
      this.old = this.young;
      this.young = new Keys64();
    }
    this.young.set(low, high, second);
  }
}
