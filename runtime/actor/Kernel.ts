/**
 * The actor kernel: owner of every actor in this process. Mailboxes in, steps run, effects carried out, failures
 * supervised (Supervision.ts), time by one metronome.
 *
 * An actor has a fiber only while its mailbox has messages (a few hundred bytes idle instead of 8.7 KB): who is told
 * something goes on the run queue, and the dispatcher starts the fibers of those on it, each for at most 64 messages or
 * about a millisecond.
 * `tell` never blocks: a full mailbox merges, drops or refuses, counted. A `step` that throws costs its actor the state
 * since the last snapshot and nobody else anything; the message that did it is never told again.
 */
import { Effect, FiberRef, Metric, Runtime, type Clock, type Fiber } from "effect";
import { Asks, type Answer } from "./Asks.ts";
import type { ActorEffect, ActorPath, Message, Reply, Undelivered } from "./Behavior.ts";
import { Board } from "./Board.ts";
import { newCell, type AnyBehavior, type Cell } from "./Cell.ts";
import { DeadLetters } from "./DeadLetters.ts";
import { describe } from "./describe.ts";
import type { Envelope } from "./Mailbox.ts";
import type { Outside, Parcel, Port, Settled } from "./Outside.ts";
import { makeRoom } from "./overflow.ts";
import { Receipts } from "./Receipts.ts";
import { decide } from "./Supervision.ts";
import { Timers } from "./Timers.ts";
import { BULK } from "./TurnScheduler.ts";
import { Watch } from "./Watch.ts";

export const METRONOME_MS = 100;
const BEATS_PER_TICK = 10;
const MESSAGES_PER_TURN = 64;
/** A turn ends with the message during which so much has passed: others wait for as many turns as there are actors. */
const TURN_MS = 1;
/** Else one that all agents tell something would have a thousandth of the time. */
const CENTRAL_TURN_MS = 5;
/** Actors that run before others than actors have their turn. */
const FIBERS_PER_TURN = 16;
/** Some messages for each of a thousand actors: a fiber for each of them alone would cost more than the message. */
const ENOUGH_WAITING = 8_000;
const BACKLOG_AGAIN_MS = 5;
/** An actor that is told to stop has this long to handle what waits. */
export const DRAIN_MS = 5_000;

const unknownTotal = Metric.counter("actor_messages_unknown_total", { incremental: true });
const restartsTotal = Metric.counter("actor_restarts_total", { incremental: true });
const quarantinesTotal = Metric.counter("actor_quarantines_total", { incremental: true });
const escalationsTotal = Metric.counter("actor_escalations_total", { incremental: true });

const count = (metric: Metric.Metric.Counter<number>): void => {
  metric.unsafeUpdate(1, []);
};

type Fork = <A>(effect: Effect.Effect<A>, options?: Runtime.RunForkOptions) => Fiber.RuntimeFiber<A>;

const waitingFor = ({ mailbox, behavior, state }: Cell): number => mailbox.length + (behavior.keeps?.(state) ?? 0);

export class Kernel {
  readonly board: Board;
  readonly watch: Watch;
  readonly asks: Asks;
  readonly receipts = new Receipts();
  readonly dead = new DeadLetters();
  readonly cells = new Map<ActorPath, Cell>();
  readonly outside: Partial<Outside> = {};
  readonly #behaviors = new Map<string, AnyBehavior>();
  readonly #ports = new Map<string, Port>();
  readonly #timers = new Timers<() => void>();
  readonly #ticking: Set<Cell>[] = Array.from({ length: BEATS_PER_TICK }, () => new Set<Cell>());
  readonly #failing = new Set<Cell>();
  readonly #working = new Set<Fiber.RuntimeFiber<void>>();
  readonly #clock: Clock.Clock;
  readonly #fork: Fork;
  /** for what actors do: it comes in bulk */
  readonly #forkTurn: Fork;
  /** who may run, in the order of their turns */
  #first: Cell[] = [];
  #ready: Cell[] = [];
  #last: Cell[] = [];
  #dispatching = false;
  #backlog = 0;
  #backlogAt = 0;
  #closing = false;
  #beats = 0;
  #nextTrace: number;

  constructor(clock: Clock.Clock, runtime: Runtime.Runtime<never>, seed: number) {
    this.#clock = clock;
    this.#fork = Runtime.runFork(runtime);
    this.#forkTurn = Runtime.runFork(Runtime.setFiberRef(runtime, FiberRef.currentSchedulingPriority, BULK));
    this.asks = new Asks(this.#timers);
    this.watch = new Watch(this.cells, () => this.now());
    this.board = new Board((board) => this.#shown(board));
    // Traces of several replicas must differ: each counts on from a random start.
    this.#nextTrace = seed * 2 ** 32;
  }

  now(): number {
    return this.#clock.unsafeCurrentTimeMillis();
  }

  get idle(): boolean {
    return !this.#dispatching;
  }

  /** Calls once fewer than `most` messages wait for the actor, those that it keeps among them, or nobody has the path. */
  whenRoom(path: ActorPath, most: number, resume: () => void): void {
    const cell = this.cells.get(path);
    if (cell === undefined || waitingFor(cell) < most) return resume();
    cell.room = [...cell.room, { most, resume }];
  }

  #tellRoom(cell: Cell): void {
    if (cell.room.length === 0) return;
    const waiting = cell.stopped ? 0 : waitingFor(cell);
    const told = cell.room.filter(({ most }) => waiting < most);
    if (told.length === 0) return;
    cell.room = cell.room.filter(({ most }) => waiting >= most);
    for (const { resume } of told) resume();
  }

  /** Whether those that run last must wait. What a moment ago was looked at is not looked at again. */
  #enoughWaits(): boolean {
    if (this.#ready.length === 0) return false;
    const now = performance.now();
    if (now - this.#backlogAt > BACKLOG_AGAIN_MS) {
      this.#backlogAt = now;
      this.#backlog = 0;
      for (const { mailbox } of this.#ready) this.#backlog += mailbox.length;
    }
    return this.#backlog >= ENOUGH_WAITING;
  }

  register(behavior: AnyBehavior): void {
    if (this.#behaviors.has(behavior.kind)) throw new Error(`behaviour ${behavior.kind} is registered twice`);
    this.#behaviors.set(behavior.kind, behavior);
  }

  behavior(kind: string): AnyBehavior | undefined {
    return this.#behaviors.get(kind);
  }

  port(name: string, port: Port): void {
    this.#ports.set(name, port);
  }

  /** Actors that failed again and again until nobody above them knew what to do. */
  failing(): readonly { readonly path: ActorPath; readonly error: string }[] {
    return [...this.#failing]
      .filter((cell) => cell.history.quarantines > 0 && this.now() - cell.history.lastFailure < 10 * 60_000)
      .map((cell) => ({ path: cell.path, error: cell.lastError ?? "" }));
  }

  newTrace(): number {
    return this.#nextTrace++;
  }

  tell(path: ActorPath, message: Message, from: ActorPath | null, ask: number, trace: number): boolean {
    const cell = this.cells.get(path);
    if (cell === undefined) return this.#tellElsewhere(path, message, from, ask, trace);
    const envelope: Envelope = { message, from, ask, trace, at: this.watch.measuring ? this.now() : 0 };
    if (cell.stopping || this.#closing) {
      this.#deadLetter(path, envelope, this.#closing ? "the system is stopping" : "the actor is stopping");
      return false;
    }
    if (cell.behavior.messages[message.type] === undefined) {
      if (message.type === "undelivered") return false;
      // From a newer replica, most likely: it must know that we cannot read this, and we must not fall over it.
      count(unknownTotal);
      cell.deadLetters++;
      this.#deadLetter(path, envelope, `${cell.behavior.kind} knows no message of type ${message.type}`);
      return false;
    }
    if (!cell.mailbox.push(envelope) && !makeRoom(cell, envelope)) {
      if (ask !== 0) this.asks.answer(ask, { ok: false, error: `mailbox of ${path} is full (${cell.mailbox.bound})` });
      return false;
    }
    this.#wake(cell);
    return true;
  }

  /** Hands over a durable message; `settle` hears how it ended. A key that is under way is not handed over twice. */
  deliver(to: ActorPath, message: Message, key: string, trace: number, settle: (how: Settled) => void): void {
    if (this.receipts.has(key)) return settle("again");
    this.receipts.open(key, { path: to, message, settle });
    if (!this.tell(to, message, null, 0, trace)) this.receipts.settle(key, "again");
  }

  openAsk(path: ActorPath, timeoutMs: number, resolve: (answer: Answer) => void): number {
    return this.asks.open(path, this.now() + timeoutMs, timeoutMs, resolve);
  }

  ask(path: ActorPath, message: Message, timeoutMs: number, resolve: (answer: Answer) => void): number {
    const trace = this.newTrace();
    const id = this.openAsk(path, timeoutMs, resolve);
    this.#send({ to: path, message, from: null, trace, ask: id, timeoutMs });
    return id;
  }

  #send(parcel: Parcel): boolean {
    const { router } = this.outside;
    if (router === undefined || this.cells.has(parcel.to) || router.isHere(parcel.to))
      return this.tell(parcel.to, parcel.message, parcel.from, parcel.ask, parcel.trace);
    if (router.forward(parcel)) return true;
    if (parcel.ask !== 0) this.asks.answer(parcel.ask, { ok: false, error: `${parcel.to} cannot be reached` });
    return false;
  }

  #tellElsewhere(path: ActorPath, message: Message, from: ActorPath | null, ask: number, trace: number): boolean {
    const { router } = this.outside;
    if (router !== undefined && ask === 0 && !this.#closing && !router.isHere(path))
      return router.forward({ to: path, message, from, trace, ask, timeoutMs: 0 });
    const reason = this.#closing ? "the system is stopping" : "nobody has this path";
    this.#deadLetter(path, { message, from, ask, trace, at: 0 }, reason);
    // Who sent it may know how to start whoever should have had it.
    if (from !== null && ask === 0 && !this.#closing && message.type !== "undelivered") {
      const undelivered: Undelivered = { type: "undelivered", to: path };
      this.#send({ to: from, message: undelivered, from: null, trace, ask: 0, timeoutMs: 0 });
    }
    return false;
  }

  #deadLetter(to: ActorPath, envelope: Envelope, reason: string): void {
    this.dead.add(this.now(), to, envelope, reason);
    if (envelope.ask !== 0) this.asks.answer(envelope.ask, { ok: false, error: reason });
  }

  #wake(cell: Cell): void {
    if (cell.running || cell.stopped || cell.paused || cell.mailbox.length === 0) return;
    if (cell.quarantinedUntil > 0 && cell.quarantinedUntil > this.now()) return;
    cell.running = true;
    this.#queue(cell);
    if (this.#dispatching) return;
    this.#dispatching = true;
    this.#forkTurn(this.#dispatch, { immediate: false });
  }

  #queue(cell: Cell): void {
    const { turn } = cell.behavior;
    (turn === undefined ? this.#ready : turn === "first" ? this.#first : this.#last).push(cell);
  }

  readonly #dispatch: Effect.Effect<void> = Effect.suspend(() => {
    const first = this.#first;
    this.#first = [];
    const last = this.#enoughWaits() ? [] : this.#last.splice(0, FIBERS_PER_TURN);
    const turn = last.length > 0 ? last : this.#ready.splice(0, FIBERS_PER_TURN);
    for (const cell of [...first, ...turn]) this.#forkTurn(Effect.sync(() => this.#turn(cell)));
    if (this.#first.length + this.#ready.length + this.#last.length > 0)
      return Effect.zipRight(Effect.yieldNow(), this.#dispatch);
    this.#dispatching = false;
    return Effect.void;
  });

  #turn(cell: Cell): void {
    const until = performance.now() + (cell.behavior.turn === "first" ? CENTRAL_TURN_MS : TURN_MS);
    for (let i = 0; i < MESSAGES_PER_TURN && this.#mayRun(cell); i++) {
      const envelope = cell.mailbox.shift();
      if (envelope === undefined) break;
      this.#handle(cell, envelope);
      if (performance.now() >= until) break;
    }
    this.#tellRoom(cell);
    if (cell.mailbox.length > 0 && this.#mayRun(cell)) {
      this.#queue(cell);
      return;
    }
    cell.running = false;
    if (cell.stopping && !cell.stopped) this.#finish(cell);
  }

  #mayRun(cell: Cell): boolean {
    return !cell.stopped && !cell.paused && (cell.quarantinedUntil === 0 || cell.quarantinedUntil <= this.now());
  }

  #handle(cell: Cell, envelope: Envelope): void {
    const at = this.now();
    const started = envelope.at === 0 ? 0 : performance.now();
    const { message } = envelope;
    let error: string | null = null;
    if (message.type === "tick") cell.tickQueued = false;
    try {
      const [state, effects] = cell.behavior.step(cell.state, message, at);
      cell.state = state;
      cell.handled++;
      for (const effect of effects) this.#interpret(cell, effect, envelope.ask, envelope.trace);
    } catch (cause) {
      error = describe(cause);
    }
    cell.tape?.handled(at, message, error !== null, () => cell.behavior.inspect(cell.state));
    if (error !== null) this.#fail(cell, envelope, error, at);
    if (envelope.at !== 0) this.watch.handled(cell, envelope, at, performance.now() - started, error);
  }

  #fail(cell: Cell, envelope: Envelope, error: string, at: number): void {
    cell.lastError = error;
    cell.deadLetters++;
    this.#deadLetter(cell.path, envelope, error);
    this.receipts.poisoned(envelope.message);
    const { directive, history } = decide(cell.history, at, Math.random());
    cell.history = history;
    if (directive.kind === "restart") return this.#restart(cell, at);
    count(quarantinesTotal);
    cell.quarantinedUntil = at + directive.forMs;
    this.#timers.set(`quarantine:${cell.path}`, cell.quarantinedUntil, () => {
      cell.quarantinedUntil = 0;
      if (cell.stopped) return;
      this.#restart(cell, this.now());
      this.#wake(cell);
    });
    if (directive.escalate) this.#escalate(cell, error);
  }

  /** To the nearest ancestor that knows what to do; without one it is for the people who look after the server. */
  #escalate(cell: Cell, error: string): void {
    count(escalationsTotal);
    for (let path = cell.parent; path !== null; ) {
      const parent = this.cells.get(path);
      if (parent === undefined) break;
      if (parent.behavior.messages["child-failed"] !== undefined) {
        const message = { type: "child-failed", child: cell.path, error };
        this.tell(parent.path, message, cell.path, 0, this.newTrace());
        return;
      }
      path = parent.parent;
    }
    this.#failing.add(cell);
  }

  #restart(cell: Cell, at: number): void {
    cell.restarts++;
    count(restartsTotal);
    cell.tape?.restarted(at, cell.snapshot);
    if (!this.#initialize(cell, at)) return;
    for (const { message } of this.receipts.of(cell.path))
      if (cell.mailbox.findLast((waiting) => waiting.message === message) === undefined)
        this.tell(cell.path, message, null, 0, this.newTrace());
  }

  /** False: it cannot even start, and is stopped, since there is nothing left to supervise. */
  #initialize(cell: Cell, at: number): boolean {
    try {
      const [state, effects] = cell.behavior.initial(cell.path, cell.argument, at, cell.snapshot);
      cell.state = state;
      const trace = this.newTrace();
      for (const effect of effects) this.#interpret(cell, effect, 0, trace);
      return true;
    } catch (cause) {
      cell.lastError = describe(cause);
      const envelope: Envelope = { message: { type: "initial" }, from: null, ask: 0, trace: 0, at: 0 };
      this.#deadLetter(cell.path, envelope, cell.lastError);
      this.#finish(cell);
      return false;
    }
  }

  #interpret(cell: Cell, effect: ActorEffect, ask: number, trace: number): void {
    switch (effect.kind) {
      case "send": {
        cell.sent++;
        const { to, message, durable } = effect;
        const parcel: Parcel = { to, message, from: cell.path, trace, ask: 0, timeoutMs: 0 };
        if (durable === undefined) this.#send(parcel);
        else if (this.outside.keeper !== undefined) this.outside.keeper.send(durable, parcel);
        else this.deliver(to, message, durable, trace, () => undefined);
        return;
      }
      case "done":
        return this.receipts.settle(effect.key, "done");
      case "ask": {
        cell.sent++;
        const { to, message, timeoutMs, tag } = effect;
        const id = this.openAsk(to, timeoutMs, (result) => this.#reply(cell, tag, to, result, trace));
        this.#send({ to, message, from: cell.path, trace, ask: id, timeoutMs });
        return;
      }
      case "reply":
        if (ask !== 0) this.asks.answer(ask, { ok: true, value: effect.value });
        return;
      case "perform":
        return this.#perform(cell, effect.port, effect.request, effect.tag, trace);
      case "publish":
        return this.board.publish(effect.board, effect.key, effect.value);
      case "schedule":
        cell.timers ??= new Set();
        cell.timers.add(effect.key);
        this.#timers.set(`${cell.path}#${effect.key}`, this.now() + effect.afterMs, () => {
          cell.timers?.delete(effect.key);
          this.tell(cell.path, effect.message, cell.path, 0, this.newTrace());
        });
        return;
      case "cancel":
        cell.timers?.delete(effect.key);
        this.#timers.cancel(`${cell.path}#${effect.key}`);
        return;
      case "spawn":
        this.spawn(effect.path, effect.behavior, effect.argument, cell.path);
        return;
      case "stop":
        return this.stop(effect.path);
      case "snapshot": {
        cell.snapshot = effect.value;
        const { afterwards } = effect;
        const follow = (): void => {
          for (const next of afterwards ?? []) this.#interpret(cell, next, 0, trace);
        };
        const { owned } = cell.behavior;
        if (owned === undefined || this.outside.keeper === undefined) return follow();
        const kept = afterwards === undefined ? null : follow;
        return this.outside.keeper.snapshot(cell.path, owned.version, effect.value, kept);
      }
    }
  }

  #reply(cell: Cell, tag: string, from: ActorPath, result: Answer, trace: number): void {
    // What a stopped actor once asked for is nobody's any more.
    if (cell.stopped) return;
    const message: Reply = { type: "reply", tag, from, result };
    this.tell(cell.path, message, from, 0, trace);
  }

  #perform(cell: Cell, name: string, request: unknown, tag: string | null, trace: number): void {
    const reply = (result: Answer): void => {
      if (tag !== null) return this.#reply(cell, tag, `port/${name}`, result, trace);
      if (!result.ok) cell.lastError = result.error;
    };
    const port = this.#ports.get(name);
    if (port === undefined) return reply({ ok: false, error: `no port is called ${name}` });
    const fiber = this.#fork(
      Effect.suspend(() => port(request, cell.path)).pipe(
        Effect.matchCause({
          onSuccess: (value) => reply({ ok: true, value }),
          onFailure: (cause) => reply({ ok: false, error: cause.toString() }),
        }),
      ),
    );
    if (fiber.unsafePoll() !== null) return;
    this.#working.add(fiber);
    fiber.addObserver(() => this.#working.delete(fiber));
  }

  spawn(path: ActorPath, kind: string, argument: unknown, parent: ActorPath | null): boolean {
    if (this.cells.has(path) || this.#closing) return false;
    const { router, keeper } = this.outside;
    if (router !== undefined && !router.isHere(path)) {
      router.spawn(path, kind, argument, parent);
      return true;
    }
    const behavior = this.#behaviors.get(kind);
    if (behavior === undefined) throw new Error(`spawn ${path}: no behaviour of kind ${kind} is registered`);
    const cell = this.#seat(newCell(path, parent, behavior, argument, this.now()));
    if (behavior.owned !== undefined) keeper?.spawned(path, kind, argument, parent);
    return this.#initialize(cell, cell.startedAt);
  }

  /** An actor that lived elsewhere or before goes on from its snapshot (undefined: it gave out none). */
  restore(path: ActorPath, kind: string, argument: unknown, parent: ActorPath | null, snapshot: unknown): boolean {
    const behavior = this.#behaviors.get(kind);
    if (behavior === undefined || this.cells.has(path) || this.#closing) return false;
    const cell = newCell(path, parent, behavior, argument, this.now());
    cell.snapshot = snapshot;
    this.#seat(cell);
    return this.#initialize(cell, cell.startedAt);
  }

  #seat(cell: Cell): Cell {
    this.cells.set(cell.path, cell);
    if (cell.behavior.ticks) this.#ticking[this.cells.size % BEATS_PER_TICK]?.add(cell);
    const { path, behavior, argument, startedAt, snapshot } = cell;
    cell.tape = this.outside.recorder?.started(path, behavior.kind, argument, startedAt, snapshot) ?? null;
    return cell;
  }

  /** It takes nothing new, handles what waits for at most DRAIN_MS, and is gone; also when it is not here. */
  stop(path: ActorPath): void {
    const cell = this.cells.get(path);
    if (cell === undefined) {
      const { router } = this.outside;
      if (router !== undefined && !router.isHere(path)) router.stop(path);
      return;
    }
    if (cell.stopping) return;
    this.outside.keeper?.stopped(path);
    this.#drainAndFinish(cell);
  }

  /** It leaves this process, to go on elsewhere from its snapshot: nothing that is kept of it is dropped. */
  evict(path: ActorPath): void {
    const cell = this.cells.get(path);
    if (cell !== undefined && !cell.stopping) this.#drainAndFinish(cell);
  }

  #drainAndFinish(cell: Cell): void {
    cell.stopping = true;
    for (const set of this.#ticking) set.delete(cell);
    if (cell.running) {
      this.#timers.set(`drain:${cell.path}`, this.now() + DRAIN_MS, () => this.#finish(cell));
      return;
    }
    this.#finish(cell);
  }

  #finish(cell: Cell): void {
    if (cell.stopped) return;
    cell.stopped = true;
    cell.stopping = true;
    const { path } = cell;
    this.cells.delete(path);
    this.#failing.delete(cell);
    for (const set of this.#ticking) set.delete(cell);
    for (const key of cell.timers ?? []) this.#timers.cancel(`${path}#${key}`);
    this.#timers.cancel(`quarantine:${path}`);
    this.#timers.cancel(`drain:${path}`);
    for (let envelope = cell.mailbox.shift(); envelope !== undefined; envelope = cell.mailbox.shift())
      this.#deadLetter(path, envelope, "the actor was stopped");
    this.asks.fail("the actor was stopped", path);
    this.receipts.stopped(path);
    this.#tellRoom(cell);
    cell.tape?.stopped();
  }

  pause(cell: Cell, paused: boolean): void {
    cell.paused = paused;
    this.#wake(cell);
  }

  restart(cell: Cell): void {
    if (cell.stopping) return;
    cell.quarantinedUntil = 0;
    this.#timers.cancel(`quarantine:${cell.path}`);
    this.#restart(cell, this.now());
    this.#wake(cell);
  }

  /** Every 100 ms: what is due, and a tenth of the ticks. */
  beat(): void {
    const at = this.now();
    for (const fire of this.#timers.due(at)) fire();
    this.watch.beat(at);
    this.#beats++;
    for (const cell of this.#ticking[this.#beats % BEATS_PER_TICK] ?? []) {
      if (cell.tickQueued) continue;
      cell.tickQueued = true;
      if (!this.tell(cell.path, { type: "tick" }, null, 0, this.newTrace())) cell.tickQueued = false;
    }
    if (this.#beats % BEATS_PER_TICK === 0) this.board.beat();
  }

  *#shown(board: string): Iterable<readonly [string, unknown]> {
    const at = this.now();
    for (const cell of this.cells.values()) {
      const show = cell.behavior.shows?.[board];
      if (show === undefined) continue;
      const value = show(cell.state, at);
      if (value !== null) yield [cell.path, value];
    }
  }

  close(): readonly Fiber.RuntimeFiber<void>[] {
    this.#closing = true;
    this.asks.fail("the system is stopping");
    for (const cell of this.cells.values()) cell.tape?.stopped();
    return [...this.#working];
  }
}
