/** When a build is made again, and that two builds never run at once. */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { digest, filesUnder, readStamp, withLock, writeStamp } from "../../../deploy/bin/fresh.mjs";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "coroot-fresh-"));
  mkdirSync(join(folder, "src/deep"), { recursive: true });
  writeFileSync(join(folder, "src/a.ts"), "a");
  writeFileSync(join(folder, "src/deep/b.ts"), "b");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const silent = (): void => undefined;
const now = (): string => digest(folder, filesUnder(folder, ["src", "absent"]));

describe("digest of the inputs", () => {
  it("stays when only times change, as in a fresh clone", () => {
    const before = now();
    utimesSync(join(folder, "src/a.ts"), 1, 1);
    expect(now()).toBe(before);
  });

  it("changes with a file's content, with a new, a removed and a renamed file", () => {
    const seen = new Set([now()]);
    writeFileSync(join(folder, "src/deep/b.ts"), "b2");
    seen.add(now());
    writeFileSync(join(folder, "src/c.ts"), "");
    seen.add(now());
    rmSync(join(folder, "src/c.ts"));
    writeFileSync(join(folder, "src/d.ts"), "");
    seen.add(now());
    rmSync(join(folder, "src/a.ts"));
    seen.add(now());
    expect(seen.size).toBe(5);
  });

  it("is not moved by content from one file to the next", () => {
    writeFileSync(join(folder, "src/a.ts"), "xy");
    writeFileSync(join(folder, "src/deep/b.ts"), "");
    const before = now();
    writeFileSync(join(folder, "src/a.ts"), "x");
    writeFileSync(join(folder, "src/deep/b.ts"), "y");
    expect(now()).not.toBe(before);
  });

  it("leaves out what it is told to", () => {
    expect(filesUnder(folder, ["src"], (path) => path.endsWith("b.ts"))).toEqual(["src/a.ts"]);
  });
});

describe("stamp", () => {
  it("keeps one value per part and forgets one", () => {
    const path = join(folder, "dist/.built.json");
    writeStamp(path, "bundle", "1");
    writeStamp(path, "page", "2");
    writeStamp(path, "bundle", null);
    expect(readStamp(path)).toEqual({ page: "2" });
  });

  it("that is broken means nothing was built", () => {
    const path = join(folder, "stamp.json");
    writeFileSync(path, '{"bundle": "1');
    expect(readStamp(path)).toEqual({});
  });
});

describe("lock", () => {
  it("lets one build at a time", async () => {
    const path = join(folder, "dist/.lock");
    let inside = 0;
    let most = 0;
    const work = async (): Promise<void> => {
      inside += 1;
      most = Math.max(most, inside);
      await new Promise((resume) => setTimeout(resume, 20));
      inside -= 1;
    };
    await Promise.all([withLock(path, silent, work), withLock(path, silent, work), withLock(path, silent, work)]);
    expect(most).toBe(1);
    expect(existsSync(path)).toBe(false);
  });

  it("is taken over from a process that was killed while it held it", async () => {
    const path = join(folder, "dist/.lock");
    const source = `import { withLock } from ${JSON.stringify(new URL("../../../deploy/bin/fresh.mjs", import.meta.url).href)};
      await withLock(${JSON.stringify(path)}, () => {}, async () => { console.log("held"); await new Promise((r) => setTimeout(r, 60000)); });`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", source], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await new Promise((resolve) => child.stdout.once("data", resolve));
    expect(readFileSync(path, "utf8")).toContain(String(child.pid));
    const ended = new Promise((resolve) => child.once("close", resolve));
    child.kill("SIGKILL");
    await ended;
    await expect(withLock(path, silent, async () => "mine")).resolves.toBe("mine");
  });

  it("is freed when the build fails", async () => {
    const path = join(folder, "dist/.lock");
    await expect(withLock(path, silent, () => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(existsSync(path)).toBe(false);
  });
});
