/**
 * The agent about itself: CPU, memory, how late its loop runs, and everything that it lost, refused or could not name.
 * Owned by the node agent; read every 15 s into the store lane, and each few seconds into a report for the page
 * (SelfReport.ts). Holds nothing to stop.
 */
import type { Emit } from "../host/nodeFigures.ts";
import type { LinkState } from "../link/step.ts";
import type { Observer } from "../observe/Observer.ts";
import type { Window } from "../observe/Window.ts";
import type { SpanFigures } from "../spans/Spans.ts";
import type { Spool } from "../spool/Spool.ts";

export class SelfFigures {
  /** the latest wake-up of the loop since the last sample, and since the last report, ms */
  private latestMs = 0;
  private reportMs = 0;

  late(ms: number): void {
    this.latestMs = Math.max(this.latestMs, ms);
    this.reportMs = Math.max(this.reportMs, ms);
  }

  takeLateForReport(): number {
    const late = this.reportMs;
    this.reportMs = 0;
    return late;
  }

  takeLate(): number {
    const late = this.latestMs;
    this.latestMs = 0;
    return late;
  }
}

export interface SelfParts {
  readonly self: SelfFigures;
  readonly observer: Observer;
  readonly spans: SpanFigures;
  readonly spool: Spool;
  readonly link: LinkState<Window> | null;
  readonly series: number;
}

export const putSelf = (put: Emit, { self, observer, spans, spool, link, series }: SelfParts): void => {
  const cpu = process.cpuUsage();
  put("coroot_agent_cpu_seconds_total", { mode: "user" }, cpu.user / 1e6);
  put("coroot_agent_cpu_seconds_total", { mode: "system" }, cpu.system / 1e6);
  put("coroot_agent_memory_rss_bytes", {}, process.memoryUsage.rss());
  put("coroot_agent_loop_late_seconds", {}, self.takeLate() / 1000);
  put("coroot_agent_processes", {}, observer.table.processes.size);
  put("coroot_agent_instances", {}, observer.instances.all.size);
  put("coroot_agent_edges", {}, observer.fold.edges.size);
  put("coroot_agent_series", {}, series);
  put("coroot_agent_descriptors_kept", {}, observer.reader.kept);
  put("coroot_agent_unattributed_rows_total", {}, observer.fold.losses.unattributedRows);
  put("coroot_agent_unattributed_requests_total", {}, observer.fold.losses.unattributedRequests);
  put("coroot_agent_pairs_dropped_total", {}, observer.fold.losses.pairs);
  for (const [what, n] of Object.entries(observer.lookups.losses))
    put("coroot_agent_lookups_dropped_total", { what }, n);
  for (const [what, n] of Object.entries(spans)) put("coroot_agent_spans_total", { what }, n);
  put("coroot_agent_listeners_unowned", {}, observer.listeners.unowned);
  put("coroot_agent_processes_refused_total", {}, observer.table.refused);
  put("coroot_agent_spool_bytes", {}, spool.stats.bytes);
  put("coroot_agent_spool_records", {}, spool.stats.waiting);
  put("coroot_agent_spool_dropped_total", {}, spool.stats.dropped);
  put("coroot_agent_spool_torn_bytes_total", {}, spool.stats.tornBytes);
  put("coroot_agent_spool_errors_total", {}, spool.stats.writeErrors);
  if (link !== null) {
    const { counters } = link;
    put("coroot_agent_link_connects_total", {}, counters.connects);
    put("coroot_agent_link_failures_total", {}, counters.failures);
    put("coroot_agent_windows_sent_total", {}, counters.windowsSent);
    put("coroot_agent_windows_resent_total", {}, counters.windowsResent);
    put("coroot_agent_windows_dropped_total", {}, counters.windowsDropped);
    put("coroot_agent_windows_waiting", {}, link.ring.length);
    put("coroot_agent_windows_kept", {}, link.kept.length);
    put("coroot_agent_frames_skipped_total", {}, counters.skippedFrames);
    put("coroot_agent_frames_bad_total", {}, counters.badFrames);
    if (link.offsetMs !== null && link.roundTripMs !== null)
      put("coroot_agent_link_round_trip_seconds", {}, link.roundTripMs / 1000);
  }
  for (const [name, value] of Object.entries(observer.probeSelf)) {
    const [figure = "", program = ""] = name.split(".");
    if (figure === "runs") put("coroot_agent_probe_program_runs_total", { program }, value);
    else if (figure === "runNs") put("coroot_agent_probe_program_seconds_total", { program }, value / 1e9);
    else if (figure === "measuredUs") put("coroot_agent_probe_measured_seconds_total", {}, value / 1e6);
    else put("coroot_agent_probe", { figure }, value);
  }
};
