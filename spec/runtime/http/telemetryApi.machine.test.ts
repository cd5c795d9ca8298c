/** The telemetry routes over HTTP: what is asked of the store's side, and what wrong parameters are told. */
import { Effect } from "effect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ProfilesError, type FlameRequest } from "../../../runtime/telemetry/Profiles.ts";
import type { FlameAnswer } from "../../../schemas/api.ts";
import { makeWorld, startServer, type ServerUnderTest } from "./page.ts";

const asked: FlameRequest[] = [];
const answer: FlameAnswer = {
  service: "cart",
  type: "cpu:nanoseconds",
  kind: "rate",
  unit: "cores",
  from: 1,
  to: 9,
  profiles: 2,
  seconds: 20,
  names: ["total", "(other)", "main"],
  files: ["", "", "main.go"],
  depth: [0, 1],
  frame: [0, 2],
  self: [0, 0.25],
  total: [0.25, 0.25],
  base: null,
  merged: 0,
  unknown: 0,
};

let under: ServerUnderTest;
beforeAll(async () => {
  const world = makeWorld();
  world.profiles = {
    types: (service) =>
      service === "down"
        ? Effect.fail(new ProfilesError({ kind: "unavailable", message: "the store is down" }))
        : Effect.succeed([{ type: "cpu:nanoseconds", kind: "rate", unit: "cores", lastSeen: 7 }]),
    flame: (request) =>
      Effect.suspend(() => {
        asked.push(request);
        if (request.service === "large") return Effect.fail(new ProfilesError({ kind: "limit", message: "too many" }));
        const { base } = request;
        return Effect.succeed(
          base === undefined
            ? answer
            : { ...answer, base: { ...base, profiles: 1, seconds: 10, self: [0, 1], total: [1, 1] } },
        );
      }),
  };
  under = await startServer(world);
});
afterAll(() => under.close());

const ask = async (path: string): Promise<{ status: number; text: string; json: unknown }> => {
  const response = await fetch(`${under.server.url}/api/profiles/${path}`);
  const text = await response.text();
  return { status: response.status, text, json: JSON.parse(text) as unknown };
};

describe("profiles over HTTP", () => {
  it("lists the types of a service", async () => {
    expect(await ask("types?service=cart")).toMatchObject({
      status: 200,
      json: { service: "cart", types: [{ type: "cpu:nanoseconds", kind: "rate", unit: "cores", lastSeen: 7 }] },
    });
    expect((await ask("types?service=down")).status).toBe(503);
  });

  it("gives a flame graph as it was asked for, compared or not", async () => {
    const plain = await ask("flame?service=cart&type=cpu:nanoseconds&from=1&to=9");
    expect([plain.status, plain.json]).toEqual([200, answer]);
    expect(asked.at(-1)).toEqual({ service: "cart", type: "cpu:nanoseconds", from: 1, to: 9 });
    const compared = await ask(
      "flame?service=cart&type=cpu:nanoseconds&from=10&to=19&base_from=1&base_to=9&pod=cart-0&host=n1",
    );
    expect(compared.json).toMatchObject({ base: { from: 1, to: 9, self: [0, 1] } });
    expect(asked.at(-1)).toMatchObject({ base: { from: 1, to: 9 }, pod: "cart-0", host: "n1" });
  });

  it.each([
    ["types", "service"],
    ["types?service=", "service: expected 1 to 1024 characters"],
    ["flame?service=a&from=1&to=2", "type"],
    ["flame?service=a&type=&from=1&to=2", "type: expected 1 to 1024 characters"],
    ["flame?service=a&type=t&from=x&to=2", "from"],
    ["flame?service=a&type=t&from=-1&to=2", "from: expected milliseconds since the epoch"],
    ["flame?service=a&type=t&from=1&to=1.5", "to: expected milliseconds since the epoch"],
    ["flame?service=a&type=t&from=2&to=2", "to: expected a time after from"],
    ["flame?service=a&type=t&from=0&to=9999999999999", "from, to: expected at most 31 days"],
    ["flame?service=a&type=t&from=1&to=2&base_from=1", "base_to: expected with base_from"],
    ["flame?service=a&type=t&from=1&to=2&base_to=1", "base_from: expected with base_to"],
    ["flame?service=a&type=t&from=1&to=2&base_from=3&base_to=2", "base_to: expected a time after base_from"],
    ["flame?service=a&type=t&from=1&to=2&pod=", "pod: expected 1 to 1024 characters"],
    [`flame?service=${"a".repeat(1025)}&type=t&from=1&to=2`, "service: expected 1 to 1024 characters"],
  ])("%s is refused with 400, which names the field", async (path, message) => {
    const { status, text } = await ask(path);
    expect(status).toBe(400);
    expect(text).toContain(message);
  });

  it("says when a graph is too large", async () => {
    const { status, json } = await ask("flame?service=large&type=t&from=1&to=2");
    expect([status, json]).toEqual([400, { _tag: "BadRequest", message: "too many" }]);
  });
});
