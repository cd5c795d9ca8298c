/**
 * actor.tells_*, idle_bytes, fleet_cpu, start_50k: what the kernel and the service actors cost. Each runs in a process of
 * its own (kernelWork.ts), so that heaps and compiled code of one do not help or harm the next; times are CPU time.
 */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Figure, MeasureContext, Measured } from "../figure.ts";

const WORK = fileURLToPath(new URL("./work/kernelWork.ts", import.meta.url));

/** The last line that the work wrote, as JSON. */
const work = (name: string, context: MeasureContext): Promise<Record<string, number>> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--expose-gc", "--import", "tsx", WORK, name], {
      stdio: ["ignore", "pipe", "inherit"],
      signal: context.signal,
    });
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
    child.on("error", reject);
    child.on("close", (code) => {
      if (code !== 0) return reject(new Error(`${name} ended with ${code}`));
      resolve(JSON.parse(output.trim().split("\n").at(-1) ?? "{}") as Record<string, number>);
    });
  });

const round = (n: number | undefined, digits = 0): string => (n ?? 0).toFixed(digits);

const tells = (id: string, name: string, figure: string, least: number): Figure => ({
  id,
  figure,
  unit: "tells/CPU-s",
  bar: `≥ ${least.toLocaleString("en")}`,
  holds: (value) => value >= least,
  measure: async (context): Promise<Measured> => {
    const found = await work(name, context);
    const value = found["perCpuSecond"] ?? null;
    const objects = found["objects"] ?? 0;
    const entities = found["entities"] ?? 0;
    return {
      value,
      detail: `plain object calls ${round(objects)} (1/${round(objects / (value ?? 1), 1)}), one entity per service ${round(entities)} (${round((value ?? 0) / entities, 1)} ×)`,
    };
  },
});

export const figures: readonly Figure[] = [
  tells("actor.tells_wake", "wake", "tells through a partition, one per actor and batch", 60_000),
  tells("actor.tells_queued", "queued", "tells through a partition, eight waiting per actor", 150_000),
  {
    id: "actor.idle_bytes",
    figure: "memory of an idle actor beyond its state",
    unit: "bytes",
    bar: "≤ 1,024",
    holds: (value) => value <= 1_024,
    measure: async (context): Promise<Measured> => {
      const found = await work("idle", context);
      return {
        value: found["bytes"] ?? null,
        detail: `${round(found["perActor"])} with its state, ${round(found["perState"])} for the state in a Map`,
      };
    },
  },
  {
    id: "actor.fleet_cpu",
    figure: "10,000 service actors, one window and one tick a second",
    unit: "cores",
    bar: "≤ 0.5",
    holds: (value) => value <= 0.5,
    measure: async (context): Promise<Measured> => {
      const found = await work("fleet", context);
      return { value: found["cores"] ?? null, detail: `over ${round(found["seconds"])} virtual seconds` };
    },
  },
  {
    id: "actor.start_50k",
    figure: "50,000 service actors start",
    unit: "CPU-s",
    bar: "≤ 20, memory linear",
    holds: (value) => value <= 20,
    measure: async (context): Promise<Measured> => {
      const found = await work("start", context);
      const growth = (found["at50k"] ?? 0) / (found["at12k"] ?? 1);
      const detail = `heap per actor ${round(found["at12k"])} B at 12,500, ${round(found["at25k"])} B at 25,000, ${round(found["at50k"])} B at 50,000`;
      if (growth > 1.3) return { value: null, reason: `memory is not linear: ${detail}` };
      return { value: found["cpuSeconds"] ?? null, detail };
    },
  },
];
