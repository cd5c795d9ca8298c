/** Links of a service as both ends measured them: what differs between client and server is spent on the way. */
import type { EdgeView, Traffic } from "../../schemas/wire/page.ts";
import { formatBytes, formatMs, formatPercent, formatRate } from "../format.ts";
import { STATUS_RANK } from "../kit/glyphs.ts";
import { ServiceLink, StatusSign } from "../kit/signs.tsx";
import { DataTable, type Column } from "../kit/table.tsx";

const side = (group: string, of: (edge: EdgeView) => Traffic | null): readonly Column<EdgeView>[] => {
  const figure = (
    id: string,
    title: string,
    width: string,
    value: (traffic: Traffic) => number | null,
    text: (value: number | null) => string,
  ): Column<EdgeView> => ({
    id: `${group}-${id}`,
    title,
    group,
    align: "right",
    width,
    sort: (edge) => {
      const traffic = of(edge);
      return traffic === null ? null : value(traffic);
    },
    cell: (edge) => {
      const traffic = of(edge);
      if (traffic === null)
        return (
          <span className="quiet" title="this end is not observed">
            –
          </span>
        );
      const now = value(traffic);
      return (
        <span
          className={id === "errors" ? (now !== null && now > 0.01 ? "tone-critical" : now === 0 ? "quiet" : "") : ""}
        >
          {text(now)}
        </span>
      );
    },
  });
  return [
    figure(
      "rps",
      "req/s",
      "72px",
      (traffic) => traffic.requestsPerSecond,
      (value) => formatRate(value ?? 0),
    ),
    figure("errors", "errors", "66px", (traffic) => traffic.errorRatio, formatPercent),
    figure("p50", "p50", "70px", (traffic) => traffic.p50Ms, formatMs),
    figure("p95", "p95", "70px", (traffic) => traffic.p95Ms, formatMs),
    figure("p99", "p99", "70px", (traffic) => traffic.p99Ms, formatMs),
  ];
};

const COLUMNS: readonly Column<EdgeView>[] = [
  {
    id: "peer",
    title: "Service",
    // trouble first, then by traffic
    sort: (edge) => STATUS_RANK[edge.status] * 1e7 + ((edge.client ?? edge.server)?.requestsPerSecond ?? 0),
    cell: (edge) => (
      <span className="name-cell">
        <StatusSign status={edge.status} size={11} />
        <ServiceLink id={edge.peer} name={edge.peerName} />
      </span>
    ),
  },
  {
    id: "protocol",
    title: "Protocol",
    width: "92px",
    sort: (edge) => edge.protocols.join(),
    cell: (edge) => <span className="quiet cut">{edge.protocols.join(", ") || "–"}</span>,
  },
  ...side("Client's view", (edge) => edge.client),
  ...side("Server's view", (edge) => edge.server),
  {
    id: "failed",
    title: "failed",
    hint: "failed connects per second",
    group: "Connections",
    align: "right",
    width: "68px",
    sort: (edge) => edge.failedConnectsPerSecond,
    cell: (edge) => (
      <span
        className={edge.failedConnectsPerSecond > 0 ? "tone-critical" : "quiet"}
        title={edge.failedConnectsReason || undefined}
      >
        {formatRate(edge.failedConnectsPerSecond)}
      </span>
    ),
  },
  {
    id: "active",
    title: "active",
    group: "Connections",
    align: "right",
    width: "58px",
    sort: (edge) => edge.activeConnections,
    cell: (edge) => edge.activeConnections,
  },
  {
    id: "broken",
    title: "broken",
    hint: "connections per second that the other end reset, or did not answer on any more",
    group: "Connections",
    align: "right",
    width: "68px",
    sort: (edge) => edge.brokenConnectionsPerSecond,
    cell: (edge) => (
      <span className={edge.brokenConnectionsPerSecond > 0 ? "" : "quiet"}>
        {formatRate(edge.brokenConnectionsPerSecond)}
      </span>
    ),
  },
  {
    id: "retransmits",
    title: "retrans.",
    hint: "TCP segments sent again per second",
    group: "Connections",
    align: "right",
    width: "68px",
    sort: (edge) => edge.retransmitsPerSecond,
    cell: (edge) => (
      <span className={edge.retransmitsPerSecond > 0 ? "" : "quiet"}>{formatRate(edge.retransmitsPerSecond)}</span>
    ),
  },
  {
    id: "rtt",
    title: "RTT",
    group: "Connections",
    align: "right",
    width: "64px",
    sort: (edge) => edge.rttMs,
    cell: (edge) => formatMs(edge.rttMs),
  },
  {
    id: "out",
    title: "out",
    hint: "bytes sent per second",
    group: "Data/s",
    align: "right",
    width: "78px",
    sort: (edge) => edge.bytesOutPerSecond,
    cell: (edge) => formatBytes(edge.bytesOutPerSecond),
  },
  {
    id: "in",
    title: "in",
    hint: "bytes received per second",
    group: "Data/s",
    align: "right",
    width: "78px",
    sort: (edge) => edge.bytesInPerSecond,
    cell: (edge) => formatBytes(edge.bytesInPerSecond),
  },
];

export const EdgeTable = ({
  label,
  edges,
}: {
  readonly label: string;
  readonly edges: ReadonlyMap<string, EdgeView>;
}) => (
  <DataTable
    label={label}
    rows={edges}
    columns={COLUMNS}
    initialSort={{ column: "peer", down: true }}
    minWidth={1248}
  />
);
