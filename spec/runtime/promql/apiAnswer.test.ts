/** Answers of a Prometheus API from bytes: the same as JSON.parse gives, and nothing but a refusal for what is none. */
import {
  array,
  assert,
  constantFrom,
  dictionary,
  double,
  integer,
  jsonValue,
  nat,
  property,
  record,
  string,
} from "fast-check";
import { describe, expect, it } from "vitest";
import { readAnswer, readMetadata, readResult, readSeriesList, readTexts } from "../../../runtime/promql/apiAnswer.ts";
import { BadJson, JsonReader } from "../../../runtime/promql/JsonReader.ts";
import { QueryError } from "../../../runtime/promql/QueryError.ts";
import type { Work } from "../../../runtime/promql/work.ts";
import { valueText } from "../../../runtime/promql/numbers.ts";

const done = <A>(work: Work<A>): A => {
  for (;;) {
    const piece = work.next();
    if (piece.done === true) return piece.value;
  }
};
const bytes = (value: unknown, space?: string): Buffer => Buffer.from(JSON.stringify(value, null, space));
const resultOf = (answer: unknown) => done(readAnswer(bytes(answer), readResult)).data;

const value = double({ noDefaultInfinity: false });
const labels = dictionary(string({ unit: "grapheme" }), string({ unit: "binary" }), { maxKeys: 4 });
const series = record({ metric: labels, values: array(record({ at: nat(2 ** 40), value }), { maxLength: 30 }) });

describe("an answer of the Prometheus API", () => {
  it("is read to the same series, whatever the order of its members", () => {
    assert(
      property(array(series, { maxLength: 6 }), constantFrom(undefined, " ", "\t"), (all, space) => {
        const result = all.map(({ metric, values }) => ({
          metric,
          values: values.map((one) => [one.at / 1000, valueText(one.value)]),
        }));
        for (const data of [
          { resultType: "matrix", result },
          { result, other: [{ a: [1, null] }], resultType: "matrix" },
        ]) {
          const answer = { data, warnings: ["w"], status: "success", stats: { a: [] }, infos: null };
          const { data: found, ...rest } = done(readAnswer(bytes(answer, space), readResult));
          expect(rest).toEqual({ isError: false, errorType: "", error: "", warnings: ["w"], infos: [] });
          expect(found?.type).toBe("matrix");
          expect(found?.series.map((one) => ({ ...one, labels: Object.fromEntries(one.labels) }))).toEqual(
            all.map(({ metric, values }) => ({
              labels: Object.fromEntries(Object.entries(metric).filter(([, text]) => text !== "")),
              times: Float64Array.from(values, ({ at }) => at),
              values: Float64Array.from(values, (one) => one.value),
            })),
          );
        }
      }),
    );
  });

  it("is a vector, a scalar or a text, and says what it left out", () => {
    const vector = [
      { metric: { a: "1" }, value: [1.5, "+Inf"] },
      { metric: {}, histogram: [1.5, { count: "1", buckets: [[0, "1", "2", "1"]] }] },
      { metric: {}, value: [1.5, "NaN"] },
    ];
    expect(resultOf({ status: "success", data: { resultType: "vector", result: vector } })).toMatchObject({
      series: [{ values: Float64Array.of(Infinity) }, { values: Float64Array.of(Number.NaN) }],
      single: null,
      histograms: 1,
    });
    expect(resultOf({ status: "success", data: { resultType: "string", result: [2, 'a"ü\u2028'] } })).toMatchObject({
      type: "string",
      single: { atMs: 2_000, text: 'a"ü\u2028' },
    });
    expect(done(readAnswer(bytes({ status: "success", data: ["a", 'b"\n'] }), readTexts)).data).toEqual(["a", 'b"\n']);
    expect(done(readAnswer(bytes({ status: "success", data: null }), readTexts)).data).toBe(null);
    expect(done(readAnswer(bytes({ status: "success", data: [{ a: "1" }] }), readSeriesList)).data).toEqual([
      new Map([["a", "1"]]),
    ]);
    const described = { type: "counter", help: "h", unit: "", more: 1 };
    expect(done(readAnswer(bytes({ status: "success", data: { up: [described, {}] } }), readMetadata)).data).toEqual([
      { metric: "up", type: "counter", help: "h", unit: "" },
      { metric: "up", type: "unknown", help: "", unit: "" },
    ]);
    expect(done(readAnswer(bytes({ status: "error", errorType: "x", error: "why" }), readTexts))).toMatchObject({
      data: null,
      isError: true,
      errorType: "x",
      error: "why",
    });
    expect(done(readAnswer(bytes({ status: "success", isPartial: true, data: [] }), readTexts)).warnings).toHaveLength(
      1,
    );
  });

  it("of more points than a query may have is refused", () => {
    const values = JSON.stringify(Array.from({ length: 10_000 }, (_, i) => [i, "1"])).slice(1, -1);
    const many = Array.from({ length: 401 }, () => values).join(",");
    const answer = `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[${many}]}]}}`;
    expect(() => done(readAnswer(Buffer.from(answer), readResult))).toThrow(/4000000 samples/);
  });

  it("that is none is refused and nothing else, wherever it is cut or changed", () => {
    const result = [{ metric: { a: "b\\" }, values: [[1, "2"], [2, "NaN"]] }, { metric: {}, value: [1, "-Inf"] }]; // prettier-ignore
    const whole = bytes({ status: "success", data: { resultType: "matrix", result }, warnings: ["x"] });
    const tried = (text: Buffer): void => {
      try {
        done(readAnswer(text, readResult));
      } catch (error) {
        if (!(error instanceof BadJson) && !(error instanceof QueryError)) throw error;
      }
    };
    for (let end = 0; end < whole.length; end++)
      expect(() => done(readAnswer(whole.subarray(0, end), readResult))).toThrow(BadJson);
    assert(
      property(nat(whole.length - 1), integer({ min: 0, max: 255 }), nat(whole.length), (at, byte, cut) => {
        const changed = Buffer.from(whole);
        changed[at] = byte;
        tried(changed);
        tried(Buffer.concat([whole.subarray(0, cut), whole.subarray(at)]));
      }),
      { numRuns: 3_000 },
    );
    for (const [text, reason] of [
      ["<html>", "expected {"],
      ['{"status":"success","data":{"result":[{"metric":{},"value":[1,"x"]}]}}', "expected a value"],
      ['{"status":"success","data":{"result":[{"metric":{},"value":[1,""]}]}}', "expected a value"],
      ['{"status":"success","data":{"result":[{"metric":{},"value":[]}]}}', "expected a time"],
      ['{"data":{}}', "expected a status"],
      ['{"status":"success"} x', "expected the end"],
    ] as const)
      expect(() => done(readAnswer(Buffer.from(text), readResult))).toThrow(reason);
  });
});

describe("JSON in place", () => {
  it("passes any value, however deep, and reads texts as JSON.parse does", () => {
    assert(
      property(jsonValue(), string({ unit: "binary" }), (any, text) => {
        const json = new JsonReader(bytes([any, text]));
        json.enter(0x5b);
        json.skip();
        expect(json.next(0x5b)).toBe(true);
        expect(json.string()).toBe(JSON.parse(JSON.stringify(text)));
        expect(json.next(0x5b)).toBe(false);
        json.end();
      }),
    );
    const deep = new JsonReader(Buffer.from("[".repeat(1e6) + "]".repeat(1e6)));
    deep.skip();
    deep.end();
  });
});
