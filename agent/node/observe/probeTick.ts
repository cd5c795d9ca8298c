/**
 * What the fold takes from the probe each second: this side's view of the probe's frames, with edge ids of the probe's own
 * space that start anew with every probe life. Types only.
 */
import type { Table } from "../../../schemas/wire/columns.ts";
import type {
  HIST_SHAPE,
  L7_SHAPE,
  PAIR_SHAPE,
  PENDING_SHAPE,
  Role,
  TCP_SHAPE,
} from "../../../schemas/wire/observe.ts";

export interface ProbeEdge {
  readonly id: number;
  readonly role: Role;
  readonly netns: number;
  /** owner; for a server the last process that received, and the definition comes again when it changes */
  readonly tgid: number;
  readonly peer: string;
  readonly port: number;
  readonly local: string;
}

export type ProbeEvent =
  | {
      readonly kind: "exec";
      readonly pid: number;
      readonly ppid: number;
      readonly comm: string;
      readonly filename: string;
      readonly monoMs: number;
      readonly cgroupId: number;
      readonly memoryCgroupId: number;
    }
  | {
      readonly kind: "exit";
      readonly pid: number;
      readonly code: number | null;
      readonly signal: number | null;
      readonly monoMs: number;
    }
  | { readonly kind: "oom"; readonly pid: number; readonly rssBytes: number; readonly monoMs: number };

export interface ProbeTick {
  readonly tick: number;
  readonly monoMs: number;
  /** first tick of a probe life: what was known of edges is void */
  readonly reset?: boolean;
  readonly edges: readonly ProbeEdge[];
  readonly gone: readonly number[];
  readonly tcp: Table<typeof TCP_SHAPE>;
  readonly l7: Table<typeof L7_SHAPE>;
  readonly hist: Table<typeof HIST_SHAPE>;
  readonly pending: Table<typeof PENDING_SHAPE>;
  readonly pairs: Table<typeof PAIR_SHAPE>;
  readonly pairIps: Uint8Array;
  readonly events: readonly ProbeEvent[];
  readonly self: Readonly<Record<string, number>>;
}
