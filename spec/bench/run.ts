/**
 * `npm run bench -- <group> [--json] [--long] [--only <id>]`: measures the figures of a group (a folder here; "all" for
 * every one) and prints one row for each, also for one that failed or found no time. A run ends within ten minutes.
 * With --long each figure runs whole; rows are appended to results/<group>.jsonl as they come, and those that the file
 * already has for this commit are not measured again, so that an interrupted run goes on where it was.
 */
import { execFileSync } from "node:child_process";
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { cpus, hostname, loadavg, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { type Figure, isFigure, type Measured, type Row, toRow } from "./figure.ts";

const here = dirname(fileURLToPath(import.meta.url));
const RUN_MS = 9.5 * 60_000;
const LONG_FIGURE_MS = 60 * 60_000;

const err = (line: string): void => void process.stderr.write(`${line}\n`);
const out = (line: string): void => void process.stdout.write(`${line}\n`);

export const groupsIn = (folder: string): readonly string[] =>
  readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name !== "results")
    .map((entry) => entry.name)
    .sort();

export const figuresOf = async (folder: string): Promise<readonly Figure[]> => {
  const files = readdirSync(folder)
    .filter((name) => name.endsWith(".ts"))
    .sort();
  const modules: readonly { readonly figures?: unknown }[] = await Promise.all(
    files.map((name) => import(pathToFileURL(join(folder, name)).href)),
  );
  return modules.flatMap((module, index) => {
    if (module.figures === undefined) return [];
    if (!Array.isArray(module.figures) || !module.figures.every(isFigure))
      throw new Error(`${join(folder, files[index] ?? "")}: "figures" must be a list of figures`);
    return module.figures;
  });
};

/** Runs one figure within `limitMs`; an error or the end of its time is a value null with the reason. */
export const measureWithin = async (figure: Figure, long: boolean, limitMs: number): Promise<Measured> => {
  if (limitMs <= 0) return { value: null, reason: "the run's time was over before its turn" };
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Measured>((resolve) => {
    timer = setTimeout(() => {
      controller.abort();
      resolve({ value: null, reason: `did not end within ${Math.round(limitMs / 1000)} s` });
    }, limitMs);
  });
  const measured = figure
    .measure({ long, log: (line) => err(`  ${figure.id}: ${line}`), signal: controller.signal })
    .catch(
      (error: unknown): Measured => ({
        value: null,
        reason: error instanceof Error ? error.message : String(error),
      }),
    );
  try {
    return await Promise.race([measured, late]);
  } finally {
    clearTimeout(timer);
  }
};

const rounded = (value: number | null): string =>
  value === null ? "null" : Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));

const cells = (row: Row): readonly string[] => [
  row.id,
  row.figure,
  rounded(row.value),
  row.unit,
  row.bar,
  row.holds ? "yes" : "no",
  row.load.toFixed(2),
];

/** The rows as a table, with the reason or detail under a row that has one. */
export const asTable = (rows: readonly Row[]): string => {
  const head = ["id", "figure", "value", "unit", "bar", "holds", "load"];
  const lines = [head, ...rows.map(cells)];
  const widths = head.map((_, index) => Math.max(...lines.map((line) => line[index]?.length ?? 0)));
  const print = (line: readonly string[]): string =>
    line
      .map((text, index) => text.padEnd(widths[index] ?? 0))
      .join("  ")
      .trimEnd();
  return [
    print(head),
    ...rows.flatMap((row) => {
      const note = row.reason ?? row.detail;
      return note === undefined ? [print(cells(row))] : [print(cells(row)), `    ${note}`];
    }),
  ].join("\n");
};

const git = (...args: readonly string[]): string => {
  try {
    return execFileSync("git", ["-C", here, ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return "unknown";
  }
};

/** Ids that the results file has a value for at this commit. */
export const alreadyMeasured = (text: string, commit: string): ReadonlySet<string> =>
  new Set(
    text
      .split("\n")
      .filter((line) => line.trim() !== "")
      .map((line): { readonly id?: string; readonly commit?: string; readonly value?: number | null } =>
        JSON.parse(line),
      )
      .flatMap((row) =>
        row.commit === commit && typeof row.value === "number" && row.id !== undefined ? [row.id] : [],
      ),
  );

const resultsOf = (group: string): string => join(here, "results", `${group}.jsonl`);

const keep = (group: string, row: Row, commit: string): void => {
  mkdirSync(join(here, "results"), { recursive: true });
  const machine = `${hostname()}, ${cpus().length} x ${cpus()[0]?.model ?? "?"}, ${Math.round(totalmem() / 2 ** 30)} GiB`;
  appendFileSync(resultsOf(group), `${JSON.stringify({ ...row, date: new Date().toISOString(), commit, machine })}\n`);
};

interface Asked {
  readonly groups: readonly string[];
  readonly json: boolean;
  readonly long: boolean;
  readonly only: string | undefined;
}

const measureAll = async (asked: Asked): Promise<readonly Row[]> => {
  const until = performance.now() + RUN_MS;
  const commit = git("describe", "--always", "--dirty", "--abbrev=12");
  const rows: Row[] = [];
  for (const group of asked.groups) {
    const figures = (await figuresOf(join(here, group))).filter(
      (one) => asked.only === undefined || one.id === asked.only,
    );
    const results = resultsOf(group);
    const done =
      asked.long && existsSync(results) ? alreadyMeasured(readFileSync(results, "utf8"), commit) : new Set<string>();
    for (const figure of figures) {
      if (done.has(figure.id)) {
        err(`${figure.id}: measured before at this commit, see ${results}`);
        continue;
      }
      err(`${figure.id}: measuring`);
      const limit = asked.long ? LONG_FIGURE_MS : until - performance.now();
      const row = toRow(figure, await measureWithin(figure, asked.long, limit), loadavg()[0] ?? 0);
      rows.push(row);
      if (asked.long) keep(group, row, commit);
      if (asked.json) out(JSON.stringify(row));
    }
  }
  return rows;
};

const usage = (groups: readonly string[]): string =>
  `usage: npm run bench -- <group> [--json] [--long] [--only <id>]\ngroups: ${groups.join(", ")}, all`;

const main = async (args: readonly string[]): Promise<number> => {
  const groups = groupsIn(here);
  let parsed;
  try {
    parsed = parseArgs({
      args: [...args],
      options: {
        json: { type: "boolean", default: false },
        long: { type: "boolean", default: false },
        only: { type: "string" },
        help: { type: "boolean", default: false },
      },
      allowPositionals: true,
    });
  } catch (error) {
    err(`bench: ${error instanceof Error ? error.message : String(error)}\n${usage(groups)}`);
    return 2;
  }
  const { values, positionals } = parsed;
  if (values.help) {
    out(usage(groups));
    return 0;
  }
  const [group, ...more] = positionals;
  if (group === undefined || more.length > 0 || (group !== "all" && !groups.includes(group))) {
    err(
      `${group === undefined ? "bench: which group?" : `bench: no group "${positionals.join(" ")}"`}\n${usage(groups)}`,
    );
    return 2;
  }
  const asked = { groups: group === "all" ? groups : [group], json: values.json, long: values.long, only: values.only };
  const rows = await measureAll(asked);
  if (asked.only !== undefined && rows.length === 0 && !asked.long) {
    err(`bench: ${group} has no figure "${asked.only}"`);
    return 2;
  }
  if (!asked.json && rows.length > 0) out(asTable(rows));
  return 0;
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.exitCode = await main(process.argv.slice(2));
  // a figure whose time was over may still hold a socket or a child: the run ends all the same
  process.exit();
}
