/** `/live` on real sockets: snapshot, deltas without gaps, one computation for all, slow and malformed clients. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { MAX_TOPICS_PER_CLIENT } from "../../../runtime/http/PageHub.ts";
import { until } from "../ingest/agent.ts";
import { Page, startServer } from "./page.ts";
import type { ServerUnderTest } from "./page.ts";

let under: ServerUnderTest;
const put = (topic: string, key: string, value: unknown): void => {
  const entries = under.world.topics.get(topic) ?? new Map<string, unknown>();
  under.world.topics.set(topic, entries.set(key, value));
  under.change();
};
const open = (): Promise<Page> => new Page(under.server.url).open();

beforeEach(async () => {
  under = await startServer();
});
afterEach(() => under.close());

describe("a page that watches", () => {
  it("gets hello, a snapshot, and then what changes, numbered without gaps", async () => {
    put("services", "a", { status: "ok" });
    put("services", "b", { status: "ok" });
    const page = await open();
    await until("hello", () => page.count("hello") === 1);
    expect(page.messages[0]).toMatchObject({ protocol: 1, serverId: "server-1", version: "0.1.0" });
    page.ask("subscribe", "services");
    await until("snapshot", () => page.count("snapshot") === 1);
    expect(page.entries("services")).toEqual({ a: { status: "ok" }, b: { status: "ok" } });
    for (let i = 1; i <= 3; i++) {
      put("services", "a", { status: "critical", i });
      await until(
        "the change",
        () => JSON.stringify(page.entries("services")?.["a"]) === `{"status":"critical","i":${i}}`,
        // told of the change, the hub does not wait for its own second
        700,
      );
    }
    under.world.topics.get("services")?.delete("b");
    under.change();
    await until("the deletion", () => Object.keys(page.entries("services") ?? {}).length === 1);
    expect(page.gaps).toBe(0);
    expect(page.count("snapshot")).toBe(1);
    // only what changed travels
    const deltas = page.messages.filter((message) => message.type === "delta");
    expect(deltas[0]).toMatchObject({ set: { a: {} }, del: [] });
    expect(Object.keys(deltas[0]?.set ?? {})).toEqual(["a"]);
    expect(deltas.at(-1)).toMatchObject({ set: {}, del: ["b"] });
    page.socket.close();
  });

  it("sees a change without being told, within about a second", async () => {
    put("services", "a", 1);
    const page = await open();
    page.ask("subscribe", "services");
    await until("snapshot", () => page.count("snapshot") === 1);
    under.world.topics.get("services")?.set("a", 2);
    await until("the change", () => page.entries("services")?.["a"] === 2, 2500);
    page.socket.close();
  });

  it("shares the work with all who watch the same, and a late one starts where the others are", async () => {
    put("services", "a", 1);
    const pages = await Promise.all([open(), open(), open()]);
    for (const page of pages) page.ask("subscribe", "services");
    await until("snapshots", () => pages.every((page) => page.count("snapshot") === 1));
    const before = under.world.reads.length;
    put("services", "a", 2);
    await until("the change everywhere", () => pages.every((page) => page.entries("services")?.["a"] === 2));
    expect(under.world.reads.length - before).toBeLessThanOrEqual(2);
    const late = await open();
    late.ask("subscribe", "services");
    await until("snapshot", () => late.count("snapshot") === 1);
    put("services", "b", 3);
    await until("the change everywhere", () => [...pages, late].every((page) => page.entries("services")?.["b"] === 3));
    expect([...pages, late].map((page) => page.gaps)).toEqual([0, 0, 0, 0]);
    for (const page of [...pages, late]) page.socket.close();
  });

  it("is asked about: a topic counts as watched from the request until the last one leaves", async () => {
    put("console", "actor", {});
    expect(under.hub.watching("console")).toBe(false);
    const [one, two] = [await open(), await open()];
    one.ask("subscribe", "console");
    two.ask("subscribe", "console");
    await until("watched", () => one.count("snapshot") + two.count("snapshot") === 2);
    expect(under.watchers.watching("console")).toBe(true);
    one.ask("unsubscribe", "console");
    two.socket.terminate();
    await until("left", () => !under.hub.watching("console"));
    const before = under.world.reads.length;
    put("console", "actor", { changed: true });
    one.ask("subscribe", "nothing");
    await until("answered", () => one.count("error") === 1);
    expect(under.world.reads.slice(before)).toEqual(["nothing"]);
    one.socket.close();
  });

  it("asks again after a gap and gets a new snapshot", async () => {
    put("services", "a", 1);
    const page = await open();
    page.ask("subscribe", "services");
    await until("snapshot", () => page.count("snapshot") === 1);
    page.ask("subscribe", "services");
    await until("another", () => page.count("snapshot") === 2);
    put("services", "a", 2);
    await until("the change", () => page.entries("services")?.["a"] === 2);
    expect(page.gaps).toBe(0);
    page.socket.close();
  });
});

describe("a page that misbehaves, or a topic that does", () => {
  it("is told that there is no such topic", async () => {
    const page = await open();
    page.ask("subscribe", "service:nobody");
    await until("an error", () => page.count("error") === 1);
    expect(page.messages.at(-1)).toEqual({ type: "error", topic: "service:nobody", message: "there is no such topic" });
    expect(under.hub.watching("service:nobody")).toBe(false);
    page.socket.close();
  });

  it.each([
    ["{", "request: not JSON"],
    ["null", "request: expected an object"],
    ['{"type":"drop","topic":"a"}', "request.type: expected subscribe or unsubscribe"],
    ['{"type":"subscribe"}', "request.topic: expected text"],
    [`{"type":"subscribe","topic":"${"x".repeat(3000)}"}`, "request.topic: expected text"],
  ])("sends %s", async (text, message) => {
    const page = await open();
    page.socket.send(text);
    await until("an error", () => page.count("error") === 1);
    expect((page.messages.at(-1) as { message: string }).message).toContain(message);
    page.ask("subscribe", "overview");
    await until("and goes on", () => page.count("snapshot") === 1);
    page.socket.close();
  });

  it("is cut off when it sends too much, alone", async () => {
    const [bad, good] = [await open(), await open()];
    bad.socket.send("x".repeat(100_000));
    await until("closed", () => bad.closed);
    good.ask("subscribe", "overview");
    await until("snapshot", () => good.count("snapshot") === 1);
    good.socket.close();
  });

  it("may not watch more than its share", async () => {
    const page = await open();
    for (let i = 0; i <= MAX_TOPICS_PER_CLIENT; i++) {
      put(`service:${i}`, "card", i);
      page.ask("subscribe", `service:${i}`);
    }
    await until("refused", () => page.count("error") === 1);
    expect(page.count("snapshot")).toBe(MAX_TOPICS_PER_CLIENT);
    page.socket.close();
  });

  it("keeps the last state when a topic fails, and the others go on", async () => {
    put("services", "a", 1);
    const page = await open();
    page.ask("subscribe", "services");
    page.ask("subscribe", "overview");
    await until("snapshots", () => page.count("snapshot") === 2);
    under.world.failing.add("services");
    put("overview", "overview", { services: 9 });
    await until("the other goes on", () => JSON.stringify(page.entries("overview")).includes("9"));
    expect(page.entries("services")).toEqual({ a: 1 });
    under.world.failing.delete("services");
    put("services", "a", 2);
    await until("and it again", () => page.entries("services")?.["a"] === 2);
    page.socket.close();
  });

  it("is skipped while it does not read, and gets a snapshot when it does", async () => {
    const page = await open();
    const other = await open();
    put("services", "a", 0);
    for (const one of [page, other]) one.ask("subscribe", "services");
    await until("snapshots", () => page.count("snapshot") + other.count("snapshot") === 2);
    page.socket.pause();
    // each is one megabyte, so that the socket's buffers are full soon
    for (let i = 1; i <= 20; i++) {
      put("services", "a", `${i} ${"x".repeat(1_000_000)}`);
      await until("the other has it", () => String(other.entries("services")?.["a"]).startsWith(`${i} `));
    }
    expect(other.gaps).toBe(0);
    page.socket.resume();
    await until("the newest", () => String(page.entries("services")?.["a"]).startsWith("20 "), 10_000);
    expect(page.count("snapshot")).toBeGreaterThan(1);
    expect(page.count("delta")).toBeLessThan(20);
    expect(page.gaps).toBe(0);
    for (const one of [page, other]) one.socket.close();
  }, 30_000);
});
