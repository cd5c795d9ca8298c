/**
 * Stock Coroot agents: what the doors have to do with the actors that look after them. Nothing here decides anything.
 */
import { Effect, Metric } from "effect";
import type { Grouping } from "../../actors/topology/grouping.ts";
import type { Message } from "../../runtime/actor/Behavior.ts";
import { sessionPath } from "../../actors/agent-session/messages.ts";
import { instrumentation, isDatabase, type Database } from "../../actors/stock-agent/instrumentation.ts";
import type { Samples } from "../../actors/stock-agent/messages.ts";
import { KUBE_AGENT, watcherOf } from "../../actors/stock-agent/metrics.ts";
import type { StockArgument } from "../../actors/stock-agent/StockAgent.ts";
import type { KubeArgument } from "../../actors/stock-agent/StockKube.ts";
import { TOPOLOGY, type Listen, type ListensWanted } from "../../actors/topology/messages.ts";
import type { ActorSystemShape } from "../../runtime/actor/ActorSystem.ts";
import type { ClusterShape } from "../../runtime/cluster/Cluster.ts";
import type { Settings } from "../../runtime/config/Config.ts";
import { RETRY_AFTER_S } from "../../runtime/doors/decode.ts";
import { DoorRefusal, type Door } from "../../runtime/doors/Door.ts";
import type { MetricsWatchShape } from "../../runtime/remote-write/MetricsWatch.ts";
import type { MapEdge, ServiceCard } from "../../schemas/wire/page.ts";

/** Nodes that one replica looks after. */
const MAX_AGENTS = 2_000;

const counter = (name: string, description: string) => Metric.counter(name, { description, incremental: true });
const samplesTotal = counter("coroot_stock_samples_total", "samples of stock agents that were handed to their actors");
const refusedTotal = counter("coroot_stock_samples_refused_total", "samples of stock agents that were not, by reason");
const agentsGauge = Metric.gauge("coroot_stock_agents", { description: "stock agents that this replica looks after" });

const SHED = Metric.tagged(refusedTotal, "reason", "shed");
const TOO_MANY = Metric.tagged(refusedTotal, "reason", `more than ${MAX_AGENTS} agents`);

/** An agent's actor is where its samples came first, until it ends or that replica goes away. */
export const stockWatch = (
  system: ActorSystemShape,
  { sessionHere, sessionElsewhere }: Pick<ClusterShape, "sessionHere" | "sessionElsewhere">,
  cluster: string,
  grouping: Grouping,
): MetricsWatchShape => {
  const here = new Set<string>();
  const start = (path: string, agent: string): boolean => {
    if (system.has(path) || sessionElsewhere(path)) return true;
    if (here.size >= MAX_AGENTS) for (const one of here) if (!system.has(one)) here.delete(one);
    if (here.size >= MAX_AGENTS) return false;
    here.add(path);
    agentsGauge.unsafeUpdate(here.size, []);
    sessionHere(path);
    if (agent === KUBE_AGENT) system.spawn(path, "stock-kube", { agent, cluster } satisfies KubeArgument);
    else system.spawn(path, "stock-agent", { agent, cluster, grouping } satisfies StockArgument);
    return true;
  };
  return {
    watcherOf,
    tell: (agent, samples) => {
      const path = sessionPath(agent);
      const count = samples.times.length;
      if (!start(path, agent)) return TOO_MANY.unsafeUpdate(count, []);
      const message: Samples = { type: "samples", samples };
      (system.tell(path, message) ? samplesTotal : SHED).unsafeUpdate(count, []);
    },
  };
};

const ASK_MS = 3_000;
const CONFIG_PATH = "/v1/config";

const databasesOf = (system: ActorSystemShape): Database[] => {
  const spoken = new Map<string, Set<string>>();
  for (const edges of system.board.read("edges").values())
    for (const { to, protocols } of edges as readonly MapEdge[]) {
      const known = spoken.get(to) ?? new Set();
      for (const protocol of protocols) known.add(protocol);
      spoken.set(to, known);
    }
  return ([...system.board.read("services").values()] as ServiceCard[]).flatMap(({ id, name, namespace, type }) => {
    const types = [type, ...(spoken.get(id) ?? [])];
    return isDatabase(types) ? [{ service: id, name, namespace, types }] : [];
  });
};

/** What a stock coroot-cluster-agent asks for once a minute. */
export const agentConfigDoor = (system: ActorSystemShape, { databases: { credentials } }: Settings): Door => ({
  path: CONFIG_PATH,
  method: "GET",
  contentTypes: [],
  encodings: [],
  maxBytes: 0,
  handle: () =>
    Effect.gen(function* () {
      const databases = databasesOf(system);
      const wanted: ListensWanted = { type: "listens-wanted", services: databases.map(({ service }) => service) };
      const listens = databases.length === 0 ? [] : yield* system.ask(TOPOLOGY, wanted as Message, ASK_MS);
      const application_instrumentation = instrumentation(databases, listens as readonly Listen[], credentials);
      return {
        status: 200,
        contentType: "application/json",
        body: JSON.stringify({ application_instrumentation, aws_config: null }),
      };
    }).pipe(
      Effect.mapError((error) => new DoorRefusal({ status: 503, message: error.message, retryAfter: RETRY_AFTER_S })),
    ),
});
