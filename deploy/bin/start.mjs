// @ts-check
/**
 * `npm start` and `npm run demo`: on a fresh clone installs node modules, builds what changed, and then runs the command
 * in this very process. Nothing changed: a digest over the sources is all that happens, and no network is needed. A page
 * or probe that cannot be built is said and left out; without the bundle there is nothing to run.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { build, staleParts } from "./build.mjs";
import { root } from "./fresh.mjs";
import { checkNode, ensureModules, ensurePackages, toolchain } from "./prepare.mjs";

/**
 * `npm start -- --port 9090` is `coroot start --port 9090`; a first word that is no flag names another command.
 * @param {readonly string[]} args
 * @returns {readonly string[]}
 */
export const commandLine = (args) => (args[0] === undefined || args[0].startsWith("-") ? ["start", ...args] : args);

/** Progress goes to stderr, so that a command's --json stays clean. @param {string} message */
const say = (message) => console.error(message);

/** @returns {Promise<boolean>} whether there is a bundle to run */
const prepare = async () => {
  checkNode();
  await ensureModules(say);
  const stale = staleParts();
  if (stale.length === 0) return true;
  if (stale.includes("probe")) {
    const missing = await ensurePackages(toolchain, say);
    if (missing !== null) say(`the probe cannot be built, so traffic is not observed: ${missing}`);
  }
  say(`building: ${stale.join(", ")}`);
  const results = await build({ log: say });
  return results.every((result) => result.part !== "bundle" || result.state !== "failed");
};

/** npm that is killed cannot pass it on: what it started ends as well, instead of running on unseen. */
const stopWithNpm = () => {
  if (process.env["npm_lifecycle_event"] === undefined) return;
  const npm = process.ppid;
  setInterval(() => {
    if (process.ppid !== npm) process.kill(process.pid, "SIGTERM");
  }, 1_000).unref();
};

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    if (!(await prepare())) process.exit(1);
  } catch (error) {
    say(`coroot: ${error instanceof Error ? error.message : String(error)}`);
    process.exit(1);
  }
  const bundle = join(root, "dist/coroot.mjs");
  if (!existsSync(bundle)) {
    say("coroot: dist/coroot.mjs is missing; build it with: npm run build");
    process.exit(1);
  }
  stopWithNpm();
  process.argv = [process.execPath, bundle, ...commandLine(process.argv.slice(2))];
  await import(pathToFileURL(bundle).href);
}
