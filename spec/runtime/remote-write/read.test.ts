/** Both versions read as protobufjs reads them; what breaks the rules is left out alone; nothing crashes the reader. */
import {
  array,
  assert,
  constant,
  constantFrom,
  double,
  integer,
  oneof,
  property,
  record,
  string,
  uint8Array,
} from "fast-check";
import { describe, expect, it } from "vitest";
import { Malformed } from "../../../runtime/doors/Protobuf.ts";
import { CHUNK_ROWS, Columns } from "../../../runtime/remote-write/Columns.ts";
import { LABEL_LIMITS, SeriesCache } from "../../../runtime/remote-write/SeriesCache.ts";
import { readVersion1 } from "../../../runtime/remote-write/version1.ts";
import { readVersion2 } from "../../../runtime/remote-write/version2.ts";
import { fingerprint, fingerprintText } from "../../../runtime/store/fingerprint.ts";
import { decode1, encode1, encode2, encodeRaw2, labelsOf, type PlainSeries } from "./proto.ts";

const ALL = { fromMs: Number.NEGATIVE_INFINITY, toMs: Number.POSITIVE_INFINITY };

const readWith = (reader: typeof readVersion1, body: Buffer, cache = new SeriesCache(), bounds = ALL): Columns => {
  const out = new Columns(bounds);
  for (const step of reader(body, cache, out)) void step;
  return out;
};

interface Read {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly samples: [time: number, value: number][];
}

/** Samples by series, in the order in which they came. */
const seriesOf = (out: Columns): Read[] => {
  const found: Read[] = [];
  for (const { series, index, times, values } of out.chunks()) {
    let place = -1;
    index.forEach((at, i) => {
      const { name, labels, key, fingerprint: print } = series[at] ?? { name: "", labels: {}, fingerprint: null };
      expect(print).toEqual(fingerprint(name, labels));
      expect(key).toBe(fingerprintText(fingerprint(name, labels)));
      if (at !== place) found.push({ name, labels: { ...labels }, samples: [] });
      place = at;
      found.at(-1)?.samples.push([times[i] ?? 0, values[i] ?? 0]);
    });
  }
  return found;
};

const expected = (timeseries: readonly PlainSeries[]): Read[] =>
  timeseries.flatMap(({ labels, samples }) =>
    samples.length === 0
      ? []
      : [
          {
            name: labels.find(({ name }) => name === "__name__")?.value ?? "",
            labels: Object.fromEntries(
              labels.flatMap(({ name, value }) => (name === "__name__" || value === "" ? [] : [[name, value]])),
            ),
            samples: samples.map(({ timestamp, value }): [number, number] => [timestamp, value]),
          },
        ],
  );

const text = string({ unit: "grapheme", maxLength: 12 });
const names = constantFrom("job", "instance", "le", "__proto__", "a b", "ü", "pod", "constructor");
const someSeries = record({
  labels: record({
    metric: string({ minLength: 1, maxLength: 8 }),
    rest: array(record({ name: names, value: text }), { maxLength: 5 }),
  }).map(({ metric, rest }) => [
    { name: "__name__", value: metric },
    ...new Map(rest.map((one) => [one.name, one])).values(),
  ]),
  samples: array(
    record({
      value: oneof(double(), integer(), constant(Number.POSITIVE_INFINITY), constant(0)),
      timestamp: integer({ min: -(2 ** 52), max: 2 ** 52 }),
    }),
    { maxLength: 4 },
  ),
  exemplars: array(record({ value: double(), timestamp: integer() }), { maxLength: 2 }),
});

const WORD_PAIRS = { low: 2, high: 0x7ff00000 };

describe("remote_write", () => {
  it("1.0 is read as protobufjs reads it, with a cache that knows some", () => {
    const cache = new SeriesCache();
    assert(
      property(array(someSeries, { maxLength: 6 }), (timeseries) => {
        const metadata = [{ type: 1, metricFamilyName: "m", help: "h", unit: "u" }];
        const body = encode1({ timeseries, metadata });
        expect(seriesOf(readWith(readVersion1, body, cache))).toEqual(expected(decode1(body).timeseries));
      }),
      { numRuns: 300 },
    );
  });

  it("2.0 says the same as 1.0", () => {
    const cache = new SeriesCache();
    assert(
      property(array(someSeries, { maxLength: 6 }), (timeseries) => {
        const same = decode1(encode1({ timeseries })).timeseries;
        expect(seriesOf(readWith(readVersion2, encode2(timeseries), cache))).toEqual(expected(same));
      }),
      { numRuns: 300 },
    );
  });

  it("labels may lie between samples", () => {
    const label = (name: string, value: string) => encode1({ timeseries: [{ labels: [{ name, value }] }] }).subarray(2);
    const sample = encode1({ timeseries: [{ samples: [{ value: 1, timestamp: 2 }] }] }).subarray(2);
    const series = Buffer.concat([label("__name__", "m"), sample, label("a", "b")]);
    const body = Buffer.concat([Buffer.of(0x0a, series.length), series]);
    expect(seriesOf(readWith(readVersion1, body))).toEqual([{ name: "m", labels: { a: "b" }, samples: [[2, 1]] }]);
    expect(decode1(body).timeseries[0]?.labels.length).toBe(2);
  });

  it("keeps the bits of a stale marker, infinities and the sign of zero", () => {
    const stale = new Float64Array(new Uint32Array([WORD_PAIRS.low, WORD_PAIRS.high]).buffer);
    const values = Float64Array.of(0, Number.NaN, Infinity, -Infinity, -0, 5e-324);
    const samples = [...values].map((value, i) => ({ value, timestamp: i + 1 }));
    const body = encode1({ timeseries: [{ labels: labelsOf("m"), samples }] });
    // protobufjs would make it an ordinary NaN
    const at = body.indexOf(Buffer.from([0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f])) + 1;
    body.writeUInt32LE(WORD_PAIRS.low, at);
    body.writeUInt32LE(WORD_PAIRS.high, at + 4);
    const [chunk] = readWith(readVersion1, body).chunks();
    const read = new BigUint64Array(chunk?.values.slice().buffer ?? new ArrayBuffer(0));
    const bits = new BigUint64Array(values.buffer);
    expect(new BigUint64Array(stale.buffer)[0]).toBe(0x7ff0000000000002n);
    expect([...read]).toEqual([bits[0], 0x7ff0000000000002n, ...bits.slice(2)]);
  });

  it("cuts a large call into chunks whose series are their own", () => {
    const samples = (n: number, from: number) =>
      Array.from({ length: n }, (_, i) => ({ value: i, timestamp: from + i }));
    const timeseries = [
      { labels: labelsOf("a"), samples: samples(15_000, 1) },
      { labels: labelsOf("b"), samples: samples(30_000, 1) },
      { labels: labelsOf("c"), samples: samples(3, 1) },
    ];
    const chunks = readWith(readVersion1, encode1({ timeseries })).chunks();
    expect(chunks.map(({ series, index }) => [series.map(({ name }) => name).join(""), index.length])).toEqual([
      ["ab", CHUNK_ROWS],
      ["b", CHUNK_ROWS],
      ["bc", 5_003],
    ]);
    expect(chunks.map(({ index }) => [index[0], index.at(-1)])).toEqual([
      [0, 1],
      [0, 0],
      [0, 1],
    ]);
  });
});

describe("what breaks the rules", () => {
  const good = { labels: labelsOf("good", { job: "x" }), samples: [{ value: 1, timestamp: 1 }] };
  const bad = (labels: PlainSeries["labels"]) => ({
    labels,
    samples: [
      { value: 1, timestamp: 1 },
      { value: 2, timestamp: 2 },
    ],
  });
  const many = Array.from({ length: LABEL_LIMITS.labels + 1 }, (_, i) => ({ name: `l${i}`, value: "x" }));
  it.each([
    ["labels without a metric name", [{ name: "job", value: "x" }]],
    ["labels without a metric name", labelsOf("")],
    ["a label without a name", [...labelsOf("m"), { name: "", value: "x" }]],
    ["a label that is there twice", [...labelsOf("m", { a: "1" }), { name: "a", value: "1" }]],
    ["too many labels", [...labelsOf("m"), ...many]],
    ["a label that is too long", labelsOf("m", { a: "x".repeat(LABEL_LIMITS.valueBytes + 1) })],
    ["a label that is too long", labelsOf("m", { ["x".repeat(LABEL_LIMITS.nameBytes + 1)]: "a" })],
  ] as const)("is left out alone: %s", (reason, labels) => {
    const timeseries = [good, bad(labels), good];
    for (const out of [readWith(readVersion1, encode1({ timeseries })), readWith(readVersion2, encode2(timeseries))]) {
      expect([...out.leftOut]).toEqual([[reason, 2]]);
      expect(seriesOf(out).map(({ name }) => name)).toEqual(["good", "good"]);
    }
  });

  it("is left out alone: text that is not UTF-8", () => {
    const timeseries = [good, bad(labelsOf("m", { a: "QQQQ" }))];
    for (const [reader, body] of [
      [readVersion1, encode1({ timeseries })],
      [readVersion2, encode2(timeseries)],
    ] as const) {
      body.fill(0xff, body.indexOf("QQQQ"), body.indexOf("QQQQ") + 2);
      const out = readWith(reader, body);
      expect([...out.leftOut]).toEqual([["labels that are not UTF-8", 2]]);
      expect(out.rows).toBe(1);
    }
  });

  it("is left out alone: times far off, native histograms", () => {
    const samples = [5, 10, 20, 25, -1, Number.MAX_SAFE_INTEGER].map((timestamp) => ({ value: 1, timestamp }));
    const histograms = [{ countInt: 5, sum: 1, timestamp: 15 }];
    const timeseries = [{ labels: labelsOf("m"), samples, histograms }];
    for (const [reader, body] of [
      [readVersion1, encode1({ timeseries })],
      [readVersion2, encode2(timeseries)],
    ] as const) {
      const out = readWith(reader, body, new SeriesCache(), { fromMs: 10, toMs: 20 });
      expect(seriesOf(out)[0]?.samples.map(([time]) => time)).toEqual([10, 20]);
      expect(Object.fromEntries(out.leftOut)).toEqual({ "times outside of what is kept": 4, "native histograms": 1 });
    }
  });

  it("refuses a call of 2.0 whose references lead nowhere", () => {
    const samples = [{ value: 1, timestamp: 1 }];
    for (const [symbols, labelsRefs, message] of [
      [["", "a"], [0, 7], "a reference beyond the table of symbols at byte"],
      [["", "a"], [1], "a label without a value at byte"],
      [["x", "a"], [0, 1], "a table of symbols that does not begin with '' at byte 0"],
    ] as const)
      expect(() => readWith(readVersion2, encodeRaw2({ symbols, timeseries: [{ labelsRefs, samples }] }))).toThrow(
        message,
      );
  });

  it("costs little when it is a million labels", () => {
    const label = encode1({ timeseries: [{ labels: [{ name: "a", value: "b" }] }] }).subarray(2);
    const labels = Buffer.concat(Array.from({ length: 1_000_000 }, () => label));
    const length = Buffer.alloc(5);
    for (let i = 0, rest = labels.length; i < 5; i++, rest = Math.floor(rest / 128))
      length[i] = rest % 128 | (i < 4 ? 128 : 0);
    const before = process.memoryUsage().rss;
    const cache = new SeriesCache();
    expect([...readWith(readVersion1, Buffer.concat([Buffer.of(0x0a), length, labels]), cache).leftOut]).toEqual([
      ["too many labels", 1],
    ]);
    expect(cache.size).toBe(0);
    const refs = Array.from({ length: 2_000_000 }, () => 1);
    const body = encodeRaw2({ symbols: ["", "a"], timeseries: [{ labelsRefs: refs, samples: [] }] });
    expect([...readWith(readVersion2, body).leftOut.keys()]).toEqual(["too many labels"]);
    expect(process.memoryUsage().rss - before).toBeLessThan(256 * 1024 * 1024);
  });
});

/** Runs a reader over hostile bytes: it may only give columns or a Malformed. */
const survives = (reader: typeof readVersion1, body: Buffer, cache: SeriesCache): boolean => {
  try {
    const out = readWith(reader, body, cache);
    return out.chunks().every(({ index, series }) => index.every((at) => at < series.length));
  } catch (error) {
    if (error instanceof Malformed) return true;
    throw error;
  }
};

describe("hostile bytes", () => {
  const inputs = Number(process.env["COROOT_FUZZ"] ?? 20_000);
  // a full cache of hostile series and this spec's own garbage, however many inputs
  const ceiling = 800 * 1024 * 1024;
  it("random, cut off and changed messages never crash the reader, within a ceiling of memory", () => {
    const cache = new SeriesCache();
    const before = process.memoryUsage().rss;
    const mutated = record({
      timeseries: array(someSeries, { minLength: 1, maxLength: 4 }),
      changes: array(record({ at: integer({ min: 0, max: 2 ** 30 }), to: integer({ min: 0, max: 255 }) }), {
        maxLength: 6,
      }),
      cut: integer({ min: 0, max: 2 ** 30 }),
    });
    assert(
      property(oneof(uint8Array({ maxLength: 200 }), mutated), (input) => {
        const bodies =
          input instanceof Uint8Array
            ? [Buffer.from(input)]
            : [encode1({ timeseries: input.timeseries }), encode2(input.timeseries)].map((body) => {
                for (const { at, to } of input.changes) if (body.length > 0) body[at % body.length] = to;
                return input.cut % 3 === 0 ? body.subarray(0, input.cut % (body.length + 1)) : body;
              });
        for (const body of bodies)
          for (const reader of [readVersion1, readVersion2]) expect(survives(reader, body, cache)).toBe(true);
      }),
      { numRuns: Math.ceil(inputs / 3) },
    );
    expect(process.memoryUsage().rss - before).toBeLessThan(ceiling);
  }, 600_000);
});

describe("the cache of series", () => {
  it("forgets what was not asked for, stays bounded, and gives the same series anew", () => {
    const cache = new SeriesCache();
    const body = (n: number) =>
      encode1({
        timeseries: Array.from({ length: 10_000 }, (_, i) => ({
          labels: labelsOf("m", { pod: `pod-${n * 10_000 + i}` }),
          samples: [{ value: 1, timestamp: 1 }],
        })),
      });
    const often = encode1({ timeseries: [{ labels: labelsOf("often"), samples: [{ value: 1, timestamp: 1 }] }] });
    const first = readWith(readVersion1, often, cache).chunks()[0]?.series[0];
    for (let n = 0; n < 32; n++) {
      readWith(readVersion1, body(n), cache);
      expect(readWith(readVersion1, often, cache).chunks()[0]?.series[0]).toBe(first);
    }
    expect(cache.size).toBeLessThanOrEqual(200_000);
    expect(cache.size).toBeGreaterThan(100_000);
  });
});
