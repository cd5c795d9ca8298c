/**
 * Spans as an ExportTraceServiceRequest, the form in which SDKs send theirs, so that the server has one way for both.
 * Pure. Source of the messages: https://github.com/open-telemetry/opentelemetry-proto/tree/main/opentelemetry/proto
 */
import { WireWriter } from "../../../runtime/otlp/WireWriter.ts";

export type Attributes = Readonly<Record<string, string | number>>;

export const SPAN_KIND = { server: 2, client: 3, producer: 4 } as const;
const ERROR = 2;
/** what tells these spans from an SDK's */
export const SCOPE = "coroot.ebpf";

export interface OtlpSpan {
  readonly traceId: Buffer;
  readonly spanId: Buffer;
  readonly parentId: Buffer | null;
  /** the trace that the other end of the connection takes it for, where it is in another one */
  readonly link: { readonly traceId: Buffer; readonly spanId: Buffer } | null;
  readonly name: string;
  readonly kind: (typeof SPAN_KIND)[keyof typeof SPAN_KIND];
  /** ns since the epoch */
  readonly startNs: bigint;
  readonly endNs: bigint;
  readonly attributes: Attributes;
  /** empty: no error */
  readonly problem: string;
}

export interface OtlpResource {
  readonly attributes: Attributes;
  readonly spans: readonly OtlpSpan[];
}

const writeAttributes = (out: WireWriter, field: number, attributes: Attributes): void => {
  for (const [key, value] of Object.entries(attributes)) {
    const pair = out.open(field);
    out.text(1, key);
    const any = out.open(2);
    if (typeof value === "string") out.text(1, value);
    else if (Number.isSafeInteger(value)) out.varint(3, BigInt(value));
    else out.double(4, value);
    out.close(any);
    out.close(pair);
  }
};

const writeSpan = (out: WireWriter, span: OtlpSpan): void => {
  const message = out.open(2);
  out.data(1, span.traceId);
  out.data(2, span.spanId);
  if (span.parentId !== null) out.data(4, span.parentId);
  out.text(5, span.name);
  out.varint(6, BigInt(span.kind));
  out.fixed64(7, span.startNs);
  out.fixed64(8, span.endNs);
  writeAttributes(out, 9, span.attributes);
  if (span.link !== null) {
    const link = out.open(13);
    out.data(1, span.link.traceId);
    out.data(2, span.link.spanId);
    out.close(link);
  }
  if (span.problem !== "") {
    const status = out.open(15);
    out.text(2, span.problem);
    out.varint(3, BigInt(ERROR));
    out.close(status);
  }
  out.close(message);
};

export const encodeTraces = (resources: readonly OtlpResource[]): Buffer => {
  const out = new WireWriter();
  for (const { attributes, spans } of resources) {
    const resource = out.open(1);
    const about = out.open(1);
    writeAttributes(out, 1, attributes);
    out.close(about);
    const scoped = out.open(2);
    const scope = out.open(1);
    out.text(1, SCOPE);
    out.close(scope);
    for (const span of spans) writeSpan(out, span);
    out.close(scoped);
    out.close(resource);
  }
  return Buffer.from(out.take());
};
