/**
 * `coroot start` and `coroot server`. Start runs the server in this process and the node agent as a supervised child,
 * prints where the page is, what is observed and what is off, and stays until Ctrl-C, which stops both. An agent that
 * ends is started again; a server that ends takes the command with it.
 */
import { join } from "node:path";
import { version } from "../version.ts";
import { askRows, type Fields, textOf, numberOf } from "./ask.ts";
import { type Child, supervise } from "./child.ts";
import { EXIT, type Values } from "./command.ts";
import { featuresOff } from "./lists.ts";
import {
  type Failure,
  localAddress,
  type RunningServer,
  serverSettings,
  startServer,
  stopSignal,
  whenHealthy,
} from "./serve.ts";

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** The agent makes little garbage: small young generations keep its memory below what watching may cost. */
const AGENT_MEMORY = ["--max-semi-space-size=1", "--v8-pool-size=1"];

/** How long the summary waits for the agent before it says that nothing has come yet. */
const REPORT_WAIT_MS = 20_000;

/** What the summary says of the agents and their services; pure. */
export const summary = (agents: readonly Fields[], services: number): readonly string[] => {
  if (agents.length === 0) return ["observed  nothing yet: no node agent has reported"];
  const count = services === 1 ? "1 service" : `${services} services`;
  const seen = agents.map((agent) => `observed  ${count} on ${textOf(agent, "node")}`).slice(0, 1);
  const off = agents.flatMap(featuresOff);
  return [...seen, ...off.map((one) => `off       ${one.feature}: ${one.reason}`)];
};

const reported = (agents: readonly Fields[]): readonly Fields[] =>
  agents.filter((agent) => textOf(agent, "state") === "connected" && (numberOf(agent, "window") ?? 0) > 0);

/** Polls until an agent has sent its first windows and services appear, or the wait is over. */
const observe = async (
  address: URL,
  stopped: AbortSignal,
): Promise<{ readonly agents: readonly Fields[]; readonly services: number }> => {
  const until = performance.now() + REPORT_WAIT_MS;
  let agents: readonly Fields[] = [];
  let services = -1;
  while (!stopped.aborted) {
    agents = reported((await askRows(address, "/api/agents", 5_000)).rows);
    const before = services;
    services = (await askRows(address, "/api/services", 5_000)).rows.length;
    const settled = agents.length > 0 && services > 0 && services === before;
    if (settled || performance.now() > until) break;
    await pause(1_000, stopped);
  }
  return { agents, services: Math.max(0, services) };
};

/** How often features are looked at again after the summary. */
const WATCH_MS = 5_000;

/** Lines for the features that went off or came back since the last look; pure. */
export const changes = (before: ReadonlyMap<string, string>, now: ReadonlyMap<string, string>): readonly string[] => [
  ...[...now].flatMap(([feature, reason]) =>
    before.get(feature) === reason ? [] : [`off       ${feature}: ${reason}`],
  ),
  ...[...before.keys()].flatMap((feature) => (now.has(feature) ? [] : [`on        ${feature}`])),
];

const offIn = (agents: readonly Fields[]): ReadonlyMap<string, string> =>
  new Map(agents.flatMap(featuresOff).map((one) => [one.feature, one.reason]));

/** Ends early when `stopped` is aborted; leaves no listener behind, since it is called for as long as the product runs. */
const pause = (ms: number, stopped: AbortSignal): Promise<void> =>
  new Promise((resume) => {
    const end = (): void => {
      clearTimeout(timer);
      stopped.removeEventListener("abort", end);
      resume();
    };
    const timer = setTimeout(end, ms);
    stopped.addEventListener("abort", end);
  });

/** Prints what is observed and what is off, and from then on what changes of it, until it is stopped. */
const report = async (address: URL, stopped: AbortSignal): Promise<void> => {
  try {
    const first = await observe(address, stopped);
    if (stopped.aborted) return;
    summary(first.agents, first.services).forEach(say);
    let before = offIn(first.agents);
    for (;;) {
      await pause(WATCH_MS, stopped);
      if (stopped.aborted) return;
      const agents = reported((await askRows(address, "/api/agents", WATCH_MS)).rows);
      // between two connections nothing is known, and nothing has changed
      if (agents.length === 0) continue;
      const now = offIn(agents);
      changes(before, now).forEach(say);
      before = now;
    }
  } catch (error) {
    if (!stopped.aborted) say(`observed  unknown: ${error instanceof Error ? error.message : String(error)}`);
  }
};

const untilStopped = async (
  server: RunningServer,
  stop: Promise<NodeJS.Signals>,
  end: () => Promise<void>,
): Promise<number> => {
  const failure = await Promise.race([
    server.ended.then((why): Failure => why ?? { why: "by itself", exitCode: EXIT.failure }),
    stop.then(() => null),
  ]);
  if (failure === null) say("stopping");
  else process.stderr.write(`coroot: the server ended: ${failure.why}\n`);
  await end();
  return failure === null ? EXIT.ok : failure.exitCode;
};

export const server = async (values: Values): Promise<number> => {
  const settings = await serverSettings(values);
  const stop = stopSignal(() => process.exit(130));
  const running = await startServer(settings, false);
  const address = localAddress(settings, "http");
  const early = await Promise.race([whenHealthy(address, running).then(() => null), stop]);
  if (early !== null) {
    await running.stop();
    return EXIT.ok;
  }
  say(`Coroot ${version} server`);
  say(`page      ${address}`);
  say(`agents    ${localAddress(settings, "ws")}/agent with the key in ${join(settings.data, "agent.key")}`);
  say(`data      ${settings.data}`);
  return await untilStopped(running, stop, () => running.stop());
};

export const start = async (values: Values): Promise<number> => {
  const settings = await serverSettings(values);
  let agent: Child | null = null;
  const stop = stopSignal(() => {
    agent?.kill();
    process.exit(130);
  });
  const running = await startServer(settings, true);
  const address = localAddress(settings, "http");
  const early = await Promise.race([whenHealthy(address, running).then(() => null), stop]);
  if (early !== null) {
    await running.stop();
    return EXIT.ok;
  }
  say(`Coroot ${version}, Ctrl-C stops it`);
  say(`page      ${address}`);
  say(`data      ${settings.data}`);
  if (values.on("no-agent")) {
    say("observed  nothing on this machine (--no-agent)");
    return await untilStopped(running, stop, () => running.stop());
  }
  const child = supervise({
    title: "node agent",
    args: [
      ...AGENT_MEMORY,
      process.argv[1] ?? "",
      "node-agent",
      "--server",
      `${localAddress(settings, "ws")}/agent`,
      "--key-file",
      join(settings.data, "agent.key"),
      "--data",
      join(settings.data, "agent"),
      "--cluster",
      settings.cluster,
    ],
    environment: { COROOT_SUPERVISED: "1" },
    say,
  });
  agent = child;
  const watching = new AbortController();
  const told = report(new URL(address), watching.signal);
  return await untilStopped(running, stop, async () => {
    watching.abort();
    await child.stop();
    await running.stop();
    await told;
  });
};
