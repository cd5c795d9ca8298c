/**
 * Asks a running server's API for the `incidents`, `services` and `agents` commands. A server that does not answer, or
 * answers with something else than rows, is one clear line with the address; nothing is retried.
 */
import { CommandError, EXIT } from "./command.ts";

export const DEFAULT_SERVER = "http://127.0.0.1:8080";

export const serverAddress = (flag: string | undefined): URL => {
  const text = flag ?? process.env["COROOT_SERVER"] ?? DEFAULT_SERVER;
  const url = URL.parse(text);
  if (url === null || !["http:", "https:"].includes(url.protocol))
    throw new CommandError(EXIT.usage, `--server takes an address such as ${DEFAULT_SERVER}, not "${text}"`, "");
  return url;
};

const why = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error);
  const cause: unknown = error.cause;
  return cause instanceof Error && "code" in cause ? String(cause.code) : error.message;
};

export interface Asking {
  readonly method?: "POST" | "DELETE";
  readonly headers?: Readonly<Record<string, string>>;
  /** sent as JSON */
  readonly body?: object;
  readonly timeoutMs?: number;
}

/** What the server says is wrong, in its own words. */
const sentence = (text: string): string => {
  try {
    const answer: unknown = JSON.parse(text);
    return isFields(answer) && typeof answer["message"] === "string" ? `: ${answer["message"]}` : "";
  } catch {
    return "";
  }
};

export const askJson = async (server: URL, path: string, asking: Asking = {}): Promise<unknown> => {
  const { method = "GET", headers = {}, body, timeoutMs = 10_000 } = asking;
  const address = new URL(path, server);
  let response: Response;
  try {
    response = await fetch(address, {
      signal: AbortSignal.timeout(timeoutMs),
      method,
      headers: {
        accept: "application/json",
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch (error) {
    throw new CommandError(
      EXIT.failure,
      `no server answers at ${server.origin} (${why(error)})`,
      "start one with: npm start, or name another with --server URL",
    );
  }
  if (!response.ok)
    throw new CommandError(
      EXIT.failure,
      `${address.href} answered ${response.status} ${response.statusText}${sentence(await response.text())}`,
      "",
    );
  try {
    return await response.json();
  } catch (error) {
    throw new CommandError(
      EXIT.failure,
      `${address.href} did not answer JSON: ${why(error)}`,
      "is this a Coroot server?",
    );
  }
};

export type Fields = Readonly<Record<string, unknown>>;

export const isFields = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

export interface Answer {
  /** the server's clock, ms */
  readonly nowMs: number;
  readonly rows: readonly Fields[];
}

/** A topic of the server: its entries, without their keys. An answer of another shape is refused. */
export const askRows = async (server: URL, path: string, timeoutMs?: number): Promise<Answer> => {
  const answer = await askJson(server, path, timeoutMs === undefined ? {} : { timeoutMs });
  if (isFields(answer) && isFields(answer["entries"]) && typeof answer["nowMs"] === "number") {
    const rows = Object.values(answer["entries"]);
    if (rows.every(isFields)) return { nowMs: answer["nowMs"], rows };
  }
  throw new CommandError(
    EXIT.failure,
    `${new URL(path, server).href} did not answer with entries`,
    "is this a Coroot server?",
  );
};

export const textOf = (fields: Fields, name: string): string => {
  const value = fields[name];
  return typeof value === "string" ? value : typeof value === "number" ? String(value) : "";
};

export const numberOf = (fields: Fields, name: string): number | null => {
  const value = fields[name];
  return typeof value === "number" ? value : null;
};

export const fieldsOf = (fields: Fields, name: string): Fields => {
  const value = fields[name];
  return isFields(value) ? value : {};
};

export const listOf = (fields: Fields, name: string): readonly Fields[] => {
  const value = fields[name];
  return Array.isArray(value) ? value.filter(isFields) : [];
};
