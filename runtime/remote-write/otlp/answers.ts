/**
 * What senders of OTLP's metrics are answered: success, whole or in part, and refusals, in protobuf and JSON. Pure.
 * Sources: https://opentelemetry.io/docs/specs/otlp/#otlphttp-response and google/rpc/status.proto
 */
export interface Outcome {
  /** data points that were not stored */
  readonly rejected: number;
  /** for a person: reasons with their counts; empty when nothing was rejected */
  readonly message: string;
}

export const outcomeOf = (rejected: ReadonlyMap<string, number>): Outcome => ({
  rejected: [...rejected.values()].reduce((sum, count) => sum + count, 0),
  message: [...rejected].map(([reason, count]) => `${count} with ${reason}`).join("; "),
});

const varint = (value: number): number[] => {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push(rest % 128 | 128);
  bytes.push(rest);
  return bytes;
};

const bytesField = (field: number, content: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from([(field << 3) | 2, ...varint(content.length)]), content]);
const numberField = (field: number, value: number): Buffer => Buffer.from([field << 3, ...varint(value)]);

/** `ExportMetricsServiceResponse` */
export const successMessage = ({ rejected, message }: Outcome): Buffer =>
  rejected === 0
    ? Buffer.alloc(0)
    : bytesField(1, Buffer.concat([numberField(1, rejected), bytesField(2, Buffer.from(message))]));

export const successJson = ({ rejected, message }: Outcome): string =>
  JSON.stringify(
    rejected === 0 ? {} : { partialSuccess: { rejectedDataPoints: String(rejected), errorMessage: message } },
  );

/** `google.rpc.Status` */
export const statusMessage = (code: number, message: string): Buffer =>
  Buffer.concat([numberField(1, code), bytesField(2, Buffer.from(message))]);

export const statusJson = (code: number, message: string): string => JSON.stringify({ code, message });

/** `google.rpc.Code` of the statuses that a refusal has. */
export const codeOf = (status: number): number => {
  if (status === 401) return 16;
  if (status === 429) return 8;
  return status === 503 ? 14 : 3;
};
