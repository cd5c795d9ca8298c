/**
 * The doors of OTLP/HTTP: /v1/traces and /v1/logs, protobuf and JSON. Each hands its request to the intake and answers in
 * the encoding of the request. A lane that is full is 429, a store that takes too long 503, both with Retry-After. Hold
 * nothing to stop.
 */
import { Effect } from "effect";
import { DoorRefusal, type Answer, type Door } from "../doors/Door.ts";
import { CODE, statusJson, statusMessage, successJson, successMessage } from "./answers.ts";
import { RETRY_AFTER_S, type ExportRefused, type IntakeShape, type Signal } from "./Intake.ts";
import { LIMITS } from "./limits.ts";

const PROTOBUF = "application/x-protobuf";
const JSON_TYPE = "application/json";

const REFUSALS: Readonly<Record<ExportRefused["reason"], DoorRefusal["status"]>> = {
  malformed: 400,
  refused: 400,
  "too large": 413,
  behind: 429,
  late: 503,
};

const CODES: Readonly<Record<DoorRefusal["status"], number>> = {
  400: CODE.invalidArgument,
  401: CODE.unauthenticated,
  404: CODE.invalidArgument,
  413: CODE.invalidArgument,
  415: CODE.invalidArgument,
  429: CODE.resourceExhausted,
  503: CODE.unavailable,
};

/** The answer of a door to what its intake could not take. */
export const toDoor = ({ reason, message }: ExportRefused): DoorRefusal => {
  const status = REFUSALS[reason];
  return new DoorRefusal({
    status,
    message,
    ...(status === 429 || status === 503 ? { retryAfter: RETRY_AFTER_S } : {}),
  });
};

const refused = ({ status, message, retryAfter }: DoorRefusal, contentType: string): Answer => {
  const isJson = contentType === JSON_TYPE;
  return {
    status,
    contentType: isJson ? JSON_TYPE : PROTOBUF,
    headers: retryAfter === undefined ? {} : { "retry-after": String(retryAfter) },
    body: isJson ? statusJson(CODES[status], message) : statusMessage(CODES[status], message, null),
  };
};

const door = (signal: Signal, intake: IntakeShape): Door => ({
  path: `/v1/${signal}`,
  method: "POST",
  contentTypes: [PROTOBUF, JSON_TYPE],
  encodings: ["identity", "gzip", "deflate", "zstd"],
  maxBytes: LIMITS.requestBytes,
  handle: ({ contentType, body }) => {
    const isJson = contentType === JSON_TYPE;
    return intake.take(signal, body, isJson ? "json" : "protobuf").pipe(
      Effect.map(
        (outcome): Answer => ({
          status: 200,
          contentType: isJson ? JSON_TYPE : PROTOBUF,
          body: isJson ? successJson(signal, outcome) : successMessage(outcome),
        }),
      ),
      Effect.mapError(toDoor),
    );
  },
  refused,
});

export const otlpDoors = (intake: IntakeShape): readonly Door[] => [door("traces", intake), door("logs", intake)];
