/**
 * Lines of the map: a call leaves its caller's right side and enters its callee's left side, passes its bends level, and
 * goes from left side to right side when it runs backwards. Sampled once per arrangement, for hit tests and labels. Pure.
 */
import { CARD_W, type Placement, type Spot } from "./layout.ts";

export interface Curve {
  /** start, then control, control, end of each cubic piece */
  readonly start: Spot;
  readonly pieces: readonly (readonly [Spot, Spot, Spot])[];
  readonly samples: readonly Spot[];
  readonly middle: Spot;
  /** upper and lower end of the whole line, for leaving out what is not in view */
  readonly top: number;
  readonly bottom: number;
  /** the arrow points this way: 1 right, -1 left */
  readonly heading: 1 | -1;
}

const HALF = CARD_W / 2;
const PER_PIECE = 12;

const cubic = (a: Spot, b: Spot, c: Spot, d: Spot, t: number): Spot => {
  const u = 1 - t;
  const [wa, wb, wc, wd] = [u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t];
  return { x: wa * a.x + wb * b.x + wc * c.x + wd * d.x, y: wa * a.y + wb * b.y + wc * c.y + wd * d.y };
};

export const curveOf = (placed: Placement, key: string, from: string, to: string): Curve | null => {
  const a = placed.spots.get(from);
  const b = placed.spots.get(to);
  if (a === undefined || b === undefined) return null;
  const points: Spot[] = [];
  let heading: 1 | -1 = 1;
  if (Math.abs(a.x - b.x) < CARD_W) {
    // one above the other: round the right side
    const reach = HALF + 26 + Math.min(40, Math.abs(a.y - b.y) / 12);
    const start = { x: a.x + HALF, y: a.y };
    const end = { x: b.x + HALF, y: b.y };
    return finish(start, [[{ x: a.x + reach, y: a.y }, { x: b.x + reach, y: b.y }, end]], -1);
  }
  heading = b.x > a.x ? 1 : -1;
  points.push({ x: a.x + heading * HALF, y: a.y });
  for (const bend of placed.bends.get(key) ?? []) {
    points.push({ x: bend.x - heading * HALF, y: bend.y });
    points.push({ x: bend.x + heading * HALF, y: bend.y });
  }
  points.push({ x: b.x - heading * HALF, y: b.y });
  const [start, ...rest] = points;
  if (start === undefined) return null;
  const pieces: [Spot, Spot, Spot][] = [];
  let at = start;
  for (const next of rest) {
    const pull = Math.max(24, Math.abs(next.x - at.x) * 0.5) * heading;
    pieces.push(
      Math.abs(next.y - at.y) < 0.5
        ? [{ x: at.x + (next.x - at.x) / 3, y: at.y }, { x: next.x - (next.x - at.x) / 3, y: next.y }, next]
        : [{ x: at.x + pull, y: at.y }, { x: next.x - pull, y: next.y }, next],
    );
    at = next;
  }
  return finish(start, pieces, heading);
};

const finish = (start: Spot, pieces: readonly (readonly [Spot, Spot, Spot])[], heading: 1 | -1): Curve => {
  const samples: Spot[] = [start];
  let at = start;
  for (const [b, c, d] of pieces) {
    for (let n = 1; n <= PER_PIECE; n++) samples.push(cubic(at, b, c, d, n / PER_PIECE));
    at = d;
  }
  const first = pieces[0];
  // labels sit in the first gap, where lines of different callees are still apart from those of other callers
  const middle = first === undefined ? start : cubic(start, first[0], first[1], first[2], 0.5);
  let [top, bottom] = [Infinity, -Infinity];
  for (const { y } of samples) [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
  return { start, pieces, samples, middle, top, bottom, heading };
};

/** Distance of a point from a sampled line. */
export const distanceTo = (samples: readonly Spot[], x: number, y: number): number => {
  let least = Infinity;
  for (let n = 1; n < samples.length; n++) {
    const a = samples[n - 1];
    const b = samples[n];
    if (a === undefined || b === undefined) continue;
    const dx = b.x - a.x;
    const dy = b.y - a.y;
    const length = dx * dx + dy * dy;
    const t = length === 0 ? 0 : Math.max(0, Math.min(1, ((x - a.x) * dx + (y - a.y) * dy) / length));
    least = Math.min(least, Math.hypot(x - a.x - t * dx, y - a.y - t * dy));
  }
  return least;
};
