/** How much of one profile is read. What has more is refused whole, with the limit; sizes of rows are otlp/limits.ts. */
import { TooLarge } from "../otlp/DayRows.ts";

export const LIMITS = {
  /** of one profile, decoded */
  bytes: 32 * 1024 * 1024,
  types: 64,
  samples: 500_000,
  mappings: 10_000,
  locations: 250_000,
  functions: 250_000,
  strings: 500_000,
  /** functions of all locations, inlined ones included */
  lines: 1_000_000,
  /** of one sample's stack */
  stackLocations: 4_096,
  /** of a stack: those beyond, next to the leaf, are cut and counted */
  stackFrames: 1_024,
  /** of all samples' stacks together */
  frames: 20_000_000,
  /** of all samples together, after those of one stack were added up */
  values: 4_000_000,
  /** of the stacks of one profile that are not stored yet, as rows */
  stackBytes: 64 * 1024 * 1024,
  /** bytes of a frame's text */
  frameBytes: 2_048,
  /** that one sample gives, and that one call gives */
  labels: 32,
} as const;

const WORDS: Readonly<Record<keyof typeof LIMITS, string>> = {
  bytes: "bytes of a profile",
  types: "sample types of a profile",
  samples: "samples of a profile",
  mappings: "mappings of a profile",
  locations: "locations of a profile",
  functions: "functions of a profile",
  strings: "strings of a profile",
  lines: "lines of all locations of a profile",
  stackLocations: "locations of a sample",
  stackFrames: "frames of a stack",
  frames: "frames of all samples of a profile",
  values: "values of a profile",
  stackBytes: "bytes of new stacks of a profile",
  frameBytes: "bytes of a frame",
  labels: "labels",
};

export const overLimit = (name: keyof typeof LIMITS): TooLarge =>
  new TooLarge(`the limit of ${LIMITS[name].toLocaleString("en")} ${WORDS[name]} is exceeded`);
