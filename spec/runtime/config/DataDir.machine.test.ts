/** The data directory and the agent's key, with real processes and a real file system. */
import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Effect, Exit, Scope } from "effect";
import { describe, expect, it } from "vitest";
import { agentKeyPath, ensureAgentKey, readAgentKey } from "../../../runtime/config/AgentKey.ts";
import { openDataDir } from "../../../runtime/config/DataDir.ts";

const fresh = (): string => mkdtempSync(join(tmpdir(), "coroot-data-"));
const refused = (path: string): Promise<string> =>
  Effect.runPromise(
    Effect.scoped(openDataDir(path)).pipe(
      Effect.flip,
      Effect.map((error) => error.message),
    ),
  );

describe("data directory", () => {
  it("is made, held while the scope is open, and free again after it", async () => {
    const path = join(fresh(), "a/b");
    const scope = Effect.runSync(Scope.make());
    await Effect.runPromise(Scope.extend(openDataDir(path), scope));
    expect(await refused(path)).toContain(`held by pid ${process.pid}`);
    await Effect.runPromise(Scope.close(scope, Exit.void));
    await Effect.runPromise(Effect.scoped(openDataDir(path)));
    expect(readdirSync(path)).toEqual([]);
  });

  it("is refused while another process lives, and taken over once it was killed", async () => {
    const path = fresh();
    const holder = spawn(process.execPath, ["--import", "tsx", join(import.meta.dirname, "holder.ts"), path], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    try {
      await once(holder.stdout, "data");
      expect(await refused(path)).toContain(`held by pid ${holder.pid}, another server`);
    } finally {
      const gone = once(holder, "exit");
      holder.kill("SIGKILL");
      await gone;
    }
    expect(readdirSync(path)).toHaveLength(1);
    await Effect.runPromise(Effect.scoped(openDataDir(path)));
    expect(readdirSync(path)).toEqual([]);
  });

  it("is taken over from a server that was killed and that nobody has waited for", async () => {
    const path = fresh();
    const holder = [process.execPath, "--import", "tsx", join(import.meta.dirname, "holder.ts"), path];
    // its parent becomes a program that never waits for a child
    const parent = spawn("sh", ["-c", '"$@" & exec sleep 60', "sh", ...holder], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    try {
      await once(parent.stdout, "data");
      const pid = Number(/^server\.(\d+)\./.exec(readdirSync(path)[0] ?? "")?.[1]);
      expect(await refused(path)).toContain(`held by pid ${pid}`);
      process.kill(pid, "SIGKILL");
      await expect.poll(() => readFileSync(`/proc/${pid}/stat`, "utf8")).toMatch(/\) Z /);
      await Effect.runPromise(Effect.scoped(openDataDir(path)));
      expect(readdirSync(path)).toEqual([]);
    } finally {
      const gone = once(parent, "exit");
      parent.kill("SIGKILL");
      await gone;
    }
  });

  it("is taken over when the pid of a dead server was given to another program", async () => {
    const path = fresh();
    writeFileSync(join(path, `server.${process.pid}.0123abcd-1.00000000.lock`), "");
    await Effect.runPromise(Effect.scoped(openDataDir(path)));
    expect(readdirSync(path)).toEqual([]);
  });

  it("has one holder when several start at once over a stale lock", async () => {
    const path = fresh();
    writeFileSync(join(path, "server.999999999.0123abcd-1.00000000.lock"), "");
    const scope = Effect.runSync(Scope.make());
    const tried = await Effect.runPromise(
      Effect.all(
        Array.from({ length: 6 }, () => Effect.either(Scope.extend(openDataDir(path), scope))),
        { concurrency: "unbounded" },
      ),
    );
    expect(tried.filter((one) => one._tag === "Right")).toHaveLength(1);
    await Effect.runPromise(Scope.close(scope, Exit.void));
    expect(readdirSync(path)).toEqual([]);
  });

  it("says why it cannot be used", async () => {
    const path = fresh();
    writeFileSync(join(path, "file"), "");
    expect(await refused(join(path, "file/x"))).toContain("is a file");
    expect(await refused("/proc/coroot")).toContain("/proc/coroot cannot be used");
  });

  it.skipIf(process.getuid?.() !== 0)(
    "names the user when it is not writable (needs root to give rights up)",
    async () => {
      const path = fresh();
      chmodSync(path, 0o755);
      process.seteuid?.(65_534);
      try {
        expect(await refused(path)).toContain("EACCES");
      } finally {
        process.seteuid?.(0);
      }
    },
  );
});

describe("agent key", () => {
  it("is made once, random, for the owner only", async () => {
    const path = agentKeyPath(fresh());
    const [first, second] = await Effect.runPromise(
      Effect.all([ensureAgentKey(path), ensureAgentKey(path)], { concurrency: 2 }),
    );
    expect(first).toBe(second);
    expect(first).toMatch(/^[\w-]{43}$/);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(await Effect.runPromise(readAgentKey(path))).toBe(first);
  });

  it("is refused when others can read it, when it is empty, and when it is not there", async () => {
    const path = agentKeyPath(fresh());
    await Effect.runPromise(ensureAgentKey(path));
    chmodSync(path, 0o644);
    const open = await Effect.runPromise(Effect.flip(ensureAgentKey(path)));
    expect(open.message).toContain("mode 0644 lets others read it, expected 0600");
    chmodSync(path, 0o600);
    writeFileSync(path, "\n");
    expect((await Effect.runPromise(Effect.flip(readAgentKey(path)))).message).toContain("expected one word");
    const nowhere = agentKeyPath(fresh());
    expect((await Effect.runPromise(Effect.flip(readAgentKey(nowhere)))).message).toContain("ENOENT");
    expect(existsSync(nowhere)).toBe(false);
  });
});
