/**
 * HTTP/2 and gRPC of real clients and servers, counted exactly at both ends, by protocol and outcome.
 */
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
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
import { connect, constants, createServer, type ClientHttp2Session, type Http2Server } from "node:http2";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { STATUS } from "../../schemas/wire/observe.ts";
import { describeWith } from "../capabilities.ts";
import { buildProbe, ProbeBed } from "./ProbeBed.ts";
import { type Running, startNghttpx, startNginx } from "./servers.ts";

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

/** Runs a program to its end, which must be good. */
const run = (program: string, args: readonly string[]): Promise<void> =>
  new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
    child.once("error", reject);
    child.once("close", (code) =>
      code === 0 ? resolve() : reject(new Error(`${program} ended with ${code}: ${said}`)),
    );
  });

/** Answers five streams by turns; the head of each second one goes out by sendfile, which nobody can look at. */
const HIDDEN = String.raw`
import os, socket, tempfile
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
print(listener.getsockname()[1], flush=True)
peer = listener.accept()[0]
def frame(kind, flags, stream, body=b""):
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body
def read(n):
    data = b""
    while len(data) < n:
        more = peer.recv(n - len(data))
        if not more:
            raise SystemExit
        data += more
    return data
read(24)
peer.sendall(frame(4, 0, 0))
served = 0
while True:
    head = read(9)
    read(int.from_bytes(head[:3], "big"))
    kind, flags, stream = head[3], head[4], int.from_bytes(head[5:9], "big")
    if kind == 4 and not flags & 1:
        peer.sendall(frame(4, 1, 0))
    if kind != 1:
        continue
    block = [b"\x48\x03200", b"\x48\x03503", b"\xbe", b"\x88", b"\x8d"][served % 5]
    reply = frame(1, 5, stream, block)
    if served % 5 == 1:
        with tempfile.TemporaryFile() as file:
            file.write(reply)
            file.flush()
            os.sendfile(peer.fileno(), file.fileno(), 0, len(reply))
    else:
        peer.sendall(reply)
    served += 1
`;

/**
 * A client whose every request goes out by one call that does not return before the reply is read by another thread. Once
 * a line comes in it makes forty requests, says how long they took, and ends.
 */
const EARLY = String.raw`
import socket, sys, threading
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
print(listener.getsockname()[1], flush=True)
sys.stdin.readline()
def frame(kind, flags, stream, body=b""):
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body
def read(sock, n):
    data = b""
    while len(data) < n:
        more = sock.recv(n - len(data))
        if not more:
            raise SystemExit
        data += more
    return data
client = socket.socket()
client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 131072)
client.connect(listener.getsockname())
peer = listener.accept()[0]
answered = threading.Semaphore(0)
served = threading.Semaphore(0)
def reader():
    while True:
        head = read(client, 9)
        read(client, int.from_bytes(head[:3], "big"))
        if head[3] == 1 and head[4] & 1:
            answered.release()
def server():
    read(peer, 24)
    n = 0
    while True:
        head = read(peer, 9)
        length = int.from_bytes(head[:3], "big")
        stream = int.from_bytes(head[5:9], "big")
        if head[3] == 1:
            read(peer, length)
            kind = n % 4
            n += 1
            if kind < 3:
                peer.sendall(frame(1, 5, stream, [b"\x88", b"\x8d", b"\x8e"][kind]))
            else:
                grpc = b"\x88\x0f\x10\x10application/grpc"
                peer.sendall(frame(1, 4, stream, grpc))
                peer.sendall(frame(1, 5, stream, b"\x00\x0bgrpc-status\x0214"))
            # the rest of the request is read when its reply has been
            answered.acquire()
            read(peer, 9 + 16384 * 60)
            served.release()
        else:
            read(peer, length)
for run in (reader, server):
    threading.Thread(target=run, daemon=True).start()
client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
for i in range(40):
    client.send(frame(1, 4, 2 * i + 1, b"\x82\x86\x84") + frame(0, 1, 2 * i + 1, b"x" * (16384 * 60)))
    served.acquire()
`;

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

  describe("of a server that gives up", () => {
    it("counts what it resets as failed, and not what it refuses when it leaves", async () => {
      const server = createServer((ask, reply) => {
        if (ask.url === "/reset") return ask.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
        // the first stream is answered, the others are left to another connection
        if (ask.stream.id !== 1) return;
        ask.stream.session?.goaway(constants.NGHTTP2_NO_ERROR, 1);
        reply.end("last");
      });
      const port = await listen(server);
      const counts = await bed.since(port, "http");
      const outcomes = async (path: string, n: number): Promise<readonly string[]> => {
        const session = connect(`http://127.0.0.1:${port}`);
        const calls = Array.from({ length: n }, () => get(session, path));
        const done = await Promise.allSettled(calls);
        session.destroy();
        return done.map((one) => (one.status === "fulfilled" ? String(one.value) : "error"));
      };
      expect(await outcomes("/reset", 6)).toEqual(Array.from({ length: 6 }, () => "error"));
      expect((await outcomes("/leave", 5))[0]).toBe("200");
      expect(await counts()).toEqual({ ok: [1, 1], failed: [6, 6] });
      server.close();
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

  describeWith(["nginx", "curl", "h2load"], "of nginx", () => {
    let nginx: Running;
    beforeAll(async () => {
      nginx = await startNginx(
        `location = /fail { return 503; } location = /no { return 404; } location = /moved { return 301 /; }
         location /file { } location / { return 200 "hello\\n"; }`,
        "http2",
      );
      writeFileSync(join(nginx.folder, "file"), Buffer.alloc(50_000, "x"));
    });
    afterAll(() => nginx.stop());

    it("counts each request of h2load, a hundred at a time on each connection, of nghttp and of curl", async () => {
      const counts = await bed.since(nginx.port, "http");
      const at = `http://127.0.0.1:${nginx.port}`;
      const list = join(nginx.folder, "uris");
      writeFileSync(list, ["/", "/no", "/file", "/fail", "/moved"].map((path) => at + path).join("\n"));
      await run("h2load", ["-n", "10000", "-c", "4", "-m", "100", "-i", list]);
      const each = ["--http2-prior-knowledge", "-s", "-o", "/dev/null"];
      for (let i = 0; i < 20; i++) await run("curl", [...each, at]);
      await run("nghttp", ["-n", "-m", "200", `${at}/file`]);
      await run("nghttp", ["-n", "-d", join(nginx.folder, "file"), `${at}/no`]);
      expect(await counts()).toEqual({ ok: [6_220, 6_220], rejected: [2_001, 2_001], failed: [2_000, 2_000] });
    });

    describeWith(["nghttpx"], "behind a proxy", () => {
      it("counts requests of HTTP/1 that went over to HTTP/2 once, by what was answered there", async () => {
        const proxy = await startNghttpx(nginx.port);
        const at = `http://127.0.0.1:${proxy.port}`;
        const counts = await bed.since(proxy.port, "http");
        for (let i = 0; i < 10; i++)
          for (const path of ["", "no", "fail"])
            await run("curl", ["--http2", "-s", "-o", "/dev/null", `${at}/${path}`]);
        expect(await counts()).toEqual({ ok: [10, 10], rejected: [10, 10], failed: [10, 10] });
        await proxy.stop();
      });
    });
  });

  describeWith(["python"], "of a server whose bytes cannot be read", () => {
    it("takes no failure for a success", async () => {
      const server = spawn("python3", ["-c", HIDDEN], { stdio: ["ignore", "pipe", "inherit"] });
      const port = await new Promise<number>((resolve) =>
        server.stdout.once("data", (line: Buffer) => resolve(Number(line.toString()))),
      );
      const counts = await bed.since(port, "http");
      const session = connect(`http://127.0.0.1:${port}`);
      // 200, an entry; 503, one that is not seen; 503 by it, where the entry of 200 seems to be; 200 and 404, of the static table
      for (let i = 0; i < 40; i++) expect(await get(session, "/")).toBe([200, 503, 503, 200, 404][i % 5]);
      session.close();
      expect(await counts()).toEqual({ ok: [16, 16], rejected: [8, 8], failed: [16, 0], unknown: [0, 16] });
      server.kill();
    });
  });

  describeWith(["python"], "of a client whose replies come before its requests are sent", () => {
    it("counts each once", async () => {
      const both = spawn("python3", ["-c", EARLY], { stdio: ["pipe", "pipe", "inherit"] });
      const port = await new Promise<number>((resolve) =>
        both.stdout.once("data", (line: Buffer) => resolve(Number(line.toString()))),
      );
      const http = await bed.since(port, "http");
      const grpc = await bed.since(port, "grpc");
      const ended = new Promise((resolve) => both.once("exit", resolve));
      both.stdin.end("\n");
      expect(await ended).toBe(0);
      expect(await http()).toEqual({ ok: [10, 10], rejected: [10, 10], failed: [10, 10] });
      expect(await grpc()).toEqual({ failed: [10, 10] });
    });
  });
});
