/**
 * What makes one text of many that differ only in values: path templates, key patterns, statements without literals and
 * their fingerprints. Pure; work and result are bounded by the length of what is given.
 */
import { createHash } from "node:crypto";

const MAX_SEGMENTS = 8;
const MAX_WORD = 40;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const HEX = /^[0-9a-f]{8,}$/i;
const VERSION = /^v\d{1,2}(\.\d{1,2})?$/i;
const PLAIN = /^[\p{L}\w.~+,;=!$'()*:@-]*$/u;

/** One segment of a path, or what stands for its values. */
const segment = (text: string): string => {
  if (text === "" || VERSION.test(text)) return text;
  if (/^-?\d+$/.test(text)) return "{id}";
  if (UUID.test(text)) return "{uuid}";
  if (text.includes("@")) return "{email}";
  if (HEX.test(text) && /\d/.test(text)) return "{hash}";
  if (!PLAIN.test(text)) return "{text}";
  const digits = text.replace(/\D/g, "").length;
  if (text.length > MAX_WORD || (digits > 0 && (text.length >= 20 || digits * 2 >= text.length))) return "{token}";
  return digits === 0 ? text : text.replace(/\d+/g, "{id}");
};

/** The path of a request target without its values: `/users/42/orders?x=1` gives `/users/{id}/orders`. */
export const pathTemplate = (target: string): string => {
  const end = target.search(/[?#]/);
  let path = end < 0 ? target : target.slice(0, end);
  const scheme = path.indexOf("://");
  if (scheme > 0) {
    const at = path.indexOf("/", scheme + 3);
    path = at < 0 ? "/" : path.slice(at);
  }
  if (!path.startsWith("/")) return path === "*" ? "*" : "{text}";
  const segments = path.slice(1).split("/");
  const kept = segments.slice(0, MAX_SEGMENTS).map(segment);
  return `/${kept.join("/")}${segments.length > MAX_SEGMENTS ? "/*" : ""}`;
};

/** A key without its values: `user:42:name` gives `user:*:name`. */
export const keyPattern = (key: string): string =>
  key
    .slice(0, 200)
    .split(/([:/|.{}])/)
    .slice(0, 15)
    .map((part) =>
      part.length <= 1 && !/\d/.test(part) ? part : segment(part).replace(/\{(id|uuid|email|hash|text|token)\}/g, "*"),
    )
    .join("");

const NUMBER = /^(0x[0-9a-f]+|\d[\d.]*(e[+-]?\d+)?)/i;
const WORD = /^[\p{L}_][\p{L}\p{N}_$]*/u;
/** `b'01'`, `E'\n'`, `N'..'`, `x'ff'`: the letter belongs to the literal. */
const PREFIX = /^([ebnx]|u&)'/i;

/** End of a quoted text that begins at `at`; the text's end where it is cut. */
const quoteEnd = (sql: string, at: number, quote: string, escapes: boolean): number => {
  for (let i = at + 1; i < sql.length; i++) {
    if (escapes && sql[i] === "\\") i++;
    else if (sql[i] === quote) {
      if (sql[i + 1] !== quote) return i + 1;
      i++;
    }
  }
  return sql.length;
};

/**
 * A statement without comments and literals, blanks and lists of values as one. `mysql`: text in double quotes is a
 * literal, `#` begins a comment and a backslash escapes.
 */
export const obfuscate = (sql: string, mysql: boolean): string => {
  let out = "";
  const put = (token: string, glued = false): void => {
    const spaced = out !== "" && !glued && !/[ (.[]$/.test(out) && !/^[),.;\][:]/.test(token);
    out += spaced ? ` ${token}` : token;
  };
  let blank = false;
  for (let at = 0; at < sql.length; ) {
    const ch = sql[at] ?? "";
    const glued = !blank;
    blank = false;
    if (/\s/.test(ch) || ch === "\0") {
      blank = true;
      at++;
    } else if (sql.startsWith("--", at) || (mysql && ch === "#")) {
      const end = sql.indexOf("\n", at);
      at = end < 0 ? sql.length : end + 1;
      blank = true;
    } else if (sql.startsWith("/*", at)) {
      const end = sql.indexOf("*/", at + 2);
      at = end < 0 ? sql.length : end + 2;
      blank = true;
    } else if (ch === "'" || (mysql && ch === '"')) {
      put("?", glued);
      at = quoteEnd(sql, at, ch, mysql);
    } else if (PREFIX.test(sql.slice(at, at + 3)) && !/[\p{L}\p{N}_]$/u.test(out.slice(glued ? -1 : out.length))) {
      put("?", glued);
      const open = sql.indexOf("'", at);
      at = quoteEnd(sql, open, "'", mysql || /e/i.test(ch));
    } else if (ch === '"' || ch === "`") {
      const end = quoteEnd(sql, at, ch, false);
      put(sql.slice(at, end), glued);
      at = end;
    } else if (ch === "$") {
      const tag = /^\$(\p{L}[\p{L}\p{N}_]*)?\$/u.exec(sql.slice(at, at + 64))?.[0];
      const place = /^\$\d+/.exec(sql.slice(at, at + 8))?.[0];
      put(tag === undefined && place === undefined ? "$" : "?", glued);
      if (tag !== undefined) {
        const end = sql.indexOf(tag, at + tag.length);
        at = end < 0 ? sql.length : end + tag.length;
      } else at += place?.length ?? 1;
    } else if (/\d/.test(ch)) {
      put("?", glued);
      at += NUMBER.exec(sql.slice(at, at + 64))?.[0].length ?? 1;
      // what is left of a very long one
      while (/[\d.]/.test(sql[at] ?? "")) at++;
    } else {
      const word = WORD.exec(sql.slice(at, at + 256))?.[0] ?? ch;
      put(word, glued);
      at += word.length;
    }
  }
  return out
    .replace(/\s*,\s*/g, ", ")
    .replace(/\((\s*-?\?\s*(,\s*-?\?\s*)*)\)/g, "(?)")
    .replace(/\(\?\)(, \(\?\))+/g, "(?)")
    .replace(/\s*;\s*$/, "")
    .trim();
};

/** Names a statement in all its forms: 16 hex digits. */
export const fingerprint = (obfuscated: string): string =>
  createHash("sha1").update(obfuscated.toLowerCase().replace(/\s+/g, " ")).digest("hex").slice(0, 16);

const TABLE =
  /\b(?:from|into|update|join|table(?:\s+if\s+(?:not\s+)?exists)?|truncate)\s+(?:only\s+)?([\p{L}_"`[][\p{L}\p{N}_$."`\]]*)/iu;

/** The kind of a statement and the first table that it names. */
export const summary = (obfuscated: string): { readonly operation: string; readonly table: string } => {
  const first = /^[(\s]*(\p{L}+)/u.exec(obfuscated);
  const operation = first?.[1]?.toUpperCase() ?? "";
  const rest = obfuscated.slice(first?.[0].length ?? 0);
  const found =
    operation === "UPDATE" || operation === "TRUNCATE"
      ? (/^\s*(?:table\s+)?(?:only\s+)?([\p{L}_"`][\p{L}\p{N}_$."`]*)/iu.exec(rest)?.[1] ?? TABLE.exec(obfuscated)?.[1])
      : TABLE.exec(obfuscated)?.[1];
  return { operation: operation.slice(0, 20), table: (found ?? "").replaceAll(/["`[\]]/g, "").slice(0, 100) };
};
