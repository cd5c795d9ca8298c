/**
 * The door /v1/metrics: Prometheus' remote_write, 1.0 and 2.0, and OTLP's metrics at the same path. Which of them a call is
 * shows by its headers: remote_write is snappy and names its version, OTLP neither. Answered when the samples are on disk.
 * While the store is behind, 503: a sender of remote_write drops what it is answered 429 for. Holds nothing to stop.
 */
import { Effect, Metric } from "effect";
import type { LeftOut } from "../remote-write/Columns.ts";
import { Behind, Unreadable, type SamplesIntake } from "../remote-write/Intake.ts";
import { SeriesCache } from "../remote-write/SeriesCache.ts";
import { readVersion1 } from "../remote-write/version1.ts";
import { readVersion2 } from "../remote-write/version2.ts";
import { RETRY_AFTER_S } from "./decode.ts";
import { DoorRefusal, type Answer, type Call, type Door } from "./Door.ts";

export const METRICS_PATH = "/v1/metrics";
const PROTOBUF = "application/x-protobuf";
const MAX_BYTES = 32 * 1024 * 1024;

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
const versionOf = ({ headers }: Call): Version | DoorRefusal | null => {
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

const toRefusal = (error: Behind | Unreadable): DoorRefusal =>
  error._tag === "Behind"
    ? new DoorRefusal({ status: 503, message: error.message, retryAfter: RETRY_AFTER_S })
    : new DoorRefusal({ status: 400, message: `the body is not what it should be: ${error.message}` });

const written = (samples: number): Readonly<Record<string, string>> => ({
  "x-prometheus-remote-write-samples-written": String(samples),
  "x-prometheus-remote-write-histograms-written": "0",
  "x-prometheus-remote-write-exemplars-written": "0",
});

/**
 * The rest of a call is stored when some of its series are wrong. Version 2.0 then wants a 400; in 1.0 the answer is good
 * nevertheless, since stock agents send a call that was refused again and again, and nothing else meanwhile.
 */
const remoteWriteAnswer = (version: Version, samples: number, leftOut: string): Answer => {
  const headers = version === 2 ? written(samples) : {};
  if (version === 1 || leftOut === "") return { status: 204, headers };
  return { status: 400, contentType: "text/plain; charset=utf-8", headers, body: `not stored: ${leftOut}\n` };
};

const remoteWrite = (intake: SamplesIntake, cache: SeriesCache, version: Version, { body }: Call) =>
  Effect.gen(function* () {
    yield* intake.ready;
    const columns = yield* intake.read((out) =>
      version === 1 ? readVersion1(body, cache, out) : readVersion2(body, cache, out),
    );
    yield* intake.write(body, columns);
    yield* Metric.incrementBy(Metric.tagged(samplesTotal, "protocol", `remote_write ${version}`), columns.rows);
    yield* countLeftOut(columns.leftOut);
    const leftOut = leftOutText(columns.leftOut);
    if (leftOut !== "") yield* Effect.logDebug(`samples of a remote_write call were not stored: ${leftOut}`);
    return remoteWriteAnswer(version, columns.rows, leftOut);
  }).pipe(Effect.mapError(toRefusal));

const refused = ({ status, message, retryAfter }: DoorRefusal): Answer => ({
  status: status === 429 ? 503 : status,
  contentType: "text/plain; charset=utf-8",
  headers: {
    ...(retryAfter === undefined ? {} : { "retry-after": String(retryAfter) }),
    ...(status === 401 ? { "www-authenticate": "Bearer" } : {}),
  },
  body: `${message}\n`,
});

export const metricsDoor = (intake: SamplesIntake): Door => {
  const cache = new SeriesCache();
  return {
    path: METRICS_PATH,
    method: "POST",
    contentTypes: [PROTOBUF],
    encodings: ["snappy", "identity", "gzip", "deflate", "zstd"],
    maxBytes: MAX_BYTES,
    handle: (call) => {
      const version = versionOf(call);
      if (version instanceof DoorRefusal) return Effect.fail(version);
      if (version === null)
        return Effect.fail(new DoorRefusal({ status: 415, message: "OTLP metrics are not taken yet" }));
      return remoteWrite(intake, cache, version, call);
    },
    refused,
  };
};
