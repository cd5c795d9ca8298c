/** One service: status and figures, charts, objectives, inspections, both ends of every link, instances. */
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import type { ServiceId } from "../../schemas/service.ts";
import { formatBytes, formatCores, formatDuration, formatMs, formatPercent, formatRate } from "../format.ts";
import { Empty, Figure, Section, StatusBadge, TypeSign } from "../kit/signs.tsx";
import { isEdgeView, isInspection, isInstanceView, isLiveWindows, isServiceCard, isSloView } from "../live/entries.ts";
import { entryOf, useEntries, useTopic } from "../live/hooks.ts";
import { fromSplat, partsOf } from "../names.ts";
import { Charts } from "./charts.tsx";
import { EdgeTable } from "./edges.tsx";
import { Inspections } from "./inspections.tsx";
import { InstanceTable } from "./instances.tsx";
import { SloCard } from "./slo.tsx";

export const ServicePage = () => {
  const { _splat } = useParams({ from: "/service/$" });
  const { range } = useSearch({ from: "/service/$" });
  const navigate = useNavigate();
  const id = fromSplat(_splat ?? "") as ServiceId;
  const state = useTopic(`service:${id}`);
  const card = entryOf(state, "card", isServiceCard);
  const slo = entryOf(state, "slo", isSloView);
  const live = entryOf(state, "live", isLiveWindows);
  const inbound = useEntries(state, isEdgeView, "inbound:");
  const outbound = useEntries(state, isEdgeView, "outbound:");
  const inspections = useEntries(state, isInspection, "inspection:");
  const instances = useEntries(state, isInstanceView, "instance:");
  const parts = partsOf(id);

  if (!state.ready) return <Empty title={`Loading ${parts.name}…`} />;
  if (card === null)
    return (
      <Empty title={`No service is known as ${parts.name}`}>
        <code>{id}</code>
        {state.error === null ? null : <p>The server says: {state.error}.</p>}
        <p>
          It may not have been observed since the server started.{" "}
          <Link to="/services" search={{ find: parts.name }} className="link">
            Search all services
          </Link>
        </p>
      </Empty>
    );
  const { inbound: traffic } = card;
  return (
    <div className="page">
      <header className="page-head">
        <div className="page-title">
          <TypeSign type={card.type} kind={card.kind} size={20} />
          <h1>{card.name}</h1>
          <StatusBadge status={card.status} />
          {card.reason === "" ? null : <span className={`page-reason tone-${card.status}`}>{card.reason}</span>}
          <span className="spacer" />
          {card.incident === null ? null : (
            <Link to="/incident/$id" params={{ id: card.incident }} className="link">
              Incident
            </Link>
          )}
          <Link to="/" search={{ select: id }} className="link">
            On the map
          </Link>
        </div>
        <div className="page-sub quiet">
          {[card.kind, card.namespace, card.type, parts.cluster]
            .filter((text) => text !== "" && text !== "_")
            .join(" · ")}
        </div>
        <div className="figures figures-row">
          <Figure label="Requests">{formatRate(traffic.requestsPerSecond)}</Figure>
          <Figure label="Errors" tone={traffic.errorRatio > 0.01 ? "critical" : undefined}>
            {formatPercent(traffic.errorRatio)}
            {traffic.unknownRatio > 0 ? <small> {formatPercent(traffic.unknownRatio)} unknown</small> : null}
          </Figure>
          <Figure label="p50">{formatMs(traffic.p50Ms)}</Figure>
          <Figure label="p95">{formatMs(traffic.p95Ms)}</Figure>
          <Figure label="p99">{formatMs(traffic.p99Ms)}</Figure>
          <Figure label="Waiting" title="requests sent and not answered yet, and the age of the oldest">
            {traffic.pending}
            {traffic.pending > 0 && traffic.oldestPendingMs >= 1000 ? (
              <small> oldest {formatDuration(traffic.oldestPendingMs)}</small>
            ) : null}
          </Figure>
          <Figure label="Instances">{card.instances}</Figure>
          <Figure label="CPU">{card.cpuCores === null ? "–" : `${formatCores(card.cpuCores)} cores`}</Figure>
          <Figure label="Memory">{formatBytes(card.memoryBytes)}</Figure>
        </div>
      </header>
      <div className="page-columns">
        <div className="page-main">
          <Charts
            service={id}
            live={live}
            range={range ?? "5m"}
            onRange={(next) =>
              void navigate({
                to: "/service/$",
                params: { _splat: _splat ?? "" },
                search: { range: next },
                replace: true,
              })
            }
            latencyObjectiveMs={slo?.latencyThresholdMs ?? null}
          />
        </div>
        <div className="page-side">
          <SloCard slo={slo} hasSlo={card.hasSlo} />
          <Inspections inspections={[...inspections.values()]} />
        </div>
      </div>
      <Section
        title={
          <>
            Called by <span className="quiet num">{inbound.size}</span>
          </>
        }
      >
        {inbound.size === 0 ? (
          <p className="quiet section-none">No other service was seen calling it.</p>
        ) : (
          <EdgeTable label="Callers" edges={inbound} />
        )}
      </Section>
      <Section
        title={
          <>
            Calls <span className="quiet num">{outbound.size}</span>
          </>
        }
      >
        {outbound.size === 0 ? (
          <p className="quiet section-none">It was not seen calling other services.</p>
        ) : (
          <EdgeTable label="Callees" edges={outbound} />
        )}
      </Section>
      <Section
        title={
          <>
            Instances <span className="quiet num">{instances.size}</span>
          </>
        }
      >
        {instances.size === 0 ? (
          <p className="quiet section-none">No instance of it is running, or none on a node with an agent.</p>
        ) : (
          <InstanceTable instances={instances} />
        )}
      </Section>
    </div>
  );
};
