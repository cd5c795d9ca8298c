/** The strip at the right of the header: is the page connected, are agents, how much is watched, is anything wrong. */
import { Popover } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { HealthStatus } from "../../schemas/service.ts";
import type { Overview } from "../../schemas/wire/page.ts";
import { formatCount, formatDuration } from "../format.ts";
import { StatusSign } from "../kit/signs.tsx";
import { isOverview } from "../live/entries.ts";
import { entryOf, useConnection, useLocalNow, useTopic } from "../live/hooks.ts";
import { plural } from "../names.ts";

export const useOverview = (): Overview | null => entryOf(useTopic("overview"), "overview", isOverview);

const storeStatus = (store: Overview["store"]): HealthStatus =>
  store.state === "down" ? "critical" : store.state === "starting" || store.dropped > 0 ? "warning" : "ok";

export const OverviewStrip = () => {
  const overview = useOverview();
  const connection = useConnection();
  const state = useTopic("overview");
  if (overview === null)
    return <div className="strip quiet">{connection.phase === "open" ? "Loading…" : "Connecting…"}</div>;
  const { agents, store } = overview;
  const lost = agents.known - agents.connected;
  const notices = [
    ...overview.notices,
    ...(state.rejected > 0
      ? [`${plural(state.rejected, "entry", "entries")} could not be shown: the page and the server differ in version`]
      : []),
    ...(connection.unreadable > 0
      ? [`${plural(connection.unreadable, "message")} from the server could not be read`]
      : []),
  ];
  return (
    <div className="strip">
      <Link to="/agents" className="strip-item" title={`${agents.connected} of ${agents.known} agents connected`}>
        <StatusSign status={agents.connected === 0 ? "critical" : lost > 0 ? "warning" : "ok"} size={10} />
        <b className="num">{lost > 0 ? `${agents.connected}/${agents.known}` : agents.connected}</b>{" "}
        <span>{agents.known === 1 ? "agent" : "agents"}</span>
      </Link>
      <Link to="/services" className="strip-item">
        <b className="num">{formatCount(overview.services)}</b>{" "}
        <span>{overview.services === 1 ? "service" : "services"}</span>
      </Link>
      <Link to="/incidents" className="strip-item">
        {overview.openIncidents + overview.suspicions > 0 ? (
          <StatusSign status={overview.openIncidents > 0 ? "critical" : "warning"} size={11} />
        ) : null}
        <b className="num">{overview.openIncidents}</b> <span>open</span>
        {overview.suspicions > 0 ? <span className="num strip-more">+{overview.suspicions} suspected</span> : null}
      </Link>
      <StoreItem store={store} />
      {notices.length === 0 ? null : (
        <Popover position="bottom-end" width={380} shadow="md">
          <Popover.Target>
            <button type="button" className="strip-item strip-notices">
              <StatusSign status="warning" size={11} />
              <b className="num">{notices.length}</b> <span>{notices.length === 1 ? "notice" : "notices"}</span>
            </button>
          </Popover.Target>
          <Popover.Dropdown>
            <ul className="notices">
              {notices.map((notice) => (
                <li key={notice}>{notice}</li>
              ))}
            </ul>
          </Popover.Dropdown>
        </Popover>
      )}
    </div>
  );
};

const StoreItem = ({ store }: { readonly store: Overview["store"] }) => {
  const detail = [
    store.message,
    store.queuedRows > 0 ? `${formatCount(store.queuedRows)} rows queued` : "",
    store.dropped > 0 ? `${formatCount(store.dropped)} rows dropped` : "",
  ].filter((text) => text !== "");
  return (
    <span className="strip-item" title={detail.join("; ") || "All rows are written"}>
      <StatusSign status={storeStatus(store)} size={10} />
      <span>store</span> <b>{store.state}</b>
    </span>
  );
};

/** Says, above everything, that what is on screen is old; and that a reload gets the page of a new server. */
export const ConnectionBanner = () => {
  const connection = useConnection();
  const local = useLocalNow();
  if (connection.phase !== "open" && (connection.attempt > 0 || local - connection.since > 1500)) {
    const { lastMessageAt } = connection;
    return (
      <div className="banner banner-warning" role="alert">
        <StatusSign status="warning" size={14} />
        <b>{lastMessageAt === 0 ? "Connecting to the server…" : "Reconnecting…"}</b>
        <span className="num">
          {lastMessageAt === 0
            ? `attempt ${connection.attempt + 1}`
            : `last update ${formatDuration(local - lastMessageAt)} ago; what you see is from then`}
        </span>
      </div>
    );
  }
  if (connection.reload !== "no")
    return (
      <div className="banner banner-info" role="status">
        <StatusSign status="info" size={14} />
        <b>The server now runs {connection.reload === "new version" ? "another version" : "another protocol"}.</b>
        <button type="button" className="link" onClick={() => window.location.reload()}>
          Reload the page
        </button>
      </div>
    );
  return null;
};
