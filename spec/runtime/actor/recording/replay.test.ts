/**
 * What the real actors of the shop are told is recorded, with a crash in between, and replayed with nothing around: the
 * same states. A byte of another message, and the replay says where it differs.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Effect } from "effect";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { behaviorOf, startActors } from "../../../../actors/guardian.ts";
import { noGrouping } from "../../../../actors/topology/grouping.ts";
import { make } from "../../../../runtime/actor/ActorSystem.ts";
import { makeFileRecorder } from "../../../../runtime/actor/recording/FileRecorder.ts";
import { frame, parse, RecordingError, type Entry } from "../../../../runtime/actor/recording/format.ts";
import { replay } from "../../../../runtime/actor/recording/replay.ts";
import { manualClock } from "../../../actors/ManualClock.ts";
import { steady, windowAt } from "../../../actors/shop.ts";

const SLO = { availabilityObjective: 0.99, latencyObjective: 0.99, latencyThresholdMs: 500, holdMs: 15_000 };
let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "coroot-recording-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Two minutes of the shop with a fault and a crash; what each recorded actor showed in the end. */
const shop = (options: { readonly actors: readonly string[]; readonly maxBytesPerActor?: number }) => {
  const time = manualClock(1_700_000_000_000);
  const program = Effect.gen(function* () {
    const recorder = yield* makeFileRecorder({
      folder,
      version: "test",
      actors: options.actors,
      maxBytesPerActor: options.maxBytesPerActor ?? 64e6,
      maxBytes: 512e6,
    });
    const system = yield* make;
    system.connect({ recorder });
    system.port("ledger", () => Effect.succeed([]));
    system.port("rows", () => Effect.void);
    system.port("http-post", () => Effect.succeed({ status: 200 }));
    startActors(system, { slo: SLO, webhooks: [], grouping: noGrouping, url: "http://127.0.0.1:8080" });
    system.spawn("agent/a", "agent-session", { agent: "a", grouping: noGrouping });
    system.tell("agent/a", { type: "connected", epoch: 1, node: "n", cluster: "default" } as never);
    const failing = (second: number) =>
      second > 40 && second < 80
        ? { ...steady, calls: { "front>cart": { ok: 10, failed: 10 }, "nginx>front": { ok: 10, failed: 10 } } }
        : steady;
    for (let second = 1; second <= 120; second++) {
      yield* time.advance(1_000);
      const body = windowAt(second, failing, () => 0.5, second === 1);
      system.tell("agent/a", { type: "window", at: time.now(), body } as never);
      // An observation that says nothing kills it.
      if (second === 60) system.tell("service/default/node-1/SystemdUnit/cart", { type: "observe" } as never);
    }
    yield* time.advance(1_500);
    const states = new Map<string, unknown>();
    for (const path of system.paths()) {
      const kind = system.views().find((row) => row.path === path)?.kind ?? "";
      states.set(path, JSON.parse(JSON.stringify(system.inspect(path)?.state ?? null)));
      expect(behaviorOf(kind)).toBeDefined();
    }
    return states;
  });
  return Effect.runPromise(Effect.withClock(Effect.scoped(program), time.clock));
};

const recordings = () => readdirSync(folder).map((name) => parse(readFileSync(join(folder, name))));
const replayed = (recording: ReturnType<typeof recordings>[number]) => {
  const behavior = behaviorOf(recording.header.kind);
  if (behavior === undefined) throw new Error(`no behaviour ${recording.header.kind}`);
  return replay(behavior, recording);
};

describe("a recording", () => {
  it("replays to the same states, through crashes, for every kind of actor", async () => {
    const states = await shop({ actors: ["service/*", "incident-desk", "topology"] });
    const all = recordings();
    expect(all.map(({ header }) => header.kind).toSorted()).toEqual([
      "incident-desk",
      ...Array.from({ length: 8 }, () => "service"),
      "topology",
    ]);
    let restarts = 0;
    for (const recording of all) {
      const result = replayed(recording);
      restarts += result.restarts;
      expect(result.differsAt).toBeNull();
      expect(result.digests).toBeGreaterThan(0);
      expect(result.messages).toBeGreaterThan(10);
      expect(JSON.parse(JSON.stringify(result.state))).toEqual(states.get(recording.header.path));
    }
    expect(restarts).toBe(1);
  });

  it("says where a replay differs", async () => {
    await shop({ actors: ["*/cart"] });
    const [recording] = recordings();
    if (recording === undefined) throw new Error("nothing was recorded");
    // without a tick it might be the same
    const at = recording.entries.findIndex((entry, i) => entry[0] === "m" && entry[2].type === "observe" && i > 20);
    const entries = recording.entries.filter((_, i) => i !== at);
    expect(replayed({ ...recording, entries }).differsAt).toBeGreaterThan(0);
  });

  it("ends at its bound and says so; one that breaks off replays as far as it goes", async () => {
    await shop({ actors: ["*/cart"], maxBytesPerActor: 20_000 });
    const [file] = readdirSync(folder);
    const bytes = readFileSync(join(folder, file ?? ""));
    const whole = parse(bytes);
    expect(replayed(whole).end).toContain("recording.maxBytesPerActor");
    const broken = parse(bytes.subarray(0, bytes.byteLength - 200));
    expect(replayed(broken)).toMatchObject({ end: null, differsAt: null });
    expect(replayed(broken).messages).toBeLessThanOrEqual(replayed(whole).messages);
  });

  it("refuses what is none, with the place", () => {
    expect(() => parse(Buffer.from("no recording at all"))).toThrow(RecordingError);
    const entry: Entry = ["end", "x"];
    expect(() => parse(frame(entry))).toThrow("byte 0: expected a recording of format 1");
    const half = Buffer.concat([Buffer.from([0, 0, 0, 2, 0xc1, 0xc1])]);
    expect(() => parse(half)).toThrow(/^byte 0/);
  });
});
