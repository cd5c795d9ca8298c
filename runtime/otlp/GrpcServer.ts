/**
 * OTLP over gRPC: the Export calls of traces, logs and metrics. Messages pass as bytes to the same intake as those of the doors.
 * Owned by its layer's scope; closing it ends the calls under way, unanswered, so that their senders come again. A call
 * without the key is refused. While the port is taken the server runs without it, says so once, and tries again. A call
 * that fails costs nobody else anything.
 */
import * as grpc from "@grpc/grpc-js";
import { Context, Data, Deferred, Effect, FiberSet, Layer, Schedule, type Scope } from "effect";
import { BULK } from "../actor/TurnScheduler.ts";
import { sameKey } from "../config/sameKey.ts";
import { CODE, isRetryable, statusMessage, successMessage } from "./answers.ts";
import type { TakeMetrics } from "../remote-write/otlp/take.ts";
import { ExportRefused, Intake, RETRY_AFTER_S, type Outcome, type Signal } from "./Intake.ts";
import { LIMITS } from "./limits.ts";

export interface GrpcOptions {
  readonly host: string;
  /** 0: any free port */
  readonly port: number;
  readonly key: string;
  /** takes metrics, which go to the samples and not with traces and logs; without it they are not served */
  readonly metrics?: TakeMetrics;
}

export interface GrpcServerShape {
  /** The port, once it is listened on. */
  readonly port: Effect.Effect<number>;
}

export class GrpcServer extends Context.Tag("runtime/otlp/GrpcServer")<GrpcServer, GrpcServerShape>() {}

class BindError extends Data.TaggedError("BindError")<{ readonly message: string }> {}

const STREAMS_PER_CONNECTION = 64;
const AGAIN = "10 seconds";

const same = (value: Buffer): Buffer => value;

/** Raw bytes in both directions. */
const serviceOf = (name: string): grpc.ServiceDefinition => ({
  Export: {
    path: `/opentelemetry.proto.collector.${name}/Export`,
    requestStream: false,
    responseStream: false,
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  },
});

const METRICS_SERVICE = serviceOf("metrics.v1.MetricsService");
const SERVICES: Readonly<Record<Signal, grpc.ServiceDefinition>> = {
  traces: serviceOf("trace.v1.TraceService"),
  logs: serviceOf("logs.v1.LogsService"),
};

const CODES: Readonly<Record<ExportRefused["reason"], number>> = {
  malformed: CODE.invalidArgument,
  refused: CODE.invalidArgument,
  "too large": CODE.invalidArgument,
  behind: CODE.resourceExhausted,
  late: CODE.unavailable,
};

/** A status with what a client reads from `grpc-status-details-bin`: when to come again. */
const failure = (code: number, message: string, retryAfterS: number | null): grpc.ServiceError => {
  const metadata = new grpc.Metadata();
  if (retryAfterS !== null) metadata.set("grpc-status-details-bin", statusMessage(code, message, retryAfterS));
  return Object.assign(new Error(message), { code, details: message, metadata });
};

const presentedKey = (metadata: grpc.Metadata): string => {
  const [plain] = metadata.get("x-api-key");
  if (plain !== undefined) return String(plain);
  return /^bearer\s+(.+)$/i.exec(String(metadata.get("authorization")[0] ?? ""))?.[1] ?? "";
};

/** Metrics as the calls of the other signals are answered. */
const takeWith =
  (metrics: TakeMetrics) =>
  (body: Buffer): Effect.Effect<Outcome, ExportRefused> =>
    Effect.mapError(metrics(body, "protobuf"), (error) => {
      const reason = error._tag === "Behind" ? "behind" : error.reason;
      return new ExportRefused({ reason, message: error.message });
    });

type ExportCall = grpc.ServerUnaryCall<Buffer, Buffer>;

const bind = (server: grpc.Server, { host, port }: GrpcOptions): Effect.Effect<number, BindError> =>
  Effect.async<number, BindError>((resume) => {
    const at = `${host.includes(":") ? `[${host}]` : host}:${port}`;
    server.bindAsync(at, grpc.ServerCredentials.createInsecure(), (error, bound) =>
      resume(error === null ? Effect.succeed(bound) : Effect.fail(new BindError({ message: error.message }))),
    );
  });

export const make = (options: GrpcOptions): Effect.Effect<GrpcServerShape, never, Intake | Scope.Scope> =>
  Effect.gen(function* () {
    const intake = yield* Intake;
    // what goes wrong comes back as errors and is told once, by whoever handles them
    grpc.setLogVerbosity(grpc.logVerbosity.NONE);
    const listening = yield* Deferred.make<number>();
    const run = yield* FiberSet.makeRuntime<never, void, never>();

    const handle =
      (signal: string, take: (body: Buffer) => Effect.Effect<Outcome, ExportRefused>) =>
      (call: ExportCall, answer: grpc.sendUnaryData<Buffer>): void => {
        if (!sameKey(presentedKey(call.metadata), options.key)) {
          const how = "the key is missing or wrong: send it as x-api-key or as a bearer token";
          return answer(failure(CODE.unauthenticated, how, null));
        }
        const fiber = run(
          take(call.request).pipe(
            Effect.matchEffect({
              onSuccess: (outcome) => Effect.sync(() => answer(null, successMessage(outcome))),
              onFailure: (refusal) =>
                Effect.sync(() =>
                  answer(failure(CODES[refusal.reason], refusal.message, isRetryable(refusal) ? RETRY_AFTER_S : null)),
                ),
            }),
            Effect.catchAllDefect((defect) => {
              answer(failure(CODE.internal, "the server failed on this request", null));
              return Effect.logError(`an OTLP request for ${signal} failed`, defect);
            }),
            Effect.withSchedulingPriority(BULK),
          ),
        );
        call.on("cancelled", () => fiber.unsafeInterruptAsFork(fiber.id()));
      };

    const makeServer = (): grpc.Server => {
      const server = new grpc.Server({
        "grpc.max_receive_message_length": LIMITS.requestBytes,
        "grpc.max_concurrent_streams": STREAMS_PER_CONNECTION,
      });
      for (const signal of ["traces", "logs"] as const) {
        const take = (body: Buffer) => intake.take(signal, body, "protobuf");
        server.addService(SERVICES[signal], { Export: handle(signal, take) });
      }
      const { metrics } = options;
      if (metrics !== undefined) server.addService(METRICS_SERVICE, { Export: handle("metrics", takeWith(metrics)) });
      return server;
    };
    // a server that could not listen never will: each attempt has its own
    let server: grpc.Server | null = null;
    yield* Effect.addFinalizer(() => Effect.sync(() => server?.forceShutdown()));
    const open = Effect.suspend(() => {
      server?.forceShutdown();
      server = makeServer();
      return bind(server, options);
    });
    const { host, port } = options;
    yield* open.pipe(
      Effect.tapError(({ message }) =>
        Effect.logWarning(
          `OpenTelemetry over gRPC is off while port ${port} on ${host} cannot be listened on. Choose another by otlp.grpcPort in the configuration.`,
          { reason: message },
        ),
      ),
      Effect.orElse(() => Effect.retry(Effect.delay(open, AGAIN), Schedule.forever)),
      Effect.flatMap((bound) => Deferred.succeed(listening, bound)),
      Effect.forkScoped,
    );
    return GrpcServer.of({ port: Deferred.await(listening) });
  });

export const layer = (options: GrpcOptions): Layer.Layer<GrpcServer, never, Intake> =>
  Layer.scoped(GrpcServer, make(options));
