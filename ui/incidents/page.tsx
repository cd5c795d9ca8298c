/** One incident: what happened, why, what to do next, and everything that this rests on. */
import { Link, useParams } from "@tanstack/react-router";
import type { Incident } from "../../schemas/incident.ts";
import { formatDuration, formatPercent, formatWhen } from "../format.ts";
import { Empty, Figure, Section, ServiceLink, StatusBadge, StatusSign } from "../kit/signs.tsx";
import { isIncident } from "../live/entries.ts";
import { entryOf, useNow, useTopic } from "../live/hooks.ts";
import { plural } from "../names.ts";
import { CauseCard } from "./cause.tsx";
import { Decide } from "./decide.tsx";
import { MOMENT, STATUS_NAME, statusOf } from "./words.ts";

export const IncidentPage = () => {
  const { id } = useParams({ from: "/incident/$id" });
  const state = useTopic(`incident:${id}`);
  const incident = entryOf(state, "incident", isIncident);
  if (!state.ready) return <Empty title="Loading the incident…" />;
  if (incident === null)
    return (
      <Empty title="No incident has this id">
        <code>{id}</code>
        {state.error === null ? null : <p>The server says: {state.error}.</p>}
        <p>
          <Link to="/incidents" search={{ show: "all" }} className="link">
            All incidents
          </Link>
        </p>
      </Empty>
    );
  return <IncidentView incident={incident} />;
};

const IncidentView = ({ incident }: { readonly incident: Incident }) => {
  const now = useNow(1000);
  const { rca } = incident;
  const goesOn = incident.resolvedAt === null && incident.status !== "blip";
  const status = statusOf(incident);
  return (
    <div className="page">
      <header className="page-head">
        <div className="page-title">
          <StatusSign status={status} size={18} />
          <h1>{incident.headline}</h1>
          <StatusBadge status={status} text={STATUS_NAME[incident.status]} />
        </div>
        {goesOn ? <Decide incident={incident} /> : null}
        <div className="figures figures-row">
          <Figure label="Service">
            <ServiceLink id={incident.service} />
          </Figure>
          <Figure label="Severity">{incident.severity}</Figure>
          <Figure label="Impact" title="share of its requests affected since the onset">
            {formatPercent(incident.impact)} of requests
          </Figure>
          <Figure label={goesOn ? "Going on for" : "Lasted"}>
            {formatDuration((incident.resolvedAt ?? now) - incident.onsetAt)}
          </Figure>
          <Figure label="Onset">{formatWhen(incident.onsetAt, now)}</Figure>
          <Figure label="Suspected" title="after the onset">
            +{formatDuration(incident.suspectedAt - incident.onsetAt)}
          </Figure>
          <Figure label="Opened" title="after the onset">
            {incident.openedAt === null ? "–" : `+${formatDuration(incident.openedAt - incident.onsetAt)}`}
          </Figure>
          {incident.resolvedAt === null ? null : (
            <Figure label="Resolved">{formatWhen(incident.resolvedAt, now)}</Figure>
          )}
        </div>
      </header>
      <div className="page-columns">
        <div className="page-main">
          {rca === null ? (
            <Section title="Cause">
              <p className="quiet section-none">
                {goesOn
                  ? "The cause is being sought; it appears here by itself."
                  : "No cause was sought before it went away."}
              </p>
            </Section>
          ) : rca.causes.length === 0 ? (
            <Section title="Cause">
              <p className="section-none">
                No cause was found. What was looked at is listed under “Ruled out”, what could not be seen under “Data
                gaps”.
              </p>
            </Section>
          ) : (
            rca.causes.map((cause, index) => (
              <CauseCard key={`${cause.service} ${cause.kind}`} cause={cause} index={index} target={rca.target} />
            ))
          )}
        </div>
        <div className="page-side">
          <Section title="Timeline">
            <ol className="timeline">
              {incident.timeline.map((entry, index) => (
                <li key={`${entry.at} ${entry.kind} ${index}`}>
                  <StatusSign status={MOMENT[entry.kind]} size={10} />
                  <time className="num quiet">{formatWhen(entry.at, now)}</time>
                  <span>
                    {entry.text}
                    {entry.service === null ? null : (
                      <>
                        {" "}
                        <ServiceLink id={entry.service} className="link quiet-link" />
                      </>
                    )}
                  </span>
                </li>
              ))}
            </ol>
          </Section>
          {rca === null ? null : (
            <Section title="Ruled out" aside={<span className="quiet num">{rca.ruledOut.length}</span>}>
              {rca.ruledOut.length === 0 ? <p className="quiet section-none">Nothing had to be ruled out.</p> : null}
              <ul className="reasons">
                {rca.ruledOut.map((each) => (
                  <li key={`${each.service} ${each.reason}`}>
                    <ServiceLink id={each.service} /> <span className="quiet">{each.reason}</span>
                  </li>
                ))}
              </ul>
            </Section>
          )}
          {rca === null ? null : (
            <Section title="Data gaps" aside={<span className="quiet num">{rca.gaps.length}</span>}>
              {rca.gaps.length === 0 ? (
                <p className="quiet section-none">All that was asked for could be seen.</p>
              ) : null}
              <ul className="reasons">
                {rca.gaps.map((gap) => (
                  <li key={gap}>{gap}</li>
                ))}
              </ul>
            </Section>
          )}
          <Section title="Services with symptoms" aside={<span className="quiet num">{incident.members.length}</span>}>
            <div className="chips">
              {incident.members.map((member) => (
                <span key={member} className="chip">
                  <ServiceLink id={member} />
                </span>
              ))}
            </div>
          </Section>
          {rca === null ? null : (
            <p className="quiet footnote">
              Cause sought at {formatWhen(rca.at, now)}, in {plural(Math.max(1, Math.round(rca.tookMs)), "ms", "ms")}.
              Incident {incident.id}, revision {incident.version}.
            </p>
          )}
        </div>
      </div>
    </div>
  );
};
