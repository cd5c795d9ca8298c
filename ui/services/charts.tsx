/**
 * Charts of a service. Live ranges scroll each second from the topic's own columns; they stand still while paused and
 * while the pointer is on them. Longer ranges are asked for once, from the store, and renewed every 30 s.
 */
import { useMemo, useState } from "react";
import type { LiveWindows } from "../../schemas/wire/page.ts";
import { formatBytes, formatCores, formatMs, formatPercent, formatRate } from "../format.ts";
import { Chart, type Line } from "../kit/chart.tsx";
import { Segmented } from "../kit/segmented.tsx";
import { useNow } from "../live/hooks.ts";
import { rangeOf, RANGES } from "./ranges.ts";
import { useHistory, type History } from "./history.ts";

interface ChartsProps {
  readonly service: string;
  readonly live: LiveWindows | null;
  readonly range: string;
  readonly onRange: (range: string) => void;
  readonly latencyObjectiveMs: number | null;
}

const rate = (value: number | null): string => (value === null ? "–" : formatRate(value));
const count = (value: number | null): string => (value === null ? "–" : String(Math.round(value)));

const trafficLines = (data: Pick<LiveWindows | History, "requests" | "errors">): readonly Line[] => [
  { label: "requests", color: "--series-1", values: data.requests, area: true, format: rate },
  { label: "errors", color: "--series-bad", values: data.errors, area: true, format: rate },
];
const latencyLines = (data: Pick<LiveWindows | History, "p50Ms" | "p95Ms" | "p99Ms">): readonly Line[] => [
  { label: "p50", color: "--series-2", values: data.p50Ms, format: formatMs },
  { label: "p95", color: "--series-1", values: data.p95Ms, format: formatMs },
  { label: "p99", color: "--series-3", values: data.p99Ms, format: formatMs },
];

export const Charts = (props: ChartsProps) => {
  const range = rangeOf(props.range);
  const [paused, setPaused] = useState(false);
  const [hovered, setHovered] = useState(false);
  return (
    <section className="section">
      <header className="section-head">
        <h2>Charts</h2>
        <div className="section-aside">
          {range.live && hovered && !paused ? <span className="quiet">held while you point at it</span> : null}
          {range.live ? (
            <button
              type="button"
              className={paused ? "choice choice-small choice-on" : "choice choice-small"}
              aria-pressed={paused}
              onClick={() => setPaused(!paused)}
            >
              {paused ? "Resume" : "Pause"}
            </button>
          ) : null}
          <Segmented
            label="Time range"
            choices={RANGES.map(({ id, title }) => ({ value: id, label: title }))}
            value={range.id}
            onChange={props.onRange}
          />
        </div>
      </header>
      <div onPointerEnter={() => setHovered(true)} onPointerLeave={() => setHovered(false)}>
        {range.live ? (
          <LiveCharts {...props} spanMs={range.ms} held={paused || hovered} />
        ) : (
          <StoredCharts {...props} spanMs={range.ms} />
        )}
      </div>
    </section>
  );
};

const levelOf = (ms: number | null): { readonly value: number; readonly label: string } | undefined =>
  ms === null || ms <= 0 ? undefined : { value: ms, label: `objective ${formatMs(ms)}` };

const LiveCharts = ({
  live,
  spanMs,
  held,
  latencyObjectiveMs,
}: ChartsProps & { readonly spanMs: number; readonly held: boolean }) => {
  const [shown, setShown] = useState(live);
  if ((!held || shown === null) && shown !== live) setShown(live);
  const lines = useMemo(() => (shown === null ? null : linesOf(shown)), [shown]);
  if (shown === null || lines === null || shown.time.length === 0)
    return <p className="quiet section-none">The first second of figures is on its way.</p>;
  const to = shown.time[shown.time.length - 1] ?? 0;
  const common = { time: shown.time, from: to - spanMs, to, syncKey: "service", height: 168 };
  return (
    <div className="charts">
      <Chart {...common} title="Requests per second" lines={lines.traffic} least={1} />
      <Chart {...common} title="Latency" lines={lines.latency} level={levelOf(latencyObjectiveMs)} least={1} />
      <Chart {...common} title="CPU" lines={lines.cpu} least={0.05} />
      <Chart {...common} title="Memory" lines={lines.memory} least={1024 * 1024} binary />
      <Chart {...common} title="Requests waiting for an answer" lines={lines.pending} least={4} />
    </div>
  );
};

const linesOf = (
  data: LiveWindows,
): Readonly<Record<"traffic" | "latency" | "cpu" | "memory" | "pending", readonly Line[]>> => ({
  traffic: trafficLines(data),
  latency: latencyLines(data),
  cpu: [
    { label: "cores", color: "--series-1", values: data.cpuCores, area: true, format: formatCores },
    { label: "throttled", color: "--series-warn", values: data.throttledRatio, format: formatPercent, scale: "ratio" },
  ],
  memory: [{ label: "used", color: "--series-2", values: data.memoryBytes, area: true, format: formatBytes }],
  pending: [{ label: "waiting", color: "--series-3", values: data.pending, area: true, format: count }],
});

const StoredCharts = ({ service, spanMs, latencyObjectiveMs }: ChartsProps & { readonly spanMs: number }) => {
  const now = useNow(30_000);
  const to = Math.floor(now / 30_000) * 30_000;
  const from = to - spanMs;
  const history = useHistory(service, from, to);
  const lines = useMemo(() => (history.data === null ? null : storedLinesOf(history.data)), [history.data]);
  if (history.error !== null)
    return <p className="section-none tone-warning">History could not be read: {history.error}</p>;
  if (history.data === null || lines === null) return <p className="quiet section-none">Reading history…</p>;
  if (history.data.time.length === 0)
    return <p className="quiet section-none">Nothing was recorded for this service in this range.</p>;
  const common = { time: history.data.time, from, to, syncKey: "service", height: 250 };
  return (
    <div className="charts">
      <Chart {...common} title="Requests per second" lines={lines.traffic} least={1} />
      <Chart {...common} title="Latency" lines={lines.latency} level={levelOf(latencyObjectiveMs)} least={1} />
      <Chart {...common} title="CPU" lines={lines.cpu} least={0.05} />
      <Chart {...common} title="Memory" lines={lines.memory} least={1024 * 1024} binary />
    </div>
  );
};

const storedLinesOf = (data: History): Readonly<Record<"traffic" | "latency" | "cpu" | "memory", readonly Line[]>> => ({
  traffic: trafficLines(data),
  latency: latencyLines(data),
  cpu: [{ label: "cores", color: "--series-1", values: data.cpuCores, area: true, format: formatCores }],
  memory: [{ label: "used", color: "--series-2", values: data.memoryBytes, area: true, format: formatBytes }],
});
