// @ts-check
/**
 * Brings a fresh machine to where the project can be built, run and tested: node_modules by npm, and Debian packages by
 * apt-get when run as root. Says what it does and what it could not do; without root, or without a network, the caller
 * goes on with what is there. What is already there costs a few file look-ups and no network.
 */
import { spawn } from "node:child_process";
import { accessSync, constants, existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { digest, readStamp, root, writeStamp } from "./fresh.mjs";

/**
 * How to see that a Debian package's part is there: a program on the PATH, or a file.
 * @typedef {{ readonly debian: string, readonly program?: string, readonly file?: string, readonly check?: () => boolean }} Need
 */

/** @param {string} name */
const onPath = (name) =>
  [...(process.env["PATH"] ?? "").split(delimiter), "/usr/local/sbin", "/usr/sbin", "/sbin"].some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return folder !== "";
    } catch {
      return false;
    }
  });

const postgresServer = () => {
  const base = "/usr/lib/postgresql";
  return existsSync(base) && readdirSync(base).some((version) => existsSync(join(base, version, "bin/initdb")));
};

/** What compiles the probe. @type {readonly Need[]} */
export const toolchain = [
  { debian: "clang", program: "clang" },
  { debian: "bpftool", program: "bpftool" },
  { debian: "gcc", program: "gcc" },
  { debian: "libc6-dev", file: "/usr/include/stdio.h" },
  { debian: "libbpf-dev", file: "/usr/include/bpf/bpf_helpers.h" },
  { debian: "libelf-dev", file: "/usr/include/libelf.h" },
  { debian: "zlib1g-dev", file: "/usr/include/zlib.h" },
];

/** What the demo watches, on its own loopback ports and data folders. @type {readonly Need[]} */
export const demoPrograms = [
  { debian: "nginx-light", program: "nginx" },
  { debian: "redis-server", program: "redis-server" },
  { debian: "postgresql", check: postgresServer },
  { debian: "python3", program: "python3" },
];

/** What the tests use besides. @type {readonly Need[]} */
export const testPrograms = [
  ...demoPrograms,
  { debian: "chromium", program: "chromium" },
  { debian: "wrk", program: "wrk" },
  { debian: "openssl", program: "openssl" },
  { debian: "wget", program: "wget" },
  { debian: "curl", program: "curl" },
  { debian: "nghttp2-client", program: "h2load" },
  { debian: "nghttp2-proxy", program: "nghttpx" },
  { debian: "prometheus", program: "prometheus" },
  { debian: "iproute2", program: "ip" },
  { debian: "nftables", program: "nft" },
  { debian: "victoria-metrics", program: "victoria-metrics" },
  { debian: "mariadb-server", program: "mariadbd" },
  { debian: "memcached", program: "memcached" },
  { debian: "dnsmasq-base", program: "dnsmasq" },
  { debian: "default-jre-headless", program: "java" },
  { debian: "zookeeper", file: "/usr/share/java/zookeeper.jar" },
  { debian: "nats-server", program: "nats-server" },
  { debian: "rabbitmq-server", program: "rabbitmq-server" },
  { debian: "clickhouse-server", program: "clickhouse-server" },
  { debian: "clickhouse-client", program: "clickhouse-client" },
];

/** @param {Need} need */
const present = (need) =>
  (need.program === undefined || onPath(need.program)) &&
  (need.file === undefined || existsSync(need.file)) &&
  (need.check === undefined || need.check());

/**
 * Debian packages whose parts are missing.
 * @param {readonly Need[]} needs
 * @param {(need: Need) => boolean} there
 */
export const missingPackages = (needs, there = present) =>
  needs.filter((need) => !there(need)).map((need) => need.debian);

/**
 * What to do about missing packages; pure, so that the rule is tested.
 * @param {{ missing: readonly string[], uid: number, apt: boolean, lastTry: { packages: string, at: number } | null, now: number }} seen
 * @returns {{ action: "nothing" } | { action: "install", packages: readonly string[] } | { action: "without", reason: string }}
 */
export const decidePackages = ({ missing, uid, apt, lastTry, now }) => {
  if (missing.length === 0) return { action: "nothing" };
  const names = missing.join(" ");
  if (!apt) return { action: "without", reason: `missing: ${names} (no apt-get here; install them by hand)` };
  if (uid !== 0)
    return { action: "without", reason: `missing: ${names} (not root; run: sudo apt-get install -y ${names})` };
  const hours = lastTry === null ? Infinity : (now - lastTry.at) / 3_600_000;
  if (lastTry !== null && lastTry.packages === names && hours < 24)
    return {
      action: "without",
      reason: `missing: ${names} (apt-get failed ${hours < 1 ? "less than an hour" : `${Math.round(hours)} h`} ago; run: apt-get install -y ${names})`,
    };
  return { action: "install", packages: missing };
};

/**
 * Runs a program quietly; its output is shown only when it fails.
 * @param {string} program
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv }} [options]
 * @returns {Promise<{ code: number, output: string }>}
 */
export const quietly = (program, args, options = {}) =>
  new Promise((resolve) => {
    const child = spawn(program, [...args], {
      cwd: options.cwd ?? root,
      env: options.env ?? process.env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (/** @type {string} */ text) => {
        output += text;
      });
    child.on("error", (error) => resolve({ code: 127, output: `${program}: ${error.message}\n` }));
    child.on("close", (code, signal) =>
      resolve({ code: code ?? 128, output: signal === null ? output : `${output}${signal}\n` }),
    );
  });

/** @param {string} text @param {number} lines */
export const lastLines = (text, lines) => text.trimEnd().split("\n").slice(-lines).join("\n");

/**
 * Installs without starting services: Debian starts a server when its package arrives, and nobody asked for one here.
 * @param {readonly string[]} packages
 */
const aptInstall = async (packages) => {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const quiet = ["-qq", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=2"];
  const policy = "/usr/sbin/policy-rc.d";
  const ours = !existsSync(policy);
  if (ours) writeFileSync(policy, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  try {
    const updated = await quietly("apt-get", [...quiet, "update"], { env });
    const installed = await quietly("apt-get", [...quiet, "install", "-y", "--no-install-recommends", ...packages], {
      env,
    });
    return { code: installed.code, output: `${updated.code === 0 ? "" : updated.output}${installed.output}` };
  } finally {
    if (ours) rmSync(policy, { force: true });
  }
};

const stampPath = join(root, "dist/.prepared.json");

/**
 * Installs what is missing of these when it may; answers what is still missing and why, or null.
 * @param {readonly Need[]} needs
 * @param {(message: string) => void} log
 * @returns {Promise<string | null>}
 */
export const ensurePackages = async (needs, log) => {
  const tried = readStamp(stampPath)["apt"];
  const decision = decidePackages({
    missing: missingPackages(needs),
    uid: process.getuid?.() ?? -1,
    apt: onPath("apt-get"),
    lastTry: tried === undefined ? null : JSON.parse(tried),
    now: Date.now(),
  });
  if (decision.action === "nothing") return null;
  if (decision.action === "without") return decision.reason;
  const names = decision.packages.join(" ");
  log(`installing Debian packages as root: ${names}`);
  const { code, output } = await aptInstall(decision.packages);
  const left = missingPackages(needs);
  if (left.length === 0) {
    writeStamp(stampPath, "apt", null);
    return null;
  }
  writeStamp(stampPath, "apt", JSON.stringify({ packages: left.join(" "), at: Date.now() }));
  log(lastLines(output, 4));
  return `missing: ${left.join(" ")} (apt-get ended with ${code})`;
};

/** @param {string} base */
const wanted = (base) => digest(base, ["package.json", "package-lock.json"]);

/**
 * Whether node_modules is what the lockfile says.
 * @param {string} base
 */
export const modulesFresh = (base = root) =>
  readStamp(join(base, "node_modules/.coroot.json"))["lock"] === wanted(base);

/** Notes that node_modules is what the lockfile says now. @param {string} base */
export const markModules = (base = root) => writeStamp(join(base, "node_modules/.coroot.json"), "lock", wanted(base));

/**
 * Installs node_modules when absent or older than the lockfile. Throws with npm's last lines when that fails.
 * @param {(message: string) => void} log
 */
export const ensureModules = async (log) => {
  if (modulesFresh()) return;
  log("installing node modules (npm install)");
  const { code, output } = await quietly("npm", ["install", "--no-audit", "--no-fund", "--loglevel=error"]);
  if (code !== 0) throw new Error(`npm install ended with ${code}:\n${lastLines(output, 12)}`);
  markModules();
};

/** Refuses an old Node with one clear line. */
export const checkNode = () => {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major > 20 || (major === 20 && minor >= 20)) return;
  console.error(`coroot: needs Node 20.20 or newer, this is ${process.versions.node}`);
  process.exit(1);
};
