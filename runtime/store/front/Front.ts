/**
 * ClickHouse's HTTP interface over the embedded engine, on loopback: enough of it for the stock client (queries with
 * bound parameters and settings, inserts in text and binary formats, errors with codes). Owned by the store process.
 * Every request needs the key. Bodies, results, time and memory are bounded. A client that goes away has its reading
 * query killed. Stops by refusing new requests and closing the engine.
 */
import { timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Engine } from "./Engine.ts";
import { errorText, FrontError, fromEngine, httpStatus } from "./errors.ts";
import { execute, type Bounds } from "./execute.ts";
import { digest, parseRequest, presentedKey } from "./request.ts";

export interface FrontOptions extends Bounds {
  readonly key: string;
  /** 0: any free port */
  readonly port: number;
  readonly bodyBytes: number;
  /** all bodies under way together */
  readonly totalBodyBytes: number;
}

export interface Front {
  readonly port: number;
  readonly close: () => Promise<void>;
}

const answer = (response: ServerResponse, status: number, body: Uint8Array | string, headers: object): void => {
  response.writeHead(status, {
    "Content-Type": "text/plain; charset=UTF-8",
    "Content-Length": Buffer.byteLength(body),
    ...headers,
  });
  response.end(body);
};

const tooLarge = (bytes: number): FrontError =>
  new FrontError(307, "TOO_MANY_BYTES", `the request's body is larger than ${bytes} bytes`);
const tooMany = (bytes: number): FrontError =>
  new FrontError(202, "TOO_MANY_SIMULTANEOUS_QUERIES", `bodies under way are larger than ${bytes} bytes together`);

export const openFront = async (engine: Engine, options: FrontOptions): Promise<Front> => {
  const expected = digest(options.key);
  let bodiesBytes = 0;
  let runs = 0;

  const authenticate = (request: IncomingMessage): void => {
    const key = presentedKey(request.headers);
    if (key === null || !timingSafeEqual(digest(key), expected))
      throw new FrontError(516, "AUTHENTICATION_FAILED", "default: Authentication failed: the key is missing or wrong");
  };

  const serve = async (request: IncomingMessage, response: ServerResponse, gone: AbortSignal): Promise<void> => {
    let queryId = "";
    let taken = 0;
    try {
      authenticate(request);
      const url = new URL(request.url ?? "/", "http://store");
      if (url.pathname === "/ping") {
        await engine.alive();
        return answer(response, 200, "Ok.\n", {});
      }
      if (url.pathname !== "/") return answer(response, 404, `There is no handle ${url.pathname}\n`, {});
      queryId = url.searchParams.get("query_id") ?? "";
      const chunks: Buffer[] = [];
      for await (const chunk of request) {
        const bytes = Buffer.isBuffer(chunk) ? chunk : Buffer.from(String(chunk));
        taken += bytes.length;
        bodiesBytes += bytes.length;
        if (taken > options.bodyBytes) throw tooLarge(options.bodyBytes);
        if (bodiesBytes > options.totalBodyBytes) throw tooMany(options.totalBodyBytes);
        chunks.push(bytes);
      }
      const parsed = await parseRequest(request.method ?? "POST", request.headers, url, Buffer.concat(chunks));
      const result = await execute(engine, options, parsed, `front-${process.pid}-${++runs}`, gone);
      if (gone.aborted) return;
      answer(response, 200, result.body, {
        "X-ClickHouse-Query-Id": queryId,
        "X-ClickHouse-Summary": JSON.stringify(result.summary),
      });
    } catch (caught) {
      if (response.headersSent || gone.aborted) return;
      const error = fromEngine(caught);
      answer(response, httpStatus(error.code), errorText(error), {
        "X-ClickHouse-Exception-Code": String(error.code),
        "X-ClickHouse-Query-Id": queryId,
        // the unread rest of a refused body must not be taken for the next request
        ...(request.complete ? {} : { Connection: "close" }),
      });
    } finally {
      bodiesBytes -= taken;
    }
  };

  const server = createServer({ maxHeaderSize: 256 * 1024, keepAliveTimeout: 30_000 }, (request, response) => {
    const gone = new AbortController();
    response.on("close", () => {
      if (!response.writableFinished) gone.abort();
    });
    serve(request, response, gone.signal).catch((error: unknown) => response.destroy(fromEngine(error)));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, "127.0.0.1", resolve);
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the front has no port");
  return {
    port: address.port,
    close: async () => {
      server.close();
      server.closeAllConnections();
      await engine.close();
    },
  };
};
