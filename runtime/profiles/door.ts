/**
 * The door /v1/profiles: a pprof message, gzip or plain, whose origin is told by query parameters, as stock Coroot agents
 * and anybody with curl send it. Answered 200 when its samples and their stacks are on disk; body and parameters name the
 * batch, so that a call that comes again is stored once. A profile that cannot be read is refused whole; while the store
 * is behind, 429 or 503 with Retry-After. Owned by the server's layers, which tell it when the store was away.
 */
import { Clock, Context, Effect, Layer, Metric, Stream } from "effect";
import { retentionDays, type Retention } from "../../schemas/tables.ts";
import { DoorRefusal, type Answer, type Door } from "../doors/Door.ts";
import { toDoor } from "../otlp/doors.ts";
import { batchOf, decoded, newBatch, writeInTime, type ExportRefused } from "../otlp/Intake.ts";
import { Store } from "../store/Store.ts";
import { Writer, type WriterShape } from "../store/Writer.ts";
import { KnownStacks } from "./KnownStacks.ts";
import { LIMITS } from "./limits.ts";
import { encodeProfile, type EncodedProfile, type ProfileOrigin } from "./pprof.ts";

export const PROFILES_PATH = "/v1/profiles";
const DAY_MS = 86_400_000;
const READ_AT_ONCE = 4;

/** Parameters that become columns, best first: OpenTelemetry's names, and those of Coroot's cluster agent. */
const COLUMNS = {
  service: ["service.name"],
  namespace: ["k8s.namespace.name", "namespace"],
  pod: ["k8s.pod.name", "pod"],
  host: ["host.name", "k8s.node.name", "node"],
} as const;

const counter = (name: string, description: string) => Metric.counter(name, { description, incremental: true });
const samplesTotal = counter("coroot_profile_samples_total", "rows of profiles that were stored");
const stacksTotal = counter("coroot_profile_stacks_total", "stacks that were stored, those of a day ago again");
const refusedTotal = counter("coroot_profile_refused_total", "profiles that were refused, by reason");
const cutTotal = counter("coroot_profile_cut_total", "stacks and texts that were cut because they were too long");
const repairedTotal = counter("coroot_profile_repaired_total", "texts whose invalid UTF-8 was repaired");
const leftOutTotal = counter("coroot_profile_left_out_total", "labels of samples beyond the limit");
const knownGauge = Metric.gauge("coroot_profile_stacks_known", { description: "stacks that are known to be stored" });

const bad = (message: string): DoorRefusal => new DoorRefusal({ status: 400, message });

/** Whose profile it is, as the call's parameters say. */
export const originOf = (query: URLSearchParams): ProfileOrigin | DoorRefusal => {
  const labels = new Map<string, string>();
  for (const [name, value] of query) {
    if (labels.has(name)) return bad(`${name.slice(0, 100)}: expected one value`);
    if (labels.size === LIMITS.labels) return bad(`expected at most ${LIMITS.labels} parameters`);
    labels.set(name, value);
  }
  const take = (names: readonly string[]): string => {
    const name = names.find((one) => (labels.get(one) ?? "") !== "");
    if (name === undefined) return "";
    const value = labels.get(name) ?? "";
    labels.delete(name);
    return value;
  };
  const service = take(COLUMNS.service);
  if (service === "") return bad("service.name: expected a parameter with the name of the profiled service");
  const [namespace, pod, host] = [take(COLUMNS.namespace), take(COLUMNS.pod), take(COLUMNS.host)];
  return { service, namespace, pod, host, resource: [...labels].sort(([a], [b]) => (a < b ? -1 : 1)) };
};

const counted = ({ repairs, rows, stackRows }: EncodedProfile, known: KnownStacks) =>
  Effect.all(
    [
      Metric.incrementBy(samplesTotal, rows),
      Metric.incrementBy(stacksTotal, stackRows),
      Metric.incrementBy(cutTotal, repairs.cut),
      Metric.incrementBy(repairedTotal, repairs.repaired),
      Metric.incrementBy(leftOutTotal, repairs.leftOut),
      Metric.set(knownGauge, known.size),
    ],
    { discard: true },
  );

const ANSWER: Answer = { status: 200, contentType: "text/plain; charset=utf-8", body: "" };

export const profilesDoor = (
  writer: Pick<WriterShape, "telemetry">,
  known: KnownStacks,
  retention: Retention = {},
): Door => {
  // what is read takes several times its bytes until the lane has it, and that one is bounded
  const turns = Effect.unsafeMakeSemaphore(READ_AT_ONCE);

  const read = (origin: ProfileOrigin, body: Buffer) =>
    Effect.gen(function* () {
      const nowMs = yield* Clock.currentTimeMillis;
      const oldestMs = nowMs - retentionDays("profile_samples", retention) * DAY_MS;
      const options = { origin, nowMs, oldestMs, known };
      const batch = batchOf(JSON.stringify(origin), body);
      const encoded = yield* decoded(() => encodeProfile(body, { ...options, batch }));
      if (!encoded.timeless) return { batch, encoded };
      const other = newBatch();
      return { batch: other, encoded: yield* decoded(() => encodeProfile(body, { ...options, batch: other })) };
    });

  const take = (origin: ProfileOrigin, body: Buffer): Effect.Effect<EncodedProfile, ExportRefused> =>
    Effect.gen(function* () {
      const { batch, encoded } = yield* turns.withPermits(1)(read(origin, body));
      const { days, rows, fromMs, toMs, stacks, stored } = encoded;
      const before = stacks.length === 0 ? {} : { before: { table: "profile_stacks", rows: stacks, stored } as const };
      if (rows > 0)
        yield* writeInTime(writer, { table: "profile_samples", id: batch, days, rows, fromMs, toMs, ...before });
      return encoded;
    });

  return {
    path: PROFILES_PATH,
    method: "POST",
    contentTypes: "any",
    encodings: ["identity", "gzip", "deflate", "zstd"],
    gzipped: true,
    maxBytes: LIMITS.bytes,
    handle: ({ body, query }) => {
      const origin = originOf(query);
      const taken =
        origin instanceof DoorRefusal
          ? Effect.zipRight(Metric.increment(Metric.tagged(refusedTotal, "reason", "parameters")), origin)
          : take(origin, body).pipe(
              Effect.tapError(({ reason }) => Metric.increment(Metric.tagged(refusedTotal, "reason", reason))),
              Effect.mapError(toDoor),
              Effect.flatMap((encoded) => counted(encoded, known)),
            );
      return Effect.as(taken, ANSWER);
    },
  };
};

export class ProfilesDoor extends Context.Tag("runtime/profiles/ProfilesDoor")<ProfilesDoor, Door>() {}

/** What a store had before it was away is not believed to be there still. */
const forgetWhenAway = (known: KnownStacks) =>
  Effect.flatMap(Store, ({ state }) =>
    state.changes.pipe(
      Stream.filter(({ status }) => status !== "up"),
      Stream.runForEach(() => Effect.sync(() => known.clear())),
      Effect.forkScoped,
    ),
  );

export const layer = (retention: Retention = {}): Layer.Layer<ProfilesDoor, never, Writer | Store> =>
  Layer.scoped(
    ProfilesDoor,
    Effect.gen(function* () {
      const known = new KnownStacks();
      yield* forgetWhenAway(known);
      return profilesDoor(yield* Writer, known, retention);
    }),
  );
