import { assert, constantFrom, dictionary, property, string } from "fast-check";
import { describe, expect, it } from "vitest";
import { emptyTable } from "../../../schemas/wire/columns.ts";
import { SAMPLES_SHAPE } from "../../../schemas/wire/link.ts";
import { encodeBatch, groupToken, ROW_BYTES, sourceOf } from "../../../runtime/store/batch.ts";
import { Words } from "../../../runtime/Generations.ts";
import { Dictionary } from "../../../runtime/store/Dictionary.ts";
import { fingerprint, fingerprintText } from "../../../runtime/store/fingerprint.ts";
import { chartStep } from "../../../runtime/store/History.ts";
import { rowLine } from "../../../runtime/store/rows.ts";
import { backOffMs } from "../../../runtime/store/StoreProcess.ts";
import { makeBatch } from "./harness.ts";

const DAY = 86_400_000;

const of = (labels: Record<string, string>) => fingerprint("m", { service: "a", ...labels });

describe("fingerprints", () => {
  it("stay what is stored already", () => {
    expect(fingerprintText(fingerprint("cpu_seconds", { service: "s", mode: "read" }))).toBe("9198562034769097515");
  });

  it("do not depend on the labels' order, and share the high half within metric and service", () => {
    assert(
      property(dictionary(string(), string(), { maxKeys: 6 }), (labels) => {
        const turned = Object.fromEntries(Object.entries(labels).reverse());
        expect(fingerprint("m", turned)).toEqual(fingerprint("m", labels));
      }),
    );
    expect(of({ x: "1" }).high).toBe(of({ x: "2" }).high);
    expect(of({ x: "1" }).low).not.toBe(of({ x: "2" }).low);
    expect(of({ x: "1" }).high).not.toBe(fingerprint("m", { service: "b", x: "1" }).high);
  });

  it("do not meet among a hundred thousand alike series", () => {
    const seen = new Set<string>();
    for (let service = 0; service < 100; service++)
      for (let one = 0; one < 1_000; one++)
        seen.add(fingerprintText(fingerprint("m", { service: `ns/app-${service}`, pod: `app-${service}-${one}` })));
    expect(seen.size).toBe(100_000);
  });
});

describe("a batch's rows", () => {
  it("are cut by day, and leave out what retention or a broken clock makes useless", () => {
    const now = 20_000 * DAY;
    const batch = {
      ...makeBatch("a", 5, 6, 0),
      times: Float64Array.of(now - 1, now, now + 1.7, now - 9 * DAY, Number.NaN, Number.POSITIVE_INFINITY),
    };
    const encoded = encodeBatch(batch, sourceOf("a", 7), now - 7 * DAY, now + DAY);
    expect(encoded).toMatchObject({ rows: 3, refused: 3, fromMs: now - 1, toMs: now + 1 });
    expect([...encoded.days].map(([day, rows]) => [day, rows.length / ROW_BYTES])).toEqual([
      [19_999, 1],
      [20_000, 2],
    ]);
    const second = encoded.days.get(20_000);
    expect(second?.readBigInt64LE(ROW_BYTES + 8)).toBe(BigInt(now + 1));
    expect(second?.readBigUInt64LE(24)).toBe(sourceOf("a", 7));
    expect(second?.readUInt32LE(32)).toBe(5);
  });

  it("have a token that depends on which batches, not on their order", () => {
    const [a, b, c] = ["a", "b", "c"].map((agent) => ({ source: sourceOf(agent, 1), sequence: 1 }));
    if (a === undefined || b === undefined || c === undefined) throw new Error("three");
    expect(groupToken([a, b, c])).toBe(groupToken([c, a, b]));
    expect(new Set([groupToken([a]), groupToken([a, b]), groupToken([{ ...a, sequence: 2 }])]).size).toBe(3);
    expect(sourceOf("a", 1)).not.toBe(sourceOf("a", 2));
  });

  it("come from a connection's dictionary, and unknown series are counted", () => {
    const dictionaryOf = new Dictionary(new Words());
    dictionaryOf.define([{ id: 9, name: "up", labels: { service: "s", pod: "p" } }]);
    dictionaryOf.define([
      { id: 9, name: "down", labels: {} },
      { id: 200_000, name: "beyond the bound", labels: {} },
    ]);
    const samples = emptyTable(SAMPLES_SHAPE, 3);
    samples.series.set([9, 4, 9]);
    samples.timeMs.set([1, 2, 3]);
    samples.value.set([10, 20, 30]);
    const batch = dictionaryOf.batch({ agent: "a", epoch: 1, sequence: 2, connection: 3 }, samples);
    const labels = { service: "s", pod: "p" };
    expect(batch.series.at(9)).toEqual({ name: "up", labels, fingerprint: fingerprint("up", labels) });
    expect([batch.series.at(4), batch.series.at(10), batch.series.at(200_000)]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    expect([[...batch.index], [...batch.times], [...batch.values]]).toEqual([
      [9, 9],
      [1, 3],
      [10, 30],
    ]);
    expect(dictionaryOf.unknown).toBe(1);
  });
});

describe("small rules", () => {
  it("write times as each column reads them", () => {
    expect(
      JSON.parse(rowLine("events", { ts: 1_700_000_000_007, service: "s", kind: "k", text: "'", json: "" })),
    ).toEqual({
      ts: "1700000000.007",
      service: "s",
      kind: "k",
      text: "'",
      json: "",
    });
    const minute = { service: "s", minute: 60_000, total: 1, bad: 0, slow: 0, buckets: [1], counts: [2], version: 3 };
    expect(JSON.parse(rowLine("sli_minutes", minute))).toEqual({ ...minute, minute: 60 });
  });

  it("give chart steps that are multiples of the stored resolution and few enough", () => {
    assert(
      property(constantFrom(1, 7, 100, 600), constantFrom(0, 1, 59_999, 3_600_000, 30 * DAY), (most, span) => {
        const step = chartStep(0, span, most);
        expect(step % 10).toBe(0);
        expect(Math.ceil(span / 1000 / step)).toBeLessThanOrEqual(most);
      }),
    );
    expect(chartStep(0, 3_600_000, 360)).toBe(10);
  });

  it("back off further each time, within bounds and with jitter", () => {
    const waits = [0, 1, 2, 3, 50].map((attempt) => [backOffMs(attempt, 0), backOffMs(attempt, 1)]);
    expect(waits).toEqual([
      [187.5, 312.5],
      [375, 625],
      [750, 1250],
      [1500, 2500],
      [11_250, 18_750],
    ]);
    expect(backOffMs(1_000, 0.5)).toBe(15_000);
  });
});
