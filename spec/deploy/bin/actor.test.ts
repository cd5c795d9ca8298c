/** `coroot actor` against a server that runs: what it lists, shows and does, and what it says when it cannot. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { coroot, type Ended, ensureBuilt, type Started, startCoroot, until } from "./coroot.ts";

let server: Started;
const actor = (...args: readonly string[]): Ended => coroot("actor", ...args, "--server", server.address);
const asAdmin = (...args: readonly string[]): Ended => actor(...args, "--data", server.data);
const lines = (text: string): readonly Record<string, unknown>[] =>
  text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
const stateOf = (path: string): unknown =>
  lines(actor("list", "--json").out).find((row) => row["path"] === path)?.["state"];

beforeAll(async () => {
  await ensureBuilt();
  server = await startCoroot("--no-agent");
  await until(server.output, 60_000, async () => (server.output().includes("page ") ? true : null));
  await until("the topology runs", 30_000, () => (actor("list").out.includes("topology") ? true : null));
}, 240_000);
afterAll(() => server?.dispose());

describe("looking", () => {
  it("lists the actors as a table, by kind, or as JSON, with figures although nobody looked before", () => {
    const { code, out, err } = actor("list");
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toMatch(/^ACTOR +KIND +NODE +STATE +AGE /);
    expect(out).toMatch(/^topology +topology +\S+ +idle +\d+ s /m);
    const rows = lines(actor("list", "--json", "--kind", "topology").out);
    expect(rows).toHaveLength(1);
    expect(rows[0]).toMatchObject({ path: "topology", node: expect.any(String) as string });
    // it is told a tick each second
    expect(rows[0]?.["inPerSecond"]).toBeGreaterThan(0);
    expect(actor("list", "--kind", "nothing").out).toBe("no actor of kind nothing\n");
  });

  it("shows one with its state and last messages, and follows one of them", () => {
    const { code, out } = actor("show", "topology");
    expect(code).toBe(0);
    expect(out).toMatch(/^topology \(topology\) on \S+\n(idle|running), \d+ s old/);
    expect(out).toContain('"services": 0');
    const trace = /^\S+ +tick +(\d+) /m.exec(out)?.[1] ?? "";
    expect(actor("trace", trace).out).toMatch(/ topology +tick /);
    expect(actor("trace", "1").out).toMatch(/^nothing was measured of it/);
  });

  it("names an actor that is not there", () => {
    const { code, err } = actor("show", "service/gone");
    expect(code).toBe(1);
    expect(err).toContain("404 Not Found: there is no actor service/gone");
  });
});

describe("an operator's hand", () => {
  it("pauses, resumes, restarts and dumps with the key of the data folder, and all of it is in the audit log", () => {
    expect(asAdmin("pause", "topology").out).toMatch(/^pause topology: done on \S+\n$/);
    expect(stateOf("topology")).toBe("paused");
    expect(asAdmin("resume", "topology").code).toBe(0);
    expect(stateOf("topology")).not.toBe("paused");
    expect(asAdmin("restart", "topology").code).toBe(0);
    expect(JSON.parse(asAdmin("dump", "topology").out)).toMatchObject({ row: { path: "topology", restarts: 1 } });
    expect(lines(asAdmin("audit", "--json").out).map(({ who, action, outcome }) => [who, action, outcome])).toEqual([
      ["admin", "read the audit log", "allowed"],
      ["admin", "dump", "allowed"],
      ["admin", "restart", "allowed"],
      ["admin", "resume", "allowed"],
      ["admin", "pause", "allowed"],
    ]);
    expect(asAdmin("audit").out).toMatch(/^AT +WHO +ACTION +TARGET +OUTCOME\n/);
  });

  it("does nothing without the key, and says where it is", () => {
    const elsewhere = mkdtempSync(join(tmpdir(), "coroot-no-key-"));
    const { code, err } = actor("pause", "topology", "--data", elsewhere);
    rmSync(elsewhere, { recursive: true });
    expect(code).toBe(1);
    expect(err).toContain(`open '${join(elsewhere, "admin.key")}'`);
    expect(err).toContain("hint: run it where the server runs, as its user, or name the file with --admin-key FILE");
    const wrong = actor("pause", "topology", "--admin-key", join(server.data, "agent.key"));
    expect(wrong.code).toBe(1);
    expect(wrong.err).toContain(
      "403 Forbidden: authorization: expected Bearer and the admin key, which is in admin.key",
    );
    expect(stateOf("topology")).not.toBe("paused");
    expect(asAdmin("audit").out).toMatch(/ unknown +pause +topology +refused: no admin key$/m);
  });
});
