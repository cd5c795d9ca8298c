/** `coroot logs`: log lines that a running server keeps, oldest first as in a file, or their patterns. Read only. */
import { askJson, type Fields, isFields, listOf, numberOf, serverAddress, textOf } from "./ask.ts";
import { CommandError, EXIT, type Values } from "./command.ts";
import { table } from "./table.ts";
import { instant, oneLine, since } from "./text.ts";

const PAGE = 1_000;
const MOST_LINES = 100_000;
const TIMEOUT_MS = 60_000;

const print = (text: string): void => void process.stdout.write(`${text}\n`);

/** a=1,b!=2 as they go to the server; a value may hold a comma that no name follows. */
const attributesOf = (text: string | undefined): readonly string[] =>
  text === undefined ? [] : text.split(/,(?=[^,=]+=)/).map((one) => one.trim());

const parametersOf = (values: Values, nowMs: number): URLSearchParams => {
  const parameters = new URLSearchParams();
  const to = values.text("until") === undefined ? nowMs : since("until", values.text("until") ?? "", nowMs);
  parameters.set("from", String(since("since", values.text("since") ?? "1h", nowMs)));
  parameters.set("to", String(to));
  if (values.operands.length > 0) parameters.set("q", values.operands.join(" "));
  for (const service of values.text("service")?.split(",") ?? []) parameters.append("service", service.trim());
  for (const attribute of attributesOf(values.text("attr"))) parameters.append("attr", attribute);
  for (const [flag, name] of [
    ["severity", "severity"],
    ["trace", "traceId"],
    ["pattern", "pattern"],
  ] as const) {
    const value = values.text(flag);
    if (value !== undefined) parameters.set(name, value);
  }
  return parameters;
};

const lineText = (line: Fields): string =>
  [
    instant(numberOf(line, "at") ?? 0),
    textOf(line, "severity").toUpperCase().padEnd(7),
    oneLine(textOf(line, "service")),
    oneLine(textOf(line, "body")),
  ].join("  ");

const patterns = async (server: URL, values: Values, parameters: URLSearchParams): Promise<number> => {
  parameters.set("limit", String(Math.min(500, values.number("limit") ?? 50)));
  const answer = await askJson(server, `/api/logs/patterns?${parameters.toString()}`, { timeoutMs: TIMEOUT_MS });
  if (!isFields(answer) || !Array.isArray(answer["patterns"])) throw notOurs;
  const found = listOf(answer, "patterns");
  if (values.on("json")) for (const group of found) print(JSON.stringify(group));
  else if (found.length === 0) print("no lines");
  else
    print(
      table<Fields>(
        [
          { title: "LINES", cell: (row) => textOf(row, "count"), right: true },
          { title: "SEVERITY", cell: (row) => textOf(row, "severity") },
          { title: "FIRST", cell: (row) => instant(numberOf(row, "first") ?? 0) },
          { title: "LAST", cell: (row) => instant(numberOf(row, "last") ?? 0) },
          { title: "PATTERN", cell: (row) => textOf(row, "pattern") },
          { title: "SAMPLE", cell: (row) => oneLine(textOf(row, "sample")) },
        ],
        found,
      ),
    );
  const all = numberOf(answer, "found") ?? 0;
  if (all > found.length) process.stderr.write(`there are more: only ${found.length} of ${all} patterns are shown\n`);
  return EXIT.ok;
};

const notOurs = new CommandError(EXIT.failure, "the answer has no lines", "is this a Coroot server?");

export const logs = async (values: Values): Promise<number> => {
  const server = serverAddress(values.text("server"));
  const parameters = parametersOf(values, Date.now());
  if (values.on("patterns")) return patterns(server, values, parameters);
  const most = Math.min(MOST_LINES, values.number("limit") ?? 100);
  const found: Fields[] = [];
  let next: string | null = null;
  do {
    parameters.set("limit", String(Math.max(1, Math.min(PAGE, most - found.length))));
    const answer = await askJson(server, `/api/logs?${parameters.toString()}`, { timeoutMs: TIMEOUT_MS });
    if (!isFields(answer) || !Array.isArray(answer["rows"])) throw notOurs;
    found.push(...listOf(answer, "rows"));
    next = typeof answer["next"] === "string" ? answer["next"] : null;
    parameters.set("cursor", next ?? "");
  } while (next !== null && found.length < most);
  const lines = found.toReversed();
  if (values.on("json")) for (const line of lines) print(JSON.stringify(line));
  else print(lines.length === 0 ? "no lines" : lines.map(lineText).join("\n"));
  if (next !== null) process.stderr.write(`there are more: only the last ${lines.length} lines are shown\n`);
  return EXIT.ok;
};
