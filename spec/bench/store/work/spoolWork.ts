/**
 * An agent's store lane alone, in a process of its own to be killed: the real spool on disk and the real link, with a batch
 * of samples every tenth of a second. `spoolWork.ts OPTIONS`; what the spool has taken is appended to the file `added`, one
 * "epoch sequence" per line, before the link may send it. The line "drain" on standard input: no more batches. Writes
 * "empty" once it has been told so and all is acknowledged. Ends with its input.
 */
import { appendFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { Effect, Logger, LogLevel, Scope } from "effect";
import { makeLink } from "../../../../agent/node/link/Link.ts";
import { SampleSet } from "../../../../agent/node/metrics/Samples.ts";
import { Catalog } from "../../../../agent/node/observe/Window.ts";
import { Spool } from "../../../../agent/node/spool/Spool.ts";
import { PROTOCOL } from "../../../../schemas/wire/frame.ts";

export interface SpoolWorkOptions {
  readonly id: string;
  readonly key: string;
  readonly urls: readonly string[];
  readonly folder: string;
  readonly added: string;
  readonly series: number;
}

const EVERY_MS = 100;

const { id, key, urls, folder, added, series } = JSON.parse(process.argv[2] ?? "") as SpoolWorkOptions;
const epoch = 1 + Math.floor(Math.random() * 2 ** 40);
const spool = new Spool({ folder, maxBytes: 64e6, segmentBytes: 1e6, segmentRecords: 10 });
const monoMs = (): number => performance.now();
const link = await makeLink({
  urls,
  epoch,
  catalog: new Catalog(),
  spool,
  hello: Effect.sync(() => ({
    protocol: [PROTOCOL.major, PROTOCOL.minor],
    agentId: id,
    epoch,
    cluster: "default",
    node: id,
    key,
    version: "0",
    monoMs: monoMs(),
    wallMs: Date.now(),
    kernel: "6",
    capabilities: [],
  })),
  monoMs,
}).pipe(
  Effect.provideService(Scope.Scope, Effect.runSync(Scope.make())),
  Logger.withMinimumLogLevel(LogLevel.None),
  Effect.runPromise,
);

const samples = new SampleSet();
let sequence = 0;
let draining = false;
const add = (): void => {
  samples.begin();
  for (let i = 0; i < series; i++)
    samples.put("spooled_total", { agent: id, epoch: String(epoch), i: String(i) }, sequence * 100 + i);
  const head = { epoch, sequence: sequence++, monoMs: monoMs(), dropped: spool.stats.dropped };
  if (spool.append(head.epoch, head.sequence, (first) => samples.encode(head, Date.now(), first))) {
    appendFileSync(added, `${epoch} ${head.sequence}\n`);
    spool.sync();
  }
  link.storeReady();
};
setInterval(() => {
  if (!draining) add();
  else if (spool.stats.waiting === 0) process.stdout.write("empty\n");
}, EVERY_MS);
const input = createInterface({ input: process.stdin });
input.on("line", () => (draining = true));
input.on("close", () => process.exit(0));
