/**
 * What the agent tells the server of itself, see SelfFigures in schemas/wire/observe.ts: rates and losses over the last
 * minute, from looks every few seconds. Owned by the node agent; pure but for the clock of the process's own CPU, which
 * the caller reads. Bounded by a minute of looks. Holds nothing to stop.
 */
import { LOST, USED, type SelfFigures } from "../../../schemas/wire/observe.ts";

const MINUTE_MS = 60_000;

/** Counters of one moment: they only grow, but the probe's begin anew with each of its lives. */
export interface Look {
  readonly monoMs: number;
  /** of this process, ms */
  readonly cpuMs: number;
  readonly memoryBytes: number;
  /** the worst since the look before, ms */
  readonly loopLateMs: number;
  readonly windowsWaiting: number;
  readonly spool: { readonly bytes: number; readonly maxBytes: number; readonly records: number };
  /** bytes of all TCP connections, both ways */
  readonly tcpBytes: number;
  /** what the probe said of itself last; empty: it does not run */
  readonly probe: Readonly<Record<string, number>>;
  /** losses outside the probe, by name */
  readonly losses: Readonly<Record<string, number>>;
}

/** The probe's own counters of losses, by the name that they are told under. */
const PROBE_LOSSES = [
  ["edges", ["edgesRefused"]],
  ["rows", ["rowsRefused"]],
  ["connections", ["storageRefused"]],
  ["events", ["eventsLost"]],
  ["dnsNames", ["namesLost"]],
  ["lookups", ["lookupsRefused"]],
  ["diskTimings", ["timingsRefused", "timingsLost"]],
  ["mounts", ["mountsRefused"]],
  ["tlsSessions", ["tlsRefused"]],
  ["readsOfTables", ["readErrors"]],
  ["stepsOfConnections", ["desyncs", "stepLimits", "faults"]],
  ["exactLatencies", ["fifoOverflows"]],
] as const;
const TABLES = ["edges", "rows", "lookups", "timings"] as const;

const increase = (now: number, then: number): number => (now >= then ? now - then : now);

export class SelfReport {
  private readonly looks: Look[] = [];

  tell(look: Look): SelfFigures {
    this.looks.push(look);
    while (this.looks.length > 2 && look.monoMs - (this.looks[1]?.monoMs ?? 0) >= MINUTE_MS) this.looks.shift();
    const [first = look] = this.looks;
    const seconds = Math.max(0.001, (look.monoMs - first.monoMs) / 1000);
    // One look after the other, since the probe may have begun anew in between.
    const grown = (of: (one: Look) => number): number => {
      let sum = 0;
      for (const [i, one] of this.looks.entries()) {
        const before = this.looks[i - 1];
        if (before !== undefined) sum += increase(of(one), of(before));
      }
      return sum;
    };
    const ofProbe = (name: string) => (one: Look) => one.probe[name] ?? 0;
    const { probe, spool } = look;
    const told: Record<string, number> = {
      cpuCores: grown(({ cpuMs }) => cpuMs) / 1000 / seconds,
      memoryBytes: look.memoryBytes,
      loopLateMs: Math.max(...this.looks.map(({ loopLateMs }) => loopLateMs)),
      windowsWaiting: look.windowsWaiting,
      spoolBytes: spool.bytes,
      spoolRecords: spool.records,
      [`${USED}spool`]: spool.maxBytes > 0 ? spool.bytes / spool.maxBytes : 0,
    };
    const tellLoss = (name: string, n: number): void => {
      if (n > 0) told[`${LOST}${name}`] = n;
    };
    for (const name of Object.keys(look.losses))
      tellLoss(
        name,
        grown(({ losses }) => losses[name] ?? 0),
      );
    if (probe["cpuUs"] === undefined) return told;
    told["probeCpuCores"] = grown(ofProbe("cpuUs")) / 1e6 / seconds;
    told["probeMemoryBytes"] = probe["rssBytes"] ?? 0;
    told["kernelBytes"] = probe["kernelBytes"] ?? 0;
    told["ticksSkipped"] = grown(ofProbe("ticksSkipped"));
    told["bytesPerSecond"] = grown(({ tcpBytes }) => tcpBytes) / seconds;
    told["unknownBytesPerSecond"] = grown(ofProbe("unknownBytes")) / seconds;
    told["tlsBlindBytesPerSecond"] = grown(ofProbe("tlsBlindBytes")) / seconds;
    const measuredUs = grown(ofProbe("measuredUs"));
    if (measuredUs > 0) {
      const names = Object.keys(probe).filter((name) => name.startsWith("runNs."));
      told["programsCores"] = names.reduce((sum, name) => sum + grown(ofProbe(name)), 0) / 1000 / measuredUs;
    }
    for (const name of TABLES) {
      const most = probe[`${name}Max`] ?? 0;
      if (most > 0) told[`${USED}${name}`] = (probe[name] ?? 0) / most;
    }
    for (const [name, counters] of PROBE_LOSSES)
      tellLoss(
        name,
        counters.reduce((sum, counter) => sum + grown(ofProbe(counter)), 0),
      );
    return told;
  }
}
