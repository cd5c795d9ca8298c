/** Header blocks of RFC 7541's examples, and what becomes of those that are cut off or make no sense. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readBlock, unhuffman, type Entries, type Field } from "../../../../agent/node/spans/hpack.ts";
import { isHttp2, readFrames } from "../../../../agent/node/spans/http2.ts";
import { Encoder, frame, huffman, PREFACE, TYPE } from "../../../kernel/Http2Peer.ts";

const table = (): Entries & { readonly all: Map<number, Field> } => {
  const all = new Map<number, Field>();
  return { all, get: (number) => all.get(number), set: (number, field) => void all.set(number, field) };
};
/** Appendix C.4: three requests of one connection, with Huffman codes. */
const REQUESTS = [
  "828684418cf1e3c2e5f23a6ba0ab90f4ff",
  "828684be5886a8eb10649cbf",
  "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
].map((hex) => Buffer.from(hex, "hex"));

describe("header blocks", () => {
  it("of the specification's examples are read with the entries of those before", () => {
    const entries = table();
    let inserted = 0;
    const read = REQUESTS.map((block) => {
      const found = readBlock(block, inserted, entries);
      inserted = found.inserted;
      return [...found.fields].map(([name, value]) => `${name} ${value}`);
    });
    expect(read).toEqual([
      [":method GET", ":path /", ":authority www.example.com"],
      [":method GET", ":path /", ":authority www.example.com"],
      [":method GET", ":path /index.html", ":authority www.example.com"],
    ]);
    expect(inserted).toBe(3);
    // of others not even the names are kept
    expect([...entries.all.values()].slice(1)).toEqual([
      ["", ""],
      ["", ""],
    ]);
  });

  it("say nothing of entries that were made before anybody looked", () => {
    const found = readBlock(REQUESTS[1] ?? Buffer.alloc(0), 1, table());
    expect([...found.fields.keys()]).toEqual([":method", ":path"]);
    expect(found.inserted).toBe(2);
  });

  it("that are cut give what is whole, and nonsense gives something or nothing", () => {
    const whole = readBlock(REQUESTS[0] ?? Buffer.alloc(0), 0, table()).fields;
    for (let n = 0; n < (REQUESTS[0]?.length ?? 0); n++)
      for (const [name, value] of readBlock((REQUESTS[0] ?? Buffer.alloc(0)).subarray(0, n), 0, table()).fields)
        expect(value).toBe(whole.get(name));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), fc.nat(), (bytes, inserted) => {
        readFrames(bytes, inserted, table());
        isHttp2(bytes);
      }),
      { numRuns: 3_000 },
    );
  });

  it("written in any form are read as they were meant", () => {
    const name = fc.constantFrom(":method", ":path", ":authority", "traceparent", "x-other");
    const value = fc.stringMatching(/^[a-zA-WY0-9/_.-]{0,40}$/);
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.tuple(name, value), { minLength: 1, maxLength: 8 }), { maxLength: 20 }),
        fc.array(fc.nat(), { minLength: 1 }),
        (blocks, choices) => {
          let turn = 0;
          const encoder = new Encoder((n) => (choices[turn++ % choices.length] ?? 0) % n);
          const entries = table();
          let inserted = 0;
          for (const fields of blocks) {
            const found = readBlock(encoder.block(fields), inserted, entries);
            inserted = found.inserted;
            expect(found.fields).toEqual(new Map(fields.filter(([one]) => one !== "x-other")));
          }
        },
      ),
    );
  });

  it("are found behind the preface and other frames, padded or with a priority", () => {
    const block = REQUESTS[0] ?? Buffer.alloc(0);
    const head = Buffer.concat([
      PREFACE,
      frame(TYPE.settings, 0, 0),
      frame(TYPE.headers, 0x2d, 1, Buffer.concat([Buffer.of(3), Buffer.alloc(5), block, Buffer.alloc(3)])),
      frame(TYPE.data, 1, 1, Buffer.from("x")),
      frame(TYPE.headers, 5, 3, REQUESTS[1]),
    ]);
    const found = readFrames(head, 0, table());
    expect(found.map(({ stream, fields }) => [stream, fields.get(":authority")])).toEqual([
      [1, "www.example.com"],
      [3, "www.example.com"],
    ]);
    expect([isHttp2(head), isHttp2(head.subarray(24)), isHttp2(Buffer.from("GET / HTTP/1.1\r\n"))]).toEqual([
      true,
      true,
      false,
    ]);
  });
});

it("Huffman codes are read up to what is none", () => {
  expect(unhuffman(huffman("/items/17?q=a+b"))).toBe("/items/17?q=a+b");
  expect(unhuffman(Buffer.from("ffffffff", "hex"))).toBe("");
});
