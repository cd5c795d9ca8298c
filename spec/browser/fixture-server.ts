/**
 * Serves the built page and plays a generated shop over the page's protocol, for the browser specs of rendering and for
 * working on the page without a server. Owned by the spec that starts it; `close()` ends its sockets and its clock.
 * Run it by hand: `npx tsx spec/browser/fixture-server.ts --port 5199 --scenario incident` (shop, incident, large, empty, blind).
 */
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { WebSocketServer, type WebSocket } from "ws";
import type { HistoryAnswer } from "../../schemas/api.ts";
import { PAGE_PROTOCOL, type PageMessage, type PageRequest } from "../../schemas/wire/page.ts";
import type { Made, Scenario } from "./shop-graph.ts";
import { incidentOf, incidentsOf } from "./shop-incident.ts";
import { actorsOf, agentsOf, overviewOf } from "./shop-inside.ts";
import { Shop } from "./shop.ts";

export interface Fixture {
  readonly url: string;
  readonly shop: Shop;
  /** ends all sockets, as a restarting server does; with `refuse` new ones are refused until `accept()` */
  readonly drop: (refuse: boolean) => void;
  readonly accept: () => void;
  /** leaves out one number of a topic, as if a message was lost */
  readonly skip: (topic: string) => void;
  /** a service that is discovered while the page is open, called by the first service */
  readonly discover: (service: Made) => void;
  readonly subscriptions: () => readonly string[];
  readonly close: () => Promise<void>;
}

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};
const DIST = fileURLToPath(new URL("../../dist/ui", import.meta.url));
const TICK_MS = 250;

interface Session {
  readonly socket: WebSocket;
  readonly topics: Map<string, { seq: number; sent: ReadonlyMap<string, string> }>;
}

export const startFixture = async (options: {
  readonly scenario: Scenario;
  readonly port?: number;
  /** folder of the built page */
  readonly dist?: string;
}): Promise<Fixture> => {
  const shop = new Shop(options.scenario, Date.now());
  const sessions = new Set<Session>();
  const skipped = new Set<string>();
  let refusing = false;

  const entriesOf = (topic: string): Readonly<Record<string, unknown>> => {
    const now = Date.now();
    const second = Math.floor(now / 1000);
    const everyone = [...shop.services, ...shop.late];
    if (topic === "overview") return { overview: overviewOf(shop, now) };
    if (topic === "services")
      return Object.fromEntries(everyone.map((service) => [service.id, shop.card(service, second, now)]));
    if (topic === "map")
      return Object.fromEntries([
        ...everyone.map((service) => [`node:${service.id}`, shop.card(service, second, now)] as const),
        ...[...shop.calls, ...lateCalls(shop)].map(
          (call) => [`edge:${call.from.id}>${call.to.id}`, shop.edge(call, second)] as const,
        ),
      ]);
    if (topic === "incidents") return incidentsOf(shop);
    if (topic === "agents") return agentsOf(shop, now);
    if (topic === "console") return actorsOf(shop, second, now);
    const id = topic.slice(topic.indexOf(":") + 1);
    if (topic.startsWith("incident:")) {
      const incident = incidentOf(shop);
      return incident?.id === id ? { incident } : {};
    }
    if (topic.startsWith("actor:")) {
      const row = actorsOf(shop, second, now)[id];
      if (row === undefined) return {};
      const recent = Array.from({ length: 40 }, (_, n) => ({
        at: (second - n) * 1000,
        type: n % 5 === 0 ? "Tick" : "Window",
        from: n % 5 === 0 ? null : "agent-session/node-1",
        waitMs: 0.2 + (n % 7) / 10,
        handleMs: 0.1 + (n % 3) / 20,
        error: n === 11 ? "RangeError: histogram has 109 counters" : null,
      }));
      const state = {
        id,
        windows: { count: second % 900, latest: second * 1000 },
        slo: { state: "ok", key: "••••••" },
        edges: [
          { to: "postgres", rate: 1450 },
          { to: "redis", rate: 900 },
        ],
      };
      return { row, state, recent };
    }
    const service = everyone.find((each) => each.id === id);
    if (service === undefined) return {};
    const entries: Record<string, unknown> = {
      card: shop.card(service, second, now),
      slo: shop.slo(service),
      ...shop.inspections(service, now),
      ...shop.instances(service, second, now),
      live: shop.live(service, second - 900, second),
    };
    for (const call of shop.calls) {
      if (call.to === service) entries[`inbound:${call.from.id}`] = shop.edgeView(call, call.from, second, now);
      if (call.from === service) entries[`outbound:${call.to.id}`] = shop.edgeView(call, call.to, second, now);
    }
    return entries;
  };

  const send = (session: Session, message: PageMessage): void => session.socket.send(JSON.stringify(message));

  const tick = (): void => {
    const made = new Map<string, Readonly<Record<string, unknown>>>();
    for (const session of sessions)
      for (const [topic, held] of session.topics) {
        const entries = made.get(topic) ?? entriesOf(topic);
        made.set(topic, entries);
        const texts = asTexts(entries);
        const set = Object.fromEntries(
          Object.entries(entries)
            .filter(([key]) => held.sent.get(key) !== texts.get(key))
            // only the newest seconds of the charts, as a server does
            .map(([key, value]) => [key, key === "live" ? newest(value) : value]),
        );
        const del = [...held.sent.keys()].filter((key) => !texts.has(key));
        if (Object.keys(set).length === 0 && del.length === 0) continue;
        held.seq++;
        if (skipped.delete(topic)) held.seq++;
        held.sent = texts;
        send(session, { type: "delta", topic, seq: held.seq, nowMs: Date.now(), set, del });
      }
  };

  const server = createServer((request, response) => {
    const url = new URL(request.url ?? "/", "http://fixture");
    const answer = async (): Promise<void> => {
      if (url.pathname === "/api/history") {
        response.setHeader("content-type", "application/json");
        response.end(JSON.stringify(historyOf(shop, url.searchParams)));
        return;
      }
      const file =
        extname(url.pathname) === "" || url.pathname.startsWith("/service/") || url.pathname.startsWith("/console/")
          ? "/index.html"
          : url.pathname;
      const body = await readFile(join(options.dist ?? DIST, normalize(file)));
      response.setHeader("content-type", TYPES[extname(file)] ?? "application/octet-stream");
      response.end(body);
    };
    answer().catch((error: unknown) => {
      response.statusCode = 404;
      response.end(String(error));
    });
  });
  const sockets = new WebSocketServer({ noServer: true });
  server.on("upgrade", (request, socket, head) => {
    if (refusing || request.url !== "/live") {
      socket.destroy();
      return;
    }
    sockets.handleUpgrade(request, socket, head, (webSocket) => {
      const session: Session = { socket: webSocket, topics: new Map() };
      sessions.add(session);
      send(session, {
        type: "hello",
        protocol: PAGE_PROTOCOL,
        serverId: "fixture",
        version: "0.1.0",
        nowMs: Date.now(),
      });
      webSocket.on("message", (data) => {
        const message = JSON.parse(String(data)) as PageRequest;
        if (message.type === "unsubscribe") {
          session.topics.delete(message.topic);
          return;
        }
        const entries = entriesOf(message.topic);
        if (Object.keys(entries).length === 0 && message.topic.includes(":")) {
          send(session, { type: "error", topic: message.topic, message: "there is no such topic" });
          return;
        }
        const held = { seq: 1, sent: asTexts(entries) };
        session.topics.set(message.topic, held);
        send(session, { type: "snapshot", topic: message.topic, seq: held.seq, nowMs: Date.now(), entries });
      });
      webSocket.on("close", () => sessions.delete(session));
    });
  });
  await new Promise<void>((resolve) => server.listen(options.port ?? 0, "127.0.0.1", resolve));
  const timer = setInterval(tick, TICK_MS);
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    shop,
    drop: (refuse) => {
      refusing = refuse;
      for (const { socket } of sessions) socket.terminate();
    },
    accept: () => {
      refusing = false;
    },
    skip: (topic) => {
      skipped.add(topic);
    },
    discover: (service) => {
      shop.late.push(service);
    },
    subscriptions: () => [...sessions].flatMap((session) => [...session.topics.keys()]).sort(),
    close: async () => {
      clearInterval(timer);
      for (const { socket } of sessions) socket.terminate();
      sockets.close();
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
};

const asTexts = (entries: Readonly<Record<string, unknown>>): Map<string, string> =>
  new Map(Object.entries(entries).map(([key, value]) => [key, JSON.stringify(value)]));

const lateCalls = (shop: Shop): Shop["calls"] => {
  const caller = shop.services[0];
  return caller === undefined ? [] : shop.late.map((to) => ({ from: caller, to, share: 0.5, protocol: "http" }));
};

const newest = (value: unknown): unknown =>
  typeof value === "object" && value !== null
    ? Object.fromEntries(
        Object.entries(value).map(([name, column]) => [name, Array.isArray(column) ? column.slice(-3) : column]),
      )
    : value;

/** As runtime/http/Api.ts answers: figures per second. */
const historyOf = (shop: Shop, query: URLSearchParams): typeof HistoryAnswer.Type => {
  const name = query.get("service") ?? "";
  const [from, to] = [Number(query.get("from")), Number(query.get("to"))];
  const service = shop.services.find((each) => each.id === name);
  if (service === undefined) return { service: name, from, to, points: [] };
  const step = Math.max(10, Math.ceil((to - from) / 400 / 10_000) * 10) * 1000;
  const first = Math.ceil(from / step) * step;
  const points = Array.from({ length: Math.max(0, Math.floor((to - first) / step)) }, (_, n) => {
    const ts = first + n * step;
    const rate = service.rate * (1 + 0.4 * Math.sin(ts / 5_400_000));
    const traffic = shop.traffic(service.id, rate, service.ms, ts / 1000, { errors: 0.0004, slow: 1 });
    return {
      ts,
      requests: traffic.requestsPerSecond,
      errors: traffic.requestsPerSecond * traffic.errorRatio,
      p50: traffic.p50Ms,
      p95: traffic.p95Ms,
      p99: traffic.p99Ms,
      cpu: 0.1 + rate / 1500,
      memory: 120 * 1024 * 1024 * (1 + 0.05 * Math.sin(ts / 9_000_000)),
    };
  });
  return { service: name, from, to, points };
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { port: { type: "string" }, scenario: { type: "string" } } });
  const fixture = await startFixture({
    scenario: (values.scenario ?? "incident") as Scenario,
    port: Number(values.port ?? 5199),
  });
  process.stdout.write(`${fixture.url}\n`);
}
