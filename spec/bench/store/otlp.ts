/**
 * store.otlp_decode, store.spans, store.logs, store.bytes_*: what OpenTelemetry's traces and logs cost, in CPU time of this
 * process and the engine together, and on disk. Each runs in a process of its own (work/otlpWork.ts); one run of spans
 * serves their speed and their size, and the same for logs. The load is spec/runtime/otlp/load.ts.
 */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { capability } from "../../machine.ts";
import type { Figure, MeasureContext, Measured } from "../figure.ts";

const WORK = fileURLToPath(new URL("./work/otlpWork.ts", import.meta.url));

type Found = Readonly<Record<string, number>>;

/** The last line that the work wrote, as JSON. */
const work = (name: string, rounds: number, { signal }: MeasureContext): Promise<Found> =>
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

const runs = new Map<string, Promise<Found>>();
const storing = (name: "spans" | "logs", context: MeasureContext): Promise<Found> => {
  const known = runs.get(name);
  if (known !== undefined) return known;
  const run = work(name, context.long ? 40 : 4, context);
  runs.set(name, run);
  return run;
};

const withStore = async (measure: () => Promise<Measured>): Promise<Measured> => {
  const { available, reason } = capability("chdb");
  return available ? measure() : { value: null, reason };
};

const round = (n: number | undefined, digits = 0): string => (n ?? 0).toFixed(digits);

const speed = (id: string, name: "spans" | "logs", least: number): Figure => ({
  id,
  figure: `${name === "spans" ? "spans" : "log records"} from OTLP protobuf to rows on disk, engine included`,
  unit: `${name}/CPU-s`,
  bar: `≥ ${least.toLocaleString("en")}`,
  holds: (value) => value >= least,
  measure: (context) =>
    withStore(async () => {
      const found = await storing(name, context);
      return {
        value: found["perCpuSecond"] ?? null,
        detail: `${round(found["rows"])} rows in ${round(found["inserts"])} inserts; per million: ours ${round(found["ours"], 2)} CPU-s, engine with views and merges ${round(found["engine"], 2)} CPU-s`,
      };
    }),
});

const size = (id: string, name: "spans" | "logs", most: number): Figure => ({
  id,
  figure: `bytes on disk per ${name === "spans" ? "span" : "log record"}, indexes included`,
  unit: "bytes",
  bar: `≤ ${most}`,
  holds: (value) => value <= most,
  measure: (context) =>
    withStore(async () => {
      const found = await storing(name, context);
      return { value: found["bytesPerRow"] ?? null, detail: `in ${round(found["parts"])} parts` };
    }),
});

export const figures: readonly Figure[] = [
  {
    id: "store.otlp_decode",
    figure: "OTLP protobuf spans, bytes in to rows ready for the store",
    unit: "spans/CPU-s",
    bar: "≥ 200,000",
    holds: (value) => value >= 200_000,
    measure: async (context): Promise<Measured> => {
      const found = await work("decode", context.long ? 80 : 15, context);
      return {
        value: found["perCpuSecond"] ?? null,
        detail: `${round(found["mbPerCpuSecond"])} MB/CPU-s, ${round(found["bytesPerSpan"])} B per span`,
      };
    },
  },
  speed("store.spans", "spans", 80_000),
  speed("store.logs", "logs", 100_000),
  size("store.bytes_span", "spans", 50),
  size("store.bytes_log", "logs", 40),
];
