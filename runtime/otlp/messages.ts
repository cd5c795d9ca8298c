/**
 * OpenTelemetry's messages as data, for what arrives as JSON: each field's JSON name, number and kind. Only the fields
 * that are kept. Source: https://github.com/open-telemetry/opentelemetry-proto (version 1.9), and for JSON
 * https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: ids are hex, other bytes base64, enums numbers.
 */
export type Scalar = "string" | "bool" | "int64" | "double" | "fixed64" | "fixed32" | "number" | "hex" | "base64";

export interface FieldDefinition {
  readonly number: number;
  readonly kind: Scalar | (() => Message);
  readonly repeated?: true;
}

/** By lowerCamelCase name. */
export type Message = ReadonlyMap<string, FieldDefinition>;

type Fields = Readonly<Record<string, readonly [number, FieldDefinition["kind"], "repeated"?]>>;

const message = (fields: Fields): Message =>
  new Map(
    Object.entries(fields).map(([name, [number, kind, repeated]]) => [
      name,
      repeated === undefined ? { number, kind } : { number, kind, repeated: true },
    ]),
  );

const anyValue: Message = message({
  stringValue: [1, "string"],
  boolValue: [2, "bool"],
  intValue: [3, "int64"],
  doubleValue: [4, "double"],
  arrayValue: [5, () => arrayValue],
  kvlistValue: [6, () => keyValueList],
  bytesValue: [7, "base64"],
});
const keyValue: Message = message({ key: [1, "string"], value: [2, () => anyValue] });
const arrayValue: Message = message({ values: [1, () => anyValue, "repeated"] });
const keyValueList: Message = message({ values: [1, () => keyValue, "repeated"] });

export const resource: Message = message({ attributes: [1, () => keyValue, "repeated"] });
export const scope: Message = message({ name: [1, "string"], version: [2, "string"] });

const event: Message = message({
  timeUnixNano: [1, "fixed64"],
  name: [2, "string"],
  attributes: [3, () => keyValue, "repeated"],
});
const link: Message = message({
  traceId: [1, "hex"],
  spanId: [2, "hex"],
  attributes: [4, () => keyValue, "repeated"],
});
const status: Message = message({ message: [2, "string"], code: [3, "number"] });

const span: Message = message({
  traceId: [1, "hex"],
  spanId: [2, "hex"],
  traceState: [3, "string"],
  parentSpanId: [4, "hex"],
  name: [5, "string"],
  kind: [6, "number"],
  startTimeUnixNano: [7, "fixed64"],
  endTimeUnixNano: [8, "fixed64"],
  attributes: [9, () => keyValue, "repeated"],
  events: [11, () => event, "repeated"],
  links: [13, () => link, "repeated"],
  status: [15, () => status],
});

const logRecord: Message = message({
  timeUnixNano: [1, "fixed64"],
  observedTimeUnixNano: [11, "fixed64"],
  severityNumber: [2, "number"],
  severityText: [3, "string"],
  body: [5, () => anyValue],
  attributes: [6, () => keyValue, "repeated"],
  traceId: [9, "hex"],
  spanId: [10, "hex"],
  eventName: [12, "string"],
});

/** A request's three levels. Their numbers are the same for every signal: request 1, resource 1, scopes 2, scope 1, records 2. */
export interface RequestDefinition {
  readonly resources: string;
  readonly scopes: string;
  readonly records: string;
  readonly record: Message;
}

export const TRACES: RequestDefinition = {
  resources: "resourceSpans",
  scopes: "scopeSpans",
  records: "spans",
  record: span,
};

export const LOGS: RequestDefinition = {
  resources: "resourceLogs",
  scopes: "scopeLogs",
  records: "logRecords",
  record: logRecord,
};
