/** One measurement of kernel.ts in a process of its own: `kernelWork.ts <name>` writes one line of JSON. */
import * as Entity from "@effect/cluster/Entity";
import { ClientTracingEnabled } from "@effect/cluster/ClusterSchema";
import * as TestRunner from "@effect/cluster/TestRunner";
import * as Rpc from "@effect/rpc/Rpc";
import { Effect, Schema } from "effect";
import { partOf } from "../../../../actors/guardian.ts";
import type { Observe, RequestWindow, ServiceArgument } from "../../../../actors/service/messages.ts";
import { serviceActor } from "../../../../actors/service/ServiceActor.ts";
import { make, type ActorSystemShape } from "../../../../runtime/actor/ActorSystem.ts";
import type { Behavior, Message } from "../../../../runtime/actor/Behavior.ts";
import type { Parcel } from "../../../../runtime/actor/Outside.ts";
import { fromWire, toWire } from "../../../../runtime/cluster/frames.ts";
import { Router } from "../../../../runtime/cluster/Router.ts";
import { allParts } from "../../../../runtime/cluster/places.ts";
import { serviceId } from "../../../../schemas/service.ts";
import { bucketOf } from "../../../../schemas/wire/histogram.ts";
import { manualClock } from "../../../actors/ManualClock.ts";

const SERVICES = 10_000;

interface Add extends Message {
  readonly type: "add";
  readonly n: number;
}
interface Sum {
  total: number;
}
const adder: Behavior<Sum, Add, null> = {
  kind: "adder",
  mailbox: 256,
  messages: { add: "refuse" },
  ticks: false,
  initial: () => [{ total: 0 }, []],
  step: (state, message) => {
    state.total += message.n;
    return [state, []];
  },
  inspect: (state) => state,
};

const ids = (n: number) => Array.from({ length: n }, (_, i) => serviceId("default", "bench", "Deployment", `svc-${i}`));
const cpu = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};
const heap = (): number => {
  globalThis.gc?.();
  globalThis.gc?.();
  return process.memoryUsage().heapUsed;
};
const median = (all: readonly number[]): number => all.toSorted((a, b) => a - b)[Math.floor(all.length / 2)] ?? 0;

/** What a partition's batches go through: the router finds the part, the kernel the actor. */
const placed = (system: ActorSystemShape): Router => {
  const router: Router = new Router({
    partOf,
    send: () => false,
    receive: (parcel, answered) => void system.receive(parcel, answered),
    answer: () => undefined,
    spawn: () => undefined,
    stop: () => undefined,
    soon: (flush) => void setImmediate(flush),
  });
  for (const part of allParts()) router.settled(part);
  system.connect({ router });
  return router;
};

/** Batches by partition, as they come over the link, `each` messages for every actor. */
const batches = (paths: readonly string[], each: number) => {
  const byPart = new Map<string, Parcel[]>();
  for (const path of paths) {
    const part = partOf(path) ?? "";
    const list = byPart.get(part) ?? [];
    byPart.set(part, list);
    for (let i = 0; i < each; i++)
      list.push({ to: path, message: { type: "add", n: 1 } as Add, from: "agent/a", trace: 1, ask: 0, timeoutMs: 0 });
  }
  return [...byPart.values()].map((parcels) => parcels.map(toWire));
};

const entityRate = Effect.gen(function* () {
  const One = Entity.make("One", [Rpc.make("Add", { payload: { n: Schema.Number } })]).annotateRpcs(
    ClientTracingEnabled,
    false,
  );
  const layer = One.toLayer({ Add: () => Effect.void }, { maxIdleTime: "1 hour", disableFatalDefects: true });
  return yield* Effect.gen(function* () {
    const client = yield* One.client;
    const N = 500;
    yield* Effect.forEach(Array.from({ length: N }), (_, i) => client(String(i)).Add({ n: 1 }), { discard: true });
    const rates: number[] = [];
    for (let round = 0; round < 5; round++) {
      const began = cpu();
      yield* Effect.forEach(Array.from({ length: N }), (_, i) => client(String(i)).Add({ n: 1 }, { discard: true }), {
        discard: true,
      });
      yield* Effect.sleep("20 millis");
      rates.push(N / (cpu() - began));
    }
    return median(rates);
  }).pipe(Effect.provide(layer));
}).pipe(Effect.provide(TestRunner.layer));

const tells = (each: number) =>
  Effect.gen(function* () {
    const system = yield* make;
    system.register(adder);
    const router = placed(system);
    const paths = ids(SERVICES).map((id) => `service/${id}`);
    for (const path of paths) system.spawn(path, "adder", null);
    const work = batches(paths, each);
    const rates: number[] = [];
    for (let round = 0; round < 12; round++) {
      const began = cpu();
      for (const batch of work) {
        for (const wire of batch) router.arrived(fromWire(wire), () => undefined);
        yield* system.idle;
      }
      rates.push((SERVICES * each) / (cpu() - began));
    }
    // Plain objects in a Map, called one after the other.
    const objects = new Map(paths.map((path) => [path, { total: 0 }]));
    const calls: number[] = [];
    for (let round = 0; round < 12; round++) {
      const began = cpu();
      for (let i = 0; i < 20; i++)
        for (const batch of work)
          for (const [to, message] of batch) {
            const object = objects.get(to);
            if (object !== undefined) object.total += (message as Add).n;
          }
      calls.push((20 * SERVICES * each) / (cpu() - began));
    }
    return { perCpuSecond: median(rates.slice(2)), objects: median(calls.slice(2)), entities: yield* entityRate };
  });

const idle = Effect.gen(function* () {
  const system = yield* make;
  system.register(adder);
  const paths = ids(SERVICES).map((id) => `service/${id}`);
  const states = new Map<string, Sum>();
  const before = heap();
  for (const path of paths) states.set(path, { total: 0 });
  const perState = (heap() - before) / SERVICES;
  const then = heap();
  for (const path of paths) system.spawn(path, "adder", null);
  for (const path of paths) system.tell(path, { type: "add", n: 1 } as Add);
  yield* system.idle;
  yield* Effect.sleep("50 millis");
  const perActor = (heap() - then) / SERVICES;
  return { bytes: perActor - perState, perActor, perState, kept: states.size };
});

const SLO = { availabilityObjective: 0.99, latencyObjective: 0.99, latencyThresholdMs: 500, holdMs: 15_000 };
const services = (system: ActorSystemShape, n: number, from = 0): string[] => {
  const paths: string[] = [];
  for (const id of ids(n).slice(from)) {
    const argument: ServiceArgument = {
      id,
      kind: "Pod",
      serviceType: "",
      category: "application",
      slo: SLO,
    };
    const path = `service/${id}`;
    system.spawn(path, "service", argument);
    paths.push(path);
  }
  return paths;
};

const ports = (system: ActorSystemShape): void => {
  system.register(serviceActor);
  system.port("ledger", () => Effect.succeed([]));
  system.port("baselines", () => Effect.succeed([]));
  system.port("rows", () => Effect.void);
};

const request = (count: number): RequestWindow => ({
  protocol: 1,
  ok: count,
  rejected: 0,
  failed: 0,
  unanswered: 0,
  unknown: 0,
  sumUs: count * 8_000,
  histogram: [2, 4, 6, 8, 10, 14].flatMap((ms) => [bucketOf(ms), Math.ceil(count / 6)]),
});

const window = (i: number, second: number, at: number, peers: readonly string[]): Observe => {
  const edge = (side: Observe["edges"][number]["side"], peer: string) => ({
    side,
    peer: peer as Observe["edges"][number]["peer"],
    protocols: [request(20)],
    opens: 0,
    failedConnects: 0,
    closes: 0,
    active: 4,
    bytesOut: 9_000,
    bytesIn: 3_000,
    retransmits: 0,
    connectUs: 0,
    rttUs: 0,
    rttCount: 0,
    pending: 1,
    oldestMs: 3,
  });
  return {
    type: "observe",
    agent: `agent-${i % 100}`,
    epoch: 1,
    window: second,
    at,
    seconds: 1,
    instances: [
      {
        instance: `pod-${i}`,
        node: "n",
        startedAt: 0,
        processes: 1,
        cpuMs: 40,
        cpuLimit: 1,
        throttledMs: 0,
        throttledPeriods: 0,
        periods: 10,
        waitMs: 0,
        memory: 80e6,
        memoryLimit: 256e6,
        oomKills: 0,
        ioBytes: 0,
        ioWaitMs: 0,
        restarts: 0,
      },
    ],
    edges: [
      edge("inbound-server", peers[(i + 1) % peers.length] ?? ""),
      edge("inbound-client", peers[(i + 1) % peers.length] ?? ""),
      edge("outbound", peers[(i + 7) % peers.length] ?? ""),
    ],
    events: [],
  };
};

/** Virtual seconds: ten beats of the metronome, and one window for each service. */
const fleet = Effect.gen(function* () {
  const time = manualClock(1_700_000_000_000);
  const SECONDS = 20;
  const WARM = 15;
  return yield* Effect.withClock(
    Effect.gen(function* () {
      const system = yield* make;
      ports(system);
      const paths = services(system, SERVICES);
      const peers = ids(SERVICES);
      let spent = 0;
      for (let second = 0; second < WARM + SECONDS; second++) {
        const messages = paths.map((_, i) => window(i, second, time.now(), peers));
        const began = cpu();
        for (let beat = 0; beat < 10; beat++) {
          for (let i = beat; i < paths.length; i += 10) {
            const message = messages[i];
            if (message !== undefined) system.tell(paths[i] ?? "", message);
          }
          yield* time.advance(100);
          yield* system.idle;
        }
        if (second >= WARM) spent += cpu() - began;
      }
      return { cores: spent / SECONDS, seconds: SECONDS };
    }),
    time.clock,
  );
});

const start = Effect.gen(function* () {
  const system = yield* make;
  ports(system);
  const before = heap();
  const began = cpu();
  services(system, 12_500);
  yield* system.idle;
  const at12k = (heap() - before) / 12_500;
  services(system, 25_000, 12_500);
  yield* system.idle;
  const at25k = (heap() - before) / 25_000;
  services(system, 50_000, 25_000);
  yield* system.idle;
  const cpuSeconds = cpu() - began;
  return { cpuSeconds, at12k, at25k, at50k: (heap() - before) / 50_000 };
});

const WORKS = { wake: tells(1), queued: tells(8), idle, fleet, start } as const;
const name = process.argv[2] as keyof typeof WORKS;
const result = await Effect.runPromise(Effect.scoped(WORKS[name] as Effect.Effect<object>));
process.stdout.write(`${JSON.stringify(result)}\n`);
process.exit(0);
