/**
 * One measurement of otlp.ts in a process of its own: `otlpWork.ts decode|spans|logs ROUNDS` writes one line of JSON.
 * Requests are made outside of what is measured. The engine's CPU time is that of the store child with all its threads,
 * from before the first request until its merges have come to rest.
 */
import { Clock, Effect, Layer, ManagedRuntime } from "effect";
import { Intake, layer as intakeLayer, type Signal } from "../../../../runtime/otlp/Intake.ts";
import { encodeSpans } from "../../../../runtime/otlp/spans.ts";
import * as Store from "../../../../runtime/store/Store.ts";
import * as StoreProcess from "../../../../runtime/store/StoreProcess.ts";
import * as Writer from "../../../../runtime/store/Writer.ts";
import { logRequest, traceRequest } from "../../../runtime/otlp/load.ts";
import { finish } from "../../../runtime/otlp/rowBinary.ts";
import { COMMAND, freshFolder, processState, removeFolder, whenUp } from "../../../runtime/store/harness.ts";
import { cpuNs } from "../../path/launch.ts";

const RECORDS = 1_000;
/** As many as the lane takes at once. */
const REQUESTS = 140;
const HOUR_MS = 3_600_000;

const ownCpu = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

const decode = (rounds: number): Record<string, number> => {
  const nowMs = Date.now();
  const requests = Array.from({ length: REQUESTS }, (_, i) => traceRequest(i, RECORDS, nowMs - HOUR_MS));
  const bytes = requests.reduce((sum, request) => sum + request.length, 0);
  const options = { batch: 1n, nowMs, oldestMs: nowMs - 24 * HOUR_MS };
  const round = (): number => requests.reduce((rows, one) => rows + finish(encodeSpans(one, options)).rows, 0);
  round();
  const before = ownCpu();
  let rows = 0;
  for (let i = 0; i < rounds; i++) rows += round();
  const seconds = ownCpu() - before;
  return {
    perCpuSecond: rows / seconds,
    mbPerCpuSecond: (bytes * rounds) / 1e6 / seconds,
    bytesPerSpan: bytes / REQUESTS / RECORDS,
  };
};

/** Bytes of all active parts of a table, indexes included. */
const sizeOf = (table: string) =>
  Effect.flatMap(Store.Store, (store) =>
    store.query<{ bytes: number; rows: number; parts: number }>(
      "SELECT sum(bytes_on_disk) AS bytes, sum(rows) AS rows, count() AS parts FROM system.parts WHERE database = 'coroot' AND active AND table = {table:String}",
      { table },
    ),
  ).pipe(Effect.map(([row]) => row ?? { bytes: 0, rows: 0, parts: 0 }));

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

const store = async (signal: Signal, rounds: number): Promise<Record<string, number>> => {
  const data = freshFolder();
  const [table, make] = signal === "traces" ? (["spans", traceRequest] as const) : (["logs", logRequest] as const);
  const engine = Store.layer({ database: "coroot" }).pipe(
    Layer.provideMerge(StoreProcess.layer({ command: [...COMMAND], data })),
  );
  const runtime = ManagedRuntime.make(
    intakeLayer().pipe(Layer.provideMerge(Writer.layer()), Layer.provideMerge(engine)),
  );
  try {
    return await runtime.runPromise(
      Effect.gen(function* () {
        yield* whenUp;
        const { take } = yield* Intake;
        const { pid } = yield* processState;
        if (pid === null) throw new Error("the store has no process");
        // all of one day, so that the parts can become one
        const start = Math.floor((yield* Clock.currentTimeMillis) / (24 * HOUR_MS)) * 24 * HOUR_MS - 12 * HOUR_MS;
        const round = (number: number) =>
          Effect.gen(function* () {
            const seeds = Array.from({ length: REQUESTS }, (_, i) => number * REQUESTS + i);
            const requests = seeds.map((seed) => make(seed, RECORDS, start + seed * 1_000));
            const before = ownCpu();
            yield* Effect.forEach(requests, (body) => take(signal, body, "protobuf"), { concurrency: "unbounded" });
            return ownCpu() - before;
          });
        yield* round(0);
        yield* atRest(pid);
        const engineBefore = cpuNs(pid);
        let ours = 0;
        for (let i = 1; i <= rounds; i++) ours += yield* round(i);
        yield* atRest(pid);
        const engineCpu = (cpuNs(pid) - engineBefore) / 1e9;
        const rows = rounds * REQUESTS * RECORDS;
        const { inserts } = (yield* (yield* Writer.Writer).stats).telemetry;
        const found = yield* sizeOf(table);
        if (found.rows !== rows + REQUESTS * RECORDS) throw new Error(`${found.rows} rows were stored of ${rows}`);
        return {
          rows,
          inserts,
          perCpuSecond: rows / (ours + engineCpu),
          ours: ours / (rows / 1e6),
          engine: engineCpu / (rows / 1e6),
          bytesPerRow: found.bytes / found.rows,
          parts: found.parts,
        };
      }),
    );
  } finally {
    await runtime.dispose();
    removeFolder(data);
  }
};

const [what, given] = process.argv.slice(2);
const rounds = Number(given);
const found = what === "decode" ? decode(rounds) : await store(what === "spans" ? "traces" : "logs", rounds);
process.stdout.write(`${JSON.stringify(found)}\n`);
process.exit(0);
