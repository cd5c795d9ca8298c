import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MAX_TERMS, MAX_TEXT, parseQueryText } from "../../../runtime/telemetry/queryText.ts";

const nothing = { words: [], texts: [], notWords: [], notTexts: [] };

describe("what people type to find lines", () => {
  it("is words, phrases, and what must not occur", () => {
    expect(parseQueryText("")).toEqual(nothing);
    expect(parseQueryText(" Timeout  ERROR\t")).toEqual({ ...nothing, words: ["timeout", "error"] });
    expect(parseQueryText('"Connection Refused" -healthz -"GET /metrics"')).toEqual({
      ...nothing,
      texts: ["%connection refused%"],
      notWords: ["healthz"],
      notTexts: ["%get /metrics%"],
    });
    // accents and other scripts are letters; capitals beyond ASCII stay
    expect(parseQueryText("über Ölstand 漢字")).toEqual({ ...nothing, words: ["über", "Ölstand", "漢字"] });
    expect(parseQueryText("- a-b --x")).toEqual({ ...nothing, texts: ["%-%", "%a-b%"], notTexts: ["%-x%"] });
  });

  it("has words with other characters and with * found anywhere, as they are", () => {
    expect(parseQueryText("10.0.0.1 user_id 100% a\\b")).toEqual({
      ...nothing,
      texts: ["%10.0.0.1%", "%user\\_id%", "%100\\%%", "%a\\\\b%"],
    });
    expect(parseQueryText("time* *out con*refused * ** -x*")).toEqual({
      ...nothing,
      texts: ["%time%%", "%%out%", "%con%refused%"],
      notTexts: ["%x%%"],
    });
    // within quotes nothing but the quote and the backslash is special
    expect(parseQueryText('"50% of \\"a*b\\" \\\\ c"')).toEqual({ ...nothing, texts: ['%50\\% of "a*b" \\\\ c%'] });
    expect(parseQueryText('""')).toEqual(nothing);
  });

  it("is refused when a quote is open, or there is too much", () => {
    expect(parseQueryText('a "b')).toMatch(/each " to be closed/);
    expect(parseQueryText('"a\\"')).toMatch(/each " to be closed/);
    expect(parseQueryText("x".repeat(MAX_TEXT + 1))).toMatch(/at most 1000 characters/);
    expect(parseQueryText(Array(MAX_TERMS).fill("a").join(" "))).toMatchObject({ words: { length: MAX_TERMS } });
    expect(
      parseQueryText(
        Array(MAX_TERMS + 1)
          .fill("a")
          .join(" "),
      ),
    ).toMatch(/at most 8 words/);
  });

  it("is read or refused whatever it is, and only words are words", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 60 }), (q) => {
        const text = parseQueryText(q);
        if (typeof text === "string") return;
        for (const word of [...text.words, ...text.notWords]) {
          expect(word).toMatch(/^[^\0-\x2f:-@[-`{-\x7f]+$/u);
          expect(word).not.toMatch(/[A-Z]/);
        }
        for (const pattern of [...text.texts, ...text.notTexts]) expect(pattern).toMatch(/^%[^]+%$/);
      }),
      { numRuns: 1_000 },
    );
  });
});
