/**
 * `coroot start`, built and real: server, embedded store and node agent on this machine. It answers with the page, says
 * what is observed, brings an agent back that was killed, refuses a taken port or data folder, and leaves nothing behind.
 */
import { readFileSync } from "node:fs";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { coroot, descendants, ensureBuilt, freePort, runs, type Started, startCoroot, until } from "./coroot.ts";

beforeAll(ensureBuilt, 180_000);

let started: Started | null = null;
afterEach(async () => {
  await started?.dispose();
  started = null;
});

const launch = async (...flags: readonly string[]): Promise<Started> => {
  started = await startCoroot(...flags);
  return started;
};

/** What it has printed so far contains this line; fails early with the output when it ended instead. */
const says = (of: Started, pattern: RegExp, timeoutMs = 30_000): Promise<string> =>
  until(
    () => `${pattern} in:\n${of.output()}`,
    timeoutMs,
    () => {
      if (of.child.exitCode !== null) throw new Error(`it ended with ${of.child.exitCode}:\n${of.output()}`);
      return pattern.exec(of.output())?.[0] ?? null;
    },
  );

const agentOf = (of: Started): number | null =>
  descendants(of.pid).find((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").includes("node-agent");
    } catch {
      // ended between the listing and the reading
      return false;
    }
  }) ?? null;

describe("coroot start", () => {
  it("serves the page, observes this machine, and Ctrl-C leaves no process", async () => {
    const run = await launch();
    await says(run, /^page {6}http:\/\/127\.0\.0\.1:\d+$/m);
    const page = await fetch(run.address);
    expect(page.status).toBe(200);
    expect(await page.text()).toContain("<html");
    expect(await says(run, /^observed .*$/m, 40_000)).toMatch(/\d+ services? on /);
    const services = coroot("services", "--server", run.address, "--json");
    expect(services.code).toBe(0);
    expect(services.out.trimEnd().split("\n").length).toBeGreaterThan(0);
    expect(coroot("agents", "--server", run.address).out).toMatch(/connected/);
    expect(coroot("incidents", "--server", run.address)).toMatchObject({ code: 0, err: "" });

    const children = descendants(run.pid);
    expect(children.length).toBeGreaterThan(1);
    // a terminal's Ctrl-C goes to the whole group
    process.kill(-run.pid, "SIGINT");
    expect(await run.ended).toBe(0);
    expect(run.output()).toMatch(/^stopping$/m);
    expect(run.output()).not.toContain("rows were not stored");
    await until("every child gone", 5_000, () => (children.some(runs) ? null : true));
  }, 120_000);

  it("starts a killed node agent again and says so", async () => {
    const run = await launch();
    const first = await until("a node agent", 30_000, () => agentOf(run));
    process.kill(first, "SIGKILL");
    await says(run, /^the node agent was ended by SIGKILL; restart 1 in 1 s$/m);
    const second = await until("another node agent", 15_000, () => {
      const pid = agentOf(run);
      return pid === first ? null : pid;
    });
    expect(runs(second)).toBe(true);
  }, 90_000);

  it("that is killed itself takes its children with it", async () => {
    const run = await launch();
    await until("a node agent", 30_000, () => agentOf(run));
    await says(run, /^observed .*$/m, 40_000);
    const children = descendants(run.pid);
    run.child.kill("SIGKILL");
    await run.ended;
    await until("every child gone", 15_000, () => (children.some(runs) ? null : true));
  }, 90_000);

  it("refuses a port and a data folder that are taken, with exit code 4 and who holds it", async () => {
    const run = await launch("--no-agent");
    await says(run, /^page /m);
    const port = coroot("start", "--port", String(run.port), "--data", `${run.data}/other`);
    expect(port.code).toBe(4);
    expect(port.err).toContain(`port ${run.port} on 127.0.0.1 is taken by another process`);
    expect(port.err).toContain("--port");
    const data = coroot("start", "--port", String(await freePort()), "--data", run.data);
    expect(data.code).toBe(4);
    expect(data.err).toContain(run.data);
    expect(data.err).toContain(String(run.pid));
    // the first one goes on undisturbed
    expect((await fetch(`${run.address}/health`)).ok).toBe(true);
  }, 90_000);
});
