/**
 * Asks the container runtime for names in the background, a few at a time, each container once. Owned by the node agent's
 * scope. Where the socket is missing the answer is "no name" at once; after a refusal the runtime is left alone for a
 * minute. `refusal` says why names are missing, for the capability list.
 */
import { statSync } from "node:fs";
import { Effect, Queue, type Scope } from "effect";
import { errnoOf } from "../host/Reader.ts";
import { inspectContainer, type ContainerName } from "./ContainerNames.ts";

export interface ContainerNaming {
  readonly ask: (id: string) => void;
  readonly refusal: () => { readonly errno: number; readonly reason: string } | null;
}

const LEFT_ALONE_MS = 60_000;
const AT_ONCE = 4;
const MAX_WAITING = 1_000;

export const makeContainerNaming = (
  socket: string,
  monoMs: () => number,
  onName: (id: string, name: ContainerName | null) => void,
): Effect.Effect<ContainerNaming, never, Scope.Scope> =>
  Effect.gen(function* () {
    let refusal: { readonly errno: number; readonly reason: string } | null = null;
    let askAgainMs = Number.NEGATIVE_INFINITY;
    const refuse = (errno: number, reason: string): void => {
      refusal = { errno, reason };
      askAgainMs = monoMs() + LEFT_ALONE_MS;
    };
    const available = (): boolean => {
      if (monoMs() < askAgainMs) return false;
      try {
        statSync(socket);
        refusal = null;
        return true;
      } catch (error) {
        refuse(errnoOf(error), `no container runtime at ${socket}`);
        return false;
      }
    };
    available();
    const waiting = yield* Queue.dropping<string>(MAX_WAITING);
    const worker = Queue.take(waiting).pipe(
      Effect.flatMap((id) =>
        inspectContainer(socket, id).pipe(
          Effect.tap((name) => Effect.sync(() => onName(id, name))),
          Effect.catchAll((refused) =>
            Effect.sync(() => {
              refuse(refused.errno, refused.message);
              onName(id, null);
            }),
          ),
        ),
      ),
      Effect.forever,
    );
    yield* Effect.forEach(
      Array.from({ length: AT_ONCE }, () => worker),
      Effect.forkScoped,
      { discard: true },
    );
    return {
      ask: (id) => {
        if (!available() || !Queue.unsafeOffer(waiting, id)) onName(id, null);
      },
      refusal: () => refusal,
    };
  });
