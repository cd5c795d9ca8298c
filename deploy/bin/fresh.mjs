// @ts-check
/**
 * Decides whether something that is made from files has to be made again: a digest over the inputs' paths and contents
 * against the one kept from the last time. Used by the build, start and test scripts, which run before anything is
 * installed, so it needs nothing but Node. A missing or broken stamp means "make it again". Holds one lock file while
 * building, freed on exit and taken over when its owner is gone.
 */
import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** the folder of package.json */
export const root = join(dirname(fileURLToPath(import.meta.url)), "../..");

/**
 * Every file under the given files and folders, in a stable order.
 * @param {string} base
 * @param {readonly string[]} paths
 * @param {(path: string) => boolean} leaveOut
 * @returns {string[]}
 */
export const filesUnder = (base, paths, leaveOut = () => false) => {
  /** @type {string[]} */
  const found = [];
  /** @param {string} path */
  const walk = (path) => {
    if (leaveOut(path)) return;
    const stat = statSync(join(base, path), { throwIfNoEntry: false });
    if (stat === undefined) return;
    if (stat.isFile()) found.push(path);
    else if (stat.isDirectory())
      for (const name of readdirSync(join(base, path)).sort()) if (name !== "node_modules") walk(`${path}/${name}`);
  };
  for (const path of paths) walk(path);
  return found;
};

/**
 * @param {string} base
 * @param {readonly string[]} files
 * @returns {string}
 */
export const digest = (base, files) => {
  const hash = createHash("sha256");
  for (const file of files) {
    const bytes = readFileSync(join(base, file));
    hash.update(`${file}\0${bytes.length}\0`).update(bytes);
  }
  return hash.digest("hex");
};

/**
 * @param {string} path
 * @returns {Record<string, string>}
 */
export const readStamp = (path) => {
  if (!existsSync(path)) return {};
  try {
    const value = JSON.parse(readFileSync(path, "utf8"));
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    // a half-written stamp says nothing about what was made: make it again
    return {};
  }
};

/**
 * @param {string} path
 * @param {string} key
 * @param {string | null} value null forgets the key
 */
export const writeStamp = (path, key, value) => {
  mkdirSync(dirname(path), { recursive: true });
  const { [key]: _old, ...others } = readStamp(path);
  const next = value === null ? others : { ...others, [key]: value };
  writeFileSync(`${path}.${process.pid}`, `${JSON.stringify(next, null, 2)}\n`);
  renameSync(`${path}.${process.pid}`, path);
};

/**
 * A process named so that a later one with the same number is another: number and start time. Null when it has ended.
 * @param {string} pid
 */
const identity = (pid) => {
  const file = `/proc/${pid}/stat`;
  if (!/^\d+$/.test(pid) || !existsSync(file)) return null;
  const fields = readFileSync(file, "utf8")
    .replace(/^.*\) /s, "")
    .split(" ");
  // one that has ended, though nobody has waited for it yet
  if (["Z", "X", "x"].includes(fields[0] ?? "")) return null;
  return `${pid} ${fields[19]}`;
};

/**
 * Runs `work` while no other process does the same. A lock whose owner has gone is taken over.
 * @template T
 * @param {string} path
 * @param {(message: string) => void} log
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export const withLock = async (path, log, work) => {
  mkdirSync(dirname(path), { recursive: true });
  let told = false;
  for (;;) {
    try {
      const handle = openSync(path, "wx");
      writeFileSync(handle, identity(String(process.pid)) ?? String(process.pid));
      closeSync(handle);
      break;
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
      const owner = existsSync(path) ? readFileSync(path, "utf8") : "";
      const [pid = ""] = owner.split(" ");
      const age = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
      if (pid === "" ? age > 5_000 : identity(pid) !== owner) rmSync(path, { force: true });
      else {
        if (!told) log(`waiting for process ${pid}, which is building`);
        told = true;
        await new Promise((resume) => setTimeout(resume, 200));
      }
    }
  }
  const free = () => rmSync(path, { force: true });
  process.once("exit", free);
  try {
    return await work();
  } finally {
    process.removeListener("exit", free);
    free();
  }
};
