/** Lines of one template have one pattern whatever their numbers and ids, and lines of others have others. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { patternOf } from "./messages.ts";

const WORDS =
  "order placed by user accepted connection lost retry for the page rendered cache miss in ms failed GET".split(" ");
const word = fc.constantFrom(...WORDS);

/** What differs from line to line. */
const variable = fc.oneof(
  fc.integer().map(String),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((n) => n.toFixed(3)),
  fc.uuid(),
  fc.stringMatching(/^[0-9a-f]{8,40}$/),
  fc.ipV4(),
  fc.ipV6().filter((text) => /\d/.test(text) && text.split(":").every((part) => part === "" || /\d/.test(part))),
  fc.nat(9999).map((n) => `${n}ms`),
  fc.tuple(word, word, fc.nat(99)).map(([a, b, n]) => `/${a}/${b}?page=${n}`),
  fc.tuple(word, fc.nat(9)).map(([a, n]) => `${a}-7c9d8f6b5-x${n}2z`),
  fc.date({ min: new Date(0), max: new Date("2100-01-01"), noInvalidDate: true }).map((date) => date.toISOString()),
  fc.stringMatching(/^[a-z .,:=]{0,30}$/).map((text) => `"${text}"`),
  fc.stringMatching(/^[a-z .,:=]{0,30}$/).map((text) => `'${text}'`),
);

/** Words, and null for what differs; none beside another, since those count as one. */
const template = fc
  .array(fc.oneof({ weight: 3, arbitrary: word }, { weight: 1, arbitrary: fc.constant(null) }), {
    minLength: 1,
    maxLength: 15,
  })
  .map((parts) => parts.filter((part, i) => part !== null || parts[i - 1] !== null))
  .filter((parts) => parts.some((part) => part !== null));

const line = (parts: readonly (string | null)[], values: readonly string[]): string => {
  let next = 0;
  return parts.map((part) => part ?? values[next++ % values.length] ?? "0").join(" ");
};
const values = fc.array(variable, { minLength: 15, maxLength: 15 });

describe("the pattern of a line", () => {
  it("is the same for all lines of a template", () => {
    fc.assert(
      fc.property(template, values, values, (parts, some, others) => {
        expect(patternOf(line(parts, some))).toBe(patternOf(line(parts, others)));
      }),
      { numRuns: 2_000 },
    );
  });

  it("differs between templates", () => {
    const seen = new Map<bigint, string>();
    fc.assert(
      fc.property(template, values, (parts, some) => {
        const pattern = patternOf(line(parts, some));
        const key = parts.map((part) => part ?? "*").join(" ");
        expect(seen.get(pattern) ?? key).toBe(key);
        seen.set(pattern, key);
        // a word more, and another order
        expect(patternOf(line([...parts, "tail"], some))).not.toBe(pattern);
        const turned = parts.toReversed();
        if (turned.join() !== parts.join()) expect(patternOf(line(turned, some))).not.toBe(pattern);
      }),
      { numRuns: 2_000 },
    );
    expect(seen.size).toBeGreaterThan(1_000);
  });

  it("does not see what varies in real lines", () => {
    const same: readonly (readonly [string, string])[] = [
      ["order 12 placed by user 7 in 3.4 ms", "order 998213 placed by user 12 in 110 ms"],
      ['GET "/api/cart" 200 12ms', "GET '/' 500 1.2s"],
      ["ids [1, 2, 3] are gone", "ids [17] are gone"],
      ["lost 10.0.0.1:5432 (attempt 1 of 5)", "lost 192.168.7.77:5432 (attempt 3 of 5)"],
      ["2026-11-27T01:02:03.004Z INFO started", "2025-01-02 22:33:44,555 INFO started"],
      ["cannot read /tmp/a: gone", "cannot read /var/lib/b.txt: gone"],
      ["mail to bob@example.org was refused.", "mail to eve@shop.example was refused"],
      ['{"msg":"order placed","id":12,"user":"a1"}', '{"msg":"order placed","id":9,"user":"b77"}'],
      ["[INFO] says 'a b'", "[INFO] says 'c'"],
      ["token deadbeef expired", "token cafebabe01 expired"],
    ];
    for (const [a, b] of same) expect(patternOf(a), `${a} | ${b}`).toBe(patternOf(b));
  });

  it("sees what does not vary", () => {
    const different: readonly (readonly [string, string])[] = [
      ["order placed", "order refused"],
      ["user logged in", "user 5 logged in"],
      ["don't do that", "do that"],
      ['{"msg":"order placed"}', '{"msg":"order refused"}'],
      ['[{"msg":"order placed"}]', '[{"msg":"order refused"}]'],
      ["a.b.C failed", "a.b.D failed"],
      ["the users' carts are full of 'x'", "the users carts are empty of 'x'"],
      ["été", "ete"],
    ];
    for (const [a, b] of different) expect(patternOf(a), `${a} | ${b}`).not.toBe(patternOf(b));
  });

  it("is 0 where there is no word, and ends with the twentieth", () => {
    for (const body of ["", "  \n", "--- ...", "(),:="]) expect(patternOf(body)).toBe(0n);
    expect(patternOf("17")).not.toBe(0n);
    const twenty = Array.from({ length: 20 }, (_, i) => `w${"x".repeat(i)}`).join(" ");
    expect(patternOf(`${twenty} more`)).toBe(patternOf(twenty));
    expect(patternOf(`${twenty.replace("w ", "v ")}`)).not.toBe(patternOf(twenty));
  });

  it("is found for any bytes within the line", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 3_000 }), (text) => {
        expect(patternOf(text)).toBe(patternOf(text));
        expect(patternOf(text) < 2n ** 64n).toBe(true);
      }),
    );
  });
});
