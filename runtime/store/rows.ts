/**
 * Rows of the server's own tables as JSON lines for an insert: picks the table's columns and writes milliseconds in the
 * form that each time column reads. Pure.
 */
import { TABLES, type DerivedRow, type DerivedTable, type TableName } from "../../schemas/tables.ts";

type Convert = (value: unknown) => unknown;

const converter = (type: string): Convert => {
  if (type.includes("DateTime64")) return (value) => (typeof value === "number" ? (value / 1000).toFixed(3) : null);
  if (type.includes("DateTime")) return (value) => (typeof value === "number" ? Math.floor(value / 1000) : null);
  return (value) => value ?? null;
};

const CONVERTERS = new Map(
  Object.values(TABLES).map((table) => [
    table.name as string,
    table.columns.map(({ name, type }) => [name, converter(type)] as const),
  ]),
);

export const columnsOf = (table: TableName): readonly string[] => TABLES[table].columns.map(({ name }) => name);

/** One line without its newline. */
export const rowLine = <T extends DerivedTable>(table: T, row: DerivedRow[T]): string => {
  const values = new Map<string, unknown>(Object.entries(row));
  const out: Record<string, unknown> = {};
  for (const [name, convert] of CONVERTERS.get(table) ?? []) out[name] = convert(values.get(name));
  return JSON.stringify(out);
};
