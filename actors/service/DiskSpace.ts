/**
 * How full the file systems are that a service's instances write to, by mount, and how fast they fill. Made with the first
 * that is told, so that services without any pay nothing. Derived state: what is not told again is forgotten.
 */
import type { MountWindow } from "./messages.ts";

const FORGOTTEN_AFTER_MS = 120_000;
const MOST_MOUNTS = 1_000;
/** Growth is what was added since a figure that is one to two of these old. */
const STEP_MS = 10 * 60_000;

interface Moment {
  readonly at: number;
  readonly usedBytes: number;
}

interface Mount {
  readonly agent: string;
  told: MountWindow;
  at: number;
  earlier: Moment;
  later: Moment;
}

export interface Fullness {
  readonly mount: MountWindow;
  /** of the space that programs may use, or of the inodes, whichever is fuller; 0..1 */
  readonly used: number;
  readonly byInodes: boolean;
  /** at the pace of the last ten to twenty minutes; null: it does not fill, or that is not known yet */
  readonly fullInMs: number | null;
}

/** As df(1) has it: what is reserved for root is nobody's. */
const spaceUsed = ({ usedBytes, availableBytes }: MountWindow): number =>
  usedBytes + availableBytes === 0 ? 0 : usedBytes / (usedBytes + availableBytes);
const usedOf = (mount: MountWindow): number => Math.max(spaceUsed(mount), mount.inodesUsed);

export class DiskSpace {
  readonly #mounts = new Map<string, Mount>();

  add(agent: string, told: MountWindow, at: number): void {
    const key = `${agent}\n${told.instance}\n${told.path}`;
    const now = { at, usedBytes: told.usedBytes };
    const mount = this.#mounts.get(key);
    if (mount === undefined) {
      if (this.#mounts.size < MOST_MOUNTS) this.#mounts.set(key, { agent, told, at, earlier: now, later: now });
      return;
    }
    if (at <= mount.at) return;
    mount.told = told;
    mount.at = at;
    if (at - mount.later.at < STEP_MS) return;
    mount.earlier = mount.later;
    mount.later = now;
  }

  forget(now: number, lostAgent: string | null = null): void {
    for (const [key, { agent, at }] of this.#mounts)
      if (agent === lostAgent || now - at > FORGOTTEN_AFTER_MS) this.#mounts.delete(key);
  }

  /** Share of the fullest that is used; 0 where none is known. */
  most(): number {
    let most = 0;
    for (const { told } of this.#mounts.values()) most = Math.max(most, usedOf(told));
    return most;
  }

  /** Fullest first. */
  all(): readonly Fullness[] {
    return [...this.#mounts.values()].map(fullnessOf).toSorted((a, b) => b.used - a.used);
  }
}

const fullnessOf = ({ told, at, earlier }: Mount): Fullness => {
  const perMs = at - earlier.at < STEP_MS ? 0 : (told.usedBytes - earlier.usedBytes) / (at - earlier.at);
  return {
    mount: told,
    used: usedOf(told),
    byInodes: told.inodesUsed > spaceUsed(told),
    fullInMs: perMs > 0 ? told.availableBytes / perMs : null,
  };
};
