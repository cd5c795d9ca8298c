/**
 * The actor system of one process, as the rest of the server sees it: the kernel (Kernel.ts) with its metronome, in a
 * scope. It stops with its scope: no new messages, mailboxes are drained for up to five seconds, open asks fail.
 */
import { Clock, Context, Effect, Fiber, Random, type Scope } from "effect";
import type { ActorView, TraceHop } from "../../schemas/wire/page.ts";
import type { Answer } from "./Asks.ts";
import type { ActorPath, Behavior, Message } from "./Behavior.ts";
import type { Board } from "./Board.ts";
import type { AnyBehavior, Cell } from "./Cell.ts";
import type { DeadLetter } from "./DeadLetters.ts";
import { DRAIN_MS, Kernel, METRONOME_MS } from "./Kernel.ts";
import type { Outside, Parcel, Port, Settled } from "./Outside.ts";
import type { Inspected } from "./Watch.ts";

export type { Port } from "./Outside.ts";

/** Why an ask got no answer. */
export class AskFailed extends Error {
  readonly path: ActorPath;
  constructor(path: ActorPath, reason: string) {
    super(`ask ${path}: ${reason}`);
    this.name = "AskFailed";
    this.path = path;
  }
}

export class ActorSystem extends Context.Tag("runtime/actor/ActorSystem")<ActorSystem, ActorSystemShape>() {}

export interface ActorSystemShape {
  /** makes a kind of actor known to `spawn`; a second one of the same kind is a defect */
  readonly register: <S, M extends Message, A>(behavior: Behavior<S, M, A>) => void;
  readonly behavior: (kind: string) => AnyBehavior | undefined;
  readonly port: (name: string, port: Port) => void;
  /** starts the actor, here or where its path lives, unless the path is taken here; says whether it did */
  readonly spawn: (path: ActorPath, behavior: string, argument: unknown, parent?: ActorPath) => boolean;
  /** an actor that lived elsewhere or before goes on from its snapshot; false: the path is taken or the kind unknown */
  readonly restore: (
    path: ActorPath,
    behavior: string,
    argument: unknown,
    parent: ActorPath | null,
    snapshot: unknown,
  ) => boolean;
  /** drains it and forgets it for good */
  readonly stop: (path: ActorPath) => void;
  /** drains it here; what is kept of it stays, so that it can go on elsewhere */
  readonly evict: (path: ActorPath) => void;
  readonly has: (path: ActorPath) => boolean;
  readonly paths: () => Iterable<ActorPath>;
  /** false when nobody has that path (a dead letter) or the message was shed */
  readonly tell: (path: ActorPath, message: Message, from?: ActorPath) => boolean;
  readonly ask: (path: ActorPath, message: Message, timeoutMs: number) => Effect.Effect<unknown, AskFailed>;
  /** completes once fewer than `most` messages wait for the actor, those that it keeps among them, or it is not here */
  readonly room: (path: ActorPath, most: number) => Effect.Effect<void>;
  /** a message that another process sent; an ask's answer goes to `answered` */
  readonly receive: (parcel: Parcel, answered: (answer: Answer) => void) => boolean;
  /** the answer to an ask that was forwarded */
  readonly answer: (ask: number, answer: Answer) => void;
  readonly deliver: (to: ActorPath, message: Message, key: string, settle: (how: Settled) => void) => void;
  readonly children: (parent: ActorPath) => readonly ActorPath[];
  /** newest last, at most 256 */
  readonly deadLetters: () => readonly DeadLetter[];
  /** actors that keep failing */
  readonly failing: () => readonly { readonly path: ActorPath; readonly error: string }[];
  /** the console's table; looking keeps the measuring on for five seconds */
  readonly views: () => readonly ActorView[];
  /** one actor for the console, secrets masked; null when there is none */
  readonly inspect: (path: ActorPath) => Inspected | null;
  readonly trace: (trace: number) => readonly TraceHop[];
  /** false: no such actor here */
  readonly pause: (path: ActorPath, paused: boolean) => boolean;
  readonly restart: (path: ActorPath) => boolean;
  /** parts of the world around; each may be given once */
  readonly connect: (outside: Partial<Outside>) => void;
  readonly board: Board;
  /** waits until no mailbox has a message; work in ports is not waited for */
  readonly idle: Effect.Effect<void>;
}

const TRACE_SEEDS = 2 ** 20;

export const make: Effect.Effect<ActorSystemShape, never, Scope.Scope> = Effect.gen(function* () {
  const scope = yield* Effect.scope;
  const clock = yield* Clock.clockWith(Effect.succeed);
  const kernel = new Kernel(clock, yield* Effect.runtime<never>(), yield* Random.nextIntBetween(1, TRACE_SEEDS));

  yield* Effect.sleep(METRONOME_MS).pipe(
    Effect.zipRight(Effect.sync(() => kernel.beat())),
    Effect.forever,
    Effect.interruptible,
    Effect.forkIn(scope),
  );

  const idle: Effect.Effect<void> = Effect.suspend(() =>
    kernel.idle ? Effect.void : Effect.zipRight(Effect.yieldNow(), idle),
  );
  yield* Effect.addFinalizer(() =>
    idle.pipe(
      Effect.timeoutOption(DRAIN_MS),
      Effect.zipRight(Effect.suspend(() => Fiber.interruptAll(kernel.close()))),
    ),
  );

  const { asks } = kernel;
  const withCell = (path: ActorPath, act: (cell: Cell) => void): boolean => {
    const cell = kernel.cells.get(path);
    if (cell !== undefined) act(cell);
    return cell !== undefined;
  };
  return ActorSystem.of({
    register: (behavior) => kernel.register(behavior as unknown as AnyBehavior),
    behavior: (kind) => kernel.behavior(kind),
    port: (name, port) => kernel.port(name, port),
    spawn: (path, kind, argument, parent) => kernel.spawn(path, kind, argument, parent ?? null),
    restore: (path, kind, argument, parent, snapshot) => kernel.restore(path, kind, argument, parent, snapshot),
    stop: (path) => kernel.stop(path),
    evict: (path) => kernel.evict(path),
    has: (path) => kernel.cells.has(path),
    paths: () => kernel.cells.keys(),
    tell: (path, message, from) => kernel.tell(path, message, from ?? null, 0, kernel.newTrace()),
    ask: (path, message, timeoutMs) =>
      Effect.async<unknown, AskFailed>((resume) => {
        const id = kernel.ask(path, message, timeoutMs, (answer) =>
          resume(answer.ok ? Effect.succeed(answer.value) : Effect.fail(new AskFailed(path, answer.error))),
        );
        return Effect.sync(() => asks.forget(id));
      }),
    receive: ({ to, message, from, trace, ask, timeoutMs }, answered) => {
      const id = ask === 0 ? 0 : kernel.openAsk(to, timeoutMs, answered);
      return kernel.tell(to, message, from, id, trace);
    },
    answer: (ask, answer) => asks.answer(ask, answer),
    deliver: (to, message, key, settle) => kernel.deliver(to, message, key, kernel.newTrace(), settle),
    children: (parent) => [...kernel.cells.values()].filter((cell) => cell.parent === parent).map((cell) => cell.path),
    deadLetters: () => kernel.dead.letters,
    failing: () => kernel.failing(),
    views: () => kernel.watch.views(),
    inspect: (path) => kernel.watch.inspect(path),
    trace: (trace) => kernel.watch.trace(trace),
    pause: (path, paused) => withCell(path, (cell) => kernel.pause(cell, paused)),
    restart: (path) => withCell(path, (cell) => kernel.restart(cell)),
    connect: (outside) => {
      Object.assign(kernel.outside, outside);
      if (outside.node !== undefined) kernel.watch.node = outside.node;
    },
    board: kernel.board,
    idle,
    room: (path, most) => Effect.async<void>((resume) => kernel.whenRoom(path, most, () => resume(Effect.void))),
  });
});
