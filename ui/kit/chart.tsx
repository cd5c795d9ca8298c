/**
 * A thin wrapper of uPlot: lines over time with the page's colours, a legend that shows the figures under the cursor
 * (or the newest ones), and a cursor shared by all charts of one `syncKey`. Made once per theme; new data and a new
 * range only redraw. Owned by its component: destroyed when that goes.
 */
import { useComputedColorScheme } from "@mantine/core";
import { useEffect, useMemo, useRef } from "react";
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

const cssColor = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const dataOf = (props: ChartProps): uPlot.AlignedData => [
  [...props.time],
  ...props.lines.map((line) => [...line.values]),
];

/** one width for all, so that the same moment stands at the same place in charts above each other */
const AXIS = 58;
const POWERS = Array.from({ length: 42 }, (_, n) => 2 ** n);

export const Chart = (props: ChartProps) => {
  const { lines, title, syncKey, height = 132 } = props;
  const scheme = useComputedColorScheme("light");
  const host = useRef<HTMLDivElement>(null);
  const legend = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const shape = useMemo(
    () => lines.map((line) => `${line.label}:${line.color}:${line.scale ?? ""}`).join("|"),
    [lines],
  );

  const showFigures = (index: number | null | undefined): void => {
    const spots = legend.current?.querySelectorAll("[data-figure]");
    if (spots === undefined) return;
    const { lines: now, time } = latest.current;
    const at = index ?? time.length - 1;
    for (const [n, spot] of [...spots].entries()) {
      const line = now[n];
      const text = line === undefined ? "" : line.format(line.values[at] ?? null);
      if (spot.textContent !== text) spot.textContent = text;
    }
  };

  useEffect(() => {
    const element = host.current;
    if (element === null) return;
    const made = latest.current;
    const text = cssColor("--text-3");
    const grid = cssColor("--grid");
    const font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const first = made.lines.find((line) => line.scale === undefined) ?? made.lines[0];
    const format = (value: number): string => (first === undefined ? "" : value === 0 ? "0" : first.format(value));
    const axis = { stroke: text, font, ticks: { show: false }, grid: { stroke: grid, width: 1 } };
    const options: uPlot.Options = {
      width: element.clientWidth,
      height,
      ms: 1,
      padding: [6, 8, 0, 0],
      legend: { show: false },
      cursor: {
        sync: { key: syncKey, setSeries: false },
        drag: { x: false, y: false },
        points: { size: 5 },
        y: false,
      },
      scales: {
        x: { time: true, range: () => [latest.current.from, latest.current.to] },
        y: {
          range: (_, __, max) => [
            0,
            Math.max((max ?? 0) * 1.12, latest.current.least ?? 0, (latest.current.level?.value ?? 0) * 1.05, 1e-9),
          ],
        },
        ratio: { range: (_, __, max) => [0, Math.min(1, Math.max((max ?? 0) * 1.2, 0.1))] },
      },
      axes: [
        {
          ...axis,
          size: 22,
          gap: 3,
          space: 70,
          values: (_, splits) => splits.map((at) => formatTick(at, latest.current)),
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
        setCursor: [(u) => showFigures(u.cursor.idx)],
        draw: [(u) => drawLevel(u, latest.current.level, cssColor("--text-3"))],
      },
    };
    const chart = new uPlot(options, dataOf(made), element);
    plot.current = chart;
    showFigures(null);
    const observer = new ResizeObserver(() => {
      if (element.clientWidth > 0 && element.clientWidth !== chart.width)
        chart.setSize({ width: element.clientWidth, height });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      chart.destroy();
      plot.current = null;
    };
  }, [scheme, shape, syncKey, height]);

  useEffect(() => {
    plot.current?.setData(dataOf(props));
    showFigures(plot.current?.cursor.idx);
  }, [props.time, props.lines, props.from, props.to]);

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
