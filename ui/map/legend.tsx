/** What shapes and lines on the map mean. */
import type { HealthStatus } from "../../schemas/service.ts";
import { STATUS_WORD } from "../kit/glyphs.ts";
import { StatusSign } from "../kit/signs.tsx";

const STATUSES: readonly HealthStatus[] = ["ok", "info", "warning", "critical", "unknown"];

export const Legend = () => (
  <div className="legend">
    {STATUSES.map((status) => (
      <span key={status}>
        <StatusSign status={status} size={10} /> {STATUS_WORD[status]}
      </span>
    ))}
    <span>
      <svg width="22" height="6" aria-hidden>
        <path d="M0 3h22" stroke="var(--crit)" strokeWidth="2" strokeDasharray="5 3" />
      </svg>
      calls fail
    </span>
    <span className="legend-figures">requests · p95 · errors, last 10 s</span>
  </div>
);
