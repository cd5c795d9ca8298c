/**
 * Short-lived programs: run one to its end, with input and a time limit. Fails with CommandFailed, which carries what
 * the program wrote to its error output. Nothing outlives the call.
 */
import { spawn } from "node:child_process";

export class CommandFailed extends Error {
  constructor(command: readonly string[], how: string, stderr: string) {
    const said = stderr.trim().split("\n").slice(-5).join(" | ");
    super(`${command.join(" ")}: ${how}${said === "" ? "" : `: ${said}`}`);
    this.name = "CommandFailed";
  }
}

export interface CommandOptions {
  readonly input?: string;
  readonly timeoutMs?: number;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
}

/** Standard output of the program. */
export const run = (command: readonly string[], options: CommandOptions = {}): Promise<string> =>
  new Promise((resolve, reject) => {
    const [program = "", ...rest] = command;
    const timeoutMs = options.timeoutMs ?? 20_000;
    const child = spawn(program, rest, {
      stdio: ["pipe", "pipe", "pipe"],
      timeout: timeoutMs,
      killSignal: "SIGKILL",
      ...(options.env === undefined ? {} : { env: options.env }),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    // a program that ends without reading its input breaks the pipe: its exit code tells more
    child.stdin.on("error", (error) => (stderr += `${error.message}\n`));
    child.once("error", (error) => reject(new CommandFailed(command, error.message, stderr)));
    child.once("close", (code, signal) => {
      if (code === 0) resolve(stdout);
      else reject(new CommandFailed(command, signal === null ? `exit ${code}` : `killed by ${signal}`, stderr));
    });
    child.stdin.end(options.input ?? "");
  });
