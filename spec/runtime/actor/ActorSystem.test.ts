import { it } from "@effect/vitest";
import { Effect, Fiber, TestClock } from "effect";
import fc from "fast-check";
import { describe, expect } from "vitest";
import { make } from "../../../runtime/actor/ActorSystem.ts";
import type { ActorEffect, Behavior, Message } from "../../../runtime/actor/Behavior.ts";

interface Add extends Message {
  readonly type: "add";
  readonly n: number;
}
interface Other extends Message {
  readonly type: "die" | "sum" | "keep" | "later" | "order" | "tick" | "silent";
  readonly from?: number;
  readonly n?: number;
}
interface Sum {
  total: number;
  ticks: number;
  readonly order: Map<number, number[]>;
}

const adder: Behavior<Sum, Add | Other, number> = {
  kind: "adder",
  mailbox: 8,
  ticks: true,
  initial: (_path, first, _now, snapshot) => [
    { total: typeof snapshot === "number" ? snapshot : first, ticks: 0, order: new Map() },
    [],
  ],
  step: (state, message) => {
    const effects: ActorEffect[] = [];
    switch (message.type) {
      case "add":
        state.total += message.n;
        break;
      case "die":
        state.total = Number.NaN;
        throw new Error("poison");
      case "sum":
        effects.push({ kind: "reply", value: state.total });
        break;
      case "keep":
        effects.push({ kind: "snapshot", value: state.total });
        break;
      case "later":
        effects.push({ kind: "schedule", key: "later", afterMs: 5_000, message: { type: "add", n: 100 } as Add });
        break;
      case "order": {
        const list = state.order.get(message.from ?? 0) ?? [];
        list.push(message.n ?? 0);
        state.order.set(message.from ?? 0, list);
        break;
      }
      case "tick":
        state.ticks++;
        break;
      case "silent":
        break;
    }
    return [state, effects];
  },
  messages: {
    add: { merge: (waiting, incoming) => ({ type: "add", n: waiting.n + incoming.n }) },
    die: "refuse",
    sum: "refuse",
    keep: "refuse",
    later: "refuse",
    order: "refuse",
    tick: "refuse",
    silent: "refuse",
  },
  inspect: (state) => ({ total: state.total, order: Object.fromEntries(state.order), apiKey: "hunter2" }),
};

const started = Effect.gen(function* () {
  const system = yield* make;
  system.register(adder);
  system.spawn("a", "adder", 0);
  return system;
});

const add = (n: number): Add => ({ type: "add", n });
const other = (type: Other["type"]): Other => ({ type });

describe("actor system", () => {
  it.scoped("handles messages of one sender in order and answers asks", () =>
    Effect.gen(function* () {
      const system = yield* started;
      system.tell("a", add(1));
      system.tell("a", add(2));
      expect(yield* system.ask("a", other("sum"), 1_000)).toBe(3);
    }),
  );

  it.scoped("goes on from its snapshot after a failure and never replays the message that killed", () =>
    Effect.gen(function* () {
      const system = yield* started;
      system.tell("a", add(5));
      system.tell("a", other("keep"));
      system.tell("a", add(7));
      system.tell("a", other("die"));
      system.tell("a", add(1));
      expect(yield* system.ask("a", other("sum"), 1_000)).toBe(6);
      expect(system.deadLetters().map((letter) => letter.type)).toEqual(["die"]);
      expect(system.views()[0]).toMatchObject({
        restarts: 1,
        lastError: expect.stringMatching(/^Error: poison at .*step \(ActorSystem\.test\.ts:\d+:\d+\)$/) as string,
      });
    }),
  );

  it.scoped("quarantines after three restarts in a minute, keeps what waits, and comes back", () =>
    Effect.gen(function* () {
      const system = yield* started;
      for (let i = 0; i < 4; i++) system.tell("a", other("die"));
      yield* system.idle.pipe(
        Effect.fork,
        Effect.flatMap((f) => Effect.zipRight(TestClock.adjust(5), Fiber.join(f))),
      );
      expect(system.views()[0]?.state).toBe("quarantined");
      system.tell("a", add(3));
      expect(system.views()[0]?.mailbox).toBe(1);
      yield* TestClock.adjust(1_500);
      expect(yield* system.ask("a", other("sum"), 1_000)).toBe(3);
    }),
  );

  it.scoped("merges what can be merged when the mailbox is full and counts what it sheds", () =>
    Effect.gen(function* () {
      const system = yield* started;
      for (let i = 0; i < 100; i++) system.tell("a", add(1));
      for (let i = 0; i < 5; i++) system.tell("a", other("silent"));
      const view = system.views()[0];
      expect(view?.mailbox).toBeLessThanOrEqual(8);
      expect(view).toMatchObject({ merged: 92, shed: 5 });
      yield* Effect.yieldNow();
      expect(yield* system.ask("a", other("sum"), 1_000)).toBe(100);
    }),
  );

  it.scoped("fails an ask that nobody answers in time, and one to nobody at once", () =>
    Effect.gen(function* () {
      const system = yield* started;
      const unanswered = yield* Effect.fork(Effect.flip(system.ask("a", other("silent"), 2_000)));
      yield* TestClock.adjust(2_200);
      expect((yield* Fiber.join(unanswered)).message).toContain("within 2000 ms");
      expect((yield* Effect.flip(system.ask("nobody", other("sum"), 1_000))).message).toContain("nobody has this path");
    }),
  );

  it.scoped("delivers scheduled messages and a tick a second", () =>
    Effect.gen(function* () {
      const system = yield* started;
      system.tell("a", other("later"));
      yield* TestClock.adjust(4_800);
      expect(yield* system.ask("a", other("sum"), 1_000)).toBe(0);
      yield* TestClock.adjust(400);
      expect(yield* system.ask("a", other("sum"), 1_000)).toBe(100);
    }),
  );

  it.scoped("masks secrets in what the console sees", () =>
    Effect.gen(function* () {
      const system = yield* started;
      expect(system.inspect("a")?.state).toMatchObject({ apiKey: "•••" });
    }),
  );

  it.effect("keeps each sender's order, and loses no message that it does not count", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(fc.array(fc.nat({ max: 4 }), { maxLength: 60 }), (senders) =>
          Effect.runPromise(
            Effect.scoped(
              Effect.gen(function* () {
                const system = yield* started;
                let kept = 0;
                for (const [n, from] of senders.entries()) {
                  if (system.tell("a", { type: "order", from, n } as Other)) kept++;
                  if (n % 7 === 0) yield* Effect.yieldNow();
                }
                yield* system.idle;
                const state = system.inspect("a")?.state as { order: Record<string, number[]> };
                const seen = Object.values(state.order);
                expect(seen.flat().length).toBe(kept);
                for (const list of seen) expect(list).toEqual([...list].sort((x, y) => x - y));
                expect(system.views()[0]?.shed).toBe(senders.length - kept);
              }),
            ),
          ),
        ),
        { numRuns: 30 },
      ),
    ),
  );
});
