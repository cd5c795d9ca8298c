// @ts-check
/**
 * Builds what runs, each part only when its inputs changed: the bundle (dist/coroot.mjs and lazily loaded chunks), the
 * page (dist/ui) and the probe (dist/probe). A part that cannot be built keeps its last good output and says why; the
 * probe is "off" where its toolchain is missing. Chunks of earlier builds stay for a day, since a running process may
 * still load one. Run: node deploy/bin/build.mjs [bundle|page|probe ...] [--force]
 */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { digest, filesUnder, readStamp, root, withLock, writeStamp } from "./fresh.mjs";
import { lastLines, quietly } from "./prepare.mjs";

/** @typedef {"bundle" | "page" | "probe"} Part */
/** @typedef {{ part: Part, state: "fresh" | "built" | "off" | "failed", reason: string, seconds: number }} Built */

const stampPath = join(root, "dist/.built.json");
const DAY_MS = 86_400_000;

/** Native or optional parts that are loaded from node_modules at run time. */
const external = [
  "chdb",
  "snappy",
  "bufferutil",
  "utf-8-validate",
  "msgpackr-extract",
  "pg-native",
  "@libsql/linux-*",
  "@libsql/darwin-*",
];

const bundle = async () => {
  const esbuild = await import("esbuild");
  const started = Date.now();
  await esbuild.build({
    absWorkingDir: root,
    entryPoints: { coroot: "deploy/bin/coroot.ts" },
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node20",
    outdir: "dist",
    outExtension: { ".js": ".mjs" },
    chunkNames: "chunks/[name]-[hash]",
    sourcemap: true,
    sourcesContent: false,
    external,
    logLevel: "silent",
    banner: {
      js: 'import { createRequire as corootRequire } from "node:module"; const require = corootRequire(import.meta.url);',
    },
  });
  const chunks = join(root, "dist/chunks");
  for (const name of existsSync(chunks) ? readdirSync(chunks) : []) {
    const stat = statSync(join(chunks, name), { throwIfNoEntry: false });
    if (stat !== undefined && stat.mtimeMs < started - DAY_MS) rmSync(join(chunks, name), { force: true });
  }
  return { code: 0, output: "" };
};

/** @param {string} text */
const firstError = (text) => lastLines(text.trim() === "" ? "no output" : text, 12);

/**
 * @type {Readonly<Record<Part, {
 *   inputs: readonly string[],
 *   output: string,
 *   make: () => Promise<{ code: number, output: string }>,
 * }>>}
 */
const parts = {
  bundle: {
    inputs: ["schemas", "runtime", "actors", "agent", "deploy", "package-lock.json", "package.json", "tsconfig.json"],
    output: "dist/coroot.mjs",
    make: bundle,
  },
  page: {
    inputs: ["ui", "schemas", "package-lock.json", "tsconfig.json"],
    output: "dist/ui/index.html",
    make: () => {
      const { NODE_ENV: _ours, ...env } = process.env;
      const vite = join(root, "node_modules/vite/bin/vite.js");
      return quietly(process.execPath, [vite, "build", "--config", "ui/vite.config.ts", "--logLevel", "error"], {
        env,
      });
    },
  },
  probe: {
    inputs: ["bpf"],
    output: "dist/probe",
    make: () => quietly(process.execPath, [join(root, "bpf/build.mjs"), "--out", "dist/probe"]),
  },
};

/** exit code of bpf/build.mjs where clang, bpftool, gcc or libbpf is missing */
const TOOLCHAIN_MISSING = 3;

/** @type {readonly Part[]} */
export const allParts = ["bundle", "page", "probe"];

/** Generated files beside the sources are no inputs. @param {string} path */
const generated = (path) => /\.(o|skel\.h|md)$/.test(path) || path.startsWith("deploy/helm");

/** @param {Part} part */
const inputDigest = (part) => {
  const self = createHash("sha256")
    .update(`${process.versions.node.split(".")[0]} ${process.arch}`)
    .digest("hex");
  return `${self.slice(0, 8)}${digest(root, filesUnder(root, [...parts[part].inputs, "deploy/bin/build.mjs"], generated))}`;
};

/**
 * The parts that have to be made again.
 * @param {readonly Part[]} which
 * @returns {readonly Part[]}
 */
export const staleParts = (which = allParts) => {
  const stamp = readStamp(stampPath);
  return which.filter((part) => !existsSync(join(root, parts[part].output)) || stamp[part] !== inputDigest(part));
};

/** @param {Part} part @returns {Promise<Built>} */
const make = async (part) => {
  const started = performance.now();
  const inputs = inputDigest(part);
  /** @param {Built["state"]} state @param {string} reason @returns {Built} */
  const result = (state, reason) => ({ part, state, reason, seconds: (performance.now() - started) / 1000 });
  try {
    const { code, output } = await parts[part].make();
    if (part === "probe" && code === TOOLCHAIN_MISSING) return result("off", firstError(output));
    if (code !== 0) return result("failed", firstError(output));
    if (!existsSync(join(root, parts[part].output))) return result("failed", `${parts[part].output} was not written`);
    writeStamp(stampPath, part, inputs);
    return result("built", "");
  } catch (error) {
    return result("failed", error instanceof Error ? error.message : String(error));
  }
};

/**
 * Builds what is stale (or all of `which` with force), one after the other, since a machine may have two cores.
 * @param {{ which?: readonly Part[], force?: boolean, log?: (message: string) => void }} [options]
 * @returns {Promise<readonly Built[]>}
 */
export const build = async ({ which = allParts, force = false, log = () => {} } = {}) => {
  const todo = () => (force ? which : staleParts(which));
  if (todo().length === 0) return which.map((part) => ({ part, state: "fresh", reason: "", seconds: 0 }));
  return withLock(join(root, "dist/.lock"), log, async () => {
    const stale = todo();
    /** @type {Built[]} */
    const results = [];
    for (const part of which) {
      if (!stale.includes(part)) {
        results.push({ part, state: "fresh", reason: "", seconds: 0 });
        continue;
      }
      const result = await make(part);
      log(`${part}: ${describe(result)}`);
      results.push(result);
    }
    return results;
  });
};

/** @param {Built} result */
const describe = (result) =>
  result.state === "built" ? `built in ${result.seconds.toFixed(1)} s` : `${result.state}\n${result.reason}`;

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const args = process.argv.slice(2);
  const names = args.filter((arg) => arg !== "--force");
  const which = allParts.filter((part) => names.length === 0 || names.includes(part));
  const unknown = names.filter((name) => !allParts.some((part) => part === name));
  if (unknown.length > 0) {
    console.error(`build: unknown part ${unknown.join(", ")}; parts are ${allParts.join(", ")}, flag --force`);
    process.exit(2);
  }
  const results = await build({ which, force: args.includes("--force"), log: (message) => console.log(message) });
  if (results.every((result) => result.state === "fresh")) console.log("nothing changed");
  process.exit(results.some((result) => result.state === "failed") ? 1 : 0);
}
