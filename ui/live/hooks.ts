/**
 * How components read the live data. `useTopic` subscribes while mounted and re-renders once per frame at most;
 * null asks for nothing. `useEntries` gives one kind of entry, typed, with the prefix cut off its key.
 */
import { createContext, useCallback, useContext, useEffect, useMemo, useState, useSyncExternalStore } from "react";
import type { Connection, Live } from "../live.ts";
import type { Guard } from "./entries.ts";
import { emptyTopic, type TopicState } from "./topic-state.ts";

export const LiveContext = createContext<Live | null>(null);

export const useLive = (): Live => {
  const live = useContext(LiveContext);
  if (live === null) throw new Error("useLive: no LiveContext above this component");
  return live;
};

const NOTHING = emptyTopic("");

export const useTopic = (topic: string | null): TopicState => {
  const live = useLive();
  const subscribe = useCallback(
    (listener: () => void) => (topic === null ? () => {} : live.subscribe(topic, listener)),
    [live, topic],
  );
  return useSyncExternalStore(subscribe, () => (topic === null ? NOTHING : live.read(topic)));
};

export const useConnection = (): Connection => {
  const live = useLive();
  return useSyncExternalStore(live.onConnection, live.connection);
};

const useClock = (read: () => number, everyMs: number): number => {
  const [now, setNow] = useState(read);
  useEffect(() => {
    const timer = setInterval(() => setNow(read()), everyMs);
    return () => clearInterval(timer);
  }, [read, everyMs]);
  return now;
};

/** The server's time, renewed every `everyMs`: for ages and durations on screen. */
export const useNow = (everyMs = 1000): number => useClock(useLive().serverNow, everyMs);

/** This machine's time, for how long ago the page itself heard something. */
export const useLocalNow = (everyMs = 1000): number => useClock(Date.now, everyMs);

export const entriesOf = <T>(state: TopicState, guard: Guard<T>, prefix = ""): ReadonlyMap<string, T> => {
  const found = new Map<string, T>();
  for (const [key, value] of state.entries)
    if (key.startsWith(prefix) && guard(value)) found.set(key.slice(prefix.length), value);
  return found;
};

export const useEntries = <T>(state: TopicState, guard: Guard<T>, prefix = ""): ReadonlyMap<string, T> =>
  useMemo(() => entriesOf(state, guard, prefix), [state, guard, prefix]);

export const entryOf = <T>(state: TopicState, key: string, guard: Guard<T>): T | null => {
  const value = state.entries.get(key);
  return guard(value) ? value : null;
};
