/**
 * The pattern of a log line: a hash of its words without what differs from line to line, so that lines of one template
 * have one number. Pure, one pass over the bytes, no strings. After an idea of Coroot's logparser (quoted text, ids and
 * numbers left out, first words only), with these rules:
 *
 * - words are what lies between blanks and any of `, ; : = | < > ( ) [ ] { } ! ?` and quotes; dots, dashes and underscores at a
 *   word's end do not count;
 * - a word that has a digit is variable (numbers, times, uuids, addresses, versions, pod names), so is one of eight or more
 *   letters that are all hexadecimal, one with `/` or `\` (paths, URLs with their `?a=b`) and one with `@`;
 * - text in `'…'`, `"…"` or backticks is variable, where the quote opens behind a blank, a bracket, `=`, `:` or `,`, and closes
 *   within 1 KiB; not in JSON (a body that begins with `{`, `[{` or `["`), where all text is quoted;
 * - variable parts that follow each other count as one, so that lists of any length have one pattern;
 * - the first 20 words count, of at most the first 2 KiB.
 *
 * A body without any word has pattern 0. Stored rows depend on the rules, so a change splits the groups of old and new rows.
 */
const MOST_WORDS = 20;
const MOST_BYTES = 2048;
const MOST_QUOTED = 1024;
const HEX_LETTERS = 8;

/** Classes of bytes. */
const LETTER = 0;
const HEX = 1;
const DIGIT = 2;
/** makes its word variable */
const PATH = 3;
/** counts only between letters */
const INNER = 4;
const BREAK = 5;
/** a break behind which a quote opens */
const OPENER = 6;
const QUOTE = 7;

const CLASSES = new Uint8Array(256);
const classify = (kind: number, text: string): void => {
  for (const byte of Buffer.from(text, "latin1")) CLASSES[byte] = kind;
};
for (let byte = 0; byte <= 32; byte++) CLASSES[byte] = OPENER;
classify(HEX, "abcdefABCDEF");
classify(DIGIT, "0123456789");
classify(PATH, "/\\@");
classify(INNER, ".-_");
classify(OPENER, "=:,([{");
classify(BREAK, ";|<>)]}!?");
classify(QUOTE, "\"'`");

/** Of the breaks those that do not end a path. */
const IN_PATHS = new Uint8Array(256);
for (const byte of Buffer.from("=:;?!|")) IN_PATHS[byte] = 1;

const MASK = 0x2a;
const SEPARATOR = 0x20;
const OPEN_BRACE = 0x7b;
const OPEN_BRACKET = 0x5b;

const isJson = (bytes: Uint8Array, start: number): boolean => {
  const at = bytes[start] === OPEN_BRACKET ? start + 1 : start;
  return bytes[at] === OPEN_BRACE || (at > start && bytes[at] === 0x22);
};

const closing = (bytes: Uint8Array, at: number, end: number): number => {
  const quote = bytes[at];
  const last = Math.min(end, at + MOST_QUOTED);
  for (let i = at + 1; i < last; i++) {
    const byte = bytes[i];
    if (byte === 0x5c) i++;
    else if (byte === quote) return i;
  }
  return -1;
};

export class Pattern {
  low = 0;
  high = 0;
  private a = 0;
  private b = 0;
  private words = 0;
  private masked = false;

  /** The pattern of the bytes from `start` up to `end`, into `low` and `high`. */
  of(bytes: Uint8Array, start: number, end: number): void {
    const stop = Math.min(end, start + MOST_BYTES);
    const quotes = !isJson(bytes, start);
    this.a = 0xdeadbeef;
    this.b = 0x41c6ce57;
    this.words = 0;
    this.masked = false;
    let at = start;
    let opener = true;
    while (at < stop && this.words < MOST_WORDS) {
      const kind = CLASSES[bytes[at] ?? 0] ?? BREAK;
      if (kind < BREAK) {
        at = this.word(bytes, at, stop);
        opener = false;
      } else if (kind === QUOTE && quotes && opener) {
        const close = closing(bytes, at, end);
        if (close > 0) this.mask();
        at = close > 0 ? close + 1 : at + 1;
        opener = false;
      } else {
        opener = kind === OPENER;
        at++;
      }
    }
    this.finish();
  }

  /** The word that begins at `at`; gives where it ends. */
  private word(bytes: Uint8Array, start: number, stop: number): number {
    let { a, b } = this;
    // the hash up to the last byte that is no dot or dash: what it is when they end the word
    let solidA = a;
    let solidB = b;
    let variable = false;
    let solid = false;
    let path = false;
    let hex = true;
    let at = start;
    for (; at < stop; at++) {
      const byte = bytes[at] ?? 0;
      const kind = CLASSES[byte] ?? BREAK;
      if (kind >= BREAK) {
        if (path && IN_PATHS[byte] === 1) continue;
        break;
      }
      a = Math.imul(a ^ byte, 2654435761);
      b = Math.imul(b ^ byte, 1597334677);
      a ^= a >>> 15;
      if (kind === INNER) {
        hex = false;
        continue;
      }
      if (kind >= DIGIT) {
        variable = true;
        path ||= kind === PATH;
      } else if (kind === LETTER) hex = false;
      solidA = a;
      solidB = b;
      solid = true;
    }
    if (variable || (hex && at - start >= HEX_LETTERS)) this.mask();
    else if (solid) {
      this.a = Math.imul(solidA ^ SEPARATOR, 2654435761);
      this.b = Math.imul(solidB ^ SEPARATOR, 1597334677);
      this.words++;
      this.masked = false;
    }
    return at;
  }

  private mask(): void {
    if (this.masked) return;
    this.masked = true;
    this.words++;
    this.a = Math.imul(this.a ^ MASK, 2654435761);
    this.b = Math.imul(this.b ^ MASK, 1597334677);
  }

  private finish(): void {
    if (this.words === 0) {
      this.low = this.high = 0;
      return;
    }
    const { a, b } = this;
    const mixed = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909);
    this.low = mixed >>> 0;
    this.high = (Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(mixed ^ (mixed >>> 13), 3266489909)) >>> 0;
  }
}
