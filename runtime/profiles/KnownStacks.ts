/**
 * Which stacks are on disk, so that a stack is written once a day instead of with each profile. Owned by the door of
 * profiles. A stack is known only after the store had it; all are forgotten when the store was away, since it may have
 * come back without them. Bounded: the half that was not asked for longest is forgotten, and its stacks are written
 * again. Nothing to stop.
 */
import { ABSENT, Keys64 } from "../Keys64.ts";

const HOUR_MS = 3_600_000;
/** Well inside the days by which stacks outlive samples. Spread, so that not all come again at one moment. */
const AGAIN_HOURS = 24;
const SPREAD_HOURS = 8;
const MOST = 500_000;

export class KnownStacks {
  private young = new Keys64();
  private old = new Keys64();
  private readonly most: number;
  /** of everything that was learned: what was read before `clear` is not known after it */
  life = 0;

  constructor(most = MOST) {
    this.most = most;
  }

  get size(): number {
    return this.young.size + this.old.size;
  }

  /** Whether the stack need not be written now. */
  has(serviceLow: number, serviceHigh: number, low: number, high: number, nowMs: number): boolean {
    const first = (low ^ serviceLow) >>> 0;
    const second = (high ^ serviceHigh) >>> 0;
    let written = this.young.get(first, second);
    if (written === ABSENT) {
      written = this.old.get(first, second);
      if (written === ABSENT) return false;
      if (this.young.size < this.most / 2) this.young.set(first, second, written);
    }
    return Math.floor(nowMs / HOUR_MS) - written < AGAIN_HOURS - (low % SPREAD_HOURS);
  }

  /** It is on disk since `nowMs`, as far as the life of then is this one. */
  add(life: number, serviceLow: number, serviceHigh: number, low: number, high: number, nowMs: number): void {
    if (life !== this.life) return;
    this.put((low ^ serviceLow) >>> 0, (high ^ serviceHigh) >>> 0, Math.floor(nowMs / HOUR_MS));
  }

  clear(): void {
    this.life++;
    this.young = new Keys64();
    this.old = new Keys64();
  }

  private put(first: number, second: number, hour: number): void {
    if (this.young.size >= this.most / 2) {
      this.old = this.young;
      this.young = new Keys64();
    }
    this.young.set(first, second, hour);
  }
}
