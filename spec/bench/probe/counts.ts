/**
 * probe.counts, probe.h2_status: how many requests are counted of those made, at both ends, as fast as the machine goes
 * and at a quarter of that; and of HTTP/2 and gRPC how many have their exact status.
 */
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROLE, STATUS, type ProtocolName } from "../../../schemas/wire/observe.ts";
import { COMMAND, MysqlClient } from "../../kernel/MysqlClient.ts";
import type { ProbeBed } from "../../kernel/ProbeBed.ts";
import { startMariadb, startMemcached, startNginx, startPostgres, startRedis } from "../../kernel/servers.ts";
import { command, exchange, open, pgbench, redisBenchmark } from "../../kernel/traffic.ts";
import type { Figure, Measured, MeasureContext } from "../figure.ts";
import { whereAble } from "../path/probe.ts";
import { HOOKS, HOOKS_SAID, type Hooks, startProbe } from "./hooks.ts";
import { grpcCalls } from "./grpc.ts";

const CLIENTS = 8;
const QUARTER_SECONDS = 2;

/** h2load over `urls` by turns; `perSecond` 0: as fast as it goes. */
const h2load = (n: number, perSecond: number, more: readonly string[], urls: readonly string[]): Promise<void> =>
  new Promise((resolve, reject) => {
    const pace = perSecond > 0 ? [`--rps=${Math.max(1, Math.round(perSecond / CLIENTS))}`] : [];
    const child = spawn("h2load", ["-n", String(n), "-c", String(CLIENTS), ...pace, ...more, ...urls], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let said = "";
    child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
    child.once("error", reject).once("close", () => {
      if (said.includes(`requests: ${n} total, ${n} started, ${n} done`)) resolve();
      else reject(new Error(`h2load: ${said.slice(-500)}`));
    });
  });

/** Each of `calls` over and over, `n` in all, none before its time. */
const paced = async (n: number, perSecond: number, calls: readonly (() => Promise<unknown>)[]): Promise<void> => {
  const began = performance.now();
  let started = 0;
  const loop = async (call: () => Promise<unknown>): Promise<void> => {
    while (started < n) {
      const due = perSecond > 0 ? began + (started * 1_000) / perSecond - performance.now() : 0;
      started++;
      if (due > 1) await new Promise((resolve) => setTimeout(resolve, due));
      await call();
    }
  };
  await Promise.all(calls.map(loop));
};

interface Case {
  readonly name: string;
  readonly port: number;
  readonly protocol: ProtocolName;
  readonly n: number;
  /** requests per second that the full rate must reach for the figure to say anything */
  readonly least: number;
  /** makes about `n` requests and says how many */
  readonly run: (n: number, perSecond: number) => Promise<number>;
  readonly stop: () => Promise<void>;
}

const times = (n: number): readonly number[] => Array.from({ length: n }, (_, i) => i);

const MADE: readonly (() => Promise<readonly Case[]>)[] = [
  async () => {
    const [one, two] = [await startNginx(), await startNginx(undefined, "http2")];
    const load =
      (port: number, more: readonly string[]): Case["run"] =>
      async (n, perSecond) => {
        await h2load(n, perSecond, more, [`http://127.0.0.1:${port}/`]);
        return n;
      };
    const of = { protocol: "http", n: 40_000 } as const;
    return [
      { ...of, name: "HTTP/1.1", port: one.port, least: 8_000, run: load(one.port, ["--h1"]), stop: one.stop },
      { ...of, name: "HTTP/2", port: two.port, least: 0, run: load(two.port, ["-m10"]), stop: two.stop },
    ];
  },
  async () => {
    const { port, stop } = await startRedis();
    const batch = command("SET", "key", "value").repeat(16);
    return [
      {
        name: "Redis, pipelines of 16",
        port,
        protocol: "redis",
        n: 320_000,
        least: 50_000,
        run: async (n, perSecond) => {
          if (perSecond === 0) {
            redisBenchmark(port, n, 16, 3, "set");
            // it asks for two settings before it begins
            return n + 2;
          }
          const sockets = await Promise.all(times(CLIENTS).map(() => open(port)));
          const batches = Math.ceil(n / 16);
          await paced(
            batches,
            perSecond / 16,
            sockets.map((socket) => () => exchange(socket, batch, (answer) => answer.length === 80)),
          );
          for (const socket of sockets) socket.destroy();
          return batches * 16;
        },
        stop,
      },
    ];
  },
  async () => {
    const { port, folder, stop } = await startPostgres();
    const script = join(folder, "script.sql");
    writeFileSync(script, "select 1;\n");
    const run: Case["run"] = async (n, perSecond) => {
      const each = Math.ceil(n / CLIENTS);
      await pgbench(port, "extended", CLIENTS, each, script, perSecond);
      return each * CLIENTS;
    };
    return [{ name: "PostgreSQL", port, protocol: "postgres", n: 20_000, least: 0, run, stop }];
  },
  async () => {
    const { port, stop } = await startMariadb();
    const run: Case["run"] = async (n, perSecond) => {
      const clients = await Promise.all(times(CLIENTS).map(() => MysqlClient.connect(port, true)));
      await paced(
        n,
        perSecond,
        clients.map((client) => () => client.call(COMMAND.query, "select 1")),
      );
      for (const client of clients) client.socket.destroy();
      return n;
    };
    return [{ name: "MySQL", port, protocol: "mysql", n: 20_000, least: 0, run, stop }];
  },
  async () => {
    const { port, stop } = await startMemcached();
    const run: Case["run"] = async (n, perSecond) => {
      const sockets = await Promise.all(times(CLIENTS).map(() => open(port)));
      await paced(
        n,
        perSecond,
        sockets.map((socket) => () => exchange(socket, "get absent\r\n", (answer) => answer === "END\r\n")),
      );
      for (const socket of sockets) socket.destroy();
      return n;
    };
    return [{ name: "Memcached", port, protocol: "memcached", n: 20_000, least: 0, run, stop }];
  },
];

const measureCounts = async (hooks: Hooks, { long, log, signal }: MeasureContext): Promise<Measured> => {
  const bed = await startProbe(hooks);
  let worst = 1;
  let slow = "";
  const lines: string[] = [];
  try {
    for (const make of MADE) {
      const cases = await make();
      try {
        for (const one of cases) {
          if (signal.aborted) throw new Error("out of time");
          let rate = 0;
          for (const share of [1, 0.25]) {
            const since = await bed.since(one.port, one.protocol);
            const asked = share === 1 ? one.n * (long ? 10 : 1) : Math.ceil(rate * share * QUARTER_SECONDS);
            const began = performance.now();
            const made = await one.run(asked, share === 1 ? 0 : rate * share);
            const perSecond = (made * 1_000) / (performance.now() - began);
            const seen = Object.entries(await since())
              .filter(([status]) => status !== "unanswered")
              .reduce((sum, [, counts]) => sum.map((n, i) => n + (counts[i] ?? 0)), [0, 0]);
            for (const count of seen) if (Math.abs(count / made - 1) > Math.abs(worst - 1)) worst = count / made;
            lines.push(`${one.name} ${seen.join(" and ")} of ${made} at ${Math.round(perSecond)}/s`);
            log(lines.at(-1) ?? "");
            if (share === 1) rate = perSecond;
            if (share === 1 && perSecond < one.least) slow += `${one.name} reached ${Math.round(perSecond)}/s only; `;
          }
        }
      } finally {
        await Promise.all(cases.map((one) => one.stop()));
      }
    }
  } finally {
    await bed.stop();
  }
  const detail = lines.join("; ");
  return slow === "" ? { value: worst, detail } : { value: null, reason: `${slow}${detail}` };
};

/** Counts by status of a port, at both ends. */
const statuses = (bed: ProbeBed, port: number, protocol: ProtocolName): readonly Record<string, number>[] =>
  [ROLE.client, ROLE.server].map((role) =>
    Object.fromEntries(
      Object.entries(STATUS)
        .map(([name, status]) => [name, bed.count(role, port, protocol, status)] as const)
        .filter(([, n]) => n > 0),
    ),
  );

const measureStatus = async ({ long, log }: MeasureContext): Promise<Measured> => {
  const bed = await startProbe("sockets");
  const nginx = await startNginx(
    `location /no { return 404; } location /fail { return 503; } location / { return 200 "hello\\n"; }`,
    "http2",
  );
  try {
    const each = (long ? 100_000 : 10_000) * CLIENTS;
    const began = performance.now();
    const url = `http://127.0.0.1:${nginx.port}`;
    // each client takes the addresses by turns
    await h2load(each * 4, 0, ["-m20"], [`${url}/`, `${url}/no`, `${url}/`, `${url}/fail`]);
    const rate = (each * 4_000) / (performance.now() - began);
    const calls = long ? 50_000 : 5_000;
    const grpcBegan = performance.now();
    const grpc = await grpcCalls(calls);
    const grpcRate = (calls * 1_000) / (performance.now() - grpcBegan);
    await bed.settled();
    const http = { ok: 2 * each, rejected: each, failed: each };
    const seen = [
      ...statuses(bed, nginx.port, "http").map((counts) => ({ counts, made: http })),
      ...statuses(bed, grpc.port, "grpc").map((counts) => ({ counts, made: grpc.made })),
    ];
    // of each status no more than there were is exact
    const exact = seen.map(({ counts, made }) => {
      const of = Object.entries(made);
      const all = of.reduce((sum, [, n]) => sum + n, 0);
      return of.reduce((sum, [name, n]) => sum + n - Math.abs(n - (counts[name] ?? 0)), 0) / all;
    });
    log(JSON.stringify(seen));
    return {
      value: Math.min(...exact),
      detail:
        `${each * 4} streams of HTTP/2 at ${Math.round(rate)}/s, ${calls} gRPC calls at ${Math.round(grpcRate)}/s; ` +
        `at client and server ${exact.map((share) => share.toFixed(4)).join(", ")}; heads are read in the kernel, so ` +
        `that no rate is too high; ${bed.self("desyncs")} times out of step, whose streams count as unknown`,
    };
  } finally {
    await bed.stop();
    await nginx.stop();
  }
};

const NEEDS = ["bpf", "nginx", "h2load", "redis", "postgres", "mariadb", "memcached"] as const;

export const figures: readonly Figure[] = [
  ...HOOKS.map(
    (hooks): Figure => ({
      id: hooks === "sockets" ? "probe.counts" : "probe.counts.calls",
      figure: `requests counted of requests made, the worst of both ends and all protocols${HOOKS_SAID[hooks]}`,
      unit: "ratio",
      bar: "1.000",
      holds: (value) => value === 1,
      measure: whereAble(NEEDS, (context) => measureCounts(hooks, context)),
    }),
  ),
  {
    id: "probe.h2_status",
    figure: "streams of HTTP/2 and gRPC that are counted with their exact status, the worst of both ends",
    unit: "ratio",
    bar: "1.000",
    holds: (value) => value === 1,
    measure: whereAble(["bpf", "nginx", "h2load"], measureStatus),
  },
];
