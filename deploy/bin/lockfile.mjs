// @ts-check
/**
 * Completes package-lock.json after dependencies changed: npm leaves out platform packages that the registry at hand does
 * not carry, and then `npm ci` refuses the lockfile. Each such package gets an entry with its version, so that the right
 * one is installed on any platform. Run after npm install: npm run lock
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { root } from "./fresh.mjs";

/** @typedef {{ version?: string, dev?: boolean, optional?: boolean, optionalDependencies?: Record<string, string> }} Entry */
/** @typedef {{ packages: Record<string, Entry> }} Lock */

/** @param {string} path */
const packageName = (path) => path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length);

/**
 * Optional packages that are named by a locked package and have no entry of their own.
 * @param {Lock} lock
 * @returns {ReadonlyMap<string, Entry>} by lockfile path
 */
export const missingEntries = (lock) => {
  const known = new Set(Object.keys(lock.packages).map(packageName));
  /** @type {Map<string, Entry>} */
  const missing = new Map();
  for (const entry of Object.values(lock.packages))
    for (const [name, version] of Object.entries(entry.optionalDependencies ?? {}))
      if (!known.has(name))
        missing.set(`node_modules/${name}`, { version, ...(entry.dev === true ? { dev: true } : {}), optional: true });
  return missing;
};

/** @param {Lock} lock @returns {Lock} */
export const completeLock = (lock) => ({
  ...lock,
  packages: Object.fromEntries(
    [...Object.entries(lock.packages), ...missingEntries(lock)].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)),
  ),
});

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const path = join(root, "package-lock.json");
  const lock = JSON.parse(readFileSync(path, "utf8"));
  const missing = missingEntries(lock);
  if (missing.size > 0) writeFileSync(path, `${JSON.stringify(completeLock(lock), null, 2)}\n`);
  console.log(missing.size === 0 ? "the lockfile is complete" : `added ${missing.size} platform packages`);
}
