/**
 * `coroot store --data DIR`: the store process. Opens the embedded engine, serves it on loopback, and says so in one
 * JSON line on standard output: {"ready":true,"port":…,"key":…} or {"ready":false,"reason":…,"message":…}. Owned by
 * the server that started it: ends when its standard input ends (the parent stops or died) and on SIGTERM; whatever is
 * acknowledged is on disk by then, so it may also be killed at any moment.
 */
import { randomBytes } from "node:crypto";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { OpenError, openEngine } from "../../runtime/store/front/Engine.ts";
import { openFront } from "../../runtime/store/front/Front.ts";

const MIB = 1024 * 1024;

export interface StoreArgs {
  readonly data: string;
  /** 0 or absent: any free port */
  readonly port?: number;
  /** cap of the whole engine, MiB */
  readonly memoryMiB?: number;
}

const say = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);

/** Resolves with the exit code once the process was told to stop. */
export const runStore = async (args: StoreArgs): Promise<number> => {
  const told = new Promise<string>((resolve) => {
    process.stdin.on("end", () => resolve("standard input ended")).on("error", () => resolve("standard input failed"));
    process.stdin.resume();
    process.once("SIGTERM", () => resolve("SIGTERM"));
    // Ctrl-C on a terminal reaches every process of it: the server stores its last rows first, and then closes our input
    for (const signal of ["SIGINT", "SIGHUP"] as const)
      process.on(signal, () => (process.stdin.isTTY ? resolve(signal) : undefined));
  });
  try {
    const memory = (args.memoryMiB ?? 768) * MIB;
    const engine = await openEngine({
      data: args.data,
      readers: 3,
      settings: {
        max_server_memory_usage: memory,
        mark_cache_size: 48 * MIB,
        // long parameters are bound by a statement
        max_query_size: 32 * MIB,
      },
      waiting: 256,
    });
    const key = randomBytes(24).toString("base64url");
    const front = await openFront(engine, {
      key,
      port: args.port ?? 0,
      bodyBytes: 96 * MIB,
      totalBodyBytes: 256 * MIB,
      resultBytes: 128 * MIB,
      queryMemoryBytes: Math.floor(memory * 0.6),
      querySeconds: 60,
    });
    say({ ready: true, port: front.port, key, pid: process.pid });
    await told;
    await front.close();
    return 0;
  } catch (error) {
    const reason = error instanceof OpenError ? error.reason : "failed";
    say({ ready: false, reason, message: error instanceof Error ? error.message : String(error) });
    return 1;
  }
};

const entry = process.argv[1];
if (entry !== undefined && import.meta.url === pathToFileURL(entry).href && entry.endsWith("store.ts")) {
  const { values } = parseArgs({
    options: { data: { type: "string" }, port: { type: "string" }, memory: { type: "string" } },
  });
  if (values.data === undefined) {
    process.stderr.write("--data DIR is missing: the directory that holds the store\n");
    process.exit(2);
  }
  process.exit(
    await runStore({
      data: values.data,
      ...(values.port === undefined ? {} : { port: Number(values.port) }),
      ...(values.memory === undefined ? {} : { memoryMiB: Number(values.memory) }),
    }),
  );
}
