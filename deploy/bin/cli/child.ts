/**
 * One supervised child process of `coroot start`: its lines are printed with a prefix, it is started again after it
 * ends, and `stop` ends it (SIGTERM, five seconds, SIGKILL). Its standard input is a pipe from us, so that it notices
 * when we are gone, however we ended.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { afterEnd, none, type Restarts } from "./restart.ts";

export interface Child {
  /** resolves when the child has ended and no other is going to be started */
  readonly stop: () => Promise<void>;
  /** at once, without asking */
  readonly kill: () => void;
}

export interface ChildOptions {
  readonly title: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly say: (line: string) => void;
}

const KILL_AFTER_MS = 5_000;

const how = (code: number | null, signal: string | null): string =>
  signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`;

export const supervise = ({ title, args, environment, say }: ChildOptions): Child => {
  let process_: ChildProcess | null = null;
  let again: NodeJS.Timeout | null = null;
  let stopping = false;
  let restarts: Restarts = none;

  const launch = (): void => {
    again = null;
    const startedAt = performance.now();
    const child = spawn(process.execPath, [...process.execArgv, ...args], {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, ...environment },
    });
    process_ = child;
    for (const stream of [child.stdout, child.stderr])
      createInterface({ input: stream }).on("line", (line) => say(`${title} | ${line}`));
    // the pipe is only there to break when we die; a child that closes it earlier is its own business
    child.stdin.on("error", () => undefined);
    let over = false;
    const ended = (code: number | null, text: string): void => {
      if (over) return;
      over = true;
      process_ = null;
      if (stopping) return;
      const decision = afterEnd(restarts, code, performance.now() - startedAt);
      if (decision.kind === "give-up") {
        say(`the ${title} ${text}: ${decision.why}; it is not started again`);
        return;
      }
      restarts = decision.next;
      say(`the ${title} ${text}; restart ${restarts.inARow} in ${decision.waitMs / 1000} s`);
      again = setTimeout(launch, decision.waitMs);
    };
    child.on("error", (error) => ended(null, `could not be started (${error.message})`));
    child.on("close", (code, signal) => ended(code, how(code, signal)));
  };

  launch();
  return {
    kill: () => {
      stopping = true;
      if (again !== null) clearTimeout(again);
      process_?.kill("SIGKILL");
    },
    stop: () =>
      new Promise((resolve) => {
        stopping = true;
        if (again !== null) clearTimeout(again);
        const child = process_;
        if (child === null) return resolve();
        const timer = setTimeout(() => {
          say(`the ${title} did not stop in ${KILL_AFTER_MS / 1000} s: killed`);
          child.kill("SIGKILL");
        }, KILL_AFTER_MS);
        child.once("close", () => {
          clearTimeout(timer);
          resolve();
        });
        child.kill("SIGTERM");
      }),
  };
};

const parentGone = (): void => void process.kill(process.pid, "SIGTERM");

/** In a supervised child: ends it the usual way when the parent's pipe breaks. */
export const stopWithParent = (): void => {
  if (process.env["COROOT_SUPERVISED"] !== "1") return;
  process.stdin.on("end", parentGone).on("error", parentGone).resume();
};
