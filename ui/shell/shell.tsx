/** The frame of every view: header with navigation and overview, banners, the view itself. */
import { Link, Outlet } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { GoTo } from "./go-to.tsx";
import { ConnectionBanner, OverviewStrip, useOverview } from "./overview.tsx";
import { ThemeButton } from "./theme.tsx";

const VIEWS = [
  ["/", "Map"],
  ["/services", "Services"],
  ["/incidents", "Incidents"],
  ["/agents", "Agents"],
  ["/console", "Console"],
] as const;

const isTyping = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement &&
  (target.tagName === "INPUT" || target.tagName === "TEXTAREA" || target.isContentEditable);

export const Shell = () => {
  const [goTo, setGoTo] = useState(false);
  const overview = useOverview();
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      const asked =
        ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") ||
        (event.key === "/" && !isTyping(event.target));
      if (!asked) return;
      event.preventDefault();
      setGoTo((open) => !open);
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, []);
  useEffect(() => {
    const open = overview?.openIncidents ?? 0;
    document.title = `${open > 0 ? `(${open}) ` : ""}Coroot`;
  }, [overview?.openIncidents]);
  return (
    <div className="shell">
      <a className="skip" href="#view">
        Skip to the view
      </a>
      <header className="header">
        <Link to="/" className="brand" aria-label="Coroot, map">
          <img src="/icon.svg" width={20} height={20} alt="" />
          <span>Coroot</span>
        </Link>
        <nav className="nav" aria-label="Views">
          {VIEWS.map(([to, name]) => (
            <Link
              key={to}
              to={to}
              className="nav-link"
              activeProps={{ className: "nav-link nav-on", "aria-current": "page" }}
              activeOptions={{ exact: to === "/", includeSearch: false }}
            >
              {name}
            </Link>
          ))}
        </nav>
        <button type="button" className="goto-button" onClick={() => setGoTo(true)} aria-label="Go to (Ctrl K)">
          <span>Go to…</span>
          <kbd>Ctrl K</kbd>
        </button>
        <span className="spacer" />
        <OverviewStrip />
        <ThemeButton />
      </header>
      <ConnectionBanner />
      <main className="view" id="view">
        <Outlet />
      </main>
      <GoTo open={goTo} onClose={() => setGoTo(false)} />
    </div>
  );
};
