import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { GoawayBody, ServerHelloBody } from "../../../../schemas/wire/link.ts";
import {
  backoffMs,
  initialLink,
  KEPT_MS,
  RING,
  SILENCE_MS,
  SLOW_RETRY_MS,
  stepLink,
  type LinkInput,
  type LinkOutput,
  type LinkState,
  type Numbered,
} from "../../../../agent/node/link/step.ts";

const sent = (outputs: readonly LinkOutput<Numbered>[]) =>
  outputs.flatMap((output) => (output.type === "observe" ? [output.window.window] : []));
const window = (n: number) => ({ type: "window", window: { window: n, monoMs: n * 1000 } }) as const;
const ack = (upTo: number, epoch = 7) =>
  ({ type: "ack", ack: { lane: "observe", epoch, upTo, echoMonoMs: 0, serverMs: 5000 } }) as const;

const bed = (servers = 1) => {
  let state: LinkState<Numbered> = initialLink(7, servers);
  const feed = (nowMs: number, ...inputs: LinkInput<Numbered>[]): LinkOutput<Numbered>[] =>
    inputs.flatMap((input) => {
      const [next, outputs] = stepLink(state, input, nowMs);
      state = next;
      return outputs;
    });
  const connect = (nowMs: number, frames = 10, have?: ServerHelloBody["have"], serverMs = nowMs + 498_990) =>
    feed(
      nowMs,
      { type: "tick", random: 0 },
      { type: "opened" },
      { type: "greeted", serverId: "s", serverMs, ...(have === undefined ? {} : { have }) },
      {
        type: "credit",
        credit: { lane: "observe", frames },
      },
    );
  return { feed, sent, window, ack, connect, state: () => state };
};

describe("link", () => {
  it("greets, then sends only what credit allows, and goes on with every acknowledgement", () => {
    const { feed, sent, window, ack, connect } = bed();
    expect(connect(0, 0).map(({ type }) => type)).toEqual(["dial", "greet", "say", "store"]);
    expect(sent(feed(0, window(0), window(1), window(2)))).toEqual([]);
    expect(sent(feed(0, { type: "credit", credit: { lane: "observe", frames: 2 } }))).toEqual([0, 1]);
    expect(sent(feed(0, ack(0)))).toEqual([2]);
    expect(sent(feed(0, { type: "credit", credit: { lane: "observe", frames: 0 } }, window(3)))).toEqual([]);
  });

  it("sends again in order what was not acknowledged, once the new connection greets and grants", () => {
    const { feed, sent, window, ack, connect, state } = bed();
    connect(0);
    feed(0, window(0), window(1), window(2), ack(0));
    feed(100, { type: "closed", reason: "reset", random: 0.5 });
    expect(sent(feed(200, window(3)))).toEqual([]);
    expect(sent(connect(60_000))).toEqual([1, 2, 3]);
    expect(state().counters).toMatchObject({ windowsResent: 2, windowsDropped: 0, connects: 2 });
  });

  it("ignores acknowledgements of another life", () => {
    const { feed, window, ack, connect, state } = bed();
    connect(0);
    feed(0, window(0), ack(0, 6));
    expect(state().ring).toHaveLength(1);
  });

  it("keeps the last four minutes while the server is away and counts the rest", () => {
    const { feed, sent, window, connect, state } = bed();
    for (let i = 0; i < RING + 15; i++) feed(0, window(i));
    expect(state().counters.windowsDropped).toBe(15);
    expect(sent(connect(0, 1000))).toEqual(Array.from({ length: RING }, (_, i) => i + 15));
  });

  it("has no more under way than it was granted, also when its memory is full", () => {
    const { feed, sent, window, ack, connect, state } = bed();
    expect(sent(connect(0, 4))).toEqual([]);
    expect(Array.from({ length: RING }, (_, i) => sent(feed(0, window(i)))).flat()).toEqual([0, 1, 2, 3]);
    expect(sent(feed(0, window(RING), window(RING + 1)))).toEqual([]);
    expect(state().counters.windowsDropped).toBe(2);
    expect(sent(feed(0, ack(0)))).toEqual([6]);
  });

  it("comes back slowly after a wrong key or version and says what to do", () => {
    const { feed, connect, state } = bed();
    connect(0);
    const outputs = feed(
      0,
      { type: "goaway", goaway: { code: "key", message: "unknown key", retryAfterMs: 0 } },
      { type: "closed", reason: "closed", random: 0 },
    );
    const said = outputs.flatMap((output) => (output.type === "say" ? [output.text] : [])).join("\n");
    expect(said).toContain("check the agent's key file");
    expect(said).toContain("unknown key");
    expect(feed(SLOW_RETRY_MS - 1, { type: "tick", random: 0 })).toEqual([]);
    expect(feed(SLOW_RETRY_MS, { type: "tick", random: 0 })).toEqual([{ type: "dial", server: 0 }]);
    expect(state().phase).toBe("connecting");
  });

  it("honours the server's wish when it shuts down", () => {
    const { feed, connect } = bed();
    connect(0);
    feed(
      0,
      { type: "goaway", goaway: { code: "shutdown", message: "restart", retryAfterMs: 2000 } },
      { type: "closed", reason: "", random: 0 },
    );
    expect(feed(1999, { type: "tick", random: 0 })).toEqual([]);
    expect(feed(2000, { type: "tick", random: 0 })).toEqual([{ type: "dial", server: 0 }]);
  });

  it("gives a silent server up, in greeting and in traffic", () => {
    const { feed, window, connect } = bed();
    feed(0, { type: "tick", random: 0 }, { type: "opened" });
    expect(feed(10_001, { type: "tick", random: 0 })[0]).toMatchObject({ type: "close" });
    feed(10_001, { type: "closed", reason: "", random: 0 });
    connect(10_001);
    feed(10_002, window(1));
    expect(feed(10_002 + SILENCE_MS, { type: "tick", random: 0 }).some(({ type }) => type === "close")).toBe(false);
    // a server that is behind grants again what it had granted
    feed(10_003 + SILENCE_MS, { type: "credit", credit: { lane: "observe", frames: 8 } });
    expect(feed(10_003 + SILENCE_MS, { type: "tick", random: 0 }).some(({ type }) => type === "close")).toBe(false);
    expect(feed(10_004 + 2 * SILENCE_MS, { type: "tick", random: 0 })[0]).toMatchObject({ type: "close" });
  });

  it("measures the offset between the server's clock and its own", () => {
    const { feed, connect, state } = bed();
    connect(0);
    feed(1040, { type: "ack", ack: { lane: "observe", epoch: 7, upTo: 0, echoMonoMs: 1000, serverMs: 500_020 } });
    expect([state().offsetMs, state().roundTripMs]).toEqual([499_000, 40]);
    // A slower echo tells less.
    feed(3000, { type: "ack", ack: { lane: "observe", epoch: 7, upTo: 1, echoMonoMs: 1000, serverMs: 9 } });
    expect(state().offsetMs).toBe(499_000);
  });

  it("times a window when it is first sent, and not anew for a server whose clock is another", () => {
    const { feed, window, connect, state } = bed();
    const times = (outputs: readonly LinkOutput<Numbered>[]) =>
      outputs.flatMap((output) => (output.type === "observe" ? [output.window.serverMs] : []));
    // Before the first greeting nobody knows the server's time.
    feed(2_100, window(2));
    expect(state().ring[0]?.serverMs).toBeUndefined();
    expect(times(connect(2_100, 10, undefined, 1_002_200))).toEqual([1_002_500]);
    // A window that ends a little late or early is of the second after the one before.
    expect(times(feed(3_000, { type: "window", window: { window: 3, monoMs: 3_900 } }))).toEqual([1_003_500]);
    feed(3_500, { type: "closed", reason: "reset", random: 0 });
    feed(4_000, window(4));
    const elsewhere = connect(60_000, 10, undefined, 3_060_000);
    expect(times(elsewhere)).toEqual([1_002_500, 1_003_500, 3_004_500]);
  });

  it("takes a greeting's time where it knows nothing better, or the clock is another", () => {
    const { feed, connect, state } = bed();
    connect(0, 10, undefined, 500_000);
    expect(state().offsetMs).toBe(500_000);
    feed(1040, { type: "ack", ack: { lane: "observe", epoch: 7, upTo: 0, echoMonoMs: 1000, serverMs: 501_500 } });
    expect(state().offsetMs).toBe(500_480);
    const again = (nowMs: number, serverMs: number): number | null => {
      feed(nowMs, { type: "closed", reason: "", random: 0 });
      connect(nowMs, 10, undefined, serverMs);
      return state().offsetMs;
    };
    // It was three seconds under way.
    expect(again(10_000, 507_480)).toBe(500_480);
    expect(again(20_000, 521_000)).toBe(501_000);
    expect(again(30_000, 430_000)).toBe(400_000);
  });

  it("waits longer with each failure, with full jitter and a bound (property)", () => {
    fc.assert(
      fc.property(fc.nat({ max: 100 }), fc.double({ min: 0, max: 1, noNaN: true }), (attempts, random) => {
        const wait = backoffMs(attempts, random);
        return wait >= 0 && wait <= 30_000 && wait <= 500 * 2 ** attempts;
      }),
    );
    expect(backoffMs(3, 1)).toBe(4000);
  });

  it("delivers every window at least once and in order, whatever drops (property)", () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom("window", "drop", "ack", "connect"), { maxLength: 50 }), (events) => {
        const { feed, sent, window, ack, connect, state } = bed();
        let n = 0;
        let now = 0;
        let received = -1;
        const got = new Set<number>();
        const take = (outputs: readonly LinkOutput<Numbered>[]) => {
          for (const one of sent(outputs)) {
            // On one connection windows come in order; the server keeps what is newer than its mark.
            expect(one === received + 1 || one <= received).toBe(true);
            received = Math.max(received, one);
            got.add(one);
          }
        };
        for (const event of [...events, "drop", "connect"]) {
          now += 40_000;
          if (event === "window") take(feed(now, window(n++)));
          else if (event === "drop") feed(now, { type: "closed", reason: "", random: 0 });
          else if (event === "ack" && state().phase === "ready") take(feed(now, ack(received)));
          else if (event === "connect" && state().phase === "idle") take(connect(now, 1000));
        }
        expect([...got].toSorted((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i));
      }),
    );
  });
});

const closed = { type: "closed", reason: "gone", random: 0.5 } as const;
const away = (code: GoawayBody["code"], retryAfterMs: number) =>
  ({ type: "goaway", goaway: { code, message: "", retryAfterMs } }) as const;

describe("windows that were acknowledged", () => {
  /** `n` windows, one a second from 0, all of them acknowledged at once; `at` is then. */
  const acknowledged = (n: number) => {
    const made = bed();
    made.connect(0, 1000);
    for (let i = 0; i < n; i++) made.feed(i * 1000, made.window(i), made.ack(i));
    return { ...made, at: n * 1000 };
  };
  const upTo = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

  it("are sent again as far as they are three minutes old to a server that has none, before what is new", () => {
    const { feed, connect, state, at } = acknowledged(300);
    expect(state().kept.length).toBeLessThanOrEqual(180);
    feed(at, closed);
    feed(at + 500, window(300));
    const again = sent(connect(at + 2_000, 1000, null));
    const oldest = (at + 2_000 - KEPT_MS) / 1000 + 1;
    expect(again).toEqual(upTo(oldest, 301));
    expect(state().counters).toMatchObject({ windowsResent: 300 - oldest, windowsDropped: 0 });
  });

  it("are not sent to a server that has them, and are still kept for the next one", () => {
    const { feed, connect, at } = acknowledged(20);
    feed(at, closed);
    expect(sent(connect(at + 1_000, 1000, { epoch: 7, window: 14 }))).toEqual(upTo(15, 20));
    feed(at + 1_000, closed);
    expect(sent(connect(at + 2_000, 1000, null))).toEqual(upTo(0, 20));
  });

  it("are sent whole to a server that knows another life, and not to one that does not ask", () => {
    const { feed, connect, at } = acknowledged(5);
    feed(at, closed);
    expect(sent(connect(at + 1_000, 1000, { epoch: 6, window: 900 }))).toEqual(upTo(0, 5));
    feed(at + 1_000, ack(4), closed);
    expect(sent(connect(at + 2_000, 1000))).toEqual([]);
  });

  it("go no faster than credit allows", () => {
    const { feed, connect, at } = acknowledged(30);
    feed(at, closed);
    expect(sent(connect(at + 1_000, 8, null))).toEqual(upTo(0, 8));
    expect(sent(feed(at + 1_000, ack(1), window(30)))).toEqual([8, 9]);
  });

  it("reach a server that must begin again each once and in order, whatever it had (property)", () => {
    const have = fc.option(fc.integer({ min: 0, max: 40 }), { nil: null });
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom("window", "ack", "drop"), have), { maxLength: 60 }), (events) => {
        const { feed, connect, state } = bed();
        let n = 0;
        let now = 0;
        let got: number[] = [];
        const take = (outputs: LinkOutput<Numbered>[]): void => void got.push(...sent(outputs));
        take(connect(now, 1000, null));
        for (const [event, has] of events) {
          now += 1_000;
          if (event === "window") take(feed(now, { type: "window", window: { window: n++, monoMs: now } }));
          else if (event === "ack" && got.length > 0) feed(now, ack(got.at(-1) ?? 0));
          else if (event === "drop") {
            feed(now, closed);
            got = [];
            now += 60_000;
            const known = has === null ? null : { epoch: 7, window: has };
            const young = [...state().kept, ...state().ring].filter(
              (one) => now - one.monoMs < KEPT_MS || state().ring.includes(one),
            );
            take(connect(now, 1000, known));
            expect(got).toEqual(young.map((one) => one.window).filter((one) => one > (has ?? -1)));
          }
        }
        expect(state().counters.windowsDropped).toBe(0);
      }),
    );
  });
});

describe("several servers", () => {
  const dialled = (outputs: readonly LinkOutput<Numbered>[]) =>
    outputs.flatMap((output) => (output.type === "dial" ? [output.server] : []));
  const tick = { type: "tick", random: 0 } as const;

  it("are tried one after the other at once, and only then is it time to wait", () => {
    const { feed } = bed(3);
    expect(dialled(feed(0, tick))).toEqual([0]);
    feed(0, closed);
    expect(dialled(feed(250, tick))).toEqual([1]);
    feed(250, closed);
    expect(dialled(feed(500, tick))).toEqual([2]);
    feed(500, { ...closed, random: 1 });
    expect(dialled(feed(999, tick))).toEqual([]);
    expect(dialled(feed(1_500, tick))).toEqual([0]);
  });

  it("take over at once from one that stops, and what it says of itself is not waited for", () => {
    const { feed, connect, state } = bed(2);
    connect(0);
    const [said] = feed(0, away("shutdown", 1_000), closed);
    expect(said).toMatchObject({ text: expect.stringContaining("the next server is tried now") });
    expect(dialled(feed(250, tick))).toEqual([1]);
    expect(state().lastError).toContain("shutdown");
  });

  it("are not stormed by an agent that one of them cannot stand", () => {
    const { feed, connect } = bed(2);
    connect(0);
    feed(0, away("bad-frame", 5_000), closed);
    expect(dialled(feed(4_999, tick))).toEqual([]);
    expect(dialled(feed(5_000, tick))).toEqual([1]);
  });

  it("of which one asks to come again: it is dialled again, at once", () => {
    const { feed, connect } = bed(3);
    connect(0);
    feed(0, away("again", 100), closed);
    expect(dialled(feed(99, tick))).toEqual([]);
    expect(dialled(feed(350, tick))).toEqual([0]);
  });
});
