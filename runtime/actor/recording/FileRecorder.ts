/**
 * Records what chosen actors are told, each from its start into a file of its own, until its bound. Owned by the server's
 * scope. Entries are gathered and written once a second, off the actor's way; a disk that fails ends the recording, is
 * logged once and disturbs nobody.
 */
import { appendFile, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Effect, Metric, type Scope } from "effect";
import type { Recorder, Tape } from "../Outside.ts";
import { digestOf, FORMAT, frame, type Entry, type Header } from "./format.ts";

const DIGEST_EVERY = 100;
const WRITE_EVERY = "1 second";

const bytesTotal = Metric.counter("coroot_recording_bytes_total", { incremental: true });
const endedTotal = Metric.counter("coroot_recordings_ended_total", {
  description: "recordings that ended before their actor: at their bound, or because the disk failed",
  incremental: true,
});

export interface RecorderOptions {
  readonly folder: string;
  readonly version: string;
  /** paths of actors in which `*` stands for anything */
  readonly actors: readonly string[];
  readonly maxBytesPerActor: number;
  readonly maxBytes: number;
}

interface Recording {
  readonly file: string;
  readonly path: string;
  pending: Buffer[];
  bytes: number;
  handled: number;
  open: boolean;
}

export const matcher = (patterns: readonly string[]): ((path: string) => boolean) => {
  const all = patterns.map((pattern) => {
    const parts = pattern.split("*").map((part) => part.replaceAll(/[.+?^${}()|[\]\\]/g, "\\$&"));
    return new RegExp(`^${parts.join(".*")}$`);
  });
  return (path) => all.some((one) => one.test(path));
};

const fileName = (path: string, at: number): string =>
  `${path.replaceAll(/[^A-Za-z0-9._-]+/g, "_").slice(-120)}-${at}.rec`;

export const makeFileRecorder = (options: RecorderOptions): Effect.Effect<Recorder, never, Scope.Scope> =>
  Effect.gen(function* () {
    const chosen = matcher(options.actors);
    const recordings = new Set<Recording>();
    let total = 0;

    const end = (recording: Recording, reason: string): void => {
      if (!recording.open) return;
      recording.pending.push(frame(["end", reason]));
      recording.open = false;
      endedTotal.unsafeUpdate(1, []);
    };

    const add = (recording: Recording, entry: Header | Entry): void => {
      if (!recording.open) return;
      const bytes = frame(entry);
      if (recording.bytes + bytes.byteLength > options.maxBytesPerActor)
        return end(recording, `${options.maxBytesPerActor} bytes, the most for one actor (recording.maxBytesPerActor)`);
      if (total + bytes.byteLength > options.maxBytes)
        return end(recording, `${options.maxBytes} bytes, the most for all recordings (recording.maxBytes)`);
      recording.pending.push(bytes);
      recording.bytes += bytes.byteLength;
      total += bytes.byteLength;
      bytesTotal.unsafeUpdate(bytes.byteLength, []);
    };

    const write = Effect.forEach(
      recordings,
      (recording) => {
        const bytes = Buffer.concat(recording.pending.splice(0));
        if (!recording.open) recordings.delete(recording);
        if (bytes.byteLength === 0) return Effect.void;
        return Effect.tryPromise(() => appendFile(recording.file, bytes, { mode: 0o600 })).pipe(
          Effect.catchAll((error) => {
            recording.open = false;
            recordings.delete(recording);
            endedTotal.unsafeUpdate(1, []);
            return Effect.logError(`${recording.path} is not recorded any more: ${String(error.cause)}`);
          }),
        );
      },
      { discard: true },
    );
    const all = Effect.suspend(() => write);
    yield* Effect.tryPromise(() => mkdir(options.folder, { recursive: true, mode: 0o700 })).pipe(
      Effect.catchAll((error) => Effect.logError(`nothing can be recorded: ${String(error.cause)}`)),
    );
    yield* Effect.addFinalizer(() => all);
    yield* Effect.sleep(WRITE_EVERY).pipe(Effect.zipRight(all), Effect.forever, Effect.forkScoped);

    return {
      started: (path, kind, argument, at, snapshot): Tape | null => {
        if (!chosen(path)) return null;
        const file = join(options.folder, fileName(path, at));
        const recording: Recording = { file, path, pending: [], bytes: 0, handled: 0, open: true };
        recordings.add(recording);
        add(recording, { format: FORMAT, kind, path, argument, at, snapshot, version: options.version });
        let look: (() => unknown) | null = null;
        return {
          restarted: (now, from) => add(recording, ["restart", now, from]),
          handled: (now, message, failed, state) => {
            add(recording, ["m", now, message, failed]);
            look = state;
            if (++recording.handled % DIGEST_EVERY === 0 && !failed) add(recording, ["digest", digestOf(state())]);
          },
          stopped: () => {
            if (!recording.open) return;
            if (look !== null) add(recording, ["digest", digestOf(look())]);
            recording.pending.push(frame(["end", "the actor stopped"]));
            recording.open = false;
          },
        };
      },
    };
  });
