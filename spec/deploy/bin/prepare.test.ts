/** What the scripts do about Debian packages that are missing, as root and without. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import {
  decidePackages,
  markModules,
  missingPackages,
  modulesFresh,
  testPrograms,
  toolchain,
} from "../../../deploy/bin/prepare.mjs";
import { commandLine } from "../../../deploy/bin/start.mjs";

const HOUR = 3_600_000;
const seen = { missing: ["clang", "wrk"], uid: 0, apt: true, lastTry: null, now: 100 * HOUR };

describe("missing packages", () => {
  it("are named by what is absent", () => {
    expect(missingPackages(toolchain, (need) => need.debian !== "bpftool")).toEqual(["bpftool"]);
    expect(missingPackages([...toolchain, ...testPrograms], () => true)).toEqual([]);
  });

  it("are nothing to do about when none is missing", () => {
    expect(decidePackages({ ...seen, missing: [] })).toEqual({ action: "nothing" });
  });

  it("are installed as root", () => {
    expect(decidePackages(seen)).toEqual({ action: "install", packages: ["clang", "wrk"] });
  });

  it("are only named without root, with the command that installs them", () => {
    const decision = decidePackages({ ...seen, uid: 1000 });
    expect(decision).toEqual({
      action: "without",
      reason: "missing: clang wrk (not root; run: sudo apt-get install -y clang wrk)",
    });
  });

  it("are only named where there is no apt-get", () => {
    expect(decidePackages({ ...seen, apt: false }).action).toBe("without");
  });

  it("that could not be installed are not tried at every start, so that a start needs no network", () => {
    const lastTry = { packages: "clang wrk", at: 98 * HOUR };
    expect(decidePackages({ ...seen, lastTry })).toEqual({
      action: "without",
      reason: "missing: clang wrk (apt-get failed 2 h ago; run: apt-get install -y clang wrk)",
    });
  });

  it("are tried again a day later, or when others are missing", () => {
    expect(decidePackages({ ...seen, lastTry: { packages: "clang wrk", at: 70 * HOUR } }).action).toBe("install");
    expect(decidePackages({ ...seen, lastTry: { packages: "clang", at: 99 * HOUR } }).action).toBe("install");
  });
});

describe("node modules", () => {
  it("are installed again when the lockfile changed since, and only then", () => {
    const folder = mkdtempSync(join(tmpdir(), "coroot-modules-"));
    try {
      writeFileSync(join(folder, "package.json"), "{}");
      writeFileSync(join(folder, "package-lock.json"), "{}");
      expect(modulesFresh(folder)).toBe(false);
      markModules(folder);
      expect(modulesFresh(folder)).toBe(true);
      writeFileSync(join(folder, "package-lock.json"), '{"packages":{}}');
      expect(modulesFresh(folder)).toBe(false);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe("npm start's arguments", () => {
  it("are those of coroot start, unless the first word names another command", () => {
    expect(commandLine([])).toEqual(["start"]);
    expect(commandLine(["--port", "9090"])).toEqual(["start", "--port", "9090"]);
    expect(commandLine(["demo", "--fault", "oom"])).toEqual(["demo", "--fault", "oom"]);
  });
});
