/**
 * One HTTP request of ClickHouse's interface, read into statement, rows, parameters and settings: from the URL, the body,
 * or a multipart form (as the stock client sends long parameters). Pure but for the form's parsing. What it cannot serve
 * is refused with ClickHouse's code.
 */
import { createHash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { FrontError } from "./errors.ts";
import { isName, oneStatement } from "./sql.ts";

export interface StoreRequest {
  readonly sql: string;
  /** rows of an insert whose statement came in the URL */
  readonly body: Buffer;
  readonly params: ReadonlyMap<string, string>;
  readonly settings: Map<string, string>;
  readonly database: string;
  readonly queryId: string;
  readonly format: string;
}

/** Parameters of the URL that are no query settings; the later ones are settings of ClickHouse's HTTP layer alone. */
const NOT_SETTINGS = new Set(
  [
    "query query_id database default_format user password session_id session_timeout role quota_key close_session",
    "wait_end_of_query buffer_size send_progress_in_http_headers http_headers_progress_interval_ms compress decompress",
    "http_response_buffer_size http_write_exception_in_output_format enable_http_compression http_zlib_compression_level",
    "add_http_cors_header",
  ].flatMap((line) => line.split(" ")),
);

export const digest = (text: string): Buffer => createHash("sha256").update(text).digest();

/** The key of a request: X-ClickHouse-Key, or the password of basic authentication. */
export const presentedKey = (headers: IncomingHttpHeaders): string | null => {
  const header = headers["x-clickhouse-key"];
  if (typeof header === "string") return header;
  const basic = /^Basic (.+)$/i.exec(headers.authorization ?? "")?.[1];
  if (basic === undefined) return null;
  const pair = Buffer.from(basic, "base64").toString("utf8");
  const colon = pair.indexOf(":");
  return colon < 0 ? null : pair.slice(colon + 1);
};

/** A bound given by the client holds where it is lower than ours; 0 (none) and nonsense give ours. */
export const capSetting = (settings: Map<string, string>, name: string, bound: number): void => {
  const asked = Number(settings.get(name) ?? bound);
  settings.set(name, String(asked > 0 && asked < bound ? asked : bound));
};

const formFields = async (body: Buffer, type: string): Promise<readonly (readonly [string, string])[]> => {
  const bytes = new Uint8Array(body.byteLength);
  bytes.set(body);
  const form = await new Response(bytes, { headers: { "content-type": type } }).formData().catch((error: unknown) => {
    throw new FrontError(1000, "POCO_EXCEPTION", `the multipart form cannot be read: ${String(error)}`);
  });
  const fields: [string, string][] = [];
  form.forEach((value, name) => {
    if (typeof value === "string") fields.push([name, value]);
  });
  return fields;
};

export const parseRequest = async (
  method: string,
  headers: IncomingHttpHeaders,
  url: URL,
  body: Buffer,
): Promise<StoreRequest> => {
  const encoding = headers["content-encoding"];
  if (encoding !== undefined)
    throw new FrontError(48, "NOT_IMPLEMENTED", `Content-Encoding ${encoding}: send the body uncompressed`);
  const type = headers["content-type"] ?? "";
  const isForm = type.startsWith("multipart/form-data");
  const fields = new Map([...url.searchParams, ...(isForm ? await formFields(body, type) : [])]);
  const rows = isForm ? Buffer.alloc(0) : body;
  const params = new Map<string, string>();
  const settings = new Map<string, string>();
  for (const [name, value] of fields) {
    if (name.startsWith("param_")) params.set(name.slice("param_".length), value);
    else if (!NOT_SETTINGS.has(name)) settings.set(name, value);
  }
  for (const name of [...params.keys(), ...settings.keys()])
    if (!isName(name)) throw new FrontError(115, "UNKNOWN_SETTING", `${JSON.stringify(name)} is no name of a setting`);
  const database = fields.get("database") ?? "default";
  if (!isName(database)) throw new FrontError(81, "UNKNOWN_DATABASE", `Database ${database} does not exist`);
  const format = fields.get("default_format") ?? "TabSeparated";
  if (!isName(format)) throw new FrontError(73, "UNKNOWN_FORMAT", `Unknown format ${format}`);
  if (method === "GET") settings.set("readonly", "2");
  const query = fields.get("query");
  return {
    sql: oneStatement(query ?? rows.toString("utf8")),
    body: query === undefined ? Buffer.alloc(0) : rows,
    params,
    settings,
    database,
    queryId: fields.get("query_id") ?? "",
    format,
  };
};
