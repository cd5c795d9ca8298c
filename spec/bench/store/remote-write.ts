/**
 * store.samples, store.bytes_sample: what metrics by remote_write cost, from the bytes on the socket to rows on disk, in CPU
 * time of this process with the engine's beside it, and on disk after merges. One run serves both; it has a process of its
 * own (work/remoteWriteWork.ts), and the sender another. The load is spec/runtime/remote-write/load.ts.
 */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { capability } from "../../machine.ts";
import type { Figure, MeasureContext, Measured } from "../figure.ts";

const WORK = fileURLToPath(new URL("./work/remoteWriteWork.ts", import.meta.url));

type Found = Readonly<Record<string, number>>;

const work = ({ long, signal }: MeasureContext): Promise<Found> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--import", "tsx", WORK, long ? "240" : "120"], {
      stdio: ["ignore", "pipe", "inherit"],
      signal,
    });
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
    child.on("error", reject);
    child.on("close", (code) => {
      if (code !== 0) return reject(new Error(`the measurement ended with ${code}`));
      resolve(JSON.parse(output.trim().split("\n").at(-1) ?? "{}") as Found);
    });
  });

let run: Promise<Found> | null = null;

const withRun = async (context: MeasureContext, of: (found: Found) => Measured): Promise<Measured> => {
  const { available, reason } = capability("chdb");
  if (!available) return { value: null, reason };
  run ??= work(context);
  return of(await run);
};

const round = (n: number | undefined, digits = 0): string => (n ?? 0).toFixed(digits);

export const figures: readonly Figure[] = [
  {
    id: "store.samples",
    figure: "metric samples from remote_write on the socket to rows on disk",
    unit: "samples/CPU-s",
    bar: "≥ 450,000",
    holds: (value) => value >= 450_000,
    measure: (context) =>
      withRun(context, (found) => ({
        value: found["perCpuSecond"] ?? null,
        detail: `${round(found["rows"])} samples of ${round(found["rawBytes"])} B in ${round(found["wall"], 1)} s and ${round(found["inserts"])} inserts; the engine used ${round(found["engine"], 2)} CPU-s per million, with it ${round(found["withEngine"])} samples/CPU-s`,
      })),
  },
  {
    id: "store.bytes_sample",
    figure: "bytes on disk per metric sample after merges",
    unit: "bytes",
    bar: "≤ 2.8",
    holds: (value) => value <= 2.8,
    measure: (context) =>
      withRun(context, (found) => ({
        value: found["bytesPerSample"] ?? null,
        detail: `value ${round(found["bytes_value"], 2)}, series ${round(found["bytes_fp"], 2)}, time ${round(found["bytes_ts"], 2)}, batch ${round((found["bytes_source"] ?? 0) + (found["bytes_sequence"] ?? 0), 2)}; integer counters with noise`,
      })),
  },
];
