/** Figures and times for people, beyond schemas/units: what the page alone needs. Pure. */
import type { Evidence } from "../schemas/incident.ts";
import { formatBytes, formatDuration, formatMs, formatPercent as formatRatio, formatRate } from "../schemas/units.ts";

export { formatBytes, formatDuration, formatMs, formatRate };

/** A share that is small and not nothing must not read as nothing. */
export const formatPercent = (ratio: number | null): string =>
  ratio !== null && ratio > 0 && ratio < 0.0005 ? "<0.1 %" : formatRatio(ratio);

const two = (value: number): string => String(value).padStart(2, "0");

/** 14:03:09, in the reader's zone */
export const formatClock = (ms: number): string => {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
};

/** The time of day, with the day in front when it is not the day of `nowMs`. */
export const formatWhen = (ms: number, nowMs: number): string => {
  const at = new Date(ms);
  if (at.toDateString() === new Date(nowMs).toDateString()) return formatClock(ms);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${formatClock(ms)}`;
};

export const formatAgo = (ms: number, nowMs: number): string => {
  const age = nowMs - ms;
  return age < 1500 ? "now" : `${formatDuration(age)} ago`;
};

export const formatCores = (cores: number | null): string => {
  if (cores === null || !Number.isFinite(cores)) return "–";
  if (cores === 0) return "0";
  return cores < 0.005 ? "<0.01" : cores.toFixed(cores < 100 ? 2 : 0);
};

/** 12345 → "12,345", always with the same separators, whatever the reader's locale */
export const formatCount = (value: number | null): string => {
  if (value === null || !Number.isFinite(value)) return "–";
  const rounded = Math.abs(value) < 10 && !Number.isInteger(value) ? value.toFixed(1) : String(Math.round(value));
  return rounded.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
};

/** A figure by its unit. */
export const formatValue = (value: number | null, unit: Evidence["unit"]): string => {
  if (value === null || !Number.isFinite(value)) return "–";
  switch (unit) {
    case "ms":
      return formatMs(value);
    case "ratio":
      return formatPercent(value);
    case "percent":
      return formatPercent(value / 100);
    case "per_second":
      return formatRate(value);
    case "bytes":
      return formatBytes(value);
    case "cores":
      return `${formatCores(value)} cores`;
    case "count":
      return formatCount(value);
  }
};

/** A change with its sign: "+120 ms", "−3/s" */
export const formatChange = (value: number, unit: Evidence["unit"]): string =>
  `${value < 0 ? "−" : "+"}${formatValue(Math.abs(value), unit)}`;

/** Objectives are told apart in their last digits: 0.9995 → "99.95 %" */
export const formatObjective = (ratio: number): string => `${Number((ratio * 100).toFixed(4))} %`;

/** Name of a machine word: "failed_connects" → "failed connects" */
export const words = (name: string): string => name.replaceAll("_", " ");
