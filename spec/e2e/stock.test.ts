/**
 * A server that only stock Coroot agents report to, by real calls at its doors: map, services, agents and an incident with
 * its alert on the page's topics, what a cluster agent is told at /v1/config, and the events of Kubernetes in their table.
 * Scrapes are five seconds apart here, so that it does not take minutes; spec/actors/stock-agent has them as they are.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect } from "vitest";
import { freePort } from "../../deploy/demo/environment.ts";
import type { AlertPayload } from "../../schemas/incident.ts";
import type { AgentView, IncidentCard, MapEdge, Overview, ServiceCard } from "../../schemas/wire/page.ts";
import { kubeScrape, snappyCallOf, StockNode } from "../actors/stock-agent/StockFleet.ts";
import { describeWith, itWith } from "../capabilities.ts";
import { until } from "../cluster/until.ts";
import type { PlainSeries } from "../runtime/remote-write/proto.ts";

const COROOT = fileURLToPath(new URL("../../dist/coroot.mjs", import.meta.url));
const SCRAPE_MS = 5_000;
const HOLD_S = 5;
const FRONT = "/k8s/shop/front-6d4cf56db6-x2x4z/front";
const CATALOG = "/k8s/shop/catalog-0/catalog";
const POSTGRES = "/system.slice/postgresql.service";
const FRONT_ID = "default/shop/Deployment/front";
const CATALOG_ID = "default/shop/StatefulSet/catalog";
const POSTGRES_ID = "default/node-b/SystemdUnit/postgresql";

describeWith(["chdb"], "a server with stock agents only", () => {
  let folder: string;
  let base: string;
  let key: string;
  let server: ChildProcess;
  let receiver: Server;
  const alerts: AlertPayload[] = [];
  const a = new StockNode("node-a", "aaaa1111");
  const b = new StockNode("node-b", "bbbb2222");
  let bad = 0;
  let scraping: NodeJS.Timeout | undefined;
  const answers: number[] = [];

  const entries = async <T>(topic: string): Promise<Record<string, T>> => {
    const response = await fetch(`${base}/api/${topic}`, { signal: AbortSignal.timeout(3_000) });
    if (!response.ok) throw new Error(`${topic}: ${response.status}`);
    return ((await response.json()) as { entries: Record<string, T> }).entries;
  };
  const door = (
    path: string,
    headers: Record<string, string>,
    body?: Uint8Array<ArrayBuffer> | string,
  ): Promise<Response> =>
    fetch(`${base}${path}`, {
      method: body === undefined ? "GET" : "POST",
      headers: { "x-api-key": key, ...headers },
      ...(body === undefined ? {} : { body }),
    });
  const write = async (series: readonly PlainSeries[]): Promise<void> => {
    const headers = {
      "content-type": "application/x-protobuf",
      "content-encoding": "snappy",
      "x-prometheus-remote-write-version": "0.1.0",
      "user-agent": "coroot-node-agent",
    };
    answers.push((await door("/v1/metrics", headers, new Uint8Array(snappyCallOf(series)))).status);
  };
  const query = async <T>(sql: string): Promise<readonly T[]> => {
    const response = await fetch(`${base}/api/query`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ sql }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(text);
    const { columns, rows } = JSON.parse(text) as { columns: readonly { name: string }[]; rows: readonly unknown[][] };
    return rows.map((row) => Object.fromEntries(row.map((value, i) => [columns[i]?.name ?? "", value])) as T);
  };
  const scrape = (): void => {
    a.connects(FRONT, "10.96.0.7:80", "10.1.0.2:5000", 5, 4);
    if (bad < 50) a.requests(FRONT, "http_requests", "10.96.0.7:80", "10.1.0.2:5000", 50 - bad, "2xx", 0.04);
    if (bad > 0) a.requests(FRONT, "http_requests", "10.96.0.7:80", "10.1.0.2:5000", bad, "5xx", 0.04);
    b.requests(CATALOG, "postgres_queries", "10.0.0.2:5432", "10.0.0.2:5432", 100, "ok", 0.003);
    b.cpu(CATALOG, 1);
    const now = Date.now();
    const facts = [
      [
        "kube_pod_info",
        { namespace: "shop", pod: "catalog-0", created_by_kind: "StatefulSet", created_by_name: "catalog" },
      ],
    ] as const;
    const calls = [a.scrape(now), b.scrape(now), kubeScrape(facts, now)];
    void Promise.all(calls.map(write)).catch((error: unknown) => answers.push(String(error) === "" ? 0 : -1));
  };

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "coroot-stock-"));
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
    const port = await freePort();
    base = `http://127.0.0.1:${port}`;
    const config = {
      server: { port },
      otlp: { grpcPort: 0 },
      data: join(folder, "data"),
      slo: { holdSeconds: HOLD_S },
      alerts: { webhooks: [{ name: "hook", url: `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/` }] },
      databases: { credentials: [{ match: "*/postgresql", username: "coroot", password: "secret" }] },
    };
    await writeFile(join(folder, "coroot.yaml"), JSON.stringify(config));
    server = spawn(process.execPath, [COROOT, "server", "--config", join(folder, "coroot.yaml")], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    await until("a store that is up", 60_000, async () => {
      const { overview } = await entries<Overview>("overview");
      return overview?.store.state === "up" ? true : undefined;
    });
    key = (await readFile(join(folder, "data/agent.key"), "utf8")).trim();
    a.container(FRONT, ["10.1.0.1:3000"], "nodejs");
    b.container(CATALOG, ["10.1.0.2:5000"], "python");
    b.container(POSTGRES, ["10.0.0.2:5432"], "postgres");
    scrape();
    scraping = setInterval(scrape, SCRAPE_MS);
  }, 120_000);
  afterAll(async () => {
    clearInterval(scraping);
    if (server !== undefined && server.exitCode === null) {
      const ended = once(server, "exit");
      server.kill("SIGTERM");
      await ended;
    }
    receiver?.close();
    await rm(folder, { recursive: true, force: true });
  }, 60_000);

  itWith(
    ["chdb"],
    "shows services, calls and agents, opens an incident, alerts, and ends it",
    async () => {
      const query10 = await until("the rates", 40_000, async () => {
        const edges = Object.values(await entries<MapEdge>("map"));
        const call = edges.find(({ from, to }) => from === CATALOG_ID && to === POSTGRES_ID);
        return (call?.traffic.requestsPerSecond ?? 0) > 15 ? call : undefined;
      });
      expect(query10).toMatchObject({ protocols: ["postgres"], traffic: { errorRatio: 0 } });
      expect(query10.traffic.requestsPerSecond).toBeLessThan(25);
      const services = await entries<ServiceCard>("services");
      expect(Object.keys(services).sort()).toEqual([POSTGRES_ID, FRONT_ID, CATALOG_ID].sort());
      expect(services[CATALOG_ID]).toMatchObject({ instances: 1, type: "python", hasSlo: true });
      expect(services[CATALOG_ID]?.inbound.p95Ms).toBeGreaterThan(25);
      const agents = Object.values(await entries<AgentView>("agents"));
      expect(agents.map(({ node, version, state }) => [node, version, state]).sort()).toEqual([
        ["node-a", "coroot-node-agent 1.26.0", "connected"],
        ["node-b", "coroot-node-agent 1.26.0", "connected"],
      ]);

      bad = 30;
      const began = performance.now();
      const incident = await until("the incident", 40_000, async () =>
        Object.values(await entries<IncidentCard>("incidents")).find(
          ({ service, openedAt }) => service === CATALOG_ID && openedAt !== null,
        ),
      );
      // one scrape to see it, the next to believe it
      expect(performance.now() - began).toBeLessThan(2 * SCRAPE_MS + HOLD_S * 1_000 + 5_000);
      await until("the alert", 10_000, () => alerts.find(({ event }) => event === "incident.opened"));
      bad = 0;
      await until("its end", 90_000, async () => {
        const cards = await entries<IncidentCard>("incidents");
        return cards[incident.id]?.status === "resolved" ? true : undefined;
      });
      expect(new Set(answers)).toEqual(new Set([204]));
      const stored = await query<{ n: number }>(
        "SELECT uniqExact(fp) AS n FROM series WHERE name = 'container_http_requests_total'",
      );
      expect(Number(stored[0]?.n)).toBe(2);
    },
    240_000,
  );

  itWith(
    ["chdb"],
    "tells a cluster agent what to collect from",
    async () => {
      const found = await until("the databases", 30_000, async () => {
        const response = await door("/v1/config", {});
        const body = (await response.json()) as { application_instrumentation: readonly object[] };
        return body.application_instrumentation.length > 0 ? body : undefined;
      });
      expect(found).toEqual({
        application_instrumentation: [
          {
            type: "postgres",
            host: "10.0.0.2",
            port: "5432",
            credentials: { username: "coroot", password: "secret" },
            params: {},
            instance: "ns=node-b app=postgresql instance=10.0.0.2",
          },
        ],
        aws_config: null,
      });
      expect((await fetch(`${base}/v1/config`)).status).toBe(401);
    },
    60_000,
  );

  itWith(
    ["chdb"],
    "keeps events of Kubernetes in their table, once",
    async () => {
      const text = (name: string, value: string) => ({ key: name, value: { stringValue: value } });
      const record = {
        timeUnixNano: String(BigInt(Date.now()) * 1_000_000n),
        severityText: "Warning",
        severityNumber: 13,
        body: { stringValue: "Back-off restarting failed container" },
        attributes: [
          text("event.name", "catalog-0.17a"),
          text("event.namespace", "shop"),
          text("event.reason", "BackOff"),
          text("object.kind", "Pod"),
          text("object.name", "catalog-0"),
          text("object.namespace", "shop"),
          text("source.component", "kubelet"),
          text("source.host", "node-b"),
        ],
      };
      const logs = (service: string): string =>
        JSON.stringify({
          resourceLogs: [
            {
              resource: { attributes: [text("service.name", service)] },
              scopeLogs: [{ scope: { name: "coroot-cluster-agent" }, logRecords: [record] }],
            },
          ],
        });
      // The same call again, as after an answer that was lost; and a log of somebody else.
      for (const body of [logs("KubernetesEvents"), logs("KubernetesEvents"), logs("DatabaseChanges")])
        expect((await door("/v1/logs", { "content-type": "application/json" }, body)).status).toBe(200);
      const rows = await until("the event", 20_000, async () => {
        const found = await query<object>("SELECT namespace, kind, name, reason, type, count, message FROM k8s_events");
        return found.length > 0 ? found : undefined;
      });
      expect(rows).toHaveLength(1);
      expect(rows[0]).toMatchObject({
        namespace: "shop",
        kind: "Pod",
        name: "catalog-0",
        reason: "BackOff",
        type: "Warning",
        count: "1",
        message: "Back-off restarting failed container",
      });
    },
    60_000,
  );
});
