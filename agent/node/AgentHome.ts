/**
 * The agent's folder: its id (made once), the number of this life, its key. Owned by the node agent and read at start,
 * the key at each greeting, so that a key file written later is found. What cannot be read or written is a typed error
 * that names the file.
 */
import { randomUUID } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Effect, Schema } from "effect";

export class AgentFileError extends Schema.TaggedError<AgentFileError>()("AgentFileError", {
  file: Schema.String,
  expected: Schema.String,
  detail: Schema.String,
}) {
  override get message(): string {
    return `${this.file}: ${this.detail}; expected ${this.expected}`;
  }
}

export interface AgentHome {
  readonly folder: string;
  readonly agentId: string;
  readonly epoch: number;
  readonly machineId: string;
}

const trying = <A>(file: string, expected: string, body: () => A): Effect.Effect<A, AgentFileError> =>
  Effect.try({
    try: body,
    catch: (error) =>
      new AgentFileError({ file, expected, detail: error instanceof Error ? error.message : String(error) }),
  });

const readIfThere = (path: string): string | null => {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  }
};

const write = (path: string, text: string): void => {
  writeFileSync(`${path}.new`, `${text}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
};

/** Opens the folder and begins a life; `wallMs` numbers it, and a clock that was set back does not number it twice. */
export const openHome = (folder: string, wallMs: number): Effect.Effect<AgentHome, AgentFileError> =>
  Effect.gen(function* () {
    yield* trying(folder, "a folder that the agent may write to", () =>
      mkdirSync(folder, { recursive: true, mode: 0o700 }),
    );
    const idFile = join(folder, "agent.id");
    const agentId = yield* trying(idFile, "the agent's id", () => {
      const known = readIfThere(idFile);
      if (known !== null && known !== "") return known;
      const made = `node-${randomUUID()}`;
      write(idFile, made);
      return made;
    });
    const epochFile = join(folder, "agent.epoch");
    const epoch = yield* trying(epochFile, "the number of the agent's last life", () => {
      const last = Number(readIfThere(epochFile) ?? 0);
      const next = Math.max(Math.floor(wallMs), Number.isSafeInteger(last) ? last + 1 : 0);
      write(epochFile, String(next));
      return next;
    });
    const machineId = yield* trying("/etc/machine-id", "the machine's id", () =>
      (readIfThere("/etc/machine-id") ?? readIfThere("/var/lib/dbus/machine-id") ?? agentId).replaceAll("-", ""),
    );
    return { folder, agentId, epoch, machineId };
  });

/** The agent's key: COROOT_AGENT_KEY, else the file. */
export const readKey = (keyFile: string): Effect.Effect<string, AgentFileError> =>
  Effect.suspend(() => {
    const given = process.env["COROOT_AGENT_KEY"]?.trim();
    if (given !== undefined && given !== "") return Effect.succeed(given);
    return trying(keyFile, "the agent's key, as the server wrote it", () => {
      const key = readFileSync(keyFile, "utf8").trim();
      if (key === "") throw new Error("the file is empty");
      return key;
    });
  });
