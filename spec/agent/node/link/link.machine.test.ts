import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Effect, Exit, Logger, LogLevel, Scope } from "effect";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { makeLink, type Link } from "../../../../agent/node/link/Link.ts";
import { Catalog, type Window } from "../../../../agent/node/observe/Window.ts";
import { Spool } from "../../../../agent/node/spool/Spool.ts";
import { encodeFrame } from "../../../../schemas/wire/codec.ts";
import { FRAME } from "../../../../schemas/wire/frame.ts";
import { startLinkServer, until, type LinkServer } from "./server.ts";

let folder = "";
let server: LinkServer;
let scope: Scope.CloseableScope;
let spool: Spool;
const catalog = new Catalog();
const began = performance.now();
const monoMs = () => performance.now() - began;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "coroot-link-"));
  spool = new Spool({ folder, maxBytes: 1e6, segmentBytes: 1e6, segmentRecords: 10 });
  server = await startLinkServer();
  scope = await Effect.runPromise(Scope.make());
});
afterEach(async () => {
  await Effect.runPromise(Scope.close(scope, Exit.void));
  await server.stop();
  spool.close();
  rmSync(folder, { recursive: true });
});

const start = (...urls: string[]): Promise<Link> =>
  Effect.runPromise(
    Scope.extend(
      makeLink({
        urls: urls.length > 0 ? urls : [server.url],
        epoch: 5,
        catalog,
        spool,
        hello: Effect.sync(() => ({
          protocol: [1, 0],
          agentId: "a",
          epoch: 5,
          cluster: "c",
          node: "n",
          key: "secret",
          version: "0",
          monoMs: monoMs(),
          wallMs: 0,
          kernel: "k",
          capabilities: [{ feature: "processes", state: "on", errno: 0, reason: "" }],
        })),
        monoMs,
      }),
      scope,
    ).pipe(Logger.withMinimumLogLevel(LogLevel.None)),
  );

const window = (n: number): Window => ({
  window: n,
  monoMs: monoMs(),
  wallMs: 0,
  gone: [],
  events: [],
  listens: { version: 0, list: [] },
  edgeIds: [],
  tcp: null,
  l7: null,
  hist: null,
  pending: null,
  pairs: null,
  pairIps: null,
  usage: null,
});
const record = (sequence: number) =>
  spool.append(5, sequence, () => encodeFrame(FRAME.store, { epoch: 5, sequence, monoMs: 1, dropped: 0 }));
const numbers = (connection: number) => (server.connections[connection] ?? []).map((one) => one.window);

describe("link against a real server", () => {
  it("greets with its key, sends windows, is acknowledged, learns the clock offset", async () => {
    const link = await start();
    await until("ready", () => link.state().phase === "ready");
    link.offer(window(0));
    link.offer(window(1));
    await until("acknowledged", () => link.state().ring.length === 0 && link.state().counters.acks === 2);
    expect(numbers(0)).toEqual([0, 1]);
    expect(server.hellos[0]).toMatchObject({ key: "secret", epoch: 5 });
    expect(link.state().offsetMs).toBeGreaterThan(1e12);
  });

  it("withholds both lanes at credit 0 until the server grants", async () => {
    server.behaviour.observe = 0;
    server.behaviour.store = 0;
    record(0);
    const link = await start();
    await until("ready", () => link.state().phase === "ready");
    link.offer(window(0));
    link.storeReady();
    server.send(FRAME.policy, { slowMs: { "c/n/Process/a": 250 } });
    await until("the policy came, and nothing was sent before", () => Object.keys(link.policy().slowMs).length === 1);
    expect([numbers(0), server.stores.length]).toEqual([[], 0]);
    server.credit("observe", 1);
    server.credit("store", 1);
    await until("granted", () => numbers(0).length === 1 && server.stores.length === 1);
    await until("removed from disk", () => spool.stats.waiting === 0);
  });

  it("sends unacknowledged windows and records again in order after a drop, with a dictionary of its own", async () => {
    server.behaviour.ack = false;
    record(0);
    record(1);
    const link = await start();
    link.offer(window(0));
    link.offer(window(1));
    await until("sent", () => numbers(0).length === 2 && server.stores.length === 2);
    server.drop();
    await until("lost", () => link.state().phase !== "ready");
    link.offer(window(2));
    server.behaviour.ack = true;
    await until("sent again", () => numbers(1).length === 3 && server.stores.length === 4);
    expect(numbers(1)).toEqual([0, 1, 2]);
    expect(server.stores.map((one) => one.sequence)).toEqual([0, 1, 0, 1]);
    // The complete list of listening sockets opens every connection.
    expect(server.connections[1]?.map((one) => one.listens)).toEqual([[], null, null]);
    await until("acknowledged", () => link.state().ring.length === 0 && spool.stats.waiting === 0);
  });

  it("says why it was sent away and does not hammer", async () => {
    server.behaviour.goaway = { code: "key", message: "key not known", retryAfterMs: 0 };
    const link = await start();
    await until("refused", () => link.state().phase === "idle" && server.hellos.length === 1);
    expect(link.state().lastError).toContain("key not known");
    expect(link.state().dialAtMs - monoMs()).toBeGreaterThan(25_000);
  });

  it("ends a connection that sends nonsense and counts it; skips kinds that it does not know", async () => {
    const link = await start();
    await until("ready", () => link.state().phase === "ready");
    server.send(FRAME.command, { profile: "x" });
    await until("skipped", () => link.state().counters.skippedFrames === 1);
    server.send(FRAME.ack, { lane: "observe", epoch: "x" });
    await until("ended", () => link.state().counters.badFrames === 1);
    await until("back", () => link.state().counters.connects === 2);
  });

  it("goes to the next server when one dies, and sends it what the dead one had acknowledged", async () => {
    const other = await startLinkServer();
    try {
      server.behaviour.have = null;
      other.behaviour.have = null;
      const link = await start(server.url, other.url);
      await until("ready", () => link.state().phase === "ready");
      for (const i of [0, 1, 2]) link.offer(window(i));
      await until("acknowledged", () => link.state().ring.length === 0 && link.state().kept.length === 3);
      await server.stop();
      await until("sent again", () => (other.connections[0]?.length ?? 0) === 3, 2_000);
      link.offer(window(3));
      await until("all of it", () => (other.connections[0]?.length ?? 0) === 4);
      expect(other.connections[0]?.map((one) => one.window)).toEqual([0, 1, 2, 3]);
      // A dictionary of its own opens it.
      expect(other.connections[0]?.map((one) => one.listens)).toEqual([[], null, null, null]);
      other.behaviour.have = { epoch: 5, window: 2 };
      other.send(FRAME.goaway, { code: "again", message: "", retryAfterMs: 100 });
      await until("come again", () => other.connections.length === 2 && (other.connections[1]?.length ?? 0) > 0);
      expect(other.connections[1]?.map((one) => one.window)).toEqual([3]);
    } finally {
      await other.stop();
      server = await startLinkServer();
    }
  });

  it("finds a server that starts later", async () => {
    const { url } = server;
    await server.stop();
    const link = await start(url);
    await until("refused", () => link.state().counters.failures >= 1);
    link.offer(window(0));
    server = await startLinkServer(Number(new URL(url).port));
    await until("connected", () => numbers(0).length === 1, 10_000);
  });

  it("gives the last window to the server when it is stopped", async () => {
    const link = await start();
    await until("ready", () => link.state().phase === "ready");
    link.offer(window(9));
    await Effect.runPromise(Scope.close(scope, Exit.void));
    expect(numbers(0)).toEqual([9]);
    expect(link.state().phase).toBe("stopped");
    scope = await Effect.runPromise(Scope.make());
  });
});
