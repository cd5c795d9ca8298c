/** Instances of a service: where they run and what they use of what they may. */
import type { InstanceView } from "../../schemas/wire/page.ts";
import { formatAgo, formatBytes, formatCores, formatPercent } from "../format.ts";
import { StatusBadge } from "../kit/signs.tsx";
import { DataTable, type Column } from "../kit/table.tsx";
import { useNow } from "../live/hooks.ts";

/** A figure with the share of its limit as a bar; no bar without a limit. */
const Usage = ({
  text,
  used,
  limit,
  limitText,
}: {
  readonly text: string;
  readonly used: number;
  readonly limit: number;
  readonly limitText: string;
}) => {
  const share = limit > 0 ? Math.min(1, used / limit) : null;
  return (
    <span className="usage">
      <span className="num">
        {text} <span className="quiet">/ {limit > 0 ? limitText : "no limit"}</span>
      </span>
      {share === null ? null : (
        <span className="meter" aria-hidden>
          <i
            className={share > 0.9 ? "meter-critical" : share > 0.75 ? "meter-warning" : ""}
            style={{ width: `${share * 100}%` }}
          />
        </span>
      )}
    </span>
  );
};

const columnsAt = (now: number): readonly Column<InstanceView>[] => [
  {
    id: "state",
    title: "State",
    width: "84px",
    sort: (row) => Number(row.up),
    cell: (row) => <StatusBadge status={row.up ? "ok" : "critical"} text={row.up ? "up" : "down"} />,
  },
  {
    id: "instance",
    title: "Instance",
    sort: (row) => row.instance,
    cell: (row) => <span className="mono cut">{row.instance}</span>,
  },
  {
    id: "node",
    title: "Node",
    width: "150px",
    sort: (row) => row.node,
    cell: (row) => <span className="quiet cut">{row.node}</span>,
  },
  {
    id: "started",
    title: "Started",
    align: "right",
    width: "128px",
    sort: (row) => row.startedAt,
    cell: (row) => (row.startedAt > 0 ? formatAgo(row.startedAt, now) : "–"),
  },
  {
    id: "processes",
    title: "Processes",
    align: "right",
    width: "88px",
    sort: (row) => row.processes,
    cell: (row) => row.processes,
  },
  {
    id: "cpu",
    title: "CPU / limit",
    width: "168px",
    align: "right",
    sort: (row) => row.cpuCores,
    cell: (row) => (
      <Usage
        text={formatCores(row.cpuCores)}
        used={row.cpuCores}
        limit={row.cpuLimit}
        limitText={formatCores(row.cpuLimit)}
      />
    ),
  },
  {
    id: "throttled",
    title: "Throttled",
    align: "right",
    width: "84px",
    sort: (row) => row.throttledRatio,
    cell: (row) => (
      <span className={row.throttledRatio > 0.1 ? "tone-warning" : row.throttledRatio === 0 ? "quiet" : ""}>
        {formatPercent(row.throttledRatio)}
      </span>
    ),
  },
  {
    id: "memory",
    title: "Memory / limit",
    width: "200px",
    align: "right",
    sort: (row) => row.memoryBytes,
    cell: (row) => (
      <Usage
        text={formatBytes(row.memoryBytes)}
        used={row.memoryBytes}
        limit={row.memoryLimit}
        limitText={formatBytes(row.memoryLimit)}
      />
    ),
  },
  {
    id: "restarts",
    title: "Restarts",
    align: "right",
    width: "78px",
    sort: (row) => row.restarts,
    cell: (row) => <span className={row.restarts > 0 ? "tone-warning" : "quiet"}>{row.restarts}</span>,
  },
  {
    id: "oom",
    title: "OOM kills",
    align: "right",
    width: "82px",
    sort: (row) => row.oomKills,
    cell: (row) => <span className={row.oomKills > 0 ? "tone-critical" : "quiet"}>{row.oomKills}</span>,
  },
];

export const InstanceTable = ({ instances }: { readonly instances: ReadonlyMap<string, InstanceView> }) => {
  const now = useNow(5000);
  return (
    <DataTable
      label="Instances"
      rows={instances}
      columns={columnsAt(now)}
      initialSort={{ column: "instance", down: false }}
      minWidth={1080}
    />
  );
};
