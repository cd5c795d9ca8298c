/**
 * probe.agent_cpu, probe.soak: a node agent and its probe as processes of their own, over time. The load goes to a hundred
 * addresses of one nginx, whose connections are two hundred edges.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { startLinkServer } from "../../agent/node/link/server.ts";
import { buildProbe, probePath } from "../../kernel/ProbeBed.ts";
import { startNginx } from "../../kernel/servers.ts";
import type { Figure, Measured, MeasureContext } from "../figure.ts";
import { cpuNs, descendants, pause, rssMb, waitFor } from "../path/launch.ts";
import { replyLength, startLoad } from "../path/load.ts";
import { whereAble } from "../path/probe.ts";
import { shared } from "./hooks.ts";
import type { AgentState, AgentWorkOptions } from "./work/agentWork.ts";

const AGENT = fileURLToPath(new URL("./work/agentWork.ts", import.meta.url));
const HOSTS = Array.from({ length: 100 }, (_, i) => `127.0.1.${i + 1}`);

interface Agent {
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

interface Step {
  readonly asked: number;
  readonly perSecond: number;
  readonly agent: number;
  readonly probe: number;
  readonly edges: number;
}

const FULL = 8_000;

const measureCpu = shared(async ({ long, log, signal }: MeasureContext): Promise<readonly Step[]> => {
  const nginx = await startTarget();
  try {
    const agent = await startAgent();
    try {
      const replyBytes = await replyLength(nginx.port);
      const seconds = long ? 60 : 10;
      const steps: Step[] = [];
      // by turns, so that what else the machine does falls on both
      for (const asked of [FULL / 4, FULL, FULL / 4, FULL]) {
        if (signal.aborted) throw new Error("out of time");
        const load = await startLoad(nginx.port, asked, replyBytes, { hosts: HOSTS, connections: HOSTS.length });
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
      return steps;
    } finally {
      await agent.stop();
    }
  } finally {
    await nginx.stop();
  }
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

/** Slope of a line through points at even steps, by the hour, and half of its 95 % interval. */
const slopeOf = (values: readonly number[], stepSeconds: number): readonly [slope: number, half: number] => {
  const n = values.length;
  const middle = (n - 1) / 2;
  const mean = values.reduce((sum, v) => sum + v, 0) / n;
  const xx = values.reduce((sum, _, i) => sum + (i - middle) ** 2, 0);
  const slope = values.reduce((sum, v, i) => sum + (i - middle) * (v - mean), 0) / xx;
  const rest = values.reduce((sum, v, i) => sum + (v - mean - slope * (i - middle)) ** 2, 0);
  const perHour = 3_600 / stepSeconds;
  return [slope * perHour, 2 * Math.sqrt(rest / Math.max(1, n - 2) / xx) * perHour];
};

interface Grows {
  readonly name: string;
  /** increase in an hour up to which it holds though the interval is above 0 */
  readonly least: number;
  readonly values: number[];
}

const measureSoak = async ({ long, log, signal }: MeasureContext): Promise<Measured> => {
  const nginx = await startTarget();
  const load = await startLoad(nginx.port, 5_000, await replyLength(nginx.port), {
    hosts: HOSTS,
    connections: HOSTS.length,
    each: 50,
  });
  try {
    const agent = await startAgent();
    try {
      const watched: readonly Grows[] = [
        { name: "heap, MB", least: 3, values: [] },
        { name: "external, MB", least: 3, values: [] },
        { name: "probe, MB", least: 1, values: [] },
        { name: "map entries", least: 0, values: [] },
        { name: "descriptors", least: 0, values: [] },
      ];
      const [samples, stepMs] = long ? [108, 30_000] : [25, 2_000];
      await pause(long ? 300_000 : 20_000);
      const [began, from] = [performance.now(), load.answered()];
      for (let i = 0; i < samples; i++) {
        if (signal.aborted) throw new Error("out of time");
        await pause(began + i * stepMs - performance.now());
        const { heap, external, descriptors, probe } = await agent.state();
        const entries = ["edges", "rows", "connections", "timings"].reduce((sum, name) => sum + (probe[name] ?? 0), 0);
        const all = readdirSync(`/proc/${agent.probePid}/fd`).length + descriptors;
        [heap / 1e6, external / 1e6, rssMb(agent.probePid), entries, all].forEach((v, k) => watched[k]?.values.push(v));
      }
      const perSecond = ((load.answered() - from) * 1_000) / (performance.now() - began);
      const grown = watched.map(({ name, least, values }) => {
        const [slope, half] = slopeOf(values, stepMs / 1_000);
        log(`${name}: ${slope.toFixed(2)} ± ${half.toFixed(2)} an hour, last ${values.at(-1)?.toFixed(2)}`);
        return { grows: slope - half > 0 && slope > least, text: `${name} ${slope.toFixed(1)} ± ${half.toFixed(1)}` };
      });
      const detail =
        `increases an hour over ${Math.round((samples * stepMs) / 1_000)} s at ${Math.round(perSecond)} req/s, ` +
        `${Math.round(perSecond / 50)} new connections/s: ${grown.map((one) => one.text).join(", ")}`;
      return perSecond > 4_500
        ? { value: grown.filter((one) => one.grows).length, detail }
        : { value: null, reason: `the load did not reach its rate: ${detail}` };
    } finally {
      await agent.stop();
    }
  } finally {
    load.stop();
    await nginx.stop();
  }
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
  {
    id: "probe.soak",
    figure:
      "of heap, external bytes, the probe's memory, map entries, descriptors: how many grow (an hour with --long)",
    unit: "series",
    bar: "0",
    holds: (value) => value === 0,
    measure: whereAble(["bpf", "nginx"], measureSoak),
  },
];
