/** One actor: its figures, its state as it is now (secrets masked by the server), and its last messages. */
import { Link, useParams } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import type { ActorMessageView } from "../../schemas/wire/page.ts";
import { formatAgo, formatBytes, formatClock, formatCount, formatMs, formatRate } from "../format.ts";
import { JsonTree } from "../kit/json-tree.tsx";
import { ActorLink, Empty, Figure, Section, StatusBadge } from "../kit/signs.tsx";
import { DataTable, type Column } from "../kit/table.tsx";
import { isActorMessages, isActorView } from "../live/entries.ts";
import { entryOf, useNow, useTopic } from "../live/hooks.ts";
import { fromSplat } from "../names.ts";
import { changesOf, MOST_CHANGES } from "./changes.ts";
import { Hand } from "./hand.tsx";
import { ACTOR_STATUS } from "./page.tsx";

const COLUMNS: readonly Column<ActorMessageView>[] = [
  {
    id: "at",
    title: "At",
    width: "84px",
    sort: (row) => row.at,
    cell: (row) => <span className="num">{formatClock(row.at)}</span>,
  },
  {
    id: "type",
    title: "Message",
    sort: (row) => row.type,
    cell: (row) => <span className="mono cut">{row.type}</span>,
  },
  {
    id: "from",
    title: "From",
    sort: (row) => row.from ?? "",
    cell: (row) => (row.from === null ? <span className="quiet">outside</span> : <ActorLink path={row.from} />),
  },
  {
    id: "wait",
    title: "Waited",
    align: "right",
    width: "80px",
    sort: (row) => row.waitMs,
    cell: (row) => formatMs(row.waitMs),
  },
  {
    id: "handle",
    title: "Handled in",
    align: "right",
    width: "88px",
    sort: (row) => row.handleMs,
    cell: (row) => formatMs(row.handleMs),
  },
  {
    id: "trace",
    title: "Trace",
    width: "64px",
    sort: (row) => row.trace,
    cell: (row) => (
      <Link to="/trace/$id" params={{ id: String(row.trace) }} className="link" title="its way through the actors">
        follow
      </Link>
    ),
  },
  {
    id: "error",
    title: "Error",
    sort: (row) => row.error ?? "",
    cell: (row) => (
      <span className="tone-critical cut" title={row.error ?? undefined}>
        {row.error ?? ""}
      </span>
    ),
  },
];

export const ActorPage = () => {
  const { _splat } = useParams({ from: "/console/$" });
  const path = fromSplat(_splat ?? "");
  const topic = useTopic(`actor:${path}`);
  const row = entryOf(topic, "row", isActorView);
  const recent = entryOf(topic, "recent", isActorMessages);
  const [held, setHeld] = useState<unknown>(undefined);
  const [compared, setCompared] = useState(false);
  const current = topic.entries.get("state");
  const before = beforeOf(topic.entries.get("before"));
  const now = useNow(1000);
  const messages = useMemo(() => {
    const seen = new Map<string, number>();
    return new Map(
      (recent ?? []).map((message) => {
        const base = `${message.at} ${message.type} ${message.from ?? ""}`;
        const nth = seen.get(base) ?? 0;
        seen.set(base, nth + 1);
        return [`${base} ${nth}`, message] as const;
      }),
    );
  }, [recent]);
  if (!topic.ready) return <Empty title="Asking the actor…" />;
  if (row === null)
    return (
      <Empty title="No actor has this path now">
        <code>{path}</code>
        {topic.error === null ? null : <p>The server says: {topic.error}.</p>}
        <p>
          <Link to="/console" className="link">
            All actors
          </Link>
        </p>
      </Empty>
    );
  return (
    <div className="page">
      <header className="page-head">
        <div className="page-title">
          <h1 className="mono">{row.path}</h1>
          <StatusBadge status={ACTOR_STATUS[row.state]} text={row.state} />
          <span className="spacer" />
          {row.parent === null ? null : (
            <span>
              child of <ActorLink path={row.parent} />
            </span>
          )}
          <Link to="/console" search={{ under: row.path }} className="link">
            In the console
          </Link>
        </div>
        <div className="page-sub quiet">
          {row.kind} on {row.node} · started {formatAgo(row.startedAt, now)}
        </div>
        <Hand path={row.path} paused={row.state === "paused"} />
        <div className="figures figures-row">
          <Figure label="Mailbox" tone={row.mailbox > row.mailboxBound / 2 ? "critical" : undefined}>
            {formatCount(row.mailbox)} <small>of {formatCount(row.mailboxBound)}</small>
          </Figure>
          <Figure label="In">{formatRate(row.inPerSecond)}</Figure>
          <Figure label="Out">{formatRate(row.outPerSecond)}</Figure>
          <Figure label="Wait p95">{formatMs(row.mailboxWaitP95Ms)}</Figure>
          <Figure label="Handle p95">{formatMs(row.handleP95Ms)}</Figure>
          <Figure label="Handled">{formatCount(row.handled)}</Figure>
          <Figure label="Merged">{formatCount(row.merged)}</Figure>
          <Figure label="Shed" tone={row.shed > 0 ? "critical" : undefined}>
            {formatCount(row.shed)}
          </Figure>
          <Figure label="Restarts" tone={row.restarts > 0 ? "warning" : undefined}>
            {formatCount(row.restarts)}
          </Figure>
          <Figure label="Dead letters" tone={row.deadLetters > 0 ? "warning" : undefined}>
            {formatCount(row.deadLetters)}
          </Figure>
          <Figure label="State">{formatBytes(row.stateBytes)}</Figure>
        </div>
        {row.lastError === null ? null : <p className="tone-critical mono last-error">{row.lastError}</p>}
      </header>
      <div className="page-columns page-halves">
        <Section
          title="State"
          aside={
            <>
              <button
                type="button"
                className={compared ? "choice choice-on" : "choice"}
                disabled={before === null}
                title={before === null ? "known once it was watched for a minute" : "what changed in the last minute"}
                onClick={() => setCompared(!compared)}
              >
                Changes
              </button>
              <button
                type="button"
                className={held === undefined ? "choice" : "choice choice-on"}
                onClick={() => setHeld(held === undefined ? current : undefined)}
              >
                {held === undefined ? "Hold" : "Held; follow again"}
              </button>
            </>
          }
        >
          <div className="json">
            {compared && before !== null ? (
              <Changes before={before.state} after={held ?? current} since={before.at} />
            ) : current === undefined ? (
              <p className="quiet section-none">No state was sent.</p>
            ) : (
              <JsonTree value={held ?? current} />
            )}
          </div>
        </Section>
        <Section title="Recent messages" aside={<span className="quiet num">{messages.size}</span>}>
          {messages.size === 0 ? (
            <p className="quiet section-none">None since it is being watched.</p>
          ) : (
            <DataTable
              label="Recent messages"
              rows={messages}
              columns={COLUMNS}
              initialSort={{ column: "at", down: true }}
              minWidth={560}
            />
          )}
        </Section>
      </div>
    </div>
  );
};

const beforeOf = (value: unknown): { readonly at: number; readonly state: unknown } | null =>
  typeof value === "object" && value !== null && "at" in value && "state" in value && typeof value.at === "number"
    ? { at: value.at, state: value.state }
    : null;

const text = (value: unknown): string => {
  const json = JSON.stringify(value) ?? "–";
  return json.length > 80 ? `${json.slice(0, 77)}…` : json;
};

const Changes = ({
  before,
  after,
  since,
}: {
  readonly before: unknown;
  readonly after: unknown;
  readonly since: number;
}) => {
  const changes = changesOf(before, after);
  return (
    <>
      <p className="quiet section-none">
        {changes.length === 0
          ? "Nothing changed"
          : `${changes.length}${changes.length === MOST_CHANGES ? "+" : ""} changes`}{" "}
        since {formatClock(since)}.
      </p>
      {changes.map((change) => (
        <div key={change.path} className="json-line json-change">
          <span className="json-key">{change.path}</span>
          <del>{text(change.before)}</del>
          <ins>{text(change.after)}</ins>
        </div>
      ))}
    </>
  );
};
