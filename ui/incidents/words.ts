/** How incidents are worded and coloured. Pure. */
import type { Cause, Incident, IncidentStatus, TimelineEntry } from "../../schemas/incident.ts";
import type { HealthStatus } from "../../schemas/service.ts";

export const statusOf = (incident: Pick<Incident, "status" | "severity">): HealthStatus =>
  incident.status === "open"
    ? incident.severity
    : incident.status === "suspicion"
      ? "warning"
      : incident.status === "resolved"
        ? "ok"
        : "unknown";

export const STATUS_NAME: Readonly<Record<IncidentStatus, string>> = {
  open: "open",
  suspicion: "suspicion",
  resolved: "resolved",
  blip: "blip",
};

export const CONFIDENCE: Readonly<Record<Cause["confidence"], HealthStatus>> = {
  high: "ok",
  medium: "info",
  low: "unknown",
};

export const MOMENT: Readonly<Record<TimelineEntry["kind"], HealthStatus>> = {
  onset: "warning",
  suspicion: "warning",
  opened: "critical",
  joined: "warning",
  cause: "info",
  event: "unknown",
  alert: "info",
  recovering: "info",
  resolved: "ok",
};
