/** What a session says it has, what makes its agent come again, and that windows keep their order while it waits. */
import { describe, expect, it } from "vitest";
import { agentSession } from "../../../actors/agent-session/AgentSession.ts";
import type { SessionMessage } from "../../../actors/agent-session/messages.ts";
import type { Observe } from "../../../actors/service/messages.ts";
import { noGrouping } from "../../../actors/topology/grouping.ts";
import type { Learn, Resolved } from "../../../actors/topology/messages.ts";
import type { ActorEffect } from "../../../runtime/actor/Behavior.ts";
import { steady, windowAt } from "../shop.ts";

const START = 1_700_000_000_000;

/** A session whose topology answers (every peer unknown) as long as `topology` is up. */
const bed = (linkAnswers: unknown = true) => {
  let [state] = agentSession.initial("agent/a", { agent: "a", grouping: noGrouping }, START, undefined);
  let now = START;
  const asked: number[] = [];
  const observed: Observe[] = [];
  const timers = new Map<string, { readonly due: number; readonly message: SessionMessage }>();
  const unanswered: Resolved[] = [];
  const forgotten: number[] = [];
  const on = { topology: true };
  let replied: unknown;
  const step = (message: SessionMessage): void => {
    const [next, effects] = agentSession.step(state, message, now);
    state = next;
    effects.forEach(carryOut);
  };
  const resolve = (resolved: Resolved): void => (on.topology ? step(resolved) : void unanswered.push(resolved));
  const carryOut = (effect: ActorEffect): void => {
    if (effect.kind === "reply") replied = effect.value;
    if (effect.kind === "send" && effect.message.type === "observe") observed.push(effect.message as Observe);
    if (effect.kind === "send" && effect.message.type === "learn") {
      const { edges, gone } = effect.message as Learn;
      forgotten.push(...gone);
      if (edges.length > 0) resolve({ type: "resolved", edges: edges.map(({ id }) => ({ id, peer: null })) });
    }
    if (effect.kind === "schedule")
      timers.set(effect.key, { due: now + effect.afterMs, message: effect.message as SessionMessage });
    if (effect.kind === "perform" && effect.port === "agent-link") {
      asked.push(now);
      step({ type: "reply", tag: effect.tag ?? "", from: "port/agent-link", result: { ok: true, value: linkAnswers } });
    }
  };
  const pass = (ms: number): void => {
    for (const end = now + ms; ; ) {
      const [next] = [...timers].filter(([, { due }]) => due <= end).toSorted(([, a], [, b]) => a.due - b.due);
      if (next === undefined) return void (now = end);
      const [key, { due, message }] = next;
      timers.delete(key);
      now = due;
      step(message);
    }
  };
  const connect = (epoch = 1): unknown => {
    step({ type: "connected", epoch, node: "n", cluster: "default" });
    return replied;
  };
  const window = (number: number, first = false, goneEdges: readonly number[] = []): void => {
    const body = windowAt(
      number,
      () => steady,
      () => 0.5,
      first,
    );
    step({ type: "window", at: START + number * 1000 + 800, body: { ...body, goneEdges } });
  };
  const edges = (): number[] => {
    const seen = agentSession.inspect?.(state) as { edges: readonly { id: number }[] } | undefined;
    return seen?.edges.map(({ id }) => id) ?? [];
  };
  /** numbers of the windows that reached a service, in order */
  const reached = (service: string): number[] =>
    observed
      .filter(({ edges }) => edges.length > 0)
      .flatMap((one) => (servicesOf(one) === service ? [one.window] : []));
  const servicesOf = (one: Observe): string => one.instances[0]?.instance ?? "";
  const topologyIsBack = (): void => {
    on.topology = true;
    unanswered.splice(0).forEach(step);
  };
  return { step, connect, window, pass, asked, observed, reached, on, topologyIsBack, edges, forgotten };
};
const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

describe("what a session has", () => {
  it("is nothing at first and in another life, and else the last window that went to the services", () => {
    const { connect, window } = bed();
    expect(connect()).toBeNull();
    for (const i of numbers(0, 5)) window(i, i === 0);
    expect(connect()).toEqual({ epoch: 1, window: 4 });
    expect(connect(2)).toBeNull();
  });

  it("is not what still waits for the topology", () => {
    const { connect, window, on } = bed();
    connect();
    on.topology = false;
    for (const i of numbers(0, 5)) window(i, i === 0);
    expect(connect()).toBeNull();
  });

  it("is nothing once services moved: the agent is asked to come again, once for all of them, and sends all", () => {
    const { connect, step, window, pass, asked, reached, observed } = bed();
    connect();
    for (const i of numbers(0, 10)) window(i, i === 0);
    for (const _ of numbers(0, 5)) {
      step({ type: "rewind" });
      pass(100);
    }
    window(10);
    pass(5_000);
    expect(asked).toHaveLength(1);
    step({ type: "disconnected" });
    expect(connect()).toBeNull();
    observed.length = 0;
    for (const i of numbers(0, 12)) window(i, i === 0);
    expect(reached("nginx")).toEqual(numbers(0, 12));
    expect(new Set(observed.map(({ seconds }) => seconds))).toEqual(new Set([1]));
    expect(connect()).toEqual({ epoch: 1, window: 11 });
  });

  it("is nothing either for an agent that comes by itself before it is asked, and then it is not asked any more", () => {
    const { connect, step, window, pass, asked } = bed();
    connect();
    window(0, true);
    step({ type: "rewind" });
    step({ type: "disconnected" });
    expect(connect()).toBeNull();
    pass(5_000);
    expect(asked).toEqual([]);
  });
});

it("a session and the topology forget the edges that the agent has forgotten, after the window that says so", () => {
  const { connect, window, edges, forgotten, observed } = bed();
  connect();
  window(0, true);
  const all = edges();
  const [first = 0] = all;
  const before = observed.length;
  window(1, false, [first, 999]);
  expect(observed.length).toBe(2 * before);
  expect(edges()).toEqual(all.slice(1));
  expect(forgotten).toEqual([first, 999]);
});

it("a session tells a service how full the disks are that its instances write to", () => {
  const { connect, window, step, observed } = bed();
  connect();
  window(0, true);
  const nothing = windowAt(
    1,
    () => steady,
    () => 0.5,
    false,
  );
  const [first] = windowAt(
    0,
    () => steady,
    () => 0.5,
    true,
  ).instances;
  const known = first?.id ?? -1;
  const figures = { path: "/data", device: "sdb", usedBytes: 90, availableBytes: 5, inodesUsed: 0.2 };
  const mounts = [known, 999].map((instance) => ({ instance, sizeBytes: 100, ...figures }));
  step({ type: "window", at: START + 1_800, body: { ...nothing, mounts } });
  expect(observed.flatMap((one) => one.mounts ?? [])).toEqual([{ instance: first?.instance, ...figures }]);
});

describe("a session asks its agent to come again", () => {
  it("until the link has a connection to end", () => {
    const { connect, step, window, pass, asked } = bed(false);
    connect();
    window(0, true);
    step({ type: "rewind" });
    pass(4_000);
    expect(asked.length).toBeGreaterThan(3);
    const before = asked.length;
    step({ type: "disconnected" });
    connect();
    pass(4_000);
    expect(asked).toHaveLength(before);
  });

  it("when it started anew in the middle of a connection, whose dictionary it does not know", () => {
    const { connect, window, pass, asked, observed } = bed();
    window(7);
    pass(1_000);
    expect(asked).toHaveLength(1);
    expect(observed).toEqual([]);
    expect(connect()).toBeNull();
  });

  it("when more windows waited than fit: those that waited go first, then those that are sent again", () => {
    const { connect, window, asked, reached, on, topologyIsBack } = bed();
    connect();
    on.topology = false;
    for (const i of numbers(0, 50)) window(i, i === 0);
    topologyIsBack();
    window(50);
    expect(reached("nginx")).toEqual(numbers(0, 30));
    expect(asked).toHaveLength(1);
    expect(connect()).toEqual({ epoch: 1, window: 29 });
    for (const i of numbers(30, 52)) window(i, i === 30);
    expect(reached("nginx")).toEqual(numbers(0, 52));
  });
});
