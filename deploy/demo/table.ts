/** The check's result as a table for a terminal: one row per fault, figures beside their bars, notes below. Pure. */
import { bars, type Truth, type Verdict } from "./truth.ts";

const figure = (value: number | null, bar: number | null): string => {
  const shown = value === null ? "-" : value.toFixed(1);
  if (bar === null) return shown;
  const holds = value !== null && value <= bar;
  return `${shown} (${holds ? "" : "not "}<= ${bar})`;
};

const cause = (truth: Truth | null): string => (truth === null ? "none" : `${truth.service}: ${truth.kind}`);

const columns = [
  "fault",
  "suspicion, s",
  "incident and webhook, s",
  "cause named",
  "cause expected",
  "verdict",
  "recovery, s",
];

const row = (verdict: Verdict): readonly string[] => {
  const bar = bars[verdict.fault];
  return [
    verdict.fault,
    figure(verdict.suspicion, bar.suspicion),
    figure(verdict.open, bar.open),
    cause(verdict.named),
    cause(verdict.expected),
    verdict.right ? "right" : "wrong",
    figure(verdict.recovery, bar.recovery),
  ];
};

export const formatTable = (verdicts: readonly Verdict[]): string => {
  const rows = [columns, ...verdicts.map(row)];
  const widths = columns.map((_, index) => Math.max(...rows.map((cells) => cells[index]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, index) => cell.padEnd(widths[index] ?? 0))
      .join("  ")
      .trimEnd();
  const [head = [], ...body] = rows;
  const notes = verdicts.flatMap((verdict) => verdict.notes.map((note) => `${verdict.fault}: ${note}`));
  const right = verdicts.filter((verdict) => verdict.right).length;
  const late = verdicts.filter((verdict) => verdict.late.length > 0).length;
  return [
    line(head),
    line(widths.map((width) => "-".repeat(width))),
    ...body.map(line),
    ...(notes.length === 0 ? [] : ["", ...notes]),
    "",
    `${right} of ${verdicts.length} right, ${verdicts.length - late} of ${verdicts.length} within every bar`,
  ].join("\n");
};
