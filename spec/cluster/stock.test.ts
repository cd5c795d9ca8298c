/**
 * Two servers behind one address, as a load balancer would have it: a stock agent's scrapes come to either in turn, and come
 * again at the other as if the answer was lost. Each request counts once, and both pages show the agent.
 */
import { afterAll, beforeAll, expect, it } from "vitest";
import type { AgentView } from "../../schemas/wire/page.ts";
import { snappyCallOf, StockNode } from "../actors/stock-agent/StockFleet.ts";
import { describeWith } from "../capabilities.ts";
import { Deployment } from "./Deployment.ts";
import { until } from "./until.ts";

const SCRAPES = 12;
const SCRAPE_MS = 2_000;
const EACH = 20;
const FRONT = "/docker/front";
const CATALOG = "/docker/catalog";
const TO = "172.17.0.3:5000";

let deployment: Deployment;

const write = async (port: number, body: Uint8Array<ArrayBuffer>): Promise<number> => {
  const headers = {
    "x-api-key": deployment.key,
    "content-type": "application/x-protobuf",
    "content-encoding": "snappy",
    "x-prometheus-remote-write-version": "0.1.0",
  };
  return (await fetch(`http://127.0.0.1:${port}/v1/metrics`, { method: "POST", headers, body })).status;
};

describeWith(["postgres", "chdb"], "two servers that a stock agent reports to by turns", () => {
  beforeAll(async () => {
    deployment = await Deployment.start(2);
    await deployment.settled();
  }, 120_000);
  afterAll(() => deployment?.stop(), 60_000);

  it("count each request once and show the agent on both", async () => {
    const node = new StockNode("node-a", "aaaa1111");
    node.container(FRONT, []);
    node.container(CATALOG, [TO]);
    const ports = deployment.replicas.map(({ port }) => port);
    for (let i = 0; i < SCRAPES; i++) {
      if (i > 0) node.requests(FRONT, "http_requests", TO, TO, EACH, "2xx", 0.04);
      node.connects(FRONT, TO, TO, 1, 2);
      const call = new Uint8Array(snappyCallOf(node.scrape(Date.now())));
      const [one = 0, other = 0] = i % 2 === 0 ? ports : [...ports].reverse();
      const next = new Promise((resolve) => setTimeout(resolve, SCRAPE_MS));
      expect(await write(one, call)).toBe(204);
      expect(await write(other, call)).toBe(204);
      await next;
    }
    for (const replica of deployment.replicas)
      await until(`the agent on ${replica.name}`, 10_000, async () => {
        const agents = Object.values(await replica.entries<AgentView>("/api/agents"));
        return agents.length === 1 && agents[0]?.node === "node-a" && agents[0].state === "connected"
          ? true
          : undefined;
      });
    const counted = () =>
      deployment.query<{ total: string; bad: string }>(
        `SELECT sum(t) AS total, sum(b) AS bad FROM (
           SELECT argMax(total, version) AS t, argMax(bad, version) AS b FROM coroot.sli_minutes
           WHERE service = 'default/node-a/Container/catalog' GROUP BY service, minute)`,
      );
    await until("every minute in the store", 90_000, async () =>
      Number((await counted())[0]?.total ?? 0) >= (SCRAPES - 1) * EACH ? true : undefined,
    );
    expect((await counted()).map(({ total, bad }) => [Number(total), Number(bad)])).toEqual([
      [(SCRAPES - 1) * EACH, 0],
    ]);
  }, 180_000);
});
