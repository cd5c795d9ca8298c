/**
 * The go-to box (Ctrl-K or /): one search over views, services, incidents and agents. It subscribes to their lists only
 * while open. Arrow keys move, Enter goes, Escape closes; the list is a combobox for screen readers.
 */
import { Modal } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { useEffect, useMemo, useState } from "react";
import { StatusSign, TypeSign } from "../kit/signs.tsx";
import { isAgentView, isIncidentCard, isServiceCard } from "../live/entries.ts";
import { useEntries, useTopic } from "../live/hooks.ts";
import { rank, type Goal } from "./rank.ts";

const PAGES: readonly Goal[] = [
  { key: "page:map", group: "Views", title: "Map", detail: "", path: "/" },
  { key: "page:services", group: "Views", title: "Services", detail: "", path: "/services" },
  { key: "page:incidents", group: "Views", title: "Incidents", detail: "", path: "/incidents" },
  { key: "page:agents", group: "Views", title: "Agents", detail: "", path: "/agents" },
  { key: "page:console", group: "Views", title: "Console", detail: "actors of the server", path: "/console" },
];

export const GoTo = ({ open, onClose }: { readonly open: boolean; readonly onClose: () => void }) => (
  <Modal
    opened={open}
    onClose={onClose}
    withCloseButton={false}
    size={620}
    yOffset="12vh"
    padding={0}
    transitionProps={{ duration: 80 }}
    aria-label="Go to"
  >
    {open ? <GoToBox onClose={onClose} /> : null}
  </Modal>
);

const GoToBox = ({ onClose }: { readonly onClose: () => void }) => {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const navigate = useNavigate();
  const services = useEntries(useTopic("services"), isServiceCard);
  const incidents = useEntries(useTopic("incidents"), isIncidentCard);
  const agents = useEntries(useTopic("agents"), isAgentView);

  const found = useMemo(() => {
    const goals: Goal[] = [...PAGES];
    for (const card of services.values())
      goals.push({
        key: `service:${card.id}`,
        group: "Services",
        title: card.name,
        detail: [card.kind, card.namespace].filter((part) => part !== "" && part !== "_").join(" · "),
        path: "service",
        id: card.id,
        status: card.status,
        type: card.type,
        kind: card.kind,
      });
    for (const card of [...incidents.values()].sort((a, b) => b.suspectedAt - a.suspectedAt))
      goals.push({
        key: `incident:${card.id}`,
        group: "Incidents",
        title: card.headline,
        detail: card.status,
        path: "incident",
        id: card.id,
        status: card.status === "open" ? card.severity : card.status === "suspicion" ? "warning" : "unknown",
      });
    for (const agent of agents.values())
      goals.push({
        key: `agent:${agent.id}`,
        group: "Agents",
        title: agent.node,
        detail: agent.id,
        path: "agent",
        id: agent.id,
        status: agent.state === "connected" ? "ok" : "critical",
      });
    return rank(goals, text, 12);
  }, [services, incidents, agents, text]);

  const index = Math.min(at, Math.max(0, found.length - 1));
  useEffect(() => {
    document.getElementById(`goto-${index}`)?.scrollIntoView({ block: "nearest" });
  }, [index]);

  const go = (goal: Goal | undefined): void => {
    if (goal === undefined) return;
    onClose();
    const id = goal.id ?? "";
    if (goal.path === "service") void navigate({ to: "/service/$", params: { _splat: id } });
    else if (goal.path === "incident") void navigate({ to: "/incident/$id", params: { id } });
    else if (goal.path === "agent") void navigate({ to: "/agents", search: { find: goal.title } });
    else void navigate({ to: goal.path });
  };

  return (
    <div className="goto">
      <input
        className="goto-input"
        data-autofocus
        role="combobox"
        aria-expanded
        aria-controls="goto-list"
        aria-activedescendant={found[index] === undefined ? undefined : `goto-${index}`}
        aria-label="Go to a service, incident, agent or view"
        placeholder="Go to a service, incident, agent or view"
        value={text}
        onChange={(event) => {
          setText(event.currentTarget.value);
          setAt(0);
        }}
        onKeyDown={(event) => {
          if (event.key === "ArrowDown") setAt(Math.min(found.length - 1, index + 1));
          else if (event.key === "ArrowUp") setAt(Math.max(0, index - 1));
          else if (event.key === "Enter") go(found[index]);
          else return;
          event.preventDefault();
        }}
      />
      <div className="goto-list" id="goto-list" role="listbox">
        {found.length === 0 ? <div className="goto-none quiet">Nothing is called “{text}”.</div> : null}
        {found.map((goal, n) => (
          <div key={goal.key} role="presentation">
            {found[n - 1]?.group === goal.group ? null : <div className="goto-group">{goal.group}</div>}
            <div
              id={`goto-${n}`}
              role="option"
              aria-selected={n === index}
              className="goto-item"
              tabIndex={-1}
              onPointerMove={() => setAt(n)}
              onClick={() => go(goal)}
              onKeyDown={(event) => {
                if (event.key === "Enter") go(goal);
              }}
            >
              <span className="goto-sign">
                {goal.status === undefined ? null : <StatusSign status={goal.status} size={10} />}
              </span>
              {goal.kind === undefined ? null : <TypeSign type={goal.type ?? ""} kind={goal.kind} size={13} />}
              <span className="cut">{goal.title}</span>
              <span className="quiet goto-detail">{goal.detail}</span>
            </div>
          </div>
        ))}
      </div>
    </div>
  );
};
