/** Time of each span that none of its children covers: where a trace's time went. Pure. */
export interface Timed {
  readonly spanId: string;
  readonly parentId: string;
  /** ns */
  readonly offset: number;
  readonly duration: number;
}

/** For each span, in ns. Children may overlap each other and outlast their parent; spans must be in order of their beginning. */
export const selfTimes = (spans: readonly Timed[]): readonly number[] => {
  const place = new Map(spans.map(({ spanId }, i) => [spanId, i]));
  const self = spans.map(({ duration }) => duration);
  /** up to where the children so far cover their parent */
  const covered = spans.map(({ offset }) => offset);
  for (const [i, { parentId, offset, duration }] of spans.entries()) {
    const at = place.get(parentId);
    const parent = at === undefined ? undefined : spans[at];
    if (at === undefined || parent === undefined || at === i) continue;
    const from = Math.max(offset, covered[at] ?? 0);
    const to = Math.min(offset + duration, parent.offset + parent.duration);
    if (to <= from) continue;
    self[at] = (self[at] ?? 0) - (to - from);
    covered[at] = to;
  }
  return self;
};
