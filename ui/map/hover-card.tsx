/** In the corner of a map seen from afar: what is pointed at and its links, where labels on the lines would cover cards. */
import type { MapEdge } from "../../schemas/wire/page.ts";
import { formatMs, formatPercent, formatRate } from "../format.ts";
import { StatusSign } from "../kit/signs.tsx";
import { nameOf } from "../names.ts";
import type { Target } from "./draw.ts";
import { edgeKey } from "./graph.ts";
import type { Scene } from "./scene.ts";

const MOST = 16;

export const HoverCard = ({ scene, target }: { readonly scene: Scene; readonly target: Target }) => {
  const edges = [...scene.edges].flatMap(([key, edge]) =>
    (target.kind === "edge" ? key === target.key : edge.from === target.id || edge.to === target.id) ? [edge] : [],
  );
  const self = target.kind === "node" ? target.id : null;
  // callers first, then by traffic
  const sorted = edges.sort(
    (a, b) =>
      Number(b.to === self) - Number(a.to === self) || b.traffic.requestsPerSecond - a.traffic.requestsPerSecond,
  );
  if (sorted.length === 0) return null;
  return (
    <div className="hover-card" aria-hidden>
      <div className="hover-row hover-head">
        <span />
        <span>{self === null ? "Call" : nameOf(self)}</span>
        <span>req/s</span>
        <span>p95</span>
        <span>errors</span>
        <span>refused</span>
      </div>
      {sorted.slice(0, MOST).map((edge) => (
        <div key={edgeKey(edge.from, edge.to)} className="hover-row num">
          <StatusSign status={edge.status} size={9} />
          <span className="cut">{wayOf(edge, self)}</span>
          <span>{formatRate(edge.traffic.requestsPerSecond)}</span>
          <span>{formatMs(edge.traffic.p95Ms)}</span>
          <span className={edge.traffic.errorRatio > 0.01 ? "tone-critical" : ""}>
            {formatPercent(edge.traffic.errorRatio)}
          </span>
          <span
            className={edge.failedConnectsPerSecond > 0 ? "tone-critical" : "quiet"}
            title={edge.failedConnectsReason || undefined}
          >
            {edge.failedConnectsPerSecond > 0 ? formatRate(edge.failedConnectsPerSecond) : "–"}
          </span>
        </div>
      ))}
      {sorted.length > MOST ? <div className="quiet">and {sorted.length - MOST} more</div> : null}
    </div>
  );
};

const wayOf = (edge: MapEdge, self: string | null): string =>
  self === null
    ? `${nameOf(edge.from)} → ${nameOf(edge.to)}`
    : edge.to === self
      ? `← ${nameOf(edge.from)}`
      : `→ ${nameOf(edge.to)}`;
