/** Figures that support a claim: what was normal, what it became, how unusual that is. */
import type { Evidence } from "../../schemas/incident.ts";
import { formatClock, formatValue } from "../format.ts";
import { ServiceLink } from "../kit/signs.tsx";

export const EvidenceTable = ({
  evidence,
  compact = false,
}: {
  readonly evidence: readonly Evidence[];
  readonly compact?: boolean;
}) => (
  <table className="table table-plain" aria-label="Evidence">
    <thead>
      <tr>
        {compact ? null : <th scope="col">Service</th>}
        <th scope="col">What</th>
        <th scope="col" className="right">
          Normal
        </th>
        <th scope="col" className="right">
          Now
        </th>
        <th scope="col" className="right" title="Distance from normal, in robust standard deviations">
          z
        </th>
        {compact ? null : (
          <th scope="col" className="right">
            Window
          </th>
        )}
      </tr>
    </thead>
    <tbody>
      {evidence.map((each) => (
        <tr key={each.id}>
          {compact ? null : (
            <td>
              <ServiceLink id={each.service} />
            </td>
          )}
          <td className="wrap">
            {each.text} <span className="quiet mono series-name">{each.series}</span>
          </td>
          <td className="right num quiet">{formatValue(each.normal, each.unit)}</td>
          <td className="right num">
            <b>{formatValue(each.value, each.unit)}</b>
          </td>
          <td className="right num">
            {each.z === null
              ? "–"
              : `${each.z < 0 ? "−" : "+"}${Math.abs(each.z).toFixed(Math.abs(each.z) < 10 ? 1 : 0)}`}
          </td>
          {compact ? null : (
            <td className="right num quiet">
              {formatClock(each.from)}–{formatClock(each.to)}
            </td>
          )}
        </tr>
      ))}
    </tbody>
  </table>
);
