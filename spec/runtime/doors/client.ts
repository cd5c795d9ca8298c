/** An HTTP server with nothing but doors, and a plain client for it. The caller closes it. */
import { createServer, request, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { Effect, Logger, ManagedRuntime } from "effect";
import type { Door } from "../../../runtime/doors/Door.ts";
import { makeDoorServer } from "../../../runtime/doors/serve.ts";

export const DOOR_KEY = "the-key-of-this-spec";

export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly text: string;
}

export interface DoorsUnderTest {
  readonly url: string;
  readonly post: (path: string, body: Uint8Array | string, headers?: Record<string, string>) => Promise<Reply>;
  readonly send: (
    method: string,
    path: string,
    headers: Record<string, string>,
    ...parts: (Uint8Array | string)[]
  ) => Promise<Reply>;
  readonly close: () => Promise<void>;
}

export const serveDoors = async (doors: readonly Door[], maxBytes?: number): Promise<DoorsUnderTest> => {
  const served = makeDoorServer({ doors, key: DOOR_KEY, ...(maxBytes === undefined ? {} : { maxBytes }) });
  const runtime = ManagedRuntime.make(Logger.replace(Logger.defaultLogger, Logger.none));
  const server = createServer((incoming, response) => {
    const path = new URL(incoming.url ?? "/", "http://localhost").pathname;
    runtime.runFork(served.answer(path, incoming, response));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const send: DoorsUnderTest["send"] = (method, path, headers, ...parts) =>
    new Promise((resolve, reject) => {
      const sent = request({ host: "127.0.0.1", port, path, method, headers, agent: false }, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (part: Buffer) => chunks.push(part));
        response.on("end", () => {
          const body = Buffer.concat(chunks);
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body,
            text: body.toString("utf8"),
          });
        });
      });
      sent.on("error", reject);
      for (const part of parts) sent.write(part);
      sent.end();
    });
  return {
    url: `http://127.0.0.1:${port}`,
    send,
    post: (path, body, headers = {}) =>
      send(
        "POST",
        path,
        { "x-api-key": DOOR_KEY, "content-length": String(Buffer.byteLength(body)), ...headers },
        body,
      ),
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await runtime.dispose();
    },
  };
};

/** Runs an effect that cannot fail. */
export const run = <A>(effect: Effect.Effect<A>): Promise<A> => Effect.runPromise(effect);
