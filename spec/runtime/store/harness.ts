/** A whole store for a test: the real child process on a fresh directory, and the services over it. The caller disposes of it. */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { createClient, type ClickHouseClient } from "@clickhouse/client";
import { Effect, Layer, ManagedRuntime, Stream, SubscriptionRef } from "effect";
import * as History from "../../../runtime/store/History.ts";
import * as Store from "../../../runtime/store/Store.ts";
import * as StoreProcess from "../../../runtime/store/StoreProcess.ts";
import * as Writer from "../../../runtime/store/Writer.ts";
import { seriesList, type StoreBatch } from "../../../runtime/store/batch.ts";
import { fingerprint } from "../../../runtime/store/fingerprint.ts";

export const COMMAND = [process.execPath, "--import", "tsx", "deploy/bin/store.ts"] as const;

export const freshFolder = (): string => mkdtempSync(join(tmpdir(), "coroot-store-"));
export const removeFolder = (folder: string): void => rmSync(folder, { recursive: true, force: true });

export const makeStore = (
  data: string,
  writer: Writer.WriterConfig = {},
  supervision: Partial<StoreProcess.StoreProcessConfig> = {},
) => {
  const process = StoreProcess.layer({ command: [...COMMAND], data, ...supervision });
  const store = Store.layer({ database: "coroot" }).pipe(Layer.provideMerge(process));
  return ManagedRuntime.make(Layer.mergeAll(Writer.layer(writer), History.layer).pipe(Layer.provideMerge(store)));
};
export type TestStore = ReturnType<typeof makeStore>;

export const whenUp = Effect.flatMap(Store.Store, ({ whenUp: up }) => up).pipe(Effect.timeout("30 seconds"));

/** The state once it satisfies `test`. */
export const stateWhere = (test: (state: StoreProcess.StoreProcessState) => boolean) =>
  Effect.gen(function* () {
    const { state } = yield* StoreProcess.StoreProcess;
    const found = yield* state.changes.pipe(Stream.filter(test), Stream.runHead, Effect.timeout("30 seconds"));
    return yield* found;
  });

/** What `look` gives once it satisfies `test`. */
export const until = <A, E, R>(look: Effect.Effect<A, E, R>, test: (found: A) => boolean) =>
  look.pipe(
    Effect.tap((found) => (test(found) ? Effect.void : Effect.sleep("20 millis"))),
    Effect.repeat({ until: test }),
    Effect.timeout("20 seconds"),
  );

export const processState = Effect.flatMap(StoreProcess.StoreProcess, ({ state }) => SubscriptionRef.get(state));

/** A stock client on the running store. */
export const stockClient = async (runtime: TestStore, password?: string): Promise<ClickHouseClient> => {
  const { endpoint } = await runtime.runPromise(stateWhere(({ endpoint }) => endpoint !== null));
  if (endpoint === null) throw new Error("no endpoint");
  return createClient({ ...endpoint, password: password ?? endpoint.password, log: { level: 127 } });
};

export interface RawStore {
  readonly process: ChildProcess;
  readonly firstLine: Promise<unknown>;
  readonly ended: Promise<number | null>;
}

/** The store process as a program alone, without its supervisor. */
export const startRaw = (data: string): RawStore => {
  const [program, ...args] = COMMAND;
  const child = spawn(program, [...args, "--data", data], { stdio: ["pipe", "pipe", "ignore"] });
  const lines = createInterface({ input: child.stdout });
  return {
    process: child,
    firstLine: new Promise((resolve) => lines.once("line", (line) => resolve(JSON.parse(line) as unknown))),
    ended: new Promise((resolve) => child.once("close", (code) => resolve(code))),
  };
};

/** Batch of `rows` samples over four series; values tell batch and row apart. */
export const makeBatch = (
  agent: string,
  sequence: number,
  rows: number,
  startMs: number,
  connection = 1,
): StoreBatch => {
  const series = ["read", "write", "idle", "it's \\ \n"].map((mode) => {
    const labels = { service: "shop/default/Deployment/cart", mode };
    return { name: "cpu_seconds", labels, fingerprint: fingerprint("cpu_seconds", labels) };
  });
  return {
    agent,
    epoch: 7,
    sequence,
    connection,
    series: seriesList(series),
    index: Uint32Array.from({ length: rows }, (_, i) => i % series.length),
    times: Float64Array.from({ length: rows }, (_, i) => startMs + sequence * 1_000 + i),
    values: Float64Array.from({ length: rows }, (_, i) => sequence * 1_000 + i),
  };
};
