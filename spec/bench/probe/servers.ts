/** probe.nginx, probe.redis: CPU of a server per request, all its threads, with the whole probe over without. */
import { startNginx, startRedis } from "../../kernel/servers.ts";
import { redisBenchmark } from "../../kernel/traffic.ts";
import type { Figure } from "../figure.ts";
import { serverCpu, whereAble, wrk } from "../path/probe.ts";
import { bothHooks, compare, shared } from "./hooks.ts";

const nginx = shared(async (context) => {
  const server = await startNginx();
  try {
    return await compare(
      () => {
        const before = serverCpu(server);
        const requests = wrk(server.port, 16, 1);
        return (serverCpu(server) - before) / requests;
      },
      context.long ? 31 : 7,
      context,
    );
  } finally {
    await server.stop();
  }
});

/** Of redis-benchmark's clients as they are by default: 50, one command at a time on each. */
const COMMANDS = 60_000;

const redis = shared(async (context) => {
  const server = await startRedis();
  try {
    return await compare(
      () => {
        const before = serverCpu(server);
        redisBenchmark(server.port, COMMANDS, 1, 3, "set", 50);
        return (serverCpu(server) - before) / COMMANDS;
      },
      context.long ? 31 : 7,
      context,
    );
  } finally {
    await server.stop();
  }
});

export const figures: readonly Figure[] = [
  ...bothHooks(
    { id: "probe.nginx", figure: "nginx CPU per request, with the probe over without", unit: "ratio" },
    { sockets: 1.12, calls: 1.25 },
    (context, hooks) => whereAble(["bpf", "nginx", "wrk"], async (of) => (await nginx(of))[hooks])(context),
  ),
  ...bothHooks(
    { id: "probe.redis", figure: "Redis CPU per command, with the probe over without", unit: "ratio" },
    { sockets: 1.15, calls: 1.3 },
    (context, hooks) => whereAble(["bpf", "redis"], async (of) => (await redis(of))[hooks])(context),
  ),
];
