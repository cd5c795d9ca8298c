/** The way from the service that breached to the cause, one arrow per hop with the figures that justify it. */
import type { Hop } from "../../schemas/incident.ts";
import type { ServiceId } from "../../schemas/service.ts";
import { formatChange, formatPercent, formatRate } from "../format.ts";
import { ServiceLink } from "../kit/signs.tsx";

const change = (hop: Hop, value: number): string =>
  formatChange(value, hop.measure === "latency" ? "ms" : "per_second");

export const HopDiagram = ({ path, cause }: { readonly path: readonly Hop[]; readonly cause: ServiceId }) => {
  const first = path[0];
  if (first === undefined) return null;
  return (
    <ol className="hops">
      <Stop id={first.from} role="breached" figure={`${change(first, first.callerChange)} ${unitWord(first)}`} />
      {path.map((hop) => [
        <li key={`${hop.from}>${hop.to}`} className="hop">
          <span className="hop-share num" title="share of the caller's change that this callee explains">
            explains <b>{formatPercent(hop.share)}</b>
          </span>
          <span className="hop-arrow" aria-hidden style={{ height: 1 + Math.round(hop.share * 4) }} />
          <span className="hop-rate num quiet">
            {formatRate(hop.requests)}
            {hop.failedConnects > 0 ? (
              <b className="tone-critical"> · {formatRate(hop.failedConnects)} failed connects</b>
            ) : null}
          </span>
        </li>,
        <Stop
          key={hop.to}
          id={hop.to}
          role={hop.to === cause ? "cause" : "on the way"}
          figure={`${change(hop, hop.calleeChange)} ${unitWord(hop)}`}
        />,
      ])}
    </ol>
  );
};

const unitWord = (hop: Hop): string => (hop.measure === "latency" ? "per request" : "failed");

const Stop = ({
  id,
  role,
  figure,
}: {
  readonly id: ServiceId;
  readonly role: "breached" | "on the way" | "cause";
  readonly figure: string;
}) => (
  <li className={role === "cause" ? "stop stop-cause" : "stop"}>
    <span className="stop-role">{role}</span>
    <ServiceLink id={id} className="link strong cut" />
    <span className="num stop-figure">{figure}</span>
  </li>
);
