/** The inside of several replicas as one: tables of all, one actor wherever it lives, a hand that reaches it. */
import { it } from "@effect/vitest";
import { Effect } from "effect";
import { describe, expect } from "vitest";
import { make, type ActorSystemShape } from "../../../runtime/actor/ActorSystem.ts";
import type { Behavior, Message } from "../../../runtime/actor/Behavior.ts";
import { ACTIONS, answerInsides, makeInsides, type Insides } from "../../../runtime/cluster/Insides.ts";
import { QueryFailed, type PeerState } from "../../../runtime/cluster/Mesh.ts";

interface Note extends Message {
  readonly type: "note";
}
const NOTE: Note = { type: "note" };
const pad: Behavior<{ notes: number }, Note, null> = {
  kind: "pad",
  mailbox: 16,
  ticks: false,
  initial: () => [{ notes: 0 }, []],
  step: (state) => [{ notes: state.notes + 1 }, []],
  messages: { note: "refuse" },
  inspect: (state) => state,
};

const replica = (name: string) =>
  Effect.gen(function* () {
    const system = yield* make;
    system.connect({ node: name });
    system.register(pad);
    system.spawn(`pad/${name}`, "pad", null);
    return system;
  });

interface Two {
  readonly n1: ActorSystemShape;
  readonly n2: ActorSystemShape;
  readonly insides: Insides;
  /** the other replica answers no more */
  readonly silence: () => void;
}

/** Two replicas, seen from the first; what they say to each other is copied, as between processes. */
const two = Effect.gen(function* () {
  const n1 = yield* replica("n1");
  const n2 = yield* replica("n2");
  let silent = false;
  const state = { connected: true, lostAt: null, refusals: 0, dead: false };
  const peers = (): readonly PeerState[] => [
    { ...state, replica: { id: "2", name: "n2", url: "" } },
    { ...state, connected: false, replica: { id: "3", name: "n3", url: "" } },
  ];
  const insides = makeInsides(n1, {
    self: { id: "1", name: "n1", url: "" },
    peers,
    query: (id, name, argument) =>
      silent || id !== "2"
        ? Effect.fail(new QueryFailed({ message: `${id} does not answer` }))
        : Effect.sync(() => JSON.parse(JSON.stringify(answerInsides(n2, "n2", name, argument))) as unknown),
  });
  return { n1, n2, insides, silence: () => (silent = true) } satisfies Two;
});

const rowOf = (system: ActorSystemShape, path: string) => system.views().find((view) => view.path === path);

describe("the inside of two replicas", () => {
  it.scoped("is one table, one list of dead letters, newest first", () =>
    Effect.gen(function* () {
      const { n1, n2, insides } = yield* two;
      n1.tell("gone", NOTE);
      n2.tell("lost", NOTE);
      expect((yield* insides.views).map(({ path, node }) => `${path} on ${node}`)).toEqual([
        "pad/n1 on n1",
        "pad/n2 on n2",
      ]);
      expect((yield* insides.deadLetters).map(({ to, node }) => `${to} on ${node}`).sort()).toEqual([
        "gone on n1",
        "lost on n2",
      ]);
    }),
  );

  it.scoped("shows an actor wherever it lives", () =>
    Effect.gen(function* () {
      const { insides } = yield* two;
      expect(yield* insides.inspect("pad/n1")).toMatchObject({ row: { node: "n1" }, state: { notes: 0 } });
      expect(yield* insides.inspect("pad/n2")).toMatchObject({ row: { node: "n2" }, state: { notes: 0 } });
      expect(yield* insides.inspect("pad/n9")).toBeNull();
    }),
  );

  it.scoped("reaches an actor wherever it lives, and says where that is", () =>
    Effect.gen(function* () {
      const { n1, n2, insides } = yield* two;
      for (const [system, name] of [
        [n1, "n1"],
        [n2, "n2"],
      ] as const) {
        const path = `pad/${name}`;
        expect(yield* insides.act("pause", path)).toBe(name);
        expect(rowOf(system, path)?.state).toBe("paused");
        expect(yield* insides.act("resume", path)).toBe(name);
        expect(rowOf(system, path)?.state).toBe("idle");
        expect(yield* insides.act("restart", path)).toBe(name);
        expect(rowOf(system, path)?.restarts).toBe(1);
        expect(yield* insides.act("drain", path)).toBe(name);
        expect(system.has(path)).toBe(false);
      }
      for (const action of ACTIONS) expect(yield* insides.act(action, "pad/n9")).toBeNull();
    }),
  );

  it.scoped("leaves out a replica that does not answer", () =>
    Effect.gen(function* () {
      const { n1, insides, silence } = yield* two;
      silence();
      n1.tell("gone", NOTE);
      expect((yield* insides.views).map(({ node }) => node)).toEqual(["n1"]);
      expect((yield* insides.deadLetters).map(({ node }) => node)).toEqual(["n1"]);
    }),
  );
});
