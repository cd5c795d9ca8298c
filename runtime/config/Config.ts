/**
 * The configuration of one process: file (YAML or JSON), then environment, checked by schemas/config.ts.
 * Owned by the entry point, which loads it once before anything else starts. When it is wrong, every problem is named
 * with its field and what was expected, and the process does not start. Nothing to stop.
 */
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { Context, Data, Effect, Either, ParseResult, Schema } from "effect";
import { parse } from "yaml";
import { Config as ConfigSchema } from "../../schemas/config.ts";

/** The checked configuration, with the data directory settled. */
export interface Settings extends ConfigSchema {
  readonly data: string;
}

export class Config extends Context.Tag("runtime/config/Config")<Config, Settings>() {}

export class ConfigError extends Data.TaggedError("ConfigError")<{
  /** file that was read, or "environment" */
  readonly source: string;
  readonly problems: readonly string[];
}> {
  override get message(): string {
    return `The configuration (${this.source}) is not valid:\n${this.problems.map((one) => `  ${one}`).join("\n")}`;
  }
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** Environment variables that stand above the file, and the field that each one sets. */
const OVERRIDES = {
  COROOT_DATA: ["data"],
  COROOT_PORT: ["server", "port"],
  COROOT_HOST: ["server", "host"],
  COROOT_CLUSTER: ["cluster"],
  COROOT_STATE_URL: ["state", "url"],
} as const satisfies Readonly<Record<string, readonly string[]>>;

export const defaultDataDir = (env: Environment, uid: number | undefined): string =>
  uid === 0 ? "/var/lib/coroot" : join(env["HOME"] ?? homedir(), ".local/share/coroot");

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A key with nothing behind it (`server:` in YAML, its fields commented out) is the same as no key. */
const withoutNulls = (value: unknown): unknown =>
  isRecord(value)
    ? Object.fromEntries(Object.entries(value).flatMap(([k, v]) => (v === null ? [] : [[k, withoutNulls(v)]])))
    : value;

/** The file's content with the environment laid over it. A wrong section stays as it is, for the check to name. */
const withOverrides = (content: Record<string, unknown>, env: Environment): Record<string, unknown> => {
  const merged: Record<string, unknown> = { ...content };
  for (const [variable, [first, second]] of Object.entries(OVERRIDES)) {
    const text = env[variable];
    if (text === undefined || text === "" || first === undefined) continue;
    const value = variable === "COROOT_PORT" && /^\d+$/.test(text) ? Number(text) : text;
    const part = merged[first] ?? {};
    if (second === undefined) merged[first] = value;
    else if (isRecord(part)) merged[first] = { ...part, [second]: value };
  }
  return merged;
};

const shown = (value: unknown): string => {
  if (value === undefined) return "nothing";
  // a user and a password before the host
  const text = (JSON.stringify(value) ?? typeof value).replace(/\/\/.*@/, "//…@");
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
};

const at = (content: unknown, path: readonly PropertyKey[]): unknown =>
  path.reduce<unknown>((value, key) => {
    if (Array.isArray(value) && typeof key === "number") return value[key];
    return isRecord(value) ? value[String(key)] : undefined;
  }, content);

/** "a.b[0].c" */
const dotted = (path: readonly PropertyKey[]): string =>
  path.map((key, i) => (typeof key === "number" ? `[${key}]` : `${i === 0 ? "" : "."}${String(key)}`)).join("");

const SECRET = /password|headers|token|key$|^(state|prometheus)\.url$|remoteWriteUrl$/i;

/** Pure: content of a file and environment to settings, or every problem in one line each. */
export const checkConfig = (
  content: unknown,
  env: Environment,
  uid: number | undefined,
): Either.Either<Settings, readonly string[]> => {
  if (content !== null && content !== undefined && !isRecord(content))
    return Either.left([`${shown(content)} found, expected a map of fields`]);
  const filled = withoutNulls(content ?? {});
  const merged = withOverrides(isRecord(filled) ? filled : {}, env);
  const decoded = Schema.decodeUnknownEither(ConfigSchema, { onExcessProperty: "error", errors: "all" })(merged);
  if (Either.isRight(decoded))
    return Either.right({ ...decoded.right, data: resolve(decoded.right.data ?? defaultDataDir(env, uid)) });
  const problems = ParseResult.ArrayFormatter.formatErrorSync(decoded.left).map((issue) => {
    const field = dotted(issue.path);
    const variable = Object.entries(OVERRIDES).find(([name, to]) => dotted(to) === field && env[name])?.[0];
    const from = variable === undefined ? "" : ` (from ${variable})`;
    if (issue._tag === "Unexpected") {
      const known = issue.message
        .replace(/^is unexpected, expected: /, "")
        .replaceAll('"', "")
        .replaceAll(" | ", ", ");
      return `${field}: there is no such field; known here: ${known}`;
    }
    if (issue._tag === "Missing") return `${field}: is missing`;
    const value = at(merged, issue.path);
    const found = value !== undefined && SECRET.test(field) ? "a value" : shown(value);
    return `${field}: ${found} found${from}, ${issue.message.replace(/^Expected/, "expected")}`;
  });
  return Either.left(problems);
};

const readContent = (path: string): Effect.Effect<unknown, ConfigError> =>
  Effect.tryPromise({
    try: () => readFile(path, "utf8"),
    catch: (cause) =>
      new ConfigError({ source: path, problems: [`cannot be read: ${cause instanceof Error ? cause.message : "?"}`] }),
  }).pipe(
    Effect.flatMap((text) =>
      Effect.try({
        // JSON is YAML; aliases are bounded by the library, so a small file cannot unfold into a huge one
        try: (): unknown => parse(text, { maxAliasCount: 100 }),
        catch: (cause) =>
          new ConfigError({
            source: path,
            problems: [`is no YAML or JSON: ${cause instanceof Error ? (cause.message.split("\n")[0] ?? "") : "?"}`],
          }),
      }),
    ),
  );

/** The file named here or by COROOT_CONFIG; without either, defaults and environment alone. */
export const loadConfig = (options: {
  readonly path?: string | undefined;
  readonly env: Environment;
  readonly uid?: number | undefined;
}): Effect.Effect<Settings, ConfigError> => {
  const path = options.path ?? (options.env["COROOT_CONFIG"] || undefined);
  const content = path === undefined ? Effect.succeed<unknown>({}) : readContent(path);
  return Effect.flatMap(content, (read) =>
    Either.mapLeft(
      checkConfig(read, options.env, options.uid ?? process.getuid?.()),
      (problems) => new ConfigError({ source: path ?? "environment", problems }),
    ),
  );
};
