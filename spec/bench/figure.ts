/**
 * One figure of a benchmark: what is measured, its bar, and how. A group is a folder beside this file; each of its files
 * may export `figures`. A figure that cannot run here gives value null and the reason; it never gives a made-up value.
 */
export interface Measured {
  readonly value: number | null;
  /** how the value came about, for a person */
  readonly detail?: string;
  /** why there is no value */
  readonly reason?: string;
}

export interface MeasureContext {
  /** the whole measurement instead of the scaled one */
  readonly long: boolean;
  readonly log: (line: string) => void;
  /** aborted when the run's time is over */
  readonly signal: AbortSignal;
}

export interface Figure {
  /** `<group>.<name>`, unique */
  readonly id: string;
  /** what the number says, in a few words */
  readonly figure: string;
  readonly unit: string;
  /** the bar as a person reads it */
  readonly bar: string;
  readonly holds: (value: number) => boolean;
  readonly measure: (context: MeasureContext) => Promise<Measured>;
}

/** One printed row; with --json one object per line. */
export interface Row {
  readonly id: string;
  readonly figure: string;
  readonly value: number | null;
  readonly unit: string;
  readonly bar: string;
  readonly holds: boolean;
  /** machine load (1 min) when the measurement ended */
  readonly load: number;
  readonly detail?: string;
  readonly reason?: string;
}

export const toRow = (figure: Figure, measured: Measured, load: number): Row => ({
  id: figure.id,
  figure: figure.figure,
  value: measured.value,
  unit: figure.unit,
  bar: figure.bar,
  holds: measured.value !== null && figure.holds(measured.value),
  load: Math.round(load * 100) / 100,
  ...(measured.detail === undefined ? {} : { detail: measured.detail }),
  ...(measured.value === null ? { reason: measured.reason ?? "no reason given" } : {}),
});

export const isFigure = (value: unknown): value is Figure =>
  typeof value === "object" &&
  value !== null &&
  ["id", "figure", "unit", "bar"].every((name) => name in value && typeof Reflect.get(value, name) === "string") &&
  ["holds", "measure"].every((name) => name in value && typeof Reflect.get(value, name) === "function");
