/** probe.soak: whether anything of the agent and its probe grows under a steady load whose connections come and go. */
import { readdirSync } from "node:fs";
import type { Figure, Measured, MeasureContext } from "../figure.ts";
import { pause, rssMb } from "../path/launch.ts";
import { whereAble } from "../path/probe.ts";
import { startChurn, watched } from "./agent.ts";

/** Slope of a line through points at even steps, by the hour, and half of its 95 % interval. */
const slopeOf = (values: readonly number[], stepSeconds: number): readonly [slope: number, half: number] => {
  const n = values.length;
  const middle = (n - 1) / 2;
  const mean = values.reduce((sum, v) => sum + v, 0) / n;
  const xx = values.reduce((sum, _, i) => sum + (i - middle) ** 2, 0);
  const slope = values.reduce((sum, v, i) => sum + (i - middle) * (v - mean), 0) / xx;
  const rest = values.reduce((sum, v, i) => sum + (v - mean - slope * (i - middle)) ** 2, 0);
  const perHour = 3_600 / stepSeconds;
  return [slope * perHour, 2 * Math.sqrt(rest / Math.max(1, n - 2) / xx) * perHour];
};

interface Grows {
  readonly name: string;
  /** increase in an hour up to which it holds though the interval is above 0 */
  readonly least: number;
  readonly values: number[];
}

/** Windows that were acknowledged are kept for three minutes, and edges without traffic as long. */
const GROWN_MS = 195_000;

const measureSoak = async ({ long, log, signal }: MeasureContext): Promise<Measured> => {
  const one = await watched();
  try {
    const load = await startChurn(one);
    const series: readonly Grows[] = [
      { name: "heap, MB", least: 3, values: [] },
      { name: "external, MB", least: 3, values: [] },
      { name: "probe, MB", least: 1, values: [] },
      { name: "map entries", least: 0, values: [] },
      { name: "descriptors", least: 0, values: [] },
    ];
    const [samples, stepMs] = long ? [108, 30_000] : [20, 2_000];
    await pause(Math.max(0, one.since + (long ? 300_000 : GROWN_MS) - performance.now()));
    const [began, from] = [performance.now(), load.answered()];
    for (let i = 0; i < samples; i++) {
      if (signal.aborted) throw new Error("out of time");
      await pause(Math.max(0, began + i * stepMs - performance.now()));
      const { heap, external, descriptors, probe } = await one.agent.state();
      const entries = ["edges", "rows", "connections", "timings"].reduce((sum, name) => sum + (probe[name] ?? 0), 0);
      const all = readdirSync(`/proc/${one.agent.probePid}/fd`).length + descriptors;
      [heap / 1e6, external / 1e6, rssMb(one.agent.probePid), entries, all].forEach((v, k) =>
        series[k]?.values.push(v),
      );
    }
    const perSecond = ((load.answered() - from) * 1_000) / (performance.now() - began);
    const grown = series.map(({ name, least, values }) => {
      const [slope, half] = slopeOf(values, stepMs / 1_000);
      const text = `${name} ${slope.toFixed(1)} ± ${half.toFixed(1)} (now ${values.at(-1)?.toFixed(1)})`;
      log(text);
      return { grows: slope - half > 0 && slope > least, text };
    });
    const detail =
      `increases an hour over ${Math.round((samples * stepMs) / 1_000)} s at ${Math.round(perSecond)} req/s, ` +
      `${Math.round(perSecond / 50)} new connections/s: ${grown.map((each) => each.text).join(", ")}; ` +
      `what else the machine does is in them`;
    return perSecond > 4_500
      ? { value: grown.filter((each) => each.grows).length, detail }
      : { value: null, reason: `the load did not reach its rate: ${detail}` };
  } finally {
    await one.stop();
  }
};

export const figures: readonly Figure[] = [
  {
    id: "probe.soak",
    figure:
      "of heap, external bytes, the probe's memory, map entries, descriptors: how many grow (an hour with --long)",
    unit: "series",
    bar: "0",
    holds: (value) => value === 0,
    measure: whereAble(["bpf", "nginx"], measureSoak),
  },
];
