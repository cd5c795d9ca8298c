/**
 * The page's one connection: `/live`, topics subscribed by reference count, changes handed to readers once per frame.
 * Owned by the tab (made once in main.tsx). When the socket fails it comes back by itself with jittered back-off and
 * asks for every topic again; what readers had stays on screen meanwhile and `connection()` says how old it is. A missed
 * number makes it ask for that topic again. A tab hidden for a minute asks for nothing. It stops with `close()`.
 */
import { PAGE_PROTOCOL, type PageMessage, type PageRequest } from "../schemas/wire/page.ts";
import { backOffMs } from "./live/back-off.ts";
import { readMessage } from "./live/entries.ts";
import { applyDelta, applySnapshot, awaitSnapshot, emptyTopic, type TopicState } from "./live/topic-state.ts";

export interface Connection {
  readonly phase: "connecting" | "open" | "waiting";
  /** local time when this phase began */
  readonly since: number;
  /** attempts since the last open connection */
  readonly attempt: number;
  /** local time of the last message of any kind, 0 before the first */
  readonly lastMessageAt: number;
  readonly serverId: string | null;
  readonly version: string | null;
  /** the server speaks another protocol, or was replaced by another version: a reload gets the matching page */
  readonly reload: "no" | "new version" | "other protocol";
  /** messages that could not be read */
  readonly unreadable: number;
  /** times that a topic was asked for again after a gap */
  readonly gaps: number;
}

/** A socket as it is used here; `connectTo` in live/web-socket.ts makes one. */
export interface Socket {
  readonly send: (text: string) => void;
  /** no event comes after this */
  readonly close: () => void;
}

export interface SocketEvents {
  readonly onOpen: () => void;
  /** null: a message that is not text */
  readonly onText: (text: string | null) => void;
  /** it ended or could not be opened */
  readonly onEnd: () => void;
}

export interface LiveParts {
  readonly connect: (events: SocketEvents) => Socket;
  readonly now: () => number;
  /** runs the function before the next paint */
  readonly nextFrame: (run: () => void) => void;
  readonly after: (ms: number, run: () => void) => () => void;
  readonly random: () => number;
}

export interface Live {
  readonly subscribe: (topic: string, listener: () => void) => () => void;
  readonly read: (topic: string) => TopicState;
  readonly onConnection: (listener: () => void) => () => void;
  readonly connection: () => Connection;
  /** the server's clock, estimated from the freshest message seen */
  readonly serverNow: () => number;
  /** a hidden tab asks for nothing after a minute, and asks again when it is seen */
  readonly setVisible: (visible: boolean) => void;
  /** try now instead of waiting for the back-off to end */
  readonly reconnect: () => void;
  readonly close: () => void;
}

interface Topic {
  state: TopicState;
  readonly listeners: Set<() => void>;
  asked: boolean;
}

const HIDDEN_MS = 60_000;
/** so much silence makes the page ask for something; still silence after as much again, and the connection is dead */
const SILENCE_MS = 15_000;
/** a topic without readers is let go after this, so that changing the view and coming back costs nothing */
const LINGER_MS = 3_000;
/** a topic that was refused is asked for again after this, while it has readers */
const RETRY_MS = 3_000;
const OFFSET_SAMPLES = 30;

const nothing = (): void => {};

export const makeLive = (parts: LiveParts): Live => {
  const topics = new Map<string, Topic>();
  const dirty = new Set<string>();
  const connectionListeners = new Set<() => void>();
  const offsets: number[] = [];
  let connection: Connection = {
    phase: "connecting",
    since: parts.now(),
    attempt: 0,
    lastMessageAt: 0,
    serverId: null,
    version: null,
    reload: "no",
    unreadable: 0,
    gaps: 0,
  };
  let socket: Socket | null = null;
  let open = false;
  let closed = false;
  let visible = true;
  let framePending = false;
  let cancelRetry = nothing;
  let cancelWatch = nothing;
  let cancelHide = nothing;

  const setConnection = (change: Partial<Connection>): void => {
    connection = { ...connection, ...change };
    for (const listener of connectionListeners) listener();
  };

  const send = (request: PageRequest): void => {
    if (open && socket !== null) socket.send(JSON.stringify(request));
  };

  const flush = (): void => {
    framePending = false;
    const changed = [...dirty];
    dirty.clear();
    for (const name of changed) for (const listener of topics.get(name)?.listeners ?? []) listener();
  };

  const update = (name: string, topic: Topic, state: TopicState): void => {
    if (topic.state === state) return;
    topic.state = state;
    dirty.add(name);
    if (framePending) return;
    framePending = true;
    parts.nextFrame(flush);
  };

  const ask = (name: string, topic: Topic): void => {
    if (!open || !visible) return;
    topic.state = awaitSnapshot(topic.state);
    if (topic.asked) send({ type: "unsubscribe", topic: name });
    topic.asked = true;
    send({ type: "subscribe", topic: name });
  };

  /** What cannot be read now, or is not there yet, may be in a moment: a new service, a restarted actor. */
  const askLater = (name: string, topic: Topic): void => {
    topic.asked = false;
    parts.after(RETRY_MS, () => {
      if (topics.get(name) === topic && !topic.asked) ask(name, topic);
    });
  };

  const learnClock = (nowMs: number): void => {
    // a message can only be late: the largest difference is the one with the least delay
    offsets.push(nowMs - parts.now());
    if (offsets.length > OFFSET_SAMPLES) offsets.shift();
  };

  const receive = (message: PageMessage): void => {
    if (message.type === "hello") {
      learnClock(message.nowMs);
      const replaced = connection.version !== null && connection.version !== message.version;
      setConnection({
        serverId: message.serverId,
        version: message.version,
        reload: message.protocol !== PAGE_PROTOCOL ? "other protocol" : replaced ? "new version" : connection.reload,
      });
      return;
    }
    if (message.type === "error") {
      const topic = message.topic === null ? undefined : topics.get(message.topic);
      if (message.topic === null || topic === undefined) return;
      update(message.topic, topic, { ...topic.state, ready: true, error: message.message });
      askLater(message.topic, topic);
      return;
    }
    const topic = topics.get(message.topic);
    if (topic === undefined || !topic.asked) return;
    learnClock(message.nowMs);
    if (message.type === "snapshot") {
      update(message.topic, topic, applySnapshot(topic.state, message));
      return;
    }
    const { state, gap } = applyDelta(topic.state, message);
    update(message.topic, topic, state);
    if (!gap) return;
    setConnection({ gaps: connection.gaps + 1 });
    ask(message.topic, topic);
  };

  /** Browsers cannot ping: after a silence ask for a subscribed topic again, which any living server answers. */
  const watch = (probed: boolean): void => {
    cancelWatch();
    cancelWatch = parts.after(SILENCE_MS, () => {
      const first = [...topics].find(([, topic]) => topic.asked);
      if (parts.now() - connection.lastMessageAt < SILENCE_MS) watch(false);
      else if (probed) drop();
      else {
        if (first !== undefined && visible) ask(first[0], first[1]);
        watch(first !== undefined && visible);
      }
    });
  };

  const drop = (): void => {
    const old = socket;
    socket = null;
    open = false;
    cancelWatch();
    old?.close();
    for (const topic of topics.values()) topic.asked = false;
    if (closed) return;
    const attempt = connection.attempt + 1;
    setConnection({ phase: "waiting", since: connection.phase === "open" ? parts.now() : connection.since, attempt });
    cancelRetry();
    cancelRetry = parts.after(backOffMs(attempt, parts.random()), start);
  };

  const start = (): void => {
    if (closed || socket !== null) return;
    cancelRetry();
    const onOpen = (): void => {
      open = true;
      offsets.length = 0;
      setConnection({ phase: "open", since: parts.now(), attempt: 0, lastMessageAt: parts.now() });
      for (const [name, topic] of topics) ask(name, topic);
      watch(false);
    };
    const onText = (text: string | null): void => {
      connection = { ...connection, lastMessageAt: parts.now() };
      const message = text === null ? null : readMessage(text);
      if (message === null) setConnection({ unreadable: connection.unreadable + 1 });
      else receive(message);
    };
    socket = parts.connect({ onOpen, onText, onEnd: drop });
  };

  const letGo = (name: string): void => {
    const topic = topics.get(name);
    if (topic === undefined || topic.listeners.size > 0) return;
    if (topic.asked) send({ type: "unsubscribe", topic: name });
    topics.delete(name);
  };

  start();
  return {
    subscribe: (name, listener) => {
      let topic = topics.get(name);
      if (topic === undefined) {
        topic = { state: emptyTopic(name), listeners: new Set(), asked: false };
        topics.set(name, topic);
        ask(name, topic);
      }
      const { listeners } = topic;
      listeners.add(listener);
      return () => {
        listeners.delete(listener);
        if (listeners.size === 0) parts.after(LINGER_MS, () => letGo(name));
      };
    },
    read: (name) => topics.get(name)?.state ?? emptyOf(name),
    onConnection: (listener) => {
      connectionListeners.add(listener);
      return () => connectionListeners.delete(listener);
    },
    connection: () => connection,
    serverNow: () => parts.now() + (offsets.length === 0 ? 0 : Math.max(...offsets)),
    setVisible: (seen) => {
      cancelHide();
      if (seen) {
        if (!visible) {
          visible = true;
          for (const [name, topic] of topics) ask(name, topic);
        }
        return;
      }
      cancelHide = parts.after(HIDDEN_MS, () => {
        visible = false;
        for (const [name, topic] of topics) {
          if (topic.asked) send({ type: "unsubscribe", topic: name });
          topic.asked = false;
        }
      });
    },
    reconnect: () => {
      if (!open) {
        cancelRetry();
        start();
      }
    },
    close: () => {
      closed = true;
      cancelRetry();
      cancelHide();
      drop();
    },
  };
};

/** One empty state per name, since readers compare by identity. */
const empties = new Map<string, TopicState>();
const emptyOf = (name: string): TopicState => {
  const found = empties.get(name) ?? emptyTopic(name);
  empties.set(name, found);
  return found;
};
