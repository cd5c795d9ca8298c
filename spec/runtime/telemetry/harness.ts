/** The questions about logs and traces over a real store that holds what a test sent by OTLP. The caller disposes of it. */
import { Effect, Layer, ManagedRuntime } from "effect";
import { Intake, layer as intakeLayer } from "../../../runtime/otlp/Intake.ts";
import * as Store from "../../../runtime/store/Store.ts";
import * as StoreProcess from "../../../runtime/store/StoreProcess.ts";
import * as Writer from "../../../runtime/store/Writer.ts";
import * as Logs from "../../../runtime/telemetry/Logs.ts";
import { parseQueryText, type TextQuery } from "../../../runtime/telemetry/queryText.ts";
import * as Traces from "../../../runtime/telemetry/Traces.ts";
import { encodeLogRequest, encodeTraces } from "../otlp/proto.ts";
import { COMMAND } from "../store/harness.ts";

export const makeTelemetry = (data: string) => {
  const store = Store.layer({ database: "coroot" }).pipe(
    Layer.provideMerge(StoreProcess.layer({ command: [...COMMAND], data })),
  );
  return ManagedRuntime.make(
    Layer.mergeAll(intakeLayer(), Logs.layer, Traces.layer).pipe(
      Layer.provideMerge(Writer.layer()),
      Layer.provideMerge(store),
    ),
  );
};
export type TestTelemetry = ReturnType<typeof makeTelemetry>;

const pairs = (of: Readonly<Record<string, string>>) =>
  Object.entries(of).map(([key, stringValue]) => ({ key, value: { stringValue } }));
const nanos = (ms: number): string => String(BigInt(Math.round(ms * 1000)) * 1000n);

export interface SentLine {
  readonly service: string;
  readonly at: number;
  readonly severity: number;
  readonly body: string;
  readonly attributes?: Readonly<Record<string, string>>;
  readonly resource?: Readonly<Record<string, string>>;
  readonly traceId?: string;
}

export const sendLines = (lines: readonly SentLine[]) =>
  Effect.flatMap(Intake, ({ take }) =>
    take(
      "logs",
      encodeLogRequest({
        resourceLogs: lines.map(({ service, at, severity, body, attributes = {}, resource = {}, traceId }) => ({
          resource: { attributes: pairs({ "service.name": service, ...resource }) },
          scopeLogs: [
            {
              logRecords: [
                {
                  timeUnixNano: nanos(at),
                  severityNumber: severity,
                  body: { stringValue: body },
                  attributes: pairs(attributes),
                  ...(traceId === undefined ? {} : { traceId: Buffer.from(traceId, "hex") }),
                },
              ],
            },
          ],
        })),
      }),
      "protobuf",
    ),
  );

export interface SentSpan {
  readonly service: string;
  readonly name: string;
  readonly at: number;
  readonly ms: number;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentId?: string;
  readonly kind?: number;
  readonly error?: string;
  readonly exception?: string;
  readonly attributes?: Readonly<Record<string, string>>;
  readonly resource?: Readonly<Record<string, string>>;
}

export const sendSpans = (spans: readonly SentSpan[]) =>
  Effect.flatMap(Intake, ({ take }) =>
    take(
      "traces",
      encodeTraces({
        resourceSpans: spans.map((span) => ({
          resource: { attributes: pairs({ "service.name": span.service, ...span.resource }) },
          scopeSpans: [
            {
              spans: [
                {
                  traceId: Buffer.from(span.traceId, "hex"),
                  spanId: Buffer.from(span.spanId, "hex"),
                  parentSpanId: Buffer.from(span.parentId ?? "", "hex"),
                  name: span.name,
                  kind: span.kind ?? 2,
                  startTimeUnixNano: nanos(span.at),
                  endTimeUnixNano: nanos(span.at + span.ms),
                  attributes: pairs(span.attributes ?? {}),
                  status: span.error === undefined ? {} : { code: 2, message: span.error },
                  events:
                    span.exception === undefined
                      ? []
                      : [
                          {
                            name: "exception",
                            timeUnixNano: nanos(span.at),
                            attributes: pairs({ "exception.type": span.exception }),
                          },
                        ],
                },
              ],
            },
          ],
        })),
      }),
      "protobuf",
    ),
  );

export const textOf = (q: string): TextQuery => {
  const text = parseQueryText(q);
  if (typeof text === "string") throw new Error(text);
  return text;
};

export const logFilter = (more: Partial<Logs.LogFilter> = {}): Logs.LogFilter => ({
  fromMs: 0,
  toMs: 4_000_000_000_000,
  services: [],
  severity: 0,
  text: textOf(""),
  attributes: [],
  traceId: null,
  pattern: null,
  ...more,
});

export const spanFilter = (more: Partial<Traces.SpanFilter> = {}): Traces.SpanFilter => ({
  fromMs: 0,
  toMs: 4_000_000_000_000,
  services: [],
  name: null,
  kind: null,
  status: null,
  leastMs: null,
  mostMs: null,
  attributes: [],
  roots: false,
  ...more,
});
