/** The way of one message through the actors, over all replicas, as far as it was measured; and letters nobody took. */
import { Link, useParams } from "@tanstack/react-router";
import { useMemo } from "react";
import type { DeadLetterView, TraceHop } from "../../schemas/wire/page.ts";
import { formatClock, formatMs } from "../format.ts";
import { ActorLink, Empty } from "../kit/signs.tsx";
import { DataTable, type Column } from "../kit/table.tsx";
import { isDeadLetters, isTraceHops } from "../live/entries.ts";
import { entryOf, useTopic } from "../live/hooks.ts";
import { plural } from "../names.ts";

const when = (at: number) => <span className="num">{formatClock(at)}</span>;

const HOPS: readonly Column<TraceHop & { readonly after: number }>[] = [
  { id: "at", title: "At", width: "84px", sort: (row) => row.at, cell: (row) => when(row.at) },
  {
    id: "after",
    title: "After",
    hint: "since the first stop",
    align: "right",
    width: "80px",
    sort: (row) => row.after,
    cell: (row) => `+${formatMs(row.after)}`,
  },
  { id: "actor", title: "Actor", sort: (row) => row.path, cell: (row) => <ActorLink path={row.path} /> },
  {
    id: "type",
    title: "Message",
    width: "150px",
    sort: (row) => row.type,
    cell: (row) => <span className="mono cut">{row.type}</span>,
  },
  {
    id: "from",
    title: "From",
    sort: (row) => row.from ?? "",
    cell: (row) => (row.from === null ? <span className="quiet">outside</span> : <ActorLink path={row.from} />),
  },
  { id: "node", title: "Node", width: "100px", sort: (row) => row.node, cell: (row) => row.node },
  {
    id: "wait",
    title: "Waited",
    align: "right",
    width: "84px",
    sort: (row) => row.waitMs,
    cell: (row) => formatMs(row.waitMs),
  },
  {
    id: "handle",
    title: "Handled in",
    align: "right",
    width: "92px",
    sort: (row) => row.handleMs,
    cell: (row) => formatMs(row.handleMs),
  },
  {
    id: "error",
    title: "Error",
    width: "160px",
    sort: (row) => row.error ?? "",
    cell: (row) => <span className="tone-critical cut">{row.error ?? ""}</span>,
  },
];

export const TracePage = () => {
  const { id } = useParams({ from: "/trace/$id" });
  const state = useTopic(`trace:${id}`);
  const hops = entryOf(state, "hops", isTraceHops);
  const rows = useMemo(() => {
    const first = hops?.[0]?.at ?? 0;
    return new Map((hops ?? []).map((hop, i) => [String(i), { ...hop, after: hop.at - first }] as const));
  }, [hops]);
  if (!state.ready) return <Empty title="Asking the actors…" />;
  return (
    <div className="page">
      <header className="page-head">
        <div className="page-title">
          <h1>
            Trace <span className="mono">{id}</span>
          </h1>
          <span className="spacer" />
          <Link to="/console" className="link">
            All actors
          </Link>
        </div>
        <div className="page-sub quiet">{plural(rows.size, "stop")} · measured only while the console is open</div>
      </header>
      {rows.size === 0 ? (
        <Empty title="Nothing was measured of it">Open an actor and follow one of its recent messages.</Empty>
      ) : (
        <DataTable
          label="Stops of the message"
          rows={rows}
          columns={HOPS}
          initialSort={{ column: "after", down: false }}
          minWidth={1000}
        />
      )}
    </div>
  );
};

const LETTERS: readonly Column<DeadLetterView>[] = [
  { id: "at", title: "At", width: "84px", sort: (row) => row.at, cell: (row) => when(row.at) },
  { id: "to", title: "To", sort: (row) => row.to, cell: (row) => <ActorLink path={row.to} /> },
  {
    id: "type",
    title: "Message",
    width: "150px",
    sort: (row) => row.type,
    cell: (row) => <span className="mono cut">{row.type}</span>,
  },
  {
    id: "from",
    title: "From",
    sort: (row) => row.from ?? "",
    cell: (row) => (row.from === null ? <span className="quiet">outside</span> : <ActorLink path={row.from} />),
  },
  { id: "node", title: "Node", width: "100px", sort: (row) => row.node, cell: (row) => row.node },
  {
    id: "reason",
    title: "Reason",
    sort: (row) => row.reason,
    cell: (row) => <span className="cut">{row.reason}</span>,
  },
];

export const DeadLettersPage = () => {
  const state = useTopic("dead-letters");
  const letters = entryOf(state, "letters", isDeadLetters);
  const rows = useMemo(
    () => new Map((letters ?? []).map((letter, i) => [`${letter.at} ${letter.to} ${i}`, letter] as const)),
    [letters],
  );
  if (!state.ready) return <Empty title="Asking the actors…" />;
  return (
    <div className="page">
      <header className="page-head">
        <div className="page-title">
          <h1>Dead letters</h1>
          <span className="spacer" />
          <Link to="/console" className="link">
            All actors
          </Link>
        </div>
        <div className="page-sub quiet">messages that nobody handled, and why; the newest of each server</div>
      </header>
      {rows.size === 0 ? (
        <Empty title="None">Every message was handled.</Empty>
      ) : (
        <DataTable
          label="Dead letters"
          rows={rows}
          columns={LETTERS}
          initialSort={{ column: "at", down: true }}
          minWidth={1000}
        />
      )}
    </div>
  );
};
