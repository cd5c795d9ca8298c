/** The actor console: the server's own inside. The tree chooses a part, the table shows its actors. Sampled only while open. */
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import type { HealthStatus } from "../../schemas/service.ts";
import type { ActorView } from "../../schemas/wire/page.ts";
import { formatBytes, formatCount, formatDuration, formatMs, formatRate } from "../format.ts";
import { FindBox } from "../kit/find-box.tsx";
import { ActorLink, Empty, StatusBadge, StatusSign } from "../kit/signs.tsx";
import { sortFrom, sortTo } from "../kit/sort-search.ts";
import { DataTable, type Column } from "../kit/table.tsx";
import { isActorView } from "../live/entries.ts";
import { useEntries, useNow, useTopic } from "../live/hooks.ts";
import { plural, toSplat } from "../names.ts";
import { pathsUnder, shortName, treeOf, type Branch } from "./tree.ts";

export const ACTOR_STATUS: Readonly<Record<ActorView["state"], HealthStatus>> = {
  idle: "unknown",
  running: "ok",
  quarantined: "critical",
  paused: "warning",
  stopping: "warning",
};

const zeroQuiet = (value: number, text: string, tone = ""): React.JSX.Element => (
  <span className={value === 0 ? "quiet" : tone}>{text}</span>
);

const AGE_EVERY_MS = 5_000;

const Age = ({ since }: { readonly since: number }) => formatDuration(Math.max(0, useNow(AGE_EVERY_MS) - since));

export const COLUMNS: readonly Column<ActorView>[] = [
  {
    id: "path",
    title: "Actor",
    sort: (row) => row.path,
    cell: (row) => (
      <span className="name-cell">
        <StatusSign status={ACTOR_STATUS[row.state]} size={10} />
        <ActorLink path={row.path}>
          <span className="path-end">
            <bdi>{row.path}</bdi>
          </span>
        </ActorLink>
      </span>
    ),
  },
  {
    id: "kind",
    title: "Kind",
    width: "84px",
    sort: (row) => row.kind,
    cell: (row) => <span className="quiet cut">{row.kind}</span>,
  },
  {
    id: "node",
    title: "Node",
    hint: "replica that it lives on",
    width: "84px",
    sort: (row) => row.node,
    cell: (row) => <span className="quiet cut">{row.node}</span>,
  },
  {
    id: "age",
    title: "Age",
    align: "right",
    width: "84px",
    sort: (row) => -row.startedAt,
    cell: (row) => <Age since={row.startedAt} />,
  },
  {
    id: "mailbox",
    title: "Mailbox",
    hint: "messages waiting, of the bound",
    align: "right",
    width: "92px",
    sort: (row) => row.mailbox,
    cell: (row) => (
      <>
        {zeroQuiet(row.mailbox, formatCount(row.mailbox), row.mailbox > row.mailboxBound / 2 ? "tone-critical" : "")}
        <span className="quiet"> / {formatCount(row.mailboxBound)}</span>
      </>
    ),
  },
  {
    id: "in",
    title: "in",
    hint: "messages per second",
    group: "Messages",
    align: "right",
    width: "62px",
    sort: (row) => row.inPerSecond,
    cell: (row) => zeroQuiet(row.inPerSecond, formatRate(row.inPerSecond)),
  },
  {
    id: "out",
    title: "out",
    hint: "messages per second",
    group: "Messages",
    align: "right",
    width: "62px",
    sort: (row) => row.outPerSecond,
    cell: (row) => zeroQuiet(row.outPerSecond, formatRate(row.outPerSecond)),
  },
  {
    id: "wait",
    title: "wait",
    hint: "time in the mailbox, p95",
    group: "p95",
    align: "right",
    width: "68px",
    sort: (row) => row.mailboxWaitP95Ms,
    cell: (row) => formatMs(row.mailboxWaitP95Ms),
  },
  {
    id: "handle",
    title: "handle",
    hint: "time to handle a message, p95",
    group: "p95",
    align: "right",
    width: "68px",
    sort: (row) => row.handleP95Ms,
    cell: (row) => formatMs(row.handleP95Ms),
  },
  {
    id: "handled",
    title: "handled",
    group: "Since its start",
    align: "right",
    width: "78px",
    sort: (row) => row.handled,
    cell: (row) => formatCount(row.handled),
  },
  {
    id: "merged",
    title: "merged",
    hint: "messages added into one that waited",
    group: "Since its start",
    align: "right",
    width: "68px",
    sort: (row) => row.merged,
    cell: (row) => zeroQuiet(row.merged, formatCount(row.merged)),
  },
  {
    id: "shed",
    title: "shed",
    hint: "messages dropped because the mailbox was full",
    group: "Since its start",
    align: "right",
    width: "52px",
    sort: (row) => row.shed,
    cell: (row) => zeroQuiet(row.shed, formatCount(row.shed), "tone-critical"),
  },
  {
    id: "restarts",
    title: "restarts",
    group: "Since its start",
    align: "right",
    width: "66px",
    sort: (row) => row.restarts,
    cell: (row) => zeroQuiet(row.restarts, formatCount(row.restarts), "tone-warning"),
  },
  {
    id: "dead",
    title: "dead",
    hint: "messages that it fell over or does not know",
    group: "Since its start",
    align: "right",
    width: "54px",
    sort: (row) => row.deadLetters,
    cell: (row) => zeroQuiet(row.deadLetters, formatCount(row.deadLetters), "tone-warning"),
  },
  {
    id: "state",
    title: "State",
    hint: "size of its state",
    align: "right",
    width: "76px",
    sort: (row) => row.stateBytes,
    cell: (row) => formatBytes(row.stateBytes),
  },
  {
    id: "error",
    title: "Last error",
    width: "104px",
    sort: (row) => row.lastError ?? "",
    cell: (row) => (
      <span className="cut tone-critical" title={row.lastError ?? undefined}>
        {row.lastError ?? ""}
      </span>
    ),
  },
];

export const ConsolePage = () => {
  const search = useSearch({ from: "/console/" });
  const navigate = useNavigate();
  const state = useTopic("console");
  const actors = useEntries(state, isActorView);
  const tree = useMemo(() => treeOf(actors), [actors]);
  const under = useMemo(
    () => (search.under === undefined ? null : pathsUnder(tree, search.under)),
    [tree, search.under],
  );
  const find = (search.find ?? "").toLowerCase();
  const rows = useMemo(
    () =>
      new Map(
        [...actors].filter(
          ([path, actor]) =>
            (under === null || under.has(path)) &&
            `${path} ${actor.kind} ${actor.state} ${actor.lastError ?? ""}`.toLowerCase().includes(find),
        ),
      ),
    [actors, under, find],
  );
  const [paused, setPaused] = useState(false);
  // One server needs no column that says which.
  const several = useMemo(() => new Set([...actors.values()].map((actor) => actor.node)).size > 1, [actors]);
  const columns = useMemo(() => COLUMNS.filter(({ id }) => several || id !== "node"), [several]);
  const setSearch = (change: typeof search): void =>
    void navigate({ to: "/console", search: (before) => ({ ...before, ...change }), replace: true });
  if (!state.ready) return <Empty title={state.error ?? "Asking the actors…"} />;
  if (actors.size === 0)
    return <Empty title="No actor is running">The server has just started, or its registry could not be read.</Empty>;
  const totals = [...actors.values()].reduce(
    (sum, row) => ({
      mailbox: sum.mailbox + row.mailbox,
      rate: sum.rate + row.inPerSecond,
      shed: sum.shed + row.shed,
      bytes: sum.bytes + row.stateBytes,
    }),
    { mailbox: 0, rate: 0, shed: 0, bytes: 0 },
  );
  return (
    <div className="list-page">
      <div className="toolbar">
        <FindBox
          label="Find an actor"
          value={search.find ?? ""}
          onChange={(text) => setSearch({ find: text === "" ? undefined : text })}
        />
        <button
          type="button"
          className={paused ? "choice choice-on" : "choice"}
          aria-pressed={paused}
          onClick={() => setPaused(!paused)}
        >
          {paused ? "Order held" : "Hold order"}
        </button>
        <span className="quiet num toolbar-count">
          {plural(actors.size, "actor")} · {formatRate(totals.rate)} messages · {formatCount(totals.mailbox)} waiting ·{" "}
          {formatCount(totals.shed)} shed · state {formatBytes(totals.bytes)}
        </span>
        <span className="spacer" />
        <Link to="/dead-letters" className="link">
          Dead letters
        </Link>
      </div>
      <div className="console">
        <nav className="console-tree" aria-label="Actor tree">
          <button
            type="button"
            className={search.under === undefined ? "tree-row tree-on" : "tree-row"}
            onClick={() => setSearch({ under: undefined })}
          >
            <span className="cut">All actors</span>
            <span className="quiet num">{actors.size}</span>
          </button>
          {tree.map((branch) => (
            <TreeRow
              key={branch.actor.path}
              branch={branch}
              depth={0}
              under={search.under}
              onUnder={(under) => setSearch({ under })}
            />
          ))}
        </nav>
        {rows.size === 0 ? (
          <Empty title="No actor fits" />
        ) : (
          <DataTable
            label="Actors"
            rows={rows}
            columns={columns}
            initialSort={{ column: "in", down: true }}
            sort={sortFrom(search.sort, { column: "in", down: true })}
            onSort={(sort) => setSearch({ sort: sortTo(sort) })}
            onOpen={(path) => void navigate({ to: "/console/$", params: { _splat: toSplat(path) } })}
            paused={paused}
            fill
            minWidth={several ? 1290 : 1190}
          />
        )}
      </div>
    </div>
  );
};

/** Branches with more children than this start closed. */
const OPEN_UP_TO = 8;

const TreeRow = ({
  branch,
  depth,
  under,
  onUnder,
}: {
  readonly branch: Branch;
  readonly depth: number;
  readonly under: string | undefined;
  readonly onUnder: (path: string) => void;
}) => {
  const { actor, children } = branch;
  const [open, setOpen] = useState(depth < 2 && children.length <= OPEN_UP_TO);
  const [most, setMost] = useState(100);
  return (
    <>
      <div className={under === actor.path ? "tree-row tree-on" : "tree-row"} style={{ paddingLeft: 8 + depth * 14 }}>
        {children.length > 0 ? (
          <button
            type="button"
            className="tree-caret"
            aria-expanded={open}
            aria-label={`${open ? "Close" : "Open"} ${actor.path}`}
            onClick={() => setOpen(!open)}
          >
            <span className={open ? "caret caret-open" : "caret"} aria-hidden />
          </button>
        ) : (
          <span className="tree-caret" />
        )}
        <button type="button" className="tree-name" title={actor.path} onClick={() => onUnder(actor.path)}>
          <span className="cut">{shortName(actor)}</span>
        </button>
        {branch.troubled > 0 ? <StatusBadge status="critical" text={String(branch.troubled)} /> : null}
        {branch.restarts > 0 ? (
          <span className="tone-warning num" title="restarts in this branch">
            ↻{branch.restarts}
          </span>
        ) : null}
        {children.length > 0 ? <span className="quiet num">{branch.size}</span> : null}
      </div>
      {open
        ? children
            .slice(0, most)
            .map((child) => (
              <TreeRow key={child.actor.path} branch={child} depth={depth + 1} under={under} onUnder={onUnder} />
            ))
        : null}
      {open && children.length > most ? (
        <button
          type="button"
          className="tree-row link"
          style={{ paddingLeft: 30 + depth * 14 }}
          onClick={() => setMost(most + 200)}
        >
          {children.length - most} more
        </button>
      ) : null}
    </>
  );
};
