/**
 * What the map shows, from the topic "map": services that take part in traffic, calls between them, and the shelf of
 * services without any. A filter hides, it never moves: the layout always sees the whole graph. Pure.
 */
import type { MapEdge, ServiceCard } from "../../schemas/wire/page.ts";
import { isMapEdge, isServiceCard } from "../live/entries.ts";
import { edgeKey } from "./graph.ts";

export interface MapFilter {
  /** empty = all */
  readonly namespaces: ReadonlySet<string>;
  readonly kinds: ReadonlySet<string>;
  readonly find: string;
}

export interface Scene {
  /** services on the map */
  readonly cards: ReadonlyMap<string, ServiceCard>;
  readonly edges: ReadonlyMap<string, MapEdge>;
  /** requests per second that a service sends, for those that nobody asks anything */
  readonly sends: ReadonlyMap<string, number>;
  /** services without any call, by name */
  readonly shelf: readonly ServiceCard[];
  readonly namespaces: readonly string[];
  readonly kinds: readonly string[];
  /** services hidden by the filter */
  readonly hidden: number;
  /** the whole graph, for the layout */
  readonly allNodes: readonly string[];
  readonly allEdges: readonly MapEdge[];
  /** null: nothing is searched for */
  readonly matches: ReadonlySet<string> | null;
}

export const NO_FILTER: MapFilter = { namespaces: new Set(), kinds: new Set(), find: "" };

export const matchesText = (card: ServiceCard, text: string): boolean =>
  text === "" ||
  `${card.name} ${card.namespace} ${card.kind} ${card.type} ${card.status}`.toLowerCase().includes(text.toLowerCase());

const distinct = (values: readonly string[]): readonly string[] => [...new Set(values)].sort();

export const buildScene = (entries: ReadonlyMap<string, unknown>, filter: MapFilter): Scene => {
  const everyone = new Map<string, ServiceCard>();
  const calls: MapEdge[] = [];
  for (const [key, value] of entries) {
    if (key.startsWith("node:") && isServiceCard(value)) everyone.set(value.id, value);
    else if (key.startsWith("edge:") && isMapEdge(value)) calls.push(value);
  }
  const allEdges = calls.filter(({ from, to }) => from !== to && everyone.has(from) && everyone.has(to));
  const busy = new Set(allEdges.flatMap(({ from, to }) => [from as string, to as string]));
  const passes = (card: ServiceCard): boolean =>
    (filter.namespaces.size === 0 || filter.namespaces.has(card.namespace)) &&
    (filter.kinds.size === 0 || filter.kinds.has(card.kind));
  const cards = new Map<string, ServiceCard>();
  const shelf: ServiceCard[] = [];
  let hidden = 0;
  for (const [id, card] of everyone) {
    if (!passes(card)) hidden++;
    else if (busy.has(id)) cards.set(id, card);
    else shelf.push(card);
  }
  const sends = new Map<string, number>();
  for (const { from, traffic } of allEdges) sends.set(from, (sends.get(from) ?? 0) + traffic.requestsPerSecond);
  const edges = new Map(
    allEdges
      .filter(({ from, to }) => cards.has(from) && cards.has(to))
      .map((edge) => [edgeKey(edge.from, edge.to), edge]),
  );
  const all = [...everyone.values()];
  return {
    cards,
    edges,
    sends,
    shelf: shelf.sort((a, b) => a.name.localeCompare(b.name) || (a.id < b.id ? -1 : 1)),
    namespaces: distinct(all.map((card) => card.namespace)),
    kinds: distinct(all.map((card) => card.kind)),
    hidden,
    allNodes: [...everyone.keys()].filter((id) => busy.has(id)),
    allEdges,
    matches:
      filter.find === ""
        ? null
        : new Set([...cards].filter(([, card]) => matchesText(card, filter.find)).map(([id]) => id)),
  };
};

/** Calls fail right now: drawn dashed. */
export const isFailing = (edge: MapEdge): boolean =>
  edge.failedConnectsPerSecond > 0 || edge.status === "critical" || edge.traffic.errorRatio >= 0.5;
