/**
 * The front of the demo shop: answers nginx, calls the catalog and the cart.
 * A callee that fails makes the answer 502, one that takes longer than 2.5 s makes it 504; nothing is retried.
 * Settings come from the environment; end of standard input stops it.
 */
import http from "node:http";

const { LISTEN_HOST, LISTEN_PORT, CATALOG_URL, CART_URL } = process.env;
const UPSTREAM_TIMEOUT_MS = 2500;
const agent = new http.Agent({ keepAlive: true, maxSockets: 64, timeout: 30_000 });

process.stdin.resume().on("end", () => process.exit(0));

class UpstreamError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const call = (url, method = "GET") =>
  new Promise((resolve, reject) => {
    const request = http.request(url, { agent, method, signal: AbortSignal.timeout(UPSTREAM_TIMEOUT_MS) });
    request.once("error", (error) =>
      reject(
        error.name === "AbortError" || error.name === "TimeoutError"
          ? new UpstreamError(504, `${url} took longer than ${UPSTREAM_TIMEOUT_MS} ms`)
          : new UpstreamError(502, `${url}: ${error.message}`),
      ),
    );
    request.once("response", (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.once("error", (error) => reject(new UpstreamError(502, `${url}: ${error.message}`)));
      response.once("end", () => {
        if (response.statusCode >= 500) reject(new UpstreamError(502, `${url} answered ${response.statusCode}`));
        else resolve(JSON.parse(Buffer.concat(chunks).toString()));
      });
    });
    request.end();
  });

const handle = async (request) => {
  const { pathname } = new URL(request.url, "http://shop");
  if (pathname.startsWith("/products/")) return call(`${CATALOG_URL}${pathname}`);
  if (pathname.startsWith("/cart/")) return call(`${CART_URL}${pathname}`, request.method);
  if (pathname.startsWith("/home/")) {
    const [catalog, cart] = await Promise.all([
      call(`${CATALOG_URL}/products`),
      call(`${CART_URL}/cart/${pathname.slice("/home/".length)}`),
    ]);
    return { ...catalog, cart };
  }
  throw new UpstreamError(404, "no such page");
};

const send = (response, status, body) => {
  const text = JSON.stringify(body);
  response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
  response.end(text);
};

const server = http.createServer((request, response) => {
  request.resume();
  handle(request).then(
    (body) => send(response, 200, body),
    (error) => send(response, error instanceof UpstreamError ? error.status : 500, { error: error.message }),
  );
});
server.keepAliveTimeout = 75_000;
server.listen(Number(LISTEN_PORT), LISTEN_HOST);
