/** Random OpenTelemetry messages, and what the rows must be according to them as protobufjs reads them. */
import fc from "fast-check";
import { Pattern } from "../../../runtime/otlp/pattern.ts";

export const NOW_MS = 1_790_000_000_000;
export const OLDEST_MS = NOW_MS - 7 * 86_400_000;

const text = fc.string({ unit: "grapheme", maxLength: 12 });
const bytes = (length: number) =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((all) => Buffer.from(all));
const id = (length: number) =>
  bytes(length).map((all) => (all.every((byte) => byte === 0) ? Buffer.alloc(length, 1) : all));

const { value } = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    text.map((stringValue) => ({ stringValue })),
    fc.boolean().map((boolValue) => ({ boolValue })),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map((intValue) => ({ intValue: String(intValue) })),
    fc.integer().map((intValue) => ({ intValue: String(intValue) })),
    fc.double().map((doubleValue) => ({ doubleValue })),
    fc.uint8Array({ maxLength: 9 }).map((all) => ({ bytesValue: Buffer.from(all) })),
    fc.constant({}),
    fc.array(tie("value"), { maxLength: 3 }).map((values) => ({ arrayValue: { values } })),
    fc
      .array(fc.record({ key: text, value: tie("value") }), { maxLength: 3 })
      .map((values) => ({ kvlistValue: { values } })),
  ),
}));

const attributes = fc.array(fc.record({ key: text, value }), { maxLength: 4 });
const peerKey = fc.constantFrom("peer.service", "server.address", "net.peer.name", "db.system", "rpc.service");
const caller = fc.array(fc.record({ key: fc.oneof(text, peerKey), value }), { maxLength: 6 });

const nanos = fc
  .tuple(fc.integer({ min: OLDEST_MS + 1, max: NOW_MS }), fc.integer({ min: 0, max: 999_999 }))
  .map(([ms, rest]) => BigInt(ms) * 1_000_000n + BigInt(rest));

const resource = fc.record({
  attributes: fc
    .tuple(
      attributes,
      fc.subarray(["service.name", "k8s.namespace.name", "k8s.pod.name", "host.name"]),
      fc.string({ unit: "grapheme", minLength: 1, maxLength: 9 }),
    )
    .map(([others, lifted, stringValue]) => [...others, ...lifted.map((key) => ({ key, value: { stringValue } }))]),
});
const scope = fc.record({ name: text, version: text });

const span = fc
  .record({
    traceId: id(16),
    spanId: id(8),
    parentSpanId: fc.oneof(fc.constant(Buffer.alloc(0)), id(8)),
    traceState: text,
    name: text,
    kind: fc.integer({ min: 0, max: 7 }),
    start: nanos,
    took: fc.bigInt({ min: -5n, max: 10n ** 12n }),
    attributes: caller,
    events: fc.array(fc.record({ timeUnixNano: nanos.map(String), name: text, attributes }), { maxLength: 2 }),
    links: fc.array(fc.record({ traceId: id(16), spanId: id(8), attributes }), { maxLength: 2 }),
    status: fc.option(fc.record({ code: fc.integer({ min: 0, max: 3 }), message: text }), { nil: undefined }),
    flags: fc.nat(),
    droppedAttributesCount: fc.nat(),
  })
  .map(({ start, took, status, ...rest }) => ({
    ...rest,
    ...(status === undefined ? {} : { status }),
    startTimeUnixNano: String(start),
    endTimeUnixNano: String(start + took),
  }));

const record = fc
  .record({
    time: fc.option(nanos, { nil: 0n }),
    observed: nanos,
    severityNumber: fc.integer({ min: 0, max: 30 }),
    severityText: text,
    body: value,
    attributes,
    traceId: fc.oneof(id(16), fc.constant(Buffer.alloc(0)), bytes(5)),
    spanId: fc.oneof(id(8), fc.constant(Buffer.alloc(0))),
    eventName: text,
    flags: fc.nat(),
  })
  .map(({ time, observed, ...rest }) => ({
    ...rest,
    timeUnixNano: String(time),
    observedTimeUnixNano: String(observed),
  }));

export const traceRequests = fc.record({
  resourceSpans: fc.array(
    fc.record({
      resource,
      scopeSpans: fc.array(fc.record({ scope, spans: fc.array(span, { maxLength: 4 }) }), { maxLength: 2 }),
    }),
    { maxLength: 3 },
  ),
});

export const logRequests = fc.record({
  resourceLogs: fc.array(
    fc.record({
      resource,
      scopeLogs: fc.array(fc.record({ scope, logRecords: fc.array(record, { maxLength: 4 }) }), { maxLength: 2 }),
    }),
    { maxLength: 3 },
  ),
});

/** A message as protobufjs's toObject gives it: numbers of 64 bits as text, bytes as Buffers. */
export interface Value {
  readonly stringValue?: string;
  readonly boolValue?: boolean;
  readonly intValue?: string;
  readonly doubleValue?: number;
  readonly bytesValue?: Buffer;
  readonly arrayValue?: { readonly values?: readonly Value[] };
  readonly kvlistValue?: { readonly values?: readonly Pair[] };
}
export interface Pair {
  readonly key?: string;
  readonly value?: Value;
}
interface Fields {
  readonly [name: string]: unknown;
}

const json = (one: Value | undefined): string => {
  if (one === undefined) return "null";
  if (one.stringValue !== undefined) return JSON.stringify(one.stringValue);
  if (one.boolValue !== undefined) return String(one.boolValue);
  if (one.intValue !== undefined) return one.intValue;
  if (one.doubleValue !== undefined)
    return Number.isFinite(one.doubleValue) ? String(one.doubleValue) : `"${one.doubleValue}"`;
  if (one.bytesValue !== undefined) return `"${one.bytesValue.toString("base64")}"`;
  if (one.arrayValue !== undefined) return `[${(one.arrayValue.values ?? []).map(json).join(",")}]`;
  if (one.kvlistValue === undefined) return "null";
  return `{${(one.kvlistValue.values ?? []).map((pair) => `${JSON.stringify(pair.key ?? "")}:${json(pair.value)}`).join(",")}}`;
};

export const asText = (one: Value | undefined): string => {
  if (one?.stringValue !== undefined) return one.stringValue;
  if (one?.bytesValue !== undefined) return one.bytesValue.toString("base64");
  if (one?.doubleValue !== undefined) return String(one.doubleValue);
  const rest = json(one);
  return rest === "null" ? "" : rest;
};

const pairsOf = (all: unknown): string[][] =>
  ((all ?? []) as readonly Pair[]).map((pair) => [pair.key ?? "", asText(pair.value)]);

const LIFTED = ["service.name", "k8s.namespace.name", "k8s.pod.name", "host.name"];
const PEERS = [
  "peer.service",
  "server.address",
  "net.peer.name",
  "messaging.destination.name",
  "db.system.name",
  "db.system",
  "rpc.service",
];

const list = (all: unknown): readonly Fields[] => (all ?? []) as readonly Fields[];
const hex = (all: unknown, length: number): string =>
  Buffer.isBuffer(all) && all.length === length ? all.toString("hex") : "00".repeat(length);

const originOf = (resourceOf: Fields, scopeOf: Fields) => {
  const all = ((resourceOf["resource"] as Fields | undefined)?.["attributes"] ?? []) as readonly Pair[];
  const lifted = (name: string): string => asText(all.find((pair) => pair.key === name)?.value);
  return {
    service: lifted("service.name") || "unknown_service",
    namespace: lifted("k8s.namespace.name"),
    pod: lifted("k8s.pod.name"),
    host: lifted("host.name"),
    resource: pairsOf(all.filter((pair) => !LIFTED.includes(pair.key ?? ""))),
    scope: (scopeOf["scope"] as Fields | undefined)?.["name"] ?? "",
  };
};

const peerOf = (one: Fields): string => {
  if (one["kind"] !== 3 && one["kind"] !== 4) return "";
  const all = (one["attributes"] ?? []) as readonly Pair[];
  const best = PEERS.find((name) => all.some((pair) => pair.key === name));
  return best === undefined ? "" : asText(all.find((pair) => pair.key === best)?.value);
};

const spanRow = (one: Fields) => {
  const start = BigInt(String(one["startTimeUnixNano"]));
  const end = BigInt(String(one["endTimeUnixNano"] ?? "0"));
  const status = (one["status"] ?? {}) as Fields;
  const kind = Number(one["kind"] ?? 0);
  const code = Number(status["code"] ?? 0);
  return {
    ts: start,
    duration: end > start ? end - start : 0n,
    trace_id: hex(one["traceId"], 16),
    span_id: hex(one["spanId"], 8),
    parent_id: hex(one["parentSpanId"], 8),
    kind: kind > 5 ? 0 : kind,
    status: code > 2 ? 0 : code,
    name: one["name"] ?? "",
    status_message: status["message"] ?? "",
    trace_state: one["traceState"] ?? "",
    attributes: pairsOf(one["attributes"]),
    peer: peerOf(one),
    event_ts: list(one["events"]).map((event) => BigInt(String(event["timeUnixNano"] ?? "0"))),
    event_name: list(one["events"]).map((event) => event["name"] ?? ""),
    event_attributes: list(one["events"]).map((event) => pairsOf(event["attributes"])),
    link_trace_id: list(one["links"]).map((link) => hex(link["traceId"], 16)),
    link_span_id: list(one["links"]).map((link) => hex(link["spanId"], 8)),
    link_attributes: list(one["links"]).map((link) => pairsOf(link["attributes"])),
  };
};

/** Of a whole body: the rules are those of pattern.test.ts, here it is whether the right bytes are read. */
export const patternOf = (body: string): bigint => {
  const pattern = new Pattern();
  const bytes = Buffer.from(body);
  pattern.of(bytes, 0, bytes.length);
  return (BigInt(pattern.high) << 32n) | BigInt(pattern.low);
};

const logRow = (one: Fields) => {
  const time = BigInt(String(one["timeUnixNano"] ?? "0"));
  const severity = Number(one["severityNumber"] ?? 0);
  const body = asText(one["body"] as Value | undefined);
  return {
    ts: time === 0n ? BigInt(String(one["observedTimeUnixNano"] ?? "0")) : time,
    severity: severity > 24 ? 0 : severity,
    trace_id: hex(one["traceId"], 16),
    span_id: hex(one["spanId"], 8),
    severity_text: one["severityText"] ?? "",
    event: one["eventName"] ?? "",
    body,
    pattern: patternOf(body),
    attributes: pairsOf(one["attributes"]),
  };
};

const walk = (request: Fields, names: readonly [string, string, string], row: (one: Fields) => object, batch: bigint) =>
  list(request[names[0]]).flatMap((inResource) =>
    list(inResource[names[1]]).flatMap((inScope) =>
      list(inScope[names[2]]).map((one) => ({ ...row(one), ...originOf(inResource, inScope), batch })),
    ),
  );

export const expectedSpans = (request: object, batch: bigint): object[] =>
  walk(request as Fields, ["resourceSpans", "scopeSpans", "spans"], spanRow, batch);
export const expectedLogs = (request: object, batch: bigint): object[] =>
  walk(request as Fields, ["resourceLogs", "scopeLogs", "logRecords"], logRow, batch);

const IDS = new Set(["traceId", "spanId", "parentSpanId"]);

/** The same message as OTLP/JSON: ids in hex, other bytes in base64. */
export const asJson = (request: object): string =>
  JSON.stringify(request, function replace(this: Fields, name: string, given: unknown): unknown {
    const original = this[name];
    if (Buffer.isBuffer(original)) return original.toString(IDS.has(name) ? "hex" : "base64");
    return typeof original === "number" && !Number.isFinite(original) ? String(original) : given;
  });
