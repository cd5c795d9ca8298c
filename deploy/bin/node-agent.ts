/**
 * Entry of the node agent: one scoped program that runs until SIGTERM or SIGINT and then flushes. Composition only; the
 * agent itself is agent/node/NodeAgent.ts. What keeps it from starting (a folder that cannot be written) is its error.
 */
import { Effect } from "effect";
import { makeNodeAgent, type NodeAgentOptions } from "../../agent/node/NodeAgent.ts";
import type { AgentFileError } from "../../agent/node/AgentHome.ts";
import { version } from "./version.ts";

export type RunNodeAgentOptions = Omit<NodeAgentOptions, "version">;

const stopped: Effect.Effect<NodeJS.Signals> = Effect.async((resume) => {
  const stop = (signal: NodeJS.Signals): void => resume(Effect.succeed(signal));
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);
  return Effect.sync(() => {
    process.off("SIGTERM", stop);
    process.off("SIGINT", stop);
  });
});

export const runNodeAgent = (options: RunNodeAgentOptions): Effect.Effect<void, AgentFileError> =>
  Effect.gen(function* () {
    const agent = yield* makeNodeAgent({ ...options, version });
    yield* Effect.logInfo(`node agent ${agent.agentId} observes this machine for ${options.servers.join(", ")}`);
    const signal = yield* stopped;
    yield* Effect.logInfo(`${signal}: flushing`);
    yield* agent.flush;
  }).pipe(Effect.scoped);
