/**
 * store.kill9: an agent with a real spool, OTLP and remote_write against two servers that share a store, all of them killed
 * with -9 at random moments, also between an insert and its answer, whereupon what was not acknowledged goes to the other
 * server. Afterwards everything that was acknowledged, and all that the spool took, must be there once, and the rollups of
 * spans must say what the spans say.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { compressSync } from "snappy";
import { fingerprint } from "../../../runtime/store/fingerprint.ts";
import { seriesList, sourceOf } from "../../../runtime/store/batch.ts";
import { encodeRequest } from "../../../runtime/store/writeRequest.ts";
import { until } from "../../cluster/until.ts";
import { capability } from "../../machine.ts";
import { logRequest, makeRandom, traceRequest } from "../../runtime/otlp/load.ts";
import type { Figure, MeasureContext, Measured } from "../figure.ts";
import { LiveServer } from "./server.ts";
import { StoreProxy } from "./StoreProxy.ts";
import type { SpoolWorkOptions } from "./work/spoolWork.ts";

const AGENT = "kill9";
const SPOOL = fileURLToPath(new URL("./work/spoolWork.ts", import.meta.url));
const SERIES = 50;
const RECORDS = 200;
const WRITTEN = 500;
const DRAIN_MS = 120_000;

/** What is killed, and when: between an insert and its answer the store has the rows and nobody knows. */
const FAULTS = ["agent", "store", "server", "server before the answer", "store before the answer"] as const;
type Fault = (typeof FAULTS)[number];

class SpoolAgent {
  readonly #options: SpoolWorkOptions;
  #child: ChildProcess | null = null;

  constructor(options: SpoolWorkOptions) {
    this.#options = options;
    this.start();
  }
  start(): void {
    this.#child = spawn(process.execPath, ["--import", "tsx", SPOOL, JSON.stringify(this.#options)], {
      stdio: ["pipe", "pipe", "inherit"],
    });
  }
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  }
  /** Until all that it took is acknowledged. */
  async drain(): Promise<void> {
    const child = this.#child;
    if (child === null || child.stdout === null) throw new Error("the agent does not run");
    child.stdin?.write("drain\n");
    await Promise.race([
      once(createInterface(child.stdout), "line"),
      pause(DRAIN_MS, undefined, { ref: false }).then(() => {
        throw new Error(`the spool is not empty after ${DRAIN_MS / 1_000} s`);
      }),
    ]);
    await this.kill();
  }
  added(): readonly (readonly [epoch: number, sequence: number])[] {
    if (!existsSync(this.#options.added)) return [];
    return readFileSync(this.#options.added, "utf8")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => {
        const [epoch = 0, sequence = 0] = line.split(" ").map(Number);
        return [epoch, sequence];
      });
  }
}

interface Call {
  readonly path: string;
  readonly body: Buffer;
  readonly headers: Readonly<Record<string, string>>;
}

const writeCall = (number: number): Call => {
  const rows = Uint32Array.from({ length: WRITTEN }, (_, i) => i);
  const batch = {
    agent: "",
    epoch: 1,
    sequence: 0,
    connection: 1,
    series: seriesList(
      Array.from(rows, (i) => {
        const labels = { job: "kill9", i: String(i) };
        return { name: "written_total", labels, fingerprint: fingerprint("written_total", labels) };
      }),
    ),
    index: rows,
    times: new Float64Array(WRITTEN).fill(Date.now() - 60_000 + number),
    values: Float64Array.from(rows, (i) => number + i),
  };
  const body = compressSync(encodeRequest([{ batch, rows }]));
  return {
    path: "/v1/metrics",
    body,
    headers: { "content-encoding": "snappy", "x-prometheus-remote-write-version": "0.1.0" },
  };
};

/** A sender that goes on to the other server until one of them has acknowledged the call. */
const sender = (servers: readonly LiveServer[], key: string, make: (number: number) => Call) => {
  const stop = new AbortController();
  let calls = 0;
  let again = 0;
  const run = (async () => {
    for (let at = 0; !stop.signal.aborted; ) {
      const { path, body, headers } = make(calls);
      for (;;) {
        const server = servers[at % servers.length];
        const taken = await fetch(`${server?.url}${path}`, {
          method: "POST",
          headers: { "content-type": "application/x-protobuf", "x-api-key": key, ...headers },
          body: new Uint8Array(body),
          signal: AbortSignal.timeout(10_000),
        }).then(
          async (response) => {
            await response.arrayBuffer();
            if (response.status === 400) throw new Error(`${path} was refused`);
            return response.ok;
          },
          // dead, or too slow: the other one is asked
          () => false,
        );
        if (taken) break;
        again++;
        at++;
        await pause(100);
      }
      calls++;
      await pause(50);
    }
  })();
  return {
    stop: async () => {
      stop.abort();
      await run;
      return { calls, again };
    },
  };
};

const ROLLUPS = `SELECT sum(abs(toInt64(a) - toInt64(b))) AS n FROM (
  SELECT (SELECT sum(spans) FROM coroot.trace_index) AS a, (SELECT count() FROM coroot.spans) AS b
  UNION ALL SELECT (SELECT sum(total) FROM coroot.span_latency), (SELECT count() FROM coroot.spans)
  UNION ALL SELECT (SELECT sum(failed) FROM coroot.span_latency), (SELECT countIf(status = 'error') FROM coroot.spans)
  UNION ALL SELECT (SELECT sum(total) FROM coroot.span_edges), (SELECT countIf(peer != '') FROM coroot.spans))`;

/** Batches that are not whole and once, given how many there should be. */
const wrongBatches = async (store: StoreProxy, table: "spans" | "logs", batches: number): Promise<number> => {
  const [row] = await store.query<{ whole: string; other: string }>(
    `SELECT countIf(n = ${RECORDS}) AS whole, countIf(n != ${RECORDS}) AS other FROM (SELECT batch, count() AS n FROM coroot.${table} GROUP BY batch)`,
  );
  return Number(row?.other ?? 0) + Math.abs(batches - Number(row?.whole ?? 0) - Number(row?.other ?? 0));
};

const measure = async ({ long, log }: MeasureContext): Promise<Measured> => {
  const kills = long ? 50 : FAULTS.length;
  const random = makeRandom(Date.now());
  const folder = mkdtempSync(join(tmpdir(), "coroot-kill9-"));
  const store = await StoreProxy.start(join(folder, "store"));
  const servers: LiveServer[] = [];
  let agent: SpoolAgent | null = null;
  try {
    for (const number of [0, 1]) {
      const server = await LiveServer.make({ clickhouse: { url: store.url, password: `server-${number}` } });
      servers.push(server);
      const [first] = servers;
      if (first !== undefined && number > 0) {
        mkdirSync(join(server.folder, "data"), { mode: 0o700 });
        copyFileSync(join(first.folder, "data/agent.key"), join(server.folder, "data/agent.key"));
      }
      await server.start();
      await server.storeUp();
    }
    const [first] = servers;
    if (first === undefined) throw new Error("no server");
    const key = await first.key();
    agent = new SpoolAgent({
      id: AGENT,
      key,
      urls: servers.map(({ agentUrl }) => agentUrl),
      folder: join(folder, "spool"),
      added: join(folder, "added"),
      series: SERIES,
    });
    const base = Math.floor(random() * 1e9);
    const senders = {
      spans: sender(servers, key, (i) => ({
        path: "/v1/traces",
        body: traceRequest(base + i, RECORDS, Date.now()),
        headers: {},
      })),
      logs: sender(servers, key, (i) => ({
        path: "/v1/logs",
        body: logRequest(base + i, RECORDS, Date.now()),
        headers: {},
      })),
      written: sender([...servers].reverse(), key, writeCall),
    };
    const done = new Map<Fault, number>();
    for (let i = 0; i < kills; i++) {
      await pause(500 + random() * 2_500);
      const fault = (long ? FAULTS[Math.floor(random() * FAULTS.length)] : FAULTS[i]) ?? "server";
      // the one that has the agent is hit as often as the other
      let victim = servers[Math.floor(random() * servers.length)] ?? first;
      if (fault.endsWith("before the answer")) {
        const { password } = await store.keepAnswer(30_000);
        victim = servers[Number(password.split("-")[1])] ?? first;
      }
      if (fault === "agent") {
        await agent.kill();
        agent.start();
      } else if (fault.startsWith("store")) {
        await store.endStore("SIGKILL");
        await pause(random() * 1_000);
        await store.startStore();
      } else {
        await victim.end("SIGKILL");
        await pause(random() * 1_000);
        await victim.start();
      }
      done.set(fault, (done.get(fault) ?? 0) + 1);
      log(`kill ${i + 1} of ${kills}: ${fault}`);
    }
    await Promise.all(servers.map((server) => server.storeUp()));
    const [spans, logs, written] = await Promise.all([
      senders.spans.stop(),
      senders.logs.stop(),
      senders.written.stop(),
    ]);
    await agent.drain();
    const added = agent.added();
    const stored = await store.query<{ source: string; sequence: number; n: string; different: string }>(
      `SELECT toString(source) AS source, sequence, count() AS n, uniqExact(fp, ts) AS different FROM coroot.samples
       WHERE fp IN (SELECT fp FROM coroot.series WHERE name = 'spooled_total') GROUP BY source, sequence`,
    );
    const found = new Map(stored.map((row) => [`${row.source} ${row.sequence}`, row]));
    let wrongSpool = 0;
    for (const [epoch, sequence] of added) {
      const row = found.get(`${sourceOf(AGENT, epoch)} ${sequence}`);
      if (Number(row?.n) !== SERIES || Number(row?.different) !== SERIES) wrongSpool++;
    }
    const [calls] = await store.query<{ n: string; different: string }>(
      `SELECT count() AS n, uniqExact(fp, ts) AS different FROM coroot.samples
       WHERE fp IN (SELECT fp FROM coroot.series WHERE name = 'written_total')`,
    );
    const rows = written.calls * WRITTEN;
    const wrongCalls = Math.max(Math.abs(Number(calls?.n) - rows), Math.abs(Number(calls?.different) - rows)) / WRITTEN;
    const wrong = {
      spool: wrongSpool,
      spans: await wrongBatches(store, "spans", spans.calls),
      logs: await wrongBatches(store, "logs", logs.calls),
      written: Math.ceil(wrongCalls),
      rollups: await until("the rollups", 10_000, async () =>
        Number((await store.query<{ n: string }>(ROLLUPS))[0]?.n),
      ),
    };
    const batches = added.length + spans.calls + logs.calls + written.calls;
    return {
      value: wrong.spool + wrong.spans + wrong.logs + wrong.written + wrong.rollups,
      detail: `${batches} batches over ${kills} kills (${[...done].map(([fault, n]) => `${fault} ${n}`).join(", ")}); ${spans.again + logs.again + written.again} calls sent again; wrong: of the spool ${wrong.spool} of ${added.length}, spans ${wrong.spans} of ${spans.calls}, logs ${wrong.logs} of ${logs.calls}, remote_write ${wrong.written} of ${written.calls}, rows by which rollups differ ${wrong.rollups}`,
    };
  } catch (error) {
    for (const server of servers) log(server.log);
    throw error;
  } finally {
    await agent?.kill();
    await Promise.all(servers.map((server) => server.stop()));
    await store.close();
    rmSync(folder, { recursive: true, force: true });
  }
};

export const figures: readonly Figure[] = [
  {
    id: "store.kill9",
    figure: "acknowledged batches lost or doubled over kill -9 of agent, server and store; rollups included",
    unit: "batches",
    bar: "0 over 50 kills",
    holds: (value) => value === 0,
    measure: async (context) => {
      const { available, reason } = capability("chdb");
      return available ? measure(context) : { value: null, reason };
    },
  },
];
