/** The server's end of the agent link on real sockets: lanes, credit, time, and everything that can be wrong with a peer. */
import { Deferred, Effect } from "effect";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { AgentHandler, AgentPeer } from "../../../runtime/ingest/AgentHandler.ts";
import { encodeFrame } from "../../../schemas/wire/codec.ts";
import type { DecodedObserve, DecodedStore } from "../../../schemas/wire/codec.ts";
import { FRAME, MAX_FRAME_BYTES, MAX_HELLO_BYTES } from "../../../schemas/wire/frame.ts";
import type { ServerHelloBody } from "../../../schemas/wire/link.ts";
import type { AgentView } from "../../../schemas/wire/page.ts";
import { observeBody, storeBody } from "../../schemas/frames.ts";
import { Agent, hello, startLink, until } from "./agent.ts";
import type { LinkUnderTest } from "./agent.ts";

const seen = {
  log: [] as string[],
  peers: [] as AgentPeer[],
  observed: [] as DecodedObserve[],
  stored: [] as { readonly body: DecodedStore; readonly durable: Deferred.Deferred<void> }[],
  storeReady: true,
  have: undefined as ServerHelloBody["have"],
  observe: (body: DecodedObserve): Effect.Effect<void> => Effect.succeed(body).pipe(Effect.asVoid),
};
const handler: AgentHandler = {
  connected: (peer) =>
    Effect.sync(() => {
      seen.peers.push(peer);
      seen.log.push(`+${peer.agentId}/${peer.epoch}`);
      return seen.have;
    }),
  observe: (_, body) =>
    Effect.suspend(() => {
      seen.observed.push(body);
      return seen.observe(body);
    }),
  store: (_, body) =>
    Effect.gen(function* () {
      const durable = yield* Deferred.make<void>();
      seen.stored.push({ body, durable });
      yield* Deferred.await(durable);
    }),
  disconnected: (peer, reason) => Effect.sync(() => seen.log.push(`-${peer.agentId}/${peer.epoch} ${reason}`)),
  storeReady: Effect.sync(() => seen.storeReady),
};

let server: LinkUnderTest;
const agentView = async (id = "machine-1"): Promise<AgentView> => {
  const found = (await Effect.runPromise(server.link.agents)).find((one) => one.id === id);
  if (found === undefined) throw new Error(`agent ${id} is not listed`);
  return found;
};
const refusals = () => Effect.runPromise(server.link.refusals);
const windowOf = (window: number, change: object = {}) => ({
  ...observeBody,
  window,
  monoMs: performance.now(),
  wallMs: Date.now(),
  ...change,
});

const durable = (n: number) => Effect.runPromise(Deferred.succeed(seen.stored[n]?.durable as never, undefined));

const refused = async (bytes: Uint8Array | string, accepted = false) => {
  const agent = accepted ? await Agent.join(server.url) : await new Agent(server.url).open();
  agent.socket.send(bytes);
  return agent.goaway();
};
const patched = (at: number, value: number, frame = encodeFrame(FRAME.hello, hello())): Uint8Array => {
  frame[at] = value;
  return frame;
};

beforeEach(async () => {
  Object.assign(seen, {
    log: [],
    peers: [],
    observed: [],
    stored: [],
    storeReady: true,
    have: undefined,
    observe: () => Effect.void,
  });
  server = await startLink(handler);
});
afterEach(() => server.close());

describe("an agent that behaves", () => {
  it("is greeted, gets credit for both lanes, and its windows are acknowledged in order", async () => {
    const agent = await Agent.join(server.url);
    expect(agent.hellos[0]).toMatchObject({ protocol: [1, 0], serverId: "server-1" });
    await until("both credits", () => agent.credits.length === 2);
    expect(agent.credits).toEqual([
      { lane: "observe", frames: 8 },
      { lane: "store", frames: 16 },
    ]);
    for (let window = 1; window <= 8; window++) agent.send(FRAME.observe, windowOf(window));
    await until("8 acknowledgements", () => agent.acks.length === 8);
    expect(agent.acks.map((ack) => ack.upTo)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(agent.acks[0]).toMatchObject({ lane: "observe", epoch: hello().epoch });
    expect(seen.observed[0]?.tcp.bytesIn[0]).toBe(1e12);
    seen.peers[0]?.report({ instances: 3, edges: 9 });
    seen.peers[0]?.count("edges without a definition", 2);
    expect(await agentView()).toMatchObject({
      state: "connected",
      node: "node-1",
      window: 8,
      instances: 3,
      edges: 9,
      losses: { "edges without a definition": 2 },
    });
    await until("rates", async () => (await agentView()).framesPerSecond > 0);
    expect((await agentView()).bytesPerSecond).toBeGreaterThan(100);
    await agent.leave();
    await until("the handler is told", () => seen.log.length === 2);
    expect(seen.log[1]).toMatch(/^-machine-1.*connection closed/);
    expect(await agentView()).toMatchObject({ state: "disconnected", window: 8 });
  });

  it("goes on observing while the store lane waits, and store is acknowledged when durable, cumulatively", async () => {
    const agent = await Agent.join(server.url);
    for (const sequence of [1, 2]) agent.send(FRAME.store, { ...storeBody, sequence, dropped: 7 });
    agent.send(FRAME.observe, windowOf(1));
    await until("observe acknowledged", () => agent.acks.length === 1);
    expect(agent.acks[0]?.lane).toBe("observe");
    await until("two writes under way", () => seen.stored.length === 2);
    await durable(1);
    agent.send(FRAME.observe, windowOf(2));
    await until("observe acknowledged", () => agent.acks.length === 2);
    expect(agent.acks.filter((ack) => ack.lane === "store")).toEqual([]);
    await durable(0);
    await until("store acknowledged", () => agent.acks.length === 3);
    expect(agent.acks[2]).toMatchObject({ lane: "store", upTo: 2, epoch: storeBody.epoch });
    agent.send(FRAME.store, { ...storeBody, sequence: 3, dropped: 7 });
    await until("the third under way", () => seen.stored.length === 3);
    await durable(2);
    await until("store acknowledged", () => agent.acks.length === 4);
    expect(agent.acks[3]).toMatchObject({ lane: "store", upTo: 3 });
    expect((await agentView()).losses).toEqual({ "dropped by the agent's spool": 7 });
    await agent.leave();
  });

  it("has its store lane withheld while the writer is behind", async () => {
    const agent = await Agent.join(server.url);
    await until("credit", () => agent.credits.length === 2);
    seen.storeReady = false;
    await until("withheld", () => agent.credits.length === 3);
    expect(agent.credits[2]).toEqual({ lane: "store", frames: 0 });
    seen.storeReady = true;
    await until("granted", () => agent.credits.length === 4);
    expect(agent.credits[3]).toEqual({ lane: "store", frames: 16 });
    await agent.leave();
  });

  it("may have a clock that is an hour off", async () => {
    const agent = await Agent.join(server.url, { wallMs: Date.now() + 3_600_000 });
    const monoMs = performance.now();
    const sentAt = Date.now();
    agent.send(FRAME.observe, windowOf(1, { monoMs, wallMs: sentAt + 3_600_000 }));
    await until("acknowledged", () => agent.acks.length === 1);
    const mapped = monoMs + (seen.peers[0]?.offsetMs() ?? 0);
    expect(Math.abs(mapped - sentAt)).toBeLessThan(250);
    expect(Math.abs((await agentView()).clockOffsetMs - 3_600_000)).toBeLessThan(250);
    expect(agent.acks[0]?.echoMonoMs).toBe(monoMs);
    expect(Math.abs((agent.acks[0]?.serverMs ?? 0) - sentAt)).toBeLessThan(1000);
    await agent.leave();
  });

  it("may be newer: what it adds is skipped and counted", async () => {
    const agent = await Agent.join(server.url);
    agent.socket.send(encodeFrame(99 as never, { hello: "from the future" }));
    agent.send(FRAME.observe, windowOf(1, { novel: 1 }));
    await until("acknowledged", () => agent.acks.length === 1);
    expect((await agentView()).losses).toEqual({ "unknown frames": 1, "unknown fields": 1 });
    await agent.leave();
  });

  it("is told what the server has of it", async () => {
    const told = async (have: ServerHelloBody["have"]) => {
      seen.have = have;
      const agent = await Agent.join(server.url);
      await agent.leave();
      return agent.hellos[0];
    };
    expect(await told(undefined)).not.toHaveProperty("have");
    expect(await told(null)).toHaveProperty("have", null);
    expect(await told({ epoch: hello().epoch, window: 12 })).toHaveProperty("have", {
      epoch: hello().epoch,
      window: 12,
    });
  });

  it("is asked to come again when its windows are needed, which counts as no refusal", async () => {
    const agent = await Agent.join(server.url);
    const other = await Agent.join(server.url, { agentId: "machine-2" });
    expect(server.link.again("machine-3")).toBe(false);
    expect(server.link.again("machine-1")).toBe(true);
    expect(await agent.goaway()).toMatchObject({ code: "again", retryAfterMs: 100 });
    await until("the handler is told", () => seen.log.some((line) => line.startsWith("-machine-1")));
    expect(await refusals()).toEqual({});
    const back = await Agent.join(server.url);
    back.send(FRAME.observe, windowOf(1));
    await until("acknowledged", () => back.acks.length === 1);
    expect(other.closed).toBe(false);
    await back.leave();
    await other.leave();
  });

  it("is told when the server stops", async () => {
    const agent = await Agent.join(server.url);
    await server.close();
    expect(await agent.goaway()).toMatchObject({ code: "shutdown", retryAfterMs: 1000 });
    expect(seen.log).toHaveLength(2);
  });
});

describe("a peer that does not", () => {
  it("has the wrong key", async () => {
    expect(await refused(encodeFrame(FRAME.hello, hello({ key: "guess" })))).toEqual({
      code: "key",
      message: "hello.key: not the key of this server (agent machine-1 on node-1)",
      retryAfterMs: 0,
    });
    expect(await refusals()).toEqual({ key: 1 });
    expect(seen.log).toEqual([]);
  });

  it("speaks another version", async () => {
    expect(await refused(patched(4, 9))).toMatchObject({ code: "version", retryAfterMs: 0 });
  });

  it("says nothing", async () => {
    const agent = await new Agent(server.url).open();
    expect(await agent.goaway()).toMatchObject({ code: "timeout", message: "hello: nothing within 5 seconds" });
  });

  it("sends too much before its key was accepted, whole or in parts that never end", async () => {
    const frame = encodeFrame(FRAME.hello, hello({ kernel: "x".repeat(MAX_HELLO_BYTES) }));
    expect(await refused(frame)).toMatchObject({ code: "oversized" });
    const agent = await new Agent(server.url).open();
    agent.socket.send(new Uint8Array(100_000), { fin: false });
    expect((await agent.goaway()).message).toBe("hello: more than 65536 bytes before the key was accepted");
  });

  it.each([
    ["truncated", (f: Uint8Array) => f.subarray(0, 5), "bad-frame", "a header has 12"],
    ["cut short", (f: Uint8Array) => f.subarray(0, -3), "bad-frame", "header says"],
    ["lying about its length", (f: Uint8Array) => patched(8, 0, f), "bad-frame", "header says"],
    ["not a frame", () => new Uint8Array(100), "bad-frame", "frame.magic"],
    ["text", () => "hello", "bad-frame", "expected binary"],
    ["a claim of 4 billion rows", (f: Uint8Array) => patched(12, 0xdd, f), "bad-frame", "frame.body"],
    ["of version 7", (f: Uint8Array) => patched(4, 7, f), "version", "protocol 7"],
    ["too large", () => new Uint8Array(MAX_FRAME_BYTES + 100_000).fill(1), "bad-frame", "frame.magic"],
  ])("sends a frame that is %s", async (_, damage, code, message) => {
    const goaway = await refused(damage(encodeFrame(FRAME.observe, windowOf(1))), true);
    expect(goaway.code).toBe(code);
    expect(goaway.message).toContain(message);
    expect(await refusals()).toEqual({ [code]: 1 });
    // and the server goes on
    const next = await Agent.join(server.url, { agentId: "machine-2" });
    next.send(FRAME.observe, windowOf(1));
    await until("acknowledged", () => next.acks.length === 1);
    await next.leave();
  });

  it("sends a frame larger than any may be", async () => {
    const frame = encodeFrame(FRAME.observe, { ...windowOf(1), padding: new Uint8Array(MAX_FRAME_BYTES) });
    expect(await refused(frame, true)).toMatchObject({ code: "oversized" });
    const agent = await Agent.join(server.url);
    agent.socket.send(new Uint8Array(MAX_FRAME_BYTES * 2));
    await until("hung up", () => agent.closed);
    expect(await refusals()).toMatchObject({ oversized: 2 });
  });

  it("names a field that is wrong", async () => {
    const goaway = await refused(encodeFrame(FRAME.observe, windowOf(-1)), true);
    expect(goaway.message).toBe("observe.window: -1, expected a whole number from 0 to 9007199254740991");
  });

  it("sends more than it has credit for", async () => {
    seen.observe = () => Effect.never;
    const agent = await Agent.join(server.url);
    for (let window = 1; window <= 9; window++) agent.send(FRAME.observe, windowOf(window));
    expect((await agent.goaway()).message).toBe("observe: 9 frames without acknowledgement, 8 were granted");
  });

  it("trips the server, alone", async () => {
    const other = await Agent.join(server.url, { agentId: "machine-2" });
    seen.observe = (body) => (body.window === 13 ? Effect.die(new Error("boom")) : Effect.void);
    const agent = await Agent.join(server.url);
    agent.send(FRAME.observe, windowOf(13));
    expect((await agent.goaway()).message).toContain("the server failed");
    expect(seen.log.at(-1)).toContain("-machine-1");
    other.send(FRAME.observe, windowOf(1));
    await until("acknowledged", () => other.acks.length === 1);
    await other.leave();
  });
});

describe("two agents with one id", () => {
  it("the second is refused while the first lives, and the conflict is shown", async () => {
    const first = await Agent.join(server.url);
    const second = await new Agent(server.url).open();
    second.send(FRAME.hello, hello({ epoch: 5, node: "node-2" }));
    expect(await second.goaway()).toMatchObject({ code: "duplicate", retryAfterMs: 10_000 });
    expect(await agentView()).toMatchObject({ conflicts: 1, node: "node-1", state: "connected" });
    first.send(FRAME.observe, windowOf(1));
    await until("acknowledged", () => first.acks.length === 1);
    expect(seen.log).toHaveLength(1);
    await first.leave();
    await until("left", () => seen.log.length === 2);
    const third = await Agent.join(server.url, { epoch: 5, node: "node-2" });
    expect(await agentView()).toMatchObject({ node: "node-2" });
    await third.leave();
  });

  it("the same life may connect again: the old connection ends first", async () => {
    const first = await Agent.join(server.url);
    const again = await Agent.join(server.url);
    expect((await first.goaway()).message).toBe("this agent has connected again");
    again.send(FRAME.observe, windowOf(1));
    await until("acknowledged", () => again.acks.length === 1);
    expect(seen.log.map((line) => line[0])).toEqual(["+", "-", "+"]);
    expect(await agentView()).toMatchObject({ state: "connected", conflicts: 0 });
    await again.leave();
  });
});
