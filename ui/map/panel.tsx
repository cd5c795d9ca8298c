/** Beside the map: the selected service with its figures and links, or the selected call. */
import { CloseButton } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { MapEdge, ServiceCard, Traffic } from "../../schemas/wire/page.ts";
import { formatBytes, formatCores, formatDuration, formatMs, formatPercent, formatRate } from "../format.ts";
import { Figure, ServiceLink, StatusBadge, StatusSign, TypeSign } from "../kit/signs.tsx";
import { nameOf, toSplat } from "../names.ts";
import type { Target } from "./draw.ts";
import { edgeKey } from "./graph.ts";
import type { Scene } from "./scene.ts";

interface PanelProps {
  readonly scene: Scene;
  readonly target: Target;
  readonly onClose: () => void;
  readonly onChoose: (target: Target) => void;
}

export const SidePanel = ({ scene, target, onClose, onChoose }: PanelProps) => {
  const card = target.kind === "node" ? scene.cards.get(target.id) : undefined;
  const edge = target.kind === "edge" ? scene.edges.get(target.key) : undefined;
  return (
    <aside className="panel" aria-label="Selection">
      <CloseButton className="panel-close" size="sm" aria-label="Close the panel" onClick={onClose} />
      {card !== undefined ? (
        <ServicePanel card={card} scene={scene} onChoose={onChoose} />
      ) : edge !== undefined ? (
        <EdgePanel edge={edge} />
      ) : (
        <p className="quiet panel-gone">
          {nameOf(target.kind === "node" ? target.id : target.key)} is not on the map now: it had no traffic lately, or
          a filter hides it.
        </p>
      )}
    </aside>
  );
};

export const TrafficFigures = ({ traffic }: { readonly traffic: Traffic }) => (
  <>
    <Figure label="Requests">{formatRate(traffic.requestsPerSecond)}</Figure>
    <Figure label="Errors" tone={traffic.errorRatio > 0.01 ? "critical" : undefined}>
      {formatPercent(traffic.errorRatio)}
      {traffic.unknownRatio > 0 ? <small> {formatPercent(traffic.unknownRatio)} unknown</small> : null}
    </Figure>
    <Figure label="Waiting" title="requests sent and not answered yet">
      {traffic.pending}
      {traffic.pending > 0 && traffic.oldestPendingMs >= 1000 ? (
        <small> {formatDuration(traffic.oldestPendingMs)}</small>
      ) : null}
    </Figure>
    <Figure label="p50">{formatMs(traffic.p50Ms)}</Figure>
    <Figure label="p95">{formatMs(traffic.p95Ms)}</Figure>
    <Figure label="p99">{formatMs(traffic.p99Ms)}</Figure>
  </>
);

const ServicePanel = ({
  card,
  scene,
  onChoose,
}: {
  readonly card: ServiceCard;
  readonly scene: Scene;
  readonly onChoose: (target: Target) => void;
}) => {
  const edges = [...scene.edges.values()].sort((a, b) => b.traffic.requestsPerSecond - a.traffic.requestsPerSecond);
  return (
    <>
      <div className="panel-title">
        <TypeSign type={card.type} kind={card.kind} size={16} />
        <h2>{card.name}</h2>
      </div>
      <div className="panel-sub">
        <StatusBadge status={card.status} />{" "}
        <span className="quiet">
          {[card.kind, card.namespace].filter((text) => text !== "" && text !== "_").join(" · ")}
        </span>
      </div>
      {card.reason === "" ? null : <p className={`panel-reason tone-${card.status}`}>{card.reason}</p>}
      {card.incident === null ? null : (
        <Link to="/incident/$id" params={{ id: card.incident }} className="link">
          Part of an incident →
        </Link>
      )}
      <div className="figures figures-3">
        <TrafficFigures traffic={card.inbound} />
        <Figure label="Instances">{card.instances}</Figure>
        <Figure label="CPU">{card.cpuCores === null ? "–" : `${formatCores(card.cpuCores)} cores`}</Figure>
        <Figure label="Memory">{formatBytes(card.memoryBytes)}</Figure>
      </div>
      <EdgeList
        title="Called by"
        edges={edges.filter((edge) => edge.to === card.id)}
        other={(edge) => edge.from}
        onChoose={onChoose}
      />
      <EdgeList
        title="Calls"
        edges={edges.filter((edge) => edge.from === card.id)}
        other={(edge) => edge.to}
        onChoose={onChoose}
      />
      <Link to="/service/$" params={{ _splat: toSplat(card.id) }} className="panel-open">
        Open service
      </Link>
    </>
  );
};

const EdgeList = ({
  title,
  edges,
  other,
  onChoose,
}: {
  readonly title: string;
  readonly edges: readonly MapEdge[];
  readonly other: (edge: MapEdge) => MapEdge["from"];
  readonly onChoose: (target: Target) => void;
}) =>
  edges.length === 0 ? null : (
    <>
      <h3 className="panel-head">
        {title} <span className="quiet num">{edges.length}</span>
      </h3>
      <ul className="panel-edges">
        {edges.map((edge) => (
          <li key={edgeKey(edge.from, edge.to)}>
            <button type="button" onClick={() => onChoose({ kind: "edge", key: edgeKey(edge.from, edge.to) })}>
              <StatusSign status={edge.status} size={10} />
              <span className="cut">{nameOf(other(edge))}</span>
              <span className="num">{formatRate(edge.traffic.requestsPerSecond)}</span>
              <span className="num">{formatMs(edge.traffic.p95Ms)}</span>
              <span className={edge.traffic.errorRatio > 0.01 ? "num tone-critical" : "num quiet"}>
                {formatPercent(edge.traffic.errorRatio)}
              </span>
            </button>
          </li>
        ))}
      </ul>
    </>
  );

const EdgePanel = ({ edge }: { readonly edge: MapEdge }) => (
  <>
    <div className="panel-title">
      <h2>
        <ServiceLink id={edge.from} /> <span className="quiet">→</span> <ServiceLink id={edge.to} />
      </h2>
    </div>
    <div className="panel-sub">
      <StatusBadge status={edge.status} />{" "}
      <span className="quiet">{edge.protocols.join(", ") || "no protocol recognised"}</span>
    </div>
    <div className="figures figures-3">
      <TrafficFigures traffic={edge.traffic} />
      <Figure
        label="Failed connects"
        title={edge.failedConnectsReason}
        tone={edge.failedConnectsPerSecond > 0 ? "critical" : undefined}
      >
        {formatRate(edge.failedConnectsPerSecond)}
      </Figure>
      <Figure label="Data">{formatBytes(edge.bytesPerSecond)}/s</Figure>
    </div>
    <Link to="/service/$" params={{ _splat: toSplat(edge.to) }} className="panel-open">
      Open {nameOf(edge.to)}
    </Link>
  </>
);
