/**
 * A stock coroot-node-agent, as this server sees it: its scrapes come by remote_write to `/v1/metrics`, are turned into the
 * windows that an agent of ours sends (StockNode.ts), and go the same way from there: this actor holds an agent session and
 * hands it the windows, so services, topology and page cannot tell the difference but by how long a window reaches.
 *
 * Started by the metrics door with the first samples of a node, on the replica that got them; calls that another replica
 * takes come here. A scrape is told with the tick after its last call, or when the next one begins. Without scrapes for a
 * minute the agent is lost, and what it watched is unknown, not down. A failure loses one window: counters are compared
 * with what the next scrape says. Ends a day after the last scrape.
 */
import { send, type ActorEffect, type Behavior, type Message, type Undelivered } from "../../runtime/actor/Behavior.ts";
import type { DecodedObserve } from "../../schemas/wire/codec.ts";
import type { AgentView } from "../../schemas/wire/page.ts";
import { agentSession } from "../agent-session/AgentSession.ts";
import { sessionPath, type SessionArgument, type SessionMessage } from "../agent-session/messages.ts";
import type { SessionState } from "../agent-session/state.ts";
import type { Owners, Samples, Wanted } from "./messages.ts";
import { KUBE_AGENT } from "./metrics.ts";
import { StockNode } from "./StockNode.ts";

/** The session waits as long again before it says that the agent is lost. */
const SILENT_MS = 30_000;
const ENDS_AFTER_MS = 24 * 3_600_000;
/** The cluster agent may have come meanwhile, or started anew. */
const ASK_EVERY_MS = 60_000;
/** A node's clock that is ahead by more than this is not believed. */
const AHEAD_MS = 1_000;
/** Scrapes that come later than this say what was, and open no incident. */
const LATE_MS = 10_000;

export interface StockArgument extends SessionArgument {
  readonly cluster: string;
}

type StockMessage =
  | Samples
  | Owners
  | Exclude<SessionMessage, { readonly type: "connected" | "disconnected" | "window" | "threshold" }>;

interface StockState {
  readonly path: string;
  readonly cluster: string;
  /** the node's time of the first scrape that was told: whoever takes over later begins later, by whatever server's clock */
  epoch: number;
  readonly node: StockNode;
  session: SessionState;
  connected: boolean;
  connectedAt: number;
  /** server time of the last scrape's arrival; and how far the node's clock was from it */
  lastAt: number;
  offsetMs: number;
  scrapes: number;
  spanS: number;
  askedAt: number;
}

export const stockAgent: Behavior<StockState, StockMessage, StockArgument> = {
  kind: "stock-agent",
  mailbox: 256,
  messages: {
    samples: "refuse",
    owners: "refuse",
    resolved: "refuse",
    rewind: "refuse",
    "rewind-now": "refuse",
    relearn: "refuse",
    undelivered: "refuse",
    reply: "refuse",
    tick: "refuse",
  },
  ticks: true,
  initial: (path, argument, now) => {
    const [session] = agentSession.initial(path, argument, now, undefined);
    return [
      {
        path,
        cluster: argument.cluster,
        epoch: 0,
        node: new StockNode(argument.agent),
        session,
        connected: false,
        connectedAt: now,
        lastAt: now,
        offsetMs: 0,
        scrapes: 0,
        spanS: 0,
        askedAt: now,
      },
      [],
    ];
  },
  step: (state, message, now) => {
    switch (message.type) {
      case "samples": {
        state.lastAt = now;
        const effects = state.node.take(message.samples, message.goesOn).flatMap((body) => told(state, body, now));
        state.offsetMs = state.node.scrapeAt - now;
        return [state, [...effects, ...asking(state, now)]];
      }
      case "owners":
        state.node.learn(message.pods);
        return [state, []];
      case "rewind":
      case "rewind-now":
        // There is nobody who could send it again: what was on its way to a part that moved is lost with that window.
        return [state, []];
      case "undelivered":
        return [state, isKube(message) ? [] : inSession(state, message, now)];
      case "tick":
        return [state, everySecond(state, now)];
      default:
        return [state, inSession(state, message, now)];
    }
  },
  shows: { agents: (state, now) => view(state, now) },
  inspect: (state) => ({
    agent: view(state, state.lastAt),
    ...state.node.figures,
    scrapeAt: state.node.scrapeAt,
    samplesAgain: state.node.again,
    session: agentSession.inspect(state.session),
  }),
};

const isKube = ({ to }: Undelivered): boolean => to === sessionPath(KUBE_AGENT);

/** One step of the session; it has nobody to answer to. */
const inSession = (state: StockState, message: SessionMessage, now: number): ActorEffect[] => {
  const [session, effects] = agentSession.step(state.session, message, now);
  state.session = session;
  // It would have an agent of ours come again. Here what waited for too long is lost, and all is told anew.
  if (effects.some(({ kind }) => kind === "perform")) {
    state.node.lose("windows that waited too long");
    state.node.untell();
    state.connected = false;
  }
  return effects.filter(({ kind }) => kind !== "reply" && kind !== "perform");
};

const told = (state: StockState, body: DecodedObserve, now: number): ActorEffect[] => {
  const effects: ActorEffect[] = [];
  const scrapeAt = body.monoMs;
  if (state.epoch === 0) state.epoch = scrapeAt;
  if (!state.connected) {
    const { epoch, cluster, node } = state;
    effects.push(...inSession(state, { type: "connected", epoch, cluster, node: node.node }, now));
    state.connected = true;
    state.connectedAt = now;
  }
  if (scrapeAt > now + AHEAD_MS) state.node.lose("scrapes whose clock is ahead");
  else if (scrapeAt < now - LATE_MS) state.node.lose("scrapes that came late");
  state.scrapes++;
  state.spanS = body.span ?? 0;
  return [...effects, ...inSession(state, { type: "window", at: Math.min(scrapeAt, now), body }, now)];
};

const everySecond = (state: StockState, now: number): ActorEffect[] => {
  const effects = state.node.close().flatMap((body) => told(state, body, now));
  if (state.connected && now - state.lastAt >= SILENT_MS) {
    state.connected = false;
    state.node.untell();
    effects.push(...inSession(state, { type: "disconnected" }, now));
  }
  effects.push(...inSession(state, { type: "tick" }, now));
  if (now - state.lastAt > ENDS_AFTER_MS) effects.push({ kind: "stop", path: state.path });
  return effects;
};

/** Told of before the scrape is closed, so that the answer is in its window. */
const asking = (state: StockState, now: number): ActorEffect[] => {
  const again = now - state.askedAt >= ASK_EVERY_MS;
  if (again) state.askedAt = now;
  const { pods, destinations } = state.node.wanted(again);
  if (pods.length === 0 && destinations.length === 0) return [];
  const wanted: Wanted = { type: "wanted", agent: state.session.agent, pods, destinations };
  return [send(sessionPath(KUBE_AGENT), wanted as Message)];
};

const LOST_AFTER_MS = 60_000;

const view = ({ session, node, cluster, connectedAt, lastAt, ...state }: StockState, now: number): AgentView => ({
  id: session.agent,
  node: node.node,
  cluster,
  version: `coroot-node-agent ${node.version}`.trimEnd(),
  kernel: node.kernel,
  state: now - lastAt < LOST_AFTER_MS ? "connected" : "disconnected",
  connectedAt,
  lastFrameAt: lastAt,
  clockOffsetMs: Math.round(state.offsetMs),
  window: Math.max(0, session.lastWindow),
  framesPerSecond: state.spanS > 0 && now - lastAt < LOST_AFTER_MS ? 1 / state.spanS : 0,
  bytesPerSecond: 0,
  instances: node.figures.instances,
  edges: node.figures.edges,
  capabilities: [],
  losses: Object.fromEntries(node.losses),
  conflicts: 0,
  self: {},
});
