/**
 * An operator's hand in an actor: pause, resume, drain, restart, dump. Needs the admin key, which the page asks for once
 * and keeps for this tab. What was done is in the server's audit log.
 */
import { useState } from "react";
import { command } from "../kit/command.ts";

const KEY = "coroot-admin-key";
const ACTIONS = [
  { id: "pause", title: "Pause", does: "hold its messages until it is resumed" },
  { id: "resume", title: "Resume", does: "let it go on" },
  { id: "restart", title: "Restart", does: "forget its state and go on from its last snapshot" },
  { id: "drain", title: "Drain", does: "let it handle what waits, and end; it comes back when it is needed" },
] as const;

const askKey = (): string | null => {
  const known = sessionStorage.getItem(KEY);
  if (known !== null) return known;
  const given = window.prompt("Admin key (admin.key in the server's data directory)");
  if (given === null || given.trim() === "") return null;
  sessionStorage.setItem(KEY, given.trim());
  return given.trim();
};

const download = (name: string, text: string): void => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
};

export const Hand = ({ path, paused }: { readonly path: string; readonly paused: boolean }) => {
  const [said, setSaid] = useState<{ readonly text: string; readonly bad: boolean } | null>(null);
  const tell = async (action: (typeof ACTIONS)[number]): Promise<void> => {
    if (!window.confirm(`${action.title} ${path}: ${action.does}?`)) return;
    const adminKey = askKey();
    if (adminKey === null) return;
    const outcome = await command("POST", "/api/actors/action", { body: { path, action: action.id }, adminKey });
    if (!outcome.ok && outcome.error.startsWith("authorization")) sessionStorage.removeItem(KEY);
    setSaid(outcome.ok ? { text: `${action.title}: done`, bad: false } : { text: outcome.error, bad: true });
  };
  const dump = async (): Promise<void> => {
    const adminKey = askKey();
    if (adminKey === null) return;
    const outcome = await command("GET", `/api/actors/dump?path=${encodeURIComponent(path)}`, { adminKey });
    if (!outcome.ok && outcome.error.startsWith("authorization")) sessionStorage.removeItem(KEY);
    if (outcome.ok) download(`${path.replaceAll("/", "_")}.json`, JSON.stringify(outcome.answer, null, 2));
    setSaid(outcome.ok ? null : { text: outcome.error, bad: true });
  };
  return (
    <div className="hand" role="group" aria-label="Act on this actor">
      {ACTIONS.filter(({ id }) => (id === "resume" ? paused : id !== "pause" || !paused)).map((action) => (
        <button key={action.id} type="button" className="choice" title={action.does} onClick={() => void tell(action)}>
          {action.title}
        </button>
      ))}
      <button type="button" className="choice" title="everything about it, secrets masked" onClick={() => void dump()}>
        Dump
      </button>
      {said === null ? null : (
        <span role="status" className={said.bad ? "tone-critical" : "quiet"}>
          {said.text}
        </span>
      )}
    </div>
  );
};
