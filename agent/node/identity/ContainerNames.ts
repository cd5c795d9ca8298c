/**
 * Names of Docker containers, asked from the runtime's socket once per container. Owned by the node agent; every call has
 * a timeout and bounds what it reads. Without a socket, or on any refusal, the short id stays the name and the capability
 * "docker" says why. Stops with the scope: a call under way is aborted.
 */
import { request } from "node:http";
import { Effect, Schema } from "effect";

export class RuntimeRefused extends Schema.TaggedError<RuntimeRefused>()("RuntimeRefused", {
  socket: Schema.String,
  errno: Schema.Number,
  detail: Schema.String,
}) {
  override get message(): string {
    return `${this.socket}: ${this.detail}`;
  }
}

export interface ContainerName {
  readonly name: string;
  /** compose project or swarm stack, null where there is none */
  readonly namespace: string | null;
}

const MAX_BYTES = 1024 * 1024;
const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;
const text = (value: unknown): string | null => (typeof value === "string" && value !== "" ? value : null);

/** The name in an answer of Docker's inspect call: compose and swarm labels before the container's own name. */
export const nameFromInspect = (body: unknown): ContainerName | null => {
  if (!isRecord(body)) return null;
  const config = isRecord(body["Config"]) ? body["Config"] : {};
  const labels = isRecord(config["Labels"]) ? config["Labels"] : {};
  const compose = text(labels["com.docker.compose.service"]);
  if (compose !== null) return { name: compose, namespace: text(labels["com.docker.compose.project"]) };
  const swarm = text(labels["com.docker.swarm.service.name"]);
  if (swarm !== null) return { name: swarm, namespace: text(labels["com.docker.stack.namespace"]) };
  const own = text(body["Name"])?.replace(/^\//, "") ?? null;
  return own === null ? null : { name: own, namespace: null };
};

/** Asks the runtime for one container; `null` when the runtime does not know it. */
export const inspectContainer = (socketPath: string, id: string): Effect.Effect<ContainerName | null, RuntimeRefused> =>
  Effect.async<ContainerName | null, RuntimeRefused>((resume) => {
    const refuse = (errno: number, detail: string): void =>
      resume(Effect.fail(new RuntimeRefused({ socket: socketPath, errno, detail })));
    const call = request({ socketPath, path: `/containers/${encodeURIComponent(id)}/json` }, (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on("data", (chunk: Buffer) => {
        size += chunk.length;
        if (size > MAX_BYTES) call.destroy(new Error(`answer above ${MAX_BYTES} bytes`));
        else chunks.push(chunk);
      });
      response.on("end", () => {
        if (response.statusCode === 404) return resume(Effect.succeed(null));
        if (response.statusCode !== 200) return refuse(0, `status ${response.statusCode ?? 0}`);
        try {
          resume(Effect.succeed(nameFromInspect(JSON.parse(Buffer.concat(chunks).toString("utf8")))));
        } catch (error) {
          refuse(0, error instanceof Error ? error.message : String(error));
        }
      });
    });
    call.on("error", (error: NodeJS.ErrnoException) => refuse(Math.abs(error.errno ?? 0), error.message));
    call.end();
    return Effect.sync(() => call.destroy());
  }).pipe(
    Effect.timeoutFail({
      duration: "2 seconds",
      onTimeout: () => new RuntimeRefused({ socket: socketPath, errno: 110, detail: "no answer within 2 s" }),
    }),
  );
