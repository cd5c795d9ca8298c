/**
 * The one HTTP server: page, API, Prometheus' API, /health, /metrics, and the sockets of agents (`/agent`) and pages
 * (`/live`).
 * Owned by its layer's scope; closing it stops listening at once and ends what is under way. A request that fails is
 * answered 500 and logged; it takes nothing else with it. A port that is taken is one clear message, and no start.
 */
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { HttpApiBuilder } from "@effect/platform";
import { NodeHttpServer } from "@effect/platform-node";
import { Context, Data, Effect, FiberRef, FiberSet, Layer, Metric } from "effect";
import { Api } from "../../schemas/api.ts";
import { TurnScheduler } from "../actor/TurnScheduler.ts";
import { AgentLink } from "../ingest/AgentLink.ts";
import { MetricsQuery } from "../promql/MetricsQuery.ts";
import type { Logs } from "../telemetry/Logs.ts";
import type { Traces } from "../telemetry/Traces.ts";
import { AdminGroupLive, IncidentGroupLive, QueryGroupLive, ReadGroupLive } from "./Api.ts";
import type { DoorServer } from "../doors/serve.ts";
import { checkDoor, checkHost, checkOrigin, SECURITY_HEADERS } from "./guard.ts";
import type { Refused } from "./guard.ts";
import { PageHub } from "./PageHub.ts";
import { TelemetryGroupLive } from "./telemetryApi.ts";
import type { Profiles } from "../telemetry/Profiles.ts";
import { prometheusText } from "./prometheus.ts";
import { answerPrometheus, PROMETHEUS_PREFIX } from "./prometheusApi.ts";
import { sendText, servePage } from "./staticPage.ts";
import { HealthPort } from "./Topics.ts";
import type { CommandsPort, HistoryPort, QueryPort, Topics } from "./Topics.ts";

export class ListenError extends Data.TaggedError("ListenError")<{
  readonly host: string;
  readonly port: number;
  readonly code: string;
}> {
  /** for the entry point */
  readonly exitCode = 2;
  override get message(): string {
    const at = `port ${this.port} on ${this.host}`;
    const how = "Choose another by server.port in the configuration or COROOT_PORT.";
    if (this.code === "EADDRINUSE") return `The server cannot start: ${at} is taken by another program. ${how}`;
    if (this.code === "EACCES") return `The server cannot start: this user may not listen on ${at}. ${how}`;
    return `The server cannot start: it cannot listen on ${at} (${this.code}). ${how}`;
  }
}

export interface HttpServer {
  readonly host: string;
  /** the port that is listened on, also when 0 was asked for */
  readonly port: number;
  readonly url: string;
}
export const HttpServer = Context.GenericTag<HttpServer>("runtime/http/HttpServer");

export interface HttpServerOptions {
  readonly host: string;
  readonly port: number;
  /** directory of the built page */
  readonly pageDir: string;
  readonly serverId: string;
  readonly version: string;
  /** takes sockets of other replicas, at /replica */
  readonly replicas?: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
  /** takes telemetry that others send, at /v1/ */
  readonly doors?: DoorServer;
}

const MAX_CONNECTIONS = 4096;
const refusedTotal = Metric.counter("coroot_http_refused_total", {
  description: "requests refused because of their Host or Origin",
  incremental: true,
});
const failedTotal = Metric.counter("coroot_http_failed_total", {
  description: "requests that failed inside the server",
  incremental: true,
});

const STATUS_TEXT = { 403: "Forbidden", 404: "Not Found", 421: "Misdirected Request" } as const;

const refuseUpgrade = (socket: Duplex, status: keyof typeof STATUS_TEXT, message: string): void => {
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_TEXT[status]}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n${message}\n`,
  );
};

const guardRequest = (request: IncomingMessage, port: number, upgrade: boolean): Refused | null => {
  const { host, origin } = request.headers;
  const refused = checkHost(host, port) ?? checkOrigin({ method: request.method, upgrade, origin, host });
  if (refused !== null) refusedTotal.unsafeUpdate(1, []);
  return refused;
};

const guardDoor = (request: IncomingMessage, port: number): Refused | null => {
  const refused = checkDoor(request.headers, port);
  if (refused !== null) refusedTotal.unsafeUpdate(1, []);
  return refused;
};

/** The path alone. The authority of an absolute request line is not ours to believe. */
const pathOf = (request: IncomingMessage): string => {
  const url = request.url ?? "/";
  if (!url.startsWith("/")) return URL.canParse(url) ? new URL(url).pathname : "/";
  const end = url.search(/[?#]/);
  return end < 0 ? url : url.slice(0, end);
};

const ApiLive = Layer.mergeAll(
  HttpApiBuilder.api(Api).pipe(
    Layer.provide([ReadGroupLive, IncidentGroupLive, QueryGroupLive, TelemetryGroupLive, AdminGroupLive]),
  ),
  HttpApiBuilder.Router.Live,
  HttpApiBuilder.Middleware.layer,
  NodeHttpServer.layerContext,
);

const make = (options: HttpServerOptions) =>
  Effect.gen(function* () {
    const agents = yield* AgentLink;
    const pages = yield* PageHub;
    const health = yield* HealthPort;
    const metrics = yield* MetricsQuery;
    const clock = yield* Effect.clock;
    const startedAt = clock.unsafeCurrentTimeMillis();
    const api = yield* NodeHttpServer.makeHandler(yield* HttpApiBuilder.httpApp);
    const fibers = yield* FiberSet.make<void>();
    const run = yield* FiberSet.runtime(fibers)<never>();
    let port = options.port;

    const answerHealth = (response: ServerResponse) =>
      Effect.map(health.parts, (parts) => {
        const states = Object.values(parts).map((part) => part.state);
        const state = states.every((one) => one === "up") ? "up" : "degraded";
        response.writeHead(200, { "content-type": "application/json", "cache-control": "no-store" });
        const { serverId, version } = options;
        response.end(
          `${JSON.stringify({ state, serverId, version, uptimeMs: clock.unsafeCurrentTimeMillis() - startedAt, parts })}\n`,
        );
      });

    const answer = (path: string, request: IncomingMessage, response: ServerResponse) => {
      if (path === "/health") return answerHealth(response);
      if (path === "/metrics")
        return Effect.sync(() => {
          response.writeHead(200, { "content-type": "text/plain; version=0.0.4", "cache-control": "no-store" });
          response.end(prometheusText());
        });
      if (path.startsWith(PROMETHEUS_PREFIX)) return answerPrometheus(metrics, path, request, response);
      return Effect.promise(() => servePage(options.pageDir, path, request, response));
    };

    const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
      for (const [name, value] of Object.entries(SECURITY_HEADERS)) response.setHeader(name, value);
      const path = pathOf(request);
      const doors = options.doors?.serves(path) === true ? options.doors : null;
      const refused = doors === null ? guardRequest(request, port, false) : guardDoor(request, port);
      if (refused !== null) return sendText(response, refused.status, refused.message);
      if (path.startsWith("/api/") && !path.startsWith(PROMETHEUS_PREFIX)) {
        response.setHeader("cache-control", "no-store");
        api(request, response);
        return;
      }
      run(
        (doors ?? { answer }).answer(path, request, response).pipe(
          Effect.catchAllDefect((defect) => {
            // the reader went away in the middle of a file
            if (response.destroyed || request.destroyed) return Effect.void;
            failedTotal.unsafeUpdate(1, []);
            if (!response.headersSent) sendText(response, 500, "The server failed on this request");
            else response.destroy();
            return Effect.logError(`request for ${path} failed`, defect);
          }),
        ),
      );
    };

    const onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
      socket.on("error", () => socket.destroy());
      const refused = guardRequest(request, port, true);
      if (refused !== null) return refuseUpgrade(socket, refused.status, refused.message);
      const path = pathOf(request);
      if (path === "/agent") agents.upgrade(request, socket, head);
      else if (path === "/live") pages.upgrade(request, socket, head);
      else if (path === "/replica" && options.replicas !== undefined) options.replicas(request, socket, head);
      else refuseUpgrade(socket, 404, "Sockets are served at /agent and /live");
    };

    const server = yield* Effect.acquireRelease(
      Effect.async<ReturnType<typeof createServer>, ListenError>((resume) => {
        const made = createServer({ maxHeaderSize: 16 * 1024, requestTimeout: 30_000, headersTimeout: 10_000 });
        made.maxConnections = MAX_CONNECTIONS;
        made.once("error", (error: Error & { readonly code?: string }) => {
          const { host } = options;
          resume(Effect.fail(new ListenError({ host, port: options.port, code: error.code ?? error.message })));
        });
        made.listen(options.port, options.host, () => resume(Effect.succeed(made)));
      }),
      // upgraded sockets belong to their hubs, which close them; so there is nothing to wait for here
      (made) =>
        Effect.sync(() => {
          made.close();
          made.closeAllConnections();
        }),
    );
    port = (server.address() as AddressInfo).port;
    const scheduler = yield* FiberRef.get(FiberRef.currentScheduler);
    if (scheduler instanceof TurnScheduler) server.on("connection", () => scheduler.hurry());
    server.on("request", onRequest);
    server.on("upgrade", onUpgrade);
    const { host } = options;
    return HttpServer.of({ host, port, url: `http://${host.includes(":") ? `[${host}]` : host}:${port}` });
  });

/** Needs the sockets' owners and the ports of Topics.ts; gives the address that it listens on. */
export const HttpServerLive = (
  options: HttpServerOptions,
): Layer.Layer<
  HttpServer,
  ListenError,
  | AgentLink
  | PageHub
  | HealthPort
  | HistoryPort
  | QueryPort
  | CommandsPort
  | Topics
  | MetricsQuery
  | Profiles
  | Logs
  | Traces
> => Layer.scoped(HttpServer, make(options)).pipe(Layer.provide(ApiLive));
