// @ts-check
/**
 * `npm test`: installs what is missing, checks (types, lint, import order, formatting), builds (probe, bundle, page) and
 * runs every spec: the parallel ones, then those that use the machine one file at a time. A check or build that fails
 * counts as one failed. Skips are listed with their reasons. The last line is always "N passed, N failed[, N skipped]";
 * the exit code is 1 on any failure. Arguments go to the specs' runner: npm test -- spec/deploy
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "./build.mjs";
import { root } from "./fresh.mjs";
import { checkNode, ensureModules, ensurePackages, lastLines, quietly, testPrograms, toolchain } from "./prepare.mjs";

/** @typedef {{ passed: number, failed: number, skipped: number }} Tally */
/** @typedef {{ name: string, ok: boolean, output: string }} Check */

/** @param {string} message */
const say = (message) => console.log(message);

/** @param {string} name @param {string} script @param {readonly string[]} args */
const check = async (name, script, args) => {
  const started = performance.now();
  const { code, output } = await quietly(process.execPath, [join(root, "node_modules", script), ...args]);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  say(code === 0 ? `ok      ${name} (${seconds} s)` : `FAILED  ${name} (${seconds} s)\n${lastLines(output, 60)}`);
  return { name, ok: code === 0, output };
};

const sources = ["schemas", "runtime", "actors", "agent", "ui", "deploy", "spec"];

/** Two at a time: the type checker and the linter are quick, the import check takes one core for some seconds. */
const runChecks = async () => [
  ...(await Promise.all([
    check("types (tsc)", "typescript/bin/tsc", ["-p", "."]),
    check("lint (oxlint)", "oxlint/bin/oxlint", ["."]),
  ])),
  ...(await Promise.all([
    check("import order (dependency-cruiser)", "dependency-cruiser/bin/dependency-cruise.mjs", [
      "--config",
      ".dependency-cruiser.cjs",
      "--output-type",
      "err",
      ...sources,
    ]),
    check("formatting (prettier)", "prettier/bin/prettier.cjs", ["--check", "--log-level", "warn", "."]),
  ])),
];

/**
 * Whether "off for want of a toolchain" counts as a failure here.
 * @param {string | undefined} required COROOT_REQUIRE
 */
export const probeRequired = (required) =>
  (required ?? "").split(",").some((name) => ["toolchain", "bpf"].includes(name.trim()));

/** "needs redis: …" of a title that describeWith or itWith gave a reason. @param {string} title */
const reasonOf = (title) => /\[(needs [^\]]+)\]/.exec(title)?.[1];

/**
 * Counts of one run of the specs' runner, from its JSON report. A file that did not even load, or an error outside of
 * any test, counts as one failed.
 * @param {any} report
 * @returns {Tally & { skips: readonly { title: string, file: string }[], failures: readonly string[] }}
 */
export const readReport = (report) => {
  /** @type {{ title: string, file: string }[]} */
  const skips = [];
  /** @type {string[]} */
  const failures = [];
  let passed = 0;
  for (const file of report.testResults ?? []) {
    const name = String(file.name).replace(`${root}/`, "");
    const before = failures.length;
    for (const test of file.assertionResults ?? []) {
      const title = [...(test.ancestorTitles ?? []), test.title].filter((part) => part !== "").join(" > ");
      if (test.status === "passed") passed += 1;
      else if (test.status === "failed") failures.push(`${name} > ${title}`);
      // what a failed hook kept from running is reported as skipped: it is no skip of ours
      else if (file.status === "failed" && !reasonOf(title)) failures.push(`${name} > ${title} (did not run)`);
      else skips.push({ title, file: name });
    }
    if (file.status === "failed" && failures.length === before) failures.push(`${name} (did not run)`);
  }
  if (report.success === false && failures.length === 0) failures.push("an error outside of any test");
  return { passed, failed: failures.length, skipped: skips.length, skips, failures };
};

/**
 * Skips grouped by reason: "[needs redis: no redis-server on PATH]" in a title, else the title itself.
 * @param {readonly { title: string, file: string }[]} skips
 * @returns {readonly string[]}
 */
export const skipLines = (skips) => {
  /** @type {Map<string, { count: number, files: Set<string> }>} */
  const groups = new Map();
  for (const { title, file } of skips) {
    const reason = reasonOf(title) ?? `"${title}" states no reason`;
    const group = groups.get(reason) ?? { count: 0, files: new Set() };
    group.count += 1;
    group.files.add(file);
    groups.set(reason, group);
  }
  return [...groups].map(([reason, { count, files }]) => `${count} skipped: ${reason} (${[...files].join(", ")})`);
};

/** @param {Tally} tally */
export const closingLine = ({ passed, failed, skipped }) =>
  `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;

/**
 * @param {string} project
 * @param {readonly string[]} flags
 * @param {readonly string[]} filters
 */
const runSpecs = async (project, flags, filters) => {
  const folder = mkdtempSync(join(tmpdir(), "coroot-test-"));
  const outputFile = join(folder, "report.json");
  const args = [
    join(root, "node_modules/vitest/vitest.mjs"),
    "run",
    `--project=${project}`,
    "--reporter=default",
    "--reporter=json",
    `--outputFile.json=${outputFile}`,
    "--silent=passed-only",
    "--passWithNoTests",
    ...flags,
    ...filters,
  ];
  try {
    const code = await new Promise((resolve) => {
      const child = spawn(process.execPath, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
      child.on("close", (exit) => resolve(exit ?? 128));
      child.on("error", () => resolve(127));
    });
    /** @type {ReturnType<typeof readReport>} */
    let result;
    try {
      result = readReport(JSON.parse(readFileSync(outputFile, "utf8")));
    } catch {
      return { passed: 0, failed: 1, skipped: 0, skips: [], failures: [`the ${project} specs' runner gave no report`] };
    }
    if (code !== 0 && result.failed === 0)
      return { ...result, failed: 1, failures: [`the ${project} specs' runner ended with ${code}`] };
    return result;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};

/** @param {readonly string[]} filters */
const main = async (filters) => {
  checkNode();
  if (!process.stdout.isTTY) process.env["NO_COLOR"] = "1";
  const missing = await ensurePackages([...toolchain, ...testPrograms], say);
  if (missing !== null) say(missing);
  await ensureModules(say);
  const checks = await runChecks();
  const built = await build({ log: say });
  const probe = built.find((result) => result.part === "probe");
  const buildFailures = built
    .filter(
      (result) => result.state === "failed" || (result.state === "off" && probeRequired(process.env["COROOT_REQUIRE"])),
    )
    .map((result) => `build of the ${result.part}`);
  const workers = String(Math.max(1, Math.min(4, availableParallelism())));
  const runs = [
    await runSpecs("unit", [`--maxWorkers=${workers}`], filters),
    await runSpecs("machine", ["--no-file-parallelism"], filters),
  ];
  const failures = [
    ...checks.filter((one) => !one.ok).map((one) => one.name),
    ...buildFailures,
    ...runs.flatMap((run) => run.failures),
  ];
  const passedSteps =
    checks.filter((one) => one.ok).length + built.filter((one) => ["fresh", "built"].includes(one.state)).length;
  const probeOff = probe?.state === "off" && !probeRequired(process.env["COROOT_REQUIRE"]);
  const tally = {
    passed: passedSteps + runs.reduce((sum, run) => sum + run.passed, 0),
    failed: failures.length,
    skipped: (probeOff ? 1 : 0) + runs.reduce((sum, run) => sum + run.skipped, 0),
  };
  say("");
  if (probeOff) say(`1 skipped: build of the probe: ${probe.reason}`);
  for (const line of skipLines(runs.flatMap((run) => run.skips))) say(line);
  for (const failure of failures) say(`FAILED  ${failure}`);
  say(closingLine(tally));
  return tally.failed === 0 ? 0 : 1;
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.exitCode = await main(process.argv.slice(2));
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
    say(closingLine({ passed: 0, failed: 1, skipped: 0 }));
    process.exitCode = 1;
  }
}
