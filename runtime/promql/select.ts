/**
 * The SQL of a selector over the tables `series` and `samples`. Pure. The texts depend on how many matchers there are and
 * of what kind, never on what they say: names, values, patterns and times go by bound parameters only.
 */
import { METRIC_NAME, type Matcher, type MatchOperator } from "./ast.ts";
import type { Grid } from "./grid.ts";
import { anchored } from "./replace.ts";

export type Params = Readonly<Record<string, unknown>>;

/** Bits of Prometheus' stale marker, a NaN of its own: the series ends here. */
export const STALE_LOW = 2;
export const STALE_HIGH = 0x7ff00000;
const STALE_BITS = "9218868437227405314";
const STALE = `reinterpretAsUInt64(value) = ${STALE_BITS}`;

const COMPARE: Readonly<Record<MatchOperator, (subject: string, place: string) => string>> = {
  "=": (subject, place) => `${subject} = ${place}`,
  "!=": (subject, place) => `${subject} != ${place}`,
  "=~": (subject, place) => `match(${subject}, ${place})`,
  "!~": (subject, place) => `NOT match(${subject}, ${place})`,
};

export interface Condition {
  readonly sql: string;
  readonly params: Params;
}

/** A label that a series lacks is empty, in the table's map as in Prometheus. `prefix` keeps several selectors apart. */
export const condition = (matchers: readonly Matcher[], prefix = "m"): Condition => {
  const params: Record<string, unknown> = {};
  const parts = matchers.map(({ name, operator, value }, i) => {
    const [label, text] = [`${prefix}${i}n`, `${prefix}${i}v`];
    params[text] = operator === "=~" || operator === "!~" ? anchored(value) : value;
    if (name !== METRIC_NAME) params[label] = name;
    return COMPARE[operator](name === METRIC_NAME ? "name" : `labels[{${label}:String}]`, `{${text}:String}`);
  });
  return { sql: parts.length === 0 ? "1" : parts.join(" AND "), params };
};

/** Functions that the engine computes as Prometheus 3 does; the others it has differ (runtime/README.md says how). */
const IN_THE_STORE: Readonly<Record<string, string>> = {
  rate: "timeSeriesRateToGrid",
  increase: "timeSeriesIncreaseToGrid",
  delta: "timeSeriesDeltaToGrid",
  irate: "timeSeriesInstantRateToGrid",
  idelta: "timeSeriesInstantDeltaToGrid",
  changes: "timeSeriesChangesToGrid",
  resets: "timeSeriesResetsToGrid",
  last_over_time: "timeSeriesLastToGrid",
  predict_linear: "timeSeriesPredictLinearToGrid",
};

export const inTheStore = (name: string): boolean => Object.hasOwn(IN_THE_STORE, name);

const seconds = (ms: number): string => (ms / 1000).toFixed(3);

const timeRange = (afterMs: number, untilMs: number): Params => ({
  after: Math.floor(afterMs),
  until: Math.floor(untilMs),
});

const WITHIN =
  "ts > fromUnixTimestamp64Milli({after:Int64}, 'UTC') AND ts <= fromUnixTimestamp64Milli({until:Int64}, 'UTC')";
const GRID = "{start:DateTime64(3, 'UTC')}, {end:DateTime64(3, 'UTC')}, {step:Decimal64(3)}, {window:Decimal64(3)}";

const gridParams = (grid: Grid, windowMs: number): Params => ({
  start: seconds(grid.startMs),
  end: seconds(grid.startMs + (grid.points - 1) * grid.stepMs),
  step: seconds(grid.stepMs),
  window: seconds(windowMs),
});

/** `inner` gives fp and what is asked for; with name and labels of each series, one more than `limit` at most. */
const withLabels = (database: string, where: string, columns: string, inner: string): string =>
  `SELECT metric, tags, ${columns}
   FROM (${inner}) AS found
   INNER JOIN (
     SELECT fp, any(name) AS metric, any(labels) AS tags FROM ${database}.series WHERE ${where} GROUP BY fp) AS described
   USING (fp)
   LIMIT {limit:UInt32}`;

const chosen = (database: string, where: string): string =>
  `FROM ${database}.samples WHERE fp IN (SELECT fp FROM ${database}.series WHERE ${where}) AND ${WITHIN}`;

/** Points as the bits of float64; a point that is not there has the stale marker's. */
const BITS = `base64Encode(reinterpretAsString(
  arrayMap(point -> ifNull(point, reinterpretAsFloat64(toUInt64(${STALE_BITS}))), grid))) AS bits`;

export interface Statement {
  readonly sql: string;
  readonly params: Params;
}

export const instantSql = (
  database: string,
  matchers: readonly Matcher[],
  grid: Grid,
  lookBackMs: number,
  what: "value" | "time",
): Statement => {
  const { sql: where, params } = condition(matchers);
  const value = what === "value" ? "value" : `if(${STALE}, value, toUnixTimestamp64Milli(ts) / 1000)`;
  return {
    sql: withLabels(
      database,
      where,
      BITS,
      `SELECT fp, timeSeriesLastToGrid(${GRID})(ts, ${value}) AS grid ${chosen(database, where)} GROUP BY fp`,
    ),
    params: {
      ...params,
      ...gridParams(grid, lookBackMs),
      ...timeRange(grid.startMs - lookBackMs, grid.startMs + (grid.points - 1) * grid.stepMs),
    },
  };
};

export const overSql = (
  database: string,
  name: string,
  matchers: readonly Matcher[],
  grid: Grid,
  windowMs: number,
  param: number | null,
): Statement => {
  const { sql: where, params } = condition(matchers);
  const more = param === null ? "" : ", {param:Float64}";
  return {
    sql: withLabels(
      database,
      where,
      `odd, ${BITS}`,
      `SELECT fp, countIf(NOT isFinite(value)) AS odd, ${IN_THE_STORE[name] ?? ""}(${GRID}${more})(ts, value) AS grid
       ${chosen(database, where)} AND NOT ${STALE} GROUP BY fp`,
    ),
    params: {
      ...params,
      ...gridParams(grid, windowMs),
      ...timeRange(grid.startMs - windowMs, grid.startMs + (grid.points - 1) * grid.stepMs),
      ...(param === null ? {} : { param }),
    },
  };
};

export const rawSql = (database: string, matchers: readonly Matcher[], afterMs: number, untilMs: number): Statement => {
  const { sql: where, params } = condition(matchers);
  return {
    sql: withLabels(
      database,
      where,
      `base64Encode(reinterpretAsString(arrayMap(point -> point.1, samples))) AS times,
       base64Encode(reinterpretAsString(arrayMap(point -> point.2, samples))) AS bits`,
      `SELECT fp, arraySort(point -> point.1, groupArray((toFloat64(toUnixTimestamp64Milli(ts)), value))) AS samples
       ${chosen(database, where)} AND NOT ${STALE} GROUP BY fp`,
    ),
    params: { ...params, ...timeRange(afterMs, untilMs) },
  };
};

/** Of each text the groups of the pattern: none where it does not match. Group 1 is the whole. */
export const GROUPS_SQL =
  "SELECT arrayMap(text -> extractGroups(text, {pattern:String}), {texts:Array(String)}) AS groups";
export const groupsPattern = (pattern: string): string => `^(?s:(${pattern}))$`;

/** `last_seen` is written again when it is this old, so a series that goes on may seem to have ended so long ago. */
const SEEN_MS = 7 * 3_600_000;

/** What of the series table is asked for: those that any of the selectors finds, seen since the time's beginning. */
const listed = (selectors: readonly (readonly Matcher[])[], sinceMs: number): Condition => {
  const parts = selectors.map((matchers, i) => condition(matchers, `s${i}m`));
  const any = parts.length === 0 ? "1" : parts.map(({ sql }) => `(${sql})`).join(" OR ");
  return {
    sql: `last_seen >= toDateTime({since:UInt32}, 'UTC') AND (${any})`,
    params: Object.assign(
      { since: Math.max(0, Math.floor((sinceMs - SEEN_MS) / 1000)) },
      ...parts.map((part) => part.params),
    ),
  };
};

export const seriesSql = (database: string, selectors: readonly (readonly Matcher[])[], sinceMs: number): Statement => {
  const { sql, params } = listed(selectors, sinceMs);
  return {
    sql: `SELECT any(name) AS metric, any(labels) AS tags FROM ${database}.series WHERE ${sql} GROUP BY fp
          LIMIT {limit:UInt32}`,
    params,
  };
};

export const labelNamesSql = (
  database: string,
  selectors: readonly (readonly Matcher[])[],
  sinceMs: number,
): Statement => {
  const { sql, params } = listed(selectors, sinceMs);
  return {
    sql: `SELECT DISTINCT arrayJoin(arrayPushFront(mapKeys(labels), '${METRIC_NAME}')) AS value FROM ${database}.series WHERE ${sql}
          ORDER BY value LIMIT {limit:UInt32}`,
    params,
  };
};

export const labelValuesSql = (
  database: string,
  label: string,
  selectors: readonly (readonly Matcher[])[],
  sinceMs: number,
): Statement => {
  const { sql, params } = listed(selectors, sinceMs);
  const subject = label === METRIC_NAME ? "name" : "labels[{label:String}]";
  return {
    sql: `SELECT DISTINCT ${subject} AS value FROM ${database}.series WHERE ${sql} AND ${subject} != ''
          ORDER BY value LIMIT {limit:UInt32}`,
    params: label === METRIC_NAME ? params : { ...params, label },
  };
};
