/**
 * path: the probe by itself. Exact counts at both ends, clients never faster than their servers, and what it costs the
 * watched programs: CPU per request with the probe over without, in interleaved pairs, all threads of the server.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROLE, type ProtocolName } from "../../../schemas/wire/observe.ts";
import { buildProbe, ProbeBed } from "../../kernel/ProbeBed.ts";
import { type Running, startNginx, startPostgres, startRedis } from "../../kernel/servers.ts";
import { HttpClient, open, pgbench, redisBenchmark } from "../../kernel/traffic.ts";
import { capability, type CapabilityName } from "../../machine.ts";
import type { Figure, Measured, MeasureContext } from "../figure.ts";
import { cpuNs, descendants } from "./launch.ts";

export const whereAble =
  (needs: readonly CapabilityName[], measure: (context: MeasureContext) => Promise<Measured>) =>
  async (context: MeasureContext): Promise<Measured> => {
    const missing = needs.map((name) => ({ name, ...capability(name) })).find((one) => !one.available);
    if (missing !== undefined) return { value: null, reason: `${missing.name}: ${missing.reason}` };
    buildProbe();
    return measure(context);
  };

export const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? Number.NaN)
    : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
};

/** CPU time of a server and its workers. */
export const serverCpu = (server: Running): number => {
  const pid = server.child.pid ?? 0;
  return cpuNs(pid) + descendants(pid).reduce((sum, one) => sum + cpuNs(one.pid), 0);
};

/** Requests that wrk made. */
export const wrk = (port: number, connections: number, seconds: number): number => {
  const done = spawnSync("wrk", ["-t1", `-c${connections}`, `-d${seconds}s`, `http://127.0.0.1:${port}/`], {
    encoding: "utf8",
  });
  const found = /(\d+) requests in/.exec(done.stdout ?? "");
  if (found === null) throw new Error(`wrk: ${done.stderr}`);
  return Number(found[1]);
};

/** CPU per request with the probe over without, the order of the two changing from pair to pair. */
const overhead = async (
  server: Running,
  load: () => number,
  { long, log, signal }: MeasureContext,
): Promise<Measured> => {
  const ratios: number[] = [];
  const costs: [number[], number[]] = [[], []];
  const once = async (on: 0 | 1): Promise<number> => {
    const bed = on === 1 ? await ProbeBed.start() : null;
    try {
      const before = serverCpu(server);
      const requests = load();
      const cost = (serverCpu(server) - before) / requests;
      costs[on].push(cost);
      return cost;
    } finally {
      await bed?.stop();
    }
  };
  load();
  for (let pair = 0; pair < (long ? 31 : 11); pair++) {
    if (signal.aborted) throw new Error("out of time");
    const cost: [number, number] = [0, 0];
    for (const on of pair % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) cost[on] = await once(on);
    ratios.push(cost[1] / cost[0]);
    log(`pair ${pair + 1}: ${(cost[1] / cost[0]).toFixed(3)}`);
  }
  const sorted = ratios.toSorted((a, b) => a - b);
  return {
    value: median(ratios),
    detail:
      `${ratios.length} pairs, ratios ${sorted[0]?.toFixed(2)} to ${sorted.at(-1)?.toFixed(2)}; ` +
      `${median(costs[0]).toFixed(0)} ns without, ${median(costs[1]).toFixed(0)} ns with`,
  };
};

interface Case {
  readonly name: string;
  readonly port: number;
  readonly protocol: ProtocolName;
  readonly run: () => Promise<number>;
}

/** The three servers and what is sent to them; `run` gives the number of requests that it made. */
const withCases = async <T>(n: number, clients: number, use: (cases: readonly Case[]) => Promise<T>): Promise<T> => {
  const nginx = await startNginx();
  const redis = await startRedis();
  const postgres = await startPostgres();
  try {
    const script = join(postgres.folder, "script.sql");
    writeFileSync(script, "select 1;\n");
    const sql = (mode: string, more: number): Case => ({
      name: `PostgreSQL ${mode}`,
      port: postgres.port,
      protocol: "postgres",
      run: async () => {
        await pgbench(postgres.port, mode, clients, n / clients, script);
        return n + more;
      },
    });
    const resp = (depth: number, bytes: number): Case => ({
      name: `Redis, pipelines of ${depth}, ${bytes} B`,
      port: redis.port,
      protocol: "redis",
      run: async () => {
        redisBenchmark(redis.port, n, depth, bytes, "set", clients);
        // it asks for two settings before it begins
        return n + 2;
      },
    });
    return await use([
      {
        name: "HTTP keep-alive",
        port: nginx.port,
        protocol: "http",
        run: async () => {
          const client = new HttpClient(nginx.port, clients);
          await client.times(n, {}, clients);
          client.close();
          return n;
        },
      },
      sql("simple", 0),
      sql("extended", 0),
      sql("prepared", clients),
      resp(1, 30),
      resp(10, 3_000),
    ]);
  } finally {
    await Promise.all([nginx.stop(), redis.stop(), postgres.stop()]);
  }
};

const measureCounts = ({ long, log }: MeasureContext): Promise<Measured> =>
  withCases(long ? 100_000 : 10_000, 4, async (cases) => {
    const bed = await ProbeBed.start();
    try {
      let worst = 1;
      const lines: string[] = [];
      for (const one of cases) {
        await bed.settled();
        const before = bed.both(one.port, one.protocol);
        const made = await one.run();
        await bed.settled();
        const seen = bed.both(one.port, one.protocol).map((count, i) => count - (before[i] ?? 0));
        for (const count of seen) if (Math.abs(count / made - 1) > Math.abs(worst - 1)) worst = count / made;
        lines.push(`${one.name} ${seen.join(" and ")} of ${made}`);
        log(lines.at(-1) ?? "");
      }
      return { value: worst, detail: lines.join("; ") };
    } finally {
      await bed.stop();
    }
  });

const measureOrder = ({ long, log }: MeasureContext): Promise<Measured> =>
  withCases(long ? 100_000 : 10_000, 1, async (cases) => {
    let faster = 0;
    let samples = 0;
    for (const one of cases) {
      // a probe of its own for each, so that its edges hold this one connection's samples only
      const bed = await ProbeBed.start();
      try {
        await one.run();
        await bed.settled();
        const histogram = (role: 0 | 1): number[] => {
          const all: number[] = [];
          for (const sum of bed.find({ role, port: one.port }))
            for (const [name, counts] of sum.histograms)
              if (name === `${one.protocol}.ok`)
                for (const [b, count] of counts.entries()) all[b] = (all[b] ?? 0) + count;
          return all;
        };
        const client = histogram(ROLE.client);
        const server = histogram(ROLE.server);
        const least = server.findIndex((count) => count > 0);
        const below = client.slice(0, Math.max(0, least)).reduce((sum, count) => sum + (count ?? 0), 0);
        faster += below;
        samples += client.reduce((sum, count) => sum + (count ?? 0), 0);
        log(`${one.name}: ${below} below the server's least`);
      } finally {
        await bed.stop();
      }
    }
    return { value: faster, detail: `of ${samples} samples of clients, one connection each; by histogram bucket` };
  });

/** Runs of the probe's event-driven programs, from the descriptors that it holds (iterators run by the clock). */
const programRuns = (pid: number): number => {
  let runs = 0;
  for (const fd of readdirSync(`/proc/${pid}/fdinfo`)) {
    const text = readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8");
    // 26 is a tracing program; iterators are tracing programs as well, and are told apart by their link below
    const found = /^prog_type:\s*26[\s\S]*^run_cnt:\s*(\d+)/m.exec(text);
    if (found?.[1] !== undefined && !iterators.has(/^prog_id:\s*(\d+)/m.exec(text)?.[1] ?? ""))
      runs += Number(found[1]);
  }
  return runs;
};
const iterators = new Set<string>();
const findIterators = (pid: number): void => {
  for (const fd of readdirSync(`/proc/${pid}/fdinfo`)) {
    const text = readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8");
    const id = /^link_type:\s*iter[\s\S]*^prog_id:\s*(\d+)/m.exec(text)?.[1];
    if (id !== undefined) iterators.add(id);
  }
};

const OPERATIONS = 62_500;
const WINDOWS = 16;
const FILE_OPERATIONS = `import os
f=os.open("/tmp/coroot-bench-file-%d"%os.getpid(),os.O_RDWR|os.O_CREAT);os.unlink("/tmp/coroot-bench-file-%d"%os.getpid())
r,w=os.pipe();b=b"x"*64
for i in range(${OPERATIONS / 4}):
  os.pwrite(f,b,0);os.pread(f,64,0);os.write(w,b);os.read(r,64)
`;

export const measureFiles = async ({ log }: MeasureContext): Promise<Measured> => {
  const setting = "/proc/sys/kernel/bpf_stats_enabled";
  const was = readFileSync(setting, "utf8").trim();
  const bed = await ProbeBed.start();
  try {
    writeFileSync(setting, "1");
    const pid = bed.child.pid ?? 0;
    findIterators(pid);
    // the rest of the machine's traffic runs through the same programs: the window with the least of it counts
    let least = Number.POSITIVE_INFINITY;
    for (let window = 0; window < WINDOWS; window++) {
      const before = programRuns(pid);
      execFileSync("python3", ["-c", FILE_OPERATIONS]);
      const runs = ((programRuns(pid) - before) * 1_000) / OPERATIONS;
      log(`window ${window + 1}: ${runs.toFixed(2)}`);
      least = Math.min(least, runs);
    }
    return { value: least, detail: `the least of ${WINDOWS} windows of ${OPERATIONS} operations` };
  } finally {
    writeFileSync(setting, was);
    await bed.stop();
  }
};

/** Bytes of one connection's storage in the kernel: its slab object. */
const CONNECTION_BYTES = 1_024;

const measureMemory = async (): Promise<{ readonly kernel: number; readonly rss: number; readonly text: string }> => {
  const redis = await startRedis();
  const bed = await ProbeBed.start();
  try {
    const start = bed.self("kernelBytes");
    const sockets = await Promise.all(Array.from({ length: 500 }, () => open(redis.port)));
    redisBenchmark(redis.port, 50_000, 10, 100);
    // the probe looks at the memory of its maps every tenth tick
    const from = bed.ticks;
    await bed.until("a new look at the maps", () => bed.ticks >= from + 11, 20_000);
    const connections = bed.self("connections");
    const used = bed.self("kernelBytes") + connections * CONNECTION_BYTES;
    for (const socket of sockets) socket.destroy();
    return {
      kernel: Math.max(start, used) / 1e6,
      rss: bed.self("rssBytes") / 1e6,
      text: `maps ${(start / 1e6).toFixed(2)} MB at start, ${(used / 1e6).toFixed(2)} MB with ${connections} connections`,
    };
  } finally {
    await bed.stop();
    await redis.stop();
  }
};
let memory: ReturnType<typeof measureMemory> | null = null;
const memoryOnce = (): ReturnType<typeof measureMemory> => (memory ??= measureMemory());

const withRedis = async (context: MeasureContext, depth: number, n: number): Promise<Measured> => {
  const redis = await startRedis();
  try {
    return await overhead(
      redis,
      () => {
        redisBenchmark(redis.port, n, depth, 3, "set", 16);
        return n;
      },
      context,
    );
  } finally {
    await redis.stop();
  }
};

export const figures: readonly Figure[] = [
  {
    id: "path.counts",
    figure: "requests counted of requests made, the worst of both ends and all protocols",
    unit: "ratio",
    bar: "1.000",
    holds: (value) => value === 1,
    measure: whereAble(["bpf", "nginx", "redis", "postgres"], measureCounts),
  },
  {
    id: "path.order",
    figure: "clients' samples faster than their server's least on the same connection",
    unit: "samples",
    bar: "0",
    holds: (value) => value === 0,
    measure: whereAble(["bpf", "nginx", "redis", "postgres"], measureOrder),
  },
  {
    id: "path.nginx",
    figure: "nginx CPU per request, with the probe over without",
    unit: "ratio",
    bar: "<= 1.15",
    holds: (value) => value <= 1.15,
    measure: whereAble(["bpf", "nginx", "wrk"], async (context) => {
      const nginx = await startNginx();
      try {
        return await overhead(nginx, () => wrk(nginx.port, 16, 1), context);
      } finally {
        await nginx.stop();
      }
    }),
  },
  {
    id: "path.redis",
    figure: "Redis CPU per command, one at a time, with the probe over without",
    unit: "ratio",
    bar: "<= 1.10",
    holds: (value) => value <= 1.1,
    measure: whereAble(["bpf", "redis"], (context) => withRedis(context, 1, 60_000)),
  },
  {
    id: "path.redis.pipeline",
    figure: "Redis CPU per command, pipelines of 10, with the probe over without",
    unit: "ratio",
    bar: "<= 1.30",
    holds: (value) => value <= 1.3,
    measure: whereAble(["bpf", "redis"], (context) => withRedis(context, 10, 400_000)),
  },
  {
    id: "path.files",
    figure: "program runs per 1,000 file and pipe operations",
    unit: "runs",
    bar: "<= 1",
    holds: (value) => value <= 1,
    measure: whereAble(["bpf", "python"], measureFiles),
  },
  {
    id: "path.maps",
    figure: "kernel memory of the probe's maps, at start and in use",
    unit: "MB",
    bar: "<= 16",
    holds: (value) => value <= 16,
    measure: whereAble(["bpf", "redis"], async () => {
      const used = await memoryOnce();
      return { value: used.kernel, detail: used.text };
    }),
  },
  {
    id: "path.rss",
    figure: "resident memory of the probe in use",
    unit: "MB",
    bar: "<= 8",
    holds: (value) => value <= 8,
    measure: whereAble(["bpf", "redis"], async () => ({ value: (await memoryOnce()).rss })),
  },
];
