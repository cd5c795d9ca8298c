/**
 * Which calls have which batches, on disk: a server that takes over after another was killed recognises a call that comes
 * again because its answer never left, and stores it once. Owned by the server's layers; one file in the data directory,
 * and the one before it. Bounded in records; what is forgotten was answered long ago. Not flushed for each call, since a
 * killed process loses nothing that it wrote; after a power cut the last calls may be stored twice. While the disk refuses,
 * calls go on without it, which is told once and counted. Closes its file at stop.
 */
import { randomInt, randomUUID } from "node:crypto";
import { open, readFile, rename, rm, writeFile, type FileHandle } from "node:fs/promises";
import { Effect, Metric, type Scope } from "effect";

/** The batches of one call: (epoch, first) up to (epoch, first + count - 1) of the journal's agent. */
export interface Named {
  readonly epoch: number;
  readonly first: number;
  readonly count: number;
}

export interface Journal {
  /** whose batches they are: the same in all lives of this server */
  readonly agent: string;
  /** of this life: unlike any before it, also of lives that could not write theirs down */
  readonly epoch: number;
  /** of earlier lives, by the key of the call, oldest first */
  readonly remembered: ReadonlyMap<string, Named>;
  /** `key`: 16 bytes of a call's digest, in base64 */
  readonly add: (key: string, named: Named) => Effect.Effect<void>;
}

/** Calls that are remembered: minutes of a large fleet's. */
export const MAX_REMEMBERED = 50_000;
const RECORD_BYTES = 32;
const KEY_BYTES = 16;
const MAGIC = "coroot journal 1";
/** Magic and, in a second record, the agent's UUID without its dashes. */
const HEAD_BYTES = 2 * RECORD_BYTES;

const failedTotal = Metric.counter("coroot_journal_failed_total", {
  description: "calls that could not be noted, so that they may be stored twice if this server is killed",
  incremental: true,
});

export const newEpoch = (): number => randomInt(1, 2 ** 32 - 1);

const head = (id: string): Buffer => {
  const bytes = Buffer.alloc(HEAD_BYTES);
  bytes.write(MAGIC, 0, "latin1");
  bytes.write(id.replaceAll("-", ""), RECORD_BYTES, "latin1");
  return bytes;
};

const record = (key: string, { epoch, first, count }: Named): Buffer => {
  const bytes = Buffer.alloc(RECORD_BYTES);
  bytes.write(key, 0, KEY_BYTES, "base64");
  bytes.writeUInt32LE(epoch, KEY_BYTES);
  bytes.writeUInt32LE(first, KEY_BYTES + 4);
  bytes.writeUInt32LE(count, KEY_BYTES + 8);
  return bytes;
};

interface Content {
  readonly id: string;
  readonly records: ReadonlyMap<string, Named>;
}

/** What a file holds; null when it is no journal. A record that is cut off is left out. */
const contentOf = (bytes: Buffer): Content | null => {
  const id = bytes.toString("latin1", RECORD_BYTES, HEAD_BYTES);
  if (bytes.toString("latin1", 0, MAGIC.length) !== MAGIC || !/^[0-9a-f]{32}$/.test(id)) return null;
  const records = new Map<string, Named>();
  for (let at = HEAD_BYTES; at + RECORD_BYTES <= bytes.length; at += RECORD_BYTES) {
    const named = {
      epoch: bytes.readUInt32LE(at + KEY_BYTES),
      first: bytes.readUInt32LE(at + KEY_BYTES + 4),
      count: bytes.readUInt32LE(at + KEY_BYTES + 8),
    };
    records.set(bytes.toString("base64", at, at + KEY_BYTES), named);
  }
  return { id, records };
};

const readContent = async (path: string): Promise<Content | null> => {
  try {
    return contentOf(await readFile(path));
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  }
};

interface Opened {
  readonly id: string;
  readonly records: Map<string, Named>;
  readonly file: FileHandle;
}

/** Both files become one, which is appended to. */
const openFiles = async (path: string, most: number): Promise<Opened> => {
  const [before, current] = [await readContent(`${path}.old`), await readContent(path)];
  const id = current?.id ?? before?.id ?? randomUUID().replaceAll("-", "");
  const all = [...(before?.id === id ? before.records : []), ...(current?.id === id ? current.records : [])];
  const records = new Map(all.slice(-most));
  const draft = `${path}.new`;
  await writeFile(draft, Buffer.concat([head(id), ...[...records].map(([key, named]) => record(key, named))]), {
    mode: 0o600,
  });
  await rename(draft, path);
  await rm(`${path}.old`, { force: true });
  return { id, records, file: await open(path, "a") };
};

const message = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Without a file when it cannot be opened: the calls of this life are then not recognised by the next. */
export const openJournal = (path: string, most = MAX_REMEMBERED): Effect.Effect<Journal, never, Scope.Scope> =>
  Effect.gen(function* () {
    let told = false;
    const failed = (error: unknown) =>
      Effect.gen(function* () {
        yield* Metric.increment(failedTotal);
        if (!told) yield* Effect.logWarning(`calls cannot be noted in ${path}`, { reason: message(error) });
        told = true;
      });
    const opened = yield* Effect.tryPromise({ try: () => openFiles(path, most), catch: message }).pipe(
      Effect.catchAll((reason) => Effect.as(failed(reason), null)),
    );
    let file = opened?.file ?? null;
    let written = opened?.records.size ?? 0;
    yield* Effect.addFinalizer(() => Effect.promise(async () => file?.close()));
    const id = opened?.id ?? randomUUID().replaceAll("-", "");

    /** The full file becomes the one before. */
    const turn = async (): Promise<void> => {
      written = 0;
      await file?.close();
      file = null;
      await rename(path, `${path}.old`);
      await writeFile(path, head(id), { mode: 0o600 });
      file = await open(path, "a");
    };
    const turns = yield* Effect.makeSemaphore(1);
    const append = (bytes: Buffer) =>
      Effect.tryPromise({
        try: async () => {
          if (file === null) return;
          if (written >= most) await turn();
          written++;
          await file?.write(bytes);
        },
        catch: message,
      });

    return {
      agent: `doors/${id}`,
      epoch: newEpoch(),
      remembered: opened?.records ?? new Map<string, Named>(),
      add: (key, named) =>
        turns
          .withPermits(1)(append(record(key, named)))
          .pipe(Effect.catchAll(failed)),
    };
  });

/** For a server without a data directory: what it remembers dies with it. */
export const noJournal = (): Journal => ({
  agent: `doors/${randomUUID()}`,
  epoch: newEpoch(),
  remembered: new Map(),
  add: () => Effect.void,
});
