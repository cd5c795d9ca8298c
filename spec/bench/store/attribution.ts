/** Who used the CPU time of a profile, by the modules that a sample's stack has, read through the bundle's source maps. */
import { existsSync, readFileSync } from "node:fs";
import { SourceMap } from "node:module";
import { fileURLToPath } from "node:url";
import type { CpuProfile } from "./server.ts";

const PARTS = {
  /** frames in, decoded, acknowledged, and handed to services */
  sessions:
    /(^|\/)(runtime\/ingest|schemas\/wire|actors\/agent-session|node_modules\/ws)\/|^node:(net|internal\/(stream|streams))/,
  services: /(^|\/)actors\/service\//,
  topology: /(^|\/)actors\/topology\//,
  store: /(^|\/)runtime\/(store|otlp|remote-write|doors)\//,
  page: /(^|\/)(runtime\/http|actors\/ui-session)\//,
} as const;
export type Part = keyof typeof PARTS;
const NAMES = Object.keys(PARTS) as readonly Part[];

const maps = new Map<string, SourceMap | null>();
const mapOf = (url: string): SourceMap | null => {
  const known = maps.get(url);
  if (known !== undefined) return known;
  const file = url.startsWith("file:") ? `${fileURLToPath(url)}.map` : "";
  const map = existsSync(file) ? new SourceMap(JSON.parse(readFileSync(file, "utf8"))) : null;
  maps.set(url, map);
  return map;
};

const sourceOf = ({ url, lineNumber, columnNumber }: CpuProfile["nodes"][number]["callFrame"]): string => {
  const entry = mapOf(url)?.findEntry(lineNumber, columnNumber);
  return entry !== undefined && "originalSource" in entry ? entry.originalSource : url;
};

/**
 * Shares of the busy time, which add up to 1. A sample belongs to the innermost frame of one of the parts; what belongs to
 * nobody (garbage collection, the fibers' own machinery) is shared out in proportion, and told as `shared`.
 */
export const sharesOf = ({ nodes, samples, timeDeltas }: CpuProfile): Readonly<Record<Part | "shared", number>> => {
  const parent = new Map<number, number>();
  const part = new Map<number, Part | "idle" | null>();
  for (const { id, children = [] } of nodes) for (const child of children) parent.set(child, id);
  for (const { id, callFrame } of nodes) {
    const source = sourceOf(callFrame);
    const found = NAMES.find((name) => PARTS[name].test(source));
    part.set(id, callFrame.functionName === "(idle)" ? "idle" : (found ?? null));
  }
  const sums: Record<Part | "shared", number> = { sessions: 0, services: 0, topology: 0, store: 0, page: 0, shared: 0 };
  samples.forEach((sample, i) => {
    let at: number | undefined = sample;
    while (at !== undefined && (part.get(at) ?? null) === null) at = parent.get(at);
    const whose = at === undefined ? null : part.get(at);
    if (whose !== "idle") sums[whose ?? "shared"] += timeDeltas[i] ?? 0;
  });
  const busy = Object.values(sums).reduce((n, one) => n + one, 0);
  const known = busy - sums.shared;
  const shares = { ...sums, shared: sums.shared / busy };
  for (const name of NAMES) shares[name] = sums[name] / known;
  return shares;
};
