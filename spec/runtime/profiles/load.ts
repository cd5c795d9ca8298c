/** Profiles as Go's runtime makes them: packages and functions with lines, stacks that share their roots, equal seeds equal bytes. */
import { makeRandom } from "../otlp/load.ts";
import { encodeMessage } from "./proto.ts";

export interface ProfileLoad {
  readonly functions: number;
  readonly stacks: number;
  readonly timeMs: number;
  readonly durationMs?: number;
  readonly type?: string;
}

/** Uncompressed. Equal seeds have the same stacks, whatever their values. */
export const profileBody = (seed: number, valueSeed: number, load: ProfileLoad): Buffer => {
  const { functions, stacks, timeMs, durationMs = 10_000, type = "cpu" } = load;
  const random = makeRandom(seed + 1);
  const values = makeRandom(valueSeed + 1);
  const below = (most: number): number => Math.floor(random() * most);
  const strings = ["", type, type.includes(":") ? "" : "nanoseconds"];
  for (let i = 0; i < functions; i++) {
    strings.push(`github.com/shop/cart/pkg${i % 40}.(*Handler).Method${seed}x${i}`);
    strings.push(`/go/src/github.com/shop/cart/pkg${i % 40}/handler_${i % 7}.go`);
  }
  const sample = Array.from({ length: stacks }, () => {
    // the first frames are those of few roots, so that the stacks make a tree
    const depth = 8 + below(25);
    const root = below(20);
    const locationId = Array.from({ length: depth }, (_, level) =>
      level < 6 ? 1 + ((root * 6 + level) % (2 * functions)) : 1 + below(2 * functions),
    );
    return { locationId: locationId.reverse(), value: [String(1 + Math.floor(values() * 1e8))] };
  });
  return encodeMessage({
    stringTable: strings,
    sampleType: [{ type: 1, unit: 2 }],
    function: Array.from({ length: functions }, (_, i) => ({ id: i + 1, name: 3 + 2 * i, filename: 4 + 2 * i })),
    location: Array.from({ length: 2 * functions }, (_, i) => ({
      id: i + 1,
      address: 4096 + i * 16,
      line: [{ functionId: 1 + (i % functions), line: 10 + (i % 97) }],
    })),
    sample,
    timeNanos: String(BigInt(Math.floor(timeMs)) * 1_000_000n),
    durationNanos: String(BigInt(durationMs) * 1_000_000n),
  });
};
