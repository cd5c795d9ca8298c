/**
 * Hand-written readers of decoded bodies: each takes a field's path and raises FrameError("body", "<path>: <what was
 * found>, expected …"). Absent and nil are the same. Fields that a reader does not know are counted by `unknownFields`.
 */
import { FrameError } from "./frame.ts";

export const MAX_NAME = 1024;
export const U32_MAX = 0xffff_ffff;

export type Fields = Readonly<Record<string, unknown>>;

export const refuse = (path: string, message: string): never => {
  throw new FrameError("body", `${path}: ${message}`);
};

const shown = (value: unknown): string => {
  if (value === undefined || value === null) return "nothing";
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (value instanceof Uint8Array) return `${value.byteLength} bytes`;
  if (typeof value === "string")
    return value.length > 40 ? `text of ${value.length} characters` : JSON.stringify(value);
  if (typeof value === "object") return "a map";
  return String(value as number | boolean | bigint);
};

export const isMap = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);

export const map = (path: string, value: unknown): Fields =>
  isMap(value) ? value : refuse(path, `${shown(value)}, expected a map`);

export const unknownFields = (fields: Fields, known: ReadonlySet<string>): number => {
  let n = 0;
  for (const name in fields) if (!known.has(name)) n++;
  return n;
};

/**
 * Text of at most `max` characters. Control characters become U+FFFD: names end up in logs, labels and pages, and a
 * process with a newline in its path must not be able to cut its node off.
 */
export const text = (path: string, value: unknown, max: number = MAX_NAME): string => {
  if (typeof value !== "string") return refuse(path, `${shown(value)}, expected text`);
  if (value.length > max) return refuse(path, `${value.length} characters, expected at most ${max}`);
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i);
    // oxlint-disable-next-line no-control-regex
    if (code < 32 || code === 127) return value.replace(/[\u0000-\u001f\u007f]/g, "\ufffd");
  }
  return value;
};

export const nonEmpty = (path: string, value: unknown, max: number = MAX_NAME): string => {
  const read = text(path, value, max);
  return read === "" ? refuse(path, "empty text, expected a name") : read;
};

export const whole = (path: string, value: unknown, max: number = Number.MAX_SAFE_INTEGER): number =>
  typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= max
    ? value
    : refuse(path, `${shown(value)}, expected a whole number from 0 to ${max}`);

/** Milliseconds, bytes and the like: finite and not negative. */
export const amount = (path: string, value: unknown): number =>
  typeof value === "number" && Number.isFinite(value) && value >= 0
    ? value
    : refuse(path, `${shown(value)}, expected a finite number that is not negative`);

export const oneOf = <T extends string>(path: string, value: unknown, allowed: readonly T[]): T => {
  for (const one of allowed) if (one === value) return one;
  return refuse(path, `${shown(value)}, expected one of ${allowed.join(", ")}`);
};

/** A list; absent reads as empty. */
export const list = (path: string, value: unknown, max: number): readonly unknown[] => {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) return refuse(path, `${shown(value)}, expected a list`);
  return value.length > max ? refuse(path, `${value.length} entries, expected at most ${max}`) : value;
};

export const bytesOrEmpty = (path: string, value: unknown): Uint8Array => {
  if (value === undefined || value === null) return new Uint8Array(0);
  return value instanceof Uint8Array ? new Uint8Array(value) : refuse(path, `${shown(value)}, expected bytes`);
};
