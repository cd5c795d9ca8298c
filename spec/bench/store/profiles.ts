/**
 * store.q_flame, store.profiles: what a flame graph costs the engine and this server, and what profiles cost from pprof to
 * rows on disk. Each runs in a process of its own (work/profilesWork.ts). The graph's load is made in the engine: 5 million
 * samples of a day, 60 services of 2,000 stacks each; what comes in is spec/runtime/profiles/load.ts.
 */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { capability } from "../../machine.ts";
import type { Figure, MeasureContext, Measured } from "../figure.ts";

const WORK = fileURLToPath(new URL("./work/profilesWork.ts", import.meta.url));

type Found = Readonly<Record<string, number>>;

/** The last line that the work wrote, as JSON. */
const work = (name: "flame" | "ingest", rounds: number, { signal }: MeasureContext): Promise<Found> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--import", "tsx", WORK, name, String(rounds)], {
      stdio: ["ignore", "pipe", "inherit"],
      signal,
    });
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
    child.on("error", reject);
    child.on("close", (code) => {
      if (code !== 0) return reject(new Error(`${name} ended with ${code}`));
      resolve(JSON.parse(output.trim().split("\n").at(-1) ?? "{}") as Found);
    });
  });

const withStore = async (measure: () => Promise<Measured>): Promise<Measured> => {
  const { available, reason } = capability("chdb");
  return available ? measure() : { value: null, reason };
};

const round = (n: number | undefined, digits = 0): string => (n ?? 0).toFixed(digits);

export const figures: readonly Figure[] = [
  {
    id: "store.q_flame",
    figure: "flame graph of a service over a day among 5 million profile samples, engine CPU",
    unit: "ms",
    bar: "≤ 50",
    holds: (value) => value <= 50,
    measure: (context) =>
      withStore(async () => {
        const found = await work("flame", context.long ? 200 : 30, context);
        return {
          value: found["engine"] ?? null,
          detail: `this server ${round(found["own"], 1)} ms for ${round(found["nodes"])} nodes of ${round((found["nodes"] ?? 0) + (found["merged"] ?? 0))}, ${round((found["bytes"] ?? 0) / 1024)} KiB; the first time ${round(found["coldEngine"])} + ${round(found["coldOwn"])} ms; an hour ${round(found["hourEngine"], 1)} + ${round(found["hourOwn"], 1)} ms; compared ${round(found["comparedEngine"], 1)} + ${round(found["comparedOwn"], 1)} ms`,
        };
      }),
  },
  {
    id: "store.profiles",
    figure: "profile samples from pprof, unpacked, to rows on disk, engine included",
    unit: "samples/CPU-s",
    bar: "≥ 60,000",
    holds: (value) => value >= 60_000,
    measure: (context) =>
      withStore(async () => {
        const found = await work("ingest", context.long ? 120 : 20, context);
        return {
          value: found["perCpuSecond"] ?? null,
          detail: `${round(found["rows"])} samples of 300 stacks a profile in ${round(found["inserts"])} inserts; per million: ours ${round(found["ours"], 2)} CPU-s, engine ${round(found["engine"], 2)}; on disk ${round(found["bytesSample"], 1)} B a sample, ${round(found["bytesStack"], 1)} B a stack`,
        };
      }),
  },
];
