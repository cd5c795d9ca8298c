import { Deferred, Effect, Fiber } from "effect";
import { describe, expect, it } from "vitest";
import { BULK, TurnScheduler } from "../../../runtime/actor/TurnScheduler.ts";

/** A scheduler whose clock and turns are the spec's. */
const make = () => {
  let now = 0;
  const turns: (() => void)[] = [];
  const scheduler = new TurnScheduler(
    () => now,
    (run) => turns.push(run),
  );
  return {
    scheduler,
    work: (ms: number) => (now += ms),
    turn: () => turns.shift()?.(),
    turnsAsked: () => turns.length,
  };
};
const microtasks = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("the turns of the event loop", () => {
  it("run what is told in order, without waiting for the next one", async () => {
    const { scheduler } = make();
    const ran: number[] = [];
    for (let i = 0; i < 3_000; i++) scheduler.scheduleTask(() => ran.push(i), BULK);
    await microtasks();
    expect(ran).toEqual(Array.from({ length: 3_000 }, (_, i) => i));
  });

  it("are handed on when their slice is used up, and lose nothing", async () => {
    const { scheduler, work, turn } = make();
    const ran: number[] = [];
    for (let i = 0; i < 100; i++)
      scheduler.scheduleTask(() => {
        ran.push(i);
        work(1);
      }, BULK);
    await microtasks();
    expect(ran).toHaveLength(5);
    // told in the same turn: its slice is over
    scheduler.scheduleTask(() => ran.push(100), BULK);
    await microtasks();
    expect(ran).toHaveLength(5);
    for (let turns = 0; turns < 30; turns++) turn();
    expect(ran).toEqual(Array.from({ length: 101 }, (_, i) => i));
  });

  it("go on when the last task ended the slice", async () => {
    const { scheduler, work, turn } = make();
    scheduler.scheduleTask(() => work(100), BULK);
    await microtasks();
    turn();
    let ran = false;
    scheduler.scheduleTask(() => (ran = true), BULK);
    await microtasks();
    expect(ran).toBe(true);
  });

  it("belong to the few before the bulk, also to those who come while others wait", async () => {
    const { scheduler, work, turn } = make();
    const ran: string[] = [];
    for (let i = 0; i < 20; i++)
      scheduler.scheduleTask(() => {
        ran.push("bulk");
        work(2);
      }, BULK);
    await microtasks();
    const before = ran.length;
    expect(before).toBeLessThan(20);
    scheduler.scheduleTask(() => ran.push("other"), 0);
    turn();
    expect(ran[before]).toBe("other");
  });

  it("are short while connections come, one of which is accepted in each", async () => {
    const { scheduler, work, turn } = make();
    let ran = 0;
    for (let i = 0; i < 20; i++)
      scheduler.scheduleTask(() => {
        ran++;
        work(1);
      }, BULK);
    scheduler.hurry();
    await microtasks();
    expect(ran).toBe(1);
    turn();
    expect(ran).toBe(2);
    work(100);
    turn();
    expect(ran).toBe(7);
  });

  it("ask for one turn at a time", async () => {
    const { scheduler, turn, turnsAsked } = make();
    for (let i = 0; i < 5; i++) {
      scheduler.scheduleTask(() => undefined, BULK);
      await microtasks();
    }
    expect(turnsAsked()).toBe(1);
    turn();
    expect(turnsAsked()).toBe(0);
  });

  it("leave room for sockets and timers while fibers are busy", async () => {
    const rounds = await Effect.runPromise(
      Effect.gen(function* () {
        const done = yield* Deferred.make<void>();
        let count = 0;
        const aMillisecond = Effect.sync(() => {
          count++;
          for (const until = performance.now() + 1; performance.now() < until; );
        });
        const busy = yield* Effect.fork(Effect.forever(Effect.zipRight(aMillisecond, Effect.yieldNow())));
        setTimeout(() => Effect.runFork(Deferred.succeed(done, undefined)), 20);
        yield* Deferred.await(done);
        yield* Fiber.interrupt(busy);
        return count;
      }).pipe(Effect.withScheduler(new TurnScheduler())),
    );
    // Effect's own scheduler gives it 2,048
    expect(rounds).toBeGreaterThan(0);
    expect(rounds).toBeLessThan(1_000);
  });
});
