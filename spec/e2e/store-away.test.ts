/**
 * A store that is away, and a metrics store elsewhere that was never there: what happens meanwhile is decided in the usual time and alerted, and once the store is back it has
 * all of it, to the request.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect } from "vitest";
import { freePort } from "../../deploy/demo/environment.ts";
import type { AlertPayload } from "../../schemas/incident.ts";
import type { IncidentCard, Overview } from "../../schemas/wire/page.ts";
import { describeWith, itWith } from "../capabilities.ts";
import { FleetAgent } from "../cluster/FleetAgent.ts";
import { proxyTo, type Proxy } from "../cluster/proxy.ts";
import { until } from "../cluster/until.ts";

const COROOT = fileURLToPath(new URL("../../dist/coroot.mjs", import.meta.url));
const SERVICES = 3;
const FAILING = "default/n1/SystemdUnit/svc-0";

describeWith(["chdb"], "a store that is away", () => {
  let folder: string;
  let base: string;
  let store: ChildProcess;
  let storeUrl: string;
  let password: string;
  let way: Proxy;
  let server: ChildProcess;
  let receiver: Server;
  let agent: FleetAgent;
  const alerts: AlertPayload[] = [];

  const get = async <T>(path: string): Promise<T> => {
    const response = await fetch(`${base}${path}`, { signal: AbortSignal.timeout(3_000) });
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    return (await response.json()) as T;
  };
  const overview = async (): Promise<Overview> =>
    (await get<{ entries: { overview: Overview } }>("/api/overview")).entries.overview;
  const incident = async (): Promise<IncidentCard | undefined> =>
    Object.values((await get<{ entries: Record<string, IncidentCard> }>("/api/incidents")).entries).find(
      (card) => card.service === FAILING && card.openedAt !== null,
    );
  /** Requests and failed ones, as the store has them: asked without the way that is cut. */
  const counted = async (): Promise<{ total: number; bad: number }> => {
    const response = await fetch(`${storeUrl}/?default_format=JSONEachRow`, {
      method: "POST",
      headers: { "x-clickhouse-user": "default", "x-clickhouse-key": password },
      body: `SELECT sum(t) AS total, sum(b) AS bad FROM (
               SELECT argMax(total, version) AS t, argMax(bad, version) AS b FROM coroot.sli_minutes
               WHERE service LIKE 'default/n1/%' GROUP BY service, minute)`,
    });
    const row = JSON.parse(await response.text()) as { total: string; bad: string };
    return { total: Number(row.total), bad: Number(row.bad) };
  };

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "coroot-away-"));
    store = spawn(process.execPath, [COROOT, "store", "--data", join(folder, "store")], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    if (store.stdout === null) throw new Error("a store without output");
    const [line] = (await once(createInterface(store.stdout), "line")) as [string];
    const ready = JSON.parse(line) as { port: number; key: string };
    storeUrl = `http://127.0.0.1:${ready.port}`;
    password = ready.key;
    way = await proxyTo(ready.port);
    receiver = createServer((request, response) => {
      let text = "";
      request.on("data", (chunk) => (text += String(chunk)));
      request.on("end", () => {
        alerts.push(JSON.parse(text) as AlertPayload);
        response.end();
      });
    });
    receiver.listen(0, "127.0.0.1");
    await once(receiver, "listening");
    const [port, nobody] = [await freePort(), await freePort()];
    base = `http://127.0.0.1:${port}`;
    const config = {
      server: { port },
      data: join(folder, "data"),
      clickhouse: { url: `http://127.0.0.1:${way.port}`, password },
      prometheus: { url: `http://ann:secret@127.0.0.1:${nobody}`, remoteWriteUrl: `http://127.0.0.1:${nobody}/write` },
      slo: { holdSeconds: 5 },
      alerts: { webhooks: [{ name: "hook", url: `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/` }] },
    };
    await writeFile(join(folder, "coroot.yaml"), JSON.stringify(config));
    server = spawn(process.execPath, [COROOT, "server", "--config", join(folder, "coroot.yaml")], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    await until("a store that is up", 30_000, async () => ((await overview()).store.state === "up" ? true : undefined));
    const key = (await readFile(join(folder, "data/agent.key"), "utf8")).trim();
    agent = await FleetAgent.start({ id: "n1", key, urls: [`ws://127.0.0.1:${port}/agent`], services: SERVICES });
  }, 90_000);
  afterAll(async () => {
    await agent?.close();
    for (const child of [server, store]) {
      if (child === undefined || child.exitCode !== null) continue;
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      await ended;
    }
    way?.close();
    receiver?.close();
    await rm(folder, { recursive: true, force: true });
  }, 60_000);

  itWith(
    ["chdb"],
    "delays no decision and no alert, and gets everything afterwards",
    async () => {
      await until("the services", 20_000, async () => ((await overview()).services >= SERVICES ? true : undefined));
      way.cut();
      await until("a store that is missed", 30_000, async () =>
        (await overview()).store.state === "up" ? undefined : true,
      );
      const { parts } = await get<{ parts: Record<string, { state: string; message: string }> }>("/health");
      expect(parts["metrics"]).toEqual({
        state: "degraded",
        message: expect.stringMatching(/^the metrics store at http:\/\/127.0.0.1:\d+ does not answer: /) as string,
      });
      expect((await overview()).notices.join()).toContain("Metrics cannot be read: the metrics store at");
      expect((await fetch(`${base}/api/v1/query?query=up`)).status).toBe(503);
      agent.failing.add(0);
      const began = performance.now();
      await until("the incident", 30_000, incident);
      await until("the alert", 10_000, () => alerts.find(({ event }) => event === "incident.opened"));
      // Hold time, five seconds, and what it takes to see it.
      expect(performance.now() - began).toBeLessThan(15_000);
      expect((await overview()).store.state).not.toBe("up");
      agent.failing.clear();
      await until("the end", 60_000, async () => ((await incident())?.status === "resolved" ? true : undefined));
      agent.pause();
      way.mend();
      await until("an empty queue", 60_000, async () => {
        const { queuedRows, state } = (await overview()).store;
        return state === "up" && queuedRows === 0 ? true : undefined;
      });
      const sent = [...agent.sent.values()].reduce(
        (sums, { total, bad }) => ({ total: sums.total + total, bad: sums.bad + bad }),
        { total: 0, bad: 0 },
      );
      expect(sent.bad).toBeGreaterThan(0);
      await until("every minute in the store", 90_000, async () =>
        (await counted()).total >= sent.total ? true : undefined,
      );
      expect(await counted()).toEqual(sent);
      expect((await overview()).store.dropped).toBe(0);
      const now = Date.now();
      const { points } = await get<{ points: readonly { readonly errors: number }[] }>(
        `/api/history?service=${encodeURIComponent(FAILING)}&from=${now - 600_000}&to=${now}`,
      );
      expect(points.some((point) => point.errors > 0)).toBe(true);
    },
    240_000,
  );
});
