/**
 * A query that a person typed: read-only SQL over the store's own tables. The engine's parser says what the text is
 * (`EXPLAIN AST`) before it runs: one SELECT without settings, formats or files, over tables of our database and some of
 * `system`, and functions that read nothing else. So it can neither write, nor reach files or the network, nor lift its
 * bounds in rows, bytes and time. Values go by `{name:Type}` places. Holds nothing to stop; whoever stops waiting stops
 * the query.
 */
import { Effect, Schema } from "effect";
import { isBalanced } from "./front/sql.ts";
import { StoreError, type QueryParams, type StoreShape } from "./Store.ts";

/** The text is not one that is run; nothing was. */
export class QueryRefused extends Schema.TaggedError<QueryRefused>()("QueryRefused", { reason: Schema.String }) {
  override get message(): string {
    return this.reason;
  }
}

export interface ReadAnswer {
  readonly columns: readonly { readonly name: string; readonly type: string }[];
  /** in the order of the columns; 64-bit numbers as text, since JSON's are not exact */
  readonly rows: readonly (readonly unknown[])[];
  /** there are more rows than were asked for */
  readonly truncated: boolean;
}

const BOUNDS = { bytes: 32 * 1024 * 1024, seconds: 20 } as const;

const SYSTEM_TABLES = new Set(["tables", "columns", "parts", "functions", "one", "numbers"].map((n) => `system.${n}`));
/** Table functions that only make rows. */
const TABLE_FUNCTIONS = new Set(["numbers", "zeros", "values", "generateSeries", "generate_series", "view"]);
/** Functions that read files, dictionaries or other tables, tell of the machine, or only waste time. */
const REFUSED_FUNCTIONS =
  /^(file|dict\w*|joinGet\w*|sleep\w*|catboost\w*|getServer\w*|getSetting\w*|filesystem\w*|addressTo\w*)$/i;

const isNode = (line: string, name: string): boolean => new RegExp(`^\\s*${name}\\s*(\\(|$)`).test(line);

/**
 * What is wrong with a text, given the lines of the syntax tree of `SELECT * FROM (text)` as `EXPLAIN AST` prints them
 * (one space of indent for each level); null when it may run.
 */
export const refusalOf = (tree: readonly string[], database: string): string | null => {
  for (const [i, line] of tree.entries()) {
    // Not those beside our own SELECT: the embedded engine's bounds stand there.
    if (isNode(line, "Set") && !line.startsWith(" Set"))
      return "expected no SETTINGS: the bounds of a query are the server's";
    const table = /^\s*TableIdentifier (.+?)(?: \(alias .*\))?$/.exec(line)?.[1];
    if (table !== undefined && !isOwn(table, database))
      return `table ${table}: expected one of database ${database}, or ${[...SYSTEM_TABLES].join(", ")}`;
    const name = /^\s*Function (\S+)/.exec(line)?.[1];
    if (name === undefined) continue;
    const ofTable = isNode(tree[i - 1] ?? "", "TableExpression");
    if (ofTable ? !TABLE_FUNCTIONS.has(name) : REFUSED_FUNCTIONS.test(name))
      return `function ${name}: it reads something else than the store's tables`;
  }
  return null;
};

const isOwn = (table: string, database: string): boolean => {
  const [schema, name, ...more] = table.split(".");
  if (name === undefined) return /^\w+$/.test(schema ?? "");
  return more.length === 0 && (schema === database || SYSTEM_TABLES.has(table));
};

/** Codes with which the engine says that the text itself is wrong. */
const SYNTAX_ERROR = 62;

/** An unclosed quote or comment is refused as the engine would. */
const balanced = (sql: string): Effect.Effect<boolean, QueryRefused> =>
  Effect.try({ try: () => isBalanced(sql), catch: (error) => new QueryRefused({ reason: String(error) }) });

/** At most `rows` rows. Fails with QueryRefused when the text may not run, with StoreError when the engine fails on it. */
export const readQuery = (
  store: StoreShape,
  sql: string,
  params: QueryParams,
  rows: number,
): Effect.Effect<ReadAnswer, QueryRefused | StoreError> =>
  Effect.gen(function* () {
    if (!(yield* balanced(sql))) return yield* new QueryRefused({ reason: "the brackets do not match" });
    // In brackets it can be nothing but a SELECT, without FORMAT and INTO OUTFILE; and it may end with a comment.
    const inner = `(\n${sql}\n)`;
    const tree = yield* store.syntaxTree(`SELECT * FROM ${inner}`, params).pipe(
      Effect.catchIf(
        ({ code }) => code === SYNTAX_ERROR,
        ({ reason }) => new QueryRefused({ reason: `expected one SELECT: ${reason}` }),
      ),
    );
    const wrong = refusalOf(tree, store.database);
    if (wrong !== null) return yield* new QueryRefused({ reason: wrong });
    const columns = yield* store.query<{ name: string; type: string }>(`DESCRIBE TABLE ${inner}`, params, BOUNDS);
    const twice = columns.find(({ name }, i) => columns.findIndex((one) => one.name === name) < i);
    if (twice !== undefined)
      return yield* new QueryRefused({ reason: `two columns are called ${twice.name}: name them with AS` });
    const found = yield* store.query<Record<string, unknown>>(`SELECT * FROM ${inner} LIMIT ${rows + 1}`, params, {
      ...BOUNDS,
      rows: rows + 1,
      exact: true,
    });
    return {
      columns: columns.map(({ name, type }) => ({ name, type })),
      rows: found.slice(0, rows).map((row) => columns.map(({ name }) => row[name] ?? null)),
      truncated: found.length > rows,
    };
  });
