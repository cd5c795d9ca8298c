/** All services in one table; search, namespaces and sort order are in the address. */
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo } from "react";
import type { ServiceCard } from "../../schemas/wire/page.ts";
import { formatAgo, formatBytes, formatCores, formatMs, formatPercent, formatRate } from "../format.ts";
import { FindBox } from "../kit/find-box.tsx";
import { STATUS_RANK } from "../kit/glyphs.ts";
import { Empty, ServiceLink, StatusSign, TypeSign } from "../kit/signs.tsx";
import { sortFrom, sortTo } from "../kit/sort-search.ts";
import { DataTable, type Column } from "../kit/table.tsx";
import { isServiceCard } from "../live/entries.ts";
import { useEntries, useNow, useTopic } from "../live/hooks.ts";
import { plural, toSplat } from "../names.ts";
import { matchesText } from "../map/scene.ts";
import { Choice } from "../map/toolbar.tsx";
import { WhyEmpty } from "../map/why-empty.tsx";

const columnsAt = (now: number): readonly Column<ServiceCard>[] => [
  {
    id: "status",
    title: "Status",
    width: "62px",
    sort: (card) => STATUS_RANK[card.status] * 1e6 + Math.min(1e5, card.inbound.requestsPerSecond),
    cell: (card) => <StatusSign status={card.status} />,
  },
  {
    id: "name",
    title: "Service",
    width: "200px",
    sort: (card) => card.name,
    cell: (card) => (
      <span className="name-cell">
        <TypeSign type={card.type} kind={card.kind} />
        <ServiceLink id={card.id} name={card.name} />
      </span>
    ),
  },
  { id: "reason", title: "Reason", cell: (card) => <span className={`cut tone-${card.status}`}>{card.reason}</span> },
  {
    id: "kind",
    title: "Kind",
    width: "100px",
    sort: (card) => card.kind,
    cell: (card) => <span className="quiet">{card.kind}</span>,
  },
  {
    id: "namespace",
    title: "Namespace",
    width: "104px",
    sort: (card) => card.namespace,
    cell: (card) => <span className="quiet cut">{card.namespace === "_" ? "" : card.namespace}</span>,
  },
  {
    id: "rps",
    title: "Requests",
    align: "right",
    width: "80px",
    sort: (card) => card.inbound.requestsPerSecond,
    cell: (card) =>
      card.inbound.requestsPerSecond === 0 ? (
        <span className="quiet">–</span>
      ) : (
        formatRate(card.inbound.requestsPerSecond)
      ),
  },
  {
    id: "errors",
    title: "Errors",
    align: "right",
    width: "68px",
    sort: (card) => card.inbound.errorRatio,
    cell: (card) => (
      <span className={card.inbound.errorRatio > 0.01 ? "tone-critical" : card.inbound.errorRatio === 0 ? "quiet" : ""}>
        {card.inbound.requestsPerSecond === 0 && card.inbound.errorRatio === 0
          ? "–"
          : formatPercent(card.inbound.errorRatio)}
      </span>
    ),
  },
  {
    id: "p50",
    title: "p50",
    align: "right",
    width: "68px",
    sort: (card) => card.inbound.p50Ms,
    cell: (card) => formatMs(card.inbound.p50Ms),
  },
  {
    id: "p95",
    title: "p95",
    align: "right",
    width: "68px",
    sort: (card) => card.inbound.p95Ms,
    cell: (card) => formatMs(card.inbound.p95Ms),
  },
  {
    id: "p99",
    title: "p99",
    align: "right",
    width: "68px",
    sort: (card) => card.inbound.p99Ms,
    cell: (card) => formatMs(card.inbound.p99Ms),
  },
  {
    id: "instances",
    title: "Instances",
    align: "right",
    width: "76px",
    sort: (card) => card.instances,
    cell: (card) => card.instances,
  },
  {
    id: "cpu",
    title: "CPU",
    hint: "cores in use",
    align: "right",
    width: "60px",
    sort: (card) => card.cpuCores,
    cell: (card) => formatCores(card.cpuCores),
  },
  {
    id: "memory",
    title: "Memory",
    align: "right",
    width: "86px",
    sort: (card) => card.memoryBytes,
    cell: (card) => formatBytes(card.memoryBytes),
  },
  {
    id: "seen",
    title: "Seen",
    align: "right",
    width: "78px",
    sort: (card) => card.lastSeen,
    cell: (card) => (
      <span className="quiet">{now - card.lastSeen < 15_000 ? "now" : formatAgo(card.lastSeen, now)}</span>
    ),
  },
];

export const ServicesPage = () => {
  const search = useSearch({ from: "/services" });
  const navigate = useNavigate();
  const state = useTopic("services");
  const cards = useEntries(state, isServiceCard);
  const now = useNow(5000);
  const columns = useMemo(() => columnsAt(now), [now]);
  const find = search.find ?? "";
  const namespaces = useMemo(() => new Set((search.ns ?? "").split(",").filter((name) => name !== "")), [search.ns]);
  const rows = useMemo(
    () =>
      new Map(
        [...cards].filter(
          ([, card]) => matchesText(card, find) && (namespaces.size === 0 || namespaces.has(card.namespace)),
        ),
      ),
    [cards, find, namespaces],
  );
  const setSearch = (change: typeof search): void =>
    void navigate({ to: "/services", search: (before) => ({ ...before, ...change }), replace: true });
  return (
    <div className="list-page">
      <div className="toolbar">
        <FindBox
          label="Find a service"
          value={find}
          onChange={(text) => setSearch({ find: text === "" ? undefined : text })}
        />
        <Choice
          label="Namespace"
          all={[...new Set([...cards.values()].map((card) => card.namespace))].sort()}
          chosen={namespaces}
          onChange={(chosen) => setSearch({ ns: chosen.length === 0 ? undefined : chosen.join(",") })}
        />
        <span className="quiet num toolbar-count">
          {rows.size === cards.size
            ? plural(cards.size, "service")
            : `${rows.size} of ${plural(cards.size, "service")}`}
        </span>
      </div>
      {cards.size === 0 ? (
        state.ready ? (
          <WhyEmpty services={0} />
        ) : (
          <Empty title={state.error ?? "Loading…"} />
        )
      ) : rows.size === 0 ? (
        <Empty title="No service fits the search" />
      ) : (
        <DataTable
          label="Services"
          rows={rows}
          columns={columns}
          initialSort={{ column: "status", down: true }}
          sort={sortFrom(search.sort, { column: "status", down: true })}
          onSort={(sort) => setSearch({ sort: sortTo(sort) })}
          onOpen={(id) => void navigate({ to: "/service/$", params: { _splat: toSplat(id) } })}
          fill
          minWidth={1240}
        />
      )}
    </div>
  );
};
