/**
 * What the page knows of one topic: entries, the number of the last change, and whether a change was missed.
 * Pure: a snapshot replaces, a delta with the next number changes, any other number is a gap, after which the topic
 * waits for a fresh snapshot and ignores deltas. Entries that no reader could use are refused and counted.
 */
import type { LiveWindows, PageMessage } from "../../schemas/wire/page.ts";
import { acceptEntry, isLiveWindows, LIVE_PAST } from "./entries.ts";
import { mergeLive } from "./live-windows.ts";

export interface TopicState {
  readonly topic: string;
  /** a snapshot has arrived at least once; stays true through reconnects, so that old data remains readable */
  readonly ready: boolean;
  /** deltas are ignored until the next snapshot */
  readonly waiting: boolean;
  readonly seq: number;
  /** server time of the last change */
  readonly nowMs: number;
  readonly entries: ReadonlyMap<string, unknown>;
  /** entries refused for their shape since the topic was opened */
  readonly rejected: number;
  readonly error: string | null;
}

type Snapshot = Extract<PageMessage, { type: "snapshot" }>;
type Delta = Extract<PageMessage, { type: "delta" }>;

export const emptyTopic = (topic: string): TopicState => ({
  topic,
  ready: false,
  waiting: true,
  seq: 0,
  nowMs: 0,
  entries: new Map(),
  rejected: 0,
  error: null,
});

/** The server was asked (again) for this topic: what comes before its snapshot belongs to the past. */
export const awaitSnapshot = (state: TopicState): TopicState => (state.waiting ? state : { ...state, waiting: true });

const put = (
  topic: string,
  into: Map<string, unknown>,
  previous: ReadonlyMap<string, unknown>,
  set: Readonly<Record<string, unknown>>,
): number => {
  let rejected = 0;
  // Older windows first: what is merged replaces everything from its first second on.
  const past = set[LIVE_PAST];
  let live = liveOf(previous);
  if (isLiveWindows(past)) live = mergeLive(live, past);
  for (const [key, value] of Object.entries(set)) {
    if (!acceptEntry(topic, key, value)) rejected++;
    else if (key === LIVE_PAST) continue;
    else if (key === "live" && isLiveWindows(value)) live = mergeLive(live, value);
    else into.set(key, value);
  }
  if (live !== null) into.set("live", live);
  return rejected;
};

const liveOf = (entries: ReadonlyMap<string, unknown>): LiveWindows | null => {
  const live = entries.get("live");
  return isLiveWindows(live) ? live : null;
};

export const applySnapshot = (state: TopicState, message: Snapshot): TopicState => {
  const entries = new Map<string, unknown>();
  const rejected = put(state.topic, entries, state.entries, message.entries);
  return {
    topic: state.topic,
    ready: true,
    waiting: false,
    seq: message.seq,
    nowMs: message.nowMs,
    entries,
    rejected: state.rejected + rejected,
    error: null,
  };
};

export interface Applied {
  readonly state: TopicState;
  /** numbers are missing: ask for the topic again */
  readonly gap: boolean;
}

export const applyDelta = (state: TopicState, message: Delta): Applied => {
  if (state.waiting || message.seq <= state.seq) return { state, gap: false };
  if (message.seq !== state.seq + 1) return { state: awaitSnapshot(state), gap: true };
  const entries = new Map(state.entries);
  for (const key of message.del) entries.delete(key);
  const rejected = put(state.topic, entries, state.entries, message.set);
  return {
    state: { ...state, seq: message.seq, nowMs: message.nowMs, entries, rejected: state.rejected + rejected },
    gap: false,
  };
};
