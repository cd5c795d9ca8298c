/** Objectives, what is left of the budget, and how fast it burns. */
import type { SloView } from "../../schemas/wire/page.ts";
import { formatCount, formatDuration, formatMs, formatObjective, formatPercent } from "../format.ts";
import { Section, StatusBadge } from "../kit/signs.tsx";
import { useNow } from "../live/hooks.ts";
import type { HealthStatus } from "../../schemas/service.ts";

const STATE: Readonly<Record<SloView["state"], readonly [HealthStatus, string]>> = {
  none: ["unknown", "no verdict yet"],
  ok: ["ok", "within objectives"],
  suspicion: ["warning", "suspicion"],
  incident: ["critical", "incident"],
  recovering: ["info", "recovering"],
};

const burnText = (burn: number | null): string => (burn === null ? "–" : burn < 10 ? burn.toFixed(2) : burn.toFixed(0));

export const SloCard = ({ slo, hasSlo }: { readonly slo: SloView | null; readonly hasSlo: boolean }) => {
  const now = useNow(1000);
  if (slo === null || !hasSlo)
    return (
      <Section title="Objectives">
        <p className="quiet section-none">
          No objectives: no other service was seen calling this one, so there is nobody to promise anything to.
        </p>
      </Section>
    );
  const [status, word] = STATE[slo.state];
  const left = slo.budgetLeft;
  return (
    <Section
      title="Objectives"
      aside={
        <>
          <StatusBadge status={status} text={word} />
          {slo.since === null || slo.state === "ok" || slo.state === "none" ? null : (
            <span className="quiet num">for {formatDuration(now - slo.since)}</span>
          )}
        </>
      }
    >
      <dl className="pairs">
        <dt>Availability</dt>
        <dd className="num">{formatObjective(slo.availabilityObjective)} of requests succeed</dd>
        <dt>Latency</dt>
        <dd className="num">
          {formatObjective(slo.latencyObjective)} within {formatMs(slo.latencyThresholdMs)}
        </dd>
        <dt>Budget left</dt>
        <dd>
          <span className="budget">
            <span className="meter" aria-hidden>
              <i
                className={left !== null && left < 0.25 ? (left <= 0 ? "meter-critical" : "meter-warning") : ""}
                style={{ width: `${Math.max(0, Math.min(1, left ?? 0)) * 100}%` }}
              />
            </span>
            <b className={`num ${left !== null && left <= 0 ? "tone-critical" : ""}`}>
              {left === null ? "–" : formatPercent(left)}
            </b>
          </span>
        </dd>
        <dt>Requests</dt>
        <dd className="num">
          {formatCount(slo.good)} good, {formatCount(slo.bad)} bad{" "}
          <span className="quiet" title="the last 30 days, or since the service is known">
            in 30 d
          </span>
        </dd>
      </dl>
      {slo.burn.length === 0 ? null : (
        <table className="table table-plain" aria-label="Burn rates">
          <thead>
            <tr>
              <th scope="col">Burn rate</th>
              <th scope="col">Windows</th>
              <th scope="col" className="right">
                Long
              </th>
              <th scope="col" className="right">
                Short
              </th>
              <th scope="col" className="right">
                Limit
              </th>
            </tr>
          </thead>
          <tbody>
            {slo.burn.map((rule) => (
              <tr key={`${rule.objective} ${rule.long} ${rule.short}`}>
                <td>{rule.objective}</td>
                <td className="quiet">
                  {rule.long} / {rule.short}
                </td>
                <td
                  className={`right num ${rule.longBurn !== null && rule.longBurn >= rule.threshold ? `tone-${rule.severity}` : ""}`}
                >
                  {burnText(rule.longBurn)}
                </td>
                <td
                  className={`right num ${rule.shortBurn !== null && rule.shortBurn >= rule.threshold ? `tone-${rule.severity}` : ""}`}
                >
                  {burnText(rule.shortBurn)}
                </td>
                <td
                  className={rule.firing ? `right num tone-${rule.severity}` : "right num quiet"}
                  title={rule.firing ? "firing" : undefined}
                >
                  {rule.threshold}
                  {rule.firing ? " firing" : ""}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Section>
  );
};
