/**
 * What OTLP's senders are answered: a partial success, or a status with its reason, in protobuf or JSON. Pure. Sources:
 * https://opentelemetry.io/docs/specs/otlp/#otlphttp-response and google/rpc/{status,code,error_details}.proto
 */
import type { ExportRefused, Outcome, Signal } from "./Intake.ts";
import { WireWriter } from "./WireWriter.ts";

/** Numbers of google.rpc.Code that are used here. */
export const CODE = { invalidArgument: 3, resourceExhausted: 8, internal: 13, unavailable: 14, unauthenticated: 16 };

export const successMessage = ({ rejected, message }: Outcome): Buffer => {
  const out = new WireWriter();
  if (rejected > 0) {
    const partial = out.open(1);
    out.varint(1, BigInt(rejected));
    out.text(2, message);
    out.close(partial);
  }
  return out.take();
};

const REJECTED_NAME: Readonly<Record<Signal, string>> = { traces: "rejectedSpans", logs: "rejectedLogRecords" };

export const successJson = (signal: Signal, { rejected, message }: Outcome): string =>
  JSON.stringify(
    rejected === 0 ? {} : { partialSuccess: { [REJECTED_NAME[signal]]: String(rejected), errorMessage: message } },
  );

export const statusMessage = (code: number, message: string, retryAfterS: number | null): Buffer => {
  const out = new WireWriter();
  out.varint(1, BigInt(code));
  out.text(2, message);
  if (retryAfterS !== null) {
    const detail = out.open(3);
    out.text(1, "type.googleapis.com/google.rpc.RetryInfo");
    const info = out.open(2);
    const delay = out.open(1);
    out.varint(1, BigInt(retryAfterS));
    out.close(delay);
    out.close(info);
    out.close(detail);
  }
  return out.take();
};

export const statusJson = (code: number, message: string): string => JSON.stringify({ code, message });

export const isRetryable = ({ reason }: ExportRefused): boolean => reason === "behind" || reason === "late";
