/**
 * The measurement of remote-write.ts in a process of its own: `remoteWriteWork.ts SCRAPES` writes one line of JSON. It serves
 * the door to a sender in another process (`remoteWriteWork.ts send URL SCRAPES START`), which makes all calls before it
 * sends any. The engine's CPU time is that of the store child with all its threads, until its merges have come to rest.
 */
import { spawn } from "node:child_process";
import { Agent, request } from "node:http";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Effect } from "effect";
import { metricsDoor } from "../../../../runtime/remote-write/door.ts";
import { watcherOf } from "../../../../actors/stock-agent/metrics.ts";
import { makeSamplesIntake } from "../../../../runtime/remote-write/Intake.ts";
import { SeriesCache } from "../../../../runtime/remote-write/SeriesCache.ts";
import { Store } from "../../../../runtime/store/Store.ts";
import { Writer } from "../../../../runtime/store/Writer.ts";
import { DOOR_KEY, serveDoors } from "../../../runtime/doors/client.ts";
import { LOAD_SERIES, makeLoad, SAMPLES_PER_CALL } from "../../../runtime/remote-write/load.ts";
import { freshFolder, makeStore, processState, removeFolder, whenUp } from "../../../runtime/store/harness.ts";
import { cpuNs } from "../../path/launch.ts";

/** Calls under way: what the lane takes in a second. */
const AT_ONCE = 64;
const DAY_MS = 86_400_000;

const ownCpu = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

const post = (url: URL, agent: Agent, body: Buffer): Promise<number> =>
  new Promise((resolve, reject) => {
    const headers = {
      "content-type": "application/x-protobuf",
      "content-encoding": "snappy",
      "x-prometheus-remote-write-version": "0.1.0",
      "x-api-key": DOOR_KEY,
      "content-length": body.length,
    };
    const sent = request(url, { method: "POST", agent, headers }, (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode ?? 0));
    });
    sent.on("error", reject);
    sent.end(body);
  });

const send = async (url: URL, scrapes: number, start: number): Promise<void> => {
  const load = makeLoad(start);
  const calls: Buffer[] = [];
  let rawBytes = 0;
  for (let i = 0; i < scrapes; i++) {
    const { bodies, rawBytes: bytes } = load.scrape();
    calls.push(...bodies);
    rawBytes += bytes;
  }
  const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE });
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  /** Sends these calls once told to. */
  const portion = async (some: readonly Buffer[]): Promise<void> => {
    await lines.next();
    let again = 0;
    let next = 0;
    const sender = async (): Promise<void> => {
      for (let body = some[next++]; body !== undefined; body = some[next++])
        while ((await post(url, agent, body)) !== 204) again++;
    };
    await Promise.all(Array.from({ length: AT_ONCE }, sender));
    process.stdout.write(`${JSON.stringify({ calls: some.length, again, rawBytes })}\n`);
  };
  const first = LOAD_SERIES / SAMPLES_PER_CALL;
  process.stdout.write("ready\n");
  await portion(calls.slice(0, first));
  await portion(calls.slice(first));
  process.exit(0);
};

/** Completes when the engine has used next to nothing for a second. */
const atRest = async (pid: number): Promise<void> => {
  for (let last = cpuNs(pid); ; ) {
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const now = cpuNs(pid);
    if (now - last < 40e6) return;
    last = now;
  }
};

const measure = async (scrapes: number): Promise<Record<string, number>> => {
  const data = freshFolder();
  const runtime = makeStore(data);
  await runtime.runPromise(whenUp);
  // as the server has it: who watches a series is asked for each
  const cache = new SeriesCache(watcherOf);
  const watch = { watcherOf, tell: () => undefined };
  const doors = await serveDoors([metricsDoor(makeSamplesIntake(await runtime.runPromise(Writer)), cache, watch)]);
  // all of one day, so that the parts can become one
  const start = Math.floor(Date.now() / DAY_MS) * DAY_MS - DAY_MS / 2;
  const script = fileURLToPath(import.meta.url);
  const args = ["--import", "tsx", script, "send", `${doors.url}/v1/metrics`, String(scrapes), String(start)];
  const sender = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
  try {
    const lines = createInterface({ input: sender.stdout })[Symbol.asyncIterator]();
    const line = async (): Promise<string> => String((await lines.next()).value);
    await line();
    const { pid } = await runtime.runPromise(processState);
    if (pid === null) throw new Error("the store has no process");
    // the first scrape tells of all series
    sender.stdin.write("go\n");
    await line();
    await atRest(pid);
    const engineBefore = cpuNs(pid);
    const before = ownCpu();
    const began = performance.now();
    sender.stdin.write("go\n");
    const { rawBytes, again } = JSON.parse(await line()) as { rawBytes: number; again: number };
    const ours = ownCpu() - before;
    const wall = (performance.now() - began) / 1e3;
    await atRest(pid);
    const engine = (cpuNs(pid) - engineBefore) / 1e9;
    const rows = (scrapes - 1) * LOAD_SERIES;
    const query = <T>(sql: string): Promise<T[]> =>
      runtime.runPromise(Effect.flatMap(Store, (store) => store.query<T>(sql, {}, { seconds: 120 })));
    const [stored] = await query<{ rows: number; different: number }>(
      "SELECT count() AS rows, uniq(fp, ts) AS different FROM coroot.samples",
    );
    if (stored?.rows !== rows + LOAD_SERIES)
      throw new Error(`${stored?.rows} rows were stored of ${rows + LOAD_SERIES}`);
    const endpoint = await runtime.runPromise(processState);
    if (endpoint.endpoint === null) throw new Error("the store is down");
    const {
      url,
      username = "",
      password = "",
    } = endpoint.endpoint as { url: string; username?: string; password?: string };
    const optimized = await fetch(
      `${String(url)}/?query=${encodeURIComponent("OPTIMIZE TABLE coroot.samples FINAL")}`,
      {
        method: "POST",
        headers: { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}` },
      },
    );
    if (!optimized.ok) throw new Error(await optimized.text());
    const columns = await query<{ name: string; bytes: number }>(
      "SELECT name, data_compressed_bytes AS bytes FROM system.columns WHERE database = 'coroot' AND table = 'samples'",
    );
    const [size] = await query<{ bytes: number; parts: number }>(
      "SELECT sum(bytes_on_disk) AS bytes, count() AS parts FROM system.parts WHERE database = 'coroot' AND active AND table = 'samples'",
    );
    const { samples } = await runtime.runPromise(Effect.flatMap(Writer, ({ stats }) => stats));
    return {
      rows,
      again,
      wall,
      inserts: samples.inserts,
      perCpuSecond: rows / ours,
      engine: engine / (rows / 1e6),
      withEngine: rows / (ours + engine),
      rawBytes: rawBytes / (scrapes * LOAD_SERIES),
      bytesPerSample: (size?.bytes ?? 0) / stored.rows,
      parts: size?.parts ?? 0,
      ...Object.fromEntries(columns.map(({ name, bytes }) => [`bytes_${name}`, bytes / stored.rows])),
    };
  } finally {
    sender.kill();
    await doors.close();
    await runtime.dispose();
    removeFolder(data);
  }
};

const [first = "", url = "", scrapes, start] = process.argv.slice(2);
if (first === "send") await send(new URL(url), Number(scrapes), Number(start));
else {
  process.stdout.write(`${JSON.stringify(await measure(Number(first)))}\n`);
  process.exit(0);
}
