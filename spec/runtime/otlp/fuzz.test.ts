/**
 * Bytes that nobody meant: random ones, and valid requests cut off or changed. Each is encoded or refused as malformed or
 * too large, in little time and memory. COROOT_FUZZ sets the number of inputs (12,000 without it).
 */
import { describe, expect, it } from "vitest";
import { TooLarge } from "../../../runtime/otlp/DayRows.ts";
import { Malformed } from "../../../runtime/doors/Protobuf.ts";
import { protobufOf } from "../../../runtime/otlp/json.ts";
import { encodeLogs } from "../../../runtime/otlp/logs.ts";
import { LOGS, TRACES } from "../../../runtime/otlp/messages.ts";
import { encodeSpans } from "../../../runtime/otlp/spans.ts";
import { logRequest, makeRandom, traceRequest } from "./load.ts";
import { NOW_MS, OLDEST_MS } from "./messages.ts";
import { finish, readRows } from "./rowBinary.ts";

const INPUTS = Number(process.env["COROOT_FUZZ"] ?? 12_000);
const OPTIONS = { batch: 1n, nowMs: NOW_MS, oldestMs: OLDEST_MS };
const MIB = 1024 * 1024;

const random = makeRandom(INPUTS);
const below = (most: number): number => Math.floor(random() * most);

const spans = traceRequest(1, 8, NOW_MS - 10_000);
const logs = logRequest(1, 8, NOW_MS - 10_000);

const changed = (valid: Buffer): Buffer => {
  const bytes = Buffer.from(valid.subarray(0, random() < 0.3 ? below(valid.length) : valid.length));
  for (let i = below(4); i >= 0 && bytes.length > 0; i--) bytes[below(bytes.length)] = below(256);
  return bytes;
};

const noise = (): Buffer => {
  const bytes = Buffer.alloc(below(400));
  // mostly tags and lengths that make sense, so that the noise goes deep
  for (let i = 0; i < bytes.length; i++) bytes[i] = random() < 0.6 ? below(0x30) : below(256);
  return bytes;
};

type Verdict = "taken" | "malformed" | "too large";

const verdictOf = (work: () => unknown): Verdict => {
  try {
    work();
    return "taken";
  } catch (error) {
    if (error instanceof Malformed) return "malformed";
    if (error instanceof TooLarge) return "too large";
    throw error;
  }
};

const memory = (): number => {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
};

describe("wrong bytes", () => {
  it(
    "are encoded or refused, never more, and what is encoded can be read",
    { timeout: Math.max(25_000, INPUTS) },
    async () => {
      const counts: Record<Verdict, number> = { taken: 0, malformed: 0, "too large": 0 };
      const before = memory();
      let most = 0;
      for (let i = 0; i < INPUTS; i++) {
        const isLog = i % 2 === 0;
        const bytes = i % 3 === 0 ? noise() : changed(isLog ? logs : spans);
        const verdict = verdictOf(() => {
          const { days, repairs } = finish(isLog ? encodeLogs(bytes, OPTIONS) : encodeSpans(bytes, OPTIONS));
          for (const rows of days.values()) readRows(isLog ? "logs" : "spans", rows);
          expect(repairs.leftOut).toBeLessThanOrEqual(bytes.length);
        });
        counts[verdict]++;
        if (i % 500 !== 0) continue;
        most = Math.max(most, memory() - before);
        // the runner gives up on a file that does not answer it
        await new Promise(setImmediate);
      }
      expect(counts.taken).toBeGreaterThan(INPUTS / 20);
      expect(counts.malformed).toBeGreaterThan(INPUTS / 20);
      expect(counts["too large"]).toBe(0);
      expect(most / MIB).toBeLessThan(200);
    },
  );

  it("that claim huge lengths allocate nothing", () => {
    const before = process.memoryUsage().arrayBuffers;
    const claims = Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x07]);
    expect(() => finish(encodeSpans(claims, OPTIONS))).toThrow(/goes beyond the end at byte 1/);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(MIB);
  });

  it("as JSON are taken or malformed", () => {
    const valid = JSON.stringify({
      resourceSpans: [
        {
          resource: { attributes: [{ key: "a", value: { intValue: "1" } }] },
          scopeSpans: [{ spans: [{ traceId: "0a", kind: 1, status: { code: 2 } }] }],
        },
      ],
    });
    const counts: Record<Verdict, number> = { taken: 0, malformed: 0, "too large": 0 };
    for (let i = 0; i < INPUTS / 4; i++) {
      const text = valid.replace(/[\d"[\]{}]/g, (found) =>
        random() < 0.03 ? (["0", '"', "null", "[]", "{}"][below(5)] ?? "") : found,
      );
      const bytes = Buffer.from(text);
      counts[verdictOf(() => finish(encodeSpans(finish(protobufOf(bytes, i % 2 === 0 ? TRACES : LOGS)), OPTIONS)))]++;
    }
    expect(counts.taken).toBeGreaterThan(0);
    expect(counts.malformed).toBeGreaterThan(0);
  });
});
