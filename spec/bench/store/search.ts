/**
 * store.q_trace, store.q_logs, store.q_edges: what questions about traces and logs cost the engine, in CPU time of its
 * process, the best of several. They go through the same code as the API's. One run in a process of its own serves all
 * (work/searchWork.ts); its detail tells the cost of the other questions.
 */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { capability } from "../../machine.ts";
import type { Figure, MeasureContext, Measured } from "../figure.ts";

const WORK = fileURLToPath(new URL("./work/searchWork.ts", import.meta.url));
const ROWS = { long: 10_000_000, short: 2_000_000 } as const;

type Found = Readonly<Record<string, number>>;

const work = ({ long, signal }: MeasureContext): Promise<Found> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--import", "tsx", WORK, String(long ? ROWS.long : ROWS.short)], {
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

const ms = (found: Found, name: string): string => `${name} ${(found[name] ?? Number.NaN).toFixed(0)}`;

const figure = (
  id: string,
  what: string,
  most: number,
  value: (found: Found) => number,
  others: readonly string[],
): Figure => ({
  id,
  figure: what,
  unit: "ms engine CPU",
  bar: `≤ ${most}`,
  holds: (found) => found <= most,
  measure: async (context): Promise<Measured> => {
    const { available, reason } = capability("chdb");
    if (!available) return { value: null, reason };
    run ??= work(context);
    const found = await run;
    const rows = `${((found["rows"] ?? 0) / 1e6).toFixed(0)} million rows of one day`;
    return { value: value(found), detail: `${rows}; ms: ${others.map((name) => ms(found, name)).join(", ")}` };
  },
});

export const figures: readonly Figure[] = [
  figure("store.q_trace", "a trace by its id, all its spans", 50, (found) => found["trace"] ?? Number.NaN, [
    "slowest",
    "newest",
    "heatMap",
    "heatRaw",
    "errors",
    "compare",
  ]),
  figure(
    "store.q_logs",
    "newest 100 lines of one service with a word, all day: the dearer of a common and a rare one",
    100,
    (found) => Math.max(found["common"] ?? Number.NaN, found["rare"] ?? Number.NaN),
    ["common", "rare", "text", "hourOfAll", "histogram", "patterns", "facets"],
  ),
  figure("store.q_edges", "who calls whom in an hour, with latencies", 60, (found) => found["edges"] ?? Number.NaN, [
    "edges",
  ]),
];
