/**
 * path.agent: what watching costs in user space. nginx answers 1,000, 2,000 and 10,000 requests per second on loopback
 * while the product watches the machine; the CPU time of the node agent and its probe (all threads) is taken over each
 * step. The work in the kernel is not in these figures (it is in the group probe). One measurement serves all three.
 */
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { capability, findProgram } from "../../machine.ts";
import type { Figure, MeasureContext, Measured } from "../figure.ts";
import { replyLength, startLoad } from "./load.ts";
import { cpuNs, descendants, freePort, npmStart, pause, rssMb, temporaryFolder, waitFor } from "./launch.ts";

interface Step {
  readonly asked: number;
  readonly perSecond: number;
  /** share of one core */
  readonly cpu: number;
}

interface Cost {
  readonly steps: readonly Step[];
  readonly rssMb: number;
  readonly rssText: string;
}

const startNginx = async (folder: string, port: number): Promise<() => Promise<void>> => {
  const config = join(folder, "nginx.conf");
  writeFileSync(
    config,
    `daemon off; worker_processes 1; pid ${folder}/nginx.pid; error_log ${folder}/error.log;
events { worker_connections 256; }
http { access_log off; keepalive_requests 100000000; client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy; fastcgi_temp_path ${folder}/fcgi; uwsgi_temp_path ${folder}/uwsgi; scgi_temp_path ${folder}/scgi;
  server { listen 127.0.0.1:${port}; location / { return 200 "0123456789"; } } }
`,
  );
  const child = spawn(findProgram("nginx") ?? "nginx", ["-c", config, "-p", folder], { stdio: "ignore" });
  await waitFor("nginx", 10_000, async () => ((await fetch(`http://127.0.0.1:${port}/`)).ok ? true : null));
  return async () => {
    const ended = new Promise((resolve) => child.once("close", resolve));
    child.kill("SIGQUIT");
    await Promise.race([ended, pause(3_000)]);
    child.kill("SIGKILL");
  };
};

/** The node agent and what runs below it (the probe). */
const agentProcesses = (pid: number): readonly { readonly pid: number; readonly name: string }[] => {
  const agent = descendants(pid).find((one) => one.arguments.includes("node-agent"));
  if (agent === undefined) return [];
  return [
    { pid: agent.pid, name: "agent" },
    ...descendants(agent.pid).map((one) => ({ pid: one.pid, name: one.arguments[0]?.split("/").pop() ?? "?" })),
  ];
};

const watching = async (address: string): Promise<true | null> => {
  const answer: { readonly entries?: Readonly<Record<string, { readonly window?: number }>> } = JSON.parse(
    await (await fetch(`${address}/api/agents`, { signal: AbortSignal.timeout(2_000) })).text(),
  );
  return Object.values(answer.entries ?? {}).some((agent) => (agent.window ?? 0) >= 3) ? true : null;
};

const measureSteps = async ({ long, log, signal }: MeasureContext): Promise<Cost> => {
  const folder = temporaryFolder();
  const nginxPort = await freePort();
  const stopNginx = await startNginx(folder.path, nginxPort);
  try {
    const running = await npmStart(join(folder.path, "data"), await freePort());
    try {
      await waitFor("the node agent's first windows", 60_000, () => watching(running.address), 200);
      const found = agentProcesses(running.pid);
      if (found.length < 2) throw new Error("the node agent runs no probe");
      const replyBytes = await replyLength(nginxPort);
      const total = (): number => found.reduce((sum, one) => sum + cpuNs(one.pid), 0);
      const seconds = long ? 60 : 20;
      const steps: Step[] = [];
      for (const asked of [1_000, 2_000, 10_000]) {
        if (signal.aborted) throw new Error("out of time");
        const load = await startLoad(nginxPort, asked, replyBytes);
        await pause(5_000);
        const [cpu, count, at] = [total(), load.answered(), performance.now()];
        await pause(seconds * 1_000);
        const elapsed = (performance.now() - at) / 1000;
        const step = {
          asked,
          perSecond: (load.answered() - count) / elapsed,
          cpu: (total() - cpu) / 1e9 / elapsed,
        };
        load.stop();
        log(`${Math.round(step.perSecond)} req/s: ${(step.cpu * 100).toFixed(2)} % of a core`);
        steps.push(step);
      }
      const memory = found.map((one) => ({ name: one.name, mb: rssMb(one.pid) }));
      return {
        steps,
        rssMb: memory[0]?.mb ?? Number.NaN,
        rssText: memory.map((one) => `${one.name} ${one.mb.toFixed(1)} MB`).join(", "),
      };
    } finally {
      await running.stop();
    }
  } finally {
    await stopNginx();
    folder.remove();
  }
};

const shared = new Map<boolean, Promise<Cost>>();

/** The one measurement, or why this machine cannot make it. */
const withCost = async (context: MeasureContext, read: (cost: Cost) => Measured): Promise<Measured> => {
  for (const name of ["bpf", "nginx"] as const) {
    const found = capability(name);
    if (!found.available) return { value: null, reason: `${name}: ${found.reason}` };
  }
  const cost = shared.get(context.long) ?? measureSteps(context);
  shared.set(context.long, cost);
  return read(await cost);
};

const at = (cost: Cost, asked: number): Step | undefined => cost.steps.find((step) => step.asked === asked);
const text = (cost: Cost): string =>
  cost.steps.map((step) => `${(step.cpu * 100).toFixed(2)} % at ${Math.round(step.perSecond)} req/s`).join(", ");
/** A step whose load did not come near its rate says nothing about it. */
const reached = (step: Step | undefined): step is Step => step !== undefined && step.perSecond > step.asked * 0.9;

export const figures: readonly Figure[] = [
  {
    id: "path.agent",
    figure: "user-space CPU of agent and probe at 2,000 req/s",
    unit: "% of a core",
    bar: "<= 1.5",
    holds: (value) => value <= 1.5,
    measure: (context) =>
      withCost(context, (cost) => {
        const step = at(cost, 2_000);
        return reached(step)
          ? { value: step.cpu * 100, detail: text(cost) }
          : { value: null, reason: `the load did not reach 2,000 req/s: ${text(cost)}` };
      }),
  },
  {
    id: "path.agent.ratio",
    figure: "that CPU at 10,000 over 1,000 req/s",
    unit: "ratio",
    bar: "<= 1.3",
    holds: (value) => value <= 1.3,
    measure: (context) =>
      withCost(context, (cost) => {
        const [low, high] = [at(cost, 1_000), at(cost, 10_000)];
        return reached(low) && reached(high)
          ? { value: high.cpu / low.cpu, detail: text(cost) }
          : { value: null, reason: `the load did not reach its rates: ${text(cost)}` };
      }),
  },
  {
    id: "path.agent.rss",
    figure: "resident memory of the agent under load",
    unit: "MB",
    bar: "<= 100",
    holds: (value) => value <= 100,
    measure: (context) => withCost(context, (cost) => ({ value: cost.rssMb, detail: cost.rssText })),
  },
];
