/** OTLP's requests become series and samples, the same from protobuf and JSON; what cannot is rejected alone. */
import {
  array,
  assert,
  boolean,
  constantFrom,
  double,
  integer,
  nat,
  oneof,
  property,
  record,
  string,
  uint8Array,
} from "fast-check";
import { describe, expect, it } from "vitest";
import { Malformed } from "../../../../runtime/doors/Protobuf.ts";
import { readJson } from "../../../../runtime/remote-write/otlp/json.ts";
import { millis, readProtobuf } from "../../../../runtime/remote-write/otlp/protobuf.ts";
import { Translator } from "../../../../runtime/remote-write/otlp/Translator.ts";
import { Columns, TooMany } from "../../../../runtime/remote-write/Columns.ts";
import { SeriesCache } from "../../../../runtime/remote-write/SeriesCache.ts";
import { encodeMetrics } from "./proto.ts";

const NOW = 1_700_000_000_000;
const NANO = `${NOW}123456`;
const BOUNDS = { fromMs: NOW - 1_000_000, toMs: NOW + 1_000_000 };

interface Found {
  /** `name{label=value,…}`, with its time and value */
  readonly samples: readonly (readonly [series: string, time: number, value: number])[];
  readonly rejected: Readonly<Record<string, number>>;
}

const readWith = (reader: typeof readJson, body: Buffer, cache = new SeriesCache()): Found => {
  const out = new Columns(BOUNDS);
  const translator = new Translator(out, cache);
  for (const step of reader(body, translator)) void step;
  const samples = out.chunks().flatMap(({ series, index, times, values }) =>
    [...index].map((place, i): [string, number, number] => {
      const { name = "", labels = {} } = series[place] ?? {};
      const text = Object.keys(labels)
        .sort()
        .map((label) => `${label}=${labels[label] ?? ""}`)
        .join(",");
      return [`${name}{${text}}`, times[i] ?? 0, values[i] ?? 0];
    }),
  );
  return { samples, rejected: Object.fromEntries(translator.rejected) };
};

/** Read in both encodings, which must agree. */
const read = (json: object): Found => {
  const found = readWith(readJson, Buffer.from(JSON.stringify(json)));
  expect(readWith(readProtobuf, encodeMetrics(json))).toEqual(found);
  return found;
};

const text = (key: string, value: string) => ({ key, value: { stringValue: value } });
const of = (metric: object, resource: readonly object[] = [], scope: object = {}) => ({
  resourceMetrics: [{ resource: { attributes: resource }, scopeMetrics: [{ scope, metrics: [metric] }] }],
});
const point = (rest: object = {}) => ({ timeUnixNano: NANO, ...rest });

describe("a request", () => {
  it("has job and instance from its resource, and what else the resource says as target_info", () => {
    const resource = [
      text("service.name", "cart"),
      text("service.namespace", "shop"),
      text("service.instance.id", "i-1"),
      text("host.name", "n1"),
    ];
    const scope = { name: "lib", version: "1.2" };
    const attributes = [text("http.route", "/a"), text("job", "mine")];
    const metric = {
      name: "http.requests",
      unit: "{request}",
      sum: { aggregationTemporality: 2, isMonotonic: true, dataPoints: [point({ asInt: "42", attributes })] },
    };
    expect(read(of(metric, resource, scope))).toEqual({
      samples: [
        [
          "http_requests_total{http_route=/a,instance=i-1,job=shop/cart,otel_scope_name=lib,otel_scope_version=1.2}",
          NOW,
          42,
        ],
        ["target_info{host_name=n1,instance=i-1,job=shop/cart}", NOW, 1],
      ],
      rejected: {},
    });
  });

  it("keeps gauges of both kinds, and sums that go up and down", () => {
    const points = [
      point({ asDouble: 1.5 }),
      point({ asInt: "-7", attributes: [{ key: "n", value: { intValue: "3" } }] }),
    ];
    expect(read(of({ name: "temp", unit: "Cel", gauge: { dataPoints: points } })).samples).toEqual([
      ["temp_celsius{}", NOW, 1.5],
      ["temp_celsius{n=3}", NOW, -7],
    ]);
    const sum = { aggregationTemporality: 2, dataPoints: [point({ asDouble: 3 })] };
    expect(read(of({ name: "queue", sum })).samples).toEqual([["queue{}", NOW, 3]]);
  });

  it("has histograms as cumulative buckets, and summaries as quantiles", () => {
    const histogram = {
      aggregationTemporality: 2,
      dataPoints: [
        point({
          count: "10",
          sum: 12.5,
          bucketCounts: ["1", "0", "4", "5"],
          explicitBounds: [0.1, 1, 10],
          attributes: [text("le", "x"), text("a", "b")],
        }),
        point({ count: "2", bucketCounts: [], explicitBounds: [] }),
      ],
    };
    expect(read(of({ name: "d", unit: "s", histogram })).samples.map(([series, , value]) => [series, value])).toEqual([
      ["d_seconds_bucket{a=b,le=0.1}", 1],
      ["d_seconds_bucket{a=b,le=1}", 1],
      ["d_seconds_bucket{a=b,le=10}", 5],
      ["d_seconds_bucket{a=b,le=+Inf}", 10],
      ["d_seconds_sum{a=b,le=x}", 12.5],
      ["d_seconds_count{a=b,le=x}", 10],
      ["d_seconds_bucket{le=+Inf}", 2],
      ["d_seconds_count{}", 2],
    ]);
    const quantileValues = [
      { quantile: 0.5, value: 3 },
      { quantile: 1, value: 9 },
    ];
    const summary = { dataPoints: [point({ count: "4", sum: 20, quantileValues })] };
    expect(read(of({ name: "s", summary })).samples.map(([series, , value]) => [series, value])).toEqual([
      ["s{quantile=0.5}", 3],
      ["s{quantile=1}", 9],
      ["s_sum{}", 20],
      ["s_count{}", 4],
    ]);
  });

  it("ends a series where the sender has no value", () => {
    const json = of({ name: "g", gauge: { dataPoints: [point({ flags: 1 })] } });
    for (const [reader, body] of [
      [readJson, Buffer.from(JSON.stringify(json))],
      [readProtobuf, encodeMetrics(json)],
    ] as const) {
      const out = new Columns(BOUNDS);
      for (const step of reader(body, new Translator(out, new SeriesCache()))) void step;
      const [chunk] = out.chunks();
      expect(new BigUint64Array(chunk?.values.slice().buffer ?? new ArrayBuffer(0))[0]).toBe(0x7ff0000000000002n);
    }
  });

  it("has attributes of every type as text", () => {
    const attributes = [
      { key: "b", value: { boolValue: true } },
      { key: "d", value: { doubleValue: 0.5 } },
      { key: "l", value: { arrayValue: { values: [{ stringValue: "x" }, { intValue: "1" }, {}] } } },
      { key: "m", value: { kvlistValue: { values: [text("k", "v")] } } },
      { key: "y", value: { bytesValue: "AQI=" } },
      { key: "z" },
    ];
    expect(read(of({ name: "g", gauge: { dataPoints: [point({ asInt: "1", attributes })] } })).samples[0]?.[0]).toBe(
      'g{b=true,d=0.5,l=["x",1,null],m={"k":"v"},y=AQI=}',
    );
  });
});

describe("what cannot become samples", () => {
  const sum = (rest: object) =>
    of({ name: "m", sum: { dataPoints: [point({ asInt: "1" }), point({ asInt: "2" })], ...rest } });
  it.each([
    ["delta temporality, which is not taken", sum({ aggregationTemporality: 1 }), 2],
    ["no temporality", sum({}), 2],
    ["no name", of({ name: "..", gauge: { dataPoints: [point()] } }), 1],
    ["exponential histograms, which are not taken", of({ name: "e", exponentialHistogram: { dataPoints: [{}] } }), 1],
    ["a time outside of what is kept", of({ name: "g", gauge: { dataPoints: [{}, point({ timeUnixNano: "1" })] } }), 2],
    [
      "bucket counts that do not fit their bounds",
      of({
        name: "h",
        histogram: { aggregationTemporality: 2, dataPoints: [point({ bucketCounts: ["1"], explicitBounds: [1] })] },
      }),
      1,
    ],
    [
      "too many attributes",
      of({
        name: "g",
        gauge: { dataPoints: [point({ attributes: Array.from({ length: 150 }, (_, i) => text(`a${i}`, "")) })] },
      }),
      1,
    ],
    [
      "an attribute that is too long",
      of({ name: "g", gauge: { dataPoints: [point({ attributes: [text("a", "x".repeat(9_000))] })] } }),
      1,
    ],
  ])("is rejected alone: %s", (reason, json, count) => {
    const good = of({ name: "good", gauge: { dataPoints: [point({ asInt: "5" })] } });
    const found = read({
      resourceMetrics: [...good.resourceMetrics, ...json.resourceMetrics, ...good.resourceMetrics],
    });
    const [[told, times] = ["", 0], ...others] = Object.entries(found.rejected);
    expect([told.startsWith(reason), times, others]).toEqual([true, count, []]);
    expect(found.samples.map(([series]) => series)).toEqual(["good{}", "good{}"]);
  });

  it("is refused whole when a few points would become endless labels", () => {
    const attributes = Array.from({ length: 100 }, (_, i) => text(`a${i}`, "x"));
    const explicitBounds = Array.from({ length: 900 }, (_, i) => i);
    const bucketCounts = Array.from({ length: 901 }, () => "1");
    const dataPoints = Array.from({ length: 40 }, () => point({ attributes, explicitBounds, bucketCounts }));
    const json = of({ name: "h", histogram: { aggregationTemporality: 2, dataPoints } });
    expect(() => read(json)).toThrow(TooMany);
  });
});

describe("times", () => {
  it("lose their nanoseconds and never a millisecond", () => {
    assert(
      property(nat({ max: 2 ** 31 - 1 }), nat({ max: 999_999_999 }), (seconds, rest) => {
        const nanos = BigInt(seconds) * 1_000_000_000n + BigInt(rest);
        expect(millis(Number(nanos >> 32n), Number(nanos & 0xffffffffn))).toBe(Number(nanos / 1_000_000n));
      }),
    );
  });
});

const someText = string({ unit: "grapheme", maxLength: 8 });
const someAttributes = array(
  record({
    key: someText,
    value: oneof(
      record({ stringValue: someText }),
      record({ boolValue: boolean() }),
      record({ doubleValue: integer() }),
    ),
  }),
  { maxLength: 4 },
);
const somePoint = record({
  attributes: someAttributes,
  timeUnixNano: integer({ min: -2_000, max: 2_000 }).map((ms) => `${NOW + ms}000000`),
  // JSON.stringify drops the sign of -0; the text form, which OTLP's JSON reads as a number too, keeps it.
  asDouble: double({ noNaN: true, noDefaultInfinity: true }).map((value) => (Object.is(value, -0) ? "-0" : value)),
});
const someMetric = record({
  name: someText,
  unit: constantFrom("", "s", "By/s", "1", "{x}"),
  data: constantFrom("gauge", "sum"),
  aggregationTemporality: constantFrom(1, 2),
  isMonotonic: boolean(),
  dataPoints: array(somePoint, { maxLength: 4 }),
}).map(({ name, unit, data, ...content }) => ({ name, unit, [data]: content }));
const someRequest = array(record({ attributes: someAttributes, metrics: array(someMetric, { maxLength: 4 }) }), {
  maxLength: 3,
}).map((all) => ({
  resourceMetrics: all.map(({ attributes, metrics }) => ({ resource: { attributes }, scopeMetrics: [{ metrics }] })),
}));

describe("random requests", () => {
  it("mean the same in both encodings", () => {
    assert(
      property(someRequest, (json) => void read(json)),
      { numRuns: 200 },
    );
  });

  it("that are changed, cut off or nonsense never crash the reader", () => {
    const cache = new SeriesCache();
    const changes = array(record({ at: nat(), to: nat({ max: 255 }) }), { maxLength: 6 });
    const before = process.memoryUsage().rss;
    assert(
      property(oneof(uint8Array({ maxLength: 200 }), someRequest), changes, nat(), (input, edits, cut) => {
        const bodies =
          input instanceof Uint8Array
            ? [Buffer.from(input)]
            : [encodeMetrics(input), Buffer.from(JSON.stringify(input))];
        for (const body of bodies) {
          for (const { at, to } of edits) if (body.length > 0) body[at % body.length] = to;
          const sent = cut % 3 === 0 ? body.subarray(0, cut % (body.length + 1)) : body;
          for (const reader of [readJson, readProtobuf])
            try {
              readWith(reader, sent, cache);
            } catch (error) {
              if (!(error instanceof Malformed)) throw error;
            }
        }
      }),
      { numRuns: Number(process.env["COROOT_FUZZ"] ?? 9_000) / 3 },
    );
    expect(process.memoryUsage().rss - before).toBeLessThan(400 * 1024 * 1024);
  }, 600_000);
});
