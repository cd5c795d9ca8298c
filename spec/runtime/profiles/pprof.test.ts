/** The reader of pprof against protobufjs on random profiles, against hostile bytes, and at its limits. */
import { array, assert, bigInt, constantFrom, integer, property, record, string, uint8Array } from "fast-check";
import { describe, expect, it } from "vitest";
import { TooLarge } from "../../../runtime/otlp/DayRows.ts";
import { Malformed } from "../../../runtime/doors/Protobuf.ts";
import { KnownStacks } from "../../../runtime/profiles/KnownStacks.ts";
import { encodeProfile, type EncodedProfile, type ProfileOrigin } from "../../../runtime/profiles/pprof.ts";
import { makeRandom } from "../otlp/load.ts";
import { finish, readRows, type Row } from "../otlp/rowBinary.ts";
import { decodeMessage, encodeMessage, meaning, type ProfileMessage } from "./proto.ts";

const INPUTS = Number(process.env["COROOT_FUZZ"] ?? 4_000);
const NOW_MS = Date.UTC(2026, 10, 27, 12);
const HOUR_MS = 3_600_000;
const MIB = 1024 * 1024;
const nanos = (ms: number): string => String(BigInt(ms) * 1_000_000n);

const origin: ProfileOrigin = {
  service: "/k8s/shop/cart",
  namespace: "shop",
  pod: "cart-0",
  host: "node-1",
  resource: [["container.id", "/k8s/shop/cart-0/cart"]],
};
const encode = (body: Buffer, known = new KnownStacks(), nowMs = NOW_MS): EncodedProfile =>
  finish(encodeProfile(body, { origin, batch: 7n, nowMs, oldestMs: nowMs - 36 * HOUR_MS, known }));

const rowsOf = ({ days }: EncodedProfile): Row[] =>
  [...days.values()].flatMap((rows) => readRows("profile_samples", rows));
const stacksOf = ({ stacks }: EncodedProfile): Row[] => readRows("profile_stacks", stacks);

/** Rows and their stacks, in the form of the oracle; two types with one name have rows of their own. */
const read = (encoded: EncodedProfile): ReadonlyMap<string, bigint> => {
  const stacks = new Map(stacksOf(encoded).map(({ hash, stack }) => [hash, stack]));
  const out = new Map<string, bigint>();
  for (const { type, stack, attributes, value } of rowsOf(encoded)) {
    const key = JSON.stringify([type, stacks.get(stack), attributes]);
    out.set(key, BigInt.asIntN(64, (out.get(key) ?? 0n) + (value as bigint)));
  }
  return new Map([...out].filter(([, value]) => value !== 0n));
};

const STRINGS = [
  "",
  "cpu",
  "nanoseconds",
  "samples",
  "count",
  "main",
  "work\tx",
  "läuft ✓",
  "/src/a.go",
  "lib/b.so",
  "ebpf:cpu:nanoseconds",
  "k",
];
const text = integer({ min: 0, max: STRINGS.length - 1 });
const ids = integer({ min: 1, max: 9 });
const big = constantFrom("18446744073709551615", "4294967296", "1099511627776");
const half = bigInt({ min: -(2n ** 61n), max: 2n ** 61n }).map(String);

const message = record({
  types: array(record({ type: text, unit: text }), { minLength: 1, maxLength: 3 }),
  functions: array(record({ name: text, systemName: text, filename: text }), { minLength: 1, maxLength: 9 }),
  mappings: array(record({ memoryStart: ids, fileOffset: ids, filename: text }), { maxLength: 3 }),
  locations: array(
    record({
      address: integer({ min: 0, max: 100 }),
      mapping: integer({ min: 0, max: 3 }),
      line: array(record({ functionId: integer({ min: 0, max: 9 }), line: integer({ min: 0, max: 300 }) }), {
        maxLength: 3,
      }),
    }),
    { minLength: 1, maxLength: 9 },
  ),
  samples: array(
    record({
      locationId: array(ids, { maxLength: 12 }),
      value: array(half, { minLength: 3, maxLength: 3 }),
      label: array(record({ key: text, str: text, num: ids }), { maxLength: 3 }),
    }),
    { maxLength: 20 },
  ),
  odd: big,
}).map(({ types, functions, mappings, locations, samples, odd }): ProfileMessage => {
  // the last location has an id that is no small number
  const locationId = (i: number): string => (i === locations.length ? odd : String(i));
  return {
    stringTable: STRINGS,
    sampleType: types,
    function: functions.map((one, i) => ({ id: i + 1, ...one })),
    mapping: mappings.map((one, i) => ({ id: i + 1, ...one })),
    location: locations.map(({ address, mapping, line }, i) => ({
      id: locationId(i + 1),
      address: address * 1000,
      mappingId: Math.min(mapping, mappings.length),
      line: line.map((one) => ({ ...one, functionId: Math.min(one.functionId, functions.length) })),
    })),
    sample: samples.map(({ locationId: at, value, label }) => ({
      locationId: at.map((i) => locationId(Math.min(i, locations.length))),
      value: value.slice(0, types.length),
      label,
    })),
    timeNanos: nanos(NOW_MS - HOUR_MS),
    durationNanos: "10000000000",
  };
});

describe("a profile", () => {
  it("is read as protobufjs reads it: values of each type, stack and label", () => {
    assert(
      property(message, (one) => {
        const bytes = encodeMessage(one);
        expect(read(encode(bytes))).toEqual(meaning(decodeMessage(bytes)));
      }),
      { numRuns: 500 },
    );
  });

  const small = (change: Partial<ProfileMessage> = {}): Buffer =>
    encodeMessage({
      stringTable: ["", "cpu", "nanoseconds", "main", "/src/main.go", "memcpy", "user", "u1"],
      sampleType: [{ type: 1, unit: 2 }],
      function: [
        { id: 1, name: 3, filename: 4 },
        { id: 2, name: 5 },
      ],
      location: [
        { id: 1, line: [{ functionId: 1, line: 7 }] },
        // inlined: the first entry was called by the second
        { id: 2, line: [{ functionId: 2 }, { functionId: 1, line: 9 }] },
      ],
      sample: [
        { locationId: [2, 1], value: [5] },
        { locationId: [2, 1], value: [6] },
        { locationId: [1], value: [0] },
      ],
      timeNanos: nanos(NOW_MS - 60_000),
      durationNanos: "10000000000",
      ...change,
    });

  it("becomes rows with its origin and time, equal stacks added up, inlined functions as frames", () => {
    const encoded = encode(small());
    const [stack, ...more] = stacksOf(encoded);
    expect(more).toEqual([]);
    expect(stack).toMatchObject({
      service: origin.service,
      stack: ["main\t/src/main.go:7", "main\t/src/main.go:9", "memcpy"],
      last_seen: NOW_MS / 1000,
    });
    expect(rowsOf(encoded)).toEqual([
      {
        ts: BigInt(nanos(NOW_MS - 60_000)),
        duration: 10_000_000_000n,
        batch: 7n,
        stack: stack?.["hash"],
        value: 11n,
        service: origin.service,
        type: "cpu:nanoseconds",
        namespace: "shop",
        pod: "cart-0",
        host: "node-1",
        resource: origin.resource,
        attributes: [],
      },
    ]);
  });

  it("has names of stacks that never change", () => {
    const [stack] = stacksOf(encode(small()));
    expect(stack?.["hash"]).toBe(GOLDEN);
  });

  it("ended when it says so if a stock agent named its type, else it began then", () => {
    const named = encode(small({ stringTable: ["", "ebpf:cpu:nanoseconds", "", "main", "/src/main.go", "memcpy"] }));
    expect(rowsOf(named)[0]).toMatchObject({ ts: BigInt(nanos(NOW_MS - 70_000)), type: "ebpf:cpu:nanoseconds" });
  });

  it("without a time is of now, and says so", () => {
    const encoded = encode(small({ timeNanos: 0 }));
    expect(encoded.timeless).toBe(true);
    expect(rowsOf(encoded)[0]?.["ts"]).toBe(BigInt(nanos(NOW_MS - 10_000)));
    expect(encode(small()).timeless).toBe(false);
  });

  it("leaves out types without a name, as Coroot's agents blank those that are not wanted", () => {
    const encoded = encode(
      small({
        sampleType: [
          { type: 0, unit: 2 },
          { type: 1, unit: 2 },
        ],
        sample: [{ locationId: [1], value: [3, 4] }],
      }),
    );
    expect(rowsOf(encoded).map(({ type, value }) => [type, value])).toEqual([["cpu:nanoseconds", 4n]]);
  });

  it("keeps text labels apart and drops numbers", () => {
    const label = [
      { key: 6, str: 7 },
      { key: 6, num: 9 },
    ];
    const encoded = encode(
      small({
        sample: [
          { locationId: [1], value: [3], label },
          { locationId: [1], value: [4] },
        ],
      }),
    );
    expect(stacksOf(encoded)).toHaveLength(1);
    expect(rowsOf(encoded).map(({ value, attributes }) => [value, attributes])).toEqual([
      [3n, [["user", "u1"]]],
      [4n, []],
    ]);
  });

  it("is refused with what is wrong when an id or a string is not there or twice there", () => {
    const refused = (change: Partial<ProfileMessage>): string => {
      try {
        encode(small(change));
        return "taken";
      } catch (error) {
        if (error instanceof Malformed) return error.message;
        throw error;
      }
    };
    expect(
      refused({
        sample: [
          { locationId: [1], value: [1] },
          { locationId: [9], value: [1] },
        ],
      }),
    ).toBe("sample[1] names location 9, which is not there");
    expect(refused({ location: [{ id: 1, line: [{ functionId: 9 }] }] })).toBe(
      "location[0] names function 9, which is not there",
    );
    expect(refused({ location: [{ id: 1, mappingId: 4 }] })).toBe("location[0] names mapping 4, which is not there");
    expect(refused({ location: [{ id: 1 }, { id: 1 }] })).toBe("two locations have the id 1");
    expect(refused({ function: [{ id: 1, name: 99 }] })).toBe("function[0] names string 99 of 8");
    expect(refused({ function: [{ id: 1, name: "-1" }] })).toBe("function[0] names string -1 of 8");
    expect(refused({ sample: [{ locationId: [1], value: [1, 2] }] })).toBe("sample[0] has 2 values for 1 sample types");
    expect(refused({ sampleType: [] })).toBe("a profile without sample types");
    expect(refused({ durationNanos: "-1" })).toBe("duration_nanos is -1, expected 0 to 2678400000000000");
    expect(refused({ timeNanos: nanos(NOW_MS + 2 * HOUR_MS) })).toBe(
      "time_nanos: the profile is more than an hour ahead",
    );
    expect(refused({ timeNanos: nanos(NOW_MS - 48 * HOUR_MS) })).toBe(
      "time_nanos: the profile is older than what is kept",
    );
    const whole = small();
    expect(() => encode(whole.subarray(0, whole.length - 3))).toThrow(Malformed);
  });

  it("names a nameless location by its mapping's file and the offset in it, wherever it was loaded", () => {
    const at = (base: number): readonly unknown[] =>
      stacksOf(
        encode(
          small({
            mapping: [{ id: 1, memoryStart: base, fileOffset: 0x1000, filename: 4 }],
            location: [
              { id: 1, mappingId: 1, address: base + 0x234 },
              { id: 2, address: 5 },
            ],
          }),
        ),
      ).map(({ stack }) => stack);
    expect(at(0x7f0000000000)).toEqual([["[unknown]", "main.go+0x1234"].reverse()]);
    expect(at(0x400000)).toEqual(at(0x7f0000000000));
  });
});

/** The hash of the small profile's stack; a change of it would orphan stored rows. */
const GOLDEN = 2_858_916_114_333_497_016n;

describe("stacks", () => {
  const body = (n: number): Buffer =>
    encodeMessage({
      stringTable: ["", "cpu", "nanoseconds", ...Array.from({ length: 50 }, (_, i) => `f${i + n}`)],
      sampleType: [{ type: 1, unit: 2 }],
      function: Array.from({ length: 50 }, (_, i) => ({ id: i + 1, name: i + 3 })),
      location: Array.from({ length: 50 }, (_, i) => ({ id: i + 1, line: [{ functionId: i + 1 }] })),
      sample: Array.from({ length: 50 }, (_, i) => ({ locationId: [i + 1], value: [1] })),
      timeNanos: nanos(NOW_MS),
    });

  it("are written once a day, and only known when they were stored", () => {
    const known = new KnownStacks();
    const first = encode(body(0), known);
    expect([first.stackRows, first.rows]).toEqual([50, 50]);
    expect(encode(body(0), known).stackRows).toBe(50);
    first.stored();
    expect(encode(body(0), known)).toMatchObject({ stackRows: 0, rows: 50 });
    expect(encode(body(10), known).stackRows).toBe(10);
    // refreshed at 17 to 24 hours, not all at once
    const later = encode(body(0), known, NOW_MS + 20 * HOUR_MS).stackRows;
    expect(later).toBeGreaterThan(0);
    expect(later).toBeLessThan(50);
    expect(encode(body(0), known, NOW_MS + 23.9 * HOUR_MS + HOUR_MS).stackRows).toBe(50);
  });

  it("are all written again after the store was away, also those whose insert ended just before", () => {
    const known = new KnownStacks();
    const first = encode(body(0), known);
    known.clear();
    first.stored();
    expect(encode(body(0), known).stackRows).toBe(50);
  });

  it("are forgotten beyond the bound, those first that were not asked for", () => {
    const known = new KnownStacks(100);
    encode(body(0), known).stored();
    encode(body(100), known).stored();
    expect(encode(body(100), known).stackRows).toBe(0);
    encode(body(200), known).stored();
    expect(known.size).toBeLessThanOrEqual(100);
    expect(encode(body(100), known).stackRows).toBe(0);
    expect(encode(body(0), known).stackRows).toBe(50);
  });
});

describe("hostile bytes", () => {
  const limit = (change: ProfileMessage): string => {
    try {
      encode(encodeMessage({ sampleType: [{}], ...change }));
      return "taken";
    } catch (error) {
      if (error instanceof TooLarge || error instanceof Malformed) return error.message;
      throw error;
    }
  };
  const many = <A>(length: number, one: (i: number) => A): A[] => Array.from({ length }, (_, i) => one(i));

  it("that have more than the limits are refused with the limit, in little memory", () => {
    const message = (n: string, what: string): string => `the limit of ${n} ${what} is exceeded`;
    expect(limit({ location: many(1_000_000, (i) => ({ id: i + 1 })) })).toBe(
      message("250,000", "locations of a profile"),
    );
    expect(limit({ sampleType: many(65, () => ({})) })).toBe(message("64", "sample types of a profile"));
    expect(limit({ location: [{ id: 1 }], sample: [{ locationId: many(5_000, () => 1), value: [1] }] })).toBe(
      message("4,096", "locations of a sample"),
    );
    // a few bytes each that stand for a thousand frames
    const line = many(1_024, () => ({ functionId: 1 }));
    const sample = many(30_000, () => ({ locationId: [1], value: [1] }));
    expect(limit({ function: [{ id: 1 }], location: [{ id: 1, line }], sample })).toBe(
      message("20,000,000", "frames of all samples of a profile"),
    );
  });

  it("cut a stack that is too deep, and count it", () => {
    const body = encodeMessage({
      stringTable: ["", "cpu"],
      sampleType: [{ type: 1 }],
      location: [{ id: 1 }],
      sample: [{ locationId: many(2_000, () => 1), value: [1] }],
      timeNanos: nanos(NOW_MS),
    });
    const encoded = encode(body);
    expect(encoded.repairs.cut).toBe(1);
    expect(stacksOf(encoded)[0]?.["stack"]).toHaveLength(1_024);
  });

  it("repair and cut texts", () => {
    const body = encodeMessage({
      stringTable: ["", "cpu", "x".repeat(5_000)],
      sampleType: [{ type: 1 }],
      function: [{ id: 1, name: 2 }],
      location: [{ id: 1, line: [{ functionId: 1 }] }],
      sample: [{ locationId: [1], value: [1] }],
      timeNanos: nanos(NOW_MS),
    });
    body[body.indexOf("xxx") + 1] = 0xff;
    const encoded = encode(body);
    const [frame] = (stacksOf(encoded)[0]?.["stack"] ?? []) as string[];
    expect(frame).toMatch(/^x\ufffdx+$/);
    expect(Buffer.byteLength(frame ?? "")).toBeLessThanOrEqual(2_048);
    expect(encoded.repairs.repaired).toBe(1);
  });

  it(
    "are read or refused, never more, and what is read can be stored",
    { timeout: Math.max(25_000, INPUTS) },
    async () => {
      const random = makeRandom(INPUTS);
      const below = (most: number): number => Math.floor(random() * most);
      const valid = encodeMessage({
        stringTable: STRINGS,
        sampleType: [{ type: 1, unit: 2 }],
        mapping: [{ id: 1, memoryStart: 4096, filename: 9 }],
        function: many(5, (i) => ({ id: i + 1, name: i + 2, filename: 8 })),
        location: many(6, (i) => ({
          id: i + 1,
          mappingId: 1,
          address: 5_000 + i,
          line: [{ functionId: (i % 5) + 1, line: i }],
        })),
        sample: many(8, (i) => ({ locationId: [(i % 6) + 1, 1], value: [i], label: [{ key: 11, str: 5 }] })),
        timeNanos: nanos(NOW_MS),
      });
      const memory = (): number => {
        const { heapUsed, arrayBuffers } = process.memoryUsage();
        return heapUsed + arrayBuffers;
      };
      const before = memory();
      const counts = { taken: 0, refused: 0 };
      let most = 0;
      for (let i = 0; i < INPUTS; i++) {
        const bytes = Buffer.from(valid.subarray(0, random() < 0.2 ? below(valid.length) : valid.length));
        for (let j = below(3); j >= 0 && bytes.length > 0; j--) bytes[below(bytes.length)] = below(256);
        try {
          const encoded = encode(bytes);
          const known = new Set(stacksOf(encoded).map(({ hash }) => hash));
          for (const { stack } of rowsOf(encoded)) expect(known.has(stack)).toBe(true);
          counts.taken++;
        } catch (error) {
          if (!(error instanceof Malformed) && !(error instanceof TooLarge)) throw error;
          counts.refused++;
        }
        if (i % 500 !== 0) continue;
        most = Math.max(most, memory() - before);
        await new Promise(setImmediate);
      }
      expect(counts.taken).toBeGreaterThan(INPUTS / 20);
      expect(counts.refused).toBeGreaterThan(INPUTS / 20);
      expect(most / MIB).toBeLessThan(300);
      assert(
        property(uint8Array({ maxLength: 300 }), string(), (bytes, more) => {
          expect(() => {
            try {
              encode(Buffer.concat([Buffer.from(bytes), Buffer.from(more)]));
            } catch (error) {
              if (!(error instanceof Malformed)) throw error;
            }
          }).not.toThrow();
        }),
      );
    },
  );
});
