/**
 * `coroot node-agent`: configuration file, environment and flags as the agent's options, and its end with the process
 * that started it, if one supervises it.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { Cause, Effect, Exit } from "effect";
import { distDir } from "../dist.ts";
import { stopWithParent } from "./child.ts";
import { CommandError, EXIT, type Values } from "./command.ts";
import { forTerminal } from "./log.ts";
import { readSettings } from "./settings.ts";
import type { Settings } from "../../../runtime/config/Config.ts";

/** The link's address, whichever form the server's was given in. */
const linkAddress = (server: string): string => {
  const url = new URL(server.replace(/^http/, "ws"));
  if (url.pathname === "/") url.pathname = "/agent";
  return url.href;
};

const spanArguments = (agent: Settings["agent"]): readonly string[] =>
  Object.entries({
    "--sample": agent.spansSampleOneOf,
    "--sampled": agent.spansSampledPerSecond,
    "--slow": agent.spansSlowPerSecond,
    "--failed": agent.spansFailedPerSecond,
    "--slow-ms": agent.spansSlowMs,
  }).flatMap(([name, value]) => [name, String(value)]);

/** `servers`: from the command line, above those of the configuration. */
export const nodeAgent = async (values: Values, servers: readonly string[] | undefined): Promise<number> => {
  const settings = await readSettings(values);
  const { agent } = settings;
  const node = values.text("node") ?? agent.node;
  const metrics = values.text("metrics") ?? agent.metrics;
  const probe = join(distDir(), "probe");
  stopWithParent();
  const { runNodeAgent } = await import("../node-agent.ts");
  const program = runNodeAgent({
    servers: (servers ?? [agent.server].flat()).map(linkAddress),
    keyFile: values.text("key-file") ?? agent.keyFile ?? join(settings.data, "agent.key"),
    dataDir: values.text("data") ?? join(settings.data, "agent"),
    probePath: existsSync(probe) ? probe : null,
    cluster: settings.cluster,
    spoolBytes: agent.spoolMaxBytes,
    traffic: agent.traffic,
    probeArguments: [
      ...(agent.tls ? ["--tls-budget", String(agent.tlsBudgetPercent)] : ["--no-tls"]),
      ...(agent.spans ? spanArguments(agent) : ["--no-spans"]),
      ...(agent.hooks === "syscalls" ? ["--hooks=syscalls"] : []),
    ],
    ...(node === undefined ? {} : { node }),
    ...(metrics === undefined ? {} : { metrics }),
  });
  const supervised = process.env["COROOT_SUPERVISED"] === "1";
  const exit = await Effect.runPromiseExit(supervised ? forTerminal(settings.log)(program) : program);
  if (Exit.isSuccess(exit)) return EXIT.ok;
  const failure = Cause.failureOption(exit.cause);
  throw new CommandError(EXIT.failure, failure._tag === "Some" ? failure.value.message : Cause.pretty(exit.cause), "");
};
