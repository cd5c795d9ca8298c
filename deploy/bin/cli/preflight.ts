/**
 * What must be free before a server starts: its port and its data folder. A taken one ends the command with exit code 4
 * and names who holds it. The folder's lock is a file with its holder's pid and start time, removed on exit; one whose
 * holder has gone (killed, machine restarted) is taken over.
 */
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { homedir } from "node:os";
import { join } from "node:path";
import { CommandError, EXIT } from "./command.ts";

/** $COROOT_DATA, else /var/lib/coroot as root and ~/.local/share/coroot otherwise. */
export const defaultData = (
  environment: Readonly<Record<string, string | undefined>> = process.env,
  uid: number = process.getuid?.() ?? -1,
): string => environment["COROOT_DATA"] ?? (uid === 0 ? "/var/lib/coroot" : join(homedir(), ".local/share/coroot"));

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";

/** The port itself, or a free one when 0 is asked for. */
export const checkPort = (host: string, port: number): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (error) => {
      const code = codeOf(error);
      reject(
        code === "EADDRINUSE"
          ? new CommandError(
              EXIT.conflict,
              `port ${port} on ${host} is taken by another process`,
              "choose another with --port N",
            )
          : new CommandError(
              EXIT.failure,
              `cannot listen on ${host}:${port}: ${error.message}`,
              "see --host and --port",
            ),
      );
    });
    server.listen(port, host, () => {
      const address = server.address();
      const found = typeof address === "object" && address !== null ? address.port : port;
      server.close(() => resolve(found));
    });
  });

/** A process named so that a later one with the same number is another: number and start time. */
export const processIdentity = (pid: number): string | null => {
  const file = `/proc/${pid}/stat`;
  if (!existsSync(file)) return null;
  const fields = readFileSync(file, "utf8")
    .replace(/^.*\) /s, "")
    .split(" ");
  return `${pid} ${fields[19] ?? ""}`;
};

const makeFolder = (data: string): void => {
  try {
    mkdirSync(data, { recursive: true });
    accessSync(data, constants.W_OK);
  } catch (error) {
    throw new CommandError(
      EXIT.failure,
      `cannot write to the data folder ${data}: ${error instanceof Error ? error.message : String(error)}`,
      "choose another with --data DIR",
    );
  }
};

/** Takes the folder for this process until it exits. */
export const lockData = (data: string, name: string): void => {
  makeFolder(data);
  const path = join(data, `${name}.lock`);
  const mine = processIdentity(process.pid) ?? String(process.pid);
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      const handle = openSync(path, "wx", 0o600);
      writeFileSync(handle, mine);
      closeSync(handle);
      process.once("exit", () => rmSync(path, { force: true }));
      return;
    } catch (error) {
      if (codeOf(error) !== "EEXIST") throw error;
      const holder = existsSync(path) ? readFileSync(path, "utf8") : "";
      const pid = Number(holder.split(" ")[0]);
      if (pid > 0 && processIdentity(pid) === holder)
        throw new CommandError(
          EXIT.conflict,
          `the data folder ${data} is in use by process ${pid}`,
          `stop that process, or choose another folder with --data DIR`,
        );
      rmSync(path, { force: true });
    }
  }
  throw new CommandError(EXIT.conflict, `the data folder ${data} is being taken by another process`, "try again");
};
