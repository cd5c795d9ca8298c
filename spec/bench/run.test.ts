/** The benchmark runner: every figure gives a row, whatever happens to its measurement. */
import { describe, expect, it } from "vitest";
import { type Figure, isFigure, type Measured, toRow } from "./figure.ts";
import { alreadyMeasured, asTable, figuresOf, groupsIn, measureWithin } from "./run.ts";

const figure = (measure: () => Promise<Measured>): Figure => ({
  id: "path.some",
  figure: "some figure",
  unit: "ms",
  bar: "<= 5",
  holds: (value) => value <= 5,
  measure,
});

describe("a row", () => {
  it("holds by its bar", () => {
    const one = figure(async () => ({ value: 4 }));
    expect(toRow(one, { value: 4 }, 0.251)).toEqual({
      id: "path.some",
      figure: "some figure",
      value: 4,
      unit: "ms",
      bar: "<= 5",
      holds: true,
      load: 0.25,
    });
    expect(toRow(one, { value: 6 }, 0).holds).toBe(false);
  });

  it("without a value does not hold and says why", () => {
    const row = toRow(
      figure(async () => ({ value: null })),
      { value: null, reason: "no nginx" },
      0,
    );
    expect(row).toMatchObject({ value: null, holds: false, reason: "no nginx" });
  });
});

describe("a measurement", () => {
  it("that throws gives its message as the reason", async () => {
    const measured = await measureWithin(
      figure(() => Promise.reject(new Error("boom"))),
      false,
      1_000,
    );
    expect(measured).toEqual({ value: null, reason: "boom" });
  });

  it("that takes too long is cut off", async () => {
    const measured = await measureWithin(
      figure(() => new Promise(() => undefined)),
      false,
      20,
    );
    expect(measured.value).toBeNull();
    expect(measured.reason).toMatch(/did not end within/);
  });

  it("for which no time is left is not begun", async () => {
    let begun = false;
    const late = figure(async () => {
      begun = true;
      return { value: 1 };
    });
    expect((await measureWithin(late, false, -1)).value).toBeNull();
    expect(begun).toBe(false);
  });
});

describe("a long run", () => {
  it("goes on after what has a value at this commit", () => {
    const text = [
      { id: "a", commit: "1", value: 2 },
      { id: "b", commit: "0", value: 2 },
      { id: "c", commit: "1", value: null },
    ]
      .map((row) => JSON.stringify(row))
      .join("\n");
    expect([...alreadyMeasured(`${text}\n`, "1")]).toEqual(["a"]);
  });
});

describe("the groups here", () => {
  const folder = new URL(".", import.meta.url).pathname;
  const all = Promise.all(groupsIn(folder).map((group) => figuresOf(`${folder}/${group}`)));

  it("have figures with ids of their own group, each once", async () => {
    const groups = groupsIn(folder);
    const figures = await all;
    groups.forEach((group, index) => {
      for (const one of figures[index] ?? []) {
        expect(isFigure(one)).toBe(true);
        expect(one.id.startsWith(`${group}.`)).toBe(true);
      }
    });
    const ids = figures.flat().map((one) => one.id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids).toContain("path.start");
  });
});

describe("the table", () => {
  it("has one line per figure and the reason under one without a value", () => {
    const row = toRow(
      figure(async () => ({ value: null })),
      { value: null, reason: "no bpf" },
      1,
    );
    expect(asTable([row]).split("\n")).toEqual([
      "id         figure       value  unit  bar   holds  load",
      "path.some  some figure  null   ms    <= 5  no     1.00",
      "    no bpf",
    ]);
  });
});
