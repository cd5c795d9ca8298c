/**
 * Where the page's topics come from: boards that actors publish to, and one ask where a detail is looked at. Reads only;
 * it owns no state, so nothing here can fail but an ask, whose topic is then unknown until the actor answers again.
 */
import { Clock, Effect } from "effect";
import type { ActorSystemShape } from "../../runtime/actor/ActorSystem.ts";
import type { Insides } from "../../runtime/cluster/Insides.ts";
import type { Incident } from "../../schemas/incident.ts";
import { parseServiceId, serviceName, type ServiceId } from "../../schemas/service.ts";
import type {
  AgentEntry,
  AgentView,
  IncidentCard,
  MapEdge,
  Overview,
  ServiceCard,
  Traffic,
} from "../../schemas/wire/page.ts";
import { inspectAgent } from "../agent-session/inspect.ts";
import { servicePath } from "../service/messages.ts";
import { isStock } from "../stock-agent/metrics.ts";

const ASK_MS = 1_000;

/** What the topics need beside the actors. */
export interface TopicSources {
  readonly cluster: string;
  readonly version: string;
  readonly startedAt: number;
  readonly agents: Effect.Effect<readonly AgentView[]>;
  readonly store: Effect.Effect<Overview["store"]>;
  /** calls between services that went on at a moment of the past, ms; null: it is not known */
  readonly callsAt: (at: number) => Effect.Effect<readonly PastCall[] | null>;
  /** the inside of all replicas */
  readonly insides: Insides;
  /** what a person must know about this replica and its database */
  readonly notices: () => readonly string[];
}

export interface PastCall {
  readonly from: ServiceId;
  readonly to: ServiceId;
}

export type Entries = Readonly<Record<string, unknown>>;

/** Entries of a topic, or null when there is no such topic (any more). */
export const readTopic = (
  system: ActorSystemShape,
  sources: TopicSources,
  topic: string,
): Effect.Effect<Entries | null> => {
  const separator = topic.indexOf(":");
  const [name, argument] = separator < 0 ? [topic, ""] : [topic.slice(0, separator), topic.slice(separator + 1)];
  switch (name) {
    case "overview":
      return overview(system, sources);
    case "services":
      return Effect.sync(() => Object.fromEntries(cards(system).map((card) => [card.id, card])));
    case "map":
      return argument === "" ? Effect.sync(() => map(system)) : pastMap(sources, Number(argument));
    case "incidents":
      return Effect.sync(() =>
        Object.fromEntries(incidents(system).map((incident) => [incident.id, cardOf(incident)])),
      );
    case "incident":
      return Effect.sync(() => {
        const incident = system.board.read("incidents").get(argument);
        return incident === undefined ? null : { incident };
      });
    case "agents":
      return Effect.gen(function* () {
        const agents = yield* sources.agents;
        const now = yield* Clock.currentTimeMillis;
        return Object.fromEntries(
          agents.map((agent) => [agent.id, { ...agent, inspections: inspectAgent(agent, now) } satisfies AgentEntry]),
        );
      });
    case "console":
      return Effect.map(sources.insides.views, (views) => Object.fromEntries(views.map((view) => [view.path, view])));
    case "actor":
      return Effect.map(sources.insides.inspect(argument), (found) => (found === null ? null : { ...found }));
    case "trace":
      return Effect.map(sources.insides.trace(Number(argument)), (hops) => ({ hops }));
    case "dead-letters":
      return Effect.map(sources.insides.deadLetters, (letters) => ({ letters }));
    case "silences":
      return Effect.sync(() => Object.fromEntries(system.board.read("silences")));
    case "service":
      return system.ask(servicePath(argument as ServiceId), { type: "page" }, ASK_MS).pipe(
        Effect.map((entries) => withIncident(system, entries as Record<string, unknown>)),
        Effect.catchAll((error) => Effect.as(Effect.logDebug(error.message), null)),
      );
    default:
      return Effect.succeed(null);
  }
};

const incidents = (system: ActorSystemShape): Incident[] => [...system.board.read("incidents").values()] as Incident[];

const cardOf = (incident: Incident): IncidentCard => {
  const cause = incident.rca?.causes[0];
  return {
    id: incident.id,
    status: incident.status,
    severity: incident.severity,
    service: incident.service,
    headline: incident.headline,
    cause: cause === undefined ? null : { service: cause.service, kind: cause.kind, confidence: cause.confidence },
    impact: incident.impact,
    suspectedAt: incident.suspectedAt,
    openedAt: incident.openedAt,
    resolvedAt: incident.resolvedAt,
    members: incident.members.length,
  };
};

/** The running incident of each service that takes part in one. */
const running = (system: ActorSystemShape): ReadonlyMap<ServiceId, string> => {
  const out = new Map<ServiceId, string>();
  for (const incident of incidents(system))
    if (incident.status === "open" || incident.status === "suspicion")
      for (const member of incident.members) out.set(member, incident.id);
  return out;
};

const cards = (system: ActorSystemShape): ServiceCard[] => {
  const inIncident = running(system);
  return ([...system.board.read("services").values()] as ServiceCard[]).map((card) => ({
    ...card,
    incident: inIncident.get(card.id) ?? null,
  }));
};

const withIncident = (system: ActorSystemShape, entries: Record<string, unknown>): Entries => {
  const card = entries["card"] as ServiceCard;
  return { ...entries, card: { ...card, incident: running(system).get(card.id) ?? null } };
};

const map = (system: ActorSystemShape): Entries => {
  const entries: Record<string, unknown> = {};
  for (const card of cards(system)) entries[`node:${card.id}`] = card;
  for (const edges of system.board.read("edges").values() as Iterable<readonly MapEdge[]>)
    for (const edge of edges) entries[`edge:${edge.from}>${edge.to}`] = edge;
  return entries;
};

const NOTHING: Traffic = {
  requestsPerSecond: 0,
  errorRatio: 0,
  unknownRatio: 0,
  p50Ms: null,
  p95Ms: null,
  p99Ms: null,
  pending: 0,
  oldestPendingMs: 0,
};

/** Who called whom then. Figures of that moment are on each service's page. */
const pastMap = (sources: TopicSources, at: number): Effect.Effect<Entries | null> =>
  Effect.map(sources.callsAt(at), (calls) => {
    if (calls === null) return null;
    const entries: Record<string, unknown> = {};
    for (const { from, to } of calls) {
      for (const id of [from, to]) entries[`node:${id}`] ??= pastCard(id, at);
      const edge: MapEdge = {
        from,
        to,
        protocols: [],
        traffic: NOTHING,
        failedConnectsPerSecond: 0,
        failedConnectsReason: "",
        bytesPerSecond: 0,
        status: "unknown",
      };
      entries[`edge:${from}>${to}`] = edge;
    }
    return entries;
  });

const pastCard = (id: ServiceId, at: number): ServiceCard => {
  const parts = parseServiceId(id);
  return {
    id,
    name: serviceName(id),
    kind: parts?.kind ?? "",
    namespace: parts?.namespace ?? "",
    type: "",
    category: "",
    status: "unknown",
    reason: "",
    inbound: NOTHING,
    instances: 0,
    cpuCores: null,
    memoryBytes: null,
    hasSlo: false,
    lastSeen: at,
    incident: null,
  };
};

const overview = (system: ActorSystemShape, sources: TopicSources): Effect.Effect<Entries> =>
  Effect.gen(function* () {
    const agents = yield* sources.agents;
    const store = yield* sources.store;
    const now = yield* Clock.currentTimeMillis;
    const open = incidents(system);
    const view: Overview = {
      cluster: sources.cluster,
      version: sources.version,
      startedAt: sources.startedAt,
      agents: { connected: agents.filter((agent) => agent.state === "connected").length, known: agents.length },
      services: system.board.read("services").size,
      openIncidents: open.filter((incident) => incident.status === "open").length,
      suspicions: open.filter((incident) => incident.status === "suspicion").length,
      store,
      notices: [
        ...sources.notices(),
        ...system.failing().map(({ path, error }) => `${path} keeps failing: ${error}`),
        ...notices(agents, store, now, now - sources.startedAt),
      ],
    };
    return { overview: view };
  });

/** An agent and the store may take this long to come up before it is worth a notice. */
const STARTING_MS = 15_000;

const notices = (agents: readonly AgentView[], store: Overview["store"], now: number, age: number): string[] => {
  const out: string[] = [];
  if (agents.length === 0 && age > STARTING_MS) out.push("No agent is connected: nothing is observed.");
  const connected = agents.filter(({ state }) => state === "connected");
  const ours = new Set(connected.filter(({ id }) => !isStock(id)).map(({ node }) => node));
  for (const agent of agents) {
    if (isStock(agent.id) && connected.includes(agent) && ours.has(agent.node))
      out.push(`${agent.node} is watched by a stock Coroot agent and by one of ours: what they see counts twice.`);
    if (agent.conflicts > 0) out.push(`Two agents claim the id of ${agent.node}.`);
    for (const { status, message } of inspectAgent(agent, now))
      if (status === "warning" || status === "critical") out.push(`Agent ${agent.node}: ${message}.`);
  }
  if (store.state === "down") out.push(`The store is down: ${store.message}. Detection goes on; history waits.`);
  if (store.dropped > 0) out.push(`${store.dropped} rows of history were dropped while the store was away.`);
  return out;
};
