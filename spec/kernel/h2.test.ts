/**
 * HTTP/2 and gRPC of real clients and servers, counted exactly at both ends, by protocol and outcome.
 */
import { spawnSync } from "node:child_process";
import {
  Client,
  credentials,
  Metadata,
  type sendUnaryData,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
} from "@grpc/grpc-js";
import { connect, createServer, type ClientHttp2Session, type Http2Server } from "node:http2";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { STATUS } from "../../schemas/wire/observe.ts";
import { describeWith } from "../capabilities.ts";
import { buildProbe, ProbeBed } from "./ProbeBed.ts";

const WIDE = 100;
/** A code that tells the server not to answer. */
const NEVER = 99;

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
        unary: (call: ServerUnaryCall<Buffer, Buffer>, reply: sendUnaryData<Buffer>) => {
          const code = call.request[0] ?? 0;
          if (code === NEVER) return;
          if (code === 0) reply(null, call.request);
          else reply({ code, details: `no ${code}` });
        },
        // so many messages, then the status
        many: (call: ServerWritableStream<Buffer, Buffer>) => {
          const [code = 0, n = 0] = call.request;
          for (let i = 0; i < n; i++) call.write(Buffer.alloc(100));
          if (code === NEVER) return;
          if (code === 0) call.end();
          else call.emit("error", { code, details: `no ${code}` });
        },
        gather: (call: ServerReadableStream<Buffer, Buffer>, reply: sendUnaryData<Buffer>) => {
          call.resume();
          call.on("end", () => reply(null, Buffer.of(1)));
        },
        chat: (call: ServerDuplexStream<Buffer, Buffer>) => {
          call.on("data", (message: Buffer) => call.write(message));
          call.on("end", () => call.end());
        },
      });
      port = await new Promise((resolve, reject) =>
        server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, at) =>
          error === null ? resolve(at) : reject(error),
        ),
      );
      client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
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
    });

    it("keeps streams out, whichever side has several messages", async () => {
      const same = (b: Buffer): Buffer => b;
      const counts = await bed.since(port, "grpc");
      const before = bed.self("waitsByDesign");
      const many = (code: number, n: number): Promise<number> =>
        new Promise((resolve) => {
          const call = client.makeServerStreamRequest(Echo.many.path, same, same, Buffer.of(code, n));
          call.on("status", ({ code: ended }) => resolve(ended)).on("error", () => undefined);
          call.resume();
        });
      for (let i = 0; i < 20; i++) {
        expect(await many(0, 3)).toBe(0);
        expect(await many(14, 2)).toBe(14);
        // no more than one message: as good as unary
        expect(await many(0, 1)).toBe(0);
        expect(await many(13, 0)).toBe(13);
        expect(await many(5, 1)).toBe(5);
      }
      for (let i = 0; i < 10; i++) {
        await new Promise<void>((resolve, reject) => {
          const call = client.makeClientStreamRequest(Echo.gather.path, same, same, (error) =>
            error === null ? resolve() : reject(error),
          );
          for (let j = 0; j < 3; j++) call.write(Buffer.alloc(50));
          call.end();
        });
        await new Promise<void>((resolve) => {
          const call = client.makeBidiStreamRequest(Echo.chat.path, same, same);
          let n = 0;
          call.on("data", () => (++n < 3 ? call.write(Buffer.of(n)) : call.end()));
          call.on("status", () => resolve());
          call.write(Buffer.of(1));
        });
      }
      expect(await counts()).toEqual({ ok: [20, 20], failed: [20, 20], rejected: [20, 20] });
      expect(bed.self("waitsByDesign") - before).toBeGreaterThanOrEqual(2 * 60);
    });

    it("counts what was cancelled, shows what waits, and not a watch that has begun", async () => {
      const same = (b: Buffer): Buffer => b;
      const counts = await bed.since(port, "grpc");
      const waiting = (): number => Math.max(0, ...bed.find({ port }).map((edge) => edge.pendingCount));
      const watch = client.makeServerStreamRequest(Echo.many.path, same, same, Buffer.of(NEVER, 1));
      watch.on("error", () => undefined);
      await new Promise((resolve) => watch.once("data", resolve));
      await bed.settled();
      expect(waiting()).toBe(0);
      const calls = Array.from({ length: 7 }, () =>
        client.makeUnaryRequest(Echo.unary.path, same, same, Buffer.of(NEVER), () => undefined),
      );
      await bed.until("what waits", () => waiting() === 7);
      for (const call of calls) call.cancel();
      await bed.until("what was cancelled", () => bed.both(port, "grpc", STATUS.unanswered).every((n) => n >= 7));
      watch.cancel();
      await bed.settled();
      expect(waiting()).toBe(0);
      // the watch had its first message more than a second ago
      expect(await counts()).toEqual({ unanswered: [7, 7] });
    });

    it("says unknown of what depends on headers that were sent before it looked, and never guesses", async () => {
      const late = await ProbeBed.start();
      const calls = async (code: number, n: number): Promise<void> => {
        for (let i = 0; i < n; i++) expect(await unary(Buffer.of(code))).toBe(code);
      };
      await calls(0, 30);
      await calls(13, 20);
      await calls(7, 10);
      await late.settled();
      // a connection is known by the form of its frames from the first request on
      expect(late.both(port, "grpc", STATUS.unknown)).toEqual([60, 60]);
      expect(late.both(port, "grpc")).toEqual([60, 60]);
      expect(late.both(port, "http")).toEqual([0, 0]);
      await late.stop();
    });
  });
});
