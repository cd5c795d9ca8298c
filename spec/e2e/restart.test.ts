/**
 * What a restart must not lose: a server that is killed while an incident is open takes it up again from its store,
 * alerts once, keeps the history of the charts, and closes the incident when the services are well.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect } from "vitest";
import type { AlertPayload, Incident } from "../../schemas/incident.ts";
import type { IncidentCard, Overview } from "../../schemas/wire/page.ts";
import { steady, type Scenario } from "../actors/shop.ts";
import { freePort } from "../../deploy/demo/environment.ts";
import { describeWith, itWith } from "../capabilities.ts";
import { ShopAgent } from "./ShopAgent.ts";

const COROOT = fileURLToPath(new URL("../../dist/coroot.mjs", import.meta.url));

const failing: Scenario = () => ({
  ...steady,
  calls: {
    "front>cart": { ok: 10, failed: 10 },
    "nginx>front": { ok: 10, failed: 10 },
    "load>nginx": { ok: 10, failed: 10 },
  },
});

const until = async <T>(what: string, withinMs: number, look: () => Promise<T | undefined>): Promise<T> => {
  const end = Date.now() + withinMs;
  for (;;) {
    const found = await look().catch((error: unknown) => {
      if (Date.now() > end) throw error;
      return undefined;
    });
    if (found !== undefined) return found;
    if (Date.now() > end) throw new Error(`${what} did not come within ${withinMs / 1000} s`);
    await new Promise((resume) => setTimeout(resume, 200));
  }
};

describeWith(["chdb"], "a killed server", () => {
  let folder: string;
  let port: number;
  let server: ChildProcess | null = null;
  let agent: ShopAgent | null = null;
  let receiver: Server;
  const alerts: AlertPayload[] = [];

  const get = async <T>(path: string): Promise<T> => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(3_000) });
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    return (await response.json()) as T;
  };
  const cards = async (): Promise<IncidentCard[]> =>
    Object.values((await get<{ entries: Record<string, IncidentCard> }>("/api/incidents")).entries);
  const start = async (): Promise<void> => {
    const args = [
      COROOT,
      "server",
      "--port",
      String(port),
      "--data",
      join(folder, "data"),
      "--config",
      join(folder, "coroot.yaml"),
    ];
    server = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "inherit"] });
    await until("the server", 30_000, () => get<{ state: string }>("/health"));
  };
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const child = server;
    server = null;
    if (child === null || child.exitCode !== null) return;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  };

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "coroot-restart-"));
    port = await freePort();
    alerts.length = 0;
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
    const hook = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`;
    await writeFile(
      join(folder, "coroot.yaml"),
      `slo: { holdSeconds: 5 }\nalerts: { webhooks: [{ name: hook, url: "${hook}" }] }\n`,
    );
  });
  afterEach(async () => {
    agent?.close();
    await end("SIGTERM");
    receiver.close();
    await rm(folder, { recursive: true, force: true });
  });

  itWith(
    ["chdb"],
    "takes up the open incident, alerts once, and closes it when the services are well",
    async () => {
      await start();
      const key = (await readFile(join(folder, "data/agent.key"), "utf8")).trim();
      agent = new ShopAgent(`ws://127.0.0.1:${port}/agent`, key, () => steady);
      await until("the shop", 20_000, async () => {
        const { entries } = await get<{ entries: Record<string, unknown> }>("/api/services");
        return Object.keys(entries).length >= 7 ? true : undefined;
      });
      agent.scenario = failing;
      const open = await until("an open incident", 30_000, async () =>
        (await cards()).find((card) => card.status === "open"),
      );
      await until("the alert", 10_000, async () => alerts.find((alert) => alert.event === "incident.opened"));
      // The desk notes the delivery, and the writer stores a transition within a second.
      await until("the delivery in the timeline", 10_000, async () => {
        const { entries } = await get<{ entries: { incident: Incident } }>(`/api/incidents/${open.id}`);
        return entries.incident.timeline.some((entry) => entry.kind === "alert") ? true : undefined;
      });
      const failures = async (): Promise<boolean> => {
        const now = Date.now();
        const { points } = await get<{ points: readonly { readonly errors: number }[] }>(
          `/api/history?service=${encodeURIComponent(open.service)}&from=${now - 600_000}&to=${now}`,
        );
        return points.some((point) => point.errors > 0);
      };
      await until("a point of the charts", 20_000, async () => ((await failures()) ? true : undefined));
      await until("an empty queue to the store", 10_000, async () => {
        const { entries } = await get<{ entries: { overview: Overview } }>("/api/overview");
        return entries.overview.store.queuedRows === 0 ? true : undefined;
      });
      await end("SIGKILL");

      await start();
      const again = await until("the incident after the restart", 30_000, async () =>
        (await cards()).find((card) => card.id === open.id),
      );
      expect(again.status).toBe("open");
      agent.scenario = () => steady;
      await until("its end", 60_000, async () =>
        (await cards()).find((card) => card.id === open.id && card.status === "resolved"),
      );
      await until("the last alert", 10_000, async () => alerts.find((alert) => alert.event === "incident.resolved"));
      expect(alerts.filter((alert) => alert.event === "incident.opened").map((alert) => alert.key)).toEqual([
        `${open.id}:opened`,
      ]);
      expect((await cards()).filter((card) => card.openedAt !== null)).toHaveLength(1);
      expect(await failures()).toBe(true);
    },
    200_000,
  );
});
