/**
 * Runs the server's program (an Effect, loaded only here) in this process and tells when it answers. SIGINT and SIGTERM
 * are the caller's; it stops the server through `stop`, which waits for the server's own shutdown and no longer than
 * ten seconds. A server that fails is reported with its cause.
 */
import { Cause, Effect, Exit } from "effect";
import type { Values } from "./command.ts";
import { CommandError, EXIT } from "./command.ts";
import { checkPort, defaultData, lockData } from "./preflight.ts";

export interface ServerSettings {
  readonly host: string;
  readonly port: number;
  readonly data: string;
  readonly config: string | undefined;
  readonly cluster: string | undefined;
}

/** Flags to settings; the port and the data folder are free and ours, or a CommandError says why not. */
export const serverSettings = async (values: Values): Promise<ServerSettings> => {
  const host = values.text("host") ?? "127.0.0.1";
  const port = await checkPort(host, values.number("port") ?? 8080);
  const data = values.text("data") ?? defaultData();
  lockData(data, "server");
  return { host, port, data, config: values.text("config"), cluster: values.text("cluster") };
};

/** The server's address as this machine reaches it. */
export const localAddress = (settings: Pick<ServerSettings, "host" | "port">, scheme: "http" | "ws"): string => {
  const everywhere = settings.host === "0.0.0.0" || settings.host === "::";
  const host = everywhere ? "127.0.0.1" : settings.host;
  return `${scheme}://${host.includes(":") ? `[${host}]` : host}:${settings.port}`;
};

export interface RunningServer {
  /** resolves with null after an ordinary end, else with what went wrong */
  readonly ended: Promise<string | null>;
  readonly stop: () => Promise<void>;
}

const STOP_MS = 10_000;

export const startServer = async (settings: ServerSettings): Promise<RunningServer> => {
  const { runServer } = await import("../server.ts");
  const controller = new AbortController();
  const program = runServer({
    host: settings.host,
    port: settings.port,
    data: settings.data,
    ...(settings.config === undefined ? {} : { config: settings.config }),
    ...(settings.cluster === undefined ? {} : { cluster: settings.cluster }),
  });
  const ended = Effect.runPromiseExit(Effect.scoped(program), { signal: controller.signal }).then((exit) =>
    Exit.isSuccess(exit) || Cause.isInterruptedOnly(exit.cause) ? null : Cause.pretty(exit.cause),
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
  const end = server.ended.then((why) => ({ why: why ?? "it ended at once" }));
  for (;;) {
    const answer = await Promise.race([end, healthy(address)]);
    if (answer === true) return;
    if (answer !== false) throw new CommandError(EXIT.failure, `the server did not start: ${answer.why}`, "");
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
