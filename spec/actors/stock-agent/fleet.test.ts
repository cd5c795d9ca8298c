/** A fleet of stock agents under virtual time, from the bytes of their calls to map, services and incidents. */
import { Effect } from "effect";
import { describe, expect } from "vitest";
import { simulated, type Bed } from "./simulate.ts";
import { kubeScrape, StockNode } from "./StockFleet.ts";

const SCRAPE_MS = 15_000;
const FRONT = "/k8s/shop/front-6d4cf56db6-x2x4z/front";
const CATALOG = "/k8s/shop/catalog-0/catalog";
const POSTGRES = "/system.slice/postgresql.service";
const CACHE = "/docker/cache";

/** Two nodes: the front on one calls what is on the other. */
const shop = () => {
  const [a, b] = [new StockNode("node-a", "aaaa1111"), new StockNode("node-b", "bbbb2222")];
  a.container(FRONT, ["10.1.0.1:3000"], "nodejs");
  b.container(CATALOG, ["10.1.0.2:5000"], "python");
  b.container(POSTGRES, ["10.0.0.2:5432"], "postgres");
  b.container(CACHE, ["172.17.0.2:6379"], "redis");
  return { a, b };
};
type Shop = ReturnType<typeof shop>;

/** What happens between two scrapes: 10 requests a second. */
const traffic = ({ a, b }: Shop, bad: number): void => {
  a.connects(FRONT, "10.96.0.7:80", "10.1.0.2:5000", 15, 4);
  if (bad < 150) a.requests(FRONT, "http_requests", "10.96.0.7:80", "10.1.0.2:5000", 150 - bad, "2xx", 0.04);
  if (bad > 0) a.requests(FRONT, "http_requests", "10.96.0.7:80", "10.1.0.2:5000", bad, "5xx", 0.04);
  b.connects(CATALOG, "10.0.0.2:5432", "10.0.0.2:5432", 3, 2);
  b.requests(CATALOG, "postgres_queries", "10.0.0.2:5432", "10.0.0.2:5432", 300, "ok", 0.003);
  b.requests(CATALOG, "redis_queries", "172.17.0.2:6379", "172.17.0.2:6379", 75, "ok", 0.0004);
  for (const id of [CATALOG, POSTGRES, CACHE]) b.cpu(id, 3);
  a.cpu(FRONT, 1.5);
};

const scrapes = (bed: Bed, fleet: Shop, n: number, between: (i: number) => void) =>
  Effect.gen(function* () {
    for (let i = 0; i < n; i++) {
      between(i);
      bed.send(fleet.a.scrape(bed.time.now()));
      yield* bed.time.advance(7_000);
      bed.send(fleet.b.scrape(bed.time.now()));
      yield* bed.time.advance(SCRAPE_MS - 7_000);
    }
  });

const id = (namespace: string, kind: string, name: string): string => `default/${namespace}/${kind}/${name}`;
const FRONT_ID = id("shop", "Deployment", "front");
const CATALOG_ID = id("shop", "StatefulSet", "catalog");
const POSTGRES_ID = id("node-b", "SystemdUnit", "postgresql");
const CACHE_ID = id("node-b", "Container", "cache");

describe("a fleet of stock agents", () => {
  simulated("has its services, calls, rates, latencies and resources on the page", (bed) =>
    Effect.gen(function* () {
      const fleet = shop();
      yield* scrapes(bed, fleet, 6, () => traffic(fleet, 0));
      const services = bed.services();
      expect([...services.keys()].sort()).toEqual([CACHE_ID, POSTGRES_ID, FRONT_ID, CATALOG_ID].sort());
      const catalog = services.get(CATALOG_ID);
      expect(catalog).toMatchObject({ kind: "StatefulSet", type: "python", instances: 1, status: "ok", hasSlo: true });
      expect(catalog?.inbound.requestsPerSecond).toBeCloseTo(10, 1);
      // 40 ms lie between the bounds 25 and 50 ms
      expect(catalog?.inbound.p50Ms).toBeGreaterThan(25);
      expect(catalog?.inbound.p50Ms).toBeLessThan(50);
      expect(catalog?.cpuCores).toBeCloseTo(0.2, 2);
      expect(catalog?.memoryBytes).toBe(50e6);
      const calls = bed.edges();
      expect(calls.map(({ from, to, protocols }) => [from, to, protocols.join()]).sort()).toEqual(
        [
          [FRONT_ID, CATALOG_ID, "http"],
          [CATALOG_ID, POSTGRES_ID, "postgres"],
          [CATALOG_ID, CACHE_ID, "redis"],
        ].sort(),
      );
      const query = calls.find(({ to }) => to === POSTGRES_ID);
      expect(query?.traffic.requestsPerSecond).toBeCloseTo(20, 1);
      expect(query?.traffic.errorRatio).toBe(0);
      // all in the first bucket: where the sum of the durations says
      expect(query?.traffic.p50Ms).toBeCloseTo(3, 0);
      expect(bed.incidents()).toEqual([]);
    }),
  );

  simulated("is the same at every moment between two scrapes", (bed) =>
    Effect.gen(function* () {
      const fleet = shop();
      yield* scrapes(bed, fleet, 6, () => traffic(fleet, 0));
      for (let i = 0; i < 6; i++) {
        traffic(fleet, 0);
        bed.send(fleet.a.scrape(bed.time.now()));
        for (let s = 0; s < 15; s++) {
          yield* bed.time.advance(1_000);
          if (s === 6) bed.send(fleet.b.scrape(bed.time.now()));
          const catalog = bed.services().get(CATALOG_ID);
          expect(catalog?.inbound.requestsPerSecond).toBeCloseTo(10, 1);
          expect(catalog?.inbound.p95Ms).not.toBeNull();
          expect(catalog?.cpuCores).toBeCloseTo(0.2, 1);
        }
      }
    }),
  );

  simulated("opens an incident with the second bad scrape, and ends it", (bed) =>
    Effect.gen(function* () {
      const fleet = shop();
      yield* scrapes(bed, fleet, 10, () => traffic(fleet, 0));
      // Errors begin right after a scrape: it takes the next one to see them and one more to believe them.
      const began = bed.time.now() - SCRAPE_MS;
      yield* scrapes(bed, fleet, 1, () => traffic(fleet, 90));
      expect(bed.incidents().filter(({ openedAt }) => openedAt !== null)).toEqual([]);
      yield* scrapes(bed, fleet, 3, () => traffic(fleet, 90));
      const [incident] = bed.incidents();
      expect(incident).toMatchObject({ service: CATALOG_ID, status: "open" });
      expect((incident?.openedAt ?? 0) - began).toBeLessThanOrEqual(15_000 + SCRAPE_MS + 3_000);
      expect(bed.alerts.map(({ event }) => event)).toContain("incident.opened");
      yield* scrapes(bed, fleet, 8, () => traffic(fleet, 0));
      expect(bed.incidents()[0]).toMatchObject({ status: "resolved" });
    }),
  );

  simulated("opens nothing for one bad scrape", (bed) =>
    Effect.gen(function* () {
      const fleet = shop();
      yield* scrapes(bed, fleet, 10, () => traffic(fleet, 0));
      yield* scrapes(bed, fleet, 1, () => traffic(fleet, 90));
      yield* scrapes(bed, fleet, 8, () => traffic(fleet, 0));
      expect(bed.incidents().filter(({ openedAt }) => openedAt !== null)).toEqual([]);
    }),
  );

  simulated("counts each request once, however often and in whatever order its call comes", (bed) =>
    Effect.gen(function* () {
      const fleet = shop();
      for (let i = 0; i < 20; i++) {
        traffic(fleet, 0);
        const [a, b] = [fleet.a.scrape(bed.time.now()), fleet.b.scrape(bed.time.now())];
        for (let again = 0; again < 3; again++) {
          bed.send(again === 1 ? [...a].reverse() : a);
          bed.send(b);
          yield* bed.time.advance(1_000);
        }
        yield* bed.time.advance(SCRAPE_MS - 3_000);
      }
      yield* bed.time.advance(120_000);
      expect(minutes(bed, CATALOG_ID)).toEqual({ total: 19 * 150, bad: 0 });
      expect(bed.agents()[0]?.losses["samples that came again or late"]).toBeGreaterThan(0);
    }),
  );

  simulated("judges what comes late, and opens no incident for it", (bed) =>
    Effect.gen(function* () {
      const fleet = shop();
      yield* scrapes(bed, fleet, 10, () => traffic(fleet, 0));
      // The server is away for a minute and a half: scrapes wait on the agents' disks and come at once, oldest first.
      const spooled: ReturnType<StockNode["scrape"]>[] = [];
      for (let i = 0; i < 6; i++) {
        traffic(fleet, 90);
        spooled.push(fleet.a.scrape(bed.time.now()), fleet.b.scrape(bed.time.now() + 7_000));
        yield* bed.time.advance(SCRAPE_MS);
      }
      traffic(fleet, 0);
      for (const call of spooled) {
        bed.send(call);
        yield* bed.time.advance(100);
      }
      yield* scrapes(bed, fleet, 8, () => traffic(fleet, 0));
      yield* bed.time.advance(120_000);
      expect(minutes(bed, CATALOG_ID)).toMatchObject({ bad: 6 * 90 });
      expect(bed.incidents().filter(({ openedAt }) => openedAt !== null)).toEqual([]);
    }),
  );

  simulated("says that a service is down when its container is gone, and unknown when its agent is", (bed) =>
    Effect.gen(function* () {
      const fleet = shop();
      yield* scrapes(bed, fleet, 4, () => traffic(fleet, 0));
      fleet.b.remove(CACHE);
      yield* scrapes(bed, fleet, 1, () => traffic(fleet, 0));
      expect(bed.services().get(CACHE_ID)).toMatchObject({
        instances: 0,
        status: "warning",
        reason: "no instance is running",
      });
      expect(bed.agents().map(({ state }) => state)).toEqual(["connected", "connected"]);
      // Now the agent on the other node is silent.
      for (let i = 0; i < 5; i++) {
        traffic(fleet, 0);
        bed.send(fleet.b.scrape(bed.time.now()));
        yield* bed.time.advance(SCRAPE_MS);
      }
      const [a, b] = [...bed.agents()].sort((x, y) => x.node.localeCompare(y.node));
      expect(a).toMatchObject({ node: "node-a", state: "disconnected", version: "coroot-node-agent 1.26.0" });
      expect(b).toMatchObject({ node: "node-b", state: "connected", kernel: "6.8.0-45-generic" });
      const front = bed.services().get(FRONT_ID);
      expect(front).toMatchObject({ instances: 0, reason: "" });
      expect(front?.status).not.toBe("warning");
      // It comes back, and all is as before.
      yield* scrapes(bed, fleet, 4, () => traffic(fleet, 0));
      expect(bed.services().get(FRONT_ID)).toMatchObject({ instances: 1, status: "ok" });
      expect(bed.services().get(CATALOG_ID)?.inbound.requestsPerSecond).toBeCloseTo(10, 0);
    }),
  );

  simulated("tells restarts and kills for lack of memory as what happened", (bed) =>
    Effect.gen(function* () {
      const fleet = shop();
      yield* scrapes(bed, fleet, 3, () => traffic(fleet, 0));
      yield* scrapes(bed, fleet, 1, () => {
        traffic(fleet, 0);
        for (const name of ["container_restarts_total", "container_oom_kills_total"])
          fleet.b.add(name, { container_id: CATALOG, app_id: CATALOG }, 2);
      });
      const events = bed.rows.filter(({ table }) => table === "events").flatMap(({ rows }) => rows);
      const texts = events.filter(({ service }) => service === CATALOG_ID).map(({ kind, text }) => `${kind}: ${text}`);
      expect(texts.filter((text) => text === "oom: a process of catalog was killed for lack of memory")).toHaveLength(
        2,
      );
      expect(texts.filter((text) => text === "exit: catalog ended and was started again")).toHaveLength(2);
      expect(bed.services().get(CATALOG_ID)).toMatchObject({ instances: 1, status: "warning" });
    }),
  );

  simulated("goes on where an agent starts anew, and after a gap", (bed) =>
    Effect.gen(function* () {
      const fleet = shop();
      yield* scrapes(bed, fleet, 4, () => traffic(fleet, 0));
      fleet.a.restart();
      yield* scrapes(bed, fleet, 4, () => traffic(fleet, 0));
      // Five minutes of which nobody knows to which minute they belong are not counted.
      for (let i = 0; i < 20; i++) traffic(fleet, 0);
      yield* bed.time.advance(300_000);
      yield* scrapes(bed, fleet, 4, () => traffic(fleet, 0));
      yield* bed.time.advance(120_000);
      expect(minutes(bed, CATALOG_ID)).toEqual({ total: (3 + 4 + 3) * 150, bad: 0 });
    }),
  );

  simulated("has the owners that the cluster agent tells, and services' addresses", (bed) =>
    Effect.gen(function* () {
      const fleet = shop();
      const odd = "/k8s/shop/worker-bcdfg/worker";
      const kube = (): void =>
        bed.send(
          kubeScrape(
            [
              [
                "kube_pod_info",
                {
                  namespace: "shop",
                  pod: "worker-bcdfg",
                  node: "node-b",
                  created_by_kind: "Job",
                  created_by_name: "worker",
                },
              ],
              [
                "kube_job_owner",
                { namespace: "shop", job_name: "worker", owner_kind: "CronJob", owner_name: "nightly" },
              ],
              [
                "kube_pod_info",
                {
                  namespace: "shop",
                  pod: "catalog-0",
                  node: "node-b",
                  created_by_kind: "StatefulSet",
                  created_by_name: "catalog",
                },
              ],
              ["kube_service_info", { namespace: "shop", service: "catalog", uid: "u", cluster_ip: "10.96.0.7" }],
              [
                "kube_endpoint_address",
                { namespace: "shop", endpoint: "catalog", ip: "10.1.0.2", port_number: "5000", ready: "true" },
              ],
            ],
            bed.time.now(),
          ),
        );
      fleet.b.container(odd, []);
      yield* scrapes(bed, fleet, 2, () => traffic(fleet, 0));
      expect(bed.services().has(id("shop", "DaemonSet", "worker"))).toBe(true);
      // Connects that fail go nowhere: only the service's address is known.
      const lonely = "/docker/lonely";
      fleet.a.container(lonely, []);
      yield* scrapes(bed, fleet, 6, () => {
        kube();
        traffic(fleet, 0);
        fleet.a.failedConnects(lonely, "10.96.0.7:8080", 30);
      });
      expect(bed.services().get(id("shop", "CronJob", "nightly"))).toMatchObject({ instances: 1 });
      const call = bed.edges().find(({ from }) => from === id("node-a", "Container", "lonely"));
      expect(call).toMatchObject({ to: CATALOG_ID, status: "critical" });
      expect(call?.failedConnectsPerSecond).toBeCloseTo(2, 1);
    }),
  );

  simulated("takes the server's own view where agents tell it, and counts nothing twice", (bed) =>
    Effect.gen(function* () {
      const fleet = shop();
      yield* scrapes(bed, fleet, 8, () => {
        traffic(fleet, 0);
        // Somebody outside calls as well: only the server sees it.
        fleet.b.inbound(CATALOG, "http_requests", 300, "2xx", 0.04);
      });
      expect(bed.services().get(CATALOG_ID)?.inbound.requestsPerSecond).toBeCloseTo(20, 0);
      yield* bed.time.advance(120_000);
      expect(minutes(bed, CATALOG_ID)).toEqual({ total: 7 * 300, bad: 0 });
    }),
  );
});

/** What the store would have of a service: the newest row of each minute. */
const minutes = (bed: Bed, service: string): { total: number; bad: number } => {
  const newest = new Map<unknown, Record<string, unknown>>();
  for (const { table, rows } of bed.rows)
    if (table === "sli_minutes")
      for (const row of rows)
        if (row["service"] === service && Number(row["version"]) >= Number(newest.get(row["minute"])?.["version"] ?? 0))
          newest.set(row["minute"], row);
  const sum = (name: string): number => [...newest.values()].reduce((n, row) => n + Number(row[name]), 0);
  return { total: sum("total"), bad: sum("bad") };
};
