/** Frames: what goes in comes out, released versions stay readable, and nothing hostile does more than raise FrameError. */
import { readFileSync, readdirSync, writeFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { Packr } from "msgpackr";
import { describe, expect, it } from "vitest";
import {
  checkAck,
  checkCredit,
  checkGoaway,
  checkHello,
  checkObserve,
  checkPolicy,
  checkServerHello,
  checkStore,
  decodeFrame,
  encodeFrame,
} from "../../schemas/wire/codec.ts";
import { encodeTable } from "../../schemas/wire/columns.ts";
import { FRAME, FrameError, HEADER_BYTES, MAX_HELLO_BYTES, writeHeader } from "../../schemas/wire/frame.ts";
import { HIST_SHAPE, L7_SHAPE, TCP_SHAPE } from "../../schemas/wire/observe.ts";
import { SAMPLES_SHAPE } from "../../schemas/wire/link.ts";
import {
  ackBody,
  ALL,
  creditBody,
  goawayBody,
  helloBody,
  observeBody,
  policyBody,
  serverHelloBody,
  storeBody,
  tableOf,
} from "./frames.ts";

const GOLDEN = join(import.meta.dirname, "../golden");
const CHECKS: Readonly<Record<string, (body: unknown) => unknown>> = {
  hello: checkHello,
  "server-hello": checkServerHello,
  observe: checkObserve,
  store: checkStore,
  ack: checkAck,
  credit: checkCredit,
  policy: checkPolicy,
  goaway: checkGoaway,
};

const framed = (body: Uint8Array): Uint8Array => {
  const frame = new Uint8Array(HEADER_BYTES + body.byteLength);
  writeHeader(FRAME.observe, body.byteLength, frame);
  frame.set(body, HEADER_BYTES);
  return frame;
};

const refusal = (run: () => unknown): FrameError => {
  try {
    run();
  } catch (error) {
    if (error instanceof FrameError) return error;
    throw error;
  }
  throw new Error("expected a FrameError");
};

/** Through the wire and the check, as the other end does it. */
const observed = (change: object): ReturnType<typeof checkObserve> =>
  checkObserve(decodeFrame(encodeFrame(FRAME.observe, { ...observeBody, ...change })).body);

const one = (shape: typeof TCP_SHAPE, row: object) => encodeTable(shape, tableOf(shape, [row]));

const onlyFrameErrors = (bytes: Uint8Array): void => {
  try {
    const { body } = decodeFrame(bytes);
    for (const check of Object.values(CHECKS)) {
      try {
        check(body);
      } catch (error) {
        if (!(error instanceof FrameError)) throw error;
      }
    }
  } catch (error) {
    if (!(error instanceof FrameError)) throw error;
  }
};

describe("frames there and back", () => {
  it("keeps every field of the small bodies", () => {
    for (const [name, kind, body] of ALL) {
      if (name === "observe" || name === "store") continue;
      const decoded = decodeFrame(encodeFrame(kind, body));
      expect(decoded.header.kind).toBe(kind);
      expect(CHECKS[name]?.(decoded.body)).toEqual(body);
    }
  });

  it("gives observe as typed tables", () => {
    const read = observed({});
    expect(read).toMatchObject({
      window: 42,
      instances: observeBody.instances,
      edges: observeBody.edges,
      listens: observeBody.listens,
      gone: [3, 4],
      events: observeBody.events,
      skipped: { columns: 0, fields: 0, protocols: 0, kinds: 0 },
    });
    expect(read.tcp.bytesIn).toEqual(Float64Array.of(1e12));
    expect(read.l7.count).toEqual(Uint32Array.of(10, 1));
    expect(read.hist.bucket).toEqual(Uint8Array.of(40, 107));
    expect(read.pending.oldestMs[0]).toBe(1500);
    expect(read.pairIps.byteLength).toBe(16);
    expect(read.usage.memory[0]).toBe(2 ** 33);
  });

  it("reads an empty window, and tells unchanged listens from none", () => {
    const bare = { window: 1, monoMs: 1, wallMs: 1 };
    expect(checkObserve(decodeFrame(encodeFrame(FRAME.observe, bare)).body)).toMatchObject({ listens: null, gone: [] });
    expect(checkObserve({ ...bare, listens: [] }).listens).toEqual([]);
    expect(observed({ tcp: undefined }).tcp.rows).toBe(0);
  });

  it("gives store as a typed table, negative values included", () => {
    const read = checkStore(decodeFrame(encodeFrame(FRAME.store, storeBody)).body);
    expect(read.series).toEqual(storeBody.series);
    expect(read.samples.value).toEqual(Float64Array.of(-1.5));
  });

  it("decodes a frame that lies unaligned in a larger buffer", () => {
    const frame = encodeFrame(FRAME.observe, observeBody);
    const padded = new Uint8Array(frame.byteLength + 7);
    padded.set(frame, 3);
    const read = checkObserve(decodeFrame(padded.subarray(3, 3 + frame.byteLength)).body);
    expect(read.tcp.edge[0]).toBe(7);
  });
});

describe("golden frames", () => {
  // Written once, for a kind that has none yet; never rewritten: what was released must stay readable.
  for (const [name, kind, body] of ALL) {
    const path = join(GOLDEN, `wire-v1.${name}.bin`);
    if (!existsSync(path) && process.env["COROOT_WRITE_GOLDEN"] === "1") writeFileSync(path, encodeFrame(kind, body));
  }
  it("has one for every kind", () => {
    expect(readdirSync(GOLDEN).filter((file) => file.startsWith("wire-v1."))).toHaveLength(ALL.length);
  });
  it.each(ALL.map(([name, kind, body]) => ({ name, kind, body })))(
    "reads $name of version 1",
    ({ name, kind, body }) => {
      const decoded = decodeFrame(readFileSync(join(GOLDEN, `wire-v1.${name}.bin`)));
      expect(decoded.header).toMatchObject({ major: 1, kind });
      expect(CHECKS[name]?.(decoded.body)).toEqual(CHECKS[name]?.(decodeFrame(encodeFrame(kind, body)).body));
    },
  );
});

describe("what a newer agent sends", () => {
  it("skips and counts unknown columns, fields, protocols, kinds and events", () => {
    const l7 = encodeTable(L7_SHAPE, tableOf(L7_SHAPE, [{ edge: 7, protocol: 200, count: 3 }]));
    const read = observed({
      l7: { ...l7, novel: Uint8Array.of(1) },
      hist: undefined,
      future: { a: 1 },
      events: [{ kind: "frozen", instance: 1, atMs: 1 }],
      instances: [{ ...observeBody.instances?.[0], kind: "Rocket" }],
    });
    expect(read.skipped).toEqual({ columns: 1, fields: 1, protocols: 1, kinds: 2 });
    expect(read.l7.protocol[0]).toBe(0);
    expect(read.l7.count[0]).toBe(3);
    expect(read.events).toEqual([]);
    expect(read.instances[0]?.kind).toBe("Process");
  });
});

describe("frames that lie", () => {
  const frame = encodeFrame(FRAME.hello, helloBody);
  const patched = (at: number, value: number): Uint8Array => {
    const copy = frame.slice();
    copy[at] = value;
    return copy;
  };

  it.each([
    ["truncated", frame.subarray(0, 7), "frame: 7 bytes, a header has 12"],
    ["length", frame.subarray(0, frame.length - 1), "header says"],
    ["length", new Uint8Array([...frame, 0]), "header says"],
    ["magic", patched(0, 0), "frame.magic"],
    ["version", patched(4, 2), "protocol 2, this side speaks 1 to 1"],
    ["version", patched(4, 0), "protocol 0"],
    ["oversized", patched(11, 0x10), "at most"],
  ] as const)("refuses %s", (code, bytes, message) => {
    const error = refusal(() => decodeFrame(bytes));
    expect(error.code).toBe(code);
    expect(error.message).toContain(message);
  });

  it("takes no more than the limit it is given", () => {
    const big = encodeFrame(FRAME.hello, { ...helloBody, key: "x".repeat(MAX_HELLO_BYTES) });
    expect(refusal(() => decodeFrame(big, MAX_HELLO_BYTES)).code).toBe("oversized");
  });

  it("allocates nothing for lengths that the bytes do not hold", () => {
    // 5 bytes claim 2^32 - 1 entries, and each of 10,000 nested ones claims 32 million
    expect(refusal(() => decodeFrame(framed(Uint8Array.of(0xdd, 255, 255, 255, 255)))).message).toContain("are left");
    const nested = new Uint8Array(5 * 10_000);
    for (let i = 0; i < nested.length; i += 5) nested.set([0xdd, 1, 0xff, 0xff, 0xff], i);
    expect(refusal(() => decodeFrame(framed(nested))).code).toBe("body");
    expect(refusal(() => decodeFrame(framed(new Uint8Array(10_000).fill(0x91)))).message).toContain("nested deeper");
    expect(refusal(() => decodeFrame(framed(Uint8Array.of(0xc6, 255, 255, 255, 255)))).message).toContain("announced");
  });

  it("refuses types that frames do not use, and bytes after the value", () => {
    const library = new Packr({ useRecords: false, moreTypes: true });
    for (const value of [new Date(0), new Set([1]), new Error("x"), /x/, new Map([[1, 2]])])
      expect(refusal(() => decodeFrame(framed(library.pack({ a: value })))).code).toBe("body");
    expect(refusal(() => decodeFrame(framed(Uint8Array.of(0xc0, 0xc0)))).message).toContain("1 bytes follow");
  });

  it("cannot reach a prototype", () => {
    const bytes = new Packr({ useRecords: false }).pack(JSON.parse('{"__proto__":{"polluted":1},"window":1}'));
    decodeFrame(framed(bytes));
    expect(Object.hasOwn(Object.prototype, "polluted")).toBe(false);
    expect(refusal(() => checkObserve(decodeFrame(framed(bytes)).body)).message).toContain("observe.");
  });
});

describe("fields that are wrong are named", () => {
  it.each([
    [{ tcp: [] }, "observe.tcp: expected a map of columns"],
    [{ tcp: { edge: "x" } }, "observe.tcp.edge: expected bytes"],
    [{ tcp: { edge: Uint8Array.of(1, 2, 3) } }, "observe.tcp.edge: 3 bytes is no multiple of 4"],
    [{ tcp: { edge: new Uint8Array(8), opens: new Uint8Array(4) } }, "observe.tcp.opens: 1 rows, other columns have 2"],
    [{ tcp: one(TCP_SHAPE, { bytesIn: -1 }) }, "observe.tcp.bytesIn: -1 in row 0"],
    [{ tcp: one(TCP_SHAPE, { rttUs: NaN }) }, "observe.tcp.rttUs: NaN in row 0"],
    [{ tcp: one(TCP_SHAPE, { connectUs: Infinity }) }, "observe.tcp.connectUs: Infinity in row 0"],
    [
      { hist: encodeTable(HIST_SHAPE, tableOf(HIST_SHAPE, [{ row: 2 }])) },
      "observe.hist.row: 2 in row 0, expected less than 2",
    ],
    [
      { hist: encodeTable(HIST_SHAPE, tableOf(HIST_SHAPE, [{ bucket: 108 }])) },
      "observe.hist.bucket: 108 in row 0, expected less than 108",
    ],
    [
      { l7: encodeTable(L7_SHAPE, tableOf(L7_SHAPE, [{ status: 5 }, {}])) },
      "observe.l7.status: 5 in row 0, expected less than 5",
    ],
    [{ usage: { instance: new Uint8Array(4 * 50_001) } }, "observe.usage.instance: 50001 rows, expected at most 50000"],
    [{ pending: { protocol: new Uint8Array(200_001) } }, "observe.pending.protocol: 200001 rows"],
    [{ pairIps: new Uint8Array(15) }, "observe.pairIps: 15 bytes, expected 16 for each of 1 pairs"],
    [{ window: -1 }, "observe.window: -1, expected a whole number"],
    [{ monoMs: "soon" }, 'observe.monoMs: "soon", expected a finite number'],
    [{ edges: [{ ...observeBody.edges?.[0], port: 70_000 }] }, "observe.edges[0].port: 70000"],
    [{ edges: [{ ...observeBody.edges?.[0], role: 2 }] }, "observe.edges[0].role: 2"],
    [
      { instances: [{ ...observeBody.instances?.[0], name: "x".repeat(2000) }] },
      "observe.instances[0].name: 2000 char",
    ],
    [{ gone: [1.5] }, "observe.gone[0]: 1.5"],
    [{ events: [{ kind: "oom", instance: 1, atMs: 1, pid: 1 }] }, "observe.events[0].rssBytes: nothing, expected"],
    [{ listens: "all" }, 'observe.listens: "all", expected a list'],
  ])("%#", (change, message) => {
    const error = refusal(() => observed(change));
    expect(error.code).toBe("body");
    expect(error.message).toContain(message);
  });

  it("names fields of the other bodies", () => {
    expect(refusal(() => checkHello({ ...helloBody, epoch: "1" })).message).toBe(
      'hello.epoch: "1", expected a whole number from 0 to 9007199254740991',
    );
    expect(refusal(() => checkHello({ ...helloBody, capabilities: [{}] })).message).toContain("hello.capabilities[0]");
    expect(refusal(() => checkHello({ ...helloBody, protocol: [1] })).message).toContain("hello.protocol");
    expect(refusal(() => checkServerHello({ ...serverHelloBody, serverId: "" })).message).toContain("hello.serverId");
    expect(refusal(() => checkAck({ ...ackBody, lane: "fast" })).message).toContain("ack.lane");
    expect(refusal(() => checkCredit({ ...creditBody, frames: -4 })).message).toContain("credit.frames");
    expect(refusal(() => checkPolicy({ ...policyBody, slowMs: { a: null } })).message).toContain("policy.slowMs.a");
    expect(refusal(() => checkGoaway({ ...goawayBody, code: "bored" })).message).toContain("goaway.code");
    const samples = encodeTable(SAMPLES_SHAPE, tableOf(SAMPLES_SHAPE, [{ timeMs: NaN }]));
    expect(refusal(() => checkStore({ ...storeBody, samples })).message).toContain(
      "store.samples.timeMs: NaN in row 0",
    );
    expect(refusal(() => checkStore(null)).message).toBe("store: nothing, expected a map");
  });

  it("cannot be cut off by a process with a newline in its path", () => {
    const read = observed({ instances: [{ ...observeBody.instances?.[0], exe: "/tmp/a\nb" }] });
    expect(read.instances[0]?.exe).toBe("/tmp/a\ufffdb");
  });
});

describe("anything else that arrives", () => {
  it("raises nothing but FrameError for random bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        onlyFrameErrors(bytes);
        onlyFrameErrors(framed(bytes));
      }),
      { numRuns: 3000 },
    );
  });

  it("raises nothing but FrameError for changed frames", () => {
    const valid = ALL.map(([, kind, body]) => encodeFrame(kind, body));
    const place = fc.record({ at: fc.nat(), value: fc.integer({ min: 0, max: 255 }) });
    fc.assert(
      fc.property(fc.nat(valid.length - 1), fc.array(place, { minLength: 1, maxLength: 6 }), (which, places) => {
        const bytes = (valid[which] ?? new Uint8Array()).slice();
        for (const { at, value } of places) bytes[HEADER_BYTES + (at % (bytes.length - HEADER_BYTES))] = value;
        onlyFrameErrors(bytes);
      }),
      { numRuns: 5000 },
    );
  });

  it("raises nothing but FrameError for any value in any place", () => {
    const packr = new Packr({ useRecords: false, encodeUndefinedAsNil: true });
    const bodies: readonly object[] = ALL.map(([, , body]) => body);
    fc.assert(
      fc.property(fc.nat(bodies.length - 1), fc.nat(), fc.jsonValue({ maxDepth: 4 }), (which, field, value) => {
        const body = bodies[which] ?? {};
        const names = Object.keys(body);
        onlyFrameErrors(framed(packr.pack({ ...body, [names[field % names.length] ?? "x"]: value })));
      }),
      { numRuns: 3000 },
    );
  });
});
