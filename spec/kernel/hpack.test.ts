/**
 * Header blocks in every form that HPACK and the framing allow, cut anywhere: what the kernel counts is what a real
 * implementation at the other end (Node.js, that is nghttp2) read.
 */
import fc from "fast-check";
import { createServer as createHttp2Server, connect as connectHttp2, type IncomingHttpHeaders } from "node:http2";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { STATUS } from "../../schemas/wire/observe.ts";
import { describeWith } from "../capabilities.ts";
import { type Choose, Encoder, type Header, Frames, frame, headers, PREFACE, TYPE } from "./Http2Peer.ts";
import { buildProbe, ProbeBed } from "./ProbeBed.ts";
import { open } from "./traffic.ts";

const CASES = 50;
const CALLS = 25;

/** Random whole numbers of a seed. */
const chooser = (seed: number): Choose => {
  let state = seed >>> 0;
  return (n) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
};
const LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-";
const word = (choose: Choose, most: number): string =>
  Array.from({ length: 1 + choose(most) }, () => LETTERS[choose(LETTERS.length)] ?? "a").join("");
const extra = (choose: Choose): Header[] =>
  Array.from({ length: choose(5) }, () => [`x-${word(choose, 9)}`, word(choose, choose(8) === 0 ? 400 : 20)] as const);

/** Writes in pieces of any size, each by a call of its own. */
const write = async (socket: Socket, choose: Choose, bytes: Buffer): Promise<void> => {
  for (let at = 0; at < bytes.length; ) {
    const n = choose(3) === 0 ? bytes.length - at : 1 + choose(choose(2) === 0 ? 12 : 200);
    const piece = bytes.subarray(at, at + n);
    await new Promise<void>((resolve, reject) =>
      socket.write(piece, (error) => (error === undefined || error === null ? resolve() : reject(error))),
    );
    at += n;
  }
};

const FAILED = [2, 4, 12, 13, 14, 15];
/** The rule, on what was decoded. */
const outcome = (head: IncomingHttpHeaders, grpc: string | undefined, asked: boolean): string => {
  const http = Number(head[":status"]);
  const type = /^application\/grpc(?!-)/.test(String(head["content-type"] ?? ""));
  if (grpc !== undefined) return `grpc.${grpc === "0" ? "ok" : FAILED.includes(Number(grpc)) ? "failed" : "rejected"}`;
  if (asked || type) return `grpc.${http >= 400 && http < 500 ? "rejected" : "failed"}`;
  return `http.${http >= 500 ? "failed" : http >= 400 ? "rejected" : "ok"}`;
};
type Counts = Record<string, number>;
const bump = (counts: Counts, name: string): void => void (counts[name] = (counts[name] ?? 0) + 1);

describeWith(["bpf"], "header blocks of every form", () => {
  let bed: ProbeBed;
  beforeAll(async () => {
    buildProbe();
    bed = await ProbeBed.start();
  });
  /** open to the end, so that each case has a port of its own */
  const servers: { readonly close: () => void }[] = [];
  afterAll(async () => {
    for (const server of servers) server.close();
    await bed.stop();
  });
  const seen = (port: number, end: 0 | 1): Counts => {
    const counts: Counts = {};
    for (const protocol of ["http", "grpc"] as const)
      for (const [name, status] of Object.entries(STATUS)) {
        const n = bed.both(port, protocol, status)[end];
        if (n > 0) counts[`${protocol}.${name}`] = n;
      }
    return counts;
  };
  const seeds = (seed: number): number[] => fc.sample(fc.integer(), { numRuns: CASES, seed });

  const reply = (choose: Choose, encoder: Encoder, stream: number): Buffer => {
    const out: Buffer[] = [];
    const status = ["200", "200", "302", "301", "404", "429", "500", "503", "400", "206"][choose(10)] ?? "200";
    const code = String(choose(17));
    const type =
      ["application/grpc", "application/grpc+proto", "application/grpc-web+proto", "text/html"][choose(4)] ?? "";
    if (choose(6) === 0) {
      const interim: Header[] = [
        [":status", "103"],
        ["x-hint", word(choose, 30)],
      ];
      out.push(headers(choose, stream, false, encoder.block(interim)));
    }
    if (choose(5) === 0) out.push(frame(TYPE.ping, 0, 0, Buffer.alloc(8)));
    if (choose(5) === 0) out.push(frame(0x5b, 0, stream, Buffer.alloc(choose(50))));
    const data = (end: boolean): void => {
      const message = Buffer.concat([Buffer.of(0, 0, 0, 0, 200), Buffer.alloc(200, "m")]);
      const at = choose(206);
      if (choose(2) === 0) out.push(frame(TYPE.data, end ? 1 : 0, stream, message));
      else {
        out.push(frame(TYPE.data, 0, stream, message.subarray(0, at)));
        out.push(frame(TYPE.data, end ? 1 : 0, stream, message.subarray(at)));
      }
    };
    const head: Header[] = [[":status", status], ...extra(choose), ["content-type", type], ...extra(choose)];
    switch (choose(4)) {
      case 0: // all in one
        out.push(headers(choose, stream, true, encoder.block([...head, ["grpc-status", code]])));
        break;
      case 1: // no trailers
        out.push(headers(choose, stream, false, encoder.block(head)));
        data(true);
        break;
      case 2: // no body
        out.push(headers(choose, stream, true, encoder.block(head)));
        break;
      default:
        out.push(headers(choose, stream, false, encoder.block(head)));
        data(false);
        out.push(
          headers(choose, stream, true, encoder.block([...extra(choose), ["grpc-status", code], ...extra(choose)])),
        );
    }
    return Buffer.concat(out);
  };

  it("reads the statuses of replies", async () => {
    const cases: { port: number; seed: number; truth: Counts }[] = [];
    for (const seed of seeds(7)) {
      const choose = chooser(seed);
      const encoder = new Encoder(choose);
      const server = createServer((socket) => {
        socket.setNoDelay(true);
        const frames = new Frames(PREFACE.length);
        let last = write(socket, choose, frame(TYPE.settings, 0, 0));
        socket.on("data", (chunk: Buffer) => {
          for (const { type, flags, stream } of frames.push(chunk)) {
            if (type === TYPE.settings && (flags & 1) === 0)
              last = last.then(() => write(socket, choose, frame(TYPE.settings, 1, 0)));
            if (type === TYPE.headers) last = last.then(() => write(socket, choose, reply(choose, encoder, stream)));
          }
        });
      });
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      const { port } = server.address() as AddressInfo;
      const session = connectHttp2(`http://127.0.0.1:${port}`);
      const truth: Counts = {};
      const call = (i: number): Promise<void> =>
        new Promise((resolve, reject) => {
          const asked = i % 3 === 0;
          const stream = session.request({ ":path": "/", ...(asked ? { "content-type": "application/grpc" } : {}) });
          let head: IncomingHttpHeaders = {};
          let status: string | undefined;
          stream.on("response", (h) => {
            head = h;
            if (h["grpc-status"] !== undefined) status = String(h["grpc-status"]);
          });
          stream.on("trailers", (t) => (status = t["grpc-status"] === undefined ? status : String(t["grpc-status"])));
          stream.once("error", (error) => reject(new Error(`seed ${seed}: ${error.message}`)));
          stream.once("close", () => {
            // plain HTTP is done with its head
            const plain = !asked && !/^application\/grpc(?!-)/.test(String(head["content-type"]));
            const inHead = head["grpc-status"] === undefined ? undefined : String(head["grpc-status"]);
            bump(truth, outcome(head, plain ? inHead : status, asked));
            resolve();
          });
          stream.resume();
          stream.end();
        });
      for (let i = 0; i < CALLS; i += 5) await Promise.all([0, 1, 2, 3, 4].map((j) => call(i + j)));
      session.close();
      servers.push(server);
      cases.push({ port, seed, truth });
    }
    await bed.settled();
    for (const { port, seed, truth } of cases) {
      expect(seen(port, 1), `server, seed ${seed}`).toEqual(truth);
      expect(seen(port, 0), `client, seed ${seed}`).toEqual(truth);
    }
  }, 20_000);

  it("tells calls of gRPC by the heads of requests", async () => {
    const cases: { port: number; seed: number; truth: Counts }[] = [];
    for (const seed of seeds(8)) {
      const choose = chooser(seed);
      const encoder = new Encoder(choose);
      const truth: Counts = {};
      const server = createHttp2Server();
      server.on("stream", (stream, head) => {
        const asked = /^application\/grpc(?!-)/.test(String(head["content-type"] ?? ""));
        const code = Number(head["x-code"]);
        bump(truth, outcome({ ":status": "200" }, asked ? String(code) : undefined, asked));
        stream.respond({ ":status": 200 }, { waitForTrailers: true });
        stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": String(code) }));
        stream.end("body");
      });
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      const { port } = server.address() as AddressInfo;
      const socket = await open(port);
      let ended = 0;
      const frames = new Frames();
      const done = new Promise<void>((resolve) => {
        socket.on("data", (chunk: Buffer) => {
          for (const { type, flags } of frames.push(chunk))
            if ((type === TYPE.headers || type === TYPE.data) && (flags & 1) !== 0 && ++ended === CALLS) resolve();
        });
      });
      await new Promise((resolve) => socket.write(Buffer.concat([PREFACE, frame(TYPE.settings, 0, 0)]), resolve));
      for (let i = 0; i < CALLS; i++) {
        const type = ["application/grpc", "application/grpc+proto", "application/grpc-web+proto", "text/html", ""][
          choose(5)
        ];
        const head: Header[] = [
          [":method", "POST"],
          [":scheme", "http"],
          [":path", `/${word(choose, 20)}`],
          [":authority", "x"],
          ...extra(choose),
          ["x-code", String(choose(17))],
          ...(type === "" || type === undefined ? [] : [["content-type", type] as const]),
          ...extra(choose),
        ];
        const body = choose(3);
        const stream = i * 2 + 1;
        const bytes = [headers(choose, stream, body === 0, encoder.block(head))];
        const size = choose(300);
        const message = Buffer.concat([Buffer.of(0, 0, 0, size >> 8, size & 255), Buffer.alloc(size)]);
        if (body > 0) bytes.push(frame(TYPE.data, 1, stream, message));
        await write(socket, choose, Buffer.concat(bytes));
      }
      await done;
      socket.destroy();
      servers.push(server);
      cases.push({ port, seed, truth });
    }
    await bed.settled();
    for (const { port, seed, truth } of cases) {
      expect(seen(port, 1), `server, seed ${seed}`).toEqual(truth);
      expect(seen(port, 0), `client, seed ${seed}`).toEqual(truth);
    }
  }, 20_000);
});
