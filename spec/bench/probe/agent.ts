/**
 * probe.agent_cpu: CPU of a node agent and its probe, which are processes of their own. The load goes to a hundred
 * addresses of one nginx, whose connections are two hundred edges. The agent goes on under a load of its own for probe.soak,
 * which can say something only once it is three minutes old.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { startLinkServer } from "../../agent/node/link/server.ts";
import { buildProbe, probePath } from "../../kernel/ProbeBed.ts";
import { startNginx } from "../../kernel/servers.ts";
import type { Figure, Measured, MeasureContext } from "../figure.ts";
import { cpuNs, descendants, pause, waitFor } from "../path/launch.ts";
import { type Load, replyLength, startLoad } from "../path/load.ts";
import { whereAble } from "../path/probe.ts";
import { shared } from "./hooks.ts";
import type { AgentState, AgentWorkOptions } from "./work/agentWork.ts";

const AGENT = fileURLToPath(new URL("./work/agentWork.ts", import.meta.url));
const HOSTS = Array.from({ length: 100 }, (_, i) => `127.0.1.${i + 1}`);

export interface Agent {
  readonly pid: number;
  readonly probePid: number;
  readonly state: () => Promise<AgentState>;
  readonly stop: () => Promise<void>;
}

const startAgent = async (): Promise<Agent> => {
  buildProbe();
  const folder = mkdtempSync(join(tmpdir(), "coroot-bench-agent-"));
  writeFileSync(join(folder, "agent.key"), "key\n");
  const link = await startLinkServer();
  let windows = 0;
  // it takes what comes, and keeps nothing
  const taking = setInterval(() => {
    const [observed, stored] = [link.connections.flatMap((all) => all.splice(0)).length, link.stores.splice(0).length];
    windows += observed;
    if (observed > 0) link.credit("observe", observed);
    if (stored > 0) link.credit("store", stored);
  }, 500);
  const options: AgentWorkOptions = { server: link.url, folder, probe: probePath };
  const child = spawn(process.execPath, ["--expose-gc", "--import", "tsx", AGENT, JSON.stringify(options)], {
    stdio: ["pipe", "pipe", "inherit"],
    env: { ...process.env, NODE_OPTIONS: "" },
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const pid = child.pid ?? 0;
  process.once("exit", () => child.kill());
  const probe = (): number | null => descendants(pid).find((one) => one.arguments[0] === probePath)?.pid ?? null;
  const probePid = await waitFor("the agent's probe", 30_000, async () => probe(), 100);
  await waitFor("windows of the agent", 30_000, async () => (windows >= 3 ? true : null), 100);
  return {
    pid,
    probePid,
    state: async () => {
      child.stdin.write("\n");
      return JSON.parse(String((await lines.next()).value)) as AgentState;
    },
    stop: async () => {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.stdin.end();
      await ended;
      clearInterval(taking);
      await link.stop();
      rmSync(folder, { recursive: true });
    },
  };
};

/** nginx on all the addresses. */
const startTarget = (): ReturnType<typeof startNginx> =>
  startNginx(`${HOSTS.map((host) => `listen ${host}:PORT;`).join(" ")} location / { return 200 "0123456789"; }`);

export interface Watched {
  readonly agent: Agent;
  /** when it was started, as performance.now() */
  readonly since: number;
  readonly load: (perSecond: number, each?: number) => Promise<Load>;
  /** the load that goes on in between */
  churn: Load | null;
  readonly stop: () => Promise<void>;
}

let made: Promise<Watched> | null = null;

/** The agent under watch and what it watches; started by whoever asks first. */
export const watched = (): Promise<Watched> =>
  (made ??= (async () => {
    const nginx = await startTarget();
    process.once("exit", () => nginx.child.kill());
    const replyBytes = await replyLength(nginx.port);
    const since = performance.now();
    const agent = await startAgent();
    const one: Watched = {
      agent,
      since,
      load: (perSecond, each) =>
        startLoad(nginx.port, perSecond, replyBytes, {
          hosts: HOSTS,
          connections: HOSTS.length,
          ...(each === undefined ? {} : { each }),
        }),
      churn: null,
      stop: async () => {
        made = null;
        one.churn?.stop();
        await agent.stop();
        await nginx.stop();
      },
    };
    return one;
  })());

/** 5,000 requests per second, fifty on each connection. */
export const startChurn = async (one: Watched): Promise<Load> => (one.churn ??= await one.load(5_000, 50));

interface Step {
  readonly asked: number;
  readonly perSecond: number;
  readonly agent: number;
  readonly probe: number;
  readonly edges: number;
}

const FULL = 8_000;

const measureCpu = shared(async ({ long, log, signal }: MeasureContext): Promise<readonly Step[]> => {
  const one = await watched();
  const { agent } = one;
  const seconds = long ? 60 : 10;
  const steps: Step[] = [];
  // by turns, so that what else the machine does falls on both
  for (const asked of [FULL / 4, FULL, FULL / 4, FULL]) {
    if (signal.aborted) throw new Error("out of time");
    const load = await one.load(asked);
    await pause(3_000);
    const look = (): readonly [number, number] => [cpuNs(agent.pid), cpuNs(agent.probePid)];
    const [[a, p], count, at] = [look(), load.answered(), performance.now()];
    await pause(seconds * 1_000);
    const elapsed = (performance.now() - at) / 1_000;
    const [a2, p2] = look();
    const perSecond = (load.answered() - count) / elapsed;
    load.stop();
    const { probe } = await agent.state();
    const of = (ns: number): number => ns / 1e9 / elapsed;
    steps.push({ asked, perSecond, agent: of(a2 - a), probe: of(p2 - p), edges: probe["edges"] ?? 0 });
    log(JSON.stringify(steps.at(-1)));
  }
  await startChurn(one);
  return steps;
});

const cpuOf = (steps: readonly Step[], asked: number): number => {
  const of = steps.filter((step) => step.asked === asked);
  return of.reduce((sum, step) => sum + step.agent + step.probe, 0) / of.length;
};

const withSteps = async (context: MeasureContext, read: (steps: readonly Step[]) => number): Promise<Measured> => {
  const steps = await measureCpu(context);
  const said = steps
    .map(
      ({ perSecond, agent, probe, edges }) =>
        `agent ${(agent * 100).toFixed(2)} % and probe ${(probe * 100).toFixed(2)} % at ${Math.round(perSecond)} req/s ` +
        `over ${edges} edges`,
    )
    .join(", ");
  return steps.every((step) => step.perSecond > step.asked * 0.9)
    ? { value: read(steps), detail: said }
    : { value: null, reason: `the load did not reach its rates: ${said}` };
};

export const figures: readonly Figure[] = [
  {
    id: "probe.agent_cpu",
    figure: "user-space CPU of agent and probe at 8,000 req/s over 200 edges",
    unit: "% of a core",
    bar: "<= 3",
    holds: (value) => value <= 3,
    measure: whereAble(["bpf", "nginx"], (context) => withSteps(context, (steps) => cpuOf(steps, FULL) * 100)),
  },
  {
    id: "probe.agent_cpu.ratio",
    figure: "that CPU at 8,000 over 2,000 req/s",
    unit: "ratio",
    bar: "<= 1.15",
    holds: (value) => value <= 1.15,
    measure: whereAble(["bpf", "nginx"], (context) =>
      withSteps(context, (steps) => cpuOf(steps, FULL) / cpuOf(steps, FULL / 4)),
    ),
  },
];
