/** Requests become the rows that protobufjs's reading of them says, in protobuf and JSON. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { dayOf } from "../../../runtime/otlp/DayRows.ts";
import { Malformed } from "../../../runtime/doors/Protobuf.ts";
import type { Encoded } from "../../../runtime/otlp/envelope.ts";
import { protobufOf } from "../../../runtime/otlp/json.ts";
import { LIMITS } from "../../../runtime/otlp/limits.ts";
import { encodeLogs } from "../../../runtime/otlp/logs.ts";
import { LOGS, TRACES } from "../../../runtime/otlp/messages.ts";
import { encodeSpans } from "../../../runtime/otlp/spans.ts";
import type { TelemetryTable } from "../../../schemas/tables.ts";
import { asJson, expectedLogs, expectedSpans, logRequests, NOW_MS, OLDEST_MS, traceRequests } from "./messages.ts";
import { encodeLogRequest, encodeTraces, LogsRequest, TraceRequest } from "./proto.ts";
import { finish, readRows, type Row } from "./rowBinary.ts";

const BATCH = 0xfedcba9876543210n;
const OPTIONS = { batch: BATCH, nowMs: NOW_MS, oldestMs: OLDEST_MS };
const DAY_NS = 86_400_000_000_000n;
const AS_OBJECT = { longs: String, bytes: Buffer } as const;

const rowsOf = (table: TelemetryTable, { days }: Encoded): Row[] =>
  [...days].flatMap(([day, bytes]) => {
    const rows = readRows(table, bytes);
    for (const row of rows) expect((row["ts"] as bigint) / DAY_NS).toBe(BigInt(day));
    return rows;
  });

const byDay = (rows: readonly object[]): object[] => {
  const days = new Map<bigint, object[]>();
  for (const row of rows as readonly Row[]) {
    const day = (row["ts"] as bigint) / DAY_NS;
    days.set(day, [...(days.get(day) ?? []), row]);
  }
  return [...days.values()].flat();
};

const spansOf = (bytes: Buffer): Encoded => finish(encodeSpans(bytes, OPTIONS));
const logsOf = (bytes: Buffer): Encoded => finish(encodeLogs(bytes, OPTIONS));

const start = String(BigInt(NOW_MS) * 1_000_000n);
const TRACE_ID = Buffer.alloc(16, 7);
const SPAN_ID = Buffer.alloc(8, 9);
const span = (more: object = {}) => ({
  traceId: TRACE_ID,
  spanId: SPAN_ID,
  name: "n",
  startTimeUnixNano: start,
  endTimeUnixNano: start,
  ...more,
});
const request = (...spans: object[]) => ({ resourceSpans: [{ scopeSpans: [{ spans }] }] });
const record = (more: object = {}) => ({ timeUnixNano: start, body: { stringValue: "line" }, ...more });
const logRequest = (...logRecords: object[]) => ({ resourceLogs: [{ scopeLogs: [{ logRecords }] }] });
const oneSpan = (more: object) => {
  const encoded = spansOf(encodeTraces(request(span(more))));
  const [row] = rowsOf("spans", encoded);
  return { row: row ?? {}, encoded };
};

describe("random requests", () => {
  it("for traces become the rows that the oracle reads, in protobuf and JSON", () => {
    fc.assert(
      fc.property(traceRequests, (message) => {
        const bytes = encodeTraces(message);
        const expected = byDay(expectedSpans(TraceRequest.toObject(TraceRequest.decode(bytes), AS_OBJECT), BATCH));
        const encoded = spansOf(bytes);
        expect(rowsOf("spans", encoded)).toEqual(expected);
        expect(encoded.rows).toBe(expected.length);
        expect(encoded.rejected.size).toBe(0);
        expect(encoded.repairs).toEqual({ cut: 0, repaired: 0, leftOut: 0 });
        const fromJson = spansOf(finish(protobufOf(Buffer.from(asJson(message)), TRACES)));
        expect(rowsOf("spans", fromJson)).toEqual(expected);
      }),
      { numRuns: 300 },
    );
  });

  it("for logs become the rows that the oracle reads, in protobuf and JSON", () => {
    fc.assert(
      fc.property(logRequests, (message) => {
        const bytes = encodeLogRequest(message);
        const expected = byDay(expectedLogs(LogsRequest.toObject(LogsRequest.decode(bytes), AS_OBJECT), BATCH));
        const encoded = logsOf(bytes);
        expect(rowsOf("logs", encoded)).toEqual(expected);
        expect(encoded.timeless).toBe(0);
        const fromJson = logsOf(finish(protobufOf(Buffer.from(asJson(message)), LOGS)));
        expect(rowsOf("logs", fromJson)).toEqual(expected);
      }),
      { numRuns: 300 },
    );
  });
});

describe("a span", () => {
  it("without valid ids or with a time that is not kept is refused by itself, with the reason", () => {
    const day = 86_400_000n * 1_000_000n;
    const encoded = spansOf(
      encodeTraces(
        request(
          span(),
          span({ traceId: Buffer.alloc(16) }),
          span({ traceId: Buffer.alloc(5, 1) }),
          span({ spanId: Buffer.alloc(0) }),
          span({ startTimeUnixNano: "0" }),
          span({ startTimeUnixNano: String(BigInt(start) + day) }),
          span({ startTimeUnixNano: String(BigInt(start) - 8n * day) }),
          span({ startTimeUnixNano: "18446744073709551615" }),
        ),
      ),
    );
    expect(encoded.rows).toBe(1);
    expect(Object.fromEntries(encoded.rejected)).toEqual({
      "no valid trace id": 2,
      "no valid span id": 1,
      "no start time": 1,
      "a start time that is more than an hour ahead": 2,
      "a start time that is older than what is kept": 1,
    });
  });

  it("keeps what fits of attributes, events, links and long texts, and counts the rest", () => {
    const many = Array.from({ length: 200 }, (_, i) => ({ key: `k${i}`, value: { intValue: i } }));
    const { row, encoded } = oneSpan({
      attributes: [{ key: "long", value: { stringValue: "é".repeat(LIMITS.valueBytes) } }, ...many],
      events: Array.from({ length: 130 }, () => ({ name: "e" })),
      links: Array.from({ length: 129 }, () => ({ traceId: TRACE_ID, spanId: SPAN_ID })),
      name: `a${"✓".repeat(1000)}`,
    });
    expect(row["attributes"]).toHaveLength(LIMITS.attributes);
    expect((row["attributes"] as string[][])[0]?.[1]).toBe("é".repeat(LIMITS.valueBytes / 2));
    expect(row["event_name"]).toHaveLength(LIMITS.events);
    expect(row["link_span_id"]).toHaveLength(LIMITS.links);
    // 1 byte and 341 characters of 3: the next would end behind the limit of 1024
    expect(row["name"]).toBe(`a${"✓".repeat(341)}`);
    expect(encoded.repairs).toEqual({ cut: 2, repaired: 0, leftOut: 73 + 2 + 1 });
  });

  it("has invalid UTF-8 repaired, in short and long texts", () => {
    const broken = Buffer.from([0x61, 0xff, 0x62]);
    const bytes = encodeTraces(request(span({ name: "a?b", traceState: `${"x".repeat(100)}a?b` })));
    for (let at = bytes.indexOf("a?b"); at >= 0; at = bytes.indexOf("a?b", at + 1)) broken.copy(bytes, at);
    const encoded = spansOf(bytes);
    const [row] = rowsOf("spans", encoded);
    expect(row?.["name"]).toBe("a\ufffdb");
    expect(row?.["trace_state"]).toBe(`${"x".repeat(100)}a\ufffdb`);
    expect(encoded.repairs.repaired).toBe(2);
  });

  it("is read whatever the order of its fields, and unknown fields and groups are passed over", () => {
    const plain = encodeTraces(request(span()));
    const scopeSpans = plain.subarray(4);
    const unknownGroup = Buffer.from([0xa3, 0x06, 0x08, 0x01, 0xa4, 0x06]);
    const unknownText = Buffer.from([0xaa, 0x06, 0x03, 0x61, 0x62, 0x63]);
    const resource = encodeTraces({
      resourceSpans: [{ resource: { attributes: [{ key: "service.name", value: { stringValue: "late" } }] } }],
    }).subarray(2);
    // the resource behind its spans
    const inner = Buffer.concat([unknownGroup, plain.subarray(2), unknownText, resource]);
    const bytes = Buffer.concat([Buffer.from([0x0a, inner.length]), inner, unknownText]);
    expect(scopeSpans.length).toBeGreaterThan(0);
    const [row] = rowsOf("spans", spansOf(bytes));
    expect(row).toMatchObject({ service: "late", name: "n", ts: BigInt(start) });
  });
});

describe("a log record", () => {
  it("without any time gets ours, and is counted as timeless", () => {
    const encoded = logsOf(encodeLogRequest(logRequest({ body: { stringValue: "x" } })));
    expect(encoded.timeless).toBe(1);
    expect(rowsOf("logs", encoded)[0]).toMatchObject({ ts: BigInt(NOW_MS) * 1_000_000n, body: "x" });
  });

  it("of a huge size is cut", () => {
    const encoded = logsOf(encodeLogRequest(logRequest(record({ body: { stringValue: "x".repeat(5_000_000) } }))));
    expect(rowsOf("logs", encoded)[0]?.["body"]).toHaveLength(LIMITS.bodyBytes);
    expect(encoded.repairs.cut).toBe(1);
  });

  it("with a body nested too deeply loses what lies deeper", () => {
    let body: object = { stringValue: "deep" };
    for (let i = 0; i < 30; i++) body = { arrayValue: { values: [body] } };
    const encoded = logsOf(encodeLogRequest(logRequest(record({ body }))));
    expect(rowsOf("logs", encoded)[0]?.["body"]).toBe(`${"[".repeat(16)}null${"]".repeat(16)}`);
  });
});

describe("a request", () => {
  it("whose rows would be far larger than it is refused whole", () => {
    const attributes = Array.from({ length: 100 }, (_, i) => ({
      key: `key-${i}`,
      value: { stringValue: "x".repeat(1000) },
    }));
    const spans = Array.from({ length: 2_000 }, () => span());
    const bytes = encodeTraces({ resourceSpans: [{ resource: { attributes }, scopeSpans: [{ spans }] }] });
    expect(bytes.length).toBeLessThan(300_000);
    expect(() => spansOf(bytes)).toThrow(/send fewer records at once/);
  });

  it("that is cut off is malformed, with what and where", () => {
    const bytes = encodeTraces({ resourceSpans: [{ scopeSpans: [{ spans: [span(), span()] }] }] });
    expect(() => spansOf(bytes.subarray(0, bytes.length - 5))).toThrow(
      new Malformed("a length that goes beyond the end", 1),
    );
    const inner = Buffer.from(bytes);
    // the length of the second span's trace id
    inner[inner.lastIndexOf(TRACE_ID) - 1] = 0x7f;
    expect(() => spansOf(inner)).toThrow(
      /^a length that goes beyond the end at byte \d+, in or after resource_spans\[0\]\.scope_spans\[0\]\.spans\[1\]$/,
    );
  });

  it("in JSON with a value of a wrong type is malformed, with its path", () => {
    const of = (value: unknown) => () => finish(protobufOf(Buffer.from(JSON.stringify(value)), TRACES));
    const spans = (one: object) => ({ resourceSpans: [{}, { scopeSpans: [{ spans: [one] }] }] });
    expect(of(spans({ traceId: "xyz" }))).toThrow(
      'resourceSpans[1].scopeSpans[0].spans[0].traceId: expected hex digits, got "xyz"',
    );
    expect(of(spans({ attributes: [{ key: "a", value: { intValue: "1.5" } }] }))).toThrow(
      'spans[0].attributes[0].value.intValue: expected a whole number, as a number or in quotes, got "1.5"',
    );
    expect(of({ resourceSpans: 1 })).toThrow("expected a list, got 1");
    expect(of([])).toThrow("expected an object, got []");
    expect(() => finish(protobufOf(Buffer.from('{"resourceSpans": ['), TRACES))).toThrow(/the body is no JSON/);
    expect(
      of({ resource_spans: [{ scope_spans: [{ spans: [{ trace_id: "00", unknown: { a: [1] } }] }] }] }),
    ).not.toThrow();
  });

  it("in JSON that is nested without end is malformed", () => {
    const text = `${'{"arrayValue":{"values":['.repeat(5_000)}{}${"]}}".repeat(5_000)}`;
    const body = `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":${text}}]}]}]}`;
    expect(() => finish(protobufOf(Buffer.from(body), LOGS))).toThrow(/nested more than 64 deep/);
  });
});

describe("the day of a time", () => {
  it("is exact to the nanosecond at midnight", () => {
    for (const day of [20_000n, 20_718n]) {
      for (const [offset, expected] of [
        [-1n, day - 1n],
        [0n, day],
        [1n, day],
      ] as const) {
        const nanos = day * DAY_NS + offset;
        expect(dayOf(Number(nanos & 0xffffffffn), Number(nanos >> 32n))).toBe(Number(expected));
      }
    }
  });
});
