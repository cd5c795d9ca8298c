/** `coroot query`: read-only SQL, run by the server that owns the store. */
import { askJson, isFields, serverAddress, textOf } from "./ask.ts";
import { CommandError, EXIT, type Values } from "./command.ts";
import { table } from "./table.ts";

const TABLES = `SELECT table, name AS column, type FROM system.columns
WHERE database = currentDatabase() ORDER BY table, position`;

/** a=1,b=2 as names and values; a value may hold "=", and a comma that no name follows. */
const paramsOf = (text: string | undefined): Readonly<Record<string, string>> => {
  if (text === undefined) return {};
  const params: Record<string, string> = {};
  for (const part of text.split(/,(?=\w+=)/)) {
    const at = part.indexOf("=");
    if (at < 1)
      throw new CommandError(EXIT.usage, `--param takes NAME=VALUE, not "${part}"`, "see: coroot query --help");
    params[part.slice(0, at)] = part.slice(at + 1);
  }
  return params;
};

const cellText = (value: unknown): string =>
  value === null ? "" : typeof value === "string" ? value : JSON.stringify(value);

export const query = async (values: Values): Promise<number> => {
  const [sql = TABLES, ...more] = values.operands;
  if (more.length > 0)
    throw new CommandError(EXIT.usage, "query takes one text", "put it in quotes: coroot query 'SELECT 1'");
  const rows = values.number("rows");
  const answer = await askJson(serverAddress(values.text("server")), "/api/query", {
    method: "POST",
    body: { sql, params: paramsOf(values.text("param")), ...(rows === undefined ? {} : { rows }) },
    timeoutMs: 60_000,
  });
  if (!isFields(answer) || !Array.isArray(answer["columns"]) || !Array.isArray(answer["rows"]))
    throw new CommandError(EXIT.failure, "the answer has no columns and rows", "is this a Coroot server?");
  const names = answer["columns"].filter(isFields).map((column) => textOf(column, "name"));
  const found = answer["rows"].filter((row): row is readonly unknown[] => Array.isArray(row));
  if (values.on("json"))
    for (const row of found)
      process.stdout.write(`${JSON.stringify(Object.fromEntries(names.map((name, i) => [name, row[i] ?? null])))}\n`);
  else {
    const columns = names.map((title, i) => ({ title, cell: (row: readonly unknown[]) => cellText(row[i] ?? null) }));
    process.stdout.write(found.length === 0 ? "no rows\n" : `${table(columns, found)}\n`);
  }
  if (answer["truncated"] === true) process.stderr.write(`there are more: only ${found.length} rows are shown\n`);
  return EXIT.ok;
};
