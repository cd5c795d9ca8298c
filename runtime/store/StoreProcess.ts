/**
 * The supervisor of the store process: starts the child, waits until it is ready, starts it again with back-off and
 * jitter when it ends, and tells where it listens. Owned by the server's layers; the only module that knows whether the
 * store is our child or a ClickHouse of the user's (`url`), for which no child is started and a ping tells its state.
 * A failing child never fails the server: the state says why. Stops by closing the child's input, then SIGTERM, SIGKILL.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { ClickHouseLogLevel, createClient } from "@clickhouse/client";
import { Clock, Context, Deferred, Effect, Layer, Random, Schema, type Scope, SubscriptionRef } from "effect";
import { shownUrl } from "./MetricsEndpoint.ts";

export type StoreStatus = "starting" | "up" | "down";

export interface StoreState {
  readonly status: StoreStatus;
  /** for a person: why it is down; empty when up */
  readonly message: string;
  readonly since: number;
  /** times that the child ended or could not start, since the server's start */
  readonly restarts: number;
}

export interface StoreEndpoint {
  readonly url: string;
  readonly username: string;
  readonly password: string;
}

export interface StoreProcessState extends StoreState {
  /** set while up */
  readonly endpoint: StoreEndpoint | null;
  /** of the child; null for an external store */
  readonly pid: number | null;
}

export interface StoreProcessConfig {
  /** program and arguments that run `coroot store`; the data directory is appended */
  readonly command: readonly [string, ...string[]];
  readonly data: string;
  /** a ClickHouse of the user's, used instead of a child */
  readonly external?: StoreEndpoint;
  /** cap of the engine's memory, MiB */
  readonly memoryMiB?: number;
  readonly watch?: WatchConfig;
}

/** When a child that lives but does not answer is ended. */
export interface WatchConfig {
  readonly everyMs: number;
  readonly withinMs: number;
  readonly misses: number;
}

export class StoreProcess extends Context.Tag("runtime/store/StoreProcess")<
  StoreProcess,
  { readonly state: SubscriptionRef.SubscriptionRef<StoreProcessState> }
>() {}

class ChildEnded extends Schema.TaggedError<ChildEnded>()("StoreProcess/ChildEnded", { reason: Schema.String }) {
  override get message(): string {
    return this.reason;
  }
}

const READY_WITHIN = "90 seconds";
const WATCH: WatchConfig = { everyMs: 5_000, withinMs: 15_000, misses: 3 };
const STABLE_MS = 60_000;
const FIRST_DELAY_MS = 250;
const LAST_DELAY_MS = 15_000;
const STDERR_LINES = 12;
/** One lost ping must not cut the inserts that are under way. */
const PINGS_TO_DOWN = 2;
/** Sessions of the engine, files and the address look-up share this pool; the engine holds five of its threads at most. */
const POOL_THREADS = "12";

/** Delay before start number `attempt` (0 is the first repetition), doubled each time, within ±25 %. */
export const backOffMs = (attempt: number, random: number): number =>
  Math.min(LAST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(attempt, 16)) * (0.75 + random / 2);

const Ready = Schema.parseJson(
  Schema.Union(
    Schema.Struct({ ready: Schema.Literal(true), port: Schema.Int, key: Schema.String, pid: Schema.Int }),
    Schema.Struct({ ready: Schema.Literal(false), reason: Schema.String, message: Schema.String }),
  ),
);

interface RunningChild {
  readonly process: ChildProcess;
  readonly firstLine: Deferred.Deferred<string, ChildEnded>;
  readonly ended: Deferred.Deferred<never, ChildEnded>;
}

const startChild = (config: StoreProcessConfig): Effect.Effect<RunningChild, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.gen(function* () {
      const firstLine = yield* Deferred.make<string, ChildEnded>();
      const ended = yield* Deferred.make<never, ChildEnded>();
      const [program, ...given] = config.command;
      const memory = config.memoryMiB === undefined ? [] : ["--memory", String(config.memoryMiB)];
      const child = spawn(program, [...given, "--data", config.data, ...memory], {
        stdio: ["pipe", "pipe", "pipe"],
        env: { ...process.env, UV_THREADPOOL_SIZE: POOL_THREADS },
      });
      const tail: string[] = [];
      const end = (reason: string): void => {
        const failure = Effect.fail(new ChildEnded({ reason }));
        Deferred.unsafeDone(firstLine, failure);
        Deferred.unsafeDone(ended, failure);
      };
      createInterface({ input: child.stderr }).on("line", (line) => {
        tail.push(line);
        if (tail.length > STDERR_LINES) tail.shift();
      });
      createInterface({ input: child.stdout }).on("line", (line) => {
        Deferred.unsafeDone(firstLine, Effect.succeed(line));
      });
      // a child that died first makes the write side fail; its end is told by "close"
      child.stdin.on("error", () => undefined);
      child.on("error", (error) => end(`the store process could not be started: ${error.message}`));
      child.on("close", (code, signal) => {
        const how = signal === null ? `with code ${code ?? "unknown"}` : `by ${signal}`;
        end(`the store process ended ${how}${tail.length === 0 ? "" : `: ${tail.join(" | ")}`}`);
      });
      return { process: child, firstLine, ended };
    }),
    (child) => {
      // a release is uninterruptible, and in it a timeout would wait for what it should cut short
      const gone = Effect.interruptible(Effect.flip(Deferred.await(child.ended)));
      const stop = (signal: NodeJS.Signals) =>
        Effect.zipRight(
          Effect.sync(() => child.process.kill(signal)),
          gone,
        );
      return Effect.sync(() => child.process.stdin?.end()).pipe(
        Effect.zipRight(gone),
        Effect.timeout("3 seconds"),
        Effect.orElse(() => stop("SIGTERM").pipe(Effect.timeout("2 seconds"))),
        Effect.orElse(() => stop("SIGKILL").pipe(Effect.timeout("5 seconds"))),
        Effect.catchAll(() => Effect.logError("the store process does not end", { pid: child.process.pid })),
      );
    },
  );

const awaitReady = (child: RunningChild) =>
  Deferred.await(child.firstLine).pipe(
    Effect.timeoutFail({
      duration: READY_WITHIN,
      onTimeout: () => new ChildEnded({ reason: `the store process was not ready within ${READY_WITHIN}` }),
    }),
    Effect.flatMap((line) =>
      Schema.decodeUnknown(Ready)(line).pipe(
        Effect.mapError(
          () => new ChildEnded({ reason: `the store process said ${JSON.stringify(line.slice(0, 200))}` }),
        ),
      ),
    ),
    Effect.flatMap((said) =>
      said.ready ? Effect.succeed(said) : Effect.fail(new ChildEnded({ reason: said.message })),
    ),
  );

type StateRef = SubscriptionRef.SubscriptionRef<StoreProcessState>;

const set = (ref: StateRef, change: Partial<StoreProcessState>): Effect.Effect<void> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    SubscriptionRef.update(ref, (state) => {
      const since = change.status !== undefined && change.status !== state.status ? now : state.since;
      return { ...state, ...change, since };
    }),
  );

/** Fails when the child has not answered several times in a row: an engine that hangs does not heal by itself. */
const watchChild = (endpoint: StoreEndpoint, { everyMs, withinMs, misses }: WatchConfig) => {
  const ping = Effect.tryPromise((signal) =>
    fetch(`${endpoint.url}/ping`, { headers: { "X-ClickHouse-Key": endpoint.password }, signal }).then((answer) =>
      answer.text(),
    ),
  ).pipe(Effect.timeout(withinMs));
  return Effect.iterate(0, {
    while: (missed) => missed < misses,
    body: (missed) =>
      Effect.sleep(everyMs).pipe(
        Effect.zipRight(ping),
        Effect.match({ onSuccess: () => 0, onFailure: () => missed + 1 }),
      ),
  }).pipe(
    Effect.zipRight(
      Effect.fail(new ChildEnded({ reason: `the store process did not answer ${misses} pings in a row` })),
    ),
  );
};

const superviseChild = (config: StoreProcessConfig, ref: StateRef): Effect.Effect<never> => {
  const life = Effect.scoped(
    Effect.gen(function* () {
      const child = yield* startChild(config);
      const ready = yield* awaitReady(child);
      const endpoint = { url: `http://127.0.0.1:${ready.port}`, username: "default", password: ready.key };
      yield* set(ref, { status: "up", message: "", endpoint, pid: ready.pid });
      const watch = watchChild(endpoint, config.watch ?? WATCH).pipe(
        Effect.tapError(() => Effect.sync(() => child.process.kill("SIGKILL"))),
      );
      return yield* Effect.raceFirst(Deferred.await(child.ended), watch);
    }),
  );
  const loop = (attempt: number): Effect.Effect<never> =>
    Effect.gen(function* () {
      const started = yield* Clock.currentTimeMillis;
      const failure = yield* Effect.flip(life);
      const now = yield* Clock.currentTimeMillis;
      yield* SubscriptionRef.update(ref, (state) => ({ ...state, restarts: state.restarts + 1 }));
      yield* set(ref, { status: "down", message: failure.message, endpoint: null, pid: null });
      yield* Effect.logWarning("the store is down", { reason: failure.message });
      const next = now - started > STABLE_MS ? 0 : attempt;
      yield* Effect.sleep(backOffMs(next, yield* Random.next));
      return next + 1;
    }).pipe(Effect.flatMap((next) => Effect.suspend(() => loop(next))));
  return loop(0);
};

const watchExternal = (endpoint: StoreEndpoint, ref: StateRef): Effect.Effect<never, never, Scope.Scope> =>
  Effect.gen(function* () {
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => createClient({ ...endpoint, request_timeout: 5_000, log: { level: ClickHouseLogLevel.OFF } })),
      (opened) => Effect.promise(() => opened.close()),
    );
    let failures = 0;
    const look = Effect.gen(function* () {
      const ping = yield* Effect.promise(() => client.ping({ select: true }));
      failures = ping.success ? 0 : failures + 1;
      if (ping.success) yield* set(ref, { status: "up", message: "", endpoint });
      else if (failures >= PINGS_TO_DOWN)
        yield* set(ref, {
          status: "down",
          message: `${shownUrl(endpoint.url)}: ${ping.error.message}`,
          endpoint: null,
        });
    });
    return yield* Effect.forever(Effect.zipRight(look, Effect.sleep("5 seconds")));
  });

export const make = (config: StoreProcessConfig) =>
  Effect.gen(function* () {
    const ref = yield* SubscriptionRef.make<StoreProcessState>({
      status: "starting",
      message: "the store is starting",
      since: yield* Clock.currentTimeMillis,
      restarts: 0,
      endpoint: null,
      pid: null,
    });
    yield* Effect.forkScoped(
      config.external === undefined ? superviseChild(config, ref) : watchExternal(config.external, ref),
    );
    return { state: ref };
  });

export const layer = (config: StoreProcessConfig): Layer.Layer<StoreProcess> =>
  Layer.scoped(StoreProcess, make(config));
