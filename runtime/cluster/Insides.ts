/**
 * The inside of every replica, for the console: the actors of all of them in one table, one actor wherever it lives, one
 * message on its way through several servers, and an operator's hand. Asked only while somebody looks; a replica that
 * does not answer is left out of a table, and an error where it was meant.
 */
import { Effect } from "effect";
import type { ActorView, DeadLetterView, TraceHop } from "../../schemas/wire/page.ts";
import type { ActorSystemShape } from "../actor/ActorSystem.ts";
import type { ActorPath } from "../actor/Behavior.ts";
import type { Inspected } from "../actor/Watch.ts";
import type { ClusterShape } from "./Cluster.ts";

const WITHIN_MS = 1_500;

export const ACTIONS = ["pause", "resume", "drain", "restart"] as const;
export type Action = (typeof ACTIONS)[number];

export interface Insides {
  readonly views: Effect.Effect<readonly ActorView[]>;
  /** null: nobody has that path */
  readonly inspect: (path: ActorPath) => Effect.Effect<Inspected | null>;
  /** oldest first */
  readonly trace: (trace: number) => Effect.Effect<readonly TraceHop[]>;
  /** newest first */
  readonly deadLetters: Effect.Effect<readonly DeadLetterView[]>;
  /** name of the replica that did it; null: nobody has that path */
  readonly act: (action: Action, path: ActorPath) => Effect.Effect<string | null>;
}

const act = (system: ActorSystemShape, action: Action, path: ActorPath): boolean => {
  if (!system.has(path)) return false;
  switch (action) {
    case "pause":
      return system.pause(path, true);
    case "resume":
      return system.pause(path, false);
    case "restart":
      return system.restart(path);
    case "drain":
      system.stop(path);
      return true;
  }
};

const letters = (system: ActorSystemShape, node: string): DeadLetterView[] =>
  system.deadLetters().map((letter) => ({ ...letter, node }));

/** Answers a peer; null when the name is not one of these. */
export const answerInsides = (system: ActorSystemShape, node: string, name: string, argument: unknown): unknown => {
  switch (name) {
    case "views":
      return system.views();
    case "inspect":
      return { found: system.inspect(String(argument)) };
    case "trace":
      return system.trace(Number(argument));
    case "dead-letters":
      return letters(system, node);
    case "act": {
      const { action, path } = argument as { readonly action: Action; readonly path: string };
      return { done: act(system, action, path) };
    }
    default:
      return null;
  }
};

export const makeInsides = (
  system: ActorSystemShape,
  cluster: Pick<ClusterShape, "self" | "peers" | "query">,
): Insides => {
  const ofPeers = <A>(name: string, argument: unknown): Effect.Effect<readonly (readonly [string, A])[]> =>
    Effect.suspend(() =>
      Effect.forEach(
        cluster.peers().filter((peer) => peer.connected),
        ({ replica }) =>
          cluster.query(replica.id, name, argument, WITHIN_MS).pipe(
            Effect.map((answer) => [[replica.name, answer as A] as const]),
            Effect.catchAll((error) => Effect.as(Effect.logDebug(error.message), [])),
          ),
        { concurrency: "unbounded" },
      ),
    ).pipe(Effect.map((all) => all.flat()));
  const all = <A>(name: string, argument: unknown, ours: () => readonly A[]): Effect.Effect<A[]> =>
    Effect.map(ofPeers<readonly A[]>(name, argument), (theirs) => [...ours(), ...theirs.flatMap(([, list]) => list)]);

  return {
    views: all<ActorView>("views", null, system.views),
    inspect: (path) => {
      const here = system.inspect(path);
      if (here !== null) return Effect.succeed(here);
      return Effect.map(
        ofPeers<{ readonly found: Inspected | null }>("inspect", path),
        (answers) => answers.find(([, { found }]) => found !== null)?.[1].found ?? null,
      );
    },
    trace: (trace) =>
      Effect.map(
        all<TraceHop>("trace", trace, () => system.trace(trace)),
        (hops) => hops.sort((a, b) => a.at - b.at),
      ),
    deadLetters: Effect.map(
      all<DeadLetterView>("dead-letters", null, () => letters(system, cluster.self.name)),
      (list) => list.sort((a, b) => b.at - a.at),
    ),
    act: (action, path) =>
      act(system, action, path)
        ? Effect.succeed(cluster.self.name)
        : Effect.map(
            ofPeers<{ readonly done: boolean }>("act", { action, path }),
            (answers) => answers.find(([, { done }]) => done)?.[0] ?? null,
          ),
  };
};
