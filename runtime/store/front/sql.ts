/**
 * What the store's front must know of ClickHouse's SQL: where a statement ends, what kind it is, how a value and the
 * query settings are written. Pure. A text that it cannot place (two statements, SET, an unclosed quote) is refused with
 * the code that ClickHouse itself would answer, because SET and USE would leak into a pooled session.
 */
import { FrontError } from "./errors.ts";

export type StatementKind = "read" | "write";

/** A single-quoted literal: only `\` and `'` can end it, so only these are escaped. */
export const literal = (text: string): string => `'${text.replace(/[\\']/g, (c) => `\\${c}`)}'`;

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
export const isName = (text: string): boolean => NAME.test(text);

/** `SET param_a = '…', param_b = '…'`; the values are the wire texts as the client wrote them. */
export const bindStatement = (params: ReadonlyMap<string, string>): string =>
  `SET ${[...params].map(([name, text]) => `param_${name} = ${literal(text)}`).join(", ")}`;

/** `SETTINGS a = '…', …`, empty when there are none. Every value is written as a string, which the engine converts. */
export const settingsClause = (settings: ReadonlyMap<string, string>): string => {
  if (settings.size === 0) return "";
  return `SETTINGS ${[...settings].map(([name, value]) => `${name} = ${literal(value)}`).join(", ")}`;
};

/** Index after the quoted text that opens at `at`; -1 when it is never closed. */
const afterQuote = (sql: string, at: number): number => {
  const quote = sql[at];
  for (let i = at + 1; i < sql.length; i++) {
    if (sql[i] === "\\") i++;
    else if (sql[i] === quote) return i + 1;
  }
  return -1;
};

/** Index after a comment or quoted text that opens at `at`, `at` itself when none does. */
const skip = (sql: string, at: number): number => {
  const c = sql[at];
  if (c === "'" || c === '"' || c === "`") {
    const end = afterQuote(sql, at);
    if (end < 0) throw new FrontError(62, "SYNTAX_ERROR", `a quote opened at character ${at} is never closed`);
    return end;
  }
  if ((c === "-" && sql[at + 1] === "-") || (c === "#" && (sql[at + 1] === " " || sql[at + 1] === "!"))) {
    const end = sql.indexOf("\n", at);
    return end < 0 ? sql.length : end + 1;
  }
  if (c === "/" && sql[at + 1] === "*") {
    const end = sql.indexOf("*/", at + 2);
    if (end < 0) throw new FrontError(62, "SYNTAX_ERROR", `a comment opened at character ${at} is never closed`);
    return end + 2;
  }
  if (c === "$") {
    const tag = /^\$\w*\$/.exec(sql.slice(at, at + 64))?.[0];
    if (tag === undefined) return at;
    const end = sql.indexOf(tag, at + tag.length);
    if (end < 0) throw new FrontError(62, "SYNTAX_ERROR", `a heredoc opened at character ${at} is never closed`);
    return end + tag.length;
  }
  return at;
};

/** The one statement of a text, without its closing `;`. A second statement is an error, as over ClickHouse's HTTP. */
export const oneStatement = (sql: string): string => {
  let end = -1;
  for (let i = 0; i < sql.length; ) {
    const next = skip(sql, i);
    if (next > i) {
      i = next;
      continue;
    }
    const c = sql[i] ?? "";
    if (c === ";" && end < 0) end = i;
    else if (c !== ";" && end >= 0 && c.trim() !== "")
      throw new FrontError(62, "SYNTAX_ERROR", "Multi-statements are not allowed");
    i++;
  }
  return end < 0 ? sql : sql.slice(0, end);
};

/** Every bracket is closed, and none is that was not opened before: so the text stays one when it stands in brackets. */
export const isBalanced = (sql: string): boolean => {
  let depth = 0;
  for (let i = 0; i < sql.length; ) {
    const next = skip(sql, i);
    if (next > i) {
      i = next;
      continue;
    }
    if (sql[i] === "(") depth++;
    else if (sql[i] === ")" && --depth < 0) return false;
    i++;
  }
  return depth === 0;
};

/** First word of a statement, in capitals, past blanks, comments and brackets. */
const firstWord = (sql: string): string => {
  let i = 0;
  while (i < sql.length) {
    const next = skip(sql, i);
    if (next > i) i = next;
    else if (/[\s(]/.test(sql[i] ?? "")) i++;
    else break;
  }
  return (/^\w+/.exec(sql.slice(i, i + 32))?.[0] ?? "").toUpperCase();
};

const READS = new Set(["SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS"]);
const REFUSED = new Set(["SET", "USE", "ATTACH", "DETACH", "SYSTEM", "BACKUP", "RESTORE", "GRANT", "REVOKE"]);

export const kindOf = (statement: string): StatementKind => {
  const word = firstWord(statement);
  if (word === "") throw new FrontError(62, "SYNTAX_ERROR", "Empty query");
  if (REFUSED.has(word))
    throw new FrontError(
      48,
      "NOT_IMPLEMENTED",
      `${word} is not served by the embedded store: it would outlive the query`,
    );
  return READS.has(word) ? "read" : "write";
};

export interface InsertStatement {
  readonly table: string;
  readonly columns: readonly string[] | null;
  readonly format: string;
}

const INSERT = /^\s*INSERT\s+INTO\s+(?:TABLE\s+)?([\w.`"]+)\s*(?:\(([^)]*)\))?\s*FORMAT\s+(\w+)\s*$/i;

const bare = (identifier: string): string => identifier.replace(/[`"]/g, "").trim();

/** The parts of `INSERT INTO t (a, b) FORMAT F` whose rows follow in the body; null for any other statement. */
export const parseInsert = (statement: string): InsertStatement | null => {
  const match = INSERT.exec(statement);
  if (match === null) return null;
  const [, table = "", columns, format = ""] = match;
  return { table: bare(table), columns: columns === undefined ? null : columns.split(",").map(bare), format };
};

/** Names of the `{name:Type}` places of a statement. */
export const placeholders = (statement: string): ReadonlySet<string> =>
  new Set([...statement.matchAll(/\{\s*([A-Za-z_]\w*)\s*:/g)].map(([, name]) => name ?? ""));

/** A type without the dictionaries in it: `Map(LowCardinality(String), String)` is `Map(String, String)`. */
export const plainType = (type: string): string => {
  const open = "LowCardinality(";
  const at = type.indexOf(open);
  if (at < 0) return type;
  const from = at + open.length;
  let depth = 1;
  let end = from;
  for (; end < type.length && depth > 0; end++) {
    if (type[end] === "(") depth++;
    else if (type[end] === ")") depth--;
  }
  return `${type.slice(0, at)}${plainType(type.slice(from, end - 1))}${plainType(type.slice(end))}`;
};
