/**
 * A node agent with its probe in a process of its own, for figures over time. Arguments: JSON of AgentWorkOptions. Each
 * line on its input is answered by one line, JSON of AgentState, after a forced collection of garbage (node --expose-gc);
 * it ends with its input.
 */
import { readdirSync } from "node:fs";
import { createInterface } from "node:readline";
import { Effect, Logger, LogLevel } from "effect";
import { makeNodeAgent } from "../../../../agent/node/NodeAgent.ts";

export interface AgentWorkOptions {
  readonly server: string;
  readonly folder: string;
  readonly probe: string;
}

export interface AgentState {
  readonly heap: number;
  readonly external: number;
  readonly descriptors: number;
  /** self figures of the probe */
  readonly probe: Readonly<Record<string, number>>;
}

const { server, folder, probe } = JSON.parse(process.argv[2] ?? "{}") as AgentWorkOptions;

const state = (probeSelf: Readonly<Record<string, number>>): AgentState => {
  globalThis.gc?.();
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return { heap: heapUsed, external, descriptors: readdirSync("/proc/self/fd").length, probe: probeSelf };
};

const program = Effect.gen(function* () {
  const agent = yield* makeNodeAgent({
    servers: [server],
    keyFile: `${folder}/agent.key`,
    dataDir: folder,
    probePath: probe,
    cluster: "bench",
    node: "here",
    traffic: true,
  });
  yield* Effect.promise(
    () =>
      new Promise<void>((resolve) => {
        createInterface({ input: process.stdin })
          .on("line", () => process.stdout.write(`${JSON.stringify(state(agent.observer.probeSelf))}\n`))
          .once("close", resolve);
      }),
  );
}).pipe(Effect.scoped, Logger.withMinimumLogLevel(LogLevel.None));

await Effect.runPromise(program);
process.exit();
