/**
 * What the values of a profile type mean, by its name: "cpu:nanoseconds", "go:heap_inuse_space:bytes". CPU time is shown
 * as a rate; what was there at one moment (memory in use, goroutines) as the average of those moments; the rest (bytes
 * allocated, time waited) as it adds up. Pure.
 */
export type ProfileKind = "rate" | "average" | "sum";

export interface ProfileMeaning {
  readonly kind: ProfileKind;
  /** of the values as they are shown */
  readonly unit: string;
}

const NANOSECONDS: ReadonlyMap<string, number> = new Map([
  ["nanoseconds", 1],
  ["microseconds", 1e3],
  ["milliseconds", 1e6],
  ["seconds", 1e9],
]);
const CPU = /(^|[:_])cpu:[^:]*$/;
const OF_A_MOMENT = /(inuse|in_use|live|goroutines?|threadcreate)[_a-z]*:[^:]*$/;

const unitOf = (type: string): string => (type.includes(":") ? type.slice(type.lastIndexOf(":") + 1) : "");

export const meaningOf = (type: string): ProfileMeaning => {
  const unit = unitOf(type);
  if (CPU.test(type) && NANOSECONDS.has(unit)) return { kind: "rate", unit: "cores" };
  return { kind: OF_A_MOMENT.test(type) ? "average" : "sum", unit };
};

/** By what a sum of values is multiplied, to be shown; of `profiles` profiles that lasted `seconds` together. */
export const scaleOf = (type: string, profiles: number, seconds: number): number => {
  const { kind } = meaningOf(type);
  if (kind === "sum") return 1;
  if (kind === "average") return profiles === 0 ? 0 : 1 / profiles;
  return seconds === 0 ? 0 : (NANOSECONDS.get(unitOf(type)) ?? 1) / 1e9 / seconds;
};
