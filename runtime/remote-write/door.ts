/**
 * The door /v1/metrics: Prometheus' remote_write, 1.0 and 2.0, and OTLP's metrics at the same path. Which of them a call is
 * shows by its headers: remote_write is snappy and names its version, OTLP neither. Answered when the samples are on disk.
 * While the store is behind, 503: a sender of remote_write drops what it is answered 429 for. Holds nothing to stop.
 */
import { Effect, Metric } from "effect";
import { codeOf, statusJson, statusMessage, successJson, successMessage } from "./otlp/answers.ts";
import { makeTakeMetrics, type TakeMetrics } from "./otlp/take.ts";
import type { LeftOut } from "./Columns.ts";
import { Behind, Unreadable, type SamplesIntake } from "./Intake.ts";
import type { MetricsWatchShape } from "./MetricsWatch.ts";
import { SeriesCache } from "./SeriesCache.ts";
import { readVersion1 } from "./version1.ts";
import { readVersion2 } from "./version2.ts";
import { RETRY_AFTER_S } from "../doors/decode.ts";
import { DoorRefusal, type Answer, type Call, type Door } from "../doors/Door.ts";

export const METRICS_PATH = "/v1/metrics";
const PROTOBUF = "application/x-protobuf";
const JSON_TYPE = "application/json";
const MAX_BYTES = 16 * 1024 * 1024;

const counter = (name: string, description: string) => Metric.counter(name, { description, incremental: true });
const samplesTotal = counter("coroot_door_samples_total", "samples of metrics that were stored, by protocol");
const leftOutTotal = counter("coroot_door_samples_left_out_total", "samples that were not stored, by reason");

type Version = 1 | 2;

/** `proto=` of the content type, as remote_write 2.0 has it. */
const PROTO: ReadonlyMap<string, Version> = new Map([
  ["prometheus.writerequest", 1],
  ["io.prometheus.write.v2.request", 2],
]);

/** Null: the call is not remote_write. */
const versionOf = ({ headers, contentType }: Call): Version | DoorRefusal | null => {
  if (contentType !== PROTOBUF) return null;
  const proto = /;\s*proto\s*=\s*"?([^";\s]+)/i.exec(headers["content-type"] ?? "")?.[1];
  if (proto !== undefined) {
    const known = PROTO.get(proto.toLowerCase());
    const message = `${proto.slice(0, 100)} is not taken here; expected prometheus.WriteRequest or io.prometheus.write.v2.Request`;
    return known ?? new DoorRefusal({ status: 415, message });
  }
  const isRemoteWrite =
    headers["x-prometheus-remote-write-version"] !== undefined ||
    headers["x-victoriametrics-remote-write-version"] !== undefined ||
    headers["content-encoding"]?.trim().toLowerCase() === "snappy";
  return isRemoteWrite ? 1 : null;
};

/** What the sender is told of samples that were not stored; empty when all were. */
export const leftOutText = (leftOut: ReadonlyMap<LeftOut, number>): string =>
  [...leftOut].flatMap(([reason, count]) => (reason === "exemplars" ? [] : [`${count} with ${reason}`])).join(", ");

const countLeftOut = (leftOut: ReadonlyMap<LeftOut, number>): Effect.Effect<void> =>
  Effect.forEach(leftOut, ([reason, n]) => Metric.incrementBy(Metric.tagged(leftOutTotal, "reason", reason), n), {
    discard: true,
  });

const toRefusal = (error: Behind | Unreadable): DoorRefusal => {
  const { message } = error;
  if (error._tag === "Behind") return new DoorRefusal({ status: 503, message, retryAfter: RETRY_AFTER_S });
  if (error.reason === "too large") return new DoorRefusal({ status: 413, message });
  return new DoorRefusal({ status: 400, message: `the body is not what it should be: ${message}` });
};

const written = (samples: number): Readonly<Record<string, string>> => ({
  "x-prometheus-remote-write-samples-written": String(samples),
  "x-prometheus-remote-write-histograms-written": "0",
  "x-prometheus-remote-write-exemplars-written": "0",
});

interface Parts {
  readonly intake: SamplesIntake;
  readonly cache: SeriesCache;
  readonly watch: MetricsWatchShape | null;
}

/**
 * The rest of a call is stored when some of its series are wrong. Version 2.0 then wants a 400; in 1.0 the answer is good
 * nevertheless, since stock agents send a call that was refused again and again, and nothing else meanwhile.
 */
const remoteWriteAnswer = (version: Version, samples: number, leftOut: string): Answer => {
  const headers = version === 2 ? written(samples) : {};
  if (version === 1 || leftOut === "") return { status: 204, headers };
  return { status: 400, contentType: "text/plain; charset=utf-8", headers, body: `not stored: ${leftOut}\n` };
};

const remoteWrite = (
  { intake, cache, watch }: Parts,
  version: Version,
  { body }: Call,
): Effect.Effect<Answer, DoorRefusal> =>
  Effect.gen(function* () {
    yield* intake.ready;
    const columns = yield* intake.read((out) =>
      version === 1 ? readVersion1(body, cache, out) : readVersion2(body, cache, out),
    );
    // Before they are on disk: whoever judges them does not wait for the store.
    if (watch !== null) for (const [watcher, samples] of columns.watched()) watch.tell(watcher, samples);
    yield* intake.write(body, columns);
    yield* Metric.incrementBy(Metric.tagged(samplesTotal, "protocol", `remote_write ${version}`), columns.rows);
    yield* countLeftOut(columns.leftOut);
    const leftOut = leftOutText(columns.leftOut);
    if (leftOut !== "") yield* Effect.logDebug(`samples of a remote_write call were not stored: ${leftOut}`);
    return remoteWriteAnswer(version, columns.rows, leftOut);
  }).pipe(Effect.mapError(toRefusal));

/** Plain text, which a sender of either protocol shows to its people. */
const remoteWriteRefused = ({ status, message, retryAfter }: DoorRefusal): Answer => ({
  status: status === 429 ? 503 : status,
  contentType: "text/plain; charset=utf-8",
  headers: {
    ...(retryAfter === undefined ? {} : { "retry-after": String(retryAfter) }),
    ...(status === 401 ? { "www-authenticate": "Bearer" } : {}),
  },
  body: `${message}\n`,
});

/** OTLP's own form of a refusal. */
const otlpRefused = ({ status, message, retryAfter }: DoorRefusal, isJson: boolean): Answer => ({
  status,
  contentType: isJson ? JSON_TYPE : PROTOBUF,
  headers: retryAfter === undefined ? {} : { "retry-after": String(retryAfter) },
  body: isJson ? statusJson(codeOf(status), message) : statusMessage(codeOf(status), message),
});

const otlp = (take: TakeMetrics, { body, contentType }: Call): Effect.Effect<Answer> => {
  const isJson = contentType === JSON_TYPE;
  return take(body, isJson ? "json" : "protobuf").pipe(
    Effect.tap(({ samples }) => Metric.incrementBy(Metric.tagged(samplesTotal, "protocol", "otlp"), samples)),
    Effect.match({
      onSuccess: (outcome): Answer => ({
        status: 200,
        contentType: isJson ? JSON_TYPE : PROTOBUF,
        body: isJson ? successJson(outcome) : successMessage(outcome),
      }),
      onFailure: (error) => otlpRefused(toRefusal(error), isJson),
    }),
  );
};

export const metricsDoor = (
  intake: SamplesIntake,
  cache = new SeriesCache(),
  watch: MetricsWatchShape | null = null,
): Door => {
  const takeOtlp = makeTakeMetrics(intake, cache);
  return {
    path: METRICS_PATH,
    method: "POST",
    contentTypes: [PROTOBUF, JSON_TYPE],
    encodings: ["snappy", "identity", "gzip", "deflate", "zstd"],
    maxBytes: MAX_BYTES,
    handle: (call) => {
      const version = versionOf(call);
      if (version instanceof DoorRefusal) return Effect.fail(version);
      return version === null ? otlp(takeOtlp, call) : remoteWrite({ intake, cache, watch }, version, call);
    },
    refused: (refusal, contentType) =>
      contentType === JSON_TYPE ? otlpRefused(refusal, true) : remoteWriteRefused(refusal),
  };
};
