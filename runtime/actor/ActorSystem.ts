/**
 * The actor kernel: one per process, owner of every actor in it.
 *
 * An actor has a fiber only while its mailbox has messages (410 B idle instead of 8.7 KB). `tell` never blocks: a full
 * mailbox merges or sheds, counted. A `step` that throws is supervised (Supervision.ts): the message that killed goes to
 * the dead letters and is never replayed. Time comes from Clock; one metronome drives timers, ask time-outs and ticks.
 * It stops with its scope: no new messages, mailboxes are drained for up to five seconds, open asks fail.
 */
import { Clock, Context, Effect, Metric, Runtime, type Scope } from "effect";
import type { ActorMessageView, ActorView } from "../../schemas/wire/page.ts";
import type { ActorEffect, ActorPath, Behavior, Message, Reply } from "./Behavior.ts";
import { Board } from "./Board.ts";
import { Mailbox, type Envelope } from "./Mailbox.ts";
import { maskSecrets } from "./mask.ts";
import { Measure, remember } from "./Measure.ts";
import { decide, noFailures, type FailureHistory } from "./Supervision.ts";
import { Timers } from "./Timers.ts";

const METRONOME_MS = 100;
const DRAIN_MS = 5_000;
const MESSAGES_PER_TURN = 64;
const DEAD_LETTERS = 256;
/** Sizes of states are taken by turns, since each costs a walk over the state. */
const SIZED_PER_LOOK = 25;
/** Measuring goes on this long after the console last looked. */
const MEASURE_FOR_MS = 5_000;

const shedTotal = Metric.counter("actor_messages_shed_total", { incremental: true });
const restartsTotal = Metric.counter("actor_restarts_total", { incremental: true });
const quarantinesTotal = Metric.counter("actor_quarantines_total", { incremental: true });
const deadLettersTotal = Metric.counter("actor_dead_letters_total", { incremental: true });

/** Work outside actors: what `perform` runs. Its failure reaches the actor as a Reply that is not ok. */
export type Port = (request: unknown, from: ActorPath) => Effect.Effect<unknown, unknown>;

export interface DeadLetter {
  readonly at: number;
  readonly to: ActorPath;
  readonly from: ActorPath | null;
  readonly type: string;
  readonly reason: string;
}

/** Why an ask got no answer. */
export class AskFailed extends Error {
  readonly path: ActorPath;
  constructor(path: ActorPath, reason: string) {
    super(`ask ${path}: ${reason}`);
    this.name = "AskFailed";
    this.path = path;
  }
}

// The registry holds behaviours of every type; messages reach a behaviour only through paths that its owner spawned.
type AnyBehavior = Behavior<unknown, Message>;

interface Cell {
  readonly path: ActorPath;
  readonly parent: ActorPath | null;
  readonly behavior: AnyBehavior;
  readonly argument: unknown;
  readonly mailbox: Mailbox;
  readonly startedAt: number;
  state: unknown;
  snapshot: unknown;
  running: boolean;
  stopped: boolean;
  tickQueued: boolean;
  quarantinedUntil: number;
  history: FailureHistory;
  handled: number;
  sent: number;
  merged: number;
  shed: number;
  restarts: number;
  deadLetters: number;
  lastError: string | null;
  measure: Measure | null;
}

export class ActorSystem extends Context.Tag("runtime/actor/ActorSystem")<ActorSystem, ActorSystemShape>() {}

export interface ActorSystemShape {
  /** makes a kind of actor known to `spawn`; a second one of the same kind is a defect */
  readonly register: <S, M extends Message, A>(behavior: Behavior<S, M, A>) => void;
  readonly port: (name: string, port: Port) => void;
  /** starts the actor unless the path is taken; says whether it did */
  readonly spawn: (path: ActorPath, behavior: string, argument: unknown, parent?: ActorPath) => boolean;
  readonly stop: (path: ActorPath) => void;
  readonly has: (path: ActorPath) => boolean;
  /** false when nobody has that path (a dead letter) or the message was shed */
  readonly tell: (path: ActorPath, message: Message, from?: ActorPath) => boolean;
  readonly ask: (path: ActorPath, message: Message, timeoutMs: number) => Effect.Effect<unknown, AskFailed>;
  readonly children: (parent: ActorPath) => readonly ActorPath[];
  readonly deadLetters: () => readonly DeadLetter[];
  /** the console's table; looking keeps the measuring on for five seconds */
  readonly views: () => readonly ActorView[];
  /** one actor for the console, secrets masked; null when there is none */
  readonly inspect: (
    path: ActorPath,
  ) => { readonly row: ActorView; readonly state: unknown; readonly recent: readonly ActorMessageView[] } | null;
  readonly board: Board;
  /** waits until no mailbox has a message; work in ports is not waited for */
  readonly idle: Effect.Effect<void>;
}

const count = (metric: Metric.Metric.Counter<number>): void => {
  metric.unsafeUpdate(1, []);
};

const describe = (error: unknown): string =>
  error instanceof Error ? `${error.name}: ${error.message}` : String(error);

export const make: Effect.Effect<ActorSystemShape, never, Scope.Scope> = Effect.gen(function* () {
  const scope = yield* Effect.scope;
  const runtime = yield* Effect.runtime<never>();
  const clock = yield* Clock.clockWith(Effect.succeed);
  const fork = Runtime.runFork(runtime);
  const now = (): number => clock.unsafeCurrentTimeMillis();
  const board = new Board();
  const behaviors = new Map<string, AnyBehavior>();
  const ports = new Map<string, Port>();
  const cells = new Map<ActorPath, Cell>();
  const ticking = new Set<Cell>();
  const timers = new Timers<() => void>();
  const asks = new Map<number, { readonly path: ActorPath; readonly answer: (result: Reply["result"]) => void }>();
  const dead: DeadLetter[] = [];
  let busy = 0;
  let nextAsk = 1;
  let closing = false;
  let measureUntil = 0;
  let sizedNext = 0;

  const deadLetter = (to: ActorPath, envelope: Envelope, reason: string): void => {
    count(deadLettersTotal);
    remember(dead, { at: now(), to, from: envelope.from, type: envelope.message.type, reason }, DEAD_LETTERS);
    if (envelope.ask !== 0) answer(envelope.ask, { ok: false, error: reason });
  };

  const answer = (ask: number, result: Reply["result"]): void => {
    const open = asks.get(ask);
    if (open === undefined) return;
    asks.delete(ask);
    timers.cancel(`ask:${ask}`);
    open.answer(result);
  };

  const openAsk = (path: ActorPath, timeoutMs: number, resolve: (result: Reply["result"]) => void): number => {
    const id = nextAsk++;
    asks.set(id, { path, answer: resolve });
    timers.set(`ask:${id}`, now() + timeoutMs, () =>
      answer(id, { ok: false, error: `no answer from ${path} within ${timeoutMs} ms` }),
    );
    return id;
  };

  const enqueue = (path: ActorPath, message: Message, from: ActorPath | null, ask: number): boolean => {
    const measuring = measureUntil > 0 && now() < measureUntil;
    const envelope: Envelope = { message, from, ask, at: measuring ? now() : 0 };
    const cell = cells.get(path);
    if (cell === undefined || cell.stopped || closing) {
      deadLetter(path, envelope, closing ? "the system is stopping" : "nobody has this path");
      return false;
    }
    if (!cell.mailbox.push(envelope) && !makeRoom(cell, envelope)) {
      cell.shed++;
      count(shedTotal);
      if (ask !== 0) answer(ask, { ok: false, error: `mailbox of ${path} is full (${cell.mailbox.bound})` });
      return false;
    }
    wake(cell);
    return true;
  };

  /** A full mailbox: what the behaviour says about this type of message. Says whether the message was taken. */
  const makeRoom = (cell: Cell, envelope: Envelope): boolean => {
    const { message, ask } = envelope;
    const policy = ask === 0 ? (cell.behavior.overflow?.[message.type] ?? "refuse") : "refuse";
    if (policy === "refuse") return false;
    const same = (other: Envelope): boolean => other.ask === 0 && other.message.type === message.type;
    if (policy === "drop-oldest") {
      if (!cell.mailbox.dropFirst(same)) return false;
      cell.shed++;
      count(shedTotal);
      return cell.mailbox.push(envelope);
    }
    const waiting = cell.mailbox.findLast(same);
    const merged = waiting === undefined ? null : policy.merge(waiting.message, message);
    if (waiting === undefined || merged === null) return false;
    waiting.message = merged;
    cell.merged++;
    return true;
  };

  const wake = (cell: Cell): void => {
    if (cell.running || cell.stopped || cell.mailbox.length === 0 || cell.quarantinedUntil > now()) return;
    cell.running = true;
    busy++;
    fork(drain(cell), { scope, immediate: false });
  };

  const drain = (cell: Cell): Effect.Effect<void> =>
    Effect.suspend(() => {
      for (let i = 0; i < MESSAGES_PER_TURN && !cell.stopped && cell.quarantinedUntil <= now(); i++) {
        const envelope = cell.mailbox.shift();
        if (envelope === undefined) break;
        handle(cell, envelope);
      }
      if (!cell.stopped && cell.mailbox.length > 0 && cell.quarantinedUntil <= now())
        return Effect.zipRight(Effect.yieldNow(), drain(cell));
      cell.running = false;
      busy--;
      return Effect.void;
    });

  const handle = (cell: Cell, envelope: Envelope): void => {
    const at = now();
    const started = envelope.at === 0 ? 0 : performance.now();
    let error: string | null = null;
    if (envelope.message.type === "tick") cell.tickQueued = false;
    try {
      const [state, effects] = cell.behavior.step(cell.state, envelope.message, at);
      cell.state = state;
      cell.handled++;
      for (const effect of effects) interpret(cell, effect, envelope.ask);
    } catch (cause) {
      error = describe(cause);
      fail(cell, envelope, error, at);
    }
    if (envelope.at === 0) return;
    const { message, from } = envelope;
    const handleMs = performance.now() - started;
    measureOf(cell, at).handled({ at, type: message.type, from, waitMs: at - envelope.at, handleMs, error });
  };

  const fail = (cell: Cell, envelope: Envelope, error: string, at: number): void => {
    cell.lastError = error;
    cell.deadLetters++;
    deadLetter(cell.path, envelope, error);
    const { directive, history } = decide(cell.history, at, Math.random());
    cell.history = history;
    if (directive.kind === "restart") return restart(cell, at);
    count(quarantinesTotal);
    cell.quarantinedUntil = at + directive.forMs;
    timers.set(`quarantine:${cell.path}`, cell.quarantinedUntil, () => {
      cell.quarantinedUntil = 0;
      restart(cell, now());
      wake(cell);
    });
    if (directive.escalate && cell.parent !== null && cells.has(cell.parent))
      enqueue(cell.parent, { type: "child-failed", child: cell.path, error } as Message, cell.path, 0);
  };

  const restart = (cell: Cell, at: number): void => {
    cell.restarts++;
    count(restartsTotal);
    try {
      const [state, effects] = cell.behavior.initial(cell.path, cell.argument, at, cell.snapshot);
      cell.state = state;
      for (const effect of effects) interpret(cell, effect, 0);
    } catch (cause) {
      // A behaviour that cannot even start is stopped: there is nothing left to supervise.
      cell.lastError = describe(cause);
      stopCell(cell);
    }
  };

  const interpret = (cell: Cell, effect: ActorEffect, ask: number): void => {
    switch (effect.kind) {
      case "send":
        cell.sent++;
        enqueue(effect.to, effect.message, cell.path, 0);
        return;
      case "ask": {
        cell.sent++;
        const reply = (result: Reply["result"]): void => {
          const message: Reply = { type: "reply", tag: effect.tag, from: effect.to, result };
          enqueue(cell.path, message, effect.to, 0);
        };
        enqueue(effect.to, effect.message, cell.path, openAsk(effect.to, effect.timeoutMs, reply));
        return;
      }
      case "reply":
        if (ask !== 0) answer(ask, { ok: true, value: effect.value });
        return;
      case "perform":
        return perform(cell, effect.port, effect.request, effect.tag);
      case "publish":
        board.publish(effect.board, effect.key, effect.value);
        return;
      case "schedule":
        timers.set(`${cell.path}#${effect.key}`, now() + effect.afterMs, () => {
          enqueue(cell.path, effect.message, cell.path, 0);
        });
        return;
      case "cancel":
        timers.cancel(`${cell.path}#${effect.key}`);
        return;
      case "spawn":
        spawn(effect.path, effect.behavior, effect.argument, cell.path);
        return;
      case "stop": {
        const target = cells.get(effect.path);
        if (target !== undefined) stopCell(target);
        return;
      }
      case "snapshot":
        cell.snapshot = effect.value;
        for (const next of effect.then ?? []) interpret(cell, next, 0);
        return;
      case "done":
        return;
    }
  };

  const perform = (cell: Cell, name: string, request: unknown, tag: string | null): void => {
    const reply = (result: Reply["result"]): void => {
      if (tag === null) {
        if (!result.ok) cell.lastError = result.error;
        return;
      }
      const message: Reply = { type: "reply", tag, from: `port/${name}`, result };
      enqueue(cell.path, message, message.from, 0);
    };
    const port = ports.get(name);
    if (port === undefined) return reply({ ok: false, error: `no port is called ${name}` });
    fork(
      Effect.suspend(() => port(request, cell.path)).pipe(
        Effect.matchCause({
          onSuccess: (value) => reply({ ok: true, value }),
          onFailure: (cause) => reply({ ok: false, error: cause.toString() }),
        }),
      ),
      { scope },
    );
  };

  const spawn = (path: ActorPath, kind: string, argument: unknown, parent: ActorPath | null): boolean => {
    if (cells.has(path) || closing) return false;
    const behavior = behaviors.get(kind);
    if (behavior === undefined) throw new Error(`spawn ${path}: no behaviour of kind ${kind} is registered`);
    const at = now();
    const cell: Cell = {
      path,
      parent,
      behavior,
      argument,
      mailbox: new Mailbox(behavior.mailbox),
      startedAt: at,
      state: undefined,
      snapshot: undefined,
      running: false,
      stopped: false,
      tickQueued: false,
      quarantinedUntil: 0,
      history: noFailures,
      handled: 0,
      sent: 0,
      merged: 0,
      shed: 0,
      restarts: 0,
      deadLetters: 0,
      lastError: null,
      measure: null,
    };
    const [state, effects] = behavior.initial(path, argument, at, undefined);
    cell.state = state;
    cells.set(path, cell);
    if (behavior.ticks) ticking.add(cell);
    for (const effect of effects) interpret(cell, effect, 0);
    return true;
  };

  const stopCell = (cell: Cell): void => {
    if (cell.stopped) return;
    cell.stopped = true;
    cells.delete(cell.path);
    ticking.delete(cell);
    for (let envelope = cell.mailbox.shift(); envelope !== undefined; envelope = cell.mailbox.shift())
      deadLetter(cell.path, envelope, "the actor was stopped");
  };

  const measureOf = (cell: Cell, at: number): Measure => {
    cell.measure ??= new Measure(at, cell.handled, cell.sent);
    return cell.measure;
  };

  const view = (cell: Cell, at: number): ActorView => {
    const measure = measureOf(cell, at);
    measure.count(at, cell.handled, cell.sent);
    return {
      path: cell.path,
      kind: cell.behavior.kind,
      parent: cell.parent,
      state: cell.quarantinedUntil > at ? "quarantined" : cell.running ? "running" : "idle",
      startedAt: cell.startedAt,
      mailbox: cell.mailbox.length,
      mailboxBound: cell.mailbox.bound,
      mailboxWaitP95Ms: measure.waitP95Ms,
      handleP95Ms: measure.handleP95Ms,
      inPerSecond: measure.inPerSecond,
      outPerSecond: measure.outPerSecond,
      handled: cell.handled,
      merged: cell.merged,
      shed: cell.shed,
      restarts: cell.restarts,
      stateBytes: measure.stateBytes,
      lastError: cell.lastError,
      deadLetters: cell.deadLetters,
    };
  };

  const beat = Effect.sync(() => {
    for (const fire of timers.due(now())) fire();
    if (measureUntil > 0 && now() > measureUntil) {
      measureUntil = 0;
      for (const cell of cells.values()) cell.measure = null;
    }
  });
  let sinceTick = 0;
  const tick = Effect.sync(() => {
    sinceTick += METRONOME_MS;
    if (sinceTick < 1000) return;
    sinceTick = 0;
    for (const cell of ticking) {
      if (cell.tickQueued) continue;
      cell.tickQueued = true;
      if (!enqueue(cell.path, { type: "tick" }, null, 0)) cell.tickQueued = false;
    }
  });
  yield* Effect.sleep(METRONOME_MS).pipe(
    Effect.zipRight(beat),
    Effect.zipRight(tick),
    Effect.forever,
    Effect.interruptible,
    Effect.forkIn(scope),
  );

  const idle: Effect.Effect<void> = Effect.suspend(() =>
    busy === 0 ? Effect.void : Effect.zipRight(Effect.sleep(1), idle),
  );

  yield* Effect.addFinalizer(() =>
    idle.pipe(
      Effect.timeoutOption(DRAIN_MS),
      Effect.zipRight(
        Effect.sync(() => {
          closing = true;
          for (const id of asks.keys()) answer(id, { ok: false, error: "the system is stopping" });
        }),
      ),
    ),
  );

  return ActorSystem.of({
    register: (behavior) => {
      if (behaviors.has(behavior.kind)) throw new Error(`behaviour ${behavior.kind} is registered twice`);
      behaviors.set(behavior.kind, behavior as unknown as AnyBehavior);
    },
    port: (name, port) => void ports.set(name, port),
    spawn: (path, kind, argument, parent) => spawn(path, kind, argument, parent ?? null),
    stop: (path) => {
      const cell = cells.get(path);
      if (cell !== undefined) stopCell(cell);
    },
    has: (path) => cells.has(path),
    tell: (path, message, from) => enqueue(path, message, from ?? null, 0),
    ask: (path, message, timeoutMs) =>
      Effect.async<unknown, AskFailed>((resume) => {
        const id = openAsk(path, timeoutMs, (result) =>
          resume(result.ok ? Effect.succeed(result.value) : Effect.fail(new AskFailed(path, result.error))),
        );
        enqueue(path, message, null, id);
        return Effect.sync(() => {
          asks.delete(id);
          timers.cancel(`ask:${id}`);
        });
      }),
    children: (parent) => [...cells.values()].filter((cell) => cell.parent === parent).map((cell) => cell.path),
    deadLetters: () => dead,
    views: () => {
      const at = now();
      measureUntil = at + MEASURE_FOR_MS;
      const all = [...cells.values()];
      for (let i = 0; i < Math.min(SIZED_PER_LOOK, all.length); i++) {
        const cell = all[sizedNext++ % all.length];
        if (cell !== undefined) measureOf(cell, at).size(cell.behavior.inspect(cell.state));
      }
      return all.map((cell) => view(cell, at));
    },
    inspect: (path) => {
      const cell = cells.get(path);
      if (cell === undefined) return null;
      const at = now();
      measureUntil = at + MEASURE_FOR_MS;
      const state = maskSecrets(cell.behavior.inspect(cell.state));
      measureOf(cell, at).size(state);
      return { row: view(cell, at), state, recent: [...measureOf(cell, at).recent] };
    },
    board,
    idle,
  });
});
