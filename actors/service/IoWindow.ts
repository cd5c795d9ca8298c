/**
 * How long disks took for a service in the last minute, in slots of five seconds. Made with the first request, so that
 * services without any pay nothing. Derived state.
 */
import type { InstanceWindow } from "./messages.ts";

const SLOT_SECONDS = 5;
const SLOTS = 12;

interface Slot {
  start: number;
  ios: number;
  ioUs: number;
  syncs: number;
  syncUs: number;
}

/** Mean time in ms, null where there was none. */
export interface IoFigures {
  readonly ios: number;
  readonly ioMs: number | null;
  readonly syncs: number;
  readonly syncMs: number | null;
}

export class IoWindow {
  readonly #slots: readonly Slot[] = Array.from({ length: SLOTS }, () => ({
    start: 0,
    ios: 0,
    ioUs: 0,
    syncs: 0,
    syncUs: 0,
  }));

  add(second: number, { ios = 0, ioUs = 0, syncs = 0, syncUs = 0 }: InstanceWindow): void {
    const start = second - (second % SLOT_SECONDS);
    const slot = this.#slots[(start / SLOT_SECONDS) % SLOTS];
    if (slot === undefined || start < slot.start) return;
    if (start > slot.start) {
      slot.start = start;
      slot.ios = slot.ioUs = slot.syncs = slot.syncUs = 0;
    }
    slot.ios += ios;
    slot.ioUs += ioUs;
    slot.syncs += syncs;
    slot.syncUs += syncUs;
  }

  /** Of the minute that ends with `second`. */
  figures(second: number): IoFigures {
    let [ios, ioUs, syncs, syncUs] = [0, 0, 0, 0];
    for (const slot of this.#slots) {
      if (slot.start > second || slot.start <= second - SLOTS * SLOT_SECONDS) continue;
      ios += slot.ios;
      ioUs += slot.ioUs;
      syncs += slot.syncs;
      syncUs += slot.syncUs;
    }
    return {
      ios,
      ioMs: ios === 0 ? null : ioUs / ios / 1000,
      syncs,
      syncMs: syncs === 0 ? null : syncUs / syncs / 1000,
    };
  }
}
