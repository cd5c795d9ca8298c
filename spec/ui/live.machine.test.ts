/** The page's one connection, against a real socket server: references, gaps, loss and return, the clock. */
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import type { PageMessage } from "../../schemas/wire/page.ts";
import { makeLive, type Live, type Socket, type SocketEvents } from "../../ui/live.ts";

let server: WebSocketServer;
let port: number;
let live: Live | null = null;
/** requests of all connections, in order */
let asked: string[] = [];
const AHEAD_MS = 90_000;

const connect = ({ onOpen, onText, onEnd }: SocketEvents): Socket => {
  const socket = new WebSocket(`ws://127.0.0.1:${port}`);
  let closed = false;
  const unless = (run: () => void) => () => (closed ? undefined : run());
  socket.on("open", unless(onOpen));
  socket.on("message", (data, binary) => unless(() => onText(binary ? null : String(data)))());
  socket.on("error", () => undefined);
  socket.on("close", unless(onEnd));
  return {
    send: (text) => socket.send(text),
    close: () => {
      closed = true;
      socket.terminate();
    },
  };
};

const start = (): Live => {
  live = makeLive({
    connect,
    now: () => Date.now(),
    nextFrame: (run) => setImmediate(run),
    after: (ms, run) => {
      const timer = setTimeout(run, ms);
      return () => clearTimeout(timer);
    },
    random: () => 0,
  });
  return live;
};

const tell = (message: PageMessage): void => {
  for (const client of server.clients) client.send(JSON.stringify(message));
};
const entries = (topic: string): Record<string, unknown> => Object.fromEntries(live?.read(topic).entries ?? []);
const topic = "actor:/a";

const listen = async (): Promise<void> => {
  server = new WebSocketServer({ port: port || 0, host: "127.0.0.1" });
  await once(server, "listening");
  port = (server.address() as AddressInfo).port;
  server.on("connection", (socket) => {
    socket.send(
      JSON.stringify({ type: "hello", protocol: 1, serverId: "s", version: "1", nowMs: Date.now() + AHEAD_MS }),
    );
    socket.on("message", (data) => {
      const request = JSON.parse(String(data)) as { type: string; topic: string };
      asked.push(`${request.type} ${request.topic}`);
      if (request.topic === "actor:/late" && asked.length < 2)
        socket.send(JSON.stringify({ type: "error", topic: request.topic, message: "there is no such topic" }));
      else if (request.type === "subscribe")
        socket.send(
          JSON.stringify({
            type: "snapshot",
            topic: request.topic,
            seq: 10,
            nowMs: Date.now() + AHEAD_MS,
            entries: { a: 1 },
          }),
        );
    });
  });
};
const hangUp = async (): Promise<void> => {
  for (const client of server.clients) client.terminate();
  await new Promise<void>((resolve) => server.close(() => resolve()));
};

beforeEach(async () => {
  port = 0;
  asked = [];
  await listen();
});
afterEach(async () => {
  live?.close();
  live = null;
  await hangUp();
});

describe("the live connection", () => {
  it("asks once for a topic with several readers, tells them of changes, and lets go after the last", async () => {
    const page = start();
    let told = 0;
    const first = page.subscribe(topic, () => told++);
    const second = page.subscribe(topic, () => told++);
    await vi.waitFor(() => expect(entries(topic)).toEqual({ a: 1 }));
    expect(asked).toEqual([`subscribe ${topic}`]);
    tell({ type: "delta", topic, seq: 11, nowMs: Date.now(), set: { b: 2 }, del: ["a"] });
    await vi.waitFor(() => expect(entries(topic)).toEqual({ b: 2 }));
    await vi.waitFor(() => expect(told).toBe(4));
    first();
    second();
    await vi.waitFor(() => expect(asked).toContain(`unsubscribe ${topic}`), { timeout: 6000 });
    expect(page.read(topic).ready).toBe(false);
  });

  it("hands over several changes of one frame at once", async () => {
    const page = start();
    let told = 0;
    page.subscribe(topic, () => told++);
    await vi.waitFor(() => expect(told).toBe(1));
    for (let seq = 11; seq < 31; seq++)
      tell({ type: "delta", topic, seq, nowMs: Date.now(), set: { n: seq }, del: [] });
    await vi.waitFor(() => expect(entries(topic)["n"]).toBe(30));
    await vi.waitFor(() => expect(told).toBeGreaterThan(1));
    expect(told).toBeLessThan(21);
  });

  it("asks for a topic again when a number is missing, and counts it", async () => {
    const page = start();
    page.subscribe(topic, () => undefined);
    await vi.waitFor(() => expect(page.read(topic).ready).toBe(true));
    tell({ type: "delta", topic, seq: 12, nowMs: Date.now(), set: { a: "wrong" }, del: [] });
    await vi.waitFor(() => expect(asked).toEqual([`subscribe ${topic}`, `unsubscribe ${topic}`, `subscribe ${topic}`]));
    await vi.waitFor(() => expect(page.read(topic).waiting).toBe(false));
    expect(entries(topic)).toEqual({ a: 1 });
    expect(page.connection().gaps).toBe(1);
  });

  it("keeps what it had through a loss, says so, comes back by itself and asks for everything again", async () => {
    const page = start();
    page.subscribe(topic, () => undefined);
    await vi.waitFor(() => expect(page.read(topic).ready).toBe(true));
    await hangUp();
    await vi.waitFor(() => expect(page.connection().phase).not.toBe("open"));
    expect(entries(topic)).toEqual({ a: 1 });
    await vi.waitFor(() => expect(page.connection().attempt).toBeGreaterThan(1), { timeout: 5000 });
    await listen();
    await vi.waitFor(() => expect(page.connection().phase).toBe("open"), { timeout: 10_000 });
    await vi.waitFor(() => expect(asked.filter((each) => each === `subscribe ${topic}`)).toHaveLength(2));
    expect(page.connection().attempt).toBe(0);
  });

  it("says why a topic cannot be read, and has it as soon as it can be", async () => {
    const page = start();
    page.subscribe("actor:/late", () => undefined);
    await vi.waitFor(() => expect(page.read("actor:/late").error).toBe("there is no such topic"));
    await vi.waitFor(() => expect(entries("actor:/late")).toEqual({ a: 1 }), { timeout: 6000 });
    expect(page.read("actor:/late").error).toBeNull();
  });

  it("learns the server's clock", async () => {
    const page = start();
    page.subscribe(topic, () => undefined);
    await vi.waitFor(() => expect(page.read(topic).ready).toBe(true));
    expect(Math.abs(page.serverNow() - Date.now() - AHEAD_MS)).toBeLessThan(200);
  });

  it("counts what it cannot read, shows a topic's error, and asks for a reload when the server is another version", async () => {
    const page = start();
    page.subscribe(topic, () => undefined);
    await vi.waitFor(() => expect(page.read(topic).ready).toBe(true));
    for (const client of server.clients) client.send("{ not json");
    await vi.waitFor(() => expect(page.connection().unreadable).toBe(1));
    tell({ type: "error", topic, message: "no such actor" });
    await vi.waitFor(() => expect(page.read(topic).error).toBe("no such actor"));
    tell({ type: "hello", protocol: 1, serverId: "s", version: "2", nowMs: Date.now() });
    await vi.waitFor(() => expect(page.connection().reload).toBe("new version"));
  });
});
