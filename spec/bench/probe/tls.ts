/**
 * probe: what reading TLS costs beyond the traps. nginx serves HTTPS to wrk; its CPU per request with the whole probe is
 * divided by that with programs that do nothing at the same places, in interleaved pairs. Both arms pay for the traps,
 * whose number and price are printed; so is what neither costs, nginx alone.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { ProbeBed, probePath } from "../../kernel/ProbeBed.ts";
import { makeCertificate, type Running, startNginx } from "../../kernel/servers.ts";
import type { Figure, Measured, MeasureContext } from "../figure.ts";
import { descendants } from "../path/launch.ts";
import { median, serverCpu, whereAble } from "../path/probe.ts";

const LIBRARIES = ["x86_64", "aarch64"].map((machine) => `/usr/lib/${machine}-linux-gnu/libssl.so.3`);

/** Requests that wrk made in a second over `connections`. */
const wrk = (port: number, connections: number, seconds: number): number => {
  const done = spawnSync("wrk", ["-t1", `-c${connections}`, `-d${seconds}s`, `https://127.0.0.1:${port}/`], {
    encoding: "utf8",
  });
  const found = /(\d+) requests in/.exec(done.stdout ?? "");
  if (found === null) throw new Error(`wrk: ${done.stderr}`);
  return Number(found[1]);
};

const ARMS = ["alone", "empty", "probe"] as const;
type Arm = (typeof ARMS)[number];

/** Brings an arm up; answers how to take it down and, for the probe, the traps of nginx so far. */
const raise = async (
  arm: Arm,
  library: string,
  server: Running,
): Promise<{ readonly bed: ProbeBed | null; readonly lower: () => Promise<void> }> => {
  if (arm === "alone") return { bed: null, lower: () => Promise.resolve() };
  if (arm === "empty") {
    const child = spawn(probePath, ["--tls-empty", library], { stdio: ["pipe", "pipe", "inherit"] });
    await once(child.stdout, "data");
    return {
      bed: null,
      lower: async () => {
        const exited = once(child, "exit");
        child.stdin.end();
        await exited;
      },
    };
  }
  const bed = await ProbeBed.start(undefined, "--tls-delay", "0", "--tls-budget", "0");
  // a word of TLS for each worker, so that it is seen and hooked
  wrk(server.port, 8, 1);
  const workers = descendants(server.child.pid ?? 0).map(({ pid }) => pid);
  await bed.until("hooks in nginx", () => workers.every((pid) => bed.tls.get(pid)?.state === "read"));
  return { bed, lower: () => bed.stop() };
};

const measure = async ({ long, log, signal }: MeasureContext): Promise<Measured> => {
  const library = LIBRARIES.find((file) => existsSync(file));
  if (library === undefined) return { value: null, reason: `no ${LIBRARIES.join(" or ")}` };
  const certificate = makeCertificate();
  const server = await startNginx(
    `ssl_certificate ${certificate.cert}; ssl_certificate_key ${certificate.key};
     location / { return 200 "hello\\n"; }`,
    "ssl",
  );
  const costs: Record<Arm, number[]> = { alone: [], empty: [], probe: [] };
  const ratios: number[] = [];
  let traps = "";
  const once = async (arm: Arm): Promise<number> => {
    const { bed, lower } = await raise(arm, library, server);
    try {
      await bed?.settled();
      const seen = bed === null ? [] : ["tlsTraps", "tlsSlowTraps"].map((name) => bed.self(name));
      const counted = bed === null ? 0 : bed.count(1, server.port, "http");
      const before = serverCpu(server);
      const requests = wrk(server.port, 16, long ? 3 : 1);
      const cost = (serverCpu(server) - before) / requests;
      costs[arm].push(cost);
      if (bed !== null) {
        await bed.settled();
        const [fast = 0, slow = 0] = ["tlsTraps", "tlsSlowTraps"].map((name, i) => bed.self(name) - (seen[i] ?? 0));
        // those of wrk, which lives for a second, are told only in part
        traps =
          `${(fast / requests).toFixed(1)} emulated traps of ${bed.self("tlsTrapNs")} ns and ${(slow / requests).toFixed(1)} ` +
          `stepped ones of ${bed.self("tlsSlowTrapNs")} ns per request; ` +
          `${bed.count(1, server.port, "http") - counted} of ${requests} requests counted at the server`;
      }
      return cost;
    } finally {
      await lower();
    }
  };
  try {
    wrk(server.port, 16, 1);
    for (let round = 0; round < (long ? 15 : 7); round++) {
      if (signal.aborted) throw new Error("out of time");
      const cost = new Map<Arm, number>();
      for (const arm of round % 2 === 0 ? ARMS : ARMS.toReversed()) cost.set(arm, await once(arm));
      ratios.push((cost.get("probe") ?? Number.NaN) / (cost.get("empty") ?? Number.NaN));
      log(`round ${round + 1}: ${(ratios.at(-1) ?? 0).toFixed(3)}`);
    }
    const sorted = ratios.toSorted((a, b) => a - b);
    const [alone = 0, empty = 0, probe = 0] = ARMS.map((arm) => median(costs[arm]));
    return {
      value: median(ratios),
      detail:
        `${ratios.length} rounds, ratios ${sorted[0]?.toFixed(2)} to ${sorted.at(-1)?.toFixed(2)}; per request ` +
        `${alone.toFixed(0)} ns alone, ${empty.toFixed(0)} with empty hooks (${(empty / alone).toFixed(2)}), ` +
        `${probe.toFixed(0)} with the probe (${(probe / alone).toFixed(2)}); ${traps}`,
    };
  } finally {
    await server.stop();
    certificate.remove();
  }
};

export const figures: readonly Figure[] = [
  {
    id: "probe.tls",
    figure: "nginx CPU per HTTPS request, with the probe over empty hooks at the same places",
    unit: "ratio",
    bar: "<= 1.15",
    holds: (value) => value <= 1.15,
    measure: whereAble(["bpf", "nginx", "wrk", "openssl"], measure),
  },
];
