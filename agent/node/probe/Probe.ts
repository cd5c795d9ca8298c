/**
 * Keeps the probe running: starts the child, decodes its output, hands on ticks and capabilities in order, and starts it
 * again with exponential back-off and jitter when it fails. Owned by the node agent's scope; closing that ends the child.
 * A probe that says it can observe nothing here is not started again. A reader that is slow holds the pipe back; the
 * probe then leaves ticks out and sends larger increases later, so no count is lost. Every restart is counted.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { Clock, Data, Duration, Effect, Metric, Random, Ref, type Scope, Stream } from "effect";
import type { Capability } from "../../../schemas/wire/link.ts";
import { makeProbeDecoder, ProbeFrameError, type ProbeMessage, type ProbeTick } from "./frames.ts";

export interface ProbeOptions {
  /** the executable, see bpf/build.mjs */
  readonly path: string;
  readonly args?: readonly string[];
  /** The first tick of each life of the probe has `reset` set: edge ids start anew and all that was known is void. */
  readonly onTick: (tick: ProbeTick) => Effect.Effect<void>;
  /** Once per life before its first tick, and again when the probe fails: the complete list, "probe" being the whole. */
  readonly onCapabilities: (capabilities: readonly Capability[]) => Effect.Effect<void>;
}

export interface ProbeStatus {
  /** refused: nothing can be observed on this machine, and it is not tried again */
  readonly state: "starting" | "running" | "waiting" | "refused";
  readonly pid: number | null;
  readonly restarts: number;
  readonly ticks: number;
  /** why the last life ended, empty while none has */
  readonly lastFailure: string;
}

export interface Probe {
  readonly status: Effect.Effect<ProbeStatus>;
  /** Writes commands to the running probe (see bpf/probe/spans.h); without one they are dropped. */
  readonly say: (commands: string) => void;
}

export class ProbeFailed extends Data.TaggedError("ProbeFailed")<{
  readonly path: string;
  readonly errno: number;
  readonly reason: string;
}> {
  override get message(): string {
    return `probe ${this.path}: ${this.reason}`;
  }
}

/** No tick for so long means that the probe hangs. It ticks each second. */
const SILENCE = Duration.seconds(15);
const GRACE = Duration.seconds(2);
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 60_000;
/** A life of this length starts the back-off over. */
const LONG_LIFE_MS = 60_000;
const STDERR_BYTES = 2_048;

const restartsTotal = Metric.counter("coroot_probe_restarts_total", {
  description: "Times that the probe was started again",
  incremental: true,
});
const badFramesTotal = Metric.counter("coroot_probe_bad_frames_total", {
  description: "Lives of the probe that ended with bytes that are no frame",
  incremental: true,
});

const WHOLE = "probe";
const whole = (state: Capability["state"], errno: number, reason: string): Capability => ({
  feature: WHOLE,
  state,
  errno,
  reason,
});

/** What a failure leaves: every feature that was on is off, for the failure's reason. */
const allOff = (known: readonly Capability[], failure: ProbeFailed): readonly Capability[] => [
  whole("off", failure.errno, failure.message),
  ...known.map((one): Capability => (one.state === "off" ? one : { ...one, state: "off", reason: failure.message })),
];

interface Child {
  readonly process: ChildProcess;
  readonly stdout: NodeJS.ReadableStream;
  readonly pid: number;
  readonly stderr: () => string;
}

const errnoOf = (error: Error): number =>
  "errno" in error && typeof error.errno === "number" ? Math.abs(error.errno) : 0;
const refusal = (error: Error): string =>
  "code" in error && error.code === "ENOENT"
    ? "no such file; build it with: node bpf/build.mjs"
    : `cannot be started: ${error.message}`;

const start = (path: string, args: readonly string[]): Effect.Effect<Child, ProbeFailed> =>
  Effect.async((resume) => {
    const child = spawn(path, args, { stdio: ["pipe", "pipe", "pipe"] });
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => {
      said = (said + chunk.toString("utf8")).slice(-STDERR_BYTES);
    });
    // a child that ends while we close its input
    child.stdin.on("error", (error: Error) => {
      said = `${said}${error.message}\n`.slice(-STDERR_BYTES);
    });
    child.once("error", (error: Error) =>
      resume(Effect.fail(new ProbeFailed({ path, errno: errnoOf(error), reason: refusal(error) }))),
    );
    child.once("spawn", () =>
      resume(Effect.succeed({ process: child, stdout: child.stdout, pid: child.pid ?? 0, stderr: () => said.trim() })),
    );
  });

const exited = (child: Child): Effect.Effect<string> =>
  Effect.async((resume) => {
    const tell = (): void => {
      const { exitCode, signalCode } = child.process;
      const how = signalCode === null ? `ended with code ${exitCode ?? "?"}` : `was ended by ${signalCode}`;
      const said = child.stderr();
      resume(Effect.succeed(said === "" ? how : `${how}: ${said}`));
    };
    if (child.process.exitCode !== null || child.process.signalCode !== null) {
      tell();
      return undefined;
    }
    child.process.once("exit", tell);
    return Effect.sync(() => child.process.off("exit", tell));
  });

/** Closing its input asks the probe to end; after a grace it is killed. */
const stop = (child: Child): Effect.Effect<void> =>
  Effect.sync(() => child.process.stdin?.end()).pipe(
    Effect.zipRight(
      exited(child).pipe(
        Effect.timeoutTo({ duration: GRACE, onTimeout: () => false, onSuccess: () => true }),
        Effect.flatMap((ended) => (ended ? Effect.void : Effect.sync(() => child.process.kill("SIGKILL")))),
      ),
    ),
    Effect.asVoid,
  );

export const makeProbe = (options: ProbeOptions): Effect.Effect<Probe, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { path } = options;
    const status = yield* Ref.make<ProbeStatus>({
      state: "starting",
      pid: null,
      restarts: 0,
      ticks: 0,
      lastFailure: "",
    });
    const set = (change: Partial<ProbeStatus>): Effect.Effect<void> =>
      Ref.update(status, (now) => ({ ...now, ...change }));
    let known: Capability[] = [];

    const decode = (chunk: Uint8Array, push: (chunk: Uint8Array) => readonly ProbeMessage[]) =>
      Effect.try({
        try: () => push(chunk),
        catch: (error) => {
          if (error instanceof ProbeFrameError)
            return new ProbeFailed({ path, errno: 0, reason: `bad frame, ${error.message}` });
          throw error;
        },
      }).pipe(Effect.tapError(() => Metric.increment(badFramesTotal)));

    /** One life of the probe. Succeeds when it said that there is nothing to observe, fails when it ended otherwise. */
    /** of the running child */
    let input: NodeJS.WritableStream | null = null;
    const life = Effect.gen(function* () {
      yield* set({ state: "starting", pid: null });
      known = [];
      const child = yield* Effect.acquireRelease(start(path, options.args ?? []), stop);
      input = child.process.stdin;
      yield* Effect.addFinalizer(() => Effect.sync(() => (input = null)));
      yield* set({ state: "running", pid: child.pid });
      const decoder = makeProbeDecoder();
      let told = false;
      let end = false;
      const take = (message: ProbeMessage): Effect.Effect<void> => {
        switch (message.kind) {
          case "hello":
            return Effect.void;
          case "capability":
            known.push(message.capability);
            return Effect.void;
          case "end":
            end = true;
            return Effect.void;
          case "tick": {
            const first = told
              ? Effect.void
              : options.onCapabilities([
                  known.every((one) => one.state === "on")
                    ? whole("on", 0, "")
                    : whole("degraded", 0, "some features are off"),
                  ...known,
                ]);
            told = true;
            return first.pipe(
              Effect.zipRight(options.onTick(message.tick)),
              Effect.zipRight(Ref.update(status, (now) => ({ ...now, ticks: now.ticks + 1 }))),
            );
          }
        }
      };
      // Not the platform's stream: it would bring the whole platform package into the agent's memory.
      yield* Stream.fromAsyncIterable(
        child.stdout,
        (error) => new ProbeFailed({ path, errno: 0, reason: `output cannot be read: ${String(error)}` }),
      ).pipe(
        Stream.timeoutFail(
          () => new ProbeFailed({ path, errno: 0, reason: `silent for ${Duration.format(SILENCE)}` }),
          SILENCE,
        ),
        Stream.runForEach((chunk) =>
          decode(typeof chunk === "string" ? Buffer.from(chunk) : chunk, decoder.push).pipe(
            Effect.flatMap((messages) => Effect.forEach(messages, take, { discard: true })),
          ),
        ),
      );
      const how = yield* exited(child);
      if (end) return;
      yield* new ProbeFailed({ path, errno: 0, reason: how });
    }).pipe(Effect.scoped);

    const refused = Effect.gen(function* () {
      const reason = known.find((one) => one.reason !== "")?.reason ?? "the kernel refused every program";
      const errno = known.find((one) => one.errno !== 0)?.errno ?? 0;
      yield* options.onCapabilities([whole("off", errno, reason), ...known]);
      yield* set({ state: "refused", pid: null, lastFailure: reason });
      yield* Effect.logWarning(`probe ${path}: nothing can be observed here: ${reason}`);
    });

    /** Lives one after the other; ends only when there is nothing to observe. */
    const lives = Effect.gen(function* () {
      let pauseMs = FIRST_PAUSE_MS;
      for (;;) {
        const from = yield* Clock.currentTimeMillis;
        const failure = yield* Effect.flip(life).pipe(Effect.catchAll(() => Effect.succeed(null)));
        if (failure === null) return yield* refused;
        if ((yield* Clock.currentTimeMillis) - from >= LONG_LIFE_MS) pauseMs = FIRST_PAUSE_MS;
        const jitter = yield* Random.nextRange(0.75, 1.25);
        yield* options.onCapabilities(allOff(known, failure));
        yield* Effect.logWarning(`${failure.message}; next try in ${Math.round(pauseMs * jitter)} ms`);
        yield* Ref.update(status, (now) => ({
          ...now,
          state: "waiting" as const,
          pid: null,
          restarts: now.restarts + 1,
          lastFailure: failure.message,
        }));
        yield* Metric.increment(restartsTotal);
        yield* Effect.sleep(Duration.millis(pauseMs * jitter));
        pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2);
      }
    });
    yield* Effect.forkScoped(lives);
    return {
      status: Ref.get(status),
      say: (commands) => {
        if (input?.writable === true) input.write(commands);
      },
    };
  });
