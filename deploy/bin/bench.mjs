// @ts-check
/**
 * `npm run bench -- <group>`: installs and builds what is missing, then runs spec/bench/run.ts. What it says besides the
 * figures goes to stderr, so that --json stays one object per line.
 */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { build } from "./build.mjs";
import { root } from "./fresh.mjs";
import { checkNode, ensureModules, ensurePackages, testPrograms, toolchain } from "./prepare.mjs";

/** @param {string} message */
const say = (message) => console.error(message);

checkNode();
const missing = await ensurePackages([...toolchain, ...testPrograms], say);
if (missing !== null) say(missing);
await ensureModules(say);
await build({ log: say });
const child = spawn(process.execPath, ["--import", "tsx", join(root, "spec/bench/run.ts"), ...process.argv.slice(2)], {
  cwd: root,
  stdio: "inherit",
});
// the terminal's Ctrl-C reaches the child as well: it ends first and tells how
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill("SIGTERM"));
child.on("close", (code) => process.exit(code ?? 1));
