/** Where messages go while parts have an owner, have none, are on their way, or move. */
import { describe, expect, it } from "vitest";
import type { Answer } from "../../../runtime/actor/Asks.ts";
import type { Parcel } from "../../../runtime/actor/Outside.ts";
import {
  decodeFrame,
  encodeFrame,
  fromWire,
  KIND,
  ReplicaFrameError,
  toWire,
  type ReplicaFrame,
} from "../../../runtime/cluster/frames.ts";
import { allParts, partitionOf, PARTITIONS } from "../../../runtime/cluster/places.ts";
import { MOST_HELD, Router } from "../../../runtime/cluster/Router.ts";

const parcel = (to: string, n = 0, ask = 0): Parcel => ({
  to,
  message: { type: "say", n } as Parcel["message"],
  from: null,
  trace: 1,
  ask,
  timeoutMs: 1_000,
});

const world = () => {
  const sent: (readonly [replica: string, frame: ReplicaFrame])[] = [];
  const received: Parcel[] = [];
  const answers: (readonly [number, Answer])[] = [];
  const connected = new Set(["b", "c"]);
  const later: (() => void)[] = [];
  const router: Router = new Router({
    partOf: (path) => (path.startsWith("agent/") ? null : (path.split("/")[0] ?? "")),
    send: (replica, frame) => {
      if (!connected.has(replica)) return false;
      sent.push([replica, frame]);
      return true;
    },
    receive: (one) => void received.push(one),
    answer: (ask, answer) => void answers.push([ask, answer]),
    spawn: (path) => void received.push(parcel(`spawn ${path}`)),
    stop: (path) => void received.push(parcel(`stop ${path}`)),
    soon: (flush) => void later.push(flush),
  });
  const turn = (): void => {
    for (const flush of later.splice(0)) flush();
  };
  const numbers = (frames = sent): number[] =>
    frames.flatMap(([, frame]) =>
      frame[0] === KIND.parcels ? frame[1].map((wire) => (wire[1] as { readonly n: number }).n) : [],
    );
  return { router, sent, received, answers, connected, turn, numbers };
};

describe("the router", () => {
  it("sends the messages of one turn together, in order, to the owner of the part", () => {
    const { router, sent, turn, numbers } = world();
    router.owned("p", "b", 1);
    for (let n = 0; n < 3; n++) expect(router.forward(parcel("p/x", n))).toBe(true);
    expect(sent).toEqual([]);
    turn();
    expect(sent).toHaveLength(1);
    expect(numbers()).toEqual([0, 1, 2]);
  });

  it("holds what nobody owns, and hands it over in order when somebody does, here or there", () => {
    const { router, received, turn, numbers } = world();
    router.forward(parcel("p/x", 1));
    router.spawn("p/y", "k", null, null);
    router.forward(parcel("q/x", 2));
    expect(router.held).toBe(3);
    router.owned("q", "c", 1);
    turn();
    expect(numbers()).toEqual([2]);
    expect(router.isHere("p/x")).toBe(false);
    router.loading("p");
    router.settled("p");
    expect(received.map(({ to }) => to)).toEqual(["p/x", "spawn p/y"]);
    expect(router.held).toBe(0);
  });

  it("keeps what an owner that is not connected should have had, until it is, or another one owns the part", () => {
    const { router, connected, turn, numbers } = world();
    router.owned("p", "b", 1);
    connected.delete("b");
    router.forward(parcel("p/x", 1));
    turn();
    router.forward(parcel("p/x", 2));
    turn();
    expect(router.held).toBe(2);
    router.owned("p", "c", 2);
    turn();
    expect(numbers()).toEqual([1, 2]);
  });

  it("believes the newest claim", () => {
    const { router, sent, turn } = world();
    expect(router.owned("p", "b", 5)).toBe(true);
    expect(router.owned("p", "c", 4)).toBe(false);
    router.forward(parcel("p/x"));
    turn();
    expect(sent.map(([replica]) => replica)).toEqual(["b"]);
  });

  it("passes on what arrives for a part that has moved, and tells who waits for an answer", () => {
    const { router, received, turn, numbers } = world();
    const told: Answer[] = [];
    router.owned("p", "c", 1);
    router.arrived(parcel("p/x", 1), () => undefined);
    router.arrived(parcel("p/x", 2, 9), (answer) => void told.push(answer));
    turn();
    expect(received).toEqual([]);
    expect(numbers()).toEqual([1]);
    expect(told).toEqual([{ ok: false, error: "p/x does not live here any more" }]);
  });

  it("finds sessions on the replica that said it has them", () => {
    const { router, sent, turn } = world();
    expect(router.isHere("agent/a")).toBe(true);
    router.session("agent/a", "c");
    expect(router.isHere("agent/a")).toBe(false);
    router.forward(parcel("agent/a"));
    turn();
    expect(sent.map(([replica]) => replica)).toEqual(["c"]);
    router.sessionGone("agent/a", "b");
    expect(router.isHere("agent/a")).toBe(false);
    router.sessionHere("agent/a");
    expect(router.isHere("agent/a")).toBe(true);
  });

  it("drops the oldest beyond its bound, and answers who waited", () => {
    const { router, answers } = world();
    router.forward(parcel("p/x", 0, 7));
    for (let n = 1; n <= MOST_HELD; n++) router.forward(parcel("p/x", n));
    expect(router.held).toBe(MOST_HELD);
    expect(answers).toEqual([[7, { ok: false, error: "too many messages wait for an owner" }]]);
  });
});

describe("frames between replicas", () => {
  it("carry a message as it is, typed arrays too", () => {
    const sent: Parcel = { ...parcel("p/x", 3, 4), message: { type: "say", bytes: new Float32Array([1, 2]) } as never };
    const frame = decodeFrame(encodeFrame([KIND.parcels, [toWire(sent)]]));
    if (frame?.[0] !== KIND.parcels) throw new Error("another frame");
    expect(frame[1].map(fromWire)).toEqual([sent]);
  });

  it("skip a kind of a newer replica, and refuse what is no frame", () => {
    expect(decodeFrame(encodeFrame([99, "new"] as never))).toBeNull();
    expect(() => decodeFrame(Uint8Array.of(0xc1))).toThrow(ReplicaFrameError);
    expect(() => decodeFrame(encodeFrame({ a: 1 } as never))).toThrow("array that begins with the number of its kind");
    expect(() => fromWire(["p", null, null, 0, 0, 0])).toThrow("expected a path and a message with a type");
  });
});

describe("places", () => {
  it("spread services over all partitions, the same for everybody", () => {
    const used = new Map<string, number>();
    for (let i = 0; i < 25_600; i++) {
      const part = partitionOf(`service/default/shop/Deployment/web-${i}`);
      used.set(part, (used.get(part) ?? 0) + 1);
    }
    expect(used.size).toBe(PARTITIONS);
    expect(Math.max(...used.values())).toBeLessThan(200);
    expect(partitionOf("service/default/shop/Deployment/web-1")).toBe(
      partitionOf("service/default/shop/Deployment/web-1"),
    );
    expect(allParts()).toHaveLength(PARTITIONS + 1);
  });
});
