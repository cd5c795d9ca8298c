/**
 * The real programs that the shop is made of: where they are, and as root their installation from Debian. What cannot be
 * found or installed is reported with its package, and that part of the shop is off. Services that an installation would
 * start by itself are kept from starting. Holds nothing to stop.
 */
import { accessSync, constants, existsSync, readdirSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { run } from "./command.ts";

/** Debian package by program. */
export const packages = {
  nginx: "nginx-light",
  "redis-server": "redis-server",
  postgres: "postgresql",
  python3: "python3",
  ip: "iproute2",
  nsenter: "util-linux",
} as const;
export type Program = keyof typeof packages;
export const programs = Object.keys(packages).filter((name): name is Program => Object.hasOwn(packages, name));

const executable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
};

/** PostgreSQL's programs are not on PATH: the newest version's folder. */
export const postgresFolder = (): string | null => {
  const base = "/usr/lib/postgresql";
  const versions = existsSync(base) ? readdirSync(base).toSorted((a, b) => Number(b) - Number(a)) : [];
  const found = versions.map((version) => join(base, version, "bin")).find((bin) => executable(join(bin, "initdb")));
  return found ?? null;
};

export const findProgram = (name: Program): string | null => {
  if (name === "postgres") {
    const folder = postgresFolder();
    return folder === null ? null : join(folder, name);
  }
  // Debian's own folders first: a version manager's shim would start a chain of shells in the service's cgroup
  const folders = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", ...(process.env["PATH"] ?? "").split(delimiter)];
  return folders.map((folder) => join(folder, name)).find(executable) ?? null;
};

export const missingPrograms = (): readonly Program[] => programs.filter((name) => findProgram(name) === null);

const POLICY = "/usr/sbin/policy-rc.d";

/** Installs Debian packages without starting or enabling the services in them. */
export const installPackages = async (names: readonly string[], log: (text: string) => void): Promise<void> => {
  log(`installing with apt-get: ${names.join(" ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const ownPolicy = !existsSync(POLICY);
  if (ownPolicy) await writeFile(POLICY, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  try {
    await run(["apt-get", "update", "-qq"], { timeoutMs: 180_000, env });
    await run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", ...names], { timeoutMs: 300_000, env });
  } finally {
    if (ownPolicy) await rm(POLICY, { force: true });
  }
  if (existsSync("/run/systemd/system")) {
    const units = names.filter((name) => ["nginx-light", "redis-server", "postgresql"].includes(name));
    if (units.length > 0)
      await run(["systemctl", "disable", ...units.map((name) => (name === "nginx-light" ? "nginx" : name))]);
  }
};

/** Makes every program available where it can; gives those that stay missing, with what to do. */
export const ensurePrograms = async (log: (text: string) => void): Promise<readonly string[]> => {
  const missing = missingPrograms();
  if (missing.length === 0) return [];
  const names = [...new Set(missing.map((name) => packages[name]))];
  if (process.getuid?.() !== 0) return missing.map((name) => `${name} is missing: apt-get install ${packages[name]}`);
  try {
    await installPackages(names, log);
  } catch (error) {
    log(`could not install: ${error instanceof Error ? error.message : String(error)}`);
  }
  return missingPrograms().map((name) => `${name} is missing: apt-get install ${packages[name]}`);
};
