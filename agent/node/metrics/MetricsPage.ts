/**
 * `GET /metrics` of the agent: its last round of samples as Prometheus text. Owned by the node agent's scope, which closes
 * the socket. An address that cannot be had is said once in the log, and the agent goes on without. Knows no key: what it
 * says is for whoever may reach the address, so it is on only where one is configured.
 */
import { createServer } from "node:http";
import { Effect, type Scope } from "effect";

const PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8";

/** `listen` is HOST:PORT, an IPv6 host in brackets. Answers the port, null where it cannot listen. */
export const serveMetrics = (listen: string, text: () => string): Effect.Effect<number | null, never, Scope.Scope> =>
  Effect.gen(function* () {
    const at = listen.lastIndexOf(":");
    const host = listen.slice(0, at).replace(/^\[|\]$/g, "");
    const server = createServer((request, answer) => {
      const path = request.url?.split("?")[0];
      if (path !== "/metrics" || (request.method !== "GET" && request.method !== "HEAD")) {
        answer.writeHead(path === "/metrics" ? 405 : 404).end();
        return;
      }
      answer.writeHead(200, { "content-type": PROMETHEUS }).end(request.method === "HEAD" ? "" : text());
    });
    return yield* Effect.acquireRelease(
      Effect.async<number | null>((resume) => {
        server.once("error", (error) =>
          resume(Effect.as(Effect.logWarning(`/metrics cannot be served on ${listen}: ${error.message}`), null)),
        );
        server.listen(Number(listen.slice(at + 1)), host, () => {
          const address = server.address();
          resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : null));
        });
      }),
      () =>
        Effect.async<void>((resume) => {
          server.close(() => resume(Effect.void));
          server.closeAllConnections();
        }),
    );
  });
