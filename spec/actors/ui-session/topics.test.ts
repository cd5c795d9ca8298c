/** The console's topics, as page and API read them: over actors that run under a test clock. */
import { Effect, type Scope } from "effect";
import { describe, expect, it } from "vitest";
import { readTopic, type TopicSources } from "../../../actors/ui-session/topics.ts";
import { make, type ActorSystemShape } from "../../../runtime/actor/ActorSystem.ts";
import type { Behavior, Message } from "../../../runtime/actor/Behavior.ts";
import { makeInsides } from "../../../runtime/cluster/Insides.ts";
import { manualClock } from "../ManualClock.ts";
import type {
  ActorMessageView,
  ActorView,
  AgentView,
  DeadLetterView,
  Overview,
  TraceHop,
} from "../../../schemas/wire/page.ts";

interface Job extends Message {
  readonly type: "job" | "pass" | "die" | "tick";
}

/** Counts jobs; `pass` sends one on to "b". */
const worker: Behavior<{ jobs: number }, Job, null> = {
  kind: "worker",
  mailbox: 16,
  ticks: false,
  initial: () => [{ jobs: 0 }, []],
  step: (state, message) => {
    if (message.type === "die") throw new Error("broken", { cause: new RangeError("109 counters") });
    if (message.type === "pass") return [state, [{ kind: "send", to: "b", message: { type: "job" } }]];
    return [{ jobs: state.jobs + 1 }, []];
  },
  messages: { job: "refuse", pass: "refuse", die: "refuse", tick: "refuse" },
  inspect: (state) => ({ ...state, webhook: { url: "https://bot:hunter2@hooks.example/1" } }),
};
const job = (type: Job["type"]): Job => ({ type });

const sourcesOf = (system: ActorSystemShape): TopicSources => ({
  cluster: "test",
  version: "1",
  startedAt: START,
  agents: Effect.succeed([]),
  store: Effect.succeed({ state: "up", message: "", queuedRows: 0, dropped: 0 }),
  callsAt: () => Effect.succeed(null),
  insides: makeInsides(system, {
    self: { id: "1", name: "n1", url: "" },
    peers: () => [],
    query: () => Effect.die("there are no peers"),
  }),
  notices: () => [],
});

const START = 1_000_000;

interface World {
  readonly system: ActorSystemShape;
  readonly read: (topic: string) => ReturnType<typeof readTopic>;
  readonly advance: (ms: number) => Effect.Effect<void>;
}
const inWorld = (test: (world: World) => Effect.Effect<void, never, Scope.Scope>) => (): Promise<void> => {
  const { clock, advance } = manualClock(START);
  return Effect.gen(function* () {
    const system = yield* make;
    system.connect({ node: "n1" });
    system.register(worker);
    system.spawn("a", "worker", null);
    system.spawn("b", "worker", null, "a");
    const sources = sourcesOf(system);
    yield* test({ system, read: (topic) => readTopic(system, sources, topic), advance });
  }).pipe(Effect.scoped, Effect.withClock(clock), Effect.runPromise);
};
/** Long enough for everything that waits to be handled. */
const SETTLE = 100;

describe("topic console", () => {
  it(
    "has a row for each actor, with its parent, node, age and last error with its cause",
    inWorld(({ system, read, advance }) =>
      Effect.gen(function* () {
        system.tell("b", job("die"));
        yield* advance(SETTLE);
        const rows = (yield* read("console")) as Record<string, ActorView>;
        expect(Object.keys(rows)).toEqual(["a", "b"]);
        expect(rows["b"]).toMatchObject({ parent: "a", kind: "worker", node: "n1", startedAt: START, deadLetters: 1 });
        expect(rows["b"]?.lastError).toMatch(/^Error: broken at .+; caused by RangeError: 109 counters at /);
      }),
    ),
  );
});

describe("topic actor", () => {
  it(
    "has what the state was a minute ago once it was watched for that long, and no secret",
    inWorld(({ system, read, advance }) =>
      Effect.gen(function* () {
        expect(yield* read("actor:a")).toMatchObject({ state: { jobs: 0 }, before: null });
        for (let n = 0; n < 13; n++) {
          system.tell("a", job("job"));
          yield* advance(5_000);
          yield* read("actor:a");
        }
        const entries = yield* read("actor:a");
        expect(entries).toMatchObject({ state: { jobs: 13 }, before: { at: START + 5_000, state: { jobs: 1 } } });
        expect(JSON.stringify(entries)).not.toContain("hunter2");
      }),
    ),
  );

  it(
    "is no topic when nobody has that path",
    inWorld(({ read }) =>
      Effect.gen(function* () {
        expect(yield* read("actor:gone")).toBeNull();
      }),
    ),
  );
});

describe("topic trace", () => {
  it(
    "follows one message from actor to actor, and no other",
    inWorld(({ system, read, advance }) =>
      Effect.gen(function* () {
        yield* read("actor:a");
        system.tell("a", job("pass"));
        system.tell("a", job("job"));
        yield* advance(SETTLE);
        const { recent } = (yield* read("actor:a")) as { readonly recent: readonly ActorMessageView[] };
        const trace = recent.find(({ type }) => type === "pass")?.trace ?? -1;
        const { hops } = (yield* read(`trace:${trace}`)) as { readonly hops: readonly TraceHop[] };
        expect(hops.map(({ node, path, from, type, error }) => ({ node, path, from, type, error }))).toEqual([
          { node: "n1", path: "a", from: null, type: "pass", error: null },
          { node: "n1", path: "b", from: "a", type: "job", error: null },
        ]);
        expect(yield* read("trace:nonsense")).toEqual({ hops: [] });
      }),
    ),
  );
});

describe("topic dead-letters", () => {
  it(
    "has the newest first, each with its reason and the replica",
    inWorld(({ system, read, advance }) =>
      Effect.gen(function* () {
        system.tell("gone", job("job"));
        yield* advance(1_000);
        system.tell("b", job("die"), "a");
        yield* advance(SETTLE);
        const { letters } = (yield* read("dead-letters")) as { readonly letters: readonly DeadLetterView[] };
        expect(letters).toMatchObject([
          { at: START + 1_000 + SETTLE, node: "n1", to: "b", from: "a", type: "die" },
          { at: START, node: "n1", to: "gone", from: null, type: "job", reason: "nobody has this path" },
        ]);
        expect(letters[0]?.reason).toContain("caused by RangeError: 109 counters");
      }),
    ),
  );
});

describe("topic overview", () => {
  it(
    "says which actor keeps failing, and forgets it once it is healthy again",
    inWorld(({ system, read, advance }) =>
      Effect.gen(function* () {
        const notices = Effect.map(read("overview"), (entries) =>
          (entries as { readonly overview: Overview }).overview.notices.join("\n"),
        );
        expect(yield* notices).not.toContain("keeps failing");
        for (let n = 0; n < 120; n++) {
          // none waits during a quarantine, or it would fail again long after
          if (system.views().some(({ path, state }) => path === "b" && state === "idle")) system.tell("b", job("die"));
          yield* advance(500);
        }
        expect(yield* notices).toContain("b keeps failing: Error: broken");
        yield* advance(11 * 60_000);
        expect(yield* notices).not.toContain("keeps failing");
      }),
    ),
  );

  it(
    "says that a node is watched by agents of both kinds",
    inWorld(({ system }) =>
      Effect.gen(function* () {
        const agent = (id: string, node: string): AgentView => ({
          id,
          node,
          cluster: "test",
          version: "1",
          kernel: "",
          state: "connected",
          connectedAt: 0,
          lastFrameAt: 0,
          clockOffsetMs: 0,
          window: 0,
          framesPerSecond: 0,
          bytesPerSecond: 0,
          instances: 0,
          edges: 0,
          capabilities: [],
          losses: {},
          conflicts: 0,
          self: {},
        });
        const notices = (agents: readonly AgentView[]) =>
          Effect.map(
            readTopic(system, { ...sourcesOf(system), agents: Effect.succeed(agents) }, "overview"),
            (entries) => (entries as { readonly overview: Overview }).overview.notices.join("\n"),
          );
        expect(yield* notices([agent("stock:1", "n1"), agent("a", "n2")])).not.toContain("counts twice");
        expect(yield* notices([agent("stock:1", "n1"), agent("a", "n1")])).toContain("n1 is watched by a stock Coroot");
      }),
    ),
  );
});
