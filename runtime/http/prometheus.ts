/**
 * The server's own counters as Prometheus text: every Effect metric of the process, and what the process itself uses.
 * Pure but for reading them; nothing to stop.
 */
import { Metric, MetricState } from "effect";
import type { MetricPair } from "effect";

const escapeLabel = (text: string): string =>
  text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"');
const safeName = (name: string): string => name.replace(/[^a-zA-Z0-9_:]/g, "_");
const number = (value: number | bigint): string =>
  value === Infinity ? "+Inf" : value === -Infinity ? "-Inf" : String(value);

type Labels = readonly (readonly [name: string, value: string])[];
const labelText = (labels: Labels): string =>
  labels.length === 0
    ? ""
    : `{${labels.map(([name, value]) => `${safeName(name)}="${escapeLabel(value)}"`).join(",")}}`;

interface Family {
  readonly type: string;
  readonly help: string;
  readonly lines: string[];
}

const render = (
  name: string,
  labels: Labels,
  state: MetricPair.MetricPair.Untyped["metricState"],
): [string, string[]] => {
  const line = (suffix: string, extra: Labels, value: number | bigint): string =>
    `${name}${suffix}${labelText([...labels, ...extra])} ${number(value)}`;
  if (MetricState.isCounterState(state)) return ["counter", [line("", [], state.count)]];
  if (MetricState.isGaugeState(state)) return ["gauge", [line("", [], state.value)]];
  if (MetricState.isFrequencyState(state))
    return ["counter", [...state.occurrences].map(([value, n]) => line("", [["value", value]], n))];
  if (MetricState.isHistogramState(state))
    return [
      "histogram",
      [
        ...state.buckets.map(([bound, n]) => line("_bucket", [["le", number(bound)]], n)),
        line("_bucket", [["le", "+Inf"]], state.count),
        line("_sum", [], state.sum),
        line("_count", [], state.count),
      ],
    ];
  if (MetricState.isSummaryState(state))
    return [
      "summary",
      [
        ...state.quantiles.flatMap(([q, value]) =>
          value._tag === "Some" ? [line("", [["quantile", String(q)]], value.value)] : [],
        ),
        line("_sum", [], state.sum),
        line("_count", [], state.count),
      ],
    ];
  return ["untyped", []];
};

export const prometheusText = (): string => {
  const families = new Map<string, Family>();
  const add = (name: string, type: string, help: string, lines: readonly string[]): void => {
    const family = families.get(name) ?? { type, help, lines: [] };
    families.set(name, family);
    // Infinity among a histogram's own bounds would repeat the +Inf line
    for (const line of lines) if (!family.lines.includes(line)) family.lines.push(line);
  };
  for (const { metricKey, metricState } of Metric.unsafeSnapshot()) {
    const name = safeName(metricKey.name);
    const labels = metricKey.tags.map((tag) => [tag.key, tag.value] as const);
    const [type, lines] = render(name, labels, metricState);
    add(name, type, metricKey.description._tag === "Some" ? metricKey.description.value : "", lines);
  }
  const { rss, heapUsed } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  const gauge = (name: string, help: string, value: number): void => add(name, "gauge", help, [`${name} ${value}`]);
  gauge("process_resident_memory_bytes", "resident memory of the server", rss);
  gauge("nodejs_heap_used_bytes", "memory in use on the JavaScript heap", heapUsed);
  add("process_cpu_seconds_total", "counter", "CPU time of the server", [
    `process_cpu_seconds_total ${(user + system) / 1e6}`,
  ]);
  const out: string[] = [];
  for (const [name, { type, help, lines }] of [...families].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (help !== "") out.push(`# HELP ${name} ${help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")}`);
    out.push(`# TYPE ${name} ${type}`, ...lines);
  }
  return `${out.join("\n")}\n`;
};
