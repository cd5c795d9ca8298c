/** What a person decides about an incident: somebody has it in hand, or its service is silent for a while. */
import { useState } from "react";
import type { Incident, Silence } from "../../schemas/incident.ts";
import { formatWhen } from "../format.ts";
import { command, type Outcome } from "../kit/command.ts";
import { isSilence } from "../live/entries.ts";
import { useEntries, useNow, useTopic } from "../live/hooks.ts";

const HOUR_MINUTES = 60;

export const Decide = ({ incident }: { readonly incident: Incident }) => {
  const [error, setError] = useState<string | null>(null);
  const now = useNow(1000);
  const tell = async (asked: Promise<Outcome>): Promise<void> => {
    const outcome = await asked;
    setError(outcome.ok ? null : outcome.error);
  };
  const path = `/api/incidents/${encodeURIComponent(incident.id)}/acknowledge`;
  const silence = (): Promise<Outcome> =>
    command("POST", "/api/silences", {
      body: { match: incident.service, minutes: HOUR_MINUTES, reason: `from incident ${incident.id}` },
    });
  const { acknowledged, silencedUntil } = incident;
  return (
    <div className="hand" role="group" aria-label="Decide about this incident">
      {acknowledged === null ? (
        <button
          type="button"
          className="choice"
          title="somebody has it in hand: only its end is alerted"
          onClick={() => void tell(command("POST", path, { body: {} }))}
        >
          Acknowledge
        </button>
      ) : (
        <>
          <span>
            Acknowledged by {acknowledged.by}, {formatWhen(acknowledged.at, now)}
            {acknowledged.note === "" ? "" : `: ${acknowledged.note}`}
          </span>
          <button type="button" className="choice" onClick={() => void tell(command("DELETE", path))}>
            Take back
          </button>
        </>
      )}
      {silencedUntil === null ? (
        <button
          type="button"
          className="choice"
          title="keep alerts of its service back for an hour; incidents are shown all the same"
          onClick={() => void tell(silence())}
        >
          Silence the service for 1 h
        </button>
      ) : (
        <span className="tone-warning">Silenced until {formatWhen(silencedUntil, now)}</span>
      )}
      {error === null ? null : (
        <span role="status" className="tone-critical">
          {error}
        </span>
      )}
    </div>
  );
};

/** Silences that are in force, with a way to end each. Nothing when there are none. */
export const Silences = () => {
  const silences = useEntries(useTopic("silences"), isSilence);
  const now = useNow(1000);
  const [error, setError] = useState<string | null>(null);
  const remove = async ({ id }: Silence): Promise<void> => {
    const outcome = await command("DELETE", `/api/silences/${encodeURIComponent(id)}`);
    setError(outcome.ok ? null : outcome.error);
  };
  if (silences.size === 0) return null;
  return (
    <div className="silences">
      {[...silences.values()].map((silence) => (
        <div key={silence.id} className="hand">
          <span className="tone-warning">
            <code>{silence.match}</code> is silenced until {formatWhen(silence.until, now)} by {silence.by}:{" "}
            {silence.reason}
          </span>
          <button type="button" className="choice" onClick={() => void remove(silence)}>
            End
          </button>
        </div>
      ))}
      {error === null ? null : <p className="tone-critical">{error}</p>}
    </div>
  );
};
