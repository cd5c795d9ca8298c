/**
 * OTLP/JSON to the same request in protobuf, so that both encodings have one decoder. Pure, in steps (see envelope.ts),
 * but for the parse itself, which is one step. Names are taken in lowerCamelCase and snake_case; unknown ones are passed
 * over. A value of a wrong type is Malformed with its path; nothing of the request counts then.
 */
import { Malformed } from "../doors/Protobuf.ts";
import {
  resource,
  scope,
  type FieldDefinition,
  type Message,
  type RequestDefinition,
  type Scalar,
} from "./messages.ts";
import { WireWriter } from "./WireWriter.ts";

const MAX_DEPTH = 64;
const RECORDS_AT_ONCE = 128;

class Problem extends Error {
  path = "";
}

type Fields = Readonly<Record<string, unknown>>;
const isFields = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const camel = (name: string): string =>
  name.includes("_") ? name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()) : name;

const shown = (value: unknown): string => {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
};
const wrong = (expected: string, value: unknown): never => {
  throw new Problem(`expected ${expected}, got ${shown(value)}`);
};

const integer = (value: unknown): bigint => {
  if (typeof value === "number" && Number.isFinite(value)) return BigInt(Math.trunc(value));
  if (typeof value === "string" && /^-?\d{1,20}$/.test(value)) return BigInt(value);
  return wrong("a whole number, as a number or in quotes", value);
};

const real = (value: unknown): number => {
  if (typeof value === "number") return value;
  if (value === "NaN" || (typeof value === "string" && value.trim() !== "" && !Number.isNaN(Number(value))))
    return Number(value);
  return wrong("a number", value);
};

const textOf = (value: unknown, expected: string): string =>
  typeof value === "string" ? value : wrong(expected, value);

const hex = (value: unknown): Buffer => {
  const text = textOf(value, "hex digits");
  return /^([0-9a-f]{2})*$/i.test(text) ? Buffer.from(text, "hex") : wrong("hex digits", value);
};

const SCALARS: Readonly<Record<Scalar, (out: WireWriter, field: number, value: unknown) => void>> = {
  string: (out, field, value) => out.text(field, textOf(value, "a string")),
  bool: (out, field, value) => {
    if (typeof value !== "boolean") wrong("true or false", value);
    out.varint(field, value === true ? 1n : 0n);
  },
  int64: (out, field, value) => out.varint(field, integer(value)),
  number: (out, field, value) => out.varint(field, integer(value)),
  double: (out, field, value) => out.double(field, real(value)),
  fixed64: (out, field, value) => {
    const number = integer(value);
    if (number < 0n) wrong("a number from 0 on", value);
    out.fixed64(field, number);
  },
  fixed32: (out, field, value) => out.fixed32(field, Number(integer(value))),
  hex: (out, field, value) => out.data(field, hex(value)),
  base64: (out, field, value) => out.data(field, Buffer.from(textOf(value, "base64"), "base64")),
};

const writeField = (out: WireWriter, { number, kind }: FieldDefinition, value: unknown, depth: number): void => {
  if (typeof kind === "string") return SCALARS[kind](out, number, value);
  const opened = out.open(number);
  writeMessage(out, kind(), value, depth + 1);
  out.close(opened);
};

const within = <A>(step: string, body: () => A): A => {
  try {
    return body();
  } catch (error) {
    if (error instanceof Problem) error.path = `${step}${error.path}`;
    throw error;
  }
};

const writeMessage = (out: WireWriter, message: Message, value: unknown, depth: number): void => {
  if (!isFields(value)) return wrong("an object", value);
  if (depth > MAX_DEPTH) throw new Problem(`nested more than ${MAX_DEPTH} deep`);
  for (const name in value) {
    const field = message.get(name) ?? message.get(camel(name));
    const given = value[name];
    if (field === undefined || given === null || given === undefined) continue;
    within(`.${name}`, () => {
      if (field.repeated !== true) return writeField(out, field, given, depth);
      listOf(given).forEach((item, i) => within(`[${i}]`, () => writeField(out, field, item, depth)));
    });
  }
};

const listOf = (value: unknown): readonly unknown[] => {
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : wrong("a list", value);
};

const get = (fields: Fields, name: string): unknown =>
  fields[name] ?? fields[name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)];

const fieldsOf = (value: unknown): Fields => (isFields(value) ? value : wrong("an object", value));

const writeOrigin = (out: WireWriter, message: Message, value: unknown): void => {
  if (value === undefined || value === null) return;
  const opened = out.open(1);
  writeMessage(out, message, value, 0);
  out.close(opened);
};

function* write(value: unknown, request: RequestDefinition, place: string[]): Generator<void, Buffer> {
  const out = new WireWriter();
  let records = 0;
  place.length = 0;
  for (const [i, oneResource] of listOf(get(fieldsOf(value), request.resources)).entries()) {
    place[0] = `${request.resources}[${i}]`;
    place.length = 1;
    const fields = fieldsOf(oneResource);
    const opened = out.open(1);
    within(".resource", () => writeOrigin(out, resource, fields["resource"]));
    for (const [j, oneScope] of listOf(get(fields, request.scopes)).entries()) {
      place[1] = `.${request.scopes}[${j}]`;
      place.length = 2;
      const inScope = fieldsOf(oneScope);
      const openedScope = out.open(2);
      within(".scope", () => writeOrigin(out, scope, inScope["scope"]));
      for (const [k, record] of listOf(get(inScope, request.records)).entries()) {
        place[2] = `.${request.records}[${k}]`;
        const openedRecord = out.open(2);
        writeMessage(out, request.record, record, 0);
        out.close(openedRecord);
        if (++records % RECORDS_AT_ONCE === 0) yield;
      }
      place.length = 2;
      out.close(openedScope);
    }
    out.close(opened);
  }
  return out.take();
}

/** In steps. */
export function* protobufOf(body: Buffer, request: RequestDefinition): Generator<void, Buffer> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body.toString("utf8"));
  } catch (error) {
    throw new Malformed(`the body is no JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  const place: string[] = [];
  try {
    return yield* write(parsed, request, place);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    throw new Malformed(
      `${place.join("")}${error.path || (place.length === 0 ? "the body" : "")}: ${error.message}`,
      null,
    );
  }
}
