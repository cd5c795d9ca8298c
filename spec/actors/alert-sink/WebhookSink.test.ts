import { describe, expect, it } from "vitest";
import { webhookSink, type HttpPost, type SinkMessage } from "../../../actors/alert-sink/WebhookSink.ts";
import type { ActorEffect, Reply } from "../../../runtime/actor/Behavior.ts";
import type { AlertPayload } from "../../../schemas/incident.ts";

const payload = (key: string): AlertPayload =>
  ({ key, event: "incident.opened", at: 0, url: "http://127.0.0.1", incident: { id: key } }) as AlertPayload;
const deliver = (key: string): SinkMessage => ({ type: "deliver", payload: payload(key), durable: `${key}@a` });
const answer = (tag: string, status: number): Reply => ({
  type: "reply",
  tag,
  from: "port/http-post",
  result: status === 0 ? { ok: false, error: "connection refused" } : { ok: true, value: { status } },
});

const sink = () => {
  let [state] = webhookSink.initial("alert-sink/a", { name: "a", url: "http://x", headers: {} }, 0, undefined);
  return (message: SinkMessage, now = 0): readonly ActorEffect[] => {
    const [next, effects] = webhookSink.step(state, message, now);
    state = next;
    return effects;
  };
};
const posted = (effects: readonly ActorEffect[]): string[] =>
  effects.flatMap((effect) =>
    effect.kind === "perform" ? [(JSON.parse((effect.request as HttpPost).body) as AlertPayload).key] : [],
  );
const retryAfter = (effects: readonly ActorEffect[]): number[] =>
  effects.flatMap((effect) => (effect.kind === "schedule" ? [effect.afterMs] : []));

describe("webhook sink", () => {
  it("delivers in order, one at a time", () => {
    const tell = sink();
    expect(posted(tell(deliver("1")))).toEqual(["1"]);
    expect(posted(tell(deliver("2")))).toEqual([]);
    expect(posted(tell(answer("1", 200)))).toEqual(["2"]);
  });

  it("tries again with growing pauses until it is taken, then tells the desk", () => {
    const tell = sink();
    tell(deliver("1"));
    expect(retryAfter(tell(answer("1", 0)))).toEqual([1_000]);
    expect(posted(tell({ type: "retry" }))).toEqual(["1"]);
    expect(retryAfter(tell(answer("1", 503)))).toEqual([2_000]);
    tell({ type: "retry" });
    const done = tell(answer("1", 204));
    expect(done).toContainEqual(expect.objectContaining({ kind: "send", to: "incident-desk" }));
  });

  it("gives up on what the receiver refuses, and after a day", () => {
    const tell = sink();
    tell(deliver("1"));
    tell(deliver("2"));
    expect(posted(tell(answer("1", 404)))).toEqual(["2"]);
    expect(retryAfter(tell(answer("2", 500), 25 * 3600 * 1000))).toEqual([]);
  });

  it("sends a transition once, however often it is told", () => {
    const tell = sink();
    tell(deliver("1"));
    tell(answer("1", 200));
    expect(posted(tell(deliver("1")))).toEqual([]);
  });
});
