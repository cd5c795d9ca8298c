/** The HTTP server as a browser, an agent and an attacker meet it: real sockets on a free port. */
import { request } from "node:http";
import type { IncomingHttpHeaders } from "node:http";
import { connect } from "node:net";
import { HttpApi } from "@effect/platform";
import { Effect, Layer, PubSub } from "effect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Api, Permission } from "../../../schemas/api.ts";
import { ListenError } from "../../../runtime/http/Server.ts";
import { HistoryError } from "../../../runtime/http/Topics.ts";
import { Agent, until } from "../ingest/agent.ts";
import { makePage, makeWorld, Page, serverLayer, startServer } from "./page.ts";
import type { ServerUnderTest } from "./page.ts";

let under: ServerUnderTest;
interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}
const ask = (path: string, headers: Record<string, string> = {}, method = "GET"): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const { port } = under.server;
    const sent = request({ host: "127.0.0.1", port, path, method, headers, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (part: string) => (text += part));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
    });
    sent.on("error", reject);
    sent.end();
  });
const json = async (path: string): Promise<unknown> => JSON.parse((await ask(path)).text);

/** Asks for an upgrade by hand and gives the first line of the answer. */
const upgrade = (path: string, headers: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect(under.server.port, "127.0.0.1", () =>
      socket.write(
        `GET ${path} HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${headers}\r\n\r\n`,
      ),
    );
    socket.once("data", (data) => {
      resolve(String(data));
      socket.destroy();
    });
    socket.once("error", reject);
  });

const local = (): string => `127.0.0.1:${under.server.port}`;

beforeAll(async () => {
  under = await startServer();
});
afterAll(() => under.close());

describe("the page", () => {
  it("is served with its files, and places within it", async () => {
    const index = await ask("/");
    expect(index).toMatchObject({ status: 200, text: "<!doctype html><title>page</title>" });
    expect(index.headers).toMatchObject({ "content-type": "text/html; charset=utf-8", "cache-control": "no-cache" });
    expect((await ask("/services/default%2Fprod%2FPod%2Fshop.v1?x=1")).text).toBe(index.text);
    const script = await ask("/assets/index-Bx3kd9fA.js");
    expect(script.headers).toMatchObject({
      "content-type": "text/javascript; charset=utf-8",
      "cache-control": "public, max-age=31536000, immutable",
    });
    expect((await ask("/assets/gone-00000000.js")).status).toBe(404);
    expect((await ask("/", {}, "HEAD")).text).toBe("");
    expect((await ask("/", {}, "DELETE")).status).toBe(405);
  });

  it("never leaves its directory", async () => {
    for (const path of [
      "/../../../../etc/passwd",
      "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
      "/..%2f..%2f..%2fetc%2fpasswd",
    ]) {
      const answer = await ask(path);
      expect(answer.text).not.toContain("root:");
      expect([200, 404]).toContain(answer.status);
    }
    expect((await ask("/%")).status).toBe(400);
    expect((await ask("/%00")).status).toBe(400);
  });

  it("comes with headers that keep others out", async () => {
    for (const path of ["/", "/health", "/api/overview", "/nothing"]) {
      const { headers } = await ask(path);
      expect(headers["content-security-policy"]).toContain("default-src 'self'");
      expect(headers).toMatchObject({
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
      });
      expect(headers["access-control-allow-origin"]).toBeUndefined();
    }
  });
});

describe("the API", () => {
  it("answers each topic as the page sees it", async () => {
    const topics = {
      services: "services",
      map: "map",
      incidents: "incidents",
      agents: "agents",
      actors: "console",
      "service?id=default%2Fprod%2FPod%2Fshop": "service:default/prod/Pod/shop",
      "incidents/i-1": "incident:i-1",
      "actors/trace?id=7": "trace:7",
      "actors/dead-letters": "dead-letters",
      "actor?path=%2Fservices%2Fshop": "actor:/services/shop",
    };
    for (const [path, topic] of Object.entries(topics)) {
      under.world.topics.set(topic, new Map([["k", { of: topic }]]));
      expect(await json(`/api/${path}`)).toEqual({
        topic,
        nowMs: expect.any(Number) as number,
        entries: { k: { of: topic } },
      });
    }
    expect(await json("/api/overview")).toMatchObject({ entries: { overview: { services: 0 } } });
  });

  it("says what is not there, not right, or not possible now", async () => {
    const missing = await ask("/api/service?id=nobody");
    expect(missing.status).toBe(404);
    expect(JSON.parse(missing.text)).toEqual({ _tag: "NotFound", message: "there is no service nobody" });
    expect((await ask("/api/service")).status).toBe(400);
    expect((await ask("/api/nothing")).status).toBe(404);
    expect((await ask("/api/history?service=a&from=2&to=1")).status).toBe(400);
    for (const at of ["x", "0", "-5"]) expect((await ask(`/api/map?at=${at}`)).status).toBe(400);
    expect((await ask("/api/history?service=a&from=x&to=1")).status).toBe(400);
    const long = await ask(`/api/history?service=a&from=0&to=${30 * 86_400_000}`);
    expect(JSON.parse(long.text)).toMatchObject({ message: "from, to: expected at most 7 days" });
    under.world.history = () => Effect.fail(new HistoryError({ message: "the store is starting" }));
    const down = await ask("/api/history?service=a&from=1&to=2");
    expect(down.status).toBe(503);
    expect(JSON.parse(down.text)).toMatchObject({ message: "the store is starting" });
    under.world.failing.add("map");
    expect((await ask("/api/map")).status).toBe(500);
    under.world.failing.delete("map");
    expect((await ask("/api/map")).status).toBe(200);
  });

  it("gives history from the store", async () => {
    const point = { service: "a", ts: 5, requests: 1, errors: 0, p50: 1.5, p95: null, p99: null, cpu: null, memory: 7 };
    under.world.history = (from, to) => Effect.succeed(from === 1 && to === 9 ? [point] : []);
    expect(await json("/api/history?service=a&from=1&to=9")).toEqual({
      service: "a",
      from: 1,
      to: 9,
      points: [{ ts: 5, requests: 1, errors: 0, p50: 1.5, p95: null, p99: null, cpu: null, memory: 7 }],
    });
  });

  it("runs a query, and tells a wrong one from a store that is away", async () => {
    const post = async (body: object) => {
      const answer = await fetch(`http://127.0.0.1:${under.server.port}/api/query`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      });
      return [answer.status, await answer.json()] as const;
    };
    const answer = { columns: [{ name: "1", type: "UInt8" }], truncated: false };
    expect(await post({ sql: "SELECT 1" })).toEqual([200, { ...answer, rows: [[1000]] }]);
    expect(await post({ sql: "SELECT 1", rows: 5 })).toEqual([200, { ...answer, rows: [[5]] }]);
    expect(await post({ sql: "nonsense" })).toMatchObject([400, { message: "no nonsense" }]);
    expect(await post({ sql: "down" })).toMatchObject([503, { message: "no down" }]);
    for (const wrong of [{}, { sql: "" }, { sql: "SELECT 1", rows: 10_001 }, { sql: "SELECT 1", params: { a: 1 } }])
      expect((await post(wrong))[0]).toBe(400);
  });

  it("declares the permission of every route, and none to read for one that changes something", () => {
    const routes = new Map<string, string>();
    HttpApi.reflect(Api, {
      onGroup: () => undefined,
      onEndpoint: ({ endpoint, mergedAnnotations }) => {
        const permission = mergedAnnotations.unsafeMap.get(Permission.key) as string | undefined;
        routes.set(`${endpoint.method} ${endpoint.path}`, permission ?? "none");
      },
    });
    for (const [route, permission] of routes)
      expect(permission, route).toMatch(
        route.startsWith("GET ") ? /^[a-z]+:(read|admin)$/ : /^[a-z]+:(write|admin|query)$/,
      );
    const admin = [...routes].filter(([, permission]) => permission === "console:admin").map(([route]) => route);
    expect(admin.sort()).toEqual(["GET /api/actors/dump", "GET /api/audit", "POST /api/actors/action"]);
  });
});

describe("about itself", () => {
  it("tells its health without a key", async () => {
    expect(await json("/health")).toMatchObject({
      state: "up",
      serverId: "server-1",
      parts: { store: { state: "up" } },
    });
    under.world.health = { store: { state: "down", message: "refused" } };
    expect(await json("/health")).toMatchObject({ state: "degraded", parts: { store: { message: "refused" } } });
  });

  it("counts in Prometheus text", async () => {
    await ask("/", { host: "evil.example" });
    const { text, headers } = await ask("/metrics");
    expect(headers["content-type"]).toContain("version=0.0.4");
    expect(text).toMatch(/^# TYPE coroot_http_refused_total counter\ncoroot_http_refused_total [1-9]/m);
    expect(text).toMatch(/^process_resident_memory_bytes \d+$/m);
    for (const line of text.trimEnd().split("\n"))
      expect(line).toMatch(/^(# (HELP|TYPE) .+|[a-zA-Z_:][\w:]*(\{.*\})? (\+Inf|-?[\d.e+-]+))$/);
  });
});

describe("who may ask", () => {
  it("refuses a name that was made to point here", async () => {
    for (const path of ["/", "/health", "/api/overview"]) {
      const answer = await ask(path, { host: `evil.example:${under.server.port}` });
      expect(answer.status).toBe(421);
      expect(answer.text).toContain(`expected 127.0.0.1:${under.server.port}`);
    }
    expect((await ask("/", { host: "127.0.0.1" })).status).toBe(421);
    expect((await ask("/", { host: `LOCALHOST:${under.server.port}` })).status).toBe(200);
    expect((await ask("/", { host: `[::1]:${under.server.port}` })).status).toBe(200);
    expect(await upgrade("/live", "Host: evil.example")).toContain("421 Misdirected Request");
  });

  it("refuses sockets and changes from other pages", async () => {
    expect(await upgrade("/live", `Host: ${local()}\r\nOrigin: http://evil.example`)).toContain("403 Forbidden");
    expect(await upgrade("/agent", `Host: ${local()}\r\nOrigin: null`)).toContain("403 Forbidden");
    expect((await ask("/api/overview", { origin: "http://evil.example" }, "POST")).status).toBe(403);
    expect(await upgrade("/live", `Host: ${local()}\r\nOrigin: http://${local()}`)).toContain("101 Switching");
    expect(await upgrade("/live", `Host: ${local()}`)).toContain("101 Switching");
    expect(await upgrade("/other", `Host: ${local()}`)).toContain("404 Not Found");
  });

  it("takes agents and pages on the same port", async () => {
    const agent = await Agent.join(`${under.server.url.replace("http", "ws")}/agent`);
    const page = await new Page(under.server.url).open();
    page.ask("subscribe", "overview");
    await until("snapshot", () => page.count("snapshot") === 1);
    page.socket.close();
    await agent.leave();
  });

  it("outlives nonsense on the port", async () => {
    for (const bytes of ["\0\0\0\0", "GET / HTTP/9.9\r\n\r\n", `GET / HTTP/1.1\r\nX: ${"y".repeat(40_000)}\r\n\r\n`]) {
      await new Promise<void>((resolve) => {
        const socket = connect(under.server.port, "127.0.0.1", () => socket.write(bytes));
        socket.on("error", () => resolve());
        socket.on("close", () => resolve());
        socket.resume();
      });
    }
    expect((await ask("/health")).status).toBe(200);
  });
});

describe("start and stop", () => {
  it("says that the port is taken, and how to choose another", async () => {
    const changed = Effect.runSync(PubSub.sliding<void>(1));
    const layer = serverLayer(makeWorld(), changed, under.server.port, makePage());
    const error = await Effect.runPromise(Effect.flip(Effect.scoped(Layer.build(layer))));
    expect(error).toBeInstanceOf(ListenError);
    expect(error.exitCode).toBe(2);
    expect(error.message).toBe(
      `The server cannot start: port ${under.server.port} on 127.0.0.1 is taken by another program. Choose another by server.port in the configuration or COROOT_PORT.`,
    );
  });

  it("says that the page is not built, and serves the rest", async () => {
    const other = await startServer(makeWorld(), "/nonexistent");
    const answer = await fetch(`${other.server.url}/`);
    expect(answer.status).toBe(503);
    expect(await answer.text()).toContain("The page is not built");
    expect((await fetch(`${other.server.url}/health`)).status).toBe(200);
    await other.close();
  });

  it("stops with agents and pages connected, and tells the agents", async () => {
    const other = await startServer();
    const agent = await Agent.join(`${other.server.url.replace("http", "ws")}/agent`);
    const page = await new Page(other.server.url).open();
    await other.close();
    expect(await agent.goaway()).toMatchObject({ code: "shutdown" });
    await until("the page's socket is closed", () => page.closed);
    await expect(fetch(`${other.server.url}/health`)).rejects.toThrow();
  });
});
