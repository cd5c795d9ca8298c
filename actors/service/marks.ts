/**
 * Which windows of which agent a service has counted. Numbers only grow, so one mark per agent is enough, until an actor
 * goes on from a snapshot: then the windows between its mark and the first new one may still come again, in any order,
 * and each of them counts once. Such gaps are part of the next snapshot, for an actor that moves twice in a row.
 */
interface Gap {
  readonly from: number;
  readonly to: number;
  readonly seen: Set<number>;
}

interface Mark {
  epoch: number;
  window: number;
  /** the next newer window opens a gap: what lies between may come later */
  restored: boolean;
  gaps: Gap[];
}

/** Agents have at most four minutes of windows, one a second: what is so far behind comes no more. */
const GAP_CLOSES_AFTER = 300;

/** agent, epoch, window, and gaps: from, to, windows in it that were counted */
export type SavedMark = readonly [
  string,
  number,
  number,
  readonly (readonly [from: number, to: number, seen: readonly number[]])[],
];

export class Marks {
  readonly #byAgent = new Map<string, Mark>();

  /** False: it was counted already, or belongs to an earlier life of the agent. Numbers of lives only grow. */
  isNew(agent: string, epoch: number, window: number): boolean {
    const mark = this.#byAgent.get(agent);
    if (mark !== undefined && epoch < mark.epoch) return false;
    if (mark === undefined || mark.epoch !== epoch) {
      this.#byAgent.set(agent, { epoch, window, restored: false, gaps: gapOf(-1, window) });
      return true;
    }
    if (window > mark.window) {
      if (mark.restored) mark.gaps.push(...gapOf(mark.window, window));
      if (mark.gaps.length > 0) mark.gaps = mark.gaps.filter(({ to }) => window - to < GAP_CLOSES_AFTER);
      mark.restored = false;
      mark.window = window;
      return true;
    }
    for (const { from, to, seen } of mark.gaps) {
      if (window <= from || window >= to || seen.has(window)) continue;
      seen.add(window);
      return true;
    }
    return false;
  }

  /** Windows of that agent may come that are older than its newest. */
  mayComeLate(agent: string): boolean {
    const mark = this.#byAgent.get(agent);
    return mark !== undefined && (mark.restored || mark.gaps.length > 0);
  }

  /** What a snapshot says. */
  saved(): SavedMark[] {
    return [...this.#byAgent].map(([agent, { epoch, window, gaps }]) => [
      agent,
      epoch,
      window,
      gaps.map(({ from, to, seen }) => [from, to, [...seen]] as const),
    ]);
  }

  restore(saved: readonly SavedMark[]): void {
    for (const [agent, epoch, window, gaps] of saved)
      this.#byAgent.set(agent, {
        epoch,
        window,
        restored: true,
        gaps: gaps.map(([from, to, seen]) => ({ from, to, seen: new Set(seen) })),
      });
  }

  view(): unknown {
    return Object.fromEntries(
      [...this.#byAgent].map(([agent, { epoch, window, gaps }]) => [
        agent,
        { epoch, window, gaps: gaps.map(({ from, to, seen }) => ({ from, to, counted: seen.size })) },
      ]),
    );
  }
}

const gapOf = (from: number, to: number): Gap[] =>
  to - from > 1 ? [{ from: Math.max(from, to - GAP_CLOSES_AFTER), to, seen: new Set() }] : [];
