/** Tables for a person: columns as wide as their widest cell, the last one free. Pure. */

export interface Column<Row> {
  readonly title: string;
  readonly cell: (row: Row) => string;
  readonly right?: boolean;
}

export const table = <Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string => {
  const cells = [
    columns.map((column) => column.title),
    ...rows.map((row) => columns.map((column) => column.cell(row))),
  ];
  const widths = columns.map((_, index) => Math.max(...cells.map((line) => line[index]?.length ?? 0)));
  return cells
    .map((line) =>
      line
        .map((text, index) => {
          const width = widths[index] ?? 0;
          return columns[index]?.right === true ? text.padStart(width) : text.padEnd(width);
        })
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
};

const units = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1_000],
] as const;

/** "3 min", "2 h": how long ago, in the largest whole unit. */
export const ago = (at: number | null, now: number): string => {
  if (at === null || at <= 0) return "";
  const past = Math.max(0, now - at);
  const unit = units.find(([, size]) => past >= size) ?? units[3];
  return `${Math.floor(past / unit[1])} ${unit[0]}`;
};

export const number = (value: number | null | undefined, digits = 1): string =>
  value === null || value === undefined ? "" : value.toFixed(value >= 100 ? 0 : digits);
