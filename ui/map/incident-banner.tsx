/** Above the map while something is wrong: the worst incident, its cause, and how many more there are. */
import { Link } from "@tanstack/react-router";
import type { IncidentCard } from "../../schemas/wire/page.ts";
import { StatusSign } from "../kit/signs.tsx";
import { isIncidentCard } from "../live/entries.ts";
import { useEntries, useNow, useTopic } from "../live/hooks.ts";
import { formatDuration, formatPercent, words } from "../format.ts";
import { nameOf } from "../names.ts";

const weight = (card: IncidentCard): number =>
  (card.status === "open" ? 2 : 0) + (card.severity === "critical" ? 1 : 0);

export const activeIncidents = (cards: Iterable<IncidentCard>): readonly IncidentCard[] =>
  [...cards]
    .filter((card) => card.status === "open" || card.status === "suspicion")
    .sort((a, b) => weight(b) - weight(a) || a.suspectedAt - b.suspectedAt);

export const IncidentBanner = () => {
  const cards = useEntries(useTopic("incidents"), isIncidentCard);
  const now = useNow();
  const [worst, ...others] = activeIncidents(cards.values());
  if (worst === undefined) return null;
  const status = worst.status === "suspicion" ? "warning" : worst.severity;
  return (
    <div className={`banner banner-${status}`} role="status">
      <StatusSign status={status} size={14} />
      <b>{worst.status === "suspicion" ? "Suspicion" : "Incident"}</b>
      <Link to="/incident/$id" params={{ id: worst.id }} className="banner-text">
        {worst.headline}
      </Link>
      {worst.cause === null ? (
        <span className="banner-cause">cause being sought…</span>
      ) : (
        <span className="banner-cause">
          Cause: <b>{nameOf(worst.cause.service)}</b>, {words(worst.cause.kind)} ({worst.cause.confidence} confidence)
        </span>
      )}
      <span className="spacer" />
      <span className="num">
        {formatPercent(worst.impact)} of requests · {formatDuration(now - (worst.openedAt ?? worst.suspectedAt))}
      </span>
      {others.length > 0 ? (
        <Link to="/incidents" className="link">
          {others.length} more
        </Link>
      ) : null}
      <Link to="/incident/$id" params={{ id: worst.id }} className="banner-link">
        Open
      </Link>
    </div>
  );
};
