/**
 * Who is there from the start: registers every kind of actor and spawns the few that are not discovered. Called once by
 * the server (and by specs, with ports of their own); everything it starts stops with the actor system.
 */
import type { ActorSystemShape } from "../runtime/actor/ActorSystem.ts";
import { agentSession } from "./agent-session/AgentSession.ts";
import { sinkPath } from "./alert-sink/messages.ts";
import { webhookSink, type WebhookArgument } from "./alert-sink/WebhookSink.ts";
import { incidentDesk, type DeskArgument } from "./incident/IncidentDesk.ts";
import { rcaCoordinator } from "./rca/RcaCoordinator.ts";
import { INCIDENT_DESK, type SloSettings } from "./service/messages.ts";
import { serviceActor } from "./service/ServiceActor.ts";
import { TOPOLOGY } from "./topology/messages.ts";
import { topologyActor } from "./topology/TopologyActor.ts";

export interface ActorSettings {
  readonly slo: SloSettings;
  readonly webhooks: readonly WebhookArgument[];
  /** where the page is, for links in alerts */
  readonly url: string;
}

export const startActors = (system: ActorSystemShape, settings: ActorSettings): void => {
  system.register(serviceActor);
  system.register(topologyActor);
  system.register(agentSession);
  system.register(incidentDesk);
  system.register(rcaCoordinator);
  system.register(webhookSink);
  for (const webhook of settings.webhooks) system.spawn(sinkPath(webhook.name), webhookSink.kind, webhook);
  const desk: DeskArgument = {
    sinks: settings.webhooks.map((webhook) => sinkPath(webhook.name)),
    url: settings.url,
  };
  system.spawn(INCIDENT_DESK, incidentDesk.kind, desk);
  system.spawn(TOPOLOGY, topologyActor.kind, { slo: settings.slo });
};
