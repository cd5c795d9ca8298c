/**
 * The agent link as a pure state machine: what to do when the socket opens, closes or speaks, when a window is ready and
 * when time passes. Owned by the link's edge (Link.ts), which carries out the outputs. Windows wait in a ring of RING
 * entries until they are acknowledged; the oldest give way and are counted. Acknowledged ones are kept until they are
 * three minutes old: a server that took over from one that died has them sent again. So at most RING + KEPT windows are
 * in memory, one for each second, a few KiB each. Holds nothing to stop.
 */
import type { AckBody, CreditBody, GoawayBody, ServerHelloBody } from "../../../schemas/wire/link.ts";

export const RING = 240;
/** Longer than a server takes to write down what it counted, and another to take over. */
export const KEPT_MS = 180_000;
const KEPT = 180;
const NEXT_SERVER_MS = 250;
export const GREETING_MS = 10_000;
export const SILENCE_MS = 15_000;
export const SLOW_RETRY_MS = 30_000;
/** Clocks of the servers of one deployment differ by less. */
const SAME_CLOCK_MS = 5_000;
/** Windows follow one another second by second until that is so far off the clock. */
const DRIFT_MS = 1_000;
const BACKOFF_MS = 500;
const BACKOFF_MAX_MS = 30_000;

export type Phase = "idle" | "connecting" | "greeting" | "ready" | "stopped";

export interface Numbered {
  readonly window: number;
  readonly monoMs: number;
  /** server time of the middle of its second, from its first sending on */
  readonly serverMs?: number;
}

export interface LinkState<W extends Numbered> {
  readonly phase: Phase;
  readonly epoch: number;
  /** when this phase began; for `idle`: when to dial */
  readonly sinceMs: number;
  readonly dialAtMs: number;
  /** failures in a row */
  readonly attempts: number;
  readonly observeCredit: number;
  readonly storeCredit: number;
  /** unacknowledged windows, oldest first */
  readonly ring: readonly W[];
  /** how many of them were sent on this connection */
  readonly sent: number;
  /** acknowledged windows of the last KEPT_MS, oldest first */
  readonly kept: readonly W[];
  /** which of the servers is dialled */
  readonly server: number;
  readonly servers: number;
  /** last word from the server while something is unacknowledged */
  readonly heardMs: number;
  /** server clock minus agent's monotonic clock, null before the first greeting */
  readonly offsetMs: number | null;
  /** server second that window 0 counts for, or would */
  readonly base: number | null;
  readonly roundTripMs: number | null;
  /** dial no sooner than this after the connection ends, whichever server it is; set by goaway */
  readonly holdMs: number;
  /** a goaway said why the connection ends */
  readonly sentAway: "no" | "yes" | "again";
  readonly lastError: string;
  readonly counters: LinkCounters;
}

export interface LinkCounters {
  readonly connects: number;
  readonly failures: number;
  readonly windowsDropped: number;
  readonly windowsResent: number;
  readonly windowsSent: number;
  readonly acks: number;
  readonly skippedFrames: number;
  readonly badFrames: number;
}

export type LinkInput<W extends Numbered> =
  | { readonly type: "tick"; readonly random: number }
  | { readonly type: "opened" }
  /** `have`: the last window that the server counted; null: none that it can be sure of; undefined: it does not say */
  | {
      readonly type: "greeted";
      readonly serverId: string;
      readonly serverMs: number;
      readonly have?: ServerHelloBody["have"];
    }
  | { readonly type: "ack"; readonly ack: AckBody }
  | { readonly type: "credit"; readonly credit: CreditBody }
  | { readonly type: "goaway"; readonly goaway: GoawayBody }
  | { readonly type: "skipped" }
  | { readonly type: "bad-frame"; readonly reason: string }
  | { readonly type: "closed"; readonly reason: string; readonly random: number }
  | { readonly type: "window"; readonly window: W }
  /** what the agent says of itself changed: greet again on a new connection */
  | { readonly type: "refresh" }
  | { readonly type: "stop" };

export type LinkOutput<W extends Numbered> =
  | { readonly type: "dial"; readonly server: number }
  | { readonly type: "greet" }
  /** send it with this connection's dictionary */
  | { readonly type: "observe"; readonly window: W }
  /** the store lane may have something to send, or a new connection starts it over */
  | { readonly type: "store"; readonly rewind: boolean }
  | { readonly type: "stored"; readonly epoch: number; readonly upTo: number }
  | { readonly type: "close"; readonly reason: string }
  | { readonly type: "say"; readonly level: "info" | "warning"; readonly text: string };

export type Step<W extends Numbered> = readonly [LinkState<W>, readonly LinkOutput<W>[]];

export const initialLink = <W extends Numbered>(epoch: number, servers = 1): LinkState<W> => ({
  phase: "idle",
  epoch,
  sinceMs: 0,
  dialAtMs: 0,
  attempts: 0,
  observeCredit: 0,
  storeCredit: 0,
  ring: [],
  sent: 0,
  kept: [],
  server: 0,
  servers,
  heardMs: 0,
  offsetMs: null,
  base: null,
  roundTripMs: null,
  holdMs: 0,
  sentAway: "no",
  lastError: "",
  counters: {
    connects: 0,
    failures: 0,
    windowsDropped: 0,
    windowsResent: 0,
    windowsSent: 0,
    acks: 0,
    skippedFrames: 0,
    badFrames: 0,
  },
});

/** Full jitter: anywhere between now and the exponential bound, so that a thousand agents do not return together. */
export const backoffMs = (attempts: number, random: number): number =>
  random * Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** Math.min(attempts, 16));

const count = (counters: LinkCounters, name: keyof LinkCounters, by = 1): LinkCounters => ({
  ...counters,
  [name]: counters[name] + by,
});

const middleOf = (second: number): number => second * 1000 + 500;

/** Sends what credit allows. A window is given its server time when it is first sent, and keeps it. */
const pump = <W extends Numbered>(state: LinkState<W>, nowMs: number, outputs: readonly LinkOutput<W>[]): Step<W> => {
  if (state.phase !== "ready") return [state, outputs];
  const until = Math.min(state.ring.length, state.observeCredit);
  if (state.sent >= until) return [state, outputs];
  let { base } = state;
  const windows = state.ring.slice(state.sent, until).map((window) => {
    if (window.serverMs !== undefined || state.offsetMs === null) return window;
    const endedMs = window.monoMs + state.offsetMs;
    if (base === null || Math.abs(middleOf(base + window.window) - endedMs) > DRIFT_MS)
      base = Math.floor(endedMs / 1000) - window.window;
    return { ...window, serverMs: middleOf(base + window.window) };
  });
  return [
    {
      ...state,
      base,
      ring: [...state.ring.slice(0, state.sent), ...windows, ...state.ring.slice(until)],
      sent: until,
      // Silence is counted from the first frame that waits for an answer.
      heardMs: state.sent === 0 ? nowMs : state.heardMs,
      counters: count(state.counters, "windowsSent", windows.length),
    },
    [...outputs, ...windows.map((window) => ({ type: "observe", window }) as const)],
  ];
};

const ended = <W extends Numbered>(
  state: LinkState<W>,
  nowMs: number,
  reason: string,
  random: number,
): LinkState<W> => {
  const attempts = state.attempts + 1;
  // The next server is tried at once; only when all were tried, or one said so, it is time to wait.
  const again = state.sentAway === "again";
  const atOnce = again || (attempts % state.servers !== 0 && state.holdMs === 0);
  const waitMs = atOnce
    ? state.holdMs + random * NEXT_SERVER_MS
    : Math.max(state.holdMs, backoffMs(Math.ceil(attempts / state.servers), random));
  return {
    ...state,
    phase: "idle",
    sinceMs: nowMs,
    dialAtMs: nowMs + waitMs,
    // Asked to come again, it comes to the same server.
    server: again ? state.server : (state.server + 1) % state.servers,
    attempts,
    observeCredit: 0,
    storeCredit: 0,
    sent: 0,
    holdMs: 0,
    sentAway: "no",
    lastError: reason,
    counters: count(count(state.counters, "failures", state.phase === "ready" ? 0 : 1), "windowsResent", state.sent),
  };
};

const onAck = <W extends Numbered>(state: LinkState<W>, ack: AckBody, nowMs: number): Step<W> => {
  const counters = count(state.counters, "acks");
  const roundTripMs = nowMs - ack.echoMonoMs;
  // Only an echo of this life tells the offset, and a quicker one tells it better.
  const better =
    ack.lane === "observe" &&
    ack.epoch === state.epoch &&
    roundTripMs >= 0 &&
    (state.roundTripMs === null || roundTripMs <= state.roundTripMs * 1.5 + 1);
  const heard = {
    ...state,
    counters,
    heardMs: nowMs,
    ...(better ? { offsetMs: ack.serverMs - (ack.echoMonoMs + roundTripMs / 2), roundTripMs } : {}),
  };
  if (ack.lane === "store")
    return [
      heard,
      [
        { type: "stored", epoch: ack.epoch, upTo: ack.upTo },
        { type: "store", rewind: false },
      ],
    ];
  if (ack.epoch !== state.epoch) return [heard, []];
  const kept = state.ring.findIndex((window) => window.window > ack.upTo);
  const removed = kept < 0 ? state.ring.length : kept;
  return pump(
    {
      ...heard,
      ring: state.ring.slice(removed),
      sent: Math.max(0, state.sent - removed),
      kept: young([...state.kept, ...state.ring.slice(0, removed)], nowMs),
    },
    nowMs,
    [],
  );
};

/** What of the acknowledged windows is still kept; all of them come one a second, the newest last. */
const young = <W extends Numbered>(windows: readonly W[], nowMs: number): readonly W[] => {
  const from = windows.findIndex((window) => nowMs - window.monoMs < KEPT_MS);
  return from < 0 ? [] : windows.slice(Math.max(from, windows.length - KEPT));
};

/** What the server does not have goes to the front of the ring again; order is kept, since it counts upwards. */
const recall = <W extends Numbered>(
  state: LinkState<W>,
  have: ServerHelloBody["have"],
  nowMs: number,
): LinkState<W> => {
  if (have === undefined) return state;
  const has = have !== null && have.epoch === state.epoch ? have.window : -1;
  const kept = young(state.kept, nowMs);
  const all = [...kept, ...state.ring];
  const from = all.findIndex((window) => window.window > has);
  const at = from < 0 ? all.length : from;
  return {
    ...state,
    kept: young(all.slice(0, at), nowMs),
    ring: all.slice(at),
    counters: count(state.counters, "windowsResent", Math.max(0, kept.length - at)),
  };
};

/** The greeting took its time, so the offset is no less than this; far less means another server with another clock. */
const clockOf = <W extends Numbered>(
  { offsetMs, roundTripMs }: LinkState<W>,
  leastMs: number,
): Pick<LinkState<W>, "offsetMs" | "roundTripMs"> =>
  offsetMs === null || leastMs > offsetMs || leastMs < offsetMs - SAME_CLOCK_MS
    ? { offsetMs: leastMs, roundTripMs: null }
    : { offsetMs, roundTripMs };

const onGoaway = <W extends Numbered>(state: LinkState<W>, goaway: GoawayBody): Step<W> => {
  const configured = goaway.code === "key" || goaway.code === "version" || goaway.retryAfterMs === 0;
  // One server that stops says nothing about the others.
  const elsewhere = goaway.code === "shutdown" && state.servers > 1;
  const holdMs = configured ? Math.max(SLOW_RETRY_MS, goaway.retryAfterMs) : elsewhere ? 0 : goaway.retryAfterMs;
  const remedy =
    goaway.code === "key"
      ? "; check the agent's key file"
      : goaway.code === "version"
        ? "; agent and server versions do not fit together"
        : "";
  const next = elsewhere ? "the next server is tried now" : `next try in ${Math.ceil(holdMs / 1000)} s or later`;
  const text = `the server sent us away (${goaway.code}): ${goaway.message}${remedy}; ${next}`;
  const again = goaway.code === "again";
  return [
    { ...state, holdMs, sentAway: again ? "again" : "yes", lastError: text },
    [
      { type: "say", level: again ? "info" : "warning", text },
      { type: "close", reason: text },
    ],
  ];
};

const onTick = <W extends Numbered>(state: LinkState<W>, nowMs: number): Step<W> => {
  if (state.phase === "idle" && nowMs >= state.dialAtMs)
    return [{ ...state, phase: "connecting", sinceMs: nowMs }, [{ type: "dial", server: state.server }]];
  if ((state.phase === "connecting" || state.phase === "greeting") && nowMs - state.sinceMs > GREETING_MS)
    return [state, [{ type: "close", reason: `no greeting from the server within ${GREETING_MS / 1000} s` }]];
  if (state.phase === "ready" && state.sent > 0 && nowMs - state.heardMs > SILENCE_MS)
    return [{ ...state, heardMs: nowMs }, [{ type: "close", reason: `no acknowledgement for ${SILENCE_MS / 1000} s` }]];
  return state.phase === "ready" ? [state, [{ type: "store", rewind: false }]] : [state, []];
};

export const stepLink = <W extends Numbered>(state: LinkState<W>, input: LinkInput<W>, nowMs: number): Step<W> => {
  if (state.phase === "stopped") return [state, []];
  switch (input.type) {
    case "tick":
      return onTick(state, nowMs);
    case "opened":
      return [{ ...state, phase: "greeting", sinceMs: nowMs }, [{ type: "greet" }]];
    case "greeted": {
      const recalled = recall(state, input.have, nowMs);
      return [
        {
          ...recalled,
          ...clockOf(state, input.serverMs - nowMs),
          phase: "ready",
          sinceMs: nowMs,
          heardMs: nowMs,
          attempts: 0,
          lastError: "",
          counters: count(recalled.counters, "connects"),
        },
        [
          { type: "say", level: "info", text: `connected to server ${input.serverId}` },
          { type: "store", rewind: true },
        ],
      ];
    }
    case "ack":
      return onAck(state, input.ack, nowMs);
    case "credit":
      return input.credit.lane === "observe"
        ? // a server that is behind says so by granting again what it had granted
          pump({ ...state, observeCredit: input.credit.frames, heardMs: nowMs }, nowMs, [])
        : [{ ...state, storeCredit: input.credit.frames }, [{ type: "store", rewind: false }]];
    case "goaway":
      return onGoaway(state, input.goaway);
    case "skipped":
      return [{ ...state, counters: count(state.counters, "skippedFrames") }, []];
    case "bad-frame":
      return [
        { ...state, counters: count(state.counters, "badFrames") },
        [
          { type: "say", level: "warning", text: `frame from the server not understood: ${input.reason}` },
          { type: "close", reason: input.reason },
        ],
      ];
    case "closed": {
      // A goaway already said why.
      const said = state.sentAway !== "no";
      const reason = said ? state.lastError : input.reason;
      const next = ended(state, nowMs, reason, input.random);
      const first = !said && (state.phase === "ready" || state.attempts === 0);
      const what = state.phase === "ready" ? "connection to the server ended" : "server not reached";
      return [next, first ? [{ type: "say", level: "warning", text: `${what}: ${reason}` }] : []];
    }
    case "window": {
      const over = state.ring.length + 1 > RING ? 1 : 0;
      // those under way stay: they are about to be acknowledged, and count against the credit until then
      const kept = state.ring.slice(0, state.sent);
      return pump(
        {
          ...state,
          ring: [...kept, ...state.ring.slice(state.sent + over), input.window],
          counters: count(state.counters, "windowsDropped", over),
        },
        nowMs,
        [],
      );
    }
    case "refresh":
      return state.phase === "ready" ? [state, [{ type: "close", reason: "capabilities changed" }]] : [state, []];
    case "stop":
      return [{ ...state, phase: "stopped", sinceMs: nowMs }, [{ type: "close", reason: "the agent stops" }]];
  }
};
