/**
 * Runs the server's program (an Effect, loaded only here) in this process and tells when it answers. SIGINT and SIGTERM
 * are the caller's; it stops the server through `stop`, which waits for the server's own shutdown and no longer than
 * ten seconds. A server that fails is reported with its cause.
 */
import { Cause, Effect, Exit } from "effect";
import { CommandError, EXIT, type ExitCode, type Values } from "./command.ts";
import type { Settings } from "../../../runtime/config/Config.ts";
import { forTerminal } from "./log.ts";
import { checkPort } from "./preflight.ts";
import { readSettings } from "./settings.ts";

export interface ServerSettings {
  readonly host: string;
  readonly port: number;
  readonly data: string;
  readonly config: string | undefined;
  readonly cluster: string;
  readonly log: Settings["log"];
}

/** The settings of a server whose port is free, or a CommandError that says that it is not. */
export const serverSettings = async (values: Values): Promise<ServerSettings> => {
  const { server, data, cluster, log } = await readSettings(values);
  return {
    host: server.host,
    port: await checkPort(server.host, server.port),
    data,
    config: values.text("config"),
    cluster,
    log,
  };
};

/** The server's address as this machine reaches it. */
export const localAddress = (settings: Pick<ServerSettings, "host" | "port">, scheme: "http" | "ws"): string => {
  const everywhere = settings.host === "0.0.0.0" || settings.host === "::";
  const host = everywhere ? "127.0.0.1" : settings.host;
  return `${scheme}://${host.includes(":") ? `[${host}]` : host}:${settings.port}`;
};

export interface Failure {
  readonly why: string;
  readonly exitCode: ExitCode;
}

export interface RunningServer {
  /** resolves with null after an ordinary end, else with what went wrong */
  readonly ended: Promise<Failure | null>;
  readonly stop: () => Promise<void>;
}

const STOP_MS = 10_000;

const isHeld = (error: unknown): boolean =>
  error instanceof Error && "_tag" in error && error._tag === "DataDirError" && error.message.includes("held by");

/** What a person reads of a failed server: the message of an expected error, the whole cause of any other. */
export const explain = (cause: Cause.Cause<unknown>): Failure => {
  const failure = Cause.failureOption(cause);
  if (failure._tag === "None") return { why: Cause.pretty(cause), exitCode: EXIT.failure };
  const error = failure.value;
  if (!(error instanceof Error)) return { why: Cause.pretty(cause), exitCode: EXIT.failure };
  return { why: error.message, exitCode: isHeld(error) ? EXIT.conflict : EXIT.failure };
};

/** `terminal`: log for a person who reads along, else as a service does. */
export const startServer = async (settings: ServerSettings, terminal: boolean): Promise<RunningServer> => {
  const { runServer } = await import("../server.ts");
  const controller = new AbortController();
  const { config, log, ...others } = settings;
  const server = Effect.scoped(runServer({ ...others, ...(config === undefined ? {} : { config }) }));
  const ended = Effect.runPromiseExit(terminal ? forTerminal(log)(server) : server, { signal: controller.signal }).then(
    (exit) => (Exit.isSuccess(exit) || Cause.isInterruptedOnly(exit.cause) ? null : explain(exit.cause)),
  );
  return {
    ended,
    stop: async () => {
      controller.abort();
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, STOP_MS);
      });
      await Promise.race([ended, late]);
      clearTimeout(timer);
    },
  };
};

const healthy = (address: string): Promise<boolean> =>
  fetch(`${address}/health`, { signal: AbortSignal.timeout(2_000) }).then(
    async (response) => {
      await response.arrayBuffer();
      return response.ok;
    },
    // refused or cut off while it is starting: asked again
    () => false,
  );

/** Waits until /health answers; fails when the server ends first. */
export const whenHealthy = async (address: string, server: RunningServer): Promise<void> => {
  const end = server.ended.then((failure): Failure => failure ?? { why: "it ended at once", exitCode: EXIT.failure });
  for (;;) {
    const answer = await Promise.race([end, healthy(address)]);
    if (answer === true) return;
    if (answer !== false) throw new CommandError(answer.exitCode, answer.why, "");
    await Promise.race([end, new Promise((resume) => setTimeout(resume, 50))]);
  }
};

/** Resolves with the first signal that asks to stop; a second one ends the process at once. */
export const stopSignal = (onSecond: () => void): Promise<NodeJS.Signals> =>
  new Promise((resolve) => {
    let first = true;
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
      process.on(signal, () => {
        if (!first) onSecond();
        first = false;
        resolve(signal);
      });
  });
