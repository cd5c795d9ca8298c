/**
 * PromQL's literals: numbers, durations, quoted texts (Go's rules). Pure; null for a text that is none.
 */
const UNITS: readonly (readonly [unit: string, ms: number])[] = [
  ["y", 365 * 86_400_000],
  ["w", 7 * 86_400_000],
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1_000],
  ["ms", 1],
];
const DURATION = /^(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?$/;

/** `1h30m` in milliseconds. */
export const duration = (text: string): number | null => {
  const found = text === "" ? null : DURATION.exec(text);
  if (found === null) return null;
  return UNITS.reduce((sum, [, ms], i) => sum + Number(found[i + 1] ?? 0) * ms, 0);
};

/** As Go's ParseFloat reads it: `0x1F`, `1_000`, `.5`, `1e3`, `Inf`, `NaN`. */
export const number = (text: string): number | null => {
  const plain = text.replaceAll("_", "").toLowerCase();
  if (plain === "inf" || plain === "+inf") return Infinity;
  if (plain === "-inf") return -Infinity;
  if (plain === "nan") return Number.NaN;
  if (!/^[+-]?(0x[0-9a-f]+|(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)$/.test(plain)) return null;
  const [, sign, digits = ""] = /^([+-]?)(.*)$/.exec(plain) ?? [];
  return sign === "-" ? -Number(digits) : Number(digits);
};

const SIMPLE: Readonly<Record<string, string>> = {
  a: "\x07",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
  "\\": "\\",
  "'": "'",
  '"': '"',
};
const CODED = /^(?:x([0-9a-fA-F]{2})|([0-7]{3})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))/;

/** The text between the quotes, escapes resolved; null when it is not closed or has an escape that there is not. */
export const unquote = (literal: string): string | null => {
  const quote = literal[0] ?? "";
  if (literal.length < 2 || !literal.endsWith(quote) || !["'", '"', "`"].includes(quote)) return null;
  const inner = literal.slice(1, -1);
  if (quote === "`") return inner;
  let out = "";
  const bytes: number[] = [];
  const flush = (): void => {
    if (bytes.length > 0) out += Buffer.from(bytes).toString("utf8");
    bytes.length = 0;
  };
  for (let i = 0; i < inner.length; i++) {
    const c = inner[i] ?? "";
    if (c === "\n" || c === quote) return null;
    if (c !== "\\") {
      flush();
      out += c;
      continue;
    }
    const rest = inner.slice(i + 1, i + 10);
    const simple = SIMPLE[rest[0] ?? ""];
    if (simple !== undefined) {
      flush();
      out += simple;
      i++;
      continue;
    }
    const coded = CODED.exec(rest);
    if (coded === null) return null;
    const [all, hex, octal, short, long] = coded;
    const byte = hex === undefined ? (octal === undefined ? null : parseInt(octal, 8)) : parseInt(hex, 16);
    if (byte !== null) {
      if (byte > 255) return null;
      bytes.push(byte);
    } else {
      const point = parseInt(short ?? long ?? "", 16);
      if (point > 0x10ffff) return null;
      flush();
      out += String.fromCodePoint(point);
    }
    i += all.length;
  }
  flush();
  return out;
};
