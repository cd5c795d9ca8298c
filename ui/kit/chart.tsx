/**
 * A thin wrapper of uPlot: lines over time with the page's colours, a legend that shows the figures under the cursor
 * (or the newest ones), and a cursor shared by all charts of one `syncKey`. Made once per theme and set of lines; new
 * data and a new range only redraw. Owned by its component: destroyed when that goes.
 */
import { useComputedColorScheme } from "@mantine/core";
import { useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { formatClock } from "../format.ts";

export interface Line {
  readonly label: string;
  /** CSS custom property that holds its colour, e.g. "--series-1" */
  readonly color: string;
  readonly values: readonly (number | null)[];
  readonly area?: boolean;
  readonly format: (value: number | null) => string;
  /** "ratio" lines are drawn against a right-hand scale of 0 to 100 % */
  readonly scale?: "ratio";
}

interface ChartProps {
  readonly title: string;
  readonly time: readonly number[];
  readonly lines: readonly Line[];
  readonly from: number;
  readonly to: number;
  readonly syncKey: string;
  /** a level that the reader compares with, e.g. the latency objective */
  readonly level?: { readonly value: number; readonly label: string } | undefined;
  readonly height?: number;
  /** the scale of y reaches at least this far, so that idle noise does not look like a storm */
  readonly least?: number;
  /** axis steps are powers of two: for bytes */
  readonly binary?: boolean;
}

/** Another theme or other lines make another chart. */
export const Chart = (props: ChartProps) => {
  const scheme = useComputedColorScheme("light");
  const lines = props.lines.map((line) => `${line.label}:${line.color}:${line.scale ?? ""}`).join("|");
  return <Plot key={`${scheme} ${lines} ${props.height ?? HEIGHT}`} {...props} />;
};

const HEIGHT = 132;
/** one width for all, so that the same moment stands at the same place in charts above each other */
const AXIS = 58;
const POWERS = Array.from({ length: 42 }, (_, n) => 2 ** n);

const Plot = (props: ChartProps) => {
  const { lines, time, from, to, title, height = HEIGHT } = props;
  const host = useRef<HTMLDivElement>(null);
  const legend = useRef<HTMLSpanElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(props);

  useEffect(() => {
    latest.current = props;
  });

  useEffect(() => {
    const element = host.current;
    if (element === null) return;
    const show = (chart: uPlot): void => showFigures(legend.current, latest.current, chart.cursor.idx);
    const chart = new uPlot(
      optionsOf(element, () => latest.current, show),
      dataOf(latest.current.time, latest.current.lines),
      element,
    );
    plot.current = chart;
    const observer = new ResizeObserver(() => {
      if (element.clientWidth > 0 && element.clientWidth !== chart.width)
        chart.setSize({ width: element.clientWidth, height: chart.height });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      chart.destroy();
      plot.current = null;
    };
  }, []);

  useEffect(() => {
    const chart = plot.current;
    if (chart === null) return;
    chart.batch(() => {
      chart.setData(dataOf(time, lines), false);
      chart.setScale("x", { min: from, max: to });
    });
    showFigures(legend.current, latest.current, chart.cursor.idx);
  }, [time, lines, from, to]);

  return (
    <figure className="chart" aria-label={title}>
      <figcaption className="chart-head">
        <span className="chart-title">{title}</span>
        <span className="chart-legend" ref={legend}>
          {lines.map((line) => (
            <span key={line.label} className="chart-key">
              <i style={{ background: `var(${line.color})` }} />
              {line.label} <b data-figure />
            </span>
          ))}
        </span>
      </figcaption>
      <div ref={host} className="chart-plot" style={{ height }} />
    </figure>
  );
};

const dataOf = (time: readonly number[], lines: readonly Line[]): uPlot.AlignedData => [
  [...time],
  ...lines.map((line) => [...line.values]),
];

/** Written past React: the cursor moves far more often than anything else changes. */
const showFigures = (
  legend: HTMLElement | null,
  { lines, time }: ChartProps,
  index: number | null | undefined,
): void => {
  const at = index ?? time.length - 1;
  for (const [n, spot] of [...(legend?.querySelectorAll("[data-figure]") ?? [])].entries()) {
    const line = lines[n];
    const text = line === undefined ? "" : line.format(line.values[at] ?? null);
    if (spot.textContent !== text) spot.textContent = text;
  }
};

const cssColor = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const optionsOf = (element: HTMLElement, latest: () => ChartProps, show: (chart: uPlot) => void): uPlot.Options => {
  const made = latest();
  const text = cssColor("--text-3");
  const font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const first = made.lines.find((line) => line.scale === undefined) ?? made.lines[0];
  const format = (value: number): string => (value === 0 ? "0" : (first?.format(value) ?? ""));
  const axis = { stroke: text, font, ticks: { show: false }, grid: { stroke: cssColor("--grid"), width: 1 } };
  return {
    width: element.clientWidth,
    height: made.height ?? HEIGHT,
    ms: 1,
    padding: [6, 8, 0, 0],
    legend: { show: false },
    cursor: {
      sync: { key: made.syncKey, setSeries: false },
      drag: { x: false, y: false },
      points: { size: 5 },
      y: false,
    },
    scales: {
      x: { time: true, range: (_, min, max) => [min, max] },
      y: {
        range: (_, __, max) => {
          const { least = 0, level } = latest();
          // a level far above all data would press the data flat: it is left out of sight then
          const top = Math.max((max ?? 0) * 1.12, least, 1e-9);
          return [0, level !== undefined && level.value <= top * 4 ? Math.max(top, level.value * 1.08) : top];
        },
      },
      ratio: { range: (_, __, max) => [0, Math.min(1, Math.max((max ?? 0) * 1.2, 0.1))] },
    },
    axes: [
      {
        ...axis,
        size: 22,
        gap: 3,
        space: 70,
        values: (_, splits) => splits.map((at) => formatTick(at, latest())),
      },
      {
        ...axis,
        gap: 4,
        space: 26,
        size: AXIS,
        ...(made.binary === true ? { incrs: POWERS } : {}),
        values: (_, splits) => splits.map((value) => format(value)),
      },
      ...(made.lines.some((line) => line.scale === "ratio")
        ? [
            {
              ...axis,
              scale: "ratio",
              side: 1 as const,
              grid: { show: false },
              gap: 4,
              space: 30,
              size: 44,
              values: (_: uPlot, splits: number[]) => splits.map((value) => `${Math.round(value * 100)} %`),
            },
          ]
        : []),
    ],
    series: [
      {},
      ...made.lines.map((line) => ({
        label: line.label,
        scale: line.scale ?? "y",
        stroke: cssColor(line.color),
        width: 1.4,
        points: { show: false },
        spanGaps: false,
        ...(line.area === true ? { fill: `${cssColor(line.color)}26` } : {}),
      })),
    ],
    hooks: {
      setCursor: [show],
      draw: [(chart) => drawLevel(chart, latest().level, text)],
    },
  };
};

const formatTick = (at: number, { from, to }: ChartProps): string => {
  const clock = formatClock(at);
  if (to - from > 86_400_000) {
    const day = new Date(at);
    return `${day.getMonth() + 1}/${day.getDate()} ${clock.slice(0, 5)}`;
  }
  return to - from > 1_200_000 ? clock.slice(0, 5) : clock;
};

const drawLevel = (u: uPlot, level: ChartProps["level"], color: string): void => {
  if (level === undefined) return;
  const { ctx, bbox } = u;
  const y = Math.round(u.valToPos(level.value, "y", true));
  if (y < bbox.top) return;
  ctx.save();
  ctx.strokeStyle = color;
  ctx.fillStyle = color;
  ctx.setLineDash([4 * uPlot.pxRatio, 4 * uPlot.pxRatio]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.font = `${10 * uPlot.pxRatio}px ${getComputedStyle(document.body).fontFamily}`;
  ctx.textAlign = "right";
  ctx.textBaseline = "top";
  ctx.fillText(level.label, bbox.left + bbox.width - 3 * uPlot.pxRatio, y + 3 * uPlot.pxRatio);
  ctx.restore();
};
