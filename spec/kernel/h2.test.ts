/**
 * HTTP/2 and gRPC of real clients and servers, counted exactly at both ends, by protocol and outcome.
 */
import {
  Client,
  credentials,
  Metadata,
  makeGenericClientConstructor,
  Server,
  ServerCredentials,
  status as CODE,
  type ServiceDefinition,
} from "@grpc/grpc-js";
import { connect, createServer, type ClientHttp2Session, type Http2Server } from "node:http2";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { describeWith } from "../capabilities.ts";
import { buildProbe, ProbeBed } from "./ProbeBed.ts";

const WIDE = 100;

const listen = (server: Http2Server): Promise<number> =>
  new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : 0);
    });
  });

/** n tasks, at most `WIDE` at a time. */
const wide = async (n: number, task: (i: number) => Promise<void>): Promise<void> => {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < n) await task(next++);
  };
  await Promise.all(Array.from({ length: WIDE }, worker));
};

const get = (session: ClientHttp2Session, path: string, headers: Record<string, string> = {}): Promise<number> =>
  new Promise((resolve, reject) => {
    const stream = session.request({ ":path": path, ...headers });
    let status = 0;
    stream.once("response", (head) => (status = head[":status"] ?? 0));
    stream.once("error", reject);
    stream.once("close", () => resolve(status));
    stream.resume();
    stream.end();
  });

describeWith(["bpf"], "HTTP/2 at both ends", () => {
  let bed: ProbeBed;
  beforeAll(async () => {
    buildProbe();
    bed = await ProbeBed.start();
  });
  afterAll(() => bed.stop());

  describe("of Node.js", () => {
    let server: Http2Server;
    let port: number;
    beforeAll(async () => {
      server = createServer((ask, reply) => {
        const [, code = "200", size = "0"] = ask.url.split("/");
        reply.writeHead(Number(code), { "x-some": ask.url.repeat(Number(size) % 7), "content-type": "text/plain" });
        reply.end("x".repeat(Number(size)));
      });
      port = await listen(server);
    });
    afterAll(() => void server.close());

    it("counts 10,000 requests, a hundred at a time", async () => {
      const session = connect(`http://127.0.0.1:${port}`);
      const codes = [200, 204, 404, 500, 201, 503, 304, 200, 302, 429];
      const counts = await bed.since(port, "http");
      await wide(10_000, async (i) => {
        const code = codes[i % codes.length] ?? 200;
        const size = code === 204 || code === 304 ? 0 : (i * 37) % 3_000;
        expect(await get(session, `/${code}/${size}`, { "x-number": String(i) })).toBe(code);
      });
      session.close();
      expect(await counts()).toEqual({ ok: [6_000, 6_000], rejected: [2_000, 2_000], failed: [2_000, 2_000] });
      expect(bed.self("desyncs")).toBe(0);
    });
  });

  describe("of gRPC", () => {
    const method = (path: string, requestStream: boolean, responseStream: boolean) => ({
      path: `/spec.Echo/${path}`,
      requestStream,
      responseStream,
      requestSerialize: (b: Buffer) => b,
      requestDeserialize: (b: Buffer) => b,
      responseSerialize: (b: Buffer) => b,
      responseDeserialize: (b: Buffer) => b,
    });
    const Echo = {
      unary: method("Unary", false, false),
      many: method("Many", false, true),
      gather: method("Gather", true, false),
      chat: method("Chat", true, true),
    } satisfies ServiceDefinition;
    let server: Server;
    let client: Client;
    let port = 0;
    beforeAll(async () => {
      server = new Server();
      server.addService(Echo, {
        // the first byte is the status to end with
        unary: (call: { request: Buffer }, reply: (error: unknown, value?: Buffer) => void) => {
          const code = call.request[0] ?? 0;
          if (code === 0) reply(null, call.request);
          else reply({ code, details: `no ${code}` });
        },
      } as never);
      port = await new Promise((resolve, reject) =>
        server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, at) =>
          error === null ? resolve(at) : reject(error),
        ),
      );
      client = new (makeGenericClientConstructor(Echo, "Echo"))(`127.0.0.1:${port}`, credentials.createInsecure());
    });
    afterAll(() => {
      client.close();
      server.forceShutdown();
    });
    const unary = (body: Buffer, deadline?: number): Promise<number> =>
      new Promise((resolve) => {
        client.makeUnaryRequest(
          Echo.unary.path,
          (b: Buffer) => b,
          (b: Buffer) => b,
          body,
          new Metadata(),
          deadline === undefined ? {} : { deadline },
          (error) => resolve(error === null ? 0 : error.code),
        );
      });

    it("counts 10,000 calls by their status", async () => {
      const counts = await bed.since(port, "grpc");
      let failed = 0;
      let rejected = 0;
      await wide(10_000, async (i) => {
        const code = i % 3 === 0 ? i % 17 : 0;
        if ([2, 4, 12, 13, 14, 15].includes(code)) failed++;
        else if (code !== 0) rejected++;
        expect(await unary(Buffer.concat([Buffer.of(code), Buffer.alloc(i % 900)]))).toBe(code);
      });
      expect(await counts()).toEqual({
        ok: [10_000 - failed - rejected, 10_000 - failed - rejected],
        failed: [failed, failed],
        rejected: [rejected, rejected],
      });
      expect(CODE.OK).toBe(0);
    });
  });
});
