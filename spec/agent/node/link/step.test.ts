import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  backoffMs,
  initialLink,
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

const bed = () => {
  let state: LinkState<Numbered> = initialLink(7);
  const feed = (nowMs: number, ...inputs: LinkInput<Numbered>[]): LinkOutput<Numbered>[] =>
    inputs.flatMap((input) => {
      const [next, outputs] = stepLink(state, input, nowMs);
      state = next;
      return outputs;
    });
  const connect = (nowMs: number, frames = 10) =>
    feed(
      nowMs,
      { type: "tick", random: 0 },
      { type: "opened" },
      { type: "greeted", serverId: "s" },
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

  it("keeps the last minute while the server is away and counts the rest", () => {
    const { feed, sent, window, connect, state } = bed();
    for (let i = 0; i < RING + 15; i++) feed(0, window(i));
    expect(state().counters.windowsDropped).toBe(15);
    expect(sent(connect(0, 1000))).toEqual(Array.from({ length: RING }, (_, i) => i + 15));
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
    expect(feed(10_003 + SILENCE_MS, { type: "tick", random: 0 })[0]).toMatchObject({ type: "close" });
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
