/**
 * The data directory: made if absent, proved writable, and held by one server at a time through a lock file.
 * Owned by the entry point's scope. Each process claims by a file whose name only it can have (pid, boot, start time),
 * looks who else has one, and withdraws if another lives. So a claim that a kill -9 left can be deleted by anybody
 * without a race, and of two that start at once never both win. The claim is removed when the scope closes.
 * Machines that share the directory over a network cannot see each other's processes and are not kept apart.
 */
import { constants, existsSync } from "node:fs";
import { access, mkdir, readdir, readFile, stat, unlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { randomUUID } from "node:crypto";
import { Data, Effect, Random } from "effect";
import type { Scope } from "effect";

export class DataDirError extends Data.TaggedError("DataDirError")<{
  readonly path: string;
  readonly reason: string;
}> {
  override get message(): string {
    return `The data directory ${this.path} cannot be used: ${this.reason}`;
  }
}

interface Claim {
  readonly file: string;
  readonly pid: number;
  /** boot and clock tick of the process's start */
  readonly started: string;
}

const errno = (cause: unknown): string =>
  cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : "";
const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));

/** mkdir -p by hand: Node's own never returns for a path below /proc. */
const makeDirectory = async (path: string): Promise<void> => {
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (cause) {
    if (errno(cause) === "EEXIST" && (await stat(path)).isDirectory()) return;
    const parent = dirname(path);
    if (errno(cause) !== "ENOENT" || parent === path || existsSync(parent)) throw cause;
    await makeDirectory(parent);
    await mkdir(path, { mode: 0o700 });
  }
};

/** States of one that has ended and was not waited for yet: a zombie, or one whose entry is about to go. */
const ENDED: readonly string[] = ["Z", "X", "x"];

/**
 * When a process started; null when it has ended. Fields 3 (state) and 22 of its stat, counted behind the name in brackets,
 * see proc(5).
 */
const startOf = async (pid: number): Promise<string | null> => {
  try {
    const boot = await readFile("/proc/sys/kernel/random/boot_id", "utf8");
    const line = await readFile(`/proc/${pid}/stat`, "utf8");
    const fields = line.slice(line.lastIndexOf(")") + 2).split(" ");
    return ENDED.includes(fields[0] ?? "") ? null : `${boot.slice(0, 8)}-${fields[19] ?? ""}`;
  } catch (cause) {
    if (errno(cause) === "ENOENT" || errno(cause) === "ESRCH") return null;
    throw cause;
  }
};

const NAME = /^server\.(\d+)\.([0-9a-f]+-\d+)\.[0-9a-f]{8}\.lock$/;

const parseClaim = (file: string): Claim | null => {
  const match = NAME.exec(file);
  return match === null ? null : { file, pid: Number(match[1]), started: match[2] ?? "" };
};

const unlinkIfThere = async (path: string): Promise<void> => {
  try {
    await unlink(path);
  } catch (cause) {
    if (errno(cause) !== "ENOENT") throw cause;
  }
};

/** Claims of other living holders; those of the dead are deleted on the way. */
const otherClaims = async (dir: string, mine: string): Promise<readonly Claim[]> => {
  const living: Claim[] = [];
  for (const file of await readdir(dir)) {
    const claim = parseClaim(file);
    if (claim === null || file === mine) continue;
    if ((await startOf(claim.pid)) === claim.started) living.push(claim);
    else await unlinkIfThere(join(dir, file));
  }
  return living;
};

type Attempt =
  | { readonly held: true; readonly path: string }
  | { readonly held: false; readonly others: readonly Claim[] };

const attempt = async (dir: string): Promise<Attempt> => {
  const started = await startOf(process.pid);
  const file = `server.${process.pid}.${started ?? "0-0"}.${randomUUID().slice(0, 8)}.lock`;
  const path = join(dir, file);
  await writeFile(path, "", { mode: 0o600, flag: "wx" });
  const others = await otherClaims(dir, file).catch(async (cause: unknown) => {
    await unlinkIfThere(path);
    throw cause;
  });
  if (others.length === 0) return { held: true, path };
  await unlinkIfThere(path);
  return { held: false, others };
};

const ATTEMPTS = 8;

const failure =
  (path: string) =>
  (cause: unknown): DataDirError => {
    const code = errno(cause);
    if (code === "EACCES" || code === "EPERM" || code === "EROFS")
      return new DataDirError({
        path,
        reason: `not writable by user ${process.geteuid?.() ?? "?"} (${code}). Change its owner, or choose another by "data" in the configuration or COROOT_DATA.`,
      });
    if (code === "ENOTDIR" || code === "EEXIST")
      return new DataDirError({ path, reason: `it, or a part of its path, is a file (${code})` });
    return new DataDirError({ path, reason: messageOf(cause) });
  };

const hold = (dir: string): Effect.Effect<string, DataDirError> =>
  Effect.gen(function* () {
    let seen: ReadonlySet<string> = new Set();
    let last: readonly Claim[] = [];
    for (let i = 1; i <= ATTEMPTS; i++) {
      const result = yield* Effect.tryPromise({ try: () => attempt(dir), catch: failure(dir) });
      if (result.held) return result.path;
      last = result.others;
      // a claim that is still there is a holder's: who only tries takes a new name each time
      if (last.some((claim) => seen.has(claim.file))) break;
      seen = new Set(last.map((claim) => claim.file));
      yield* Effect.sleep(yield* Random.nextIntBetween(5, 50 * i));
    }
    return yield* new DataDirError({
      path: dir,
      reason: `held by pid ${last[0]?.pid ?? "?"}, another server. Stop it, or choose another directory by "data" in the configuration or COROOT_DATA.`,
    });
  });

/** Makes the directory, proves that it can be written to, and holds it until the scope closes. */
export const openDataDir = (path: string): Effect.Effect<void, DataDirError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: async () => {
        await makeDirectory(path);
        await access(path, constants.W_OK | constants.X_OK);
      },
      catch: failure(path),
    }).pipe(Effect.zipRight(hold(path))),
    (claim) =>
      Effect.tryPromise({ try: () => unlinkIfThere(claim), catch: failure(path) }).pipe(
        Effect.catchAll((error) => Effect.logWarning(`the lock was not removed: ${error.message}`)),
      ),
  ).pipe(Effect.asVoid);
