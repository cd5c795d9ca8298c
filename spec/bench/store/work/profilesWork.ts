/**
 * One measurement of profiles.ts in a process of its own: `profilesWork.ts flame|ingest ROUNDS` writes one line of JSON. The
 * engine's CPU time is that of the store child with all its threads.
 */
import { Clock, Effect } from "effect";
import { KnownStacks } from "../../../../runtime/profiles/KnownStacks.ts";
import { profilesDoor } from "../../../../runtime/profiles/door.ts";
import { Store } from "../../../../runtime/store/Store.ts";
import { Writer } from "../../../../runtime/store/Writer.ts";
import { make as makeProfiles, type FlameRequest } from "../../../../runtime/telemetry/Profiles.ts";
import { profileBody } from "../../../runtime/profiles/load.ts";
import {
  freshFolder,
  makeStore,
  processState,
  removeFolder,
  stockClient,
  whenUp,
  type TestStore,
} from "../../../runtime/store/harness.ts";
import { cpuNs } from "../../path/launch.ts";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const SAMPLES = 5_000_000;
const SERVICES = 60;
const STACKS = 2_000;
const TYPE = "ebpf:cpu:nanoseconds";

const ownCpu = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

const enginePid = Effect.flatMap(processState, ({ pid }) =>
  pid === null ? Effect.dieMessage("the store has no process") : Effect.succeed(pid),
);

/** Completes when the engine has used next to nothing for a second. */
const atRest = (pid: number): Effect.Effect<void> =>
  Effect.gen(function* () {
    for (let last = cpuNs(pid); ; ) {
      yield* Effect.sleep("1 second");
      const now = cpuNs(pid);
      if (now - last < 40e6) return;
      last = now;
    }
  });

const sizeOf = (table: string) =>
  Effect.flatMap(Store, (store) =>
    store.query<{ bytes: number; rows: number }>(
      "SELECT sum(bytes_on_disk) AS bytes, sum(rows) AS rows FROM system.parts WHERE database = 'coroot' AND active AND table = {table:String}",
      { table },
    ),
  ).pipe(Effect.map(([row]) => row ?? { bytes: 0, rows: 0 }));

/** A profile a minute of each service: 120,000 stacks of 8 to 32 frames, 5 million samples over a day, made in the engine. */
const fill = async (runtime: TestStore, startMs: number): Promise<void> => {
  const client = await stockClient(runtime);
  const frame = (func: string): string =>
    `concat('github.com/shop/pkg', toString(${func} % 40), '.(*Handler).Method', toString(${func}), '\\t/go/src/pkg', toString(${func} % 40), '/handler.go:', toString(${func} % 90))`;
  const func =
    "if(level < 6, (number % 60) * 5000 + (cityHash64(number) % 20) * 6 + level, (number % 60) * 5000 + 200 + cityHash64(number, level) % 3000)";
  await client.command({
    query: `INSERT INTO coroot.profile_stacks (service, hash, stack, last_seen)
      SELECT concat('service-', toString(number % ${SERVICES})), cityHash64(number),
        arrayMap(level -> ${frame(func)}, range(8 + cityHash64(number, 'depth') % 25)), now()
      FROM numbers(${SERVICES * STACKS})`,
  });
  await client.command({
    query: `INSERT INTO coroot.profile_samples (ts, duration, batch, stack, value, service, type, host, resource)
      SELECT fromUnixTimestamp64Milli(toInt64(${startMs} + intDiv(number * 1440, ${SAMPLES}) * 60000), 'UTC'), 60000000000,
        cityHash64(intDiv(number * 1440, ${SAMPLES}), number % ${SERVICES}),
        cityHash64(number % ${SERVICES} + ${SERVICES} * (cityHash64(number) % ${STACKS})), cityHash64(number, 'v') % 1000000000,
        concat('service-', toString(number % ${SERVICES})), '${TYPE}', 'node-1', map('container.id', '/k8s/shop/cart')
      FROM numbers(${SAMPLES})`,
  });
  await client.close();
};

const flame = (rounds: number, startMs: number) =>
  Effect.gen(function* () {
    const pid = yield* enginePid;
    yield* atRest(pid);
    const profiles = yield* makeProfiles;
    const service = "service-7";
    const day = { service, type: TYPE, from: startMs, to: startMs + DAY_MS };
    const measured = (request: FlameRequest, times: number) =>
      Effect.gen(function* () {
        const [ours, engine] = [ownCpu(), cpuNs(pid)];
        let last = yield* profiles.flame(request);
        for (let i = 1; i < times; i++) last = yield* profiles.flame(request);
        return {
          own: ((ownCpu() - ours) * 1e3) / times,
          engine: (cpuNs(pid) - engine) / 1e6 / times,
          answer: last,
        };
      });
    const cold = yield* measured(day, 1);
    if (cold.answer.unknown > 0 || cold.answer.profiles !== 1_440)
      throw new Error(`${cold.answer.unknown} stacks are unknown, ${cold.answer.profiles} profiles`);
    // the rest of the compiler's work is not that of a graph
    yield* measured(day, 5);
    const whole = yield* measured(day, rounds);
    const hour = yield* measured({ ...day, from: startMs + 12 * HOUR_MS, to: startMs + 13 * HOUR_MS }, rounds);
    const half = { from: startMs, to: startMs + DAY_MS / 2 };
    const compared = yield* measured({ ...day, from: half.to, base: half }, rounds);
    const samples = yield* sizeOf("profile_samples");
    const stacks = yield* sizeOf("profile_stacks");
    return {
      engine: whole.engine,
      own: whole.own,
      nodes: whole.answer.depth.length,
      merged: whole.answer.merged,
      bytes: JSON.stringify(whole.answer).length,
      coldEngine: cold.engine,
      coldOwn: cold.own,
      hourEngine: hour.engine,
      hourOwn: hour.own,
      comparedEngine: compared.engine,
      comparedOwn: compared.own,
      bytesSample: samples.bytes / samples.rows,
      bytesStack: stacks.bytes / stacks.rows,
      rows: samples.rows,
    };
  });

const CONTAINERS = 60;
const LOAD = { functions: 400, stacks: 300, type: TYPE, durationMs: 60_000 };

const ingest = (rounds: number) =>
  Effect.gen(function* () {
    const pid = yield* enginePid;
    const writer = yield* Writer;
    const door = profilesDoor(writer, new KnownStacks());
    // all of one day, so that the parts can become one
    const start = Math.floor((yield* Clock.currentTimeMillis) / DAY_MS) * DAY_MS - DAY_MS / 2;
    const round = (minute: number) =>
      Effect.gen(function* () {
        const calls = Array.from({ length: CONTAINERS }, (_, i) => ({
          body: profileBody(i, minute * CONTAINERS + i, { ...LOAD, timeMs: start + minute * 60_000 }),
          query: new URLSearchParams({
            "service.name": `/k8s/shop/app-${i % 20}`,
            "container.id": `c${i}`,
            "host.name": "n",
          }),
          headers: {},
          contentType: "",
        }));
        const before = ownCpu();
        yield* Effect.forEach(calls, door.handle, { concurrency: "unbounded", discard: true });
        return ownCpu() - before;
      });
    const first = yield* round(0);
    yield* atRest(pid);
    const before = cpuNs(pid);
    let ours = 0;
    for (let minute = 1; minute <= rounds; minute++) ours += yield* round(minute);
    yield* atRest(pid);
    const engine = (cpuNs(pid) - before) / 1e9;
    const { inserts } = (yield* writer.stats).telemetry;
    const samples = yield* sizeOf("profile_samples");
    const stacks = yield* sizeOf("profile_stacks");
    const rows = (samples.rows * rounds) / (rounds + 1);
    return {
      rows,
      inserts,
      perCpuSecond: rows / (ours + engine),
      ours: ours / (rows / 1e6),
      engine: engine / (rows / 1e6),
      first,
      bytesSample: samples.bytes / samples.rows,
      bytesStack: stacks.bytes / stacks.rows,
      stacks: stacks.rows,
    };
  });

const [what, given] = process.argv.slice(2);
const data = freshFolder();
const runtime = makeStore(data);
try {
  await runtime.runPromise(whenUp);
  const startMs = Math.floor(Date.now() / DAY_MS) * DAY_MS - DAY_MS;
  if (what === "flame") await fill(runtime, startMs);
  const found = await runtime.runPromise<Record<string, number>, unknown>(
    what === "flame" ? flame(Number(given), startMs) : ingest(Number(given)),
  );
  process.stdout.write(`${JSON.stringify(found)}\n`);
} finally {
  await runtime.dispose();
  removeFolder(data);
}
process.exit(0);
