/**
 * Who there is and where: registers every kind of actor, starts the few that are not discovered, and says which part of
 * the deployment a path belongs to. Called by the server (and by specs, with ports of their own); everything it starts
 * stops with the actor system.
 */
import type { ActorSystemShape } from "../runtime/actor/ActorSystem.ts";
import type { AnyBehavior } from "../runtime/actor/Cell.ts";
import type { ActorPath, Behavior, Message } from "../runtime/actor/Behavior.ts";
import { MAIN, partitionOf, type PartOf } from "../runtime/cluster/places.ts";
import type { ServiceId } from "../schemas/service.ts";
import { agentSession } from "./agent-session/AgentSession.ts";
import { stockAgent } from "./stock-agent/StockAgent.ts";
import { stockKube } from "./stock-agent/StockKube.ts";
import { sinkPath } from "./alert-sink/messages.ts";
import { webhookSink, type WebhookArgument } from "./alert-sink/WebhookSink.ts";
import { incidentDesk, type DeskArgument } from "./incident/IncidentDesk.ts";
import { rcaCoordinator } from "./rca/RcaCoordinator.ts";
import { INCIDENT_DESK, servicePath, type ServiceArgument, type SloSettings } from "./service/messages.ts";
import { serviceActor } from "./service/ServiceActor.ts";
import type { Grouping } from "./topology/grouping.ts";
import { TOPOLOGY } from "./topology/messages.ts";
import { topologyActor, type TopologyArgument } from "./topology/TopologyActor.ts";

export interface ActorSettings {
  readonly slo: SloSettings;
  readonly webhooks: readonly WebhookArgument[];
  readonly grouping: Grouping;
  /** where the page is, for links in alerts */
  readonly url: string;
}

const BEHAVIORS = [
  serviceActor,
  topologyActor,
  agentSession,
  stockAgent,
  stockKube,
  incidentDesk,
  rcaCoordinator,
  webhookSink,
] as const;

/** For the replay of a recording. */
export const behaviorOf = (kind: string): AnyBehavior | undefined =>
  BEHAVIORS.map((behavior) => behavior as unknown as AnyBehavior).find((behavior) => behavior.kind === kind);

/** Makes every kind known; none starts yet. */
export const registerActors = (system: ActorSystemShape): void => {
  // Each behaviour has its own types of state and messages, which a common list cannot name.
  for (const behavior of BEHAVIORS) system.register(behavior as unknown as Behavior<unknown, Message>);
};

/** Starts what there is one of in a deployment, where its part lives. Those that are there already stay as they are. */
export const startMain = (system: ActorSystemShape, settings: ActorSettings): void => {
  for (const webhook of settings.webhooks) system.spawn(sinkPath(webhook.name), webhookSink.kind, webhook);
  system.spawn(INCIDENT_DESK, incidentDesk.kind, deskArgument(settings));
  system.spawn(TOPOLOGY, topologyActor.kind, topologyArgument(settings));
};

const topologyArgument = ({ slo, grouping }: ActorSettings): TopologyArgument => ({ slo, grouping });

const deskArgument = ({ webhooks, url }: ActorSettings): DeskArgument => ({
  sinks: webhooks.map((webhook) => sinkPath(webhook.name)),
  url,
});

/** An actor that is taken up again does what the configuration says now. */
export const argumentNow =
  (settings: ActorSettings) =>
  (path: ActorPath, saved: unknown): unknown => {
    if (path === INCIDENT_DESK) return deskArgument(settings);
    if (path === TOPOLOGY) return topologyArgument(settings);
    return path.startsWith(SERVICES) ? { ...(saved as ServiceArgument), slo: settings.slo } : saved;
  };

export const startActors = (system: ActorSystemShape, settings: ActorSettings): void => {
  registerActors(system);
  startMain(system, settings);
};

const SERVICES = servicePath("" as ServiceId);
const SESSIONS = "agent/";

/** Services are spread; a session lives where its agent connected; of everything else there is one. */
export const partOf: PartOf = (path) => {
  if (path.startsWith(SERVICES)) return partitionOf(path);
  return path.startsWith(SESSIONS) ? null : MAIN;
};
