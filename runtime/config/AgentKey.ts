/**
 * The key by which agents prove themselves: one file, readable by its owner only. The server makes it at first start;
 * the agent on the same machine reads it, others get it by hand. A file that others can read is refused, not repaired:
 * who could read it may have done so. Nothing to stop.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { link, readFile, stat, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Data, Effect } from "effect";

export class AgentKeyError extends Data.TaggedError("AgentKeyError")<{
  readonly path: string;
  readonly reason: string;
}> {
  override get message(): string {
    return `The key ${this.path} cannot be used: ${this.reason}`;
  }
}

export const agentKeyPath = (dataDir: string): string => join(dataDir, "agent.key");
/** Gives an operator's hand in the actors; kept and made in the same way. */
export const adminKeyPath = (dataDir: string): string => join(dataDir, "admin.key");

const MIN_KEY = 16;
const failed = (path: string) => (cause: unknown) =>
  cause instanceof AgentKeyError
    ? cause
    : new AgentKeyError({ path, reason: cause instanceof Error ? cause.message : String(cause) });

const read = async (path: string): Promise<string> => {
  const { mode } = await stat(path);
  if ((mode & 0o077) !== 0)
    throw new AgentKeyError({
      path,
      reason: `mode 0${(mode & 0o777).toString(8)} lets others read it, expected 0600. Run: chmod 600 ${path}; or delete it for a new one, if others may have read it.`,
    });
  const key = (await readFile(path, "utf8")).trim();
  if (key.length < MIN_KEY || key.length > 256 || /\s/.test(key))
    throw new AgentKeyError({ path, reason: `expected one word of ${MIN_KEY} to 256 characters` });
  return key;
};

const exists = (cause: unknown): boolean => cause instanceof Error && "code" in cause && cause.code === "EEXIST";

/** The key in the file. */
export const readAgentKey = (path: string): Effect.Effect<string, AgentKeyError> =>
  Effect.tryPromise({ try: () => read(path), catch: failed(path) });

/** The key in the file, which is made with 32 random bytes when there is none. */
export const ensureAgentKey = (path: string): Effect.Effect<string, AgentKeyError> =>
  Effect.tryPromise({
    try: async () => {
      // written aside and linked, so that a reader never sees half a key and two writers agree on one
      const draft = `${path}.${randomUUID()}`;
      await writeFile(draft, `${randomBytes(32).toString("base64url")}\n`, { mode: 0o600, flag: "wx" });
      try {
        await link(draft, path);
      } catch (cause) {
        if (!exists(cause)) throw cause;
      } finally {
        await unlink(draft);
      }
      return read(path);
    },
    catch: failed(path),
  });
