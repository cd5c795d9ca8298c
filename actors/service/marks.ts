/**
 * Which windows of which agent a service has counted. Numbers only grow, so one mark per agent is enough, until an actor
 * goes on from a snapshot: then the windows between its mark and the first new one may still come again, in any order,
 * and each of them counts once.
 */
interface Mark {
  epoch: number;
  window: number;
  /** the next newer window opens a gap: what lies between may come later */
  restored: boolean;
  gap: { readonly from: number; readonly to: number; readonly seen: Set<number> } | null;
}

/** agent, epoch, window */
export type SavedMark = readonly [string, number, number];

export class Marks {
  readonly #byAgent = new Map<string, Mark>();

  /** False: it was counted already, or belongs to an earlier life of the agent. */
  isNew(agent: string, epoch: number, window: number): boolean {
    const mark = this.#byAgent.get(agent);
    if (mark === undefined || mark.epoch !== epoch) {
      this.#byAgent.set(agent, { epoch, window, restored: false, gap: gapOf(-1, window) });
      return true;
    }
    if (window > mark.window) {
      if (mark.restored) mark.gap = gapOf(mark.window, window);
      mark.restored = false;
      mark.window = window;
      return true;
    }
    const { gap } = mark;
    if (gap === null || window <= gap.from || window >= gap.to || gap.seen.has(window)) return false;
    gap.seen.add(window);
    return true;
  }

  saved(): SavedMark[] {
    return [...this.#byAgent].map(([agent, { epoch, window }]) => [agent, epoch, window]);
  }

  restore(saved: readonly SavedMark[]): void {
    for (const [agent, epoch, window] of saved) this.#byAgent.set(agent, { epoch, window, restored: true, gap: null });
  }

  view(): unknown {
    return Object.fromEntries([...this.#byAgent].map(([agent, { epoch, window }]) => [agent, { epoch, window }]));
  }
}

const gapOf = (from: number, to: number): Mark["gap"] => (to - from > 1 ? { from, to, seen: new Set() } : null);
