/**
 * What people type to find log lines: words, "phrases", and -words or -"phrases" that must not occur. Pure. A word is found
 * as a whole word; one with other characters than letters and digits (`10.0.0.1`, `user_id`), a phrase, and a word with `*`
 * (any text) are found anywhere. Capitals and small letters of ASCII are the same.
 */
export interface TextQuery {
  /** whole words, in small letters */
  readonly words: readonly string[];
  /** patterns of LIKE, in small letters */
  readonly texts: readonly string[];
  readonly notWords: readonly string[];
  readonly notTexts: readonly string[];
}

export const MAX_TEXT = 1_000;
/** Of each kind. */
export const MAX_TERMS = 8;

const small = (text: string): string => text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
/** What the store's word index takes for a word: all but ASCII that is no letter or digit. */
const WORD = /^[0-9a-z\u0080-\u{10ffff}]+$/u;
const escaped = (text: string): string => text.replace(/[\\%_]/g, (character) => `\\${character}`);

interface Term {
  readonly text: string;
  readonly quoted: boolean;
  readonly not: boolean;
}

/** Null: a quote is not closed. */
const termsOf = (q: string): readonly Term[] | null => {
  const terms: Term[] = [];
  for (let at = 0; at < q.length; ) {
    if (/\s/.test(q[at] ?? "")) {
      at++;
      continue;
    }
    const not = q[at] === "-" && at + 1 < q.length && !/\s/.test(q[at + 1] ?? "");
    if (not) at++;
    if (q[at] === '"') {
      let text = "";
      at++;
      while (at < q.length && q[at] !== '"') {
        if (q[at] === "\\" && (q[at + 1] === '"' || q[at + 1] === "\\")) at++;
        text += q[at++];
      }
      if (at >= q.length) return null;
      at++;
      if (text !== "") terms.push({ text, quoted: true, not });
    } else {
      const from = at;
      while (at < q.length && !/\s/.test(q[at] ?? "")) at++;
      terms.push({ text: q.slice(from, at), quoted: false, not });
    }
  }
  return terms;
};

/** A text is what is wrong with the query. */
export const parseQueryText = (q: string): TextQuery | string => {
  if (q.length > MAX_TEXT) return `expected at most ${MAX_TEXT} characters`;
  const terms = termsOf(q);
  if (terms === null) return 'expected each " to be closed by another';
  const found = {
    words: [] as string[],
    texts: [] as string[],
    notWords: [] as string[],
    notTexts: [] as string[],
  };
  for (const { text, quoted, not } of terms) {
    const plain = small(text);
    if (!quoted && WORD.test(plain)) (not ? found.notWords : found.words).push(plain);
    else {
      const inner = quoted ? escaped(plain) : plain.split("*").map(escaped).join("%");
      if (/^%*$/.test(inner)) continue;
      (not ? found.notTexts : found.texts).push(`%${inner}%`);
    }
  }
  if (Object.values(found).some((list) => list.length > MAX_TERMS))
    return `expected at most ${MAX_TERMS} words and ${MAX_TERMS} phrases`;
  return found;
};
