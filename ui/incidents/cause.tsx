/** A cause: the claim, how sure, what to do, what would refute it, the way that leads to it, and its evidence. */
import type { Cause } from "../../schemas/incident.ts";
import type { ServiceId } from "../../schemas/service.ts";
import { formatPercent, words } from "../format.ts";
import { ServiceLink, StatusBadge } from "../kit/signs.tsx";
import { EvidenceTable } from "./evidence.tsx";
import { HopDiagram } from "./hops.tsx";
import { CONFIDENCE } from "./words.ts";

export const CauseCard = ({
  cause,
  index,
  target,
}: {
  readonly cause: Cause;
  readonly index: number;
  readonly target: ServiceId;
}) => {
  const body = (
    <>
      <dl className="pairs cause-pairs">
        <dt>Next step</dt>
        <dd>{cause.nextStep}</dd>
        <dt>Refuted by</dt>
        <dd className="quiet">{cause.refutedBy}</dd>
      </dl>
      <h3 className="panel-head">From the symptom to the cause</h3>
      {cause.path.length === 0 ? (
        <p className="quiet section-none">
          The service that breached is itself the cause: <ServiceLink id={target} />.
        </p>
      ) : (
        <HopDiagram path={cause.path} cause={cause.service} />
      )}
      <h3 className="panel-head">Evidence</h3>
      {cause.evidence.length === 0 ? (
        <p className="quiet section-none">None besides the path.</p>
      ) : (
        <EvidenceTable evidence={cause.evidence} />
      )}
    </>
  );
  const title = (
    <>
      <span className="cause-kind">{words(cause.kind)}</span>
      <h2 className="cause-headline">{cause.headline}</h2>
      <span className="spacer" />
      <StatusBadge status={CONFIDENCE[cause.confidence]} text={`${cause.confidence} confidence`} />
      <span className="quiet num" title="score, 0 to 100 %">
        {formatPercent(cause.score)}
      </span>
    </>
  );
  if (index === 0)
    return (
      <section className="section cause cause-first" aria-label="Most likely cause">
        <div className="cause-order">Most likely cause</div>
        <header className="cause-head">{title}</header>
        {body}
      </section>
    );
  return (
    <details className="section cause">
      <summary className="cause-head">
        <span className="caret" aria-hidden />
        <span className="cause-order">{index + 1}.</span>
        {title}
      </summary>
      {body}
    </details>
  );
};
