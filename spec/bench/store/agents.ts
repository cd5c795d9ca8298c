/**
 * store.agents, store.parts, store.block: the built server with its embedded store under a fleet of agents, each with 30
 * services and 100 active edges (of the agent, over its services; both roles) and a window a second, and then also under
 * OTLP, remote_write and an open page, killed and started again. One run serves all of the figures. CPU time of the
 * sessions is that of the server's process times the sessions' share of a CPU profile of its main thread.
 */
import { setTimeout as pause } from "node:timers/promises";
import { capability } from "../../machine.ts";
import { until } from "../../cluster/until.ts";
import type { FleetStatus } from "../../cluster/Fleet.ts";
import type { Figure, MeasureContext, Measured } from "../figure.ts";
import { cpuNs, freePort } from "../path/launch.ts";
import { sharesOf } from "./attribution.ts";
import { LiveServer, mainCpuNs, memoryOf, openPage, RunningFleet, startDoors } from "./server.ts";

const SAMPLES_EVERY_MS = 15_000;
/** Parts of a table: more are merged, as long as inserts come no faster than merges. The engine delays inserts at 1,000. */
const MAX_PARTS = 100;
const MINUTE_MS = 60_000;
const LEDGER_WITHIN_MS = 90_000;

interface Scale {
  readonly agents: number;
  readonly series: number;
  readonly seconds: number;
}
const scaleOf = (long: boolean): Scale =>
  long ? { agents: 1_000, series: 1_000, seconds: 60 } : { agents: 250, series: 400, seconds: 20 };

interface Found {
  readonly scale: Scale;
  readonly cores: { readonly server: number; readonly main: number; readonly engine: number; readonly fleet: number };
  readonly shares: ReturnType<typeof sharesOf>;
  readonly rssMiB: number;
  readonly peakMiB: number;
  readonly ackP50: number;
  readonly ackP99: number;
  readonly inserts: readonly { readonly table: string; readonly perSecond: number; readonly parts: number }[];
  readonly blocks: readonly number[];
  readonly returnSeconds: number;
  readonly lost: {
    readonly requests: number;
    readonly samples: number;
    readonly telemetry: number;
    readonly windows: number;
  };
  readonly sent: { readonly requests: number; readonly samples: number; readonly telemetry: number };
}

interface PartsRow {
  readonly table: string;
  readonly inserted: string;
  readonly parts: string;
}
/** Blocks are numbered from 1 in each partition, one for each insert. */
const PARTS = `SELECT table, sum(blocks) AS inserted, sum(n) AS parts FROM (
  SELECT table, partition_id, max(max_block_number) AS blocks, countIf(active) AS n
  FROM system.parts WHERE database = 'coroot' GROUP BY table, partition_id) GROUP BY table`;

const allConnected = (fleet: RunningFleet, agents: number, withinMs: number): Promise<FleetStatus> =>
  until(`${agents} agents connected`, withinMs, async () => {
    const status = await fleet.status();
    return status.connected === agents ? status : undefined;
  });

const acknowledged = (fleet: RunningFleet, withinMs: number): Promise<FleetStatus> =>
  until("every window acknowledged", withinMs, async () => {
    const status = await fleet.status();
    return status.ended && status.unacknowledged === 0 && status.storeAcknowledged === status.storeSent
      ? status
      : undefined;
  });

const one = async (server: LiveServer, sql: string): Promise<number> =>
  Number((await server.query<{ n: string }>(sql))[0]?.n ?? 0);

const LEDGER = `SELECT sum(t) AS n FROM (
  SELECT argMax(total, version) AS t FROM coroot.sli_minutes WHERE service LIKE 'default/load/%' GROUP BY service, minute)`;

const measure = async ({ long, log }: MeasureContext): Promise<Found> => {
  const scale = scaleOf(long);
  const { agents, series, seconds } = scale;
  const inspector = await freePort();
  const server = await LiveServer.make({}, [`--inspect=127.0.0.1:${inspector}`]);
  let fleet: RunningFleet | null = null;
  try {
    await server.start();
    await server.storeUp();
    const shape = { agents, instances: 30, services: agents, edges: 100, series, samplesEveryMs: SAMPLES_EVERY_MS };
    fleet = new RunningFleet({ ...shape, key: await server.key(), urls: [server.agentUrl] });
    await allConnected(fleet, agents, 60_000);
    await fleet.begin();
    // series and dictionaries are told in the first round
    await pause(SAMPLES_EVERY_MS + 3_000);
    log(`${agents} agents send`);

    const read = async () => ({
      at: performance.now(),
      server: cpuNs(server.pid),
      main: mainCpuNs(server.pid),
      engine: cpuNs(server.storePid),
      fleet: await (fleet as RunningFleet).status(),
      parts: new Map((await server.query<PartsRow>(PARTS)).map((row) => [row.table, row])),
    });
    const before = await read();
    await pause(seconds * 1_000);
    const after = await read();
    const wall = after.at - before.at;
    const cores = {
      server: (after.server - before.server) / 1e6 / wall,
      main: (after.main - before.main) / 1e6 / wall,
      engine: (after.engine - before.engine) / 1e6 / wall,
      fleet: ((after.fleet.cpu - before.fleet.cpu) * 1_000) / wall,
    };
    const inserts = [...after.parts.values()].map(({ table, inserted, parts }) => ({
      table,
      perSecond: ((Number(inserted) - Number(before.parts.get(table)?.inserted ?? 0)) * 1_000) / wall,
      parts: Number(parts),
    }));
    const profile = await server.profile(inspector, () => pause(long ? 20_000 : 6_000));
    const { now: rssMiB, peak: peakMiB } = memoryOf(server.pid);

    const key = await server.key();
    const doors = await startDoors({ url: server.url, key, seconds: seconds + 10 });
    const page = await openPage(server);
    await pause(2_000);
    const since = Date.now();
    await pause(seconds * 1_000);
    const blocks = server.blocks(since);
    if (page.messages() === 0) throw new Error("the page heard nothing");
    page.close();
    const taken = await doors.stop();

    log("the server is killed and started again");
    await server.end("SIGKILL");
    const began = performance.now();
    await server.start();
    await allConnected(fleet, agents, 120_000);
    const returnSeconds = (performance.now() - began) / 1_000;
    // whole minutes are written five seconds after their end: the last one shall be over soon
    await pause(Math.max(0, MINUTE_MS - (Date.now() % MINUTE_MS) - 2_000));
    await fleet.pause();
    const sent = await acknowledged(fleet, 120_000);
    await server.storeUp();
    const requests = await until(
      "every request in the store",
      LEDGER_WITHIN_MS,
      async () => {
        const found = await one(server, LEDGER);
        return found >= sent.requests ? found : undefined;
      },
      1_000,
    ).catch(() => one(server, LEDGER));
    const samples = await one(server, "SELECT count() AS n FROM coroot.samples");
    const different = await one(server, "SELECT uniqExact(fp, ts) AS n FROM coroot.samples");
    const telemetry =
      (await one(server, "SELECT count() AS n FROM coroot.spans")) +
      (await one(server, "SELECT count() AS n FROM coroot.logs"));
    const samplesSent = sent.samples + taken.samples;
    const telemetrySent = taken.spans + taken.logs;
    return {
      scale,
      cores,
      shares: sharesOf(profile),
      rssMiB,
      peakMiB,
      ackP50: after.fleet.ackP50,
      ackP99: after.fleet.ackP99,
      inserts,
      blocks,
      returnSeconds,
      lost: {
        requests: Math.abs(requests - sent.requests),
        samples: Math.max(Math.abs(samples - samplesSent), Math.abs(different - samplesSent)),
        telemetry: Math.abs(telemetry - telemetrySent),
        windows: sent.dropped,
      },
      sent: { requests: sent.requests, samples: samplesSent, telemetry: telemetrySent },
    };
  } catch (error) {
    log(server.log);
    throw error;
  } finally {
    await fleet?.stop();
    await server.stop();
  }
};

let run: Promise<Found> | null = null;
const withRun =
  (of: (found: Found) => Measured) =>
  async (context: MeasureContext): Promise<Measured> => {
    const { available, reason } = capability("chdb");
    if (!available) return { value: null, reason };
    run ??= measure(context);
    return of(await run);
  };

const percentile = (values: readonly number[], share: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * share))] ?? Number.NaN;
const n = (value: number, digits = 2): string => value.toFixed(digits);
const scaled = ({ scale }: Found): string => `${scale.agents} agents`;
const percent = (share: number): string => `${n(share * 100, 0)} %`;

export const figures: readonly Figure[] = [
  {
    id: "store.agents",
    figure: "CPU of the agents' sessions, for 1,000 agents x 30 services, 100 active edges each, 1 s windows",
    unit: "cores",
    bar: "≤ 1",
    holds: (value) => value <= 1,
    measure: withRun((found) => {
      const { cores, shares, scale } = found;
      return {
        value: (cores.server * shares.sessions * 1_000) / scale.agents,
        detail: `${scaled(found)} measured; whole server ${n(cores.server)} cores (main thread ${n(cores.main)}), of it sessions ${percent(shares.sessions)}, services ${percent(shares.services)}, topology ${percent(shares.topology)}, store ${percent(shares.store)}, page ${percent(shares.page)} (collector and fibers, ${percent(shares.shared)}, shared out); engine ${n(cores.engine)}; agents ${n(cores.fleet)}; acknowledged after ${n(found.ackP50, 0)} ms p50, ${n(found.ackP99, 0)} ms p99`,
      };
    }),
  },
  {
    id: "store.agents_rss",
    figure: "memory of the server under those agents",
    unit: "MiB",
    bar: "≤ 1024",
    holds: (value) => value <= 1_024,
    measure: withRun((found) => ({
      value: found.rssMiB,
      detail: `${scaled(found)} with ${found.scale.series} metric series each; ${n(found.peakMiB, 0)} at its highest`,
    })),
  },
  {
    id: "store.agents_return",
    figure: "kill -9 of the server, started again: until every agent is connected",
    unit: "s",
    bar: "≤ 30",
    holds: (value) => value <= 30,
    measure: withRun((found) => ({ value: found.returnSeconds, detail: `${scaled(found)}` })),
  },
  {
    id: "store.agents_lost",
    figure: "requests, samples, spans and log records lost or doubled in that run, the kill included",
    unit: "records",
    bar: "0",
    holds: (value) => value === 0,
    measure: withRun((found) => ({
      value: found.lost.requests + found.lost.samples + found.lost.telemetry + found.lost.windows,
      detail: `${scaled(found)}: ${found.lost.requests} of ${found.sent.requests} requests, ${found.lost.samples} of ${found.sent.samples} samples, ${found.lost.telemetry} of ${found.sent.telemetry} spans and records; windows given up by agents ${found.lost.windows}`,
    })),
  },
  {
    id: "store.parts",
    figure: "inserts per table and second under those agents, the busiest table",
    unit: "inserts/s",
    bar: "≤ 1",
    // an insert more than seconds is within the count's edges
    holds: (value) => value <= 1.05,
    measure: withRun((found) => ({
      value: Math.max(...found.inserts.map(({ perSecond }) => perSecond)),
      detail: `${scaled(found)}: ${found.inserts
        .filter(({ perSecond }) => perSecond > 0)
        .map(({ table, perSecond }) => `${table} ${n(perSecond)}`)
        .join(", ")}`,
    })),
  },
  {
    id: "store.parts_active",
    figure: "active parts of a table under those agents, the highest",
    unit: "parts",
    bar: `≤ ${MAX_PARTS}`,
    holds: (value) => value <= MAX_PARTS,
    measure: withRun((found) => ({
      value: Math.max(...found.inserts.map(({ parts }) => parts)),
      detail: found.inserts.map(({ table, parts }) => `${table} ${parts}`).join(", "),
    })),
  },
  {
    id: "store.block",
    figure:
      "longest turn of the server's event loop by CPU time in a second, p99 of the seconds, with everything running",
    unit: "ms",
    bar: "≤ 30",
    holds: (value) => value <= 30,
    measure: withRun((found) => ({
      value: percentile(found.blocks, 0.99),
      detail: `${scaled(found)}, 2,000 spans, 2,000 log records and 20,000 samples a second, a page open; p50 ${n(percentile(found.blocks, 0.5), 1)} ms over ${found.blocks.length} s`,
    })),
  },
];
