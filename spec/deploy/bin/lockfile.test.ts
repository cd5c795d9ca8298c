/** The lockfile installs the same packages everywhere and says nothing of where they were fetched from. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { root } from "../../../deploy/bin/fresh.mjs";
import { completeLock, missingEntries } from "../../../deploy/bin/lockfile.mjs";

const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
const manifest: { readonly dependencies: Record<string, string>; readonly devDependencies: Record<string, string> } =
  JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

describe("package-lock.json", () => {
  it("has an entry for every platform package, or npm ci refuses it (npm run lock adds them)", () => {
    expect([...missingEntries(lock).keys()]).toEqual([]);
  });

  it("records no download address", () => {
    expect(readFileSync(join(root, "package-lock.json"), "utf8")).not.toMatch(/"resolved"|https?:\/\/[^"]*\.tgz/);
  });
});

describe("package.json", () => {
  it("pins exact versions", () => {
    const loose = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies }).filter(
      ([, version]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version),
    );
    expect(loose).toEqual([]);
  });
});

describe("completing a lockfile", () => {
  it("adds what a locked package names and the lockfile lacks, and only that", () => {
    const before = {
      packages: {
        "": {},
        "node_modules/tool": {
          version: "1.0.0",
          dev: true,
          optionalDependencies: { "@tool/arm": "1.0.0", "@tool/x64": "1.0.0" },
        },
        "node_modules/@tool/x64": { version: "1.0.0", dev: true, optional: true },
      },
    };
    const after = completeLock(before);
    expect(after.packages["node_modules/@tool/arm"]).toEqual({ version: "1.0.0", dev: true, optional: true });
    expect(Object.keys(after.packages)).toHaveLength(4);
    expect(missingEntries(after).size).toBe(0);
  });
});
