/**
 * What the kernel promises, under random messages, crashes, stops and full mailboxes: order per sender, exact accounting,
 * no message replayed that killed, snapshots kept, bounds held, every ask ended. Then a storm over a tree of 1,000.
 */
import { Effect, Either, type Scope } from "effect";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AskFailed, make, type ActorSystemShape } from "../../../runtime/actor/ActorSystem.ts";
import { sendDurably, type ActorEffect, type Behavior } from "../../../runtime/actor/Behavior.ts";
import { manualClock, type ManualClock } from "../../actors/ManualClock.ts";

const BOUND = 16;

interface SayWhat {
  readonly sender?: number;
  readonly n?: number;
  readonly weight?: number;
  readonly to?: string;
  readonly key?: string;
}
type SayType = "say" | "merge" | "old" | "die" | "keep" | "ask" | "silent" | "self-stop" | "pass" | "child-failed";
type Say = { [T in SayType]: SayWhat & { readonly type: T } }[SayType];
interface Heard {
  readonly order: Map<number, number[]>;
  weight: number;
  kept: number;
  deaths: number;
  children: number;
}

/** Every message that any actor handled to the end, in this process: outside of their states, which crashes lose. */
interface Ledger {
  readonly handled: Say[];
  readonly tried: Say[];
}

const listener = (ledger: Ledger): Behavior<Heard, Say, null> => {
  const refuse = "refuse";
  return {
    kind: "listener",
    mailbox: BOUND,
    messages: {
      say: refuse,
      merge: {
        merge: (waiting, incoming) => ({ ...incoming, weight: (waiting.weight ?? 1) + (incoming.weight ?? 1) }),
      },
      old: "drop-oldest",
      die: refuse,
      keep: refuse,
      ask: refuse,
      silent: refuse,
      "self-stop": refuse,
      pass: refuse,
      "child-failed": refuse,
    },
    ticks: false,
    initial: (_path, _argument, _now, snapshot) => [
      {
        order: new Map(),
        weight: 0,
        kept: typeof snapshot === "number" ? snapshot : 0,
        deaths: 0,
        children: 0,
      },
      [],
    ],
    step: (state, message) => {
      ledger.tried.push(message);
      const effects: ActorEffect[] = [];
      if (message.type === "die") throw new Error("poison", { cause: new Error("the cause") });
      if (message.type === "keep") {
        state.kept++;
        effects.push({ kind: "snapshot", value: state.kept, afterwards: [] });
      }
      if (message.type === "ask") effects.push({ kind: "reply", value: message.n });
      if (message.type === "self-stop") effects.push({ kind: "stop", path: message.to ?? "" });
      if (message.type === "pass") effects.push({ kind: "send", to: message.to ?? "", message: { type: "say" } });
      if (message.type === "child-failed") state.children++;
      if (message.key !== undefined && message.type === "say") effects.push({ kind: "done", key: message.key });
      state.weight += message.weight ?? 1;
      const list = state.order.get(message.sender ?? 0) ?? [];
      list.push(message.n ?? 0);
      state.order.set(message.sender ?? 0, list);
      ledger.handled.push(message);
      return [state, effects];
    },
    inspect: (state) => ({ ...state, order: Object.fromEntries(state.order) }),
  };
};

type World = { readonly system: ActorSystemShape; readonly ledger: Ledger; readonly time: ManualClock };

const inWorld = <A>(body: (world: World) => Effect.Effect<A, never, Scope.Scope>): Promise<A> => {
  const time = manualClock(1_000_000);
  const program = Effect.gen(function* () {
    const system = yield* make;
    const ledger: Ledger = { handled: [], tried: [] };
    system.register(listener(ledger));
    return yield* body({ system, ledger, time });
  });
  return Effect.runPromise(Effect.withClock(Effect.scoped(program), time.clock));
};

const view = (system: ActorSystemShape, path: string) => system.views().find((row) => row.path === path);

const stateOf = (system: ActorSystemShape, path: string): Heard => {
  const found = system.inspect(path);
  if (found === null) throw new Error(`there is no actor ${path}`);
  return found.state as Heard;
};

const told = fc.record({
  type: fc.constantFrom("say", "say", "say", "merge", "old", "die", "keep", "ask" as const),
  sender: fc.integer({ min: 1, max: 3 }),
  burst: fc.integer({ min: 1, max: 12 }),
  rest: fc.constantFrom(0, 0, 100, 1_500, 70_000),
});

describe("the kernel", () => {
  it("keeps each sender's order, loses nothing that it does not count, and never exceeds a mailbox", () =>
    fc.assert(
      fc.asyncProperty(fc.array(told, { minLength: 1, maxLength: 40 }), (bursts) =>
        inWorld(({ system, ledger, time }) =>
          Effect.gen(function* () {
            system.spawn("a", "listener", null);
            let n = 0;
            let sent = 0;
            let refused = 0;
            for (const { type, sender, burst, rest } of bursts) {
              for (let i = 0; i < burst; i++) {
                sent++;
                if (!system.tell("a", { type, sender, n: n++ } as Say)) refused++;
                expect(view(system, "a")?.mailbox ?? 0).toBeLessThanOrEqual(BOUND);
              }
              if (rest > 0) yield* time.advance(rest);
            }
            yield* time.advance(4 * 3600_000, 20_000);
            const row = view(system, "a");
            if (row === undefined) throw new Error("the actor is gone");
            const merged = row.merged;
            expect(ledger.handled.length + row.deadLetters + merged + row.shed).toBe(sent);
            expect(refused).toBeLessThanOrEqual(row.shed);
            // What was merged stands at the place of the newest that it took in; all others kept their order.
            for (const sender of [1, 2, 3]) {
              const order = ledger.handled
                .filter((message) => message.sender === sender && message.type !== "merge")
                .map((message) => message.n ?? 0);
              expect(order).toEqual(order.toSorted((x, y) => x - y));
            }
            const weight = ledger.handled.reduce((sum, message) => sum + (message.weight ?? 1), 0);
            expect(weight + row.deadLetters + row.shed).toBe(sent);
            // Nobody is told twice what killed it.
            const deaths = ledger.tried.filter((message) => message.type === "die").map((message) => message.n);
            expect(new Set(deaths).size).toBe(deaths.length);
          }),
        ),
      ),
      { numRuns: 40, endOnFailure: true },
    ));

  it("goes on from the last snapshot, whenever it dies", () =>
    fc.assert(
      fc.asyncProperty(fc.array(fc.constantFrom("keep", "say", "die" as const), { maxLength: 40 }), (what) =>
        inWorld(({ system, time }) =>
          Effect.gen(function* () {
            system.spawn("a", "listener", null);
            for (const type of what) {
              system.tell("a", { type } as Say);
              yield* time.advance(100);
            }
            yield* time.advance(4 * 3600_000, 20_000);
            expect(stateOf(system, "a").kept).toBe(what.filter((type) => type === "keep").length);
          }),
        ),
      ),
      { numRuns: 30, endOnFailure: true },
    ));

  it("ends every ask: with its answer, or when the actor stops, or when the system does", () =>
    inWorld(({ system, time }) =>
      Effect.gen(function* () {
        system.spawn("a", "listener", null);
        const asks = yield* Effect.all(
          [
            system.ask("a", { type: "ask", n: 7 } as Say, 60_000),
            system.ask("a", { type: "silent" } as Say, 60_000),
            system.ask("a", { type: "self-stop", to: "a" } as Say, 60_000),
          ].map((ask) => Effect.fork(Effect.either(ask))),
        );
        yield* time.advance(200);
        const answers = yield* Effect.forEach(asks, (fiber) => fiber.await.pipe(Effect.flatten, Effect.orDie));
        expect(answers.map((answer) => (Either.isRight(answer) ? answer.right : answer.left.message))).toEqual([
          7,
          "ask a: the actor was stopped",
          "ask a: the actor was stopped",
        ]);
        const late = yield* Effect.flip(system.ask("a", { type: "ask" } as Say, 1_000)).pipe(Effect.orDie);
        expect(late).toBeInstanceOf(AskFailed);
      }),
    ));

  it("handles what waits before it stops, and takes nothing new", () =>
    inWorld(({ system, ledger, time }) =>
      Effect.gen(function* () {
        system.spawn("a", "listener", null);
        for (let n = 0; n < 10; n++) system.tell("a", { type: "say", n } as Say);
        system.stop("a");
        expect(system.tell("a", { type: "say", n: 99 } as Say)).toBe(false);
        yield* time.advance(200);
        expect(ledger.handled.map(({ n }) => n)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        expect(system.has("a")).toBe(false);
        expect(system.deadLetters().at(-1)).toMatchObject({ reason: "the actor is stopping" });
      }),
    ));

  it("refuses a message of a type that the actor does not know, and touches nothing", () =>
    inWorld(({ system, ledger, time }) =>
      Effect.gen(function* () {
        system.spawn("a", "listener", null);
        const answer = yield* Effect.fork(Effect.flip(system.ask("a", { type: "from-next-year" }, 1_000)));
        yield* time.advance(100);
        const error = yield* answer.await.pipe(Effect.flatten, Effect.orDie);
        expect(error.message).toContain("listener knows no message of type from-next-year");
        expect(ledger.tried).toEqual([]);
        expect(view(system, "a")).toMatchObject({ restarts: 0, state: "idle" });
      }),
    ));

  it("tells the nearest parent that knows what to do about a child that keeps failing, else whoever looks", () =>
    inWorld(({ system, time }) =>
      Effect.gen(function* () {
        system.spawn("parent", "listener", null);
        system.spawn("parent/child", "listener", null, "parent");
        system.spawn("orphan", "listener", null);
        for (let i = 0; i < 60; i++) {
          system.tell("parent/child", { type: "die" } as Say);
          system.tell("orphan", { type: "die" } as Say);
          yield* time.advance(1_000);
        }
        for (let i = 0; i < 20; i++) {
          for (let k = 0; k < 5; k++)
            for (const path of ["parent/child", "orphan"]) system.tell(path, { type: "die" } as Say);
          yield* time.advance(30_000);
        }
        expect(stateOf(system, "parent").children).toBeGreaterThan(0);
        expect(system.failing().map(({ path }) => path)).toEqual(["orphan"]);
        expect(view(system, "orphan")?.lastError).toContain("the cause");
        yield* time.advance(6 * 3600_000, 20_000);
        expect(system.failing()).toEqual([]);
      }),
    ));

  it("hands a durable message over again after a crash, never the one that crashed it, and says how each ended", () =>
    inWorld(({ system, ledger, time }) =>
      Effect.gen(function* () {
        system.spawn("a", "listener", null);
        const ends: string[] = [];
        const deliver = (key: string, message: Say): void =>
          system.deliver("a", message, key, (how) => void ends.push(`${key} ${how}`));
        deliver("slow", { type: "silent", n: 1 });
        deliver("bad", { type: "die", n: 2 });
        deliver("good", { type: "say", n: 3, key: "good" });
        yield* time.advance(300);
        expect(ends.toSorted()).toEqual(["bad poison", "good done"]);
        // It was handled, and not done when the actor fell: so once more.
        expect(ledger.tried.filter(({ n }) => n === 1)).toHaveLength(2);
        expect(ledger.tried.filter(({ n }) => n === 2)).toHaveLength(1);
        system.stop("a");
        yield* time.advance(300);
        expect(ends).toContain("slow again");
      }),
    ));

  it("shares one trace among all that a message led to", () =>
    inWorld(({ system, time }) =>
      Effect.gen(function* () {
        system.spawn("a", "listener", null);
        system.spawn("b", "listener", null);
        system.views();
        system.tell("a", { type: "pass", to: "b" } as Say);
        yield* time.advance(200);
        const trace = system.inspect("a")?.recent.at(-1)?.trace ?? 0;
        expect(system.trace(trace).map(({ path, type }) => `${path} ${type}`)).toEqual(["a pass", "b say"]);
        system.tell("a", { type: "say" } as Say);
        yield* time.advance(200);
        expect(system.inspect("a")?.recent.at(-1)?.trace).not.toBe(trace);
      }),
    ));

  it("holds a paused actor's messages, and lets it go on or start anew by hand", () =>
    inWorld(({ system, ledger, time }) =>
      Effect.gen(function* () {
        system.spawn("a", "listener", null);
        expect(system.pause("a", true)).toBe(true);
        system.tell("a", { type: "say", n: 1 } as Say);
        yield* time.advance(500);
        expect(ledger.handled).toEqual([]);
        expect(view(system, "a")).toMatchObject({ state: "paused", mailbox: 1 });
        system.pause("a", false);
        yield* time.advance(100);
        expect(ledger.handled).toHaveLength(1);
        expect(system.restart("a")).toBe(true);
        expect(view(system, "a")).toMatchObject({ restarts: 1 });
        expect(stateOf(system, "a").weight).toBe(0);
        expect(system.pause("nobody", true)).toBe(false);
      }),
    ));
});

describe("a storm", () => {
  it(
    "over a tree of 1,000 actors for thirty seconds leaves every promise kept",
    () =>
      inWorld(({ system, ledger, time }) =>
        Effect.gen(function* () {
          let seed = 7;
          const chance = (): number => {
            seed = (seed * 16_807) % 2_147_483_647;
            return seed / 2_147_483_647;
          };
          const some = (most: number): number => Math.floor(chance() * most);
          const paths: string[] = [];
          const parentOf = (i: number): string => `root/p${i % 30}`;
          system.spawn("root", "listener", null);
          for (let i = 0; i < 30; i++) system.spawn(`root/p${i}`, "listener", null, "root");
          for (let i = 0; i < 969; i++) {
            const path = `${parentOf(i)}/c${i}`;
            paths.push(path);
            system.spawn(path, "listener", null, parentOf(i));
          }
          const kept = new Map<string, number>();
          let asked = 0;
          let ended = 0;
          let n = 0;
          for (let beat = 0; beat < 300; beat++) {
            for (let i = 0; i < 150; i++) {
              const path = paths[some(paths.length)] ?? "";
              const dice = chance();
              if (dice < 0.03) system.tell(path, { type: "die", n: n++ } as Say);
              else if (dice < 0.035) {
                system.stop(path);
                kept.delete(path);
                system.spawn(path, "listener", null, "root");
              } else if (dice < 0.1) {
                if (system.tell(path, { type: "keep", n: n++ } as Say)) kept.set(path, (kept.get(path) ?? 0) + 1);
              } else if (dice < 0.15) {
                asked++;
                yield* system.ask(path, { type: chance() < 0.5 ? "ask" : "silent", n: n++ } as Say, 2_000).pipe(
                  Effect.either,
                  Effect.tap(() => Effect.sync(() => ended++)),
                  Effect.fork,
                );
              } else system.tell(path, { type: "pass", to: paths[some(paths.length)] ?? "", n: n++, sender: 1 } as Say);
            }
            yield* time.advance(100);
            if (beat % 50 === 0)
              for (const row of system.views()) expect(row.mailbox).toBeLessThanOrEqual(row.mailboxBound);
          }
          yield* time.advance(4 * 3600_000, 20_000);
          expect(ended).toBe(asked);
          const rows = system.views();
          for (const row of rows) expect(row).toMatchObject({ mailbox: 0, state: "idle" });
          expect(rows.length).toBeGreaterThanOrEqual(990);
          expect(rows.some((row) => row.restarts > 0)).toBe(true);
          const deaths = ledger.tried.filter((message) => message.type === "die").map((message) => message.n);
          expect(deaths.length).toBeGreaterThan(100);
          expect(new Set(deaths).size).toBe(deaths.length);
        }),
      ),
    60_000,
  );
});

describe("durable words", () => {
  it("are ordinary ones where nobody keeps them", () => {
    expect(sendDurably("a", { type: "x" }, "k")).toEqual({
      kind: "send",
      to: "a",
      message: { type: "x" },
      durable: "k",
    });
  });
});
