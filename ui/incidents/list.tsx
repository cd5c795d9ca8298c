/** Incidents: what goes on now, what was, and the suspicions that went away by themselves. */
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo } from "react";
import type { IncidentCard } from "../../schemas/wire/page.ts";
import { formatDuration, formatPercent, formatWhen, words } from "../format.ts";
import { FindBox } from "../kit/find-box.tsx";
import { Segmented } from "../kit/segmented.tsx";
import { Empty, ServiceLink, StatusBadge } from "../kit/signs.tsx";
import { DataTable, type Column } from "../kit/table.tsx";
import { isIncidentCard } from "../live/entries.ts";
import { useEntries, useNow, useTopic } from "../live/hooks.ts";
import { nameOf } from "../names.ts";
import { Silences } from "./decide.tsx";
import { STATUS_NAME, statusOf } from "./words.ts";

const FILTERS = [
  { value: "active", label: "Active" },
  { value: "resolved", label: "Resolved" },
  { value: "blips", label: "Blips" },
  { value: "all", label: "All" },
] as const;

const shows = (show: string, card: IncidentCard): boolean => {
  if (show === "all") return true;
  if (show === "resolved") return card.status === "resolved";
  if (show === "blips") return card.status === "blip";
  return card.status === "open" || card.status === "suspicion";
};

const STATUS_ORDER: Readonly<Record<IncidentCard["status"], number>> = { open: 3, suspicion: 2, resolved: 1, blip: 0 };

const columnsAt = (now: number): readonly Column<IncidentCard>[] => [
  {
    id: "status",
    title: "Status",
    width: "116px",
    // what goes on first, then the newest
    sort: (card) => STATUS_ORDER[card.status] * 1e14 + card.suspectedAt,
    cell: (card) => <StatusBadge status={statusOf(card)} text={STATUS_NAME[card.status]} />,
  },
  {
    id: "headline",
    title: "Incident",
    sort: (card) => card.headline,
    cell: (card) => (
      <Link to="/incident/$id" params={{ id: card.id }} className="link cut strong">
        {card.headline}
      </Link>
    ),
  },
  {
    id: "service",
    title: "Service",
    width: "150px",
    sort: (card) => nameOf(card.service),
    cell: (card) => <ServiceLink id={card.service} className="link cut" />,
  },
  {
    id: "cause",
    title: "Cause",
    width: "250px",
    sort: (card) => card.cause?.kind ?? "",
    cell: (card) =>
      card.cause === null ? (
        <span className="quiet">
          {card.status === "open" || card.status === "suspicion" ? "being sought…" : "not found"}
        </span>
      ) : (
        <span className="cut">
          <ServiceLink id={card.cause.service} /> {words(card.cause.kind)}{" "}
          <span className="quiet">({card.cause.confidence})</span>
        </span>
      ),
  },
  {
    id: "impact",
    title: "Impact",
    hint: "share of requests affected since the onset",
    align: "right",
    width: "78px",
    sort: (card) => card.impact,
    cell: (card) => formatPercent(card.impact),
  },
  {
    id: "members",
    title: "Services",
    hint: "services that show symptoms",
    align: "right",
    width: "80px",
    sort: (card) => card.members,
    cell: (card) => card.members,
  },
  {
    id: "since",
    title: "Since",
    align: "right",
    width: "150px",
    sort: (card) => card.suspectedAt,
    cell: (card) => <span className="quiet">{formatWhen(card.suspectedAt, now)}</span>,
  },
  {
    id: "duration",
    title: "Duration",
    align: "right",
    width: "110px",
    sort: (card) => (card.resolvedAt ?? now) - card.suspectedAt,
    cell: (card) =>
      card.status === "blip" && card.resolvedAt === null
        ? "–"
        : formatDuration((card.resolvedAt ?? now) - card.suspectedAt),
  },
];

export const IncidentsPage = () => {
  const search = useSearch({ from: "/incidents" });
  const navigate = useNavigate();
  const state = useTopic("incidents");
  const cards = useEntries(state, isIncidentCard);
  const now = useNow(1000);
  const columns = useMemo(() => columnsAt(now), [now]);
  const show = search.show ?? "active";
  const find = (search.find ?? "").toLowerCase();
  const rows = useMemo(
    () =>
      new Map(
        [...cards].filter(
          ([, card]) => shows(show, card) && `${card.headline} ${card.service}`.toLowerCase().includes(find),
        ),
      ),
    [cards, show, find],
  );
  const setSearch = (change: typeof search): void =>
    void navigate({ to: "/incidents", search: (before) => ({ ...before, ...change }), replace: true });
  const count = (value: string): number => [...cards.values()].filter((card) => shows(value, card)).length;
  return (
    <div className="list-page">
      <div className="toolbar">
        <Segmented
          label="Which incidents"
          choices={FILTERS.map(({ value, label }) => ({ value, label: `${label} ${count(value)}` }))}
          value={show}
          onChange={(value) => setSearch({ show: value === "active" ? undefined : value })}
        />
        <FindBox
          label="Find an incident"
          value={search.find ?? ""}
          onChange={(text) => setSearch({ find: text === "" ? undefined : text })}
        />
      </div>
      <Silences />
      {!state.ready ? (
        <Empty title={state.error ?? "Loading…"} />
      ) : rows.size === 0 ? (
        <Empty title={show === "active" && find === "" ? "Nothing is wrong" : "No incident fits"}>
          {show === "active" && find === ""
            ? "Every service with objectives is checked each second; a suspicion appears here within seconds, an incident when it lasts."
            : null}
        </Empty>
      ) : (
        <DataTable
          label="Incidents"
          rows={rows}
          columns={columns}
          initialSort={{ column: "status", down: true }}
          onOpen={(id) => void navigate({ to: "/incident/$id", params: { id } })}
          fill
          minWidth={1100}
        />
      )}
    </div>
  );
};
