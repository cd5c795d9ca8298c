/** Time ranges of a service's charts, by their name in the address. */
export interface Range {
  readonly id: string;
  readonly title: string;
  readonly ms: number;
  readonly live: boolean;
}

const MINUTE = 60_000;
const LIVE_5: Range = { id: "5m", title: "5 min", ms: 5 * MINUTE, live: true };

export const RANGES: readonly Range[] = [
  LIVE_5,
  { id: "15m", title: "15 min", ms: 15 * MINUTE, live: true },
  { id: "1h", title: "1 h", ms: 60 * MINUTE, live: false },
  { id: "6h", title: "6 h", ms: 360 * MINUTE, live: false },
  { id: "1d", title: "1 d", ms: 1440 * MINUTE, live: false },
  { id: "7d", title: "7 d", ms: 7 * 1440 * MINUTE, live: false },
];

export const rangeOf = (id: string): Range => RANGES.find((range) => range.id === id) ?? LIVE_5;
