/**
 * Shape checks for what arrives on the socket, one per kind of entry. They look at the fields that a view would trip
 * over, not at every field: the page and the server may be a version apart, and an additive change must pass.
 * A value that fails is refused by the store and counted; the page says so in the notices.
 */
import type { Silence } from "../../schemas/incident.ts";
import type {
  ActorMessageView,
  ActorView,
  AgentEntry,
  DeadLetterView,
  EdgeView,
  Incident,
  IncidentCard,
  Inspection,
  InstanceView,
  LiveWindows,
  MapEdge,
  Overview,
  PageMessage,
  ServiceCard,
  SloView,
  TraceHop,
  Traffic,
} from "../../schemas/wire/page.ts";

type Fields = Readonly<Record<string, "string" | "number" | "boolean" | "array" | "object">>;

const has = (value: unknown, fields: Fields): value is Record<string, unknown> => {
  if (typeof value !== "object" || value === null) return false;
  const record = value as Record<string, unknown>;
  for (const [name, kind] of Object.entries(fields)) {
    const field = record[name];
    const holds =
      kind === "array"
        ? Array.isArray(field)
        : kind === "object"
          ? typeof field === "object" && field !== null
          : typeof field === kind;
    if (!holds) return false;
  }
  return true;
};

export type Guard<T> = (value: unknown) => value is T;

export const isTraffic: Guard<Traffic> = (value): value is Traffic =>
  has(value, { requestsPerSecond: "number", errorRatio: "number", pending: "number" });

export const isOverview: Guard<Overview> = (value): value is Overview =>
  has(value, {
    cluster: "string",
    agents: "object",
    services: "number",
    openIncidents: "number",
    store: "object",
    notices: "array",
  });

export const isServiceCard: Guard<ServiceCard> = (value): value is ServiceCard =>
  has(value, { id: "string", name: "string", kind: "string", namespace: "string", type: "string", status: "string" }) &&
  isTraffic(value["inbound"]);

export const isMapEdge: Guard<MapEdge> = (value): value is MapEdge =>
  has(value, {
    from: "string",
    to: "string",
    status: "string",
    failedConnectsPerSecond: "number",
    failedConnectsReason: "string",
    protocols: "array",
  }) && isTraffic(value["traffic"]);

export const isSloView: Guard<SloView> = (value): value is SloView =>
  has(value, { availabilityObjective: "number", latencyObjective: "number", burn: "array", state: "string" });

export const isEdgeView: Guard<EdgeView> = (value): value is EdgeView =>
  has(value, {
    peer: "string",
    peerName: "string",
    protocols: "array",
    status: "string",
    failedConnectsPerSecond: "number",
    failedConnectsReason: "string",
    brokenConnectionsPerSecond: "number",
  }) &&
  (value["client"] === null || isTraffic(value["client"])) &&
  (value["server"] === null || isTraffic(value["server"]));

export const isInstanceView: Guard<InstanceView> = (value): value is InstanceView =>
  has(value, {
    instance: "string",
    node: "string",
    up: "boolean",
    cpuCores: "number",
    memoryBytes: "number",
    restarts: "number",
  });

export const isInspection: Guard<Inspection> = (value): value is Inspection =>
  has(value, {
    id: "string",
    category: "string",
    title: "string",
    status: "string",
    message: "string",
    evidence: "array",
  });

export const isLiveWindows: Guard<LiveWindows> = (value): value is LiveWindows =>
  has(value, {
    time: "array",
    requests: "array",
    errors: "array",
    p50Ms: "array",
    p95Ms: "array",
    p99Ms: "array",
    cpuCores: "array",
    throttledRatio: "array",
    memoryBytes: "array",
    pending: "array",
  });

export const isIncidentCard: Guard<IncidentCard> = (value): value is IncidentCard =>
  has(value, {
    id: "string",
    status: "string",
    severity: "string",
    service: "string",
    headline: "string",
    suspectedAt: "number",
  });

export const isIncident: Guard<Incident> = (value): value is Incident =>
  has(value, {
    id: "string",
    status: "string",
    service: "string",
    headline: "string",
    members: "array",
    timeline: "array",
    onsetAt: "number",
  });

export const isAgentView: Guard<AgentEntry> = (value): value is AgentEntry =>
  has(value, {
    id: "string",
    node: "string",
    state: "string",
    capabilities: "array",
    losses: "object",
    self: "object",
    inspections: "array",
    lastFrameAt: "number",
  });

export const isActorView: Guard<ActorView> = (value): value is ActorView =>
  has(value, {
    path: "string",
    kind: "string",
    state: "string",
    mailbox: "number",
    handled: "number",
    restarts: "number",
  });

export const isActorMessages: Guard<readonly ActorMessageView[]> = (value): value is readonly ActorMessageView[] =>
  Array.isArray(value) &&
  value.every((each) => has(each, { at: "number", type: "string", waitMs: "number", handleMs: "number" }));

export const isTraceHops: Guard<readonly TraceHop[]> = (value): value is readonly TraceHop[] =>
  Array.isArray(value) &&
  value.every((each) => has(each, { at: "number", path: "string", type: "string", node: "string", waitMs: "number" }));

export const isDeadLetters: Guard<readonly DeadLetterView[]> = (value): value is readonly DeadLetterView[] =>
  Array.isArray(value) && value.every((each) => has(each, { at: "number", to: "string", type: "string" }));

export const isSilence: Guard<Silence> = (value): value is Silence =>
  has(value, { id: "string", match: "string", until: "number", reason: "string", by: "string" });

const isAnything: Guard<unknown> = (value): value is unknown => value !== undefined;

/** Whole minutes of a service's live columns, sent apart from the running one. */
export const LIVE_PAST = "live:past";

const guardOf = (topic: string, key: string): Guard<unknown> => {
  if (topic === "overview") return isOverview;
  if (topic === "services") return isServiceCard;
  if (topic === "map" || topic.startsWith("map:")) return key.startsWith("edge:") ? isMapEdge : isServiceCard;
  if (topic === "incidents") return isIncidentCard;
  if (topic === "agents") return isAgentView;
  if (topic === "console") return isActorView;
  if (topic === "silences") return isSilence;
  if (topic === "dead-letters") return isDeadLetters;
  if (topic.startsWith("trace:")) return isTraceHops;
  if (topic.startsWith("incident:")) return isIncident;
  if (topic.startsWith("actor:")) return key === "row" ? isActorView : key === "recent" ? isActorMessages : isAnything;
  if (key === "card") return isServiceCard;
  if (key === "slo") return isSloView;
  if (key === "live" || key === LIVE_PAST) return isLiveWindows;
  if (key.startsWith("inspection:")) return isInspection;
  if (key.startsWith("instance:")) return isInstanceView;
  return key.startsWith("inbound:") || key.startsWith("outbound:") ? isEdgeView : isAnything;
};

export const acceptEntry = (topic: string, key: string, value: unknown): boolean => guardOf(topic, key)(value);

/** A message of the socket, or null when it is none that this page understands. */
export const readMessage = (text: string): PageMessage | null => {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  return isPageMessage(value) ? value : null;
};

const isPageMessage = (value: unknown): value is PageMessage => {
  if (!has(value, { type: "string" })) return false;
  switch (value["type"]) {
    case "hello":
      return has(value, { protocol: "number", serverId: "string", version: "string", nowMs: "number" });
    case "snapshot":
      return has(value, { topic: "string", seq: "number", nowMs: "number", entries: "object" });
    case "delta":
      return has(value, { topic: "string", seq: "number", nowMs: "number", set: "object", del: "array" });
    case "error":
      return has(value, { message: "string" });
    default:
      return false;
  }
};
