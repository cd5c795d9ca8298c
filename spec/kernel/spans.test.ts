/**
 * Heads of requests out of the kernel: both ends of a connection tell the same sampled ones, slow and failed ones are
 * always told within their budget, what is above it is counted, and calls name the request that they are made for.
 */
import {
  Client,
  credentials,
  Server,
  ServerCredentials,
  type sendUnaryData,
  type ServerUnaryCall,
} from "@grpc/grpc-js";
import { createServer } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type ProbeSpan, TOLD } from "../../agent/node/probe/ProbeTick.ts";
import { describe, type Described, Statements } from "../../agent/node/spans/describe.ts";
import { ROLE, type Role, STATUS } from "../../schemas/wire/observe.ts";
import { describeWith, itWith } from "../capabilities.ts";
import { Encoder, frame, Frames, type Header, PREFACE, TYPE } from "./Http2Peer.ts";
import { buildProbe, ProbeBed } from "./ProbeBed.ts";
import { type Running, startNginx, startRedis } from "./servers.ts";
import { command, exchange, HttpClient, open } from "./traffic.ts";

const SAMPLE = 16;
const N = 10_000;
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");

/** What was told of one port and role; edges are by id, and their definitions came before. */
const toldOf = (bed: ProbeBed, role: Role, port: number): readonly ProbeSpan[] => {
  const ids = new Set(bed.find({ role, port }).map(({ edge }) => edge.id));
  return bed.spans.filter(({ edge }) => ids.has(edge));
};
const has = (bit: number) => (span: ProbeSpan) => (span.told & bit) !== 0;
const keys = (spans: readonly ProbeSpan[]): readonly string[] =>
  spans.map(({ initial, seq }) => `${initial.join(".")}.${seq}`).toSorted();
const serve = (answer: (url: string, done: (status: number) => void) => void) => {
  const server = createServer((ask, reply) => {
    answer(ask.url ?? "", (status) => {
      reply.statusCode = status;
      reply.end("ok");
    });
  });
  return new Promise<{ readonly port: number; readonly close: () => void }>((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      resolve({
        port: typeof address === "object" && address !== null ? address.port : 0,
        close: () => server.close(),
      });
    });
  });
};

describeWith(["bpf"], "heads of requests", () => {
  let bed: ProbeBed;
  beforeAll(async () => {
    buildProbe();
    const budget = "--sampled 100000 --slow 5000 --failed 5000 --slow-ms 40".split(" ");
    bed = await ProbeBed.start(undefined, "--sample", String(SAMPLE), ...budget);
  });
  afterAll(() => bed.stop());

  describeWith(["nginx"], "of HTTP", () => {
    let nginx: Running;
    beforeAll(async () => {
      nginx = await startNginx(`location = /fail { return 503; } location / { return 200 "hello\\n"; }`);
    });
    afterAll(() => nginx.stop());

    it("are sampled alike at both ends, each for as many as it stands for", async () => {
      // a flood of another program may take budget or ring from one end alone: then again
      const lost = (): number => bed.self("spansLost") + bed.self("spansSampledOver");
      let [here, there]: (readonly ProbeSpan[])[] = [[], []];
      for (let i = 0, before = -1; i < 5 && before !== lost(); i++) {
        await bed.settled();
        before = lost();
        const seen = bed.spans.length;
        const client = new HttpClient(nginx.port, 8);
        await client.times(N, { path: "/items/7" }, 8);
        client.close();
        await bed.settled();
        const fresh = new Set(bed.spans.slice(seen));
        [here, there] = [ROLE.client, ROLE.server].map((role) =>
          toldOf(bed, role, nginx.port).filter((one) => fresh.has(one)),
        );
      }
      const [ours, theirs] = [keys(here ?? []), keys(there ?? [])];
      // at the end of system calls the other end may be ahead now and then
      if (process.env["COROOT_SPEC_HOOKS"] === undefined) expect(ours).toEqual(theirs);
      else expect(ours.filter((key) => !theirs.includes(key)).length).toBeLessThan(ours.length / 100);
      const weight = (there ?? []).reduce((sum, one) => sum + one.weight, 0);
      // five times the deviation of such a sample
      expect(Math.abs(weight - N)).toBeLessThan(5 * Math.sqrt(N * (SAMPLE - 1)));
      expect(there?.every(({ head }) => text(head).startsWith("GET /items/7 HTTP/1.1\r\n"))).toBe(true);
      expect(there?.every(({ reply }) => text(reply).startsWith("HTTP/1.1 200 OK\r\n"))).toBe(true);
    });

    it("of failed ones are all told", async () => {
      const client = new HttpClient(nginx.port, 4);
      await client.times(300, { path: "/fail" }, 4);
      client.close();
      await bed.settled();
      for (const role of [ROLE.client, ROLE.server]) {
        const failed = toldOf(bed, role, nginx.port).filter(has(TOLD.failed));
        expect(failed).toHaveLength(300);
        expect(
          failed.every(
            ({ status, head, reply }) =>
              status === STATUS.failed && text(head).startsWith("GET /fail ") && text(reply).startsWith("HTTP/1.1 503"),
          ),
        ).toBe(true);
      }
    });
  });

  it("of slow ones are all told, by the edge's own threshold where it has one", async () => {
    const server = await serve((url, done) => void setTimeout(() => done(200), Number(url.slice(1))));
    const client = new HttpClient(server.port);
    await client.times(40, { path: "/60" }, 4);
    await client.times(40, { path: "/15" }, 4);
    await bed.settled();
    const slow = (role: Role): number => toldOf(bed, role, server.port).filter(has(TOLD.slow)).length;
    // a busy machine may make others slow
    expect(slow(ROLE.client)).toBeGreaterThanOrEqual(40);
    expect(slow(ROLE.server)).toBeGreaterThanOrEqual(40);
    expect(slow(ROLE.client)).toBeLessThan(60);
    const [edge] = bed.find({ role: ROLE.server, port: server.port });
    bed.child.stdin?.write(`slow ${edge?.edge.id ?? 0} 5000\nslow nonsense\n`);
    await bed.settled();
    await bed.settled();
    const before = slow(ROLE.server);
    await client.times(40, { path: "/15" }, 4);
    await bed.settled();
    expect(slow(ROLE.server) - before).toBe(40);
    client.close();
    server.close();
  });

  it("of unanswered ones are told when their connection closes", async () => {
    const server = await serve(() => undefined);
    const socket = await open(server.port);
    socket.write("GET /never HTTP/1.1\r\nHost: x\r\n\r\n");
    await bed.until("the request to wait", () =>
      bed.find({ role: ROLE.server, port: server.port }).some(({ pendingCount }) => pendingCount > 0),
    );
    socket.destroy();
    await bed.until("it to be told", () =>
      toldOf(bed, ROLE.client, server.port).some(({ status }) => status === STATUS.unanswered),
    );
    const [told] = toldOf(bed, ROLE.client, server.port).filter(({ status }) => status === STATUS.unanswered);
    expect(text(told?.head ?? new Uint8Array())).toContain("GET /never");
    expect(told?.reply).toHaveLength(0);
    server.close();
  });

  itWith(["redis"], "of calls name the one request that their thread served", async () => {
    const redis = await startRedis();
    const cache = await open(redis.port);
    const ask = async (url: string, done: (status: number) => void): Promise<void> => {
      await exchange(cache, command("GET", `user:${url.slice(1)}`), (answer) => answer.includes("\r\n"));
      done(503);
    };
    const server = await serve((url, done) => void ask(url, done));
    const client = new HttpClient(server.port);
    await client.times(200, { path: "/7" });
    await bed.settled();
    const requests = toldOf(bed, ROLE.server, server.port).filter(has(TOLD.failed));
    const starts = new Map(requests.map((one) => [one.startNs, one]));
    expect(requests).toHaveLength(200);
    const calls = toldOf(bed, ROLE.client, redis.port);
    expect(calls.length).toBeGreaterThan(0);
    for (const call of calls) {
      const parent = starts.get(call.parentNs);
      expect(parent?.thread).toBe(call.thread);
      expect(call.startNs).toBeGreaterThan(parent?.startNs ?? 0);
    }
    // each call of a sampled request is told as well
    const sampled = requests.filter(has(TOLD.sampled));
    expect(sampled.every(({ startNs }) => calls.some(({ parentNs }) => parentNs === startNs))).toBe(true);
    // two at a time: whose call it is cannot be known
    const held: ((status: number) => void)[] = [];
    const both = async (done: (status: number) => void): Promise<void> => {
      held.push(done);
      if (held.length < 2) return;
      await exchange(cache, command("INCR", "word"), (answer) => answer.includes("-ERR"));
      for (const one of held) one(200);
    };
    const pair = await serve((_, done) => void both(done));
    await exchange(cache, command("SET", "word", "x"), (answer) => answer.includes("+OK"));
    const two = [await open(pair.port), await open(pair.port)];
    await Promise.all(
      two.map((socket) =>
        exchange(
          socket,
          "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
          (answer) => answer.endsWith("0\r\n\r\n") || answer.endsWith("ok"),
        ),
      ),
    );
    await bed.settled();
    const failed = toldOf(bed, ROLE.client, redis.port).filter(has(TOLD.failed));
    expect(failed.map(({ parentNs }) => parentNs)).toEqual([0]);
    for (const socket of two) socket.destroy();
    pair.close();
    client.close();
    server.close();
    cache.destroy();
    await redis.stop();
  });

  itWith(
    ["redis"],
    "of pipelines stand for all commands, and failed ones behind the first are told without a head",
    async () => {
      const redis = await startRedis();
      const all = await ProbeBed.start(undefined, "--sample", "1", "--sampled", "100000", "--failed", "5000");
      const cache = await open(redis.port);
      await exchange(cache, command("SET", "word", "x"), (answer) => answer.includes("+OK"));
      for (let i = 0; i < 100; i++)
        await exchange(cache, command("GET", "word").repeat(15) + command("INCR", "word"), (answer) =>
          answer.includes("-ERR"),
        );
      await all.settled();
      for (const role of [ROLE.client, ROLE.server]) {
        const spans = toldOf(all, role, redis.port);
        expect(spans.reduce((sum, one) => sum + one.weight, 0)).toBe(1601);
        const failed = spans.filter(has(TOLD.failed));
        expect(failed.reduce((sum, one) => sum + one.count, 0)).toBe(100);
        expect(failed.every(({ head, reply }) => head.length === 0 && reply.length > 0)).toBe(true);
      }
      cache.destroy();
      await all.stop();
      await redis.stop();
    },
  );

  describeWith(["bpf"], "of HTTP/2", () => {
    const PATHS = ["/", "/index.html", "/items/17", "/cart", "/orders/2024-11-05/lines", "/search?q=secret"];
    const TEMPLATES = ["/", "/index.html", "/items/{id}", "/cart", "/orders/{token}/lines", "/search"];
    const PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /** What an agent makes of the requests of one end, in their order. */
    const describedAt = (all: ProbeBed, role: Role, port: number): readonly Described[] => {
      const statements = new Statements();
      const described: (Described & { readonly at: number })[] = [];
      for (const span of toldOf(all, role, port)) {
        const one = describe(span, statements);
        if (one !== null) described.push({ ...one, at: span.startNs });
      }
      return described.toSorted((a, b) => a.at - b.at);
    };

    it("have method, path and trace, whatever of them its table of headers says", async () => {
      const all = await ProbeBed.start(undefined, ..."--sample 1 --sampled 100000 --failed 5000".split(" "));
      const server = createHttp2Server();
      server.on("stream", (stream, { ":path": path }) => {
        stream.respond({ ":status": path === "/cart" ? 503 : 200 });
        stream.end("ok");
      });
      const port = await new Promise<number>((resolve) =>
        server.listen(0, "127.0.0.1", () => {
          const address = server.address();
          resolve(typeof address === "object" && address !== null ? address.port : 0);
        }),
      );
      const socket = await open(port);
      const frames = new Frames();
      let answered: () => void = () => undefined;
      socket.on("data", (chunk: Buffer) => {
        for (const { type, flags, stream } of frames.push(chunk))
          if (type === TYPE.settings && (flags & 1) === 0) socket.write(frame(TYPE.settings, 1, 0));
          else if (stream > 0 && (flags & 1) !== 0) answered();
      });
      socket.write(Buffer.concat([PREFACE, frame(TYPE.settings, 0, 0)]));
      let turn = 0;
      // every form of a field, in turn: literal or by index, its name too, with and without Huffman codes
      const encoder = new Encoder((n) => (turn++ * 7 + (turn >> 3)) % n);
      const N = 300;
      const asked: string[] = [];
      for (let i = 0; i < N; i++) {
        const path = i % PATHS.length;
        asked.push(`${i % 2 === 0 ? "GET" : "POST"} ${TEMPLATES[path]}`);
        const fields: Header[] = [
          [":method", i % 2 === 0 ? "GET" : "POST"],
          [":scheme", "http"],
          [":authority", "shop.example"],
          [":path", PATHS[path] ?? ""],
          ["x-number", String(i)],
          ["traceparent", PARENT],
        ];
        await new Promise<void>((resolve) => {
          answered = resolve;
          socket.write(frame(TYPE.headers, 5, 2 * i + 1, encoder.block(fields)));
        });
      }
      await all.settled();
      for (const role of [ROLE.client, ROLE.server]) {
        const described = describedAt(all, role, port);
        expect(toldOf(all, role, port).reduce((sum, { weight }) => sum + weight, 0)).toBe(N);
        expect(described.map(({ name }) => name)).toEqual(asked);
        expect(described.map(({ attributes }) => attributes["server.address"])).toEqual(
          asked.map(() => "shop.example"),
        );
        expect(described.every(({ parent }) => parent?.spanId === "b7ad6b7169203331")).toBe(true);
        expect(described[3]?.attributes["http.response.status_code"]).toBe(503);
        expect(JSON.stringify(described)).not.toContain("secret");
      }
      const [ours, theirs] = [ROLE.client, ROLE.server].map((role) =>
        keys(toldOf(all, role, port).filter(has(TOLD.sampled))),
      );
      expect(ours).toEqual(theirs);
      expect(new Set(ours).size).toBe(N);
      socket.destroy();
      server.close();
      await all.stop();
    });

    it("and calls of gRPC have their service, method and code, also beside each other", async () => {
      const same = (bytes: Buffer): Buffer => bytes;
      const echo = {
        echo: {
          path: "/shop.v1.Cart/AddItem",
          requestStream: false,
          responseStream: false,
          requestSerialize: same,
          requestDeserialize: same,
          responseSerialize: same,
          responseDeserialize: same,
        },
      };
      const server = new Server();
      server.addService(echo, {
        echo: (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) =>
          call.request[0] === 1 ? done({ code: 13, details: "broken" }) : done(null, call.request),
      });
      const port = await new Promise<number>((resolve, reject) =>
        server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
          error === null ? resolve(bound) : reject(error),
        ),
      );
      const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
      const call = (first: number): Promise<void> =>
        new Promise((resolve) =>
          client.makeUnaryRequest(echo.echo.path, same, same, Buffer.of(first), () => resolve()),
        );
      for (let i = 0; i < 50; i++) await call(i % 10 === 0 ? 1 : 0);
      await Promise.all(Array.from({ length: 200 }, () => call(1)));
      await bed.settled();
      for (const role of [ROLE.client, ROLE.server]) {
        const failed = toldOf(bed, role, port).filter(has(TOLD.failed));
        expect(failed.reduce((sum, { count }) => sum + count, 0)).toBe(205);
        const [alone] = failed.filter(({ head }) => head.length > 0);
        const described = alone === undefined ? null : describe(alone, new Statements());
        expect(described).toMatchObject({
          name: "shop.v1.Cart/AddItem",
          attributes: { "rpc.system": "grpc", "rpc.service": "shop.v1.Cart", "rpc.method": "AddItem" },
        });
        expect(failed.filter(({ head }) => head.length > 0).length).toBeGreaterThanOrEqual(5);
        expect(failed.every(({ status }) => status === STATUS.failed)).toBe(true);
      }
      client.close();
      server.forceShutdown();
    });
  });

  it("are thinned above the budget, and those told still stand for all", async () => {
    const server = await serve((_, done) => done(200));
    const small = await ProbeBed.start(undefined, "--sample", "1", "--sampled", "400");
    const client = new HttpClient(server.port, 4);
    await client.times(4_000, {}, 4);
    client.close();
    await small.settled();
    const told = toldOf(small, ROLE.server, server.port).filter(({ weight }) => weight > 0);
    const weight = told.reduce((sum, one) => sum + one.weight, 0);
    expect(told.length).toBeLessThan(4_000);
    expect(new Set(told.map((one) => one.weight)).size).toBeGreaterThan(1);
    // five times the deviation of what was told
    const deviation = Math.sqrt(told.reduce((sum, one) => sum + one.weight * (one.weight - 1), 0));
    expect(Math.abs(weight - 4_000)).toBeLessThan(5 * deviation);
    await small.stop();
    server.close();
  });

  it("above the budget are counted, and without spans there are none", async () => {
    const server = await serve((_, done) => done(500));
    for (const [args, most] of [
      ["--failed 3", 3],
      ["--no-spans", 0],
    ] as const) {
      const small = await ProbeBed.start(undefined, ...args.split(" "));
      const client = new HttpClient(server.port);
      const over = small.self("spansFailedOver");
      const ticks = small.ticks;
      await client.times(100);
      client.close();
      await small.settled();
      const told = small.spans.filter(has(TOLD.failed)).length;
      expect(told).toBeLessThanOrEqual(most * (small.ticks - ticks + 1));
      if (most > 0) expect(told + small.self("spansFailedOver") - over).toBeGreaterThanOrEqual(200);
      else expect(small.spans).toHaveLength(0);
      await small.stop();
    }
    server.close();
  });
});
