/**
 * Parameters of questions about logs and traces, as texts of the URL, read into what they mean. Pure but for the clock,
 * from which a range that is left out begins. What is wrong is a BadRequest that names the parameter and what it expected.
 */
import { Clock, Effect } from "effect";
import { BadRequest, Unavailable } from "../../schemas/api.ts";
import { MAX_SPAN_MS, MAX_STEPS } from "../../schemas/telemetry.ts";
import {
  parseCursor,
  type AttributeFilter,
  type Cursor,
  type TelemetryError,
  type TimeRange,
} from "../telemetry/ask.ts";

const HOUR_MS = 3_600_000;
/** Times of the store's columns: up to the year 2105. */
const LATEST_MS = 4_294_967_295_000;
const MOST_MS = 1e12;
const MAX_LIST = 100;
const MAX_ATTRIBUTES = 20;
const MAX_LENGTH = 1_024;

export type Text = string | undefined;
type Texts = readonly string[] | undefined;
export type Read<A> = Effect.Effect<A, BadRequest>;

export const wrong = (field: string, expected: string): Effect.Effect<never, BadRequest> =>
  Effect.fail(new BadRequest({ message: `${field}: expected ${expected}` }));

const numberOf = (field: string, text: Text, least: number, most: number, what: string): Read<number | null> => {
  if (text === undefined || text === "") return Effect.succeed(null);
  const value = Number(text);
  return text.trim() === "" || !(value >= least && value <= most) ? wrong(field, what) : Effect.succeed(value);
};

export const time = (field: string, text: Text): Read<number | null> =>
  numberOf(field, text, 0, LATEST_MS, "milliseconds since the epoch");
export const milliseconds = (field: string, text: Text): Read<number | null> =>
  numberOf(field, text, 0, MOST_MS, "a number of milliseconds");
export const count = (field: string, text: Text, byDefault: number, most: number): Read<number> =>
  Effect.flatMap(numberOf(field, text, 1, most, `a whole number from 1 to ${most}`), (value) =>
    value === null
      ? Effect.succeed(byDefault)
      : Number.isInteger(value)
        ? Effect.succeed(value)
        : wrong(field, `a whole number from 1 to ${most}`),
  );

export const oneOf = <const Name extends string>(
  field: string,
  text: Text,
  names: readonly Name[],
): Read<Name | null> => {
  if (text === undefined || text === "") return Effect.succeed(null);
  const found = names.find((name) => name === text);
  return found === undefined ? wrong(field, `one of ${names.join(", ")}`) : Effect.succeed(found);
};

export const short = (field: string, text: Text): Read<string | null> =>
  text === undefined || text === ""
    ? Effect.succeed(null)
    : text.length > MAX_LENGTH
      ? wrong(field, `at most ${MAX_LENGTH} characters`)
      : Effect.succeed(text);

export const list = (field: string, all: Texts = []): Read<readonly string[]> =>
  all.length > MAX_LIST || all.some((text) => text.length > MAX_LENGTH)
    ? wrong(field, `at most ${MAX_LIST} values of at most ${MAX_LENGTH} characters`)
    : Effect.succeed(all.filter((text) => text !== ""));

export const attributes = (all: Texts = []): Read<readonly AttributeFilter[]> => {
  if (all.length > MAX_ATTRIBUTES) return wrong("attr", `at most ${MAX_ATTRIBUTES} of it`);
  return Effect.forEach(all, (text) => {
    const [, key, operator, value] = /^([^=]*?)(!?=)(.*)$/s.exec(text) ?? [];
    if (key === undefined || key === "" || value === undefined || text.length > MAX_LENGTH)
      return wrong("attr", `key=value or key!=value of at most ${MAX_LENGTH} characters`);
    return Effect.succeed({ key, value, not: operator === "!=" });
  });
};

export const rangeOf = (params: { readonly from?: Text; readonly to?: Text }): Read<TimeRange> =>
  Effect.gen(function* () {
    const toMs = (yield* time("to", params.to)) ?? (yield* Clock.currentTimeMillis);
    const fromMs = (yield* time("from", params.from)) ?? Math.max(0, toMs - HOUR_MS);
    if (fromMs >= toMs) return yield* wrong("from, to", "from before to");
    if (toMs - fromMs > MAX_SPAN_MS) return yield* wrong("from, to", `at most ${MAX_SPAN_MS / 86_400_000} days`);
    return { fromMs, toMs };
  });

export const cursorOf = (text: Text): Read<Cursor | null> => {
  if (text === undefined || text === "") return Effect.succeed(null);
  const found = parseCursor(text);
  return found === null ? wrong("cursor", "the next of a page") : Effect.succeed(found);
};

export interface WhoseParams {
  readonly from?: Text;
  readonly to?: Text;
  readonly service?: Texts;
  readonly attr?: Texts;
}

const STEPS = 60;
export const stepsOf = (text: Text): Read<number> => count("steps", text, STEPS, MAX_STEPS);

/** Rows of a page, and groups of a list, when nobody says how many. */
export const ROWS = 100;
export const GROUPS = 50;

export const TRACE_ID = "32 or 16 hex digits, not all of them 0";

export const answered = <A>(question: Effect.Effect<A, TelemetryError>): Effect.Effect<A, BadRequest | Unavailable> =>
  Effect.mapError(question, ({ kind, reason }) =>
    kind === "unavailable" ? new Unavailable({ message: reason }) : new BadRequest({ message: reason }),
  );
