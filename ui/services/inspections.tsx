/** What is checked on a service: verdict, figure against threshold, since when; the evidence opens below. */
import type { Inspection } from "../../schemas/incident.ts";
import { formatDuration, formatValue } from "../format.ts";
import { STATUS_RANK } from "../kit/glyphs.ts";
import { Section, StatusSign } from "../kit/signs.tsx";
import { useNow } from "../live/hooks.ts";
import { EvidenceTable } from "../incidents/evidence.tsx";

export const Inspections = ({ inspections }: { readonly inspections: readonly Inspection[] }) => {
  const now = useNow(1000);
  const sorted = [...inspections].sort(
    (a, b) => STATUS_RANK[b.status] - STATUS_RANK[a.status] || a.title.localeCompare(b.title),
  );
  const bad = sorted.filter((each) => each.status === "warning" || each.status === "critical").length;
  return (
    <Section
      title="Inspections"
      aside={
        <span className="quiet num">
          {bad === 0 ? `${sorted.length} checked` : `${bad} of ${sorted.length} failing`}
        </span>
      }
    >
      {sorted.length === 0 ? <p className="quiet section-none">Nothing has been checked yet.</p> : null}
      <ul className="inspections">
        {sorted.map((each) => (
          <li key={each.id}>
            <details>
              <summary>
                <StatusSign status={each.status} />
                <span className="inspection-title">{each.title}</span>
                <span className="num inspection-value">
                  {formatValue(each.value, each.unit)}{" "}
                  <span className="quiet">/ {formatValue(each.threshold, each.unit)}</span>
                </span>
                <span
                  className={each.status === "ok" ? "inspection-message visually-hidden" : "inspection-message quiet"}
                >
                  {each.message}
                  {each.since === null || each.status === "ok" ? "" : `, for ${formatDuration(now - each.since)}`}
                </span>
              </summary>
              <div className="inspection-evidence">
                <div className="quiet">
                  {each.category} · {each.message} · figure {formatValue(each.value, each.unit)}, threshold{" "}
                  {formatValue(each.threshold, each.unit)}
                </div>
                {each.evidence.length === 0 ? (
                  <div className="quiet">No further evidence.</div>
                ) : (
                  <EvidenceTable evidence={each.evidence} compact />
                )}
              </div>
            </details>
          </li>
        ))}
      </ul>
    </Section>
  );
};
