/** The doors as senders and attackers meet them: real sockets, every encoding, every limit. */
import { deflateRawSync, deflateSync, gzipSync } from "node:zlib";
import { Deferred, Effect } from "effect";
import { compressSync } from "snappy";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DoorRefusal, type Call, type Door } from "../../../runtime/doors/Door.ts";
import { prometheusText } from "../../../runtime/http/prometheus.ts";
import { DOOR_KEY, serveDoors, type DoorsUnderTest } from "./client.ts";

const MOST = 1024 * 1024;
const calls: Call[] = [];
const held = Deferred.unsafeMake<void>(Effect.runSync(Effect.fiberId));

const door = (path: string, handle: Door["handle"], change: Partial<Door> = {}): Door => ({
  path,
  method: "POST",
  contentTypes: ["text/plain"],
  encodings: ["identity", "gzip", "deflate", "zstd", "snappy"],
  maxBytes: MOST,
  handle,
  ...change,
});

const echo = door("/v1/echo", (call) =>
  Effect.sync(() => {
    calls.push(call);
    return { status: 200, contentType: "text/plain", body: `${call.body.length}` };
  }),
);

let under: DoorsUnderTest;
beforeAll(async () => {
  under = await serveDoors(
    [
      echo,
      door("/v1/echo", ({ query }) => Effect.succeed({ status: 200, body: `got ${query.get("a")}` }), {
        method: "GET",
      }),
      door("/v1/broken", () => Effect.die(new Error("broken"))),
      door("/v1/full", () => Effect.fail(new DoorRefusal({ status: 503, message: "later", retryAfter: 7 }))),
      door("/v1/wait", () => Effect.as(Deferred.await(held), { status: 204 })),
      door("/v1/own", () => Effect.succeed({ status: 204 }), {
        encodings: ["identity"],
        refused: ({ status, message }) => ({ status, contentType: "application/json", body: `{"m":"${message}"}` }),
      }),
    ],
    4 * MOST,
  );
});
afterAll(() => under.close());

const TYPE = { "content-type": "text/plain" };
const post = (body: Uint8Array | string, headers: Record<string, string> = {}, path = "/v1/echo") =>
  under.post(path, body, { ...TYPE, ...headers });

/** One frame of raw and RLE blocks; fzstd has no encoder. */
const zstdFrame = (blocks: readonly Buffer[], windowDescriptor = 0x38): Buffer =>
  Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, windowDescriptor]), ...blocks]);
const block = (type: 0 | 1, size: number, content: Buffer, last = true): Buffer => {
  const header = Buffer.alloc(3);
  header.writeUIntLE((size << 3) | (type << 1) | Number(last), 0, 3);
  return Buffer.concat([header, content]);
};

describe("who may come in", () => {
  it("takes the key in either header, in whatever case the scheme is written", async () => {
    for (const headers of [
      { "x-api-key": DOOR_KEY },
      { authorization: `Bearer ${DOOR_KEY}` },
      { authorization: `bearer ${DOOR_KEY}` },
    ])
      expect((await under.send("POST", "/v1/echo", { ...TYPE, ...headers }, "x")).status).toBe(200);
  });

  it("refuses others before it reads what they send", async () => {
    const before = calls.length;
    for (const headers of [{}, { "x-api-key": "" }, { "x-api-key": `${DOOR_KEY}x` }, { authorization: DOOR_KEY }]) {
      const reply = await under.send("POST", "/v1/echo", { ...TYPE, ...headers }, "x".repeat(3 * MOST));
      expect([reply.status, reply.headers["www-authenticate"]]).toEqual([401, "Bearer"]);
      expect(reply.text).toBe("the key is missing or wrong: send it as X-API-Key or as a bearer token\n");
    }
    expect(calls.length).toBe(before);
  });

  it("names the doors at a wrong path, and the method at a wrong method", async () => {
    const missing = await post("x", {}, "/v1/nothing");
    expect([missing.status, missing.text.includes("expected /v1/echo, /v1/broken")]).toEqual([404, true]);
    const put = await under.send("PUT", "/v1/echo", { "x-api-key": DOOR_KEY });
    expect([put.status, put.headers["allow"], put.text]).toEqual([405, "POST, GET", "/v1/echo takes POST, GET\n"]);
    expect((await under.send("GET", "/v1/echo?a=b%20c", { "x-api-key": DOOR_KEY })).text).toBe("got b c");
  });

  it("tells which content type or encoding it expects", async () => {
    expect((await post("x", { "content-type": "text/html" })).text).toBe(
      '"text/html" is not taken here; expected text/plain\n',
    );
    expect((await under.post("/v1/echo", "x")).status).toBe(415);
    expect((await post("x", { "content-type": "TEXT/Plain; charset=utf-8" })).status).toBe(200);
    expect(calls.at(-1)?.contentType).toBe("text/plain");
    const br = await post("x", { "content-encoding": "br" });
    expect([br.status, br.text]).toEqual([
      415,
      'content encoding "br" is not taken here; expected identity, gzip, deflate, zstd, snappy\n',
    ]);
  });

  it("refuses in the protocol's own form where it has one", async () => {
    const reply = await post("x", { "content-encoding": "gzip" }, "/v1/own");
    expect([reply.status, reply.headers["content-type"]]).toEqual([415, "application/json"]);
  });
});

describe("encodings", () => {
  const text = Buffer.from("telemetry ".repeat(5_000));
  const raw = [0, 1, 2].map((n) => block(0, 100, text.subarray(n * 100, n * 100 + 100), n === 2));
  it.each([
    ["identity", text, text],
    ["gzip", gzipSync(text), text],
    ["deflate", deflateSync(text), text],
    ["deflate", deflateRawSync(text), text],
    ["snappy", compressSync(text), text],
    ["zstd", zstdFrame(raw), text.subarray(0, 300)],
    // what the zstd program makes of the first 3,000 words, with a checksum
    ["zstd", Buffer.from("KLUv/QRYlQAAUHRlbGVtZXRyeSABACN194IEOmoAcQ==", "base64"), text.subarray(0, 30_000)],
    ["zstd", Buffer.concat([zstdFrame(raw), zstdFrame(raw)]), Buffer.concat([0, 1].map(() => text.subarray(0, 300)))],
  ])("undoes %s", async (encoding, body, expected) => {
    expect((await post(body, { "content-encoding": encoding })).status).toBe(200);
    expect(calls.at(-1)?.body.equals(expected)).toBe(true);
  });

  it.each(["gzip", "deflate", "snappy", "zstd"])("refuses what is no %s, or cut off", async (encoding) => {
    const whole = {
      gzip: gzipSync(text),
      deflate: deflateSync(text),
      snappy: compressSync(text),
      zstd: zstdFrame(raw),
    };
    const right = whole[encoding as keyof typeof whole];
    for (const body of [
      Buffer.from("\xff\xff\xff\xff\xff\xff nonsense", "latin1"),
      right.subarray(0, right.length - 30),
    ]) {
      const reply = await post(body, { "content-encoding": encoding });
      expect([reply.status, reply.text.startsWith(`the body is not ${encoding}: `)]).toEqual([400, true]);
    }
  });
});

describe("limits", () => {
  const zeros = (mib: number) => Buffer.alloc(mib * 1024 * 1024);
  it.each([
    ["gzip", () => gzipSync(zeros(200))],
    ["deflate", () => deflateSync(zeros(200))],
    ["snappy", () => compressSync(zeros(200)).subarray(0, 500_000)],
    ["snappy", () => Buffer.from([0xff, 0xff, 0xff, 0xff, 0x0f, 0])],
    ["zstd", () => zstdFrame(Array.from({ length: 2_000 }, (_, n) => block(1, 131_072, Buffer.of(7), n === 1_999)))],
    ["zstd", () => zstdFrame([block(1, 2_097_151, Buffer.of(7))])],
  ])("stop a bomb of %s at the limit", async (encoding, make) => {
    const body = make();
    const before = process.memoryUsage().rss;
    const reply = await post(body, { "content-encoding": encoding });
    expect([reply.status, reply.text]).toEqual([413, `the body is larger than ${MOST} bytes\n`]);
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024);
  });

  it("refuses a zstd window that would be allocated, and too many frames", async () => {
    const wide = await post(zstdFrame([block(0, 1, Buffer.of(1))], 0xa0), { "content-encoding": "zstd" });
    expect([wide.status, wide.text]).toEqual([400, "the body is not zstd: its window is larger than 8388608 bytes\n"]);
    const frame = zstdFrame([block(0, 1, Buffer.of(1))], 0);
    const many = await post(Buffer.concat(Array.from({ length: 100 }, () => frame)), { "content-encoding": "zstd" });
    expect([many.status, many.text]).toEqual([400, "the body is not zstd: it has more than 64 frames\n"]);
    // a single segment that claims 4 GiB
    const claim = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0]);
    expect((await post(claim, { "content-encoding": "zstd" })).status).toBe(413);
  });

  it("hold for a length that is told, and for one that is not", async () => {
    expect((await post(Buffer.alloc(MOST))).status).toBe(200);
    expect((await post(Buffer.alloc(MOST + 1))).status).toBe(413);
    const parts = Array.from({ length: 20 }, () => Buffer.alloc(MOST / 10));
    const reply = await under.send("POST", "/v1/echo", { ...TYPE, "x-api-key": DOOR_KEY }, ...parts);
    expect([reply.status, reply.text]).toEqual([413, `the body is larger than ${MOST} bytes\n`]);
  });

  it("bound what all calls hold together, and come back when they are answered", async () => {
    const waiting = Array.from({ length: 4 }, () => post(Buffer.alloc(MOST - 10), {}, "/v1/wait"));
    await expect.poll(() => /bytes_under_way (\d+)/.exec(prometheusText())?.[1]).toBe(String(4 * (MOST - 10)));
    const over = await post(Buffer.alloc(1_000));
    expect([over.status, over.headers["retry-after"], over.text]).toEqual([429, "5", "too many bytes are under way\n"]);
    expect((await post("x".repeat(30))).status).toBe(200);
    Effect.runSync(Deferred.succeed(held, undefined));
    expect((await Promise.all(waiting)).map(({ status }) => status)).toEqual([204, 204, 204, 204]);
    expect((await post(Buffer.alloc(MOST))).status).toBe(200);
    await expect.poll(() => prometheusText().includes("coroot_door_bytes_under_way 0\n")).toBe(true);
  });
});

describe("failures", () => {
  it("of a door are a 500 for its sender alone", async () => {
    const replies = await Promise.all([post("x", {}, "/v1/broken"), post("x"), post("x", {}, "/v1/full")]);
    expect(replies.map(({ status }) => status)).toEqual([500, 200, 503]);
    expect(replies[0].text).toBe("the server failed on this call\n");
    expect(replies[2].headers["retry-after"]).toBe("7");
  });

  it("of senders that leave in the middle cost nothing", async () => {
    const left = new AbortController();
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(Buffer.alloc(100_000)),
    });
    const sent = fetch(`${under.url}/v1/echo`, {
      method: "POST",
      headers: { ...TYPE, "x-api-key": DOOR_KEY },
      body,
      signal: left.signal,
      duplex: "half",
    } as RequestInit);
    await expect.poll(() => prometheusText().includes("coroot_door_refused_total")).toBe(true);
    left.abort();
    await expect(sent).rejects.toThrow();
    expect((await post("x")).status).toBe(200);
    await expect.poll(() => prometheusText().includes("coroot_door_bytes_under_way 0\n")).toBe(true);
  });

  it("are counted by door and reason", () => {
    const text = prometheusText();
    for (const reason of ["key", "method", "type", "size", "malformed", "behind"])
      expect(text).toContain(`coroot_door_refused_total{door="/v1/echo",reason="${reason}"}`);
    expect(text).toContain('coroot_door_refused_total{door="/v1/full",reason="late"}');
    expect(text).toContain('coroot_door_refused_total{door="none",reason="path"}');
    expect(text).toContain('coroot_door_failed_total{door="/v1/broken"} 1');
  });
});
